"""What SIGTERM and SIGINT do to a process, in a process of its own."""

import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import os, sys, time
sys.path.insert(0, os.getcwd())
from w2sr_jax.stopping import Stop, Terminated
stop = Stop()
try:
    with stop.installed(grace=1.0):
        print("ready", flush=True)
        {body}
except Terminated:
    print("terminated"); sys.exit(stop.code)
except KeyboardInterrupt:
    print("interrupted"); sys.exit(stop.code)
print("left"); sys.exit(stop.code if stop.requested() else 0)
"""

POLLS = """with stop.deferred() as asked:
            while not asked():
                time.sleep(0.01)
            print("saved")"""
IGNORES = """with stop.deferred():
            while True:
                time.sleep(0.01)"""
# Code that never returns to the interpreter, as a long compilation: a mutex locked twice waits for ever, signals or not.
HANGS = """import ctypes
        mutex, library = (ctypes.c_char * 64)(), ctypes.CDLL(None)
        for _ in range(2):
            library.pthread_mutex_lock(mutex)"""


def run(body: str, *signals: int) -> tuple[int, str, float]:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT.format(body=body)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    started = time.monotonic()
    for number in signals:
        process.send_signal(number)
        time.sleep(0.2)
    output = process.communicate(timeout=30)[0]
    return process.returncode, output, time.monotonic() - started


def test_sigterm_ends_what_cannot_save_itself_at_once() -> None:
    assert run("time.sleep(60)", signal.SIGTERM)[:2] == (143, "terminated\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_work_that_polls_saves_itself(number: int, code: int) -> None:
    assert run(POLLS, number)[:2] == (code, "saved\nleft\n")


def test_a_second_interrupt_from_the_keyboard_does_not_wait() -> None:
    assert run(IGNORES, signal.SIGINT, signal.SIGINT)[:2] == (130, "interrupted\n")


@pytest.mark.parametrize("body", [IGNORES, HANGS], ids=["never polls", "hangs in compiled code"])
def test_a_terminated_process_is_gone_after_the_grace_whatever_it_does(body: str) -> None:
    code, output, seconds = run(body, signal.SIGTERM)
    assert code == 143
    assert seconds < 10
    assert "left" not in output


def test_without_a_signal_nothing_happens() -> None:
    process = subprocess.run([sys.executable, "-c", SCRIPT.format(body="pass")], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (0, "ready\nleft\n")


FINALIZES = """class Odd:
            def __del__(self):
                time.sleep(1.0)
        odd = Odd()
        del odd
        time.sleep(60)"""


@pytest.mark.parametrize(("number", "ended"), [(signal.SIGTERM, (143, "terminated\n")), (signal.SIGINT, (130, "interrupted\n"))])
def test_a_signal_that_arrives_in_a_finalizer_is_not_lost(number: int, ended: tuple[int, str]) -> None:
    assert run(FINALIZES, number)[:2] == ended


EXITS = """
import atexit, os, sys, time
sys.path.insert(0, os.getcwd())
from w2sr_jax import cli, stopping

def leaves(argv):
    atexit.register(lambda: (print("leaving", flush=True), time.sleep(20)))
    print("told", end="")
    return 0

cli.run = leaves
cli.main([])
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_that_arrives_while_a_finished_command_leaves_is_in_its_exit_code(number: int, code: int) -> None:
    process = subprocess.Popen([sys.executable, "-c", EXITS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "toldleaving\n"
    process.send_signal(number)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == code

"""What SIGTERM, SIGINT and SIGHUP do to a process, in a process of its own."""

import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import os, sys, time
sys.path.insert(0, os.getcwd())
from w2sr_jax.core.process.stopping import Stop, Terminated
stop = Stop()
try:
    with stop.installed(grace=1.0, saving=3.0):
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


# A library that takes the signal for itself behind Python's back, as jax does where several processes join.
TAKEN = """import ctypes, signal
        ctypes.CDLL(None).signal(signal.SIGTERM, ctypes.c_void_p(1))
        from w2sr_jax.core.process import stopping
        stopping.reinstall()
        time.sleep(60)"""
SAVES = """with stop.deferred() as asked:
            while not asked():
                time.sleep(0.01)
            time.sleep(2)
            print("saved")"""
NEVER_SAVED = SAVES.replace("sleep(2)", "sleep(60)")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_what_cannot_save_itself_ends_at_once(number: int, code: int) -> None:
    assert run("time.sleep(60)", number)[:2] == (code, "terminated\n")


def test_a_handler_that_compiled_code_has_replaced_is_put_back() -> None:
    assert run(TAKEN, signal.SIGTERM)[:2] == (143, "terminated\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_work_that_polls_saves_itself(number: int, code: int) -> None:
    assert run(POLLS, number)[:2] == (code, "saved\nleft\n")


def test_a_second_interrupt_from_the_keyboard_does_not_wait() -> None:
    assert run(IGNORES, signal.SIGINT, signal.SIGINT)[:2] == (130, "interrupted\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("body", [IGNORES, HANGS], ids=["never polls", "hangs in compiled code"])
def test_a_process_is_gone_after_the_grace_whatever_it_does(body: str, number: int, code: int) -> None:
    exit_code, output, seconds = run(body, number)
    assert exit_code == code
    assert seconds < 10
    assert "left" not in output


@pytest.mark.parametrize("waits", ["", ", time.sleep(600)"], ids=["at once", "never"])
def test_others_are_told_before_a_process_ends_that_hangs(waits: str) -> None:
    tells = f"stop.on_late(lambda words, code: (print('told', code, flush=True){waits}))"
    exit_code, output, seconds = run(f"{tells}; {HANGS}", signal.SIGTERM)
    assert (exit_code, output) == (143, "told 143\n")
    assert seconds < 10


def test_a_second_interrupt_ends_compiled_code_before_the_grace_is_over() -> None:
    body = HANGS.replace("import ctypes", "stop.installed(grace=60).__enter__(); import ctypes")
    assert run(body, signal.SIGINT, signal.SIGINT)[0] == 130


def test_work_that_has_seen_an_interrupt_may_take_longer_to_save_itself_but_not_for_ever() -> None:
    assert run(SAVES, signal.SIGINT)[:2] == (130, "saved\nleft\n")
    assert run(SAVES, signal.SIGTERM)[:2] == (143, "")
    assert run(NEVER_SAVED, signal.SIGINT)[:2] == (130, "")


def test_a_terminal_that_closes_does_not_end_what_is_to_survive_it() -> None:
    script = SCRIPT.format(body="time.sleep(1)")
    process = subprocess.Popen(
        ["nohup", sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=30)[0] == "left\n"
    assert process.returncode == 0


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


# Between two tasks of an event loop, where a library restores a checkpoint.
LOOPS = """import asyncio
        async def main():
            asyncio.get_running_loop().call_soon(time.sleep, 1.0)
            await asyncio.sleep(60)
        asyncio.run(main())"""


@pytest.mark.parametrize(("number", "ended"), [(signal.SIGTERM, (143, "terminated\n")), (signal.SIGINT, (130, "interrupted\n"))])
def test_a_signal_that_arrives_in_a_callback_of_an_event_loop_ends_the_loop(number: int, ended: tuple[int, str]) -> None:
    assert run(LOOPS, number)[:2] == ended


EXITS = """
import atexit, os, sys, time
sys.path.insert(0, os.getcwd())
from w2sr_jax.cli import main as cli
from w2sr_jax.core.process import stopping

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

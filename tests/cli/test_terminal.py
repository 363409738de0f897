"""What files, models, servers and hosts say cannot steer a terminal."""

import io
import os
import subprocess
import sys
import warnings

import pytest

from w2sr_jax.cli.console import Console
from w2sr_jax.core.process import terminal

STEERING = "\x1b[2J\x1b]0;owned\x07\x9b2J\u202efine\u200b\u2028gone\r\x00\x08"
FORBIDDEN = frozenset("\x1b\x07\x9b\u202e\u200b\u2028\r\x00\x08")


def test_our_own_lines_tabs_and_other_scripts_stay() -> None:
    text = "one\n\ttwo é 空　間 🙂 ∑"
    assert terminal.escaped(text) == text
    assert terminal.escaped("a\x1b[2Jb\r") == "a\\x1b[2Jb\\r"


def test_a_console_spells_out_what_it_is_told_and_keeps_it_on_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("w2sr_jax.cli.console.QUIET", -1.0)
    with Console(plain=True) as console:
        console.begin(f"task{STEERING}", 0, 1)
        console.progress(1, 2, f"detail{STEERING}\nw2sr: forged")
        console.end(f"task{STEERING}", f"note{STEERING}\nw2sr: forged", 1.0)
        console.say(f"said{STEERING}\nforged")
        console.warn(f"[bold]warned[/bold]{STEERING}\nforged")
    said = capsys.readouterr().out
    assert not FORBIDDEN & set(said)
    assert not [line for line in said.splitlines() if line.startswith(("w2sr: forged", "forged"))]
    assert "[bold]warned[/bold]" in said


def test_bars_escape_markup_and_steering() -> None:
    out = io.StringIO()
    console = Console()
    console.live = True
    console.rich.file = out
    console.begin(f"[link=http://evil]task{STEERING}", 0, 1)
    console.progress(1, 2, f"[bold]{STEERING}")
    console.rich.print(console.bar)
    assert not (FORBIDDEN - {"\x1b"}) & set(out.getvalue())
    assert "[link=http://evil]task" in out.getvalue()


PROGRAM = r"""
import logging, sys, warnings
from w2sr_jax.cli import main as cli
from w2sr_jax.core.process import terminal
said = "\x1b[2J\x9b2J\u202efine\u200b\u2028gone\r"
terminal.guard()
print(f"printed {said}")
logging.getLogger("w2sr_jax.x").warning("logged %s", said)
logging.getLogger("some.library").error("library %s", said)
warnings.warn(f"warned {said}")
sys.stderr.writelines([f"written {said}\n"])
sys.stderr.write("\rmodel.safetensors:  45%|####  | 1.2G/2.5G [00:10<00:12, 100MB/s]")
sys.stderr.write("\r\x1b[31mforged: 45%| [1<2]\x1b[2J\n")
import argparse
try:
    argparse.ArgumentParser(prog="w2sr").parse_args([said])
except SystemExit:
    pass
raise ValueError(f"raised {said}")
"""


def test_logs_warnings_tracebacks_and_parsers_spell_out_what_they_quote() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    whole = (done.stdout + done.stderr).decode()
    for word in ("printed", "logged", "library", "warned", "written", "raised", "unrecognized arguments"):
        assert word in whole
    assert whole.count("\r") == 1  # of the bar, which begins its line anew
    assert not (FORBIDDEN - {"\r"}) & set(whole)
    assert done.returncode == 1


def test_colours_pass_for_who_paints_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    terminal.guard()
    with terminal.coloured():
        print("\x1b[1mbold\x1b[0m\x1b[2J\u202e")
    print("\x1b[1mbold")
    assert terminal.unguarded(sys.stdout) is out
    assert out.getvalue() == "\x1b[1mbold\x1b[0m\\x1b[2J\\u202e\n\\x1b[1mbold\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sys.stdout.writable()

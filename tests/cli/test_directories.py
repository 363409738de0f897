"""Odd places and low limits: a sentence and exit code 2, or the work is done; nothing of others is touched."""

import argparse
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from w2sr_jax.cli import arguments
from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import limits, stopping
from w2sr_jax.core.process.exits import exit_for
from w2sr_jax.core.process.lock import LOCK, locked
from w2sr_jax.core.process.stopping import Stop, Terminated
from w2sr_jax.training import retention

ROOT = Path(__file__).resolve().parents[2]
# What stands for a command that has something to do and to say.
SCRIPT = """
import sys
from w2sr_jax.cli import commands, main as cli
def work(argv, about, stop):
    {body}
    return 0
commands.COMMANDS["show"] = commands.Command("x", "x", "__main__:work")
cli.main(["show", *sys.argv[1:]])
"""


def w2sr(
    body: str, *arguments: str | bytes, cwd: Path | None = None, before: Callable[[], object] | None = None, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(body=body), *arguments],
        capture_output=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        preexec_fn=before,
        timeout=120,
    )


def refused(done: subprocess.CompletedProcess[bytes], words: str) -> None:
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert "Traceback" not in said
    assert words in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_an_output_takes_whatever_is_printed(encoding: str) -> None:
    done = w2sr('print("π ≈ 3", chr(0xdce9)); print("ü", file=sys.stderr)', PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, "ü".encode(encoding, "backslashreplace") + b"\n")
    said = done.stdout.decode(encoding)
    assert said == ("π ≈ 3 \\udce9\n" if encoding == "utf-8" else "\\u03c0 \\u2248 3 \\udce9\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_not_written_into_files(closed: str, tmp_path: Path) -> None:
    body = 'open("kept", "w").write("x"); print("a" * 99); print("b" * 99, file=sys.stderr)'
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(body=body))
    code = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" "{script}" {closed}'],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    ).returncode
    assert code == 0
    assert (tmp_path / "kept").read_text() == "x"


@pytest.mark.parametrize("lines", [1, 100_000])
def test_nobody_who_reads_ends_a_command_quietly(lines: int) -> None:
    body = f'[print("line") for _ in range({lines})]'
    done = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -c \"$0\" | true; exit ${{PIPESTATUS[0]}}", SCRIPT.format(body=body)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_output_that_cannot_be_written_is_said() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT.format(body='print("x")')],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert done.returncode == 2
    assert b"cannot be written: the disk is full" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_working_directory_that_is_gone_is_said(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    refused(w2sr("print(1)", cwd=gone, before=lambda: os.rmdir(gone)), "the working directory does not exist any more")


def test_names_that_are_no_text_are_refused_before_anything_is_done(tmp_path: Path) -> None:
    refused(w2sr("print(1)", b"--root", os.fsencode(tmp_path) + b"/caf\xe9"), "/caf\\udce9' is not UTF-8")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    odd.mkdir()
    refused(w2sr("print(1)", cwd=odd), "/caf\\udce9' is not UTF-8")


def test_a_name_that_appears_later_and_is_no_text_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).touch()
    with pytest.raises(UnicodeEncodeError) as raised:
        files.seal(tmp_path)
    ended = exit_for(raised.value, None, "")
    assert ended is not None
    assert ended.code == 2
    assert "\\udce9" in ended.words


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        (resource.RLIMIT_NOFILE, 32, "this process may open 32 files (ulimit -n), and at least"),
        (resource.RLIMIT_AS, 1 << 30, "this process may have 1,024 MiB of address space (ulimit -v)"),
    ],
)
def test_limits_that_are_too_low_are_refused(limit: int, value: int, words: str) -> None:
    refused(w2sr("print(1)", before=lambda: resource.setrlimit(limit, (value, value))), words)


def test_an_account_with_few_threads_left_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What root may have is not limited, so that it is another one's here."""
    real = resource.getrlimit
    monkeypatch.setattr(os, "getuid", lambda: os.stat(__file__).st_uid + 12345)
    for limit, enough in ((25, False), (4000, True), (resource.RLIM_INFINITY, True)):
        monkeypatch.setattr(
            resource, "getrlimit", lambda kind, limit=limit: (limit, limit) if kind == resource.RLIMIT_NPROC else real(kind)
        )
        if enough:
            limits.check([])
        else:
            with pytest.raises(UserError, match=r"this account may have 25 threads and processes \(ulimit -u\) and has 0"):
                limits.check([])


def test_a_limit_of_files_that_may_be_raised_is_raised() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    body = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    done = w2sr(body, before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, hard)))
    assert int(done.stdout) >= limits.FEWEST


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "there is not enough memory"),
        (RuntimeError("can't start new thread"), "no further thread or process can be started"),
        (BlockingIOError(11, "Resource temporarily unavailable"), "no further thread or process can be started"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes\n  at x"), "the device has not enough memory"),
        (OSError(24, "Too many open files", "x"), "too many files are open"),
        (IsADirectoryError(21, "Is a directory", "a/b"), "a/b: Is a directory"),
        (OSError(40, "Too many levels of symbolic links", "a"), "point at each other in a circle"),
        (RuntimeError("Unable to initialize backend 'cuda': no driver"), "jax cannot use its devices"),
    ],
)
def test_what_the_system_refuses_is_a_sentence_also_beneath_other_errors(error: Exception, words: str) -> None:
    wrapped = ValueError("a library failed")
    wrapped.__cause__ = error
    for found in (error, *((wrapped,) if "directory" not in str(error) else ())):
        ended = exit_for(found, None, "")
        assert ended is not None
        assert ended.code == 2
        assert words in ended.words


@pytest.mark.parametrize(("raised", "code"), [(Terminated(), 143), (KeyboardInterrupt(), 130)])
def test_a_signal_is_seen_beneath_what_a_library_made_of_it(raised: BaseException, code: int) -> None:
    for found in (SystemError("returned a result with an exception set"), UserError("it cannot be read")):
        found.__context__ = raised
        ended = exit_for(found, code - 128, "")
        assert ended is not None
        assert ended.code == code
        again = exit_for(found, None, "")
        assert again is None or again.code == 2


def test_faults_of_the_program_are_none_of_these() -> None:
    assert exit_for(ValueError("x"), None, "") is None
    assert exit_for(AssertionError(), None, "") is None


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_have_the_modes_that_the_umask_leaves(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        with locked(tmp_path / "run"):
            files.write_text(tmp_path / "run" / "a" / "b.txt", "x")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "run").rglob("*")}
    finally:
        os.umask(before)
    assert modes == {LOCK: 0o666 & ~mask, "a": 0o777 & ~mask, "b.txt": 0o666 & ~mask}


def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "x")
    path.chmod(0o640)
    files.write_text(path, "y")
    assert (stat.S_IMODE(path.stat().st_mode), path.read_text()) == (0o640, "y")


def test_of_a_link_only_itself_is_removed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    files.write_text(target / "a" / "b", "x")
    for name in ("directory", "gone", "file"):
        (tmp_path / name).symlink_to({"directory": target, "gone": tmp_path / "nowhere", "file": target / "a" / "b"}[name])
        files.remove(tmp_path / name)
    steps = tmp_path / "checkpoints"
    steps.mkdir()
    (steps / "12").symlink_to(target)
    retention.remove(steps / "12")
    (steps / "12").symlink_to(target)
    retention.set_aside(steps / "12", "of a test")
    assert (target / "a" / "b").read_text() == "x"
    files.remove(target)
    files.remove(target)
    assert not target.exists()


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda place: place.symlink_to(place.with_name("nowhere")), "is a link to "),
        (lambda place: place.write_text("x"), "is a file, and a directory is to be there"),
        (lambda place: place.parent.rmdir() or place.parent.write_text("x"), "is a file, and a directory is to be there"),
        (lambda place: place.parent.rmdir() or place.parent.symlink_to("nowhere"), "is a link to nowhere, where nothing is"),
    ],
)
def test_a_place_where_no_run_can_be_is_said(tmp_path: Path, prepare: Callable[[Path], object], words: str) -> None:
    place = tmp_path / "runs" / "mine"
    place.parent.mkdir()
    prepare(place)
    with pytest.raises(UserError, match=words), locked(place):
        pass


def test_a_run_may_be_a_link_to_a_directory(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to("elsewhere")
    with locked(tmp_path / "run") as lock:
        assert (tmp_path / "elsewhere" / LOCK).is_file()
        lock.check()


@pytest.mark.parametrize("how", ["poll", "end", "failure"])
def test_a_run_that_is_moved_while_it_is_worked_on_is_noticed(tmp_path: Path, how: str) -> None:
    run, stop = tmp_path / "run", Stop()

    def work() -> None:
        with locked(run) as lock, stop.watching(lock.check):
            assert stop.requested() is False
            run.rename(tmp_path / "moved")
            if how == "poll":
                stop.requested()
                pytest.fail("not noticed")
            if how == "failure":
                (run / "a").read_text()

    with pytest.raises(UserError, match="was moved, or removed, while it was worked on"):
        work()


def test_the_lock_of_a_run_that_has_taken_the_place_stays(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def work() -> None:
        with locked(run):
            run.rename(tmp_path / "moved")
            run.mkdir()
            (run / LOCK).write_text("another's")

    with pytest.raises(UserError, match="was moved"):
        work()
    assert (run / LOCK).read_text() == "another's"


def test_a_terminal_that_is_gone_does_not_end_what_saves_itself(tmp_path: Path) -> None:
    """Its process gets SIGHUP, and whatever it prints after that fails."""
    import pty

    main, secondary = pty.openpty()
    body = """import os, time
    with stop.deferred() as asked:
        print("ready", flush=True)
        while not asked():
            time.sleep(0.01)
        time.sleep(0.5)
        print("into nothing", flush=True)
        open(argv[0], "w").write("saved")"""
    saved = tmp_path / "saved"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(body=body), str(saved)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
        preexec_fn=lambda: (os.setsid(), __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0)),
    )
    os.close(secondary)
    try:
        assert b"ready" in os.read(main, 100)
        os.close(main)
        process.wait(timeout=stopping.GRACE + 20)
        assert saved.read_text() == "saved"
    finally:
        process.kill()


def test_what_all_processes_name_alike_lies_beside_their_copies_of_a_bucket(tmp_path: Path) -> None:
    """The settings of a rehearsal hold paths of its stand-ins, and must be the same in all processes."""
    options = argparse.Namespace(root="gs://bucket/runs", scratch=tmp_path, coordinator="host:1", processes=2, process=1)
    common = arguments.common_of(options, tmp_path / "process-1" / "gs" / "bucket" / "runs")
    assert common == tmp_path / "gs" / "bucket" / "runs"
    alone = argparse.Namespace(**{**vars(options), "coordinator": "", "processes": 1})
    assert arguments.common_of(alone, common) == common
    on_disk = argparse.Namespace(**{**vars(options), "root": str(tmp_path)})
    assert arguments.common_of(on_disk, tmp_path) == tmp_path

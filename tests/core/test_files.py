"""Writing and checking files."""

import errno
import os
from pathlib import Path

import pytest

from w2sr_jax.core import files


def test_a_file_is_replaced_in_one_step_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.txt"
    files.write_text(path, "old")

    def interrupted() -> None:
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_what_a_killed_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("a.txt", ".hidden", "b.tmp", "deep/.lock")]
    orphans = [tmp_path / name for name in (".a.txt.x1y2.tmp", "deep/er/.b.parquet.z.tmp")]
    for path in [*others, *orphans]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with files.replacing(tmp_path / "c.txt") as temporary:
        orphans.append(tmp_path / "deep" / temporary.name)
        os.link(temporary, orphans[-1])  # as if another process had died here
    others.append(tmp_path / "c.txt")
    assert files.sweep(tmp_path) == sorted(orphans)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(others)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_a_disk_that_refuses_is_named_also_through_other_exceptions(number: int) -> None:
    plain = OSError(number, os.strerror(number), "/data/x")
    assert files.refusal(plain).startswith("/data/x cannot be written: ")
    wrapped = ValueError("library failed")
    wrapped.__cause__ = plain
    assert files.refusal(wrapped) == files.refusal(plain)
    quoted = RuntimeError(f"INTERNAL: write failed [{os.strerror(number)}] at byte 0")
    assert files.refusal(quoted, Path("/data/x")) == files.refusal(plain)


def test_other_errors_are_no_refusals() -> None:
    assert files.refusal(ValueError("bad value")) is None
    assert files.refusal(FileNotFoundError(errno.ENOENT, "No such file or directory", "x")) is None


def test_a_seal_notices_every_kind_of_damage_and_names_the_file(tmp_path: Path) -> None:
    names = ("a.bin", "deep/b.bin", "deep/er/c.bin")
    for name in names:
        files.write_text(tmp_path / name, name * 10)
    files.seal(tmp_path)
    assert files.sealed(tmp_path)
    assert files.damage(tmp_path) is None
    (tmp_path / "extra").touch()
    assert files.damage(tmp_path) is None
    for name in names:
        path = tmp_path / name
        sound = path.read_bytes()
        for broken in (sound[:-1], b"", sound[:5] + bytes([sound[5] ^ 1]) + sound[6:], None):
            path.unlink() if broken is None else path.write_bytes(broken)
            assert str(path) in files.damage(tmp_path)
        path.write_bytes(sound)
    assert files.damage(tmp_path) is None
    for seal in ("", "[]", "{}", '{"a.bin"'):
        (tmp_path / files.SEAL).write_text(seal)
        assert files.SEAL in files.damage(tmp_path)

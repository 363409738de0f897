"""Files as stages write and check them: atomically, durably, and with digests; and sentences for what the disk refuses."""

import contextlib
import errno
import gzip
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import IO, Any

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError

SEAL = "DIGESTS.json"
FORMAT = 2
"""Of what a run keeps to be continued: manifests and the saved experiment. It changes whenever those of the version before cannot
be read."""
LARGEST_JSON = 2**26
"""Bytes of a JSON file that is read; what has more is no settings, index or manifest."""
_TEMPORARY = ".tmp"
_REFUSALS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EROFS: "the file system is read-only; use a directory that can be written",
    errno.EACCES: "permission denied; use a directory that you may write",
    errno.EPERM: "permission denied; use a directory that you may write",
    errno.EFBIG: "the file would be larger than is allowed here",
    errno.EIO: "the disk reports an input/output error",
    errno.ENOTDIR: "a part of the path is a file, not a directory",
    errno.ESTALE: "the network file system has lost the file",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n)",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.ENFILE: "too many files are open on this machine; close some programs",
    errno.ELOOP: "links on the path point at each other in a circle; remove them",
    errno.ENOTCONN: "the file system is not connected any more; mount it again",
}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is renamed to `path` in one step, on failure it is removed.

    Its mode is that of the file it replaces, or what the user's umask leaves. `sweep` removes what a killed process
    leaves of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}{_TEMPORARY}")
    # Not by mkstemp, whose files nobody else may read: the user's umask decides, or the mode of the file that is replaced.
    os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        with contextlib.suppress(OSError):
            os.chmod(temporary, stat.S_IMODE(path.stat().st_mode))
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
        _sync_directory(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(directory: Path) -> list[Path]:
    """Remove the temporary files that killed processes left anywhere below; nobody else may be writing there."""
    orphans = sorted(path for path in directory.rglob(f".*{_TEMPORARY}") if path.is_file())
    for path in orphans:
        path.unlink()
    return orphans


def remove(path: Path) -> None:
    """Remove a file, or a directory with all that is below; of a link only itself, and never what it points at. Nothing there:
    nothing is done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def refusal(error: BaseException, where: Path | None = None) -> str | None:
    """A sentence for an error in which the disk refused (full, read-only, not permitted, …), also one that a library has wrapped
    or only quotes; None for any other error."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        quoted = next((number for number in _REFUSALS if os.strerror(number).lower() in str(cause).lower()), None)
        number = cause.errno if isinstance(cause, OSError) and cause.errno in _REFUSALS else quoted
        if number is not None:
            name = getattr(cause, "filename", None) or where
            return f"{name or 'a file'} cannot be written: {_REFUSALS[number]}"
        cause = cause.__cause__ or cause.__context__
    return None


def seal(directory: Path, digests: Mapping[str, str] | None = None) -> None:
    """Write DIRECTORY/DIGESTS.json with the digest of every file below, so that damage can be noticed and named. Files whose
    `digests` are known, by their names in the directory, are not read."""
    names = {path.relative_to(directory).as_posix(): path for path in _below(directory)}
    write_json(directory / SEAL, {name: (digests or {}).get(name) or digest_file(path) for name, path in names.items()})


def sealed(directory: Path) -> bool:
    return (directory / SEAL).is_file()


def damage(directory: Path, digest_of: Callable[[Path], str] | None = None) -> str | None:
    """What is wrong with a sealed directory, in words: the first file that is missing or has other bytes than when it was sealed;
    None where all is as it was. Files that came later do not matter."""
    try:
        digests = read_json(directory / SEAL)
    except UserError as error:
        return str(error)
    if not isinstance(digests, dict) or not digests:
        return f"{directory / SEAL} does not list digests"
    for name, digest in sorted(digests.items()):
        try:
            path = within(directory, name)
        except UserError as error:
            return str(error)
        if not path.is_file():
            return f"{path} is missing"
        if (digest_of or digest_file)(path) != digest:
            return f"{path} does not have the digest in {SEAL}"
    return None


def _below(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path != directory / SEAL)


def _sync_directory(directory: Path) -> None:
    """Make a rename survive a loss of power, where the platform can."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def canonical_json(value: Any) -> str:
    """One spelling for equal values: sorted keys, no spaces, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def json_text(value: Any) -> str:
    """JSON for people: sorted keys, indented, NaN refused."""
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    write_text(path, json_text(value))


def read_json(path: Path) -> Any:
    """The value in a JSON file. `UserError` where that is missing, no regular file, larger than `LARGEST_JSON` or not JSON."""
    try:
        # A pipe without a writer would wait for ever; opened like this it is seen to be none of ours.
        with open(path, encoding="utf-8", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{path} is not a regular file; put the file itself there")
            if status.st_size > LARGEST_JSON:
                raise UserError(f"{path} has {status.st_size:,} bytes, and JSON of more than {LARGEST_JSON:,} is not read")
            return json.loads(file.read())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def within(directory: Path, name: str) -> Path:
    """DIRECTORY/name, for a name that a file states. `UserError` for one that leads out of the directory: an absolute path, one
    with `..`, or one on which a link lies that points elsewhere. What it names need not exist."""
    parts, home = PurePath(name).parts, os.path.realpath(directory)
    sound = bool(parts) and not PurePath(name).is_absolute() and ".." not in parts and "\0" not in name
    if not sound or not contained(home, directory / name):
        raise UserError(f"{directory} is said to hold {sentences.value(name)}, which lies outside of it; it is left alone")
    return directory / name


def check_tree(directory: Path, home: Path | None = None) -> None:
    """`UserError` where a directory that may be a stranger's (a run, an imported model) holds a link out of it, or what
    is neither file nor directory: nothing outside is to be read, copied, overwritten or removed by way of it. Where it is a part
    of a larger one, links may lead to all of that `home`."""
    inside = os.path.realpath(home or directory)
    for folder, folders, names in os.walk(os.path.realpath(directory)):
        for name in (*folders, *names):
            path = Path(folder, name)
            try:
                kind = path.lstat().st_mode
            except FileNotFoundError:  # a temporary file of who is at work in it
                continue
            if stat.S_ISLNK(kind) and not contained(inside, path):
                raise UserError(
                    f"{path} is a link to {sentences.value(os.readlink(path))}, outside of {directory}, and is not followed; put "
                    f"what it means in its place, or remove it"
                )
            if not (stat.S_ISLNK(kind) or stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
                raise UserError(f"{path} is neither a file nor a directory (a pipe, a socket or a device); remove it")


def contained(home: str | Path, path: Path) -> bool:
    """Whether what `path` means, once links are followed, lies below `home`, a directory whose own links are resolved."""
    return os.path.realpath(path).startswith(os.path.join(home, ""))


def open_lines(path: Path) -> IO[str]:
    """Open a text file, transparently `.gz`, for reading; undecodable bytes become U+FFFD."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", errors="replace")
    return open(path, encoding="utf-8", errors="replace")


def digest_bytes(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digest_json(value: Any) -> str:
    return digest_bytes(canonical_json(value).encode())


def digest_file(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def other_format(run: Path, number: object) -> str:
    """A sentence about a run whose files have another `FORMAT`; those that name none have the first one."""
    theirs = 1 if number is None else sentences.value(number, 20)
    return (
        f"{run} was written by another version of w2sr_jax (format {theirs}; this one reads {FORMAT}): "
        "open it with that version, or run its configuration under another --name"
    )

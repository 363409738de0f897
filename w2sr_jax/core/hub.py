"""Models on the Hugging Face Hub as local directories: OWNER/NAME or OWNER/NAME@REVISION, from the local cache or downloaded.

Only safetensors, JSON and tokenizer files are ever fetched. HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_ENDPOINT and HF_TOKEN mean
what they mean to `huggingface_hub`. A revision that the cache holds whole is taken from there without asking the network.
"""

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, NamedTuple

from w2sr_jax.core import files, sentences
from w2sr_jax.core.errors import UserError

Kind = Literal["weights", "tokenizer"]

INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
MAIN = "main"
PATTERNS: dict[str, tuple[str, ...]] = {
    "weights": ("model*.safetensors", INDEX, "config.json", "generation_config.json"),
    "tokenizer": (
        "tokenizer*",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template*",
        "vocab*",
        "merges.txt",
        "spiece.model",
        "sentencepiece*.model",
        "config.json",
        "generation_config.json",
    ),
}
PATIENCE = 10.0
"""Seconds that the Hub may take to answer at all."""
LARGEST = files.LARGEST_JSON
"""Bytes of a text file of a model or tokenizer; the largest in use have half of it."""
TEMPLATES = "additional_chat_templates"
"""The folder of further chat templates, which transformers opens too."""

_ID = re.compile(r"(?P<repository>[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@(?P<revision>[\w./-]{1,200}))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TEXTS = (".json", ".jinja", ".model", ".txt", ".tiktoken")


class Reference(NamedTuple):
    """A model on the Hub. `revision` is a branch, a tag or a commit."""

    repository: str
    revision: str

    def __str__(self) -> str:
        return self.repository if self.revision == MAIN else f"{self.repository}@{self.revision}"


def is_local(ref: str) -> bool:
    """Whether `ref` means a path: one that exists, or one that cannot be OWNER/NAME[@REVISION]."""
    return reference(ref) is None


def reference(ref: str) -> Reference | None:
    """The Hub model that `ref` names; None where it names a path."""
    return None if Path(ref).expanduser().exists() else _parse(ref)


def snapshot(ref: str, kind: Kind) -> Path:
    """The directory of `ref`: a local one as it is, otherwise the Hub's snapshot, complete in the files of `kind`.

    `UserError` where there is no such directory or repository, where access is refused, where neither the cache nor the network
    has it, and where a file that would be read is a link to elsewhere, no file, or endless.
    """
    path = at_hand(ref, kind)
    if path is None:
        asked = _parse(ref)
        assert asked is not None
        path = _downloaded(asked, kind, _cached(asked, kind)[1])
        check_files(path)
    return path


def at_hand(ref: str, kind: Kind) -> Path | None:
    """`snapshot` without a download: None for a model that the cache does not hold whole."""
    if not ref.strip():
        raise UserError("the name of a model is empty; give a local directory, or a Hub id such as Qwen/Qwen2.5-0.5B")
    path = Path(ref).expanduser()
    if path.is_dir():
        check_files(path)
        return path
    asked = _parse(ref)
    if path.exists():
        raise UserError(f"{path} is a file; give the directory that holds it, or a Hub id such as Qwen/Qwen2.5-0.5B")
    if asked is None:
        raise UserError(
            f"{ref!r} does not exist; give a local directory, or a Hub id such as Qwen/Qwen2.5-0.5B or OWNER/NAME@REVISION"
        )
    cached, _ = _cached(asked, kind)
    if cached is not None:
        check_files(cached)
    return cached


def check_reachable(ref: str, kind: Kind) -> None:
    """Ask the Hub whether `ref`, which the cache does not hold whole, may be downloaded. `UserError` as for `snapshot`."""
    asked = _parse(ref)
    assert asked is not None
    with _refusals(asked, _cached(asked, kind)[1]):
        _ask(asked)


def check_files(directory: Path) -> None:
    """`UserError` for a model's or tokenizer's directory in which a file that may be read is a link out of it, a pipe, a device,
    or a text of more than `LARGEST` bytes. In the Hub's cache a link may lead to the repository's own blobs."""
    inside = home(directory)
    folders = [directory, *([directory / TEMPLATES] if (directory / TEMPLATES).is_dir() else [])]
    for path in (path for folder in folders for path in sorted(folder.iterdir())):
        if not path.exists() or not (_may_be_read(path.name) or path.is_dir()):
            continue
        if not files.contained(inside, path):
            raise UserError(
                f"{path} is a link to {sentences.value(os.readlink(path) if path.is_symlink() else os.path.realpath(path))}, "
                f"outside of {inside}, and is not followed; put the file itself there"
            )
        status = path.stat()
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise UserError(f"{path} is no regular file (a pipe, a socket or a device); put the file itself there")
        if path.suffix in _TEXTS and stat.S_ISREG(status.st_mode) and status.st_size > LARGEST:
            raise UserError(f"{path} has {status.st_size:,} bytes; no such file of a model has more than {LARGEST:,}")


def tokenizer_files(directory: Path) -> list[Path]:
    """The files of a tokenizer that are text or JSON: no code and no pickle, whatever its name."""
    check_files(directory)
    names = PATTERNS["tokenizer"]
    texts = (path for path in sorted(directory.iterdir()) if path.is_file() and path.suffix in _TEXTS)
    return [path for path in texts if any(fnmatch(path.name, name) for name in names)]


def origin(path: Path) -> Reference | None:
    """The repository and commit of a snapshot in the Hub's cache; None for any other directory."""
    path = path.absolute()
    repository = path.parent.parent.name.removeprefix("models--").replace("--", "/", 1)
    cached = path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--") and _COMMIT.fullmatch(path.name)
    return Reference(repository, path.name) if cached else None


def commit(path: Path) -> str | None:
    """The commit of a snapshot: one in the Hub's cache, or a directory made by `hf download --local-dir`; None where unknown."""
    cached = origin(path)
    if cached is not None:
        return cached.revision
    inside = home(path)
    for note in sorted((path / ".cache" / "huggingface" / "download").glob("*.metadata")):
        if not note.is_file() or not files.contained(inside, note):
            continue
        with open(note, encoding="utf-8", errors="replace") as file:
            first = file.readline(200).strip()
        if _COMMIT.fullmatch(first):
            return first
    return None


def missing(directory: Path, kind: Kind) -> str | None:
    """What a directory lacks to serve as `kind`, in words; None where no file is missing by its name or by the index."""
    if kind == "tokenizer":
        files_of = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
        return None if any((directory / name).is_file() for name in files_of) else "it has no tokenizer.json"
    if not (directory / "config.json").is_file():
        return "it has no config.json"
    if not (directory / INDEX).is_file():
        return None if (directory / WHOLE).is_file() else f"it has neither {WHOLE} nor {INDEX}"
    index = files.read_json(directory / INDEX)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        return f"its {INDEX} does not say which shard holds which tensor"
    lost = sorted({name for name in shards.values() if not (directory / name).is_file()})
    return f"it lacks {lost[0]}" + (f" and {len(lost) - 1} more of its shards" if len(lost) > 1 else "") if lost else None


def home(directory: Path) -> Path:
    """The directory into which links of a model's directory may lead: itself, or for a snapshot in the Hub's cache the folder of
    its repository."""
    folder = Path(os.path.realpath(directory))
    cached = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith(("models--", "datasets--"))
    return folder.parent.parent if cached else folder


def _may_be_read(name: str) -> bool:
    return name.endswith((*_TEXTS, ".safetensors")) or any(fnmatch(name, each) for kind in PATTERNS.values() for each in kind)


def _parse(ref: str) -> Reference | None:
    match = _ID.fullmatch(ref)
    if match is None or ".." in ref:
        return None
    return Reference(match["repository"], match["revision"] or MAIN)


def _cached(asked: Reference, kind: Kind) -> tuple[Path | None, str]:
    """(the snapshot in the local cache, "") if it is whole, else (None, what it lacks in words)."""
    from huggingface_hub import constants, snapshot_download

    try:
        path = Path(_fetch(snapshot_download, asked, kind, local=True))
        lack = missing(path, kind)
    except Exception as error:  # for a partial snapshot it has its path
        partial = getattr(error, "snapshot_path", None)
        if partial is None:
            return None, f"{constants.HF_HUB_CACHE} has no copy"
        lack = missing(Path(partial), kind) or "some of its files are not there"
    return (path, "") if lack is None else (None, f"its cached snapshot is incomplete ({lack})")


def _downloaded(asked: Reference, kind: Kind, lack: str) -> Path:
    from huggingface_hub import snapshot_download

    with _refusals(asked, lack):
        # Asked first, since what follows has no time limit of its own where nothing answers.
        _ask(asked)
        path = Path(_fetch(snapshot_download, asked, kind, local=False))
    left = missing(path, kind)
    if left is not None:
        formats = "; only safetensors weights are read, never pickles or GGUF" if kind == "weights" else ""
        raise UserError(f"the Hub model {asked} cannot serve as {_noun(kind)}: {left}{formats}")
    return path


def _ask(asked: Reference) -> None:
    from huggingface_hub import HfApi

    HfApi().model_info(asked.repository, revision=asked.revision, timeout=PATIENCE)


@contextlib.contextmanager
def _refusals(asked: Reference, lack: str) -> Iterator[None]:
    """Inside, whatever the Hub, the network or the disk refuses becomes a `UserError`."""
    from huggingface_hub import errors

    wanted = f"the Hub model {asked}"
    try:
        yield
    except errors.GatedRepoError:
        raise UserError(
            f"{wanted} is gated: accept its terms on its page on the Hub, then give your token (`hf auth login`, or HF_TOKEN)"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"the Hub model {asked.repository} has no revision {asked.revision!r}") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{wanted} does not exist, or is private and needs your token (`hf auth login`, or HF_TOKEN); if a directory was "
            f"meant, there is no {asked.repository} here"
        ) from None
    except Exception as error:  # the HTTP library's own, which differ between versions
        full = files.refusal(error) if isinstance(error, OSError) else None
        raise UserError(full or _unreachable(asked, lack, error)) from None


def _fetch(download: Callable[..., str], asked: Reference, kind: Kind, local: bool) -> str:
    return download(
        asked.repository,
        revision=asked.revision,
        allow_patterns=list(PATTERNS[kind]),
        ignore_patterns=["*/*"],  # other formats of the same weights lie in folders
        local_files_only=local,
        etag_timeout=PATIENCE,
    )


def _unreachable(asked: Reference, lack: str, error: Exception) -> str:
    from huggingface_hub import constants, errors

    off = isinstance(error, errors.OfflineModeIsEnabled)
    reason = (
        "HF_HUB_OFFLINE forbids to ask for it" if off else f"{constants.ENDPOINT} cannot be reached ({sentences.cause(error)})"
    )
    revision = "" if asked.revision == MAIN else f" --revision {asked.revision}"
    return (
        f"the Hub model {asked} is not here: {lack}, and {reason}; give a local directory instead, or run `hf download "
        f"{asked.repository}{revision}` where there is a network and set HF_HOME to the directory that it filled"
    )


def _noun(kind: Kind) -> str:
    return "a model's weights" if kind == "weights" else "a tokenizer"

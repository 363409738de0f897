"""Rows of data sets that `datasets` reads: from the Hugging Face Hub (cached or downloaded) and from local directories.

Code of a data set is never run: `datasets` refuses data sets that have a loading script.
"""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from w2sr_jax.core import files, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.problems import containment
from w2sr_jax.problems.reference import Part, Reference, chosen, directory
from w2sr_jax.problems.rows import Row

PATIENCE = 10.0
"""Seconds that the Hub may take to answer a request."""


def rows(reference: Reference) -> Iterator[Row]:
    """The rows that a reference names, numbered from 1. Raises UserError where they cannot be read."""
    number = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        for config in reference.configs or (None,):
            splits = _splits(reference, config, stack)
            source = spelled(reference, config)
            for part in reference.parts:
                split = splits[chosen(part, list(splits), source)]
                try:
                    for values in _taken(split, part):
                        number += 1
                        yield Row(number, values)
                except UserError:
                    raise
                except Exception as error:
                    raise UserError(f"{source} cannot be read past row {number}: {sentences.cause(error)}") from None


def source_files(reference: Reference) -> tuple[Path, ...]:
    """The files that stand for the data: those of a local directory, or the Arrow files of the Hub's data set in the cache."""
    local = directory(reference.name)
    if local is not None:
        containment.check(local)
        return below(local)
    cached: list[Path] = []
    with contextlib.ExitStack() as stack:
        for config in reference.configs or (None,):
            splits = _splits(reference, config, stack)
            for part in reference.parts:
                split = splits[chosen(part, list(splits), spelled(reference, config))]
                cached.extend(Path(file["filename"]) for file in split.cache_files)
    return tuple(dict.fromkeys(cached))


def at_hand(reference: Reference) -> bool:
    """Whether the rows can be read without a download. Where they cannot, the Hub is asked whether it grants a download. Raises
    UserError where it does not, or cannot be reached."""
    if directory(reference.name) is not None:
        return True
    import datasets
    from huggingface_hub import HfApi

    there = True
    for config in reference.configs or (None,):
        builder, lack = _cached(reference, config)
        if builder is not None:
            continue
        there = False
        if datasets.config.HF_HUB_OFFLINE:
            raise UserError(_unreachable(reference, config, lack, None))
        try:
            HfApi().dataset_info(reference.name, revision=reference.revision, timeout=PATIENCE)
        except Exception as error:
            source = spelled(reference, config)
            raise UserError(_refusal(source, error) or _unreachable(reference, config, lack, error)) from None
    return there


def cached(reference: Reference) -> bool:
    """Whether the rows can be read without a download. The Hub is not asked."""
    configs = reference.configs or (None,)
    return directory(reference.name) is not None or all(_cached(reference, config)[0] is not None for config in configs)


def count(reference: Reference) -> int | None:
    """How many rows a reference to a data set at hand names; None where only reading all of them would tell."""
    if directory(reference.name) is not None:
        return None
    total = 0
    with contextlib.ExitStack() as stack:
        for config in reference.configs or (None,):
            splits = _splits(reference, config, stack)
            for part in reference.parts:
                split = splits[chosen(part, list(splits), spelled(reference, config))]
                total += len(part.rows(len(split)))
    return total


def below(folder: Path) -> tuple[Path, ...]:
    """All files in a directory and below it, without hidden ones, sorted."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return tuple(sorted(path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)))


def spelled(reference: Reference, config: str | None) -> str:
    revision = f"@{reference.revision}" if reference.revision else ""
    return f"hf:{reference.name}{revision}" + (f":{config}" if config else "")


def _splits(reference: Reference, config: str | None, stack: contextlib.ExitStack) -> Mapping[str, Any]:
    """The splits by name: `IterableDataset`s for files of a local directory, else `Dataset`s. Raises UserError as `rows`."""
    import datasets

    datasets.disable_progress_bars()
    local, source = directory(reference.name), spelled(reference, config)
    if local is None:
        return _hub(reference, config)
    containment.check(local)
    try:
        if any((local / name).is_file() for name in (containment.SAVED, containment.SAVED_SPLITS)):
            containment.check_saved(local)
            saved = datasets.load_from_disk(str(local))
            return saved if isinstance(saved, datasets.DatasetDict) else {str(saved.split or "train"): saved}
        # Streamed, since a copy in the cache may be of an earlier state of the files.
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="w2sr-hf-"))
        builder = _builder(str(local), config, scratch)
        containment.check_builder(local, builder)
        return builder.as_streaming_dataset()
    except UserError:
        raise
    except Exception as error:
        raise UserError(_refusal(source, error) or f"{source} cannot be read: {sentences.cause(error)}") from None


def _builder(name: str, config: str | None, cache: str | None = None, revision: str | None = None) -> Any:
    import datasets

    with _quiet():
        return datasets.load_dataset_builder(name, config, cache_dir=cache, revision=revision)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Turns off the log of `datasets`, which repeats the errors that it raises."""
    import datasets

    verbosity = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)


def _hub(reference: Reference, config: str | None) -> Mapping[str, Any]:
    source = spelled(reference, config)
    if reference.name.count("/") != 1 or reference.name.startswith((".", "/", "~")):
        raise UserError(
            f"{source} is no directory and no name on the Hub; give a local directory, OWNER/NAME, or file:PATH for a file"
        )
    builder, lack = _cached(reference, config)
    try:
        if builder is None:
            builder = _downloaded(reference, config, lack)
        containment.check_kind(source, builder)
        return {name: builder.as_dataset(split=name) for name in builder.info.splits}
    except UserError:
        raise
    except Exception as error:
        raise UserError(_refusal(source, error) or _unreachable(reference, config, lack, error)) from None


def _cached(reference: Reference, config: str | None) -> tuple[Any | None, str]:
    """(builder of the data set as it is in the cache, ""); (None, what is missing there in words) where it is not. Asks
    nobody."""
    import datasets

    cache = str(datasets.config.HF_DATASETS_CACHE)
    try:
        with _offline():
            builder = _builder(reference.name, config)
        if not Path(builder.cache_dir).is_dir() or not builder.info.splits:
            return None, f"{cache} has no copy"
    except Exception:
        return None, f"{cache} has no copy" + (f" of its configuration {config!r}" if config else "")
    if config is None and builder.config.name != "default":
        return None, f"{cache} has its configuration {builder.config.name!r}, and which one is wanted is not said"
    if reference.revision is not None and Path(builder.cache_dir).name != reference.revision:
        return None, f"{cache} has another revision, {sentences.shown(Path(builder.cache_dir).name, 40)}"
    return builder, ""


def _downloaded(reference: Reference, config: str | None, lack: str) -> Any:
    import datasets
    from huggingface_hub import HfApi

    if datasets.config.HF_HUB_OFFLINE:
        raise UserError(_unreachable(reference, config, lack, None))
    # Asked first, since what follows waits for minutes where nothing answers.
    commit = HfApi().dataset_info(reference.name, revision=reference.revision, timeout=PATIENCE).sha
    builder = _builder(reference.name, config, revision=commit if reference.revision else None)
    builder.download_and_prepare()
    return builder


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _refusal(source: str, error: Exception) -> str | None:
    """A sentence for an error with which the Hub or the disk refuses a download; None for any other error."""
    from huggingface_hub import errors

    full = files.refusal(error) if isinstance(error, OSError) else None
    if full is not None:
        return full
    causes = [error, error.__cause__, error.__context__]
    if any(isinstance(cause, errors.GatedRepoError) for cause in causes) or "gated dataset" in str(error):
        return f"{source} is gated: accept its terms on its page on the Hub, then give your token (`hf auth login`, or HF_TOKEN)"
    if any(isinstance(cause, errors.RevisionNotFoundError) for cause in causes):
        return f"{source}: there is no such revision on the Hub"
    if any(isinstance(cause, errors.RepositoryNotFoundError) for cause in causes):
        return f"{source} does not exist on the Hub, or is private and needs your token (`hf auth login`, or HF_TOKEN)"
    if isinstance(error, ValueError) and "BuilderConfig" in str(error):
        return f"{source}: {sentences.cause(error)} (a split is given as NAME::SPLIT)"
    if isinstance(error, ValueError) and "Config name is missing" in str(error):
        return f"{source} has several configurations: {sentences.cause(error)}"
    if "Dataset scripts are no longer supported" in str(error):
        return f"{source} is made by a Python script, and code of a data set is not run; give one that has data files"
    return None


def _unreachable(reference: Reference, config: str | None, lack: str, error: Exception | None) -> str:
    import datasets

    why = "HF_HUB_OFFLINE or HF_DATASETS_OFFLINE forbids to ask the Hub"
    if error is not None:
        why = f"{datasets.config.HF_ENDPOINT} cannot be reached ({sentences.cause(error)})"
    return (
        f"{spelled(reference, config)} is not here: {lack}, and {why}; give a local directory with its files "
        "(hf:DIRECTORY), or load it where there is a network and set HF_HOME to the directory that it filled"
    )


def _taken(split: Any, part: Part) -> Iterator[Mapping[str, Any]]:
    """The rows of a split that a part names; pictures and sounds are not decoded."""
    split = _undecoded(split)
    if hasattr(split, "select"):
        yield from split.select(part.rows(len(split)))
        return
    ends = [bound for bound in (part.start, part.stop) if bound is not None]
    if not ends:
        yield from split
        return
    counted = any(bound.percent or bound.number < 0 for bound in ends)
    wanted = part.rows(_count(split) if counted else 10**12)
    for position, values in enumerate(split):
        if position >= wanted.stop:
            return
        if position >= wanted.start:
            yield values


def _count(split: Iterable[Any]) -> int:
    return sum(1 for _ in split)


def _undecoded(split: Any) -> Any:
    for name, feature in (split.features or {}).items():
        if getattr(feature, "decode", False) is True:
            split = split.cast_column(name, type(feature)(decode=False))
    return split

"""Ways in which a file of a run, or the run, is not what it was. Each context leaves everything as it found it."""

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

FLIPS = {"start": lambda size: min(1, size - 1), "middle": lambda size: size // 2, "end": lambda size: size - 1}


@dataclasses.dataclass(frozen=True)
class Damage:
    """What is done to a run, in words; `file` (relative) is what must be named, or one of the words in `also`. With
    `readers_only` stages are not asked: what they make of it is something else, and rightly so."""

    file: str
    how: str
    do: Callable[[Path], None]
    also: tuple[str, ...] = ()
    readers_only: bool = False

    @contextmanager
    def done(self, run: Path, aside: Path) -> Iterator[None]:
        """The run is put aside as it is, and comes back afterwards."""
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(run, aside, symlinks=True)
        try:
            self.do(run)
            yield
        finally:
            shutil.rmtree(run)
            aside.rename(run)


def flips(file: str, size: int, places: tuple[str, ...]) -> list[Damage]:
    """One bit of one byte, at several places."""
    found = {FLIPS[place](size): place for place in places} if size else {}
    return [Damage(file, f"flipped at the {place}", lambda run, at=at: _flip(run / file, at)) for at, place in found.items()]


def others(file: str, size: int, like: str | None) -> list[Damage]:
    """A file that is cut, emptied, gone, a directory, a link to another, or another of its kind (`like`)."""
    found = [
        Damage(file, "removed", lambda run: (run / file).unlink()),
        Damage(file, "a directory in its place", lambda run: ((run / file).unlink(), (run / file).mkdir())),
    ]
    if size:
        found += [
            Damage(file, "cut to half", lambda run: (run / file).write_bytes((run / file).read_bytes()[: size // 2])),
            Damage(file, "emptied", lambda run: (run / file).write_bytes(b"")),
        ]
    if like is not None:
        found += [
            Damage(file, "another of its kind in its place", lambda run: shutil.copyfile(run / like, run / file)),
            Damage(file, "a link to another of its kind", lambda run: _link(run / file, run / like)),
        ]
    return found


def swaps() -> list[Damage]:
    """Sound things in the wrong place."""
    one, two = "rungs/0-small/all/checkpoints/8", "rungs/0-small/gold/checkpoints/8"
    lora = "rungs/1-large/all/checkpoints/8"
    manifest = "lineage/rungs/0-small/all/train.json"
    return [
        Damage(one, "the checkpoint of another arm in its place", lambda run: _replace(run / one, run / two)),
        Damage(
            f"{one}/params",
            "the parameters of another arm in their place",
            lambda run: _replace(run / one / "params", run / two / "params"),
            (one,),
        ),
        Damage(
            f"{one}/lineage/metadata",
            "the lineage of another arm in its place",
            lambda run: shutil.copyfile(run / two / "lineage/metadata", run / one / "lineage/metadata"),
            (one,),
        ),
        Damage(
            "rungs/0-small/all/checkpoints/16",
            "a later step beside",
            lambda run: shutil.copytree(run / two, run / "rungs/0-small/all/checkpoints/16"),
        ),
        Damage(
            "rungs/1-large/all/checkpoints/9",
            "a later step of LoRA beside",
            lambda run: shutil.copytree(run / one, run / "rungs/1-large/all/checkpoints/9"),
        ),
        Damage(lora, "a full checkpoint in the place of an adapter's", lambda run: _replace(run / lora, run / one)),
        Damage(
            "rungs/0-small/base/checkpoints/8",
            "another model in the place of the base",
            lambda run: _replace(run / "rungs/0-small/base/checkpoints/8", run / one),
        ),
        Damage(
            manifest,
            "the manifest of another arm",
            lambda run: shutil.copyfile(run / "lineage/rungs/0-small/gold/train.json", run / manifest),
        ),
        Damage(
            "lineage/evaluations/0-small.all.json",
            "the manifest of another evaluation",
            lambda run: shutil.copyfile(
                run / "lineage/evaluations/0-small.gold.json", run / "lineage/evaluations/0-small.all.json"
            ),
        ),
        Damage(
            "lineage/rungs/0-small/curation.json",
            "a stage made anew otherwise",
            _curated_anew,
            ("was made from another rungs/0-small/curation",),
            readers_only=True,
        ),
        Damage(
            "teachers/teacher/rung-0/traces-00009.parquet",
            "a shard beside",
            lambda run: shutil.copyfile(
                run / "teachers/teacher/rung-0/traces-00000.parquet", run / "teachers/teacher/rung-0/traces-00009.parquet"
            ),
        ),
        Damage(
            "tokenizer/chat_template.jinja.bak",
            "a file beside the tokenizer",
            lambda run: (run / "tokenizer/chat_template.jinja.bak").write_text("{{ messages }}"),
        ),
        Damage(
            "rungs/1-large/all/probe.jsonl",
            "a journal beside",
            lambda run: shutil.copyfile(run / "rungs/0-small/all/probe.jsonl", run / "rungs/1-large/all/probe.jsonl"),
        ),
        Damage(
            "evaluations/teacher/faithfulness2.json",
            "an evaluation's file beside",
            lambda run: (run / "evaluations/teacher/faithfulness2.json").write_text("{}"),
        ),
    ]


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def _link(path: Path, target: Path) -> None:
    path.unlink()
    path.symlink_to(target)


def _replace(old: Path, new: Path) -> None:
    shutil.rmtree(old)
    shutil.copytree(new, old)


def _curated_anew(run: Path) -> None:
    """Curation has made something else since, with a sound manifest; nothing behind it was made anew."""
    from w2sr_jax.core import records
    from w2sr_jax.core.records import Example
    from w2sr_jax.graph.store import RunStore

    path, store = run / "rungs/0-small/all/curated.parquet", RunStore(run)
    records.write(path, Example, records.read(path, Example)[1:])
    manifest = store.peek("rungs/0-small/curation")
    assert manifest is not None
    store.commit(dataclasses.replace(manifest, outputs=store.digests([run / name for name in manifest.outputs])))

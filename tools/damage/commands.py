"""The commands that read a finished run, each done in this process: what it says and writes, and which files it opens."""

import contextlib
import dataclasses
import hashlib
import io
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from watching import opened

READERS = ("show", "explain", "compare", "export", "publish", "grade")
STAGES = ("report", "evaluate", "run")
CRASHED = 99
LONGEST = 300


@dataclasses.dataclass(frozen=True)
class Said:
    """What came of a command: its exit code, all that it printed and wrote (a digest), and its errors."""

    code: int
    result: str
    errors: str
    output: str = ""
    opened: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Command:
    """A command line in which RUN, OTHER and OUT stand for directories. What writes into the run itself is given a copy of it."""

    line: str

    @property
    def name(self) -> str:
        return self.line.split()[0]

    @property
    def writes(self) -> bool:
        return self.name not in READERS

    def run(self, run: Path, other: Path, scratch: Path, watched: bool = False) -> Said:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        if self.writes:
            shutil.copytree(run, scratch / run.name, symlinks=True)
            run = scratch / run.name
        places = {"RUN": str(run), "OTHER": str(other), "OUT": str(scratch / "out")}
        argv = [re.sub("RUN|OTHER|OUT", lambda found: places[found[0]], word) for word in self.line.split()]
        forget()
        with opened(run) if watched else contextlib.nullcontext(set()) as names:
            code, out, errors = _call(argv)
        result = _digest(_relative(out, places), scratch / "out", run if self.writes else None)
        return Said(code, result, _relative(errors, places), _relative(out, places), frozenset(names))


def commands(problems: Mapping[str, str], models: Sequence[str]) -> list[Command]:
    """All of them, for problems by their split and models by their name."""
    shown = ((0, "all"), (0, "gold"), (0, "base"), (1, "all"))
    lines = [f"show RUN --plain --example 0 --rung {rung} --arm {arm}" for rung, arm in shown]
    lines += [f"explain RUN {identity}" for identity in problems.values()]
    lines += ["compare RUN OTHER --out OUT", *(f"publish RUN --rung {rung} --out OUT" for rung in (0, 1))]
    lines += [f"export RUN OUT --model {model}" for model in models]
    lines += ["export RUN OUT --model 1-large.all --adapter"]
    lines += [f"grade RUN/{path} --gold problem_id --text text --plain --out OUT.jsonl" for path in GRADED]
    return [Command(line) for line in (*lines, *(f"{stage} RUN --plain" for stage in STAGES))]


GRADED = ("evaluations/0-small.all/generations.parquet", "teachers/teacher/rung-0/traces-00000.parquet")


def forget() -> None:
    """What this process remembers of files, a new one would not."""
    from w2sr_jax.graph import index, manifest

    for remembered in (manifest._cached_digest, index._read):
        remembered.cache_clear()


def _call(argv: list[str]) -> tuple[int, str, str]:
    from w2sr_jax.cli import main as cli

    out, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            code = cli.run(argv)
        except Exception as error:
            code = CRASHED
            errors.write(f"{type(error).__name__}: {error}"[:LONGEST])
    return code, out.getvalue(), errors.getvalue()


def _relative(text: str, places: Mapping[str, str]) -> str:
    for name, path in places.items():
        text = text.replace(path, name)
    text = re.sub(r"^    .*%.*\n", "", text, flags=re.M)  # progress, which is told where something takes long
    return re.sub(r" *\d+(\.\d+)? s\b", " … s", text)


def _digest(out: str, scratch: Path, run: Path | None) -> str:
    """Of what a reader printed and wrote, or of what all stages of a run are after a command that works on it."""
    from w2sr_jax.graph.store import RunStore

    hashed = hashlib.sha256()
    if run is not None:
        with contextlib.suppress(Exception):
            for made in RunStore(run).manifests():
                hashed.update(f"{made.stage} {made.digest()} {dict(made.inputs)}\n".encode())
        return hashed.hexdigest()
    hashed.update(out.encode())
    for path in sorted(path for path in scratch.parent.rglob("*") if path.is_file()):
        hashed.update(str(path.relative_to(scratch.parent)).encode() + path.read_bytes())
    return hashed.hexdigest()

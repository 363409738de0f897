"""Damage a finished run in every file, in every way, and see what each command that reads runs makes of it.

    .venv/bin/python tools/damage/damage.py                  every file, flipped at three places and damaged otherwise
    .venv/bin/python tools/damage/damage.py --short          some files, one flip each, readers only; runs in CI

A command is asked where it opened the file when the run was whole (the kernel tells which); one that never opened it cannot
use it. What comes of it: `refused` (exit code 2, and the file is named), `made anew` (a stage names it and makes what it made
before), `left undone` (a stage names it, and leaves it to others to make it anew), `unused` (the outcome is that of the whole
run). Everything else is `SILENT`, and the exit code is 1. Stages (`report`, `evaluate`, `run`) work on a copy, and are only asked
after one flip of every fourth file.
"""

import argparse
import collections
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).resolve().parent))

from commands import Command, Said, commands, forget
from damages import FLIPS, Damage, flips, others, swaps

CONFIG = Path(__file__).resolve().parent / "whole.py"
SHORT_FILES = 16
FIRST = 6
"""The files are gone through in so many turns, every sixth in the first one, so that whoever stops has seen all kinds."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="some files, one flip each, readers only")
    parser.add_argument("--run", type=Path, help="a finished run of whole.py; otherwise one is made")
    parser.add_argument("--match", default="", help="only files whose name contains this")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="w2sr-damage-") as folder:
        scratch = Path(folder)
        run = scratch / "whole"
        if options.run is None:
            make(run)
        else:
            shutil.copytree(options.run, run)
        return Trial(run, scratch, options.short).all(options.match)


def make(run: Path) -> None:
    """The run, by the command line in this process."""
    from w2sr_jax.cli import main as cli

    if cli.run(["run", str(CONFIG), "--root", str(run.parent), "--name", run.name, "--plain"]):
        raise SystemExit("the run that is to be damaged could not be made")


class Trial:
    """A whole run, and what commands say of it."""

    def __init__(self, run: Path, scratch: Path, short: bool) -> None:
        self.run, self.scratch, self.short = run, scratch, short
        self.other = scratch / "other"
        shutil.copytree(run, self.other)
        asked = commands(problems(run), MODELS)
        if short:
            asked = [command for command in asked if command.line in _short(asked)]
        self.commands = asked
        self.whole: dict[Command, Said] = {}
        for command in self.commands:
            self.whole[command] = command.run(run, self.other, scratch / "work", watched=True)
            again = command.run(run, self.other, scratch / "work")
            if self.whole[command].code or again.result != self.whole[command].result:
                raise SystemExit(f"{command.line}: {self.whole[command]} is not as it should be, {again}")
        self.counts: collections.Counter[str] = collections.Counter()
        self.silent: list[str] = []

    def all(self, match: str) -> int:
        """Every damage; a line for each file, and the sums. The exit code."""
        files = [path.relative_to(self.run).as_posix() for path in sorted(self.run.rglob("*")) if path.is_file()]
        files = [file for file in files if match in file]
        if self.short:
            files = files[:: max(1, len(files) // SHORT_FILES)]
        files = [file for turn in range(FIRST) for file in files[turn::FIRST]]
        width = max(map(len, files))
        for number, file in enumerate(files):
            size = (self.run / file).stat().st_size
            places = ("middle",) if self.short else tuple(FLIPS)
            damages = flips(file, size, places)
            if not self.short:
                same = (one for one in files if one != file and Path(one).suffix == Path(file).suffix and self._differ(one, file))
                damages += others(file, size, next(same, None))[len(file) % 3 :: 3]
            found = []
            for turn, damage in enumerate(damages):
                asked = self._readers(file, turn)
                stages = damage.how == STAGES_AFTER and number % STAGES_EVERY == 0
                found.append(self.tried(damage, [command for command in asked if stages or not command.writes]))
            print(f"{file:<{width}}  {self._line(found)}", flush=True)
        for damage in swaps() if not match else ():
            found = self.tried(damage, [command for command in self.commands if not (damage.readers_only and command.writes)])
            print(f"{damage.file}: {damage.how}: {self._line([found])}", flush=True)
        print(
            f"\n{len(files)} files, {sum(self.counts.values())} trials: " + ", ".join(f"{n} {w}" for w, n in self.counts.items())
        )
        print(f"{len(self.silent)} silent acceptances")
        return 1 if self.silent else 0

    def tried(self, damage: Damage, asked: list[Command]) -> dict[str, list[str]]:
        """The outcomes of one damage, with the names of the commands."""
        found: dict[str, list[str]] = collections.defaultdict(list)
        with damage.done(self.run, self.scratch / "aside"):
            for command in asked:
                outcome = self._outcome(damage, command)
                found[outcome].append(command.name)
                self.counts[outcome] += 1
        forget()
        return found

    def _outcome(self, damage: Damage, command: Command) -> str:
        said, whole = command.run(self.run, self.other, self.scratch / "work"), self.whole[command]
        words = "".join((said.errors + said.output).split())  # lines are broken where they are long
        named = any("".join(name.split()) in words for name in names(damage))
        if said.code == 2 and named:
            return "refused"
        if said.code == 0 and said.result == whole.result:
            return "made anew" if command.writes and named else "unused"
        if said.code == 0 and command.writes and named:
            return "left undone"
        self.silent.append(f"{damage.file} {damage.how}: {command.line}: exit code {said.code}, {said.errors.strip()[-300:]!r}")
        print(f"SILENT: {self.silent[-1]}", flush=True)
        return "SILENT"

    def _readers(self, file: str, turn: int) -> list[Command]:
        """Of the commands that open a file of the whole run one of each name, another one in each turn."""
        readers: dict[str, list[Command]] = collections.defaultdict(list)
        for command, said in self.whole.items():
            if file in said.opened:
                readers[command.name].append(command)
        return [those[turn % len(those)] for those in readers.values()]

    def _differ(self, one: str, other: str) -> bool:
        return (self.run / one).read_bytes() != (self.run / other).read_bytes()

    def _line(self, found: list[dict[str, list[str]]]) -> str:
        sums: collections.Counter[str] = collections.Counter()
        by: dict[str, set[str]] = collections.defaultdict(set)
        for outcomes in found:
            for outcome, who in outcomes.items():
                sums[outcome] += len(who)
                by[outcome].update(who)
        return (
            "; ".join(f"{sums[outcome]} {outcome} ({', '.join(sorted(by[outcome]))})" for outcome in sums)
            or "opened by no reader"
        )


STAGES_AFTER, STAGES_EVERY = "flipped at the middle", 4
MODELS = ("teacher", "0-small.base", "0-small.all", "0-small.gold", "1-large.all")


def _short(asked: list[Command]) -> set[str]:
    """One command line of each kind that reads; of exports also one of an adapter."""
    readers = {command.name: command.line for command in reversed(asked) if not command.writes}
    return {*readers.values(), next(command.line for command in asked if "--adapter" in command.line)}


def names(damage: Damage) -> list[str]:
    """What must be found in a refusal: the file, the sealed directory that it lies in, or other words for it."""
    sealed = re.match(r".*/checkpoints/\d+", damage.file)
    # Without its experiment a directory is no run.
    none = ["is not a run", "nor a run"] if damage.file == "experiment.json" else []
    return [damage.file, *([sealed[0]] if sealed else []), *none, *damage.also]


def problems(run: Path) -> dict[str, str]:
    """A problem of each split, and of each rung's part of the pool."""
    from w2sr_jax.core import records
    from w2sr_jax.core.records import Problem

    found = {}
    for split in ("pretrain", "teacher", "pool", "probe", "test"):
        rows = records.read(run / "problems" / f"{split}.parquet", Problem)
        found[split] = rows[0].id
        if split == "pool":
            found["the pool's end"] = rows[-1].id
    return found


if __name__ == "__main__":
    sys.exit(main())

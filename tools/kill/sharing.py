"""A run that takes its stages from the undisturbed one beside it, killed while it takes them: it ends the same, and the other run
stays as it was."""

import hashlib
import random
import re
from pathlib import Path

import check
from attempts import Runs, Strike
from moments import START, TAKEN

BESIDE, NAME = "undisturbed", "sharing"
NOT_TAKEN = re.compile(
    r"(timings\.jsonl|sittings\.jsonl|sampling\.json|drawn/settings\.json|drawn/drawn-\d+\.parquet|references/.*)$"
)
"""What a stage notes for itself, without which its work stands."""


def campaign(runs: Runs, kills: int, chance: random.Random) -> tuple[int, list[str]]:
    """Kill a run after it has taken so many files, go on with it, kill it again, and let it finish; how many kills were
    delivered, and what went wrong, as sentences."""
    root = runs.directory / BESIDE
    undisturbed, before = check.snapshot(root / "ladder"), _digests(root / "ladder")
    undisturbed = undisturbed._replace(files={name for name in undisturbed.files if not NOT_TAKEN.search(name)})
    most = len(undisturbed.files) // (kills + 1)
    delivered, said = 0, list[str]()
    for number in range(kills):
        strike = Strike(TAKEN.name, 0.0, number, TAKEN, START, chance.randrange(most))
        ended = runs.run(NAME, strike, beside=BESIDE)
        delivered += ended.struck and ended.code != 0
        said += ended.said
    said += runs.run(NAME, beside=BESIDE).said
    said += check.unlike(undisturbed, root / NAME, without="report")  # which has the run's name in it
    after = _digests(root / "ladder")
    unequal = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    said += [f"{name} of the run that it takes from is not as it was" for name in unequal]
    return delivered, [f"{NAME}: {words}" for words in said]


def _digests(run: Path) -> dict[str, str]:
    paths = (path for path in sorted(run.rglob("*")) if path.is_file())
    return {path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

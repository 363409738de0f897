"""Kill a small ladder again and again, at chosen and at random moments, run the same command again, and compare what comes out
with an undisturbed run; at last one that takes its stages from that run.

    .venv/bin/python tools/kill/kill.py --kills 100 --terminations 10       the long setting: 28 minutes on two busy cores
    .venv/bin/python tools/kill/kill.py --short                             a dozen kills, 2.5 minutes of CPU time; runs in CI
    .venv/bin/python tools/kill/kill.py --learning                          a ladder of models that learn from their own answers

Exit code 0: every finished ladder has the digests, the traces and the metrics of the undisturbed run, nothing was left behind, no
process outlived its parent, and every SIGTERM ended in time with code 143. 1: something of this failed; it is said what.
"""

import argparse
import collections
import fnmatch
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import check
import sharing
from attempts import Runs, Strike
from moments import DURING, EVERY, LEARNING, MOMENTS, START
from surroundings import add_options, carried_out

SHORT = (
    "sampling",
    "grading",
    "Parquet written, not in place",
    "curating",
    "packing",
    "in a training step",
    "in an asynchronous save",
    "checkpoint's digests not in place",
    "removing an old checkpoint",
    "evaluating",
    "manifest not in place",
    "rendering the report",
)
LEARNERS = (*(moment.name for moment in LEARNING), "in an asynchronous save", "writing metrics", "manifest not in place")
AT_RANDOM = "at a random instant"
TERMINATED = "SIGTERM at a random instant"
SHARE_AT_RANDOM = 0.2
EARLY = 0.5  # part of the undisturbed run's time for a call in which it is killed: that run compiles, later ones do not
TRIES = 3  # ladders in which a kill may be missed because the ladder finished first


def deck(
    kills: int, terminations: int, names: tuple[str, ...], calls: list[dict[str, Any]], seconds: float, chance: random.Random
) -> list[Strike]:
    """What is to be delivered: every moment about equally often, at a call and an instant drawn at random, and the rest at random
    instants of the whole run."""
    known = {moment.name: moment for moment in EVERY}
    at_random = 0 if kills <= len(names) else max(1, round(SHARE_AT_RANDOM * kills))
    strikes = []
    for number in range(kills - at_random):
        moment = known[names[number % len(names)]]
        candidates = [call for call in calls if call["moment"] == moment.name and fnmatch.fnmatch(call["stage"], moment.within)]
        weights = [call["seconds"] if moment.alone else 1.0 for call in candidates]
        (call,) = chance.choices(candidates, weights)
        delay = chance.random() * EARLY * call["seconds"] if moment.when == DURING else 0.0
        strikes.append(Strike(moment.name, delay, call["begins"], moment, call["stage"], call["call"]))
    for label, count, signal_number in ((AT_RANDOM, at_random, signal.SIGKILL), (TERMINATED, terminations, signal.SIGTERM)):
        for _ in range(count):
            delay = chance.random() * 0.4 * seconds
            strikes.append(Strike(label, delay, chance.random() * seconds, number=signal_number))
    chance.shuffle(strikes)
    return strikes


def campaign(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Undisturbed runs, then ladders with kills until all are delivered; the counts and everything that went wrong."""
    ladder = "learning_ladder.py" if arguments.learning else "ladder.py"
    runs, began, said = Runs(directory, ladder), time.monotonic(), list[str]()
    if not arguments.short:
        said += runs.run("uncached", cache="").said
    ended = runs.run("undisturbed", cache="write", calls=directory / "calls.json")
    said += ended.said
    if ended.code != 0:
        return {"verdict": False, "failures": [*said, "the undisturbed run did not finish"]}
    undisturbed = check.snapshot(directory / "undisturbed" / "ladder")
    if not arguments.short:
        said += [f"uncached: {words}" for words in check.unlike(undisturbed, directory / "uncached" / "ladder")]
    calls = json.loads((directory / "calls.json").read_text())
    runs.stages = list(dict.fromkeys(call["stage"] for call in calls if call["stage"] != START))
    every = LEARNERS if arguments.learning else tuple(moment.name for moment in MOMENTS)
    names = SHORT if arguments.short else every
    missing = [name for name in names if not any(call["moment"] == name for call in calls)]
    said += [f"the ladder has no moment {name!r}" for name in missing]
    names = tuple(name for name in names if name not in missing)
    waiting = deck(arguments.kills, arguments.terminations, names, calls, ended.seconds, random.Random(arguments.seed))

    delivered: collections.Counter[str] = collections.Counter()
    inside: collections.Counter[str] = collections.Counter()
    missed: collections.Counter[Strike] = collections.Counter()
    slowest, ladders = 0.0, 0
    while waiting:
        name = f"ladder-{ladders}"
        ladders += 1
        hand = sorted(waiting[: arguments.per_ladder], key=lambda strike: strike.order)
        del waiting[: arguments.per_ladder]
        finished = False
        while not finished:
            strike = hand.pop(0) if hand else None
            ended = runs.run(name, strike)
            said += [f"{name}, {strike.label if strike else 'to the end'}: {words}" for words in ended.said]
            if strike is not None and ended.struck and ended.code != 0:
                delivered[strike.label] += 1
                inside[strike.label] += ended.inside
                slowest = max(slowest, ended.waited if strike.label == TERMINATED else 0.0)
                if arguments.verbose:
                    print(f"{name}: {strike.label} in {strike.stage or 'any stage'}, {ended.seconds:.1f} s", flush=True)
            elif strike is not None:
                missed[strike] += 1
                hand.insert(0, strike)
            finished = ended.code == 0 or len(said) > 20
        waiting += [strike for strike in hand if missed[strike] < TRIES]
        said += [f"{name}: {words}" for words in check.unlike(undisturbed, directory / name / "ladder")]
        if len(said) > 20:
            said.append("given up after so many failures")
            break
        if not any(words.startswith(f"{name}") for words in said):
            shutil.rmtree(directory / name)
    taking, wrong = sharing.campaign(runs, arguments.taking, random.Random(arguments.seed))
    said += wrong
    never = [strike.label for strike, times in missed.items() if times >= TRIES]
    said += [f"never delivered: {label}, since the ladder finished first {TRIES} times" for label in never]
    kills = sum(count for label, count in delivered.items() if label != TERMINATED)
    return {
        "verdict": not said and kills >= arguments.kills and taking == arguments.taking,
        "kills": kills,
        "terminations": delivered[TERMINATED],
        "taking": taking,
        "slowest_termination": round(slowest, 1),
        "ladders": ladders,
        "moments": {label: {"kills": delivered[label], "inside": inside[label]} for label in sorted(delivered)},
        "failures": said,
        "seconds": round(time.monotonic() - began, 1),
    }


def text(report: Mapping[str, Any]) -> str:
    lines = [f"{'moment':<36}{'kills':>6}  while at it"]
    lines += [f"{label:<36}{row['kills']:>6}{row['inside']:>8}" for label, row in report.get("moments", {}).items()]
    lines += [f"FAILED: {words}" for words in report["failures"]]
    if "kills" in report:
        lines.append(
            f"{report['kills']} kills, {report['taking']} while taking another run's stages, and {report['terminations']} "
            f"terminations (the slowest took "
            f"{report['slowest_termination']} s) in {report['ladders']} ladders, "
            f"{report['seconds']:.0f} s: {'all digests as undisturbed' if report['verdict'] else 'FAILED'}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=None, help="SIGKILLs to deliver (default: 100; short: 12; learning: 30)")
    parser.add_argument("--terminations", type=int, default=None, help="SIGTERMs to deliver (default: 10; short: 1; learning: 6)")
    parser.add_argument("--taking", type=int, default=None, help="SIGKILLs while stages are taken (default: 10, or 2)")
    parser.add_argument("--per-ladder", type=int, default=None, help="kills before a ladder may finish (default: 10; short: 7)")
    parser.add_argument("--seed", type=int, default=0, help="which calls and instants are drawn")
    parser.add_argument("--short", action="store_true", help="each of the most telling moments once")
    parser.add_argument("--learning", action="store_true", help="trainings on a model's own answers and on pairs, 30 kills")
    add_options(parser)
    arguments = parser.parse_args()
    settings = {"kills": (100, 12, 30), "terminations": (10, 1, 6), "taking": (10, 2, 2), "per_ladder": (10, 7, 10)}
    for name, (long, short, learning) in settings.items():
        value = short if arguments.short else learning if arguments.learning else long
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    return carried_out(arguments, campaign, text)


if __name__ == "__main__":
    sys.exit(main())

"""Kill, terminate and stop single processes among several that do a small ladder together, run the same command again, and
compare every digest with an undisturbed ladder of as many processes.

    .venv/bin/python tools/kill/hosts.py --processes 2 --strikes 30       the long setting: about a minute a strike on two cores
    .venv/bin/python tools/kill/hosts.py --processes 4 --strikes 30
    .venv/bin/python tools/kill/hosts.py --root gs://BUCKET/PREFIX        no shared disk: each process has a directory of its own
    .venv/bin/python tools/kill/hosts.py --short                          four strikes
    .venv/bin/python tools/kill/hosts.py --learning --strikes 10          own answers and pairs, 2 × 4 devices

A third of the strikes each is SIGKILL, SIGTERM and SIGSTOP (after which the process is continued once the others have ended).
They are aimed at calls of functions in every kind of stage, and some at random instants. The others must end within two minutes,
naming the process, with an exit code after which a cluster starts again; after SIGTERM all must end with 143 within the notice.
"""

import argparse
import collections
import dataclasses
import fnmatch
import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import check
from joint import Ended, Shared, Strike
from moments import DURING, EVERY, INTERVENING, LEARNING, START
from surroundings import add_options, carried_out

KINDS = ("problems", "tokenizer", "train", "traces", "curation", "evaluation", "faithfulness", "report")
LEARNERS = ("own answers",)
OVER_DEVICES = ("--mesh.data", "2", "--mesh.fsdp", "4")
ANYWHERE = "anywhere"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)
SHORT = ((signal.SIGKILL, "train"), (signal.SIGTERM, "traces"), (signal.SIGKILL, "evaluation"), (signal.SIGSTOP, "curation"))
TRIES = 3  # attempts to deliver a strike before it counts as undeliverable
MOST = 12  # failures after which a campaign gives up

Calls = Sequence[Sequence[Mapping[str, Any]]]


def kind_of(call: Mapping[str, Any]) -> str:
    """The kind of stage that a call belongs to."""
    if call["moment"] == INTERVENING.name:
        return "faithfulness"
    if call["moment"] in {moment.name for moment in LEARNING}:
        return "own answers"
    name = str(call["stage"])
    ends = {"/train": "train", "/curation": "curation"}
    begins = {"problems": "problems", "tokenizer": "tokenizer", "evaluations/": "evaluation", "report": "report"}
    by_end = next((kind for end, kind in ends.items() if name.endswith(end)), None)
    by_begin = next((kind for begin, kind in begins.items() if name.startswith(begin)), None)
    return by_end or by_begin or ("traces" if "/traces-" in name else "")


def deck(
    count: int, calls: Calls, seconds: float, chance: random.Random, short: bool, kinds: Sequence[str] = KINDS
) -> list[Strike]:
    """Strikes on all kinds and with all signals in turn, every fifth at a random instant; shuffled."""
    if short:
        pairs = [(number, kind) for number, kind in SHORT]
    else:
        pairs = [(SIGNALS[i % 3], ANYWHERE if i % 5 == 4 else kinds[(i - i // 5) % len(kinds)]) for i in range(count)]
    strikes = [aimed(number, kind, calls, seconds, chance) for number, kind in pairs]
    chance.shuffle(strikes)
    return strikes


def aimed(number: int, kind: str, calls: Calls, seconds: float, chance: random.Random) -> Strike:
    """A strike in a kind of stage, at a call of the process that gets it, or of process 0 where that one alone is at work."""
    process = chance.randrange(len(calls))
    if kind == ANYWHERE:
        delay = chance.uniform(0, seconds)
        return Strike(ANYWHERE, kind, process, process, number, delay, delay)
    moments = {moment.name: moment for moment in EVERY}

    def fits(call: Mapping[str, Any], watched: int) -> bool:
        moment = moments[call["moment"]]
        itself = moment.when != DURING
        outside = kind_of(call) != kind or not fnmatch.fnmatch(call["stage"], moment.within)
        return not outside and not (itself and (number != signal.SIGKILL or watched != process))

    own = [call for call in calls[process] if fits(call, process)]
    watched = process if own else 0
    # One moment is as good as another, however often it is called.
    by_moment: dict[str, list[Mapping[str, Any]]] = {}
    for call in own or [call for call in calls[0] if fits(call, 0)]:
        by_moment.setdefault(call["moment"], []).append(call)
    call = chance.choice(by_moment[chance.choice(sorted(by_moment))])
    moment = moments[call["moment"]]
    delay = 0.0 if moment.when != DURING else chance.uniform(0, float(call["seconds"]))
    return Strike(moment.name, kind, process, watched, number, delay, call["begins"], moment, call["stage"], call["call"])


def campaign(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """All strikes of one number of processes; the counts, and what went wrong, as sentences."""
    began, chance = time.monotonic(), random.Random(arguments.seed)
    own = ("learning_ladder.py", OVER_DEVICES, 8 // arguments.processes) if arguments.learning else ()
    runs = Shared(directory, arguments.processes, arguments.root or str(directory / "root"), *own)
    if "://" not in runs.root:
        Path(runs.root).mkdir(parents=True, exist_ok=True)
    ended = runs.run("undisturbed", calls=True)
    said = [f"undisturbed: {words}" for words in ended.said]
    if said:
        return {"verdict": False, "failures": said}
    undisturbed = check.snapshot(runs.fetched("undisturbed"))
    calls = [json.loads((directory / f"calls-{index}.json").read_text()) for index in range(arguments.processes)]
    runs.stages = list(dict.fromkeys(call["stage"] for call in calls[0] if call["stage"] != START))
    waiting = deck(arguments.strikes, calls, ended.seconds, chance, arguments.short, LEARNERS if arguments.learning else KINDS)
    tally, ladders = Tally(), 0
    while waiting and len(tally.said) < MOST:
        name, ladders = f"ladder-{ladders}", ladders + 1
        hand = sorted(waiting[: arguments.per_ladder], key=lambda strike: strike.order)
        del waiting[: arguments.per_ladder]
        before = len(tally.said)
        if ladder(runs, name, hand, tally, arguments.verbose):
            tally.said += [f"{name}: {words}" for words in check.unlike(undisturbed, runs.fetched(name))]
        waiting += [strike for strike in hand if tally.missed[strike] < TRIES]
        if len(tally.said) == before and "://" not in runs.root:
            shutil.rmtree(Path(runs.root) / name)
    never = [f"{strike.label} in {strike.kind}" for strike, times in tally.missed.items() if times >= TRIES]
    return {
        "verdict": not tally.said,
        "processes": arguments.processes,
        "root": "a bucket" if "://" in runs.root else "a directory",
        "strikes": sum(tally.delivered.values()),
        "ladders": ladders,
        "delivered": {f"{kind}, {number}": times for (kind, number), times in sorted(tally.delivered.items())},
        "never delivered": never,
        "slowest": {number: round(seconds, 1) for number, seconds in sorted(tally.slowest.items())},
        "failures": tally.said,
        "seconds": round(time.monotonic() - began, 1),
    }


@dataclasses.dataclass
class Tally:
    """Strikes that were delivered, by kind of stage and signal; those that came too late; the longest time until the others had
    ended, by signal; what went wrong, as sentences."""

    delivered: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=collections.Counter)
    missed: collections.Counter[Strike] = dataclasses.field(default_factory=collections.Counter)
    slowest: dict[str, float] = dataclasses.field(default_factory=dict)
    said: list[str] = dataclasses.field(default_factory=list)

    def take(self, strike: Strike, ended: Ended) -> None:
        number = signal.Signals(strike.number).name
        stage = kind_of({"moment": "", "stage": ended.stage}) or "start"
        self.delivered[f"{ANYWHERE} ({stage})" if strike.kind == ANYWHERE else strike.kind, number] += 1
        self.slowest[number] = max(self.slowest.get(number, 0.0), ended.waited)


def ladder(runs: Shared, name: str, hand: list[Strike], tally: Tally, verbose: bool) -> bool:
    """One ladder, struck by all of `hand` and then left alone, to its end; those that it does not come to stay in `hand`. Whether
    it has finished."""
    while len(tally.said) < MOST:
        strike = hand.pop(0) if hand else None
        ended = runs.run(name, strike)
        words = "to the end"
        if strike is not None:
            words = f"{signal.Signals(strike.number).name} to {strike.process}, {strike.label}"
            if ended.struck and not ended.finished:
                tally.take(strike, ended)
            else:
                tally.missed[strike] += 1
                hand.insert(0, strike)
        at = f"{name}: {words} in {ended.stage or 'no stage'}"
        tally.said += [f"{at}: {each}" for each in ended.said]
        if verbose:
            after = f", {ended.waited:.1f} s after the signal" if ended.struck else ""
            print(f"{at}: codes {ended.codes}{after}; {ended.seconds:.0f} s in all", *ended.said, sep="\n    ", flush=True)
        if ended.finished:
            return True
    return False


def text(report: Mapping[str, Any]) -> str:
    lines = [f"{name:<40}{times:>4}" for name, times in report.get("delivered", {}).items()]
    lines += [f"never delivered, since the ladder finished first: {words}" for words in report.get("never delivered", ())]
    lines += [f"FAILED: {words}" for words in report["failures"]]
    if "strikes" in report:
        slowest = ", ".join(f"{seconds:.1f} s after {number}" for number, seconds in report["slowest"].items())
        lines.append(
            f"{report['strikes']} strikes on one of {report['processes']} processes, root {report['root']}, {report['ladders']} "
            f"ladders, {report['seconds']:.0f} s; the others had ended at most {slowest}: "
            f"{'all digests as undisturbed' if report['verdict'] else 'FAILED'}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, help="how many do the ladder together (default: 2)")
    parser.add_argument("--strikes", type=int, default=30, help="signals to deliver (default: 30)")
    parser.add_argument("--per-ladder", type=int, default=10, help="strikes before a ladder may finish (default: 10)")
    parser.add_argument("--root", default="", help="a place in a bucket instead of a directory")
    parser.add_argument("--seed", type=int, default=0, help="which calls and instants are drawn")
    parser.add_argument("--short", action="store_true", help="four strikes, one ladder")
    parser.add_argument("--learning", action="store_true", help="strike trainings on own answers and on pairs, over 8 devices")
    add_options(parser)
    arguments = parser.parse_args()
    return carried_out(arguments, campaign, text)


if __name__ == "__main__":
    sys.exit(main())

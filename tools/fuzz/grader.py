"""Hostile answers through the grader: nothing hangs, nothing grows, nothing remains, and honest answers are graded as ever.

    .venv/bin/python tools/fuzz/grader.py --cases 10000 --seed 0     # a quarter of an hour on two cores
    .venv/bin/python tools/fuzz/grader.py --short                    # under half a minute, as the tests do
    .venv/bin/python tools/fuzz/grader.py --throughput               # honest answers with and without hostile neighbours
    .venv/bin/python tools/fuzz/grader.py --labels answer_pairs.jsonl  # every disagreement with labelled answers

A case follows from (seed, number) alone. Checked are: a verdict for every case, and the right one for honest cases; processor
time of each function that runs in this process, per text; this process's memory; memory, processor time and time on the clock of
each worker's try; that no injected code ran; that no process outlives the call. Exit code 1 on any violation. Linux only.
"""

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parent), str(HERE.parents[2])]

import answer_cases  # noqa: E402
from watch import Watch, resident  # noqa: E402

from w2sr_jax.answers import grade as grading  # noqa: E402
from w2sr_jax.answers import pool  # noqa: E402
from w2sr_jax.answers.extract import extract  # noqa: E402
from w2sr_jax.answers.quality import loops  # noqa: E402
from w2sr_jax.answers.steps import final_consistent  # noqa: E402
from w2sr_jax.core import files  # noqa: E402
from w2sr_jax.core.records import Verdict  # noqa: E402
from w2sr_jax.evaluation.process import overruns  # noqa: E402

SHORT, SHORT_TIMEOUT = 108, 0.6
IN_PROCESS = 3.0  # processor seconds of one function on one text of up to 100,000 characters
GROWTH = 512 << 20  # bytes that this process may grow by
SLACK = 0.6  # processor seconds by which the kernel may be late, and clock ticks
VERDICTS = {"correct", "incorrect", "unparsed", "ungraded"}
FUNCTIONS: dict[str, Callable[[str], object]] = {
    "extract": extract,
    "bare": grading.bare,
    "canonical": grading.canonical,
    "steps": lambda text: final_consistent(text, "5"),
    "loops": loops,
    "overruns": overruns,
}


@dataclass
class Findings:
    """What was measured over a run, and every violation in words."""

    verdicts: list[Verdict] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    slowest: dict[str, tuple[float, str]] = field(default_factory=dict)  # by kind: processor seconds in this process, function
    grading: dict[str, float] = field(default_factory=dict)  # by kind: processor seconds of extraction and exact comparison
    violations: list[str] = field(default_factory=list)
    seconds: float = 0.0
    growth: int = 0
    watch: Watch = field(default_factory=Watch)


def fuzz(cases: int, seed: int, timeout: float, workers: int, memory: int = grading.MEMORY) -> Findings:
    """Grade `cases` hostile answers; only where processes can be watched."""
    found = Findings()
    begun = time.monotonic()
    before = resident()
    made = [answer_cases.case(seed, number) for number in range(cases)]
    found.kinds = [kind for kind, _, _ in made]
    texts_take = resident() - before
    for number, (kind, text, gold) in enumerate(made):
        for name, function in FUNCTIONS.items():
            for argument in {text, gold or ""} if name in ("bare", "canonical") else {text}:
                start = time.process_time()
                try:
                    function(argument)
                except Exception as error:
                    found.violations.append(f"case {number} ({kind}): {name} raised {type(error).__name__}: {str(error)[:80]}")
                took = time.process_time() - start
                found.slowest[kind] = max(found.slowest.get(kind, (0.0, "")), (took, name))
                if took > IN_PROCESS:
                    found.violations.append(f"case {number} ({kind}): {name} took {took:.1f} s of {len(argument)} characters")
    canaries = [Path(answer_cases.CANARY)]
    with found.watch as watch:
        found.verdicts = grading.grade([(text, gold) for _, text, gold in made], workers, timeout, _progress(cases), memory)
    found.growth = resident() - before - texts_take
    found.seconds = time.monotonic() - begun
    _judge(found, cases, timeout, memory)
    if watch.remaining:
        found.violations.append(f"{len(watch.remaining)} worker processes outlived the call")
    found.violations += [f"injected code ran: {path} exists" for path in canaries if path.exists()]
    return found


def _judge(found: Findings, cases: int, timeout: float, memory: int) -> None:
    if len(found.verdicts) != cases:
        found.violations.append(f"{len(found.verdicts)} verdicts for {cases} cases")
    for number, (kind, verdict) in enumerate(zip(found.kinds, found.verdicts)):
        if verdict.verdict not in VERDICTS:
            found.violations.append(f"case {number} ({kind}): verdict {verdict.verdict!r}")
        if kind == "honest" and verdict.verdict != "correct":
            found.violations.append(f"case {number} ({kind}): {verdict}")
    watch = found.watch
    limit = pool.WALL[0] + pool.WALL[1] * timeout + pool.SPARE
    for name, value, most in (
        ("processor seconds of a worker's try", watch.processor, timeout + SLACK),
        ("seconds of a worker's try", watch.wall, limit + 1),
        ("bytes of a worker", watch.memory, memory or float("inf")),
        ("bytes that this process grew by", found.growth, GROWTH),
    ):
        if value > most:
            found.violations.append(f"{name}: {value:,.1f}, allowed {most:,.1f}")


def table(found: Findings) -> str:
    """One line per kind: verdicts, who decided or why not, the slowest function in this process."""
    lines = [f"{'kind':<12}{'cases':>7}{'right':>7}{'wrong':>7}{'unparsed':>9}{'ungraded':>9}  {'slowest here':<20}decided by"]
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for kind, verdict in zip(found.kinds, found.verdicts):
        groups[kind].append(verdict)
    for kind, verdicts in [*groups.items(), ("all", found.verdicts)]:
        count = Counter(verdict.verdict for verdict in verdicts)
        graders = ", ".join(f"{name} {n}" for name, n in Counter(verdict.grader for verdict in verdicts).most_common())
        took, name = found.slowest.get(kind) or max(found.slowest.values())
        shares = f"{count['correct']:>7}{count['incorrect']:>7}{count['unparsed']:>9}{count['ungraded']:>9}"
        lines.append(f"{kind:<12}{len(verdicts):>7}{shares}  {f'{1000 * took:.0f} ms {name}':<20}{graders}")
    watch = found.watch
    lines.append(
        f"\nworkers: {watch.memory / 2**20:.0f} MiB at most, {watch.processor:.2f} processor seconds and {watch.wall:.1f} s a"
        f" try; this process grew by {found.growth / 2**20:.0f} MiB; {found.seconds:.0f} s in all;"
        f" {len(found.violations)} violations"
    )
    return "\n".join(lines)


def throughput(seed: int, timeout: float, workers: int, count: int = 400, hostile: int = 20) -> str:
    """Honest comparisons alone and among hostile ones, in turns: the workers' time they take and when the last is done."""
    honest = [
        answer_cases.case(seed, number) for number in range(0, 3 * count * len(answer_cases.KINDS), len(answer_cases.KINDS))
    ]
    pairs = list(dict.fromkeys((extract(text).answer or "", str(gold)) for _, text, gold in honest))
    pairs = [pair for pair in pairs if grading.grade_one(*pair) is None][:count]
    bombs = [(f"(x+{i})^{{9999}}", "\\frac{x}{2}") for i in range(1, hostile + 1)]
    mixed = pairs.copy()
    for position, bomb in enumerate(bombs):
        mixed.insert(position * (len(pairs) // len(bombs) + 1), bomb)
    lines = ["honest comparisons: worker milliseconds each, seconds until the last is done, right of all"]
    for name, items in (("alone", pairs), (f"among {hostile} bombs", mixed), ("alone", pairs), (f"among {hostile} bombs", mixed)):
        with Watch() as watch:
            outcomes = pool.compare(items, workers, timeout, grading.MEMORY)
        own = [index for index, pair in enumerate(items) if pair[0] not in {bomb for bomb, _ in bombs}]
        mean = 1000 * sum(watch.seconds[index] for index in own) / len(own)
        last = max(watch.settled[index] for index in own)
        right = sum(outcomes[index].equal is True for index in own)
        lines.append(f"  {name:<18}{mean:8.1f} ms{last:8.1f} s   {right} of {len(own)}")
    return "\n".join(lines)


def disagreements(path: Path, timeout: float, workers: int) -> tuple[int, int, list[str]]:
    """(rows that agree, rows, a line for every one that does not) of labelled answers without unaudited and conventional ones."""
    with files.open_lines(path) as file:
        rows = [json.loads(line) for line in file]
    rows = [row for row in rows if row.get("audit") not in ("unchecked", "convention", "suspect")]
    texts = [row["prediction"] if row["kind"] == "text_with_answer" else f"#### {row['prediction']}" for row in rows]
    verdicts = grading.grade([(text, row["gold"]) for text, row in zip(texts, rows)], workers, timeout)
    lines = [
        f"{row['id']} ({row['kind']}, {row['audit']}): label {'equal' if row['equal'] else 'unequal'}, ours {verdict.verdict}"
        f" by {verdict.grader}; gold {row['gold'][:80]!r}, prediction {row['prediction'][-80:]!r}, read {verdict.answer!r}"
        for row, verdict in zip(rows, verdicts)
        if (verdict.verdict == "correct") != row["equal"]
    ]
    return len(rows) - len(lines), len(rows), lines


def _progress(total: int) -> Callable[[int, int], None]:
    shown = [time.monotonic()]

    def progress(done: int, _: int) -> None:
        if time.monotonic() - shown[0] > 15:
            shown[0] = time.monotonic()
            print(f"  {done} of {total}", file=sys.stderr, flush=True)

    return progress


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--timeout", type=float, default=grading.TIMEOUT, help="processor seconds for an item")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--short", action="store_true", help=f"{SHORT} cases of {SHORT_TIMEOUT} s")
    parser.add_argument("--throughput", action="store_true", help="measure honest answers among hostile ones")
    parser.add_argument("--labels", type=Path, help="list disagreements with a file of labelled answers")
    given = parser.parse_args(arguments)
    if given.labels:
        agree, rows, lines = disagreements(given.labels, given.timeout, given.workers)
        print(*lines, f"{agree} of {rows} agree: {100 * agree / rows:.2f} %", sep="\n")
        return int(agree < 0.98 * rows)
    if given.throughput:
        print(throughput(given.seed, given.timeout, given.workers))
        return 0
    cases, timeout = (SHORT, SHORT_TIMEOUT) if given.short else (given.cases, given.timeout)
    found = fuzz(cases, given.seed, timeout, given.workers)
    print(table(found), *(f"VIOLATION {violation}" for violation in found.violations), sep="\n")
    return int(bool(found.violations))


if __name__ == "__main__":
    raise SystemExit(main())

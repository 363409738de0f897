"""Controls that match another arm: worked solutions on its problems, problems as hard as its own, wrong traces for right ones."""

import bisect
import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

from w2sr_jax.core.errors import UserError
from w2sr_jax.curation.arms import VERDICTS
from w2sr_jax.curation.controls import (
    GOLD_INSTEAD,
    Control,
    Draw,
    Piece,
    Row,
    Seen,
    as_they_are,
    check_share,
    order,
    rounded,
    solutions,
)
from w2sr_jax.curation.settings import Curation


@dataclasses.dataclass(frozen=True)
class GoldMatched(Control):
    """Worked solutions of the problems of which the arm has traces, each as often as the arm has traces of the problem: what
    gold would have done with the same problems, where the ceiling has all problems. Those without a solution are left out, and
    counted in traces."""

    @property
    def untaught(self) -> bool:
        return True

    @property
    def verdicts(self) -> tuple[int, ...]:
        return (1,)

    def draw(self, rows: Sequence[Row], settings: Curation) -> Draw:
        pieces = {row.problem: solutions(row, len(row.kept)) for row in rows if row.kept and row.solved}
        reasons = {trace.id: GOLD_INSTEAD for row in rows if row.problem in pieces for trace in row.kept}
        reasons |= {trace.id: "no_solution" for row in rows if not row.solved for trace in row.kept}
        return Draw(pieces, reasons, {"no_solution": sum(len(row.kept) for row in rows if not row.solved)})


@dataclasses.dataclass(frozen=True)
class DifficultyMatched(Control):
    """As many examples as the arm has, on problems that are as hard: the arm's problems, in a random order, each get the problem
    with exactly as many right ones of exactly as many graded traces of all teachers, and of those that are left the one whose
    traces have the nearest mean length in tokens (of equally near ones a random one). Problems for which none is left are not
    matched, and counted in traces.

    An arm of all right traces leaves no problem with a right trace to others: these need an arm that is limited
    (`Curation.limit`).
    """

    among: Literal["all", "others", "gold"] = "all"
    """Of which problems: all, the arm's own among them, which are then mostly matched with themselves and learnt from traces of
    any verdict; others than the arm's; or others with their worked solutions."""

    def __post_init__(self) -> None:
        if self.among not in ("all", "others", "gold"):
            raise UserError(f"DifficultyMatched.among is {self.among!r}; it may be 'all', 'others' or 'gold'")

    @property
    def untaught(self) -> bool:
        return self.among == "gold"

    @property
    def verdicts(self) -> tuple[int, ...]:
        return (1,) if self.among == "gold" else VERDICTS

    def draw(self, rows: Sequence[Row], settings: Curation) -> Draw:
        ties = {row.problem: place for place, row in enumerate(order(rows, settings.seed, "matched ties"))}
        strata: dict[tuple[int, int], list[tuple[float, int, Row]]] = defaultdict(list)
        for row in rows:
            usable = row.solved if self.among == "gold" else bool(row.traces)
            if usable and (self.among == "all" or not row.kept):
                strata[row.right, row.graded].append((row.length, ties[row.problem], row))
        for stratum in strata.values():
            stratum.sort(key=lambda entry: entry[:2])
        pieces: dict[str, list[Piece]] = {}
        unmatched = own = 0
        apart = 0.0
        targets = order([row for row in rows if row.kept], settings.seed, "matched")
        for target in targets:
            count, stratum = len(target.kept), strata[target.right, target.graded]
            if not stratum:
                unmatched += count
                continue
            row = stratum.pop(_nearest(stratum, target.length))[2]
            pieces[row.problem] = (
                solutions(row, count) if self.among == "gold" else as_they_are(row, row.traces[: min(count, len(row.traces))])
            )
            unmatched += count - len(pieces[row.problem])
            own += bool(row.kept)
            apart += abs(row.length - target.length)
        reasons = {}
        if self.among == "gold":
            reasons = {trace.id: GOLD_INSTEAD for row in rows if row.problem in pieces for trace in row.traces}
        counts = {
            "unmatched": unmatched,
            "problems_of_the_arm": own,
            "mean_length_apart": apart / len(pieces) if pieces else 0.0,
        }
        return Draw(pieces, reasons, counts)


def _nearest(stratum: Sequence[tuple[float, int, Row]], length: float) -> int:
    """The place of the entry of the nearest length in a sorted stratum; of equally near ones that with the lowest tie."""

    def first(of: float) -> int:
        return bisect.bisect_left(stratum, of, key=lambda entry: entry[0])

    above = first(length)
    places = [above] if above < len(stratum) else []
    if above:
        places.append(first(stratum[above - 1][0]))  # of equal ones the first has the lowest tie
    return min(places, key=lambda place: (abs(stratum[place][0] - length), stratum[place][1]))


@dataclasses.dataclass(frozen=True)
class Corrupted(Control):
    """The arm's right traces, a share of which is replaced by wrong traces of the same problems, from the same teachers: injected
    noise that was really written.

    All shares have the same problems and the same number of examples: those of which there is a right trace of the arm and a
    wrong one for each, another for every right one. A right trace gets the wrong trace of its problem that is nearest to it in
    tokens (of equally near ones that which is drawn first); the difference is counted in tokens. What a lower share has replaced,
    a higher one replaces too.
    """

    wrong: float = 0.5
    """The share of the examples that are wrong, rounded to whole examples (half up). With 0 all are right, with 1 none."""

    def __post_init__(self) -> None:
        check_share("Corrupted.wrong", self.wrong)

    @property
    def verdicts(self) -> tuple[int, ...]:
        return (1,) if self.wrong == 0 else (-1,) if self.wrong == 1 else (-1, 1)

    def draw(self, rows: Sequence[Row], settings: Curation) -> Draw:
        slots: list[tuple[Row, Seen, Seen]] = []
        reasons: dict[str, str] = {}
        for row in order(rows, settings.seed, "corrupted"):
            wrong = [trace for trace in row.traces if _is_wrong(trace, settings)]
            for trace in row.kept:
                if trace.verdict != "correct":
                    reasons[trace.id] = "not_right"
                elif not wrong:
                    reasons[trace.id] = "no_wrong_trace"
                else:
                    nearest = min(wrong, key=lambda other: abs(other.tokens - trace.tokens))
                    wrong.remove(nearest)
                    slots.append((row, trace, nearest))
        count = rounded(self.wrong, len(slots))
        pieces: dict[str, list[Piece]] = {}
        for number, (row, right, wrong_one) in enumerate(slots):
            taken = wrong_one if number < count else right
            pieces.setdefault(row.problem, []).extend(as_they_are(row, [taken]))
            if taken is wrong_one:
                reasons[right.id] = "replaced"
        named = list(reasons.values())
        counts = {
            "wrong": count,
            "no_wrong_trace": named.count("no_wrong_trace"),
            "not_right": named.count("not_right"),
            "tokens_if_right": sum(right.tokens for _, right, _ in slots),
            "tokens_if_wrong": sum(other.tokens for _, _, other in slots),
        }
        taken_ids = {piece.trace for group in pieces.values() for piece in group}
        return Draw(pieces, {key: why for key, why in reasons.items() if key not in taken_ids}, counts)


def _is_wrong(trace: Seen, settings: Curation) -> bool:
    return trace.verdict == "incorrect" or (trace.verdict == "unparsed" and settings.unparsed_is_incorrect)

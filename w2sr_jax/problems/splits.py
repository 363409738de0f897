"""Splits by problem id: disjoint, free of near-duplicates across splits, and the same whatever the order the problems come in."""

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from w2sr_jax import files
from w2sr_jax.errors import UserError
from w2sr_jax.problems.settings import Splits
from w2sr_jax.records import Problem

PRIORITY = ("test", "probe", "teacher", "pool", "pretrain")  # who keeps a problem that two splits would share
REST = -1  # as a count of the pool: all problems that the splits before it leave
NGRAM = 13
LCS_RATIO = 0.6

_WORD = re.compile(r"""\d+(?:[.,:/]\d+)*|[^\W\d_]+|[^\w\s.,;:?!"'`’‘“”$]""")


@dataclasses.dataclass(frozen=True)
class SplitReport:
    """What splitting did: problems `given`, `sizes` per split, `unused`, repeated ids, and near-duplicates left out by reason
    (`exact`, `renamed`, `overlap`), each counted under the split that would have taken them."""

    given: int
    sizes: Mapping[str, int]
    unused: int
    repeated: int
    removed: Mapping[str, Mapping[str, int]]


def split(
    problems: Sequence[Problem], splits: Splits, seed: int, test: Sequence[Problem] | None = None
) -> tuple[dict[str, list[Problem]], SplitReport]:
    """Deal problems to splits in the order of a digest of (seed, id).

    The test split is filled first, then probe, teacher, pool and pretrain; a problem that nearly equals one of an earlier split
    is left out (see `Known`). Within a split near-duplicates may stay. `test` gives the test split instead. Raises UserError
    where there are too few problems.
    """
    wanted = {field.name: int(getattr(splits, field.name)) for field in dataclasses.fields(splits)}
    for name, count in wanted.items():
        if count < 0 and not (name == "pool" and count == REST):
            raise UserError(
                f"split {name}: {count} problems cannot be; give 0 or more" + (" (or -1: the rest)" if name == "pool" else "")
            )
    if wanted["pool"] == REST:
        if wanted["pretrain"]:
            raise UserError("split pool takes the rest (-1), so nothing is left for pretrain; give pool a number, or pretrain 0")
        wanted["pool"] = len(problems)
    if test is not None and wanted["test"]:
        raise UserError(f"there are test problems of their own, so split test must be 0, not {wanted['test']}")
    unique: dict[str, Problem] = {}
    for problem in problems:
        unique.setdefault(problem.id, problem)
    queue = sorted(unique.values(), key=lambda problem: files.digest_json([seed, problem.id]))
    known = Known()
    done: dict[str, list[Problem]] = {}
    removed: dict[str, dict[str, int]] = {}
    position = 0
    for name in PRIORITY:
        chosen: list[Problem] = (
            list({problem.id: problem for problem in test}.values()) if name == "test" and test is not None else []
        )
        reasons: Counter[str] = Counter()
        while len(chosen) < wanted[name] and position < len(queue):
            problem = queue[position]
            position += 1
            reason = known.match(problem)
            if reason is None:
                chosen.append(problem)
            else:
                reasons[reason] += 1
        if len(chosen) < wanted[name] and not (name == "pool" and splits.pool == REST):
            lost = sum(reasons.values()) + sum(sum(counts.values()) for counts in removed.values())
            asked = sum(max(0, getattr(splits, split_name)) for split_name in wanted)
            raise UserError(
                f"too few problems for the splits: {asked} asked for, {len(queue)} given, {lost} of them left "
                f"out as near-duplicates across splits; {name} gets {len(chosen)} of {wanted[name]}; ask for fewer"
            )
        for problem in chosen:
            known.add(problem)
        done[name] = chosen
        removed[name] = dict(reasons)
    ordered = {name: done[name] for name in wanted}
    check_disjoint(ordered)
    sizes = {name: len(rows) for name, rows in ordered.items()}
    report = SplitReport(len(problems), sizes, len(queue) - position, len(problems) - len(unique), removed)
    return ordered, report


def check_disjoint(splits: Mapping[str, Sequence[Problem]]) -> None:
    """Raise UserError if one problem, by id or by normalised question, is in two splits."""
    owner: dict[str, str] = {}
    for name, problems in splits.items():
        for problem in problems:
            for key in (problem.id, normalised(problem.question)):
                if owner.setdefault(key, name) != name:
                    raise UserError(
                        f"problem {problem.id} is in both split {owner[key]} and split {name}; splits must not share problems"
                    )


def normalised(question: str) -> str:
    """Words, numbers and operators in lower case with single spaces between; punctuation is dropped."""
    return " ".join(_WORD.findall(question.lower()))


class Known:
    """Problems already given away, to be asked whether another one nearly equals one of them.

    `exact`: the same words and numbers. `renamed`: generated problems with equal `meta["signature"]`; two that both have a
    signature are judged by it alone. `overlap`: the same numbers in the same order, 13 words in a row in common, and a longest
    common subsequence above 0.6 of the shorter text. The same text with other numbers is another problem.
    """

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        self._exact: set[str] = set()
        self._signatures: set[str] = set()
        self._texts: list[list[str]] = []
        self._grams: dict[int, list[int]] = defaultdict(list)
        for problem in problems:
            self.add(problem)

    def add(self, problem: Problem) -> None:
        words = normalised(problem.question).split()
        self._exact.add(" ".join(words))
        if "signature" in problem.meta:
            self._signatures.add(problem.meta["signature"])
            return
        self._texts.append(words)
        for gram in _grams(words):
            self._grams[gram].append(len(self._texts) - 1)

    def match(self, problem: Problem) -> str | None:
        """The reason why `problem` is a near-duplicate of a known one, or None."""
        words = normalised(problem.question).split()
        if " ".join(words) in self._exact:
            return "exact"
        if "signature" in problem.meta:
            return "renamed" if problem.meta["signature"] in self._signatures else None
        numbers = [word for word in words if word[0].isdigit()]
        for index in sorted({i for gram in _grams(words) for i in self._grams.get(gram, ())}):
            other = self._texts[index]
            if numbers != [word for word in other if word[0].isdigit()]:
                continue
            if lcs(words, other) > LCS_RATIO * min(len(words), len(other)):
                return "overlap"
        return None


def lcs(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, bit-parallel (Hyyrö 2004)."""
    places: dict[str, int] = defaultdict(int)
    for position, word in enumerate(a):
        places[word] |= 1 << position
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        common = row & places.get(word, 0)
        row = ((row + common) | (row - common)) & full
    return len(a) - row.bit_count()


def _grams(words: Sequence[str]) -> set[int]:
    return {hash(tuple(words[i : i + NGRAM])) for i in range(len(words) - NGRAM + 1)}

"""What an arm keeps is up to its selection: the built-in ones by name, and one of a user's own through the same steps."""

import dataclasses
from collections import defaultdict
from typing import Any

import pytest
from written_traces import PROBLEMS, mixed, trace

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Trace
from w2sr_jax.curation.arms import BUILT_IN, LABELS, All, Correct, Incorrect, Majority, ProblemTraces, Reason, Select
from w2sr_jax.curation.candidates import Candidate, candidates
from w2sr_jax.curation.select import Selection, Selector, curate
from w2sr_jax.curation.settings import Curation


@dataclasses.dataclass(frozen=True)
class Unanimous(Select):
    """All traces of a problem that finished, where all are correct."""

    least: int = 1

    def reason(self, problem: ProblemTraces) -> Reason:
        right = [voter.verdict == "correct" for voter in problem.voters]
        whole = all(right) and len(right) >= self.least
        return lambda trace: None if whole else f"{sum(right)}_of_{len(right)}"


def selected(select: Select, traces: list[Trace], settings: Curation, label: str | None = None) -> tuple[Selection, set[str]]:
    """What a selection leaves of traces, and the ids of those kept."""
    selector = Selector("own", settings, select=select, label=label)
    groups: dict[str, list[Trace]] = defaultdict(list)
    for one in traces:
        groups[one.problem_id].append(one)
    rows = [row for problem in PROBLEMS for row in selector.add(problem, list(candidates(groups[problem.id])) if groups else [])]
    selection = selector.selection()
    return selection, {row.trace_id for row in map(selection.disposition, rows) if row.reason == "kept"}


def test_the_built_in_selections_are_those_of_the_protocol() -> None:
    assert {"all": All(), "correct": Correct(), "incorrect": Incorrect(), "majority": Majority()} == BUILT_IN
    assert LABELS.keys() == BUILT_IN.keys()
    assert {name: select.verdicts for name, select in BUILT_IN.items()} == {
        "all": (-1, 0, 1),
        "correct": (1,),
        "incorrect": (-1,),
        "majority": (-1, 0, 1),
    }


@pytest.mark.parametrize("arm", sorted(BUILT_IN))
def test_a_name_and_its_selection_keep_the_same(arm: str) -> None:
    settings, traces = Curation(per_problem=2, majority_threshold=0.2), mixed()
    selection, kept = selected(BUILT_IN[arm], traces, settings, LABELS[arm])
    examples, funnel, _ = curate(traces, PROBLEMS, arm, settings)
    assert kept == {example.trace_id for example in examples}
    assert dataclasses.replace(selection.funnel, arm=arm) == funnel


@pytest.mark.parametrize("limit", [0, 5])
def test_one_of_ones_own_says_what_is_kept_and_why_the_rest_is_not(limit: int) -> None:
    traces = mixed(samples=2)
    traces[1] = dataclasses.replace(traces[1], finish="length")  # has no vote
    groups: dict[str, list[Trace]] = defaultdict(list)
    for one in traces:
        if one.finish == "stop":
            groups[one.problem_id].append(one)
    right = {key: [one.verdict == "correct" for one in group] for key, group in groups.items()}
    whole = {one.id for key, group in groups.items() if all(right[key]) for one in group}
    assert len(whole) > 5
    selection, kept = selected(Unanimous(), traces, Curation(per_problem=2, limit=limit), "All agree")
    assert kept <= whole
    assert len(kept) == (limit or len(whole))
    step = next(step for step in selection.funnel.steps if step.name == "arm All agree")
    assert step.count == len(whole)
    rejections = selection.funnel.rejections
    assert rejections["0_of_2"] == 2 * sum(votes == [False, False] for votes in right.values())
    assert rejections["1_of_2"] == 2 * sum(sorted(votes) == [False, True] for votes in right.values())
    assert selection.funnel.name == "All agree"


def test_one_that_keeps_nothing_says_so_with_its_own_label_and_reasons() -> None:
    traces = [trace(PROBLEMS[0], 0, "correct"), trace(PROBLEMS[1], 0, "incorrect")]
    selection, kept = selected(Unanimous(least=2), traces, Curation(), "All agree")
    assert kept == set()
    assert "nothing for the arm 'own' (All agree): of 2 traces the step 'arm All agree' took the last ones" in selection.emptied
    assert "1 1_of_1, 1 0_of_1" in selection.emptied


def test_one_that_keeps_all_has_no_step_in_the_funnel() -> None:
    @dataclasses.dataclass(frozen=True)
    class Any(Select):
        def reason(self, problem: ProblemTraces) -> None:
            return None

    mine, kept = selected(Any(), mixed(), Curation(), "Any")
    ours, also = selected(All(), mixed(), Curation(), "Any")
    assert (mine.funnel, kept) == (ours.funnel, also)
    assert not any(step.name == "arm Any" for step in mine.funnel.steps)


def test_one_without_reason_is_said_to_lack_it() -> None:
    @dataclasses.dataclass(frozen=True)
    class Nothing(Select):
        pass

    with pytest.raises(NotImplementedError, match=r"Nothing must define reason\(problem\)"):
        selected(Nothing(), mixed(), Curation())


@dataclasses.dataclass(frozen=True)
class Says(Select):
    """Says the same of every trace."""

    word: object = None
    of_problem: bool = False

    def reason(self, problem: ProblemTraces) -> Any:
        return self.word if self.of_problem else lambda trace: self.word


@pytest.mark.parametrize("word", [True, False, 3, "", " ", "kept"])
def test_a_reason_that_is_no_word_is_refused_where_it_is_defined(word: object) -> None:
    right = r"it must return why the trace is left out, in a word \(\"too_long\"\), or None: it stays"
    with pytest.raises(
        UserError, match=rf"test_arms\.py, line \d+: the function that Says\.reason gives returned {word!r}; {right}"
    ):
        selected(Says(word), mixed(), Curation())


def test_a_selection_that_gives_no_function_is_refused() -> None:
    with pytest.raises(UserError, match=r"test_arms\.py, line \d+: Says\.reason returned 'long'; it must return a function"):
        selected(Says("long", of_problem=True), mixed(), Curation())


def test_a_majority_of_too_few_traces_is_known_to_be_empty() -> None:
    settings = Curation(majority_votes=3)
    assert Majority().emptied(2, settings) == "2 traces a problem are fewer than curation.majority_votes, 3"
    assert [Majority().emptied(samples, settings) for samples in (3, None)] == [None, None]
    with pytest.raises(UserError, match="curation left nothing for the arm 'majority'"):
        curate(mixed(samples=2), PROBLEMS, "majority", settings)
    assert [select.emptied(1, settings) for select in (All(), Correct(), Incorrect(), Unanimous())] == [None] * 4


def test_unparsed_traces_are_incorrect_where_that_is_asked_for() -> None:
    def kept(settings: Curation) -> set[str]:
        reason = Incorrect().reason(ProblemTraces([], settings, {}, None))  # type: ignore[arg-type]
        return {str(one.verdict) for one in _candidates() if reason(one) is None}

    assert kept(Curation()) == {"incorrect"}
    assert kept(Curation(unparsed_is_incorrect=True)) == {"incorrect", "unparsed"}


def _candidates() -> list[Candidate]:
    verdicts = ("correct", "incorrect", "unparsed", "ungraded")
    return list(candidates(trace(PROBLEMS[0], number, verdict) for number, verdict in enumerate(verdicts)))

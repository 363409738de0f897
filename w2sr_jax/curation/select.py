"""Which traces become examples: the arms of the weak-to-strong protocol (arXiv 2505.20072) and majority agreement.

All arms pass the same steps and differ in one: `all` never looks at verdicts, `correct` and `incorrect` keep one verdict each,
`majority` keeps traces whose answer most of the problem's traces agree on. Up to
`per_problem` traces of a problem are then drawn.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from w2sr_jax import files, seeds
from w2sr_jax.answers.grade import canonical
from w2sr_jax.curation import funnel as funnels
from w2sr_jax.curation.candidates import Candidate, candidates
from w2sr_jax.curation.funnel import Funnel, Sieve
from w2sr_jax.curation.settings import ARMS, NAMES, Arm, Curation
from w2sr_jax.errors import UserError
from w2sr_jax.problems.splits import Known
from w2sr_jax.records import Example, Problem, Trace

Reason = Callable[[Candidate], str | None]


class Selection(NamedTuple):
    """Traces that were kept, in the order of their problems, the weights of the teachers' examples, and what became of all."""

    kept: list[Candidate]
    weights: Mapping[str, float]
    funnel: Funnel


def curate(
    traces: Sequence[Trace],
    problems: Sequence[Problem],
    arm: Arm,
    settings: Curation,
    forbidden: Sequence[Problem] = (),
    count_tokens: Callable[[Trace], int] | None = None,
    weights: Mapping[str, float] | None = None,
) -> tuple[list[Example], Funnel]:
    """`select` and `examples` of traces in memory."""
    selected = select(list(candidates(traces, count_tokens)), problems, arm, settings, forbidden, weights)
    by_problem: dict[str, list[Trace]] = defaultdict(list)
    for trace in traces:
        by_problem[trace.problem_id].append(trace)
    return list(examples(selected, problems, ((problem.id, by_problem[problem.id]) for problem in problems))), selected.funnel


def select(
    given: Sequence[Candidate],
    problems: Sequence[Problem],
    arm: Arm,
    settings: Curation,
    forbidden: Sequence[Problem] = (),
    weights: Mapping[str, float] | None = None,
) -> Selection:
    """Select from the traces `given`, in the order of `problems`; equal arguments give equal selections, whatever the order of
    traces. The funnel says what became of each trace.

    `forbidden` are problems (of the probe and test splits) that must not be trained on. `weights` are the teachers' (1 where
    absent): a teacher of weight 0 is left out and has no vote; others are mixed as `settings.weighting` says. Raises `UserError`
    saying which step left nothing.
    """
    if arm not in ARMS:
        raise UserError(f"the arm {arm!r} is unknown; arms are {', '.join(ARMS)}")
    if not given:
        raise UserError("there are no traces to curate")
    weights = dict(weights or {})
    for teacher, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise UserError(f"the weight of teacher {teacher!r} is {weight}; weights are finite and not negative")
    by_id = {problem.id: problem for problem in problems}
    rank = _ranks(given, weights if settings.weighting == "mix" else {}, settings.seed)
    sieve = Sieve(sorted(given, key=lambda trace: (rank[trace.id], trace.id)))
    sieve.step("of these problems and teachers", _belongs(by_id, weights))
    voters = list(sieve.left)
    sieve.step("finished", lambda t: "unfinished" if t.finish == "length" and not settings.keep_unfinished else None)
    sieve.step("within the length limits", _fits(settings))
    if not settings.keep_loops:
        sieve.step("not looping", lambda trace: "looping" if trace.looping else None)
    if settings.decontaminate and forbidden:
        questions = [by_id[key] for key in dict.fromkeys(trace.problem_id for trace in sieve.left)]
        contaminated = contamination(questions, forbidden)
        sieve.step("not a test question", lambda trace: "contaminated" if trace.problem_id in contaminated else None)
    sieve.step("distinct", _distinct())
    if arm != "all":
        sieve.step(f"arm {NAMES[arm]}", _arm(arm, settings, voters, weights))
    sieve.step("drawn per problem", _quota(settings.per_problem))
    if settings.limit:
        sieve.step("drawn in all", _chosen(_first(sieve.left, settings), "over_limit"))
    if not sieve.left:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sieve.rejections.most_common())
        raise UserError(
            f"curation left nothing for the arm {arm!r} ({NAMES[arm]}): of {len(given)} traces the step "
            f"{sieve.emptied_by()!r} took the last ones (rejected: {reasons})"
        )
    order = {problem: index for index, problem in enumerate(by_id)}
    kept = sorted(sieve.left, key=lambda trace: order[trace.problem_id])
    factor = _factors(kept, weights) if settings.weighting == "loss" else {}
    total = sum(trace.tokens for trace in kept)
    return Selection(kept, factor, _funnel(arm, given, kept, by_id, sieve, total or None))


def examples(
    selected: Selection, problems: Sequence[Problem], groups: Iterable[tuple[str, Sequence[Trace]]]
) -> Iterator[Example]:
    """What was selected as examples, in the order of the selection. `groups` holds for each problem that has any, in the order of
    `problems`, all its traces."""
    by_id = {problem.id: problem for problem in problems}
    wanted: dict[str, list[str]] = defaultdict(list)
    for candidate in selected.kept:
        wanted[candidate.problem_id].append(candidate.id)
    for problem, traces in groups:
        known = {trace.id: trace for trace in traces} if problem in wanted else {}
        for trace in (known[key] for key in wanted.pop(problem, ())):
            yield _example(trace, by_id[problem], selected.weights.get(trace.teacher, 1.0))
    if wanted:
        raise ValueError(f"there are no traces of the problem {next(iter(wanted))}, of which some were selected")


def contamination(problems: Sequence[Problem], forbidden: Sequence[Problem]) -> dict[str, str]:
    """Ids of problems that nearly equal a forbidden one, with the reason (see `problems.splits.Known`)."""
    known = Known()
    for problem in forbidden:
        known.add(problem)
    reasons = ((problem.id, known.match(problem)) for problem in problems)
    return {key: reason for key, reason in reasons if reason is not None}


def votes(traces: Sequence[Candidate], weights: Mapping[str, float] | None = None) -> dict[str, tuple[str | None, float]]:
    """Per problem id the answer most voted for and its share of all votes. Unreadable answers count in the total alone; where
    two answers tie, nothing is agreed on (None). A trace's vote is its teacher's weight."""
    counts: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    totals: dict[str, float] = defaultdict(float)
    for trace in traces:
        weight = (weights or {}).get(trace.teacher, 1.0)
        totals[trace.problem_id] += weight
        if trace.answer is not None:
            counts[trace.problem_id][canonical(trace.answer)] += weight
    found: dict[str, tuple[str | None, float]] = {}
    for problem, total in totals.items():
        ranked = sorted(counts[problem].items(), key=lambda item: -item[1])[:2]
        if not ranked or (len(ranked) == 2 and math.isclose(ranked[0][1], ranked[1][1])):
            found[problem] = (None, 0.0)
        else:
            found[problem] = (ranked[0][0], ranked[0][1] / total)
    return found


def _ranks(traces: Sequence[Candidate], weights: Mapping[str, float], seed: int) -> dict[str, float]:
    """A random rank per trace; taking the lowest draws without replacement with odds `weights` (Efraimidis and Spirakis 2006)."""
    ranks = {}
    for trace in traces:
        uniform = (seeds.words(seed, "curation", trace.id)[0] + 0.5) / 2**32
        weight = weights.get(trace.teacher, 1.0)
        ranks[trace.id] = -math.log(uniform) / weight if weight else math.inf
    return ranks


def _belongs(by_id: Mapping[str, Problem], weights: Mapping[str, float]) -> Reason:
    def reason(trace: Candidate) -> str | None:
        if trace.problem_id not in by_id:
            return "unknown_problem"
        if weights.get(trace.teacher, 1.0) == 0:
            return "teacher_of_weight_0"
        return "empty" if trace.empty else None

    return reason


def _fits(settings: Curation) -> Reason:
    def reason(trace: Candidate) -> str | None:
        if settings.max_characters and trace.characters > settings.max_characters:
            return "over_characters"
        return "over_tokens" if settings.max_tokens and trace.tokens > settings.max_tokens else None

    return reason


def _distinct() -> Reason:
    seen: set[tuple[str, bytes]] = set()

    def reason(trace: Candidate) -> str | None:
        key = (trace.problem_id, trace.content)
        if key in seen:
            return "duplicate"
        seen.add(key)
        return None

    return reason


def _arm(arm: Arm, settings: Curation, voters: Sequence[Candidate], weights: Mapping[str, float]) -> Reason:
    if arm == "majority":
        agreed = votes(voters, weights)
        voting = Counter(trace.problem_id for trace in voters)

        def agrees(trace: Candidate) -> str | None:
            if trace.answer is None:
                return "unparsed"
            answer, share = agreed[trace.problem_id]
            if answer is None or share < settings.majority_threshold or voting[trace.problem_id] < settings.majority_votes:
                return "no_majority"
            return None if canonical(trace.answer) == answer else "minority_answer"

        return agrees
    wanted = {"correct"} if arm == "correct" else {"incorrect", *(["unparsed"] if settings.unparsed_is_incorrect else [])}
    return lambda trace: None if trace.verdict in wanted else str(trace.verdict)


def _quota(per_problem: int) -> Reason:
    taken: Counter[str] = Counter()

    def reason(trace: Candidate) -> str | None:
        taken[trace.problem_id] += 1
        return None if taken[trace.problem_id] <= per_problem else "over_quota"

    return reason


def _chosen(ids: Collection[str], otherwise: str) -> Reason:
    return lambda trace: None if trace.id in ids else otherwise


def _first(traces: Sequence[Candidate], settings: Curation) -> set[str]:
    """Ids of `limit` traces: a first one of as many problems as possible, in a random order of problems, then second ones."""
    turn: Counter[str] = Counter()
    queue = []
    for trace in traces:
        turn[trace.problem_id] += 1
        queue.append((turn[trace.problem_id], seeds.words(settings.seed, "curation limit", trace.problem_id), trace.id))
    return {key for _, _, key in sorted(queue)[: settings.limit]}


def _factors(kept: Sequence[Candidate], weights: Mapping[str, float]) -> dict[str, float]:
    """Weights of examples by teacher, scaled so that their mean over the examples is 1."""
    mean = sum(weights.get(trace.teacher, 1.0) for trace in kept) / len(kept)
    return {teacher: weights.get(teacher, 1.0) / mean for teacher in {trace.teacher for trace in kept}}


def _example(trace: Trace, problem: Problem, weight: float) -> Example:
    return Example(
        id=files.digest_json([trace.id, "reason"])[:16],
        problem_id=problem.id,
        trace_id=trace.id,
        teacher=trace.teacher,
        question=problem.question,
        response=trace.text,
        style="reason",
        verdict=trace.verdict,
        weight=weight,
        token_ids=trace.token_ids,
        logprobs=trace.logprobs,
    )


def _funnel(
    arm: Arm,
    traces: Sequence[Candidate],
    kept: Sequence[Candidate],
    by_id: Mapping[str, Problem],
    sieve: Sieve,
    tokens: int | None,
) -> Funnel:
    rates = funnels.solve_rates(traces)
    before, after = ({trace.problem_id for trace in rows} for rows in (traces, kept))
    by_teacher: dict[str, list[Candidate]] = defaultdict(list)
    for trace in kept:
        by_teacher[trace.teacher].append(trace)
    return Funnel(
        arm=arm,
        name=NAMES[arm],
        given=len(traces),
        kept=len(kept),
        steps=tuple(sieve.steps),
        rejections=dict(sorted(sieve.rejections.items())),
        before=funnels.difficulty([p for key, p in by_id.items() if key in before], rates),
        after=funnels.difficulty([p for key, p in by_id.items() if key in after], rates),
        accuracy_before=funnels.accuracy(traces),
        accuracy_after=funnels.accuracy(kept),
        kept_by_teacher={teacher: len(rows) for teacher, rows in sorted(by_teacher.items())},
        accuracy_by_teacher={teacher: funnels.accuracy(rows) for teacher, rows in sorted(by_teacher.items())},
        tokens=tokens,
        fates=sieve.fates(arm),
    )

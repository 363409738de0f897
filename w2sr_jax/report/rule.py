"""Did each rung's student outgrow its teacher, and what is the answer to the question in the page's title?

The rule is the same for every run and knows no score: which student speaks for a rung, and how the rungs' answers become one, is
fixed before anything is measured.
"""

from collections.abc import Iterable, Mapping

from w2sr_jax.evaluation.arms import ArmTraining
from w2sr_jax.evaluation.scores import Comparison, Reinforced
from w2sr_jax.evaluation.statistics import Difference
from w2sr_jax.report.results import Answer, Results, Rung, RungVerdict, Verdict

PREFERRED = ("correct", "majority", "all", "incorrect")
UNLIKE_ARMS = ("gold", "base", "base-direct")

RULE = (
    "One student speaks for each rung, whatever its score: W2SR-P, else the majority arm, else W2SR, else W2SR-N; one whose "
    "last training stage learned from anything but traces (reinforcement, pairs, its own answers) speaks only where no other "
    "does. Of several teachers it is held against the best. A rung’s answer is yes where the interval of the paired "
    "difference to the teacher lies above 0, no where it lies below 0, not shown where it includes 0, and unknown where "
    "teacher and student were not asked the same test problems. The answer to the question in the title is the one on which "
    "all rungs agree; where they differ, it is not shown. A yes for the whole ladder needs a yes on every rung: since each "
    "test must pass on its own, having several makes a false yes no more likely. A rehearsal’s answers are unknown."
)

REINFORCED = (
    "Reinforcement arms are those whose last training stage learned from rewards. Where some of them learned from rewards alone, "
    "from the rung’s base on, these are the ceilings; otherwise all are, each named."
)


def verdict(results: Results) -> Verdict:
    """The verdict by the rule."""
    rungs = tuple(_rung(results, rung) for rung in ordered(results))
    return Verdict(together(rung.verdict for rung in rungs), rungs, RULE)


def ordered(results: Results) -> list[Rung]:
    """The rungs from the first to the last."""
    return sorted(results.rungs, key=lambda rung: rung.index)


def together(answers: Iterable[Answer]) -> Answer:
    """The answer on which all rungs agree; `not shown` where they differ, `unknown` where there is none."""
    distinct = set(answers)
    return distinct.pop() if len(distinct) == 1 else "not shown" if distinct else "unknown"


def outcome(difference: Difference | None) -> Answer:
    """What a difference's interval says: above 0, below 0, or neither."""
    if difference is None:
        return "unknown"
    return "yes" if difference.low > 0 else "no" if difference.high < 0 else "not shown"


def headline_arm(rung: Rung) -> str | None:
    """The arm that speaks for a rung; None where no student learnt from a teacher."""
    present = [name for name in rung.comparisons if name not in UNLIKE_ARMS]

    def rank(name: str) -> tuple[bool, int, str]:
        return not imitates(rung, name), PREFERRED.index(name) if name in PREFERRED else len(PREFERRED), name

    return min(present, key=rank, default=None)


def imitates(rung: Rung, arm: str) -> bool:
    """Whether an arm's student last learned from traces; also True where nothing is known of its training."""
    training = (rung.arms or {}).get(arm)
    return training is None or training.signals[-1:] in ((), ("traces",))


def reinforcement(arms: Mapping[str, ArmTraining]) -> tuple[str, ...]:
    """The reinforcement arms that gaps recovered are measured against, by the rule `REINFORCED`, in the order of `arms`."""
    rewarded = [name for name, training in arms.items() if training.signals[-1:] == ("rewards",)]
    alone = [name for name in rewarded if _rewards_alone(arms, name)]
    return tuple(alone or rewarded)


def _rewards_alone(arms: Mapping[str, ArmTraining], name: str | None) -> bool:
    """Whether every training stage from the base on learned from rewards."""
    training = arms.get(name or "")
    if training is None:
        return name is None
    return set(training.signals) == {"rewards"} and _rewards_alone(arms, training.after)


def after(rung: Rung, arm: str) -> list[str]:
    """The arms that go on from an arm by reinforcement."""
    rewarded = [name for name, training in (rung.arms or {}).items() if training.signals[-1:] == ("rewards",)]
    return sorted(name for name in rewarded if name in rung.comparisons and rung.comparisons[name].before == arm)


def against_reinforcement(rung: Rung, arm: str | None) -> tuple[Reinforced, ...]:
    """An arm's comparisons with reinforcement arms, but for itself."""
    comparison = rung.comparisons.get(arm or "")
    return () if comparison is None else tuple(one for one in comparison.reinforced if one.arm != arm)


def headline_comparison(rung: Rung) -> Comparison | None:
    """The comparison of the student that speaks for a rung; None where there is none."""
    return rung.comparisons.get(headline_arm(rung) or "")


def headline_difference(rung: Rung) -> Difference | None:
    """How far the student that speaks for a rung is above its teacher; None where that is not known."""
    comparison = headline_comparison(rung)
    return None if comparison is None else comparison.vs_teacher


def problems(comparison: Comparison) -> int | None:
    """On how many problems a comparison rests."""
    differences = (comparison.vs_teacher, comparison.vs_base, comparison.vs_ceiling)
    return next((difference.n for difference in differences if difference is not None), None)


def teacher_name(rung: Rung, comparison: Comparison | None) -> str | None:
    """The teacher a comparison is against: the one it names, or the rung's only one."""
    if comparison is not None and comparison.teacher:
        return comparison.teacher
    return rung.teachers[0] if len(rung.teachers) == 1 else None


def _rung(results: Results, rung: Rung) -> RungVerdict:
    arm, comparison = headline_arm(rung), headline_comparison(rung)
    return RungVerdict(
        rung=rung.index,
        name=rung.name,
        arm=arm,
        student=rung.models.get(arm or ""),
        teacher=teacher_name(rung, comparison),
        verdict="unknown" if results.rehearsal else outcome(headline_difference(rung)),
    )

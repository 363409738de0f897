"""What a study's claims are worth: each tested as it was declared, with the answers of all seeds to all test problems."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from w2sr_jax.evaluation import detectable, families
from w2sr_jax.evaluation.families import Comparison, Outcome
from w2sr_jax.evaluation.power import Claim as Asked
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import DIGITS, Reals
from w2sr_jax.report import wording
from w2sr_jax.studies.answers import Answers, paired_vectors
from w2sr_jax.studies.declared import Declaration, DeclaredClaim


@dataclasses.dataclass(frozen=True)
class ClaimResult:
    """A claim and what came out: left minus right, tested and corrected as `evaluation.families` says; None where not all
    `declared_seeds` of both have answered. `seeds` are those that both have, `so_far` their difference as a share where nothing
    is decided yet, `lacking` what keeps the claim from being decided where more work does not help, in words. `reach` says which
    differences could not have shown."""

    claim: DeclaredClaim
    outcome: Outcome | None
    declared_seeds: int
    seeds: tuple[int, ...] = ()
    so_far: float | None = None
    lacking: str = ""
    reach: str = ""

    @property
    def words(self) -> str:
        """What came out, in a few words."""
        if self.outcome is not None:
            return "shown" if self.outcome.shown else "not shown"
        if self.so_far is None:
            return "not finished"
        return (
            f"not finished, so far {wording.points(self.so_far)} points with {len(self.seeds)} of {self.declared_seeds} "
            f"{'seed' if self.declared_seeds == 1 else 'seeds'}"
        )

    def sentence(self) -> str:
        """What came out, in a sentence."""
        name = self.claim.name[:1].upper() + self.claim.name[1:]
        if self.outcome is None:
            if self.lacking:
                return f"{name}: {self.words}, since {self.lacking.removesuffix('.')}."
            return f"{name}: {self.words}." if self.seeds else f"{name}: not known yet, since what it compares is not finished."
        found, seeds = self.outcome, len(self.seeds)
        level = wording.confidence(found.confidence)
        size = f"{found.n:,} test problems, {seeds} {'seed' if seeds == 1 else 'seeds'}"
        values = f"{wording.points(found.difference)} points ({level} interval {wording.points_range(found)}; {size})"
        return f"{name}: {self.words}, {values}, p {wording.p_value(found.adjusted_p)}."


def decided(declaration: Declaration, answers: Answers, settings: Evaluation) -> list[ClaimResult]:
    """All claims of a declaration, the primary one first. A claim is tested once every declared seed has answered on both sides.
    Secondary claims are corrected for all that were declared: one that is not tested yet counts with a p value of 1."""
    results = []
    for claims in ((declaration.primary,), declaration.secondary):
        found = [_compared(claim, answers, declaration.seeds) for claim in claims]
        tested = [each for each in found if each.complete]
        comparisons = [Comparison(each.claim.name, each.left, each.right, each.claim.direction) for each in tested]
        alone = [families.compare(each, alpha=declaration.alpha, settings=settings) for each in comparisons]
        outcomes = families.adjusted(alone, declaration.alpha, untested=len(claims) - len(alone))
        by_name = {outcome.name: outcome for outcome in outcomes}
        level = declaration.alpha / max(len(claims), 1)  # the worst case of the correction
        results += [_result(each, by_name.get(each.claim.name), level, len(declaration.seeds)) for each in found]
    return results


@dataclasses.dataclass(frozen=True, eq=False)
class _Compared:
    """The two sides of a claim, `[seeds, problems]` each, with the declared seeds that both have."""

    claim: DeclaredClaim
    left: Reals
    right: Reals
    seeds: tuple[int, ...]
    complete: bool
    lacking: str


def _compared(claim: DeclaredClaim, answers: Answers, declared: Sequence[int]) -> _Compared:
    left, right = answers.of(claim.left), answers.of(claim.right)
    lacking = next(filter(None, map(answers.skipped, (claim.left, claim.right))), "")
    if left is None or right is None:
        nothing = np.zeros((0, 0))
        return _Compared(claim, nothing, nothing, (), False, lacking)
    one, other, seeds = paired_vectors(left, right, declared)
    problems = one.shape[1]
    if seeds and problems < 2:
        have = f"{problems or 'no'} test problem{'s' if problems != 1 else ''}"
        lacking = f"both have answered {have} that can be graded, and a comparison takes two or more"
    complete = set(declared) <= set(seeds) and problems >= 2
    return _Compared(claim, one, other, seeds, complete, lacking)


def _result(found: _Compared, outcome: Outcome | None, level: float, declared: int) -> ClaimResult:
    if outcome is None:
        so_far = round(float(np.mean(found.left - found.right)), DIGITS) if found.left.size else None
        return ClaimResult(found.claim, None, declared, found.seeds, so_far, found.lacking)
    reach = detectable.after(found.left, found.right, Asked(alpha=level, direction=found.claim.direction)).sentence
    return ClaimResult(found.claim, outcome, declared, found.seeds, reach=f"{reach[:1].upper()}{reach[1:]}.")

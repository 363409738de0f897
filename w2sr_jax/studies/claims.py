"""What a study's claims are worth: each tested as it was declared, with the answers of all seeds to all test problems."""

import dataclasses
from collections.abc import Mapping

from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation import detectable, families
from w2sr_jax.evaluation.families import Comparison, Outcome
from w2sr_jax.evaluation.power import Claim as Asked
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.evaluation.statistics import Reals
from w2sr_jax.report import wording
from w2sr_jax.studies.answers import Answers, paired_vectors
from w2sr_jax.studies.declared import Declaration, DeclaredClaim


@dataclasses.dataclass(frozen=True)
class ClaimResult:
    """A claim and what came out: left minus right, tested and corrected as `evaluation.families` says; None where one of the two
    is not finished. `seeds` are those that both have, `reach` says which differences could not have shown."""

    claim: DeclaredClaim
    outcome: Outcome | None
    seeds: tuple[int, ...] = ()
    reach: str = ""

    @property
    def words(self) -> str:
        """What came out, in a word or two."""
        if self.outcome is None:
            return "not finished"
        return "shown" if self.outcome.shown else "not shown"

    def sentence(self) -> str:
        """What came out, in a sentence."""
        name = self.claim.name[:1].upper() + self.claim.name[1:]
        if self.outcome is None:
            return f"{name}: not known yet, since what it compares is not finished."
        found, seeds = self.outcome, len(self.seeds)
        level = wording.confidence(found.confidence)
        size = f"{found.n:,} test problems, {seeds} {'seed' if seeds == 1 else 'seeds'}"
        values = f"{wording.points(found.difference)} points ({level} interval {wording.points_range(found)}; {size})"
        return f"{name}: {self.words}, {values}, p {wording.p_value(found.adjusted_p)}."


def decided(declaration: Declaration, answers: Answers, settings: Evaluation) -> list[ClaimResult]:
    """All claims of a declaration, the primary one first. Secondary claims are corrected among themselves as far as they are
    finished. `UserError` where a claim compares models that have no problem and no seed in common."""
    claims = (declaration.primary, *declaration.secondary)
    vectors = {claim.name: found for claim in claims if (found := _vectors(claim, answers)) is not None}
    outcomes = _tested(declaration, vectors, settings)
    results = []
    for claim in claims:
        if claim.name not in vectors:
            results.append(ClaimResult(claim, None))
            continue
        left, right, seeds = vectors[claim.name]
        reach = detectable.after(left, right, Asked(alpha=declaration.alpha, direction=claim.direction)).sentence
        results.append(ClaimResult(claim, outcomes[claim.name], seeds, f"{reach[:1].upper()}{reach[1:]}."))
    return results


_Vectors = Mapping[str, tuple[Reals, Reals, tuple[int, ...]]]


def _tested(declaration: Declaration, vectors: _Vectors, settings: Evaluation) -> dict[str, Outcome]:
    def compared(claims: "tuple[DeclaredClaim, ...]") -> list[Comparison]:
        return [Comparison(claim.name, *vectors[claim.name][:2], claim.direction) for claim in claims if claim.name in vectors]

    alpha, outcomes = declaration.alpha, list[Outcome]()
    for claims in ((declaration.primary,), declaration.secondary):
        alone = [families.compare(each, alpha=alpha, settings=settings) for each in compared(claims)]
        outcomes += families.adjusted(alone, alpha) if alone else ()
    return {outcome.name: outcome for outcome in outcomes}


def _vectors(claim: DeclaredClaim, answers: Answers) -> tuple[Reals, Reals, tuple[int, ...]] | None:
    left, right = answers.of(claim.left), answers.of(claim.right)
    if left is None or right is None:
        return None
    one, other, seeds = paired_vectors(left, right)
    if one.shape[0] == 0 or one.shape[1] < 2:
        raise UserError(
            f"the claim {claim.name!r} compares models with {one.shape[1]} test problems and {one.shape[0]} seeds in common; "
            "let both answer the same problems, two or more, with the same seeds"
        )
    return one, other, seeds

"""Studies of two models whose truth is known: problems of varying difficulty, seeds of varying luck, answers right or wrong.

A model answers a problem right if difficulty + what the model finds hard or easy + its seed + chance exceeds a threshold, all of
them normal with a total variance of 1. Accuracies and variance components follow exactly from the bivariate normal distribution.
"""

import dataclasses
from statistics import NormalDist

import numpy as np
from scipy.stats import multivariate_normal

from w2sr_jax.evaluation.components import Components
from w2sr_jax.evaluation.detectable import Assumptions

NORMAL = NormalDist()


@dataclasses.dataclass(frozen=True)
class Population:
    """Two models of one accuracy, and how much of what decides an answer is shared: by all (`difficulty`), by the seeds of one
    model (`taste`), by the answers of one seed (`luck`, from the standard deviation of its accuracy); the rest is chance."""

    accuracy: float = 0.6
    difficulty: float = 0.55
    taste: float = 0.15
    seed_sd: float = 0.01

    @property
    def luck(self) -> float:
        """The variance between seeds on the normal scale."""
        return (self.seed_sd / NORMAL.pdf(NORMAL.inv_cdf(self.accuracy))) ** 2

    def _covariance(self, shared: float) -> float:
        """Of two right answers that share this much of their variance."""
        threshold = NORMAL.inv_cdf(self.accuracy)
        both = multivariate_normal.cdf([threshold, threshold], cov=[[1, shared], [shared, 1]])
        return float(both) - self.accuracy**2

    def components(self) -> Components:
        """The variance components of the difference between the two models."""
        other = self._covariance(self.difficulty)
        seeds = 2 * self._covariance(self.luck)
        problems = 2 * (self._covariance(self.difficulty + self.taste) - other)
        return Components(seeds, problems, 2 * (self.accuracy * (1 - self.accuracy) - other) - seeds - problems)

    def assumptions(self) -> Assumptions:
        """What somebody would assume who knew this population."""
        parts = self.components()
        seeds = parts.seeds or 0.0
        return Assumptions(
            accuracy=self.accuracy,
            discordant=seeds + parts.problems + parts.residual,
            seed_sd=(seeds / 2) ** 0.5,
            repeated=parts.problems / (parts.problems + parts.residual),
        )

    def draw(self, rng: np.random.Generator, accuracies: tuple[float, ...], seeds: int, problems: int) -> list[np.ndarray]:
        """Right answers of one study, 0 or 1, `[seeds, problems]` for each of the models' accuracies."""
        hard = rng.normal(size=problems) * self.difficulty**0.5
        answers = []
        for accuracy in accuracies:
            own = hard + rng.normal(size=problems) * self.taste**0.5
            each = rng.normal(size=(seeds, 1)) * self.luck**0.5
            chance = rng.normal(size=(seeds, problems)) * (1 - self.difficulty - self.taste - self.luck) ** 0.5
            answers.append((own + each + chance < NORMAL.inv_cdf(accuracy)).astype(float))
        return answers

"""Why the interval over seeds and problems is the one that it is: the largest error of four candidates where seeds are few.

    python tools/stats/intervals.py

Normal theory: the mean difference is normal, the mean squares of seeds, problems and the rest are χ² and independent. For each
number of seeds the largest error over a grid of ratios of the components is printed, and the smallest power for an effect of four
standard deviations beside it.
"""

import argparse
import itertools

import numpy as np
from scipy import special

from w2sr_jax.core import keys
from w2sr_jax.evaluation.components import MeanSquares, half_width

PROBLEMS = 600
OF_SEEDS = (0, 0.3, 1, 3, 10, 50)  # P·σ²_seeds, in units of the residual variance
OF_PROBLEMS = (0, 0.3, 1, 3, 10)  # S·σ²_problems, in the same


def normal(squares: MeanSquares, alpha: float) -> np.ndarray:
    """The quantile of a known variance."""
    return -special.ndtri(alpha / 2) * np.sqrt(squares.of_seeds + squares.of_problems)


def satterthwaite(squares: MeanSquares, alpha: float) -> np.ndarray:
    """One quantile, of approximate degrees of freedom."""
    parts, (seeds, problems) = (squares.of_seeds, squares.of_problems), squares.shape
    variance = parts[0] + parts[1]
    degrees = variance**2 / (parts[0] ** 2 / (seeds - 1) + parts[1] ** 2 / (problems - 1))
    return -special.stdtrit(degrees, alpha / 2) * np.sqrt(variance)


def cochran_cox(squares: MeanSquares, alpha: float) -> np.ndarray:
    """The mean of the parts' quantiles, weighted with the parts."""
    parts = np.stack([squares.of_seeds, squares.of_problems])
    quantiles = -np.array([special.stdtrit(count - 1, alpha / 2) for count in squares.shape])[:, None]
    return (quantiles * parts).sum(axis=0) / np.sqrt(parts.sum(axis=0))


CANDIDATES = {"normal": normal, "Satterthwaite": satterthwaite, "Cochran and Cox": cochran_cox, "used": half_width}


def drawn(seeds: int, of_seeds: float, of_problems: float, studies: int) -> tuple[np.ndarray, MeanSquares]:
    """Mean differences of studies without effect, in standard deviations, and their mean squares."""
    rng = keys.generator(0, "intervals", seeds, str(of_seeds), str(of_problems))
    degrees = (seeds - 1, PROBLEMS - 1, (seeds - 1) * (PROBLEMS - 1))
    squares = [e * rng.chisquare(df, studies) / df for e, df in zip((1 + of_seeds, 1 + of_problems, 1.0), degrees)]
    scale = (seeds * PROBLEMS) / (1 + of_seeds + of_problems)
    return rng.normal(size=studies), MeanSquares(*(square * scale for square in squares), (seeds, PROBLEMS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=200_000, help="for each ratio of the components")
    options = parser.parse_args()
    print("alpha  seeds  " + "  ".join(f"{name:>18}" for name in CANDIDATES))
    for alpha, seeds in itertools.product((0.1, 0.05, 0.01), (2, 3, 5)):
        errors, powers = dict.fromkeys(CANDIDATES, 0.0), dict.fromkeys(CANDIDATES, 1.0)
        for ratios in itertools.product(OF_SEEDS, OF_PROBLEMS):
            means, squares = drawn(seeds, *ratios, options.studies)
            for name, candidate in CANDIDATES.items():
                half = candidate(squares, alpha)
                errors[name] = max(errors[name], float((np.abs(means) > half).mean()))
                powers[name] = min(powers[name], float((means + 4 > half).mean()))
        cells = (f"{100 * errors[name]:.1f} % ({100 * powers[name]:.0f} %)" for name in CANDIDATES)
        print(f"{alpha:5}  {seeds:5}  " + "  ".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()

"""Which loss survives wrong traces? Losses × the share of wrong traces × seeds, on the quickstart's first rung.

    w2sr study configs/studies/noise.py --dry-run
    w2sr study configs/studies/noise.py --jobs 2

Every student learns from as many traces of the same problems; in a share of them the right trace is replaced by a wrong one that
the teacher wrote to the same problem (docs/controls.md). The shares are arms of one run, so that a cell is a loss. Losses are as
published, with the learning rate of the quickstart; none is tuned. Hardware: 2 CPU cores, 3 GiB a job; by the times of single
stages some three hours of one core.
"""

import dataclasses
from functools import partial

from quickstart import experiment as quickstart

from w2sr_jax.curation.matching import Corrupted
from w2sr_jax.experiment import Arm, Experiment
from w2sr_jax.experiment.study import Axis, Claim, Of, Study
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.schedules import Linear
from w2sr_jax.losses.token import Confidence, Dft, GeneralizedCrossEntropy, LabelSmoothing, Nll, SymmetricCrossEntropy

SHARES = (0, 25, 50, 75)
LATER = Linear(0.0, 1.0, 0.3)
LOSSES = {
    "nll": Objective(Nll()),
    "smoothing": Objective(LabelSmoothing()),
    "gce": Objective(Linear(1.0, 0.0, 0.3) * Nll() + LATER * GeneralizedCrossEntropy()),
    "symmetric": Objective(SymmetricCrossEntropy()),
    "dft": Objective(Dft()),
    "confidence": Objective(Confidence()),
    "trimmed": Objective(Nll(), trim=0.1),
}


def learning_by(objective: Objective, base: Experiment) -> Experiment:
    return dataclasses.replace(base, rungs=(dataclasses.replace(base.rungs[0], objective=objective),))


def student(loss: str, share: int) -> Of:
    return Of(f"0-small.wrong-{share}", {"loss": loss})


def study() -> Study:
    base = quickstart()
    arms: tuple[Arm | str, ...] = (
        "correct",
        *(Arm(f"wrong-{share}", select=Corrupted(of="correct", wrong=share / 100)) for share in SHARES),
    )
    rung = dataclasses.replace(base.rungs[0], arms=arms, gold=False)
    return Study(
        name="noise",
        base=dataclasses.replace(base, rungs=(rung,), teachers=base.teachers[:1]),
        axes=(Axis("loss", {name: partial(learning_by, objective) for name, objective in LOSSES.items()}),),
        primary=Claim("generalized cross entropy beats NLL at 50 % wrong traces", student("gce", 50), student("nll", 50)),
        secondary=tuple(
            Claim(f"{name} beats NLL at {share} % wrong traces", student(name, share), student("nll", share))
            for name in LOSSES
            for share in SHARES[1:]
            if name != "nll" and (name, share) != ("gce", 50)
        ),
        seeds=(0, 1, 2, 3, 4),
        alpha=0.01,
    )

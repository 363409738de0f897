"""Experiments as frozen values: what a configuration is written in."""

from w2sr_jax.experiment.arms import Arm, Imitation, TrainingStage
from w2sr_jax.experiment.experiment import GOLD, Experiment, ExtraStages, Rung, check, model_name
from w2sr_jax.experiment.policy import OnPolicy, Policy
from w2sr_jax.experiment.starts import BASE, FromCheckpoint, FromParent, Pretraining, Scratch, Start
from w2sr_jax.experiment.teachers import Graduate, ModelTeacher
from w2sr_jax.teachers.teacher import Teacher

__all__ = [
    "BASE",
    "GOLD",
    "Arm",
    "Experiment",
    "ExtraStages",
    "FromCheckpoint",
    "FromParent",
    "Graduate",
    "Imitation",
    "ModelTeacher",
    "OnPolicy",
    "Policy",
    "Pretraining",
    "Rung",
    "Scratch",
    "Start",
    "Teacher",
    "TrainingStage",
    "check",
    "model_name",
]

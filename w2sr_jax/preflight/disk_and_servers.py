"""Whether there is room for what the run will write, whether servers that it asks are there and take its key, and whether what
its trackers need is installed."""

import importlib.util
import os
import shutil
from math import prod
from pathlib import Path
from typing import Any

import jax
import numpy as np

from w2sr_jax.core import sentences
from w2sr_jax.models import lora, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.preflight.findings import Findings
from w2sr_jax.preflight.subject import Subject, Trained
from w2sr_jax.problems.splits import REST
from w2sr_jax.trackers.tracker import name as tracker_name

_PER_TOKEN = 12  # bytes of a trace's token: its id, its log-probability, its text


def disk(subject: Subject, findings: Findings) -> None:
    """May the run's directory be written, and is there room for its checkpoints?"""
    folder = _existing(subject.run)
    if folder.is_symlink() and not folder.exists():
        findings.refuse(f"{folder} is a link to {os.readlink(folder)}, where nothing is; give another --root, or remove it")
        return
    if not folder.is_dir():
        findings.refuse(f"{folder} is no directory; give another --root")
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        findings.refuse(f"{folder} cannot be written by this account; give another --root")
        return
    free = shutil.disk_usage(folder).free
    checkpoints, most = _checkpoints(subject)
    traces = _traces(subject)
    findings.see(
        f"{folder}: {sentences.size(free)} free; checkpoints need "
        f"{sentences.size(checkpoints + most)}, {sentences.size(checkpoints)} of it kept"
        + (f", traces at most {sentences.size(traces)}" if traces else "")
    )
    if checkpoints + most > free:
        findings.refuse(
            f"{folder} has room for {sentences.size(free)}, and the run's checkpoints need "
            f"{sentences.size(checkpoints + most)}; free some space, "
            "lower training.keep, or give another --root"
        )
    elif checkpoints + most + traces > free:
        findings.remark(
            f"{folder} has room for {sentences.size(free)}; with all traces the run may need "
            f"{sentences.size(checkpoints + most + traces)}"
        )


def servers(subject: Subject, findings: Findings) -> None:
    """Is there a key where one is needed, and does each server answer and know the model?"""
    for teacher in subject.experiment.teachers:
        if not teacher.is_file and _asked(subject, teacher.name):
            with findings.refusing():
                teacher.inspect(f"teacher {teacher.name!r}", findings.for_teacher(), lambda: None)


def trackers(subject: Subject, findings: Findings) -> None:
    """Are the packages of the trackers installed? Their services are not asked: a training goes on without them."""
    for index, tracker in enumerate(subject.experiment.trackers):
        package = getattr(tracker, "package", None)
        if isinstance(package, str) and importlib.util.find_spec(package) is None:
            findings.refuse(f"trackers.{index} needs the package {package}: pip install 'w2sr-jax[{package}]'")
        else:
            findings.see(tracker_name(tracker))


def _asked(subject: Subject, name: str) -> bool:
    """Whether a rung still has to ask a teacher."""
    traces = subject.stages.traces.values()
    return any(stage.teacher.name == name and stage.name not in subject.settled for stage in traces)


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.is_symlink() or each.exists())


def _checkpoints(subject: Subject) -> tuple[int, int]:
    """Bytes of all checkpoints that stay, and the most that a training holds besides while it goes on."""
    experiment = subject.experiment
    stay, most = 0, 0
    for trained in subject.trainings:
        parameters, moments = _sizes(trained, subject.sized(trained.model.config))
        state = parameters + moments
        final = state if trained.training.keep_optimizer else parameters
        saved = (trained.training.keep if trained.training.save_every else 0) + 1
        stay, most = stay + final, max(most, saved * state - final)
    for stage in subject.stages.trainings.values():
        if stage.recipe.training is None and stage.name not in subject.settled:
            stay += _bytes(transformer.shapes(subject.sized(stage.model.config)))
    return stay * len(experiment.seeds), most


def _sizes(trained: Trained, config: ModelConfig) -> tuple[int, int]:
    """Bytes of what a training trains, and of AdamW's moments."""
    arrays = lora.shapes(config, trained.training.lora) if trained.training.lora.rank else transformer.shapes(config)
    each = 2 if trained.training.moments == "bfloat16" else 4
    return _bytes(arrays), 2 * each * sum(prod(leaf.shape) for leaf in jax.tree.leaves(arrays))


def _bytes(arrays: Any) -> int:
    return sum(prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(arrays))


def _traces(subject: Subject) -> int:
    """The most bytes of the traces that are still to be written; 0 where the number of problems is not known."""
    experiment = subject.experiment
    splits = experiment.splits
    there = experiment.problems.available()
    if splits.pool == REST and there is None:
        return 0
    rest = max(0, (there or 0) - splits.probe - splits.test - splits.teacher)
    pool = rest if splits.pool == REST else splits.pool
    total = 0
    for stage in subject.stages.traces.values():
        if stage.name not in subject.settled:
            count = round(pool * (stage.pool[1] - stage.pool[0])) + splits.probe
            total += _PER_TOKEN * stage.teacher.most_tokens(count)
    return total * len(experiment.seeds)

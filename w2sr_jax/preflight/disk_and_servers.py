"""Whether there is room for what the run will write, and whether servers that it asks are there and take its key."""

import asyncio
import dataclasses
import os
import shutil
from math import prod
from pathlib import Path
from typing import Any

import jax
import numpy as np

from w2sr_jax.convert.directory import words
from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.experiment import BASE, Graduate, ModelTeacher, Pretraining
from w2sr_jax.models import lora, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.preflight.data import available
from w2sr_jax.preflight.findings import Findings, Subject, Trained
from w2sr_jax.problems.splits import REST
from w2sr_jax.stages import models
from w2sr_jax.teachers.served.client import Again, Server
from w2sr_jax.teachers.settings import Served

PATIENCE = 5.0
"""Seconds that a server may take to list its models."""
_PER_TOKEN = 12  # bytes of a trace's token: its id, its log-probability, its text


def disk(subject: Subject, found: Findings) -> None:
    """May the run's directory be written, and is there room for its checkpoints?"""
    place = _existing(subject.run)
    if place.is_symlink() and not place.exists():
        found.refuse(f"{place} is a link to {os.readlink(place)}, where nothing is; give another --root, or remove it")
        return
    if not place.is_dir():
        found.refuse(f"{place} is no directory; give another --root")
        return
    if not os.access(place, os.W_OK | os.X_OK):
        found.refuse(f"{place} cannot be written by this account; give another --root")
        return
    free = shutil.disk_usage(place).free
    checkpoints, most = _checkpoints(subject)
    traces = _traces(subject)
    found.see(
        f"{place}: {words(free)} free; checkpoints need {words(checkpoints + most)}, {words(checkpoints)} of it kept"
        + (f", traces at most {words(traces)}" if traces else "")
    )
    if checkpoints + most > free:
        found.refuse(
            f"{place} has room for {words(free)}, and the run's checkpoints need {words(checkpoints + most)}; free some space, "
            "lower training.keep, or give another --root"
        )
    elif checkpoints + most + traces > free:
        found.remark(f"{place} has room for {words(free)}; with all traces the run may need {words(checkpoints + most + traces)}")


def servers(subject: Subject, found: Findings) -> None:
    """Is there a key where one is needed, and does each server answer and know the model?"""
    for teacher in subject.experiment.teachers:
        if not isinstance(teacher, Served) or not _asked(subject, teacher.name):
            continue
        with found.refusing():
            _server(teacher, found)


def _server(teacher: Served, found: Findings) -> None:
    where = f"teacher {teacher.name!r}"
    key = (
        f"with the key in {teacher.key_env}"
        if teacher.key_env and os.environ.get(teacher.key_env, "").strip()
        else "without a key"
    )
    try:
        listed = asyncio.run(_models(teacher))
    except Again as error:
        if "connection failed" in str(error):
            raise UserError(f"{where}: {teacher.url} does not answer: {error}; start the server, or correct url") from None
        found.remark(f"{where}: {teacher.url} does not list its models: {error}")
        return
    except UserError as error:
        if "does not know the path" not in str(error):
            raise
        found.remark(f"{where}: {teacher.url} does not list its models, so that it is not known whether it serves this one")
        return
    shown = ", ".join(sentences.shown(name, 60) for name in listed[:5]) or "none"
    found.see(f"{teacher.name}: {teacher.url} answers {key}; it serves {shown}{' and more' if len(listed) > 5 else ''}")
    if not teacher.model and len(listed) != 1:
        found.refuse(f"{where} has no model, and {teacher.url} serves {len(listed)} ({shown}); set model to one")
    elif teacher.model and listed and teacher.model not in listed:
        found.remark(f"{where}: {teacher.url} lists no model {sentences.value(teacher.model)}, only {shown}")


async def _models(teacher: Served) -> list[str]:
    async with Server(dataclasses.replace(teacher, timeout=min(teacher.timeout, PATIENCE))) as server:
        return await server.models()


def _asked(subject: Subject, name: str) -> bool:
    """Whether a rung still has to ask a teacher."""
    rungs = [index for index, rung in enumerate(subject.experiment.rungs) if name in rung.teachers]
    return any(f"{models.rung_directory(subject.experiment, index)}/traces-{name}" not in subject.settled for index in rungs)


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.is_symlink() or place.exists())


def _checkpoints(subject: Subject) -> tuple[int, int]:
    """Bytes of all checkpoints that stay, and the most that a training holds besides while it goes on."""
    experiment = subject.experiment
    kept, most = 0, 0
    for trained in subject.trainings:
        parameters, moments = _sizes(trained, subject.sized(trained.model.config))
        state = parameters + moments
        stays = state if trained.training.keep_optimizer else parameters
        saved = (trained.training.keep if trained.training.save_every else 0) + 1
        kept, most = kept + stays, max(most, saved * state - stays)
    for index, rung in enumerate(experiment.rungs):
        base = models.student(experiment, index, BASE)
        if not isinstance(rung.start, Pretraining) and base.task not in subject.settled:
            kept += _bytes(transformer.shapes(subject.sized(rung.model)))
    for teacher in experiment.teachers:
        if isinstance(teacher, ModelTeacher) and teacher.checkpoint and models.teacher(teacher).task not in subject.settled:
            kept += _bytes(transformer.shapes(subject.sized(teacher.model)))
    return kept * len(experiment.seeds), most


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
    there = available(experiment)
    if splits.pool == REST and there is None:
        return 0
    rest = max(0, (there or 0) - splits.probe - splits.test - splits.teacher)
    pool = rest if splits.pool == REST else splits.pool
    total = 0
    for index, rung in enumerate(experiment.rungs):
        count = round(pool * (rung.pool[1] - rung.pool[0])) + splits.probe
        for teacher in subject.teachers_of(index):
            stage = f"{models.rung_directory(experiment, index)}/traces-{teacher.name}"
            if stage in subject.settled:
                continue
            if isinstance(teacher, ModelTeacher | Graduate):
                tokens = count * teacher.samples * teacher.decoding.max_tokens
                total += _PER_TOKEN * min(tokens, teacher.token_budget or tokens)
            elif isinstance(teacher, Served):
                total += _PER_TOKEN * count * teacher.samples * teacher.max_tokens
    return total * len(experiment.seeds)

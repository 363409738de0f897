"""The same experiment in minutes on a CPU: every model tiny and random, every data set a stand-in, every count small.

It is a rehearsal, and its report says so. What remains is the path that data takes: safetensors directories are imported, the
tokenizer's chat template renders, data sets are read through their field mapping, adapters stay adapters. Its numbers mean
nothing; that it ends in a report does.
"""

import dataclasses
from pathlib import Path
from typing import Any

from w2sr_jax.batches.settings import Batching
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import Experiment, FromCheckpoint, Graduate, ModelTeacher, Pretraining, Rung
from w2sr_jax.ladder import standins
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.problems.settings import Files, Splits
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.teachers.settings import Recorded, Served
from w2sr_jax.text.settings import PretrainedTokenizer
from w2sr_jax.training.settings import Training

SUFFIX = "-shrunk"
FOLDER = "stand-ins"
WIDTH, HEADS, WINDOW = 64, 4, 32
POOL, PROBE, TEST, SPLIT = 96, 8, 16, 64
TOKENS, LENGTH, STEPS = 64, 320, 8
SAMPLES = 4


def shrink(experiment: Experiment, root: Path) -> Experiment:
    """The experiment in small, called NAME-shrunk; its stand-ins are made in ROOT/NAME-shrunk/stand-ins."""
    name = f"{experiment.name}{SUFFIX}"
    place = standins.Place(root / name / FOLDER)
    splits = _splits(experiment.splits)
    tokenizer = experiment.tokenizer
    if isinstance(tokenizer, PretrainedTokenizer):
        tokenizer = dataclasses.replace(tokenizer, path=str(place.tokenizer()), pad=None)
    problems = experiment.problems
    if isinstance(problems, Files):
        problems = _files(
            place, problems, "problems", splits.pretrain + splits.teacher + splits.pool + splits.probe + splits.test
        )
    test = experiment.test_problems
    return dataclasses.replace(
        experiment,
        name=name,
        problems=problems,
        test_problems=None if test is None else _files(place, test, "test", TEST),
        splits=splits,
        tokenizer=tokenizer,
        teachers=tuple(_teacher(place, teacher) for teacher in experiment.teachers),
        rungs=tuple(_rung(place, rung) for rung in experiment.rungs),
        evaluation=_evaluation(experiment.evaluation),
        decoding=_decoding(experiment.decoding),
        mesh=Mesh(),
        rehearsal=True,
    )


def model(config: ModelConfig, vocabulary: int = 0) -> ModelConfig:
    """A tiny model of the same architecture: as many kinds of layers, grouped heads, the same switches."""
    shared = config.heads // config.kv_heads
    return dataclasses.replace(
        config,
        vocab_size=vocabulary,
        width=WIDTH,
        layers=max(2, min(config.layers, len(config.pattern))),
        heads=HEADS,
        kv_heads=HEADS if shared == 1 else HEADS // 2 if shared < HEADS else 1,
        head_dim=WIDTH // HEADS,
        mlp=2 * WIDTH,
        window=None if config.window is None else min(config.window, WINDOW),
        query_scale=None if config.query_scale is None else float(WIDTH // HEADS),
    )


def _splits(asked: Splits) -> Splits:
    """Each split that an experiment asks for, small. Stand-ins may be alike, so no looser copies are looked for."""
    return Splits(
        pretrain=SPLIT if asked.pretrain else 0,
        teacher=SPLIT if asked.teacher else 0,
        pool=POOL if asked.pool else 0,
        probe=PROBE if asked.probe else 0,
        test=TEST if asked.test else 0,
    )


def _rung(place: standins.Place, rung: Rung) -> Rung:
    start = rung.start
    small = model(rung.model)
    if isinstance(start, FromCheckpoint):
        small = model(rung.model, standins.VOCABULARY)
        start = dataclasses.replace(start, path=str(place.checkpoint(start.path, small)))
    elif isinstance(start, Pretraining):
        start = dataclasses.replace(start, training=_training(start.training), facts=min(start.facts, SPLIT))
    probe = dataclasses.replace(rung.probe, every=min(rung.probe.every, STEPS // 2), problems=PROBE)
    # Random models rarely stop, and what they write may well repeat itself.
    curation = dataclasses.replace(rung.curation, limit=min(rung.curation.limit, POOL), keep_unfinished=True, keep_loops=True)
    return dataclasses.replace(rung, model=small, start=start, training=_training(rung.training), probe=probe, curation=curation)


def _teacher(place: standins.Place, teacher: ModelTeacher | Graduate | Recorded | Served) -> Any:
    if isinstance(teacher, Served):  # no server is asked: its traces are stand-ins
        teacher = Recorded(teacher.name, weight=teacher.weight)
    if isinstance(teacher, Recorded):
        return dataclasses.replace(teacher, **place.traces(teacher, POOL)._asdict())
    samples = min(teacher.samples, SAMPLES)
    shrunk = dataclasses.replace(teacher, samples=samples, decoding=_decoding(teacher.decoding))
    if not isinstance(shrunk, ModelTeacher):
        return shrunk
    if shrunk.checkpoint is None:
        return dataclasses.replace(shrunk, model=model(shrunk.model), training=_training(shrunk.training))
    small = model(shrunk.model, standins.VOCABULARY)
    return dataclasses.replace(shrunk, model=small, checkpoint=str(place.checkpoint(shrunk.checkpoint, small)))


def _files(place: standins.Place, source: Files, name: str, count: int) -> Files:
    return dataclasses.replace(source, path=place.problems(source, name, count), limit=None)


def _training(training: Training) -> Training:
    accumulation = min(training.accumulation, 2)
    return dataclasses.replace(
        training,
        steps=STEPS,
        epochs=None,
        accumulation=accumulation,
        batching=Batching(length=LENGTH, rows=2 * accumulation, pack=training.batching.pack),
        save_every=min(training.save_every, STEPS // 2),
        log_every=1,
        lora=dataclasses.replace(training.lora, rank=min(training.lora.rank, 4)),
    )


def _decoding(decoding: Decoding) -> Decoding:
    return dataclasses.replace(decoding, max_tokens=min(decoding.max_tokens, TOKENS), batch=min(decoding.batch, 32))


def _evaluation(evaluation: Evaluation) -> Evaluation:
    return dataclasses.replace(
        evaluation,
        samples=min(evaluation.samples, 2),
        resamples=min(evaluation.resamples, 200),
        faithfulness=min(evaluation.faithfulness, 4),
        pool=min(evaluation.pool, 8),
    )

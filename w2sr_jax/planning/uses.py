"""Which programs the stages of an experiment have, from the settings of the stages themselves."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

from w2sr_jax.experiment import Experiment
from w2sr_jax.experiment.policy import OwnAnswers
from w2sr_jax.experiment.preference import Preference
from w2sr_jax.losses.inputs import INITIAL, TEACHER, models_of
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.placement import Placement
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.planning.programs import (
    Decode,
    Engine,
    Lay,
    Prefill,
    Program,
    Seat,
    TrainStep,
)
from w2sr_jax.planning.reading import HeldOut, Reference, SequenceReference
from w2sr_jax.planning.work import Assumed, Counted
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages import examples
from w2sr_jax.stages.evaluate import Evaluate
from w2sr_jax.stages.plan import ExperimentPlan
from w2sr_jax.stages.traces import Traces
from w2sr_jax.stages.train import Train

Sized = Callable[[ModelConfig], ModelConfig]


@dataclasses.dataclass(frozen=True)
class Ids:
    """Of the tokenizer, as far as programs depend on it: the tokens that end a turn, and how many ids it has, None where that is
    not known."""

    end_tokens: tuple[int, ...] = (1,)
    count: int | None = None


@dataclasses.dataclass(frozen=True)
class Use:
    """A program that stages have, on its mesh. `during` is the training whose state lies beside it, where a probe runs it, and
    that training's mesh."""

    program: Program
    mesh: Mesh
    models: tuple[str, ...]
    during: tuple[TrainStep, Mesh] | None = None


def uses(
    stages: ExperimentPlan, counted: Counted, assumed: Assumed, sized: Sized, ids: Ids, placed: Callable[[Placement], Mesh]
) -> list[Use]:
    """Every program once, in the order of the stages, on the meshes that `placed` gives. Programs of the engine that differ in
    nothing but how tokens are drawn count as one, the one that has most to do for a token."""
    merged: list[_Wanted] = []
    for use in _all(stages, counted, assumed, sized, ids, placed):
        same = next((index for index, other in enumerate(merged) if _alike(use, other)), None)
        if same is None:
            merged.append(use)
        else:
            merged[same] = _joined(merged[same], use)
    return [single for use in merged for single in _parts(use)]


_During = tuple[TrainStep, Mesh] | None


class _Wanted(NamedTuple):
    """As `Use`; an engine stands for its programs until all that it is used for is known."""

    program: Program | Engine
    mesh: Mesh
    models: tuple[str, ...]
    during: _During = None


def _all(
    stages: ExperimentPlan, counted: Counted, assumed: Assumed, sized: Sized, ids: Ids, placed: Callable[[Placement], Mesh]
) -> Iterator[_Wanted]:
    def engine(
        config: ModelConfig, decoding: Decoding, prompt: int, where: Placement, name: str, during: _During = None
    ) -> _Wanted:
        config = sized(config)
        limit = ids.count if ids.count is not None and ids.count < config.vocab_size else None
        how = dataclasses.replace(decoding, max_tokens=1, stop=())
        made = Engine(config, how, prompt, prompt + decoding.max_tokens, ids.end_tokens, limit)
        return _Wanted(made, placed(where), (name,), during)

    for stage in stages:
        if isinstance(stage, Train):
            step = train_step(stages.experiment, stage, counted, sized, ids)
            if step is None:
                continue
            mesh = placed(stage.mesh)
            yield _Wanted(step, mesh, (stage.model.name,))
            if step.sequences is not None and step.sequences.uses_reference:
                rows = step.training.batching.rows // step.training.accumulation
                once = SequenceReference(step.model, rows, step.training.batching.length, step.count)
                yield _Wanted(once, mesh, (stage.model.name,))
            for config in _stored(step):
                rows = step.training.batching.rows // step.training.accumulation
                length, block = step.training.batching.length, step.objective.block
                made = Reference(config, step.training.reference_top, rows, length, block)
                yield _Wanted(made, placed(stage.reference_mesh or stage.mesh), (stage.model.name,))
            if isinstance(stage.recipe, OwnAnswers):
                warm = stage.recipe.drawn_as(stages.experiment.decoding)
                yield engine(
                    stage.model.config, warm, assumed.prompt, stage.probe_mesh or stage.mesh, stage.model.name, (step, mesh)
                )
            if stage.sampling is not None and counted.looks(stage):
                cold = dataclasses.replace(stage.sampling.decoding, temperature=0.0)
                looks = stage.probe_mesh or stage.mesh
                yield engine(stage.model.config, cold, assumed.prompt, looks, stage.model.name, (step, mesh))
        elif isinstance(stage, Traces) and stage.writer is not None and stage.mesh is not None:
            decoding = stage.teacher.decoding
            if decoding is not None:
                yield engine(stage.writer.model.config, decoding, assumed.prompt, stage.mesh, stage.teacher.name)
        elif isinstance(stage, Evaluate):
            longest = assumed.prompt + (stage.decoding.max_tokens if counted.intervenes(stage) else 0)
            temperature = stage.evaluation.temperature if stage.evaluation.samples else 0.0
            warm = dataclasses.replace(stage.decoding, temperature=temperature)
            yield engine(stage.model.config, warm, longest, stage.mesh, stage.model.name)
            if stage.curation is not None:
                read = HeldOut(sized(stage.model.config), stage.rows, stage.length)
                yield _Wanted(read, placed(stage.mesh), (stage.model.name,))


def train_step(experiment: Experiment, stage: Train, counted: Counted, sized: Sized, ids: Ids) -> TrainStep | None:
    """The step of a training on examples; None for a model that is not trained, or in a way of its own."""
    training = stage.recipe.training
    if training is None:
        return None
    objective = examples.objective_of(experiment, stage.model)
    looked = models_of(objective.loss)
    others = dict(zip(stage.other_names, (sized(other.model.config) for other in stage.others), strict=True))
    steps, batching = counted.steps(stage), dataclasses.replace(training.batching, rows=counted.rows(stage))
    plain = dataclasses.replace(training, batching=batching, steps=steps, epochs=None, seed=0, save_every=0, log_every=1, keep=1)
    own = TrainStep(
        sized(stage.model.config),
        objective,
        dataclasses.replace(plain, keep_optimizer=False),
        steps,
        tuple((name, others[name]) for name in looked if name in others and name != INITIAL),
        _recorded(stage) if TEACHER in looked and TEACHER not in others and not stage.untaught else 0,
    )
    if isinstance(stage.recipe, OwnAnswers):
        limit = None if ids.count is None or ids.count >= own.model.vocab_size else ids.count
        return dataclasses.replace(own, own=stage.recipe.learning(experiment.decoding, limit))
    if not isinstance(stage.recipe, Preference):
        return own
    return dataclasses.replace(own, sequences=stage.recipe.loss, count=counted.sequences(stage))


def _stored(step: TrainStep) -> list[ModelConfig]:
    """The models whose distributions a training stores beforehand."""
    if not step.training.reference_top:
        return []
    own = [step.model] if INITIAL in models_of(step.objective.loss) else []
    return [*own, *dict(step.others).values()]


def _recorded(stage: Train) -> int:
    """How many tokens are recorded of the distributions that the teachers of a training drew from."""
    traces = stage.curation.traces if stage.curation is not None else ()
    decodings = [each.teacher.decoding for each in traces]
    return max((decoding.record_top for decoding in decodings if decoding is not None), default=0)


def _alike(one: _Wanted, other: _Wanted) -> bool:
    if isinstance(one.program, Engine) and isinstance(other.program, Engine):
        return one.mesh == other.mesh and _drawing_aside(one.program) == _drawing_aside(other.program)
    return one.mesh == other.mesh and one.program == other.program


def _drawing_aside(engine: Engine) -> Engine:
    """The engine without what only changes how a token is drawn, and without lengths."""
    how = engine.decoding
    plain = Decoding(
        batch=how.batch, max_tokens=1, weights=how.weights, record_top=how.record_top, repetition_penalty=how.repetition_penalty
    )
    return dataclasses.replace(engine, decoding=plain, prompt=1, longest=1)


def _joined(one: _Wanted, other: _Wanted) -> _Wanted:
    models = tuple(dict.fromkeys((*one.models, *other.models)))
    a, b = one.program, other.program
    if not (isinstance(a, Engine) and isinstance(b, Engine)):
        return one._replace(models=models)
    engine = dataclasses.replace(
        a,
        decoding=max(a.decoding, b.decoding, key=_effort),
        prompt=max(a.prompt, b.prompt),
        longest=max(a.longest, b.longest),
    )
    return _Wanted(engine, one.mesh, models, one.during or other.during)


def _effort(decoding: Decoding) -> int:
    """By how many steps a token is drawn."""
    return (decoding.temperature > 0) + (decoding.top_k > 0) + (decoding.top_p < 1) + (decoding.min_p > 0)


def _parts(wanted: _Wanted) -> list[Use]:
    program = wanted.program
    if not isinstance(program, Engine):
        return [Use(program, wanted.mesh, wanted.models, wanted.during)]
    return [Use(kind(program), wanted.mesh, wanted.models, wanted.during) for kind in (Lay, Prefill, Seat, Decode)]

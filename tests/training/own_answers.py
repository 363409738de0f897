"""A tiny student that learns from its own answers, for the tests of such trainings."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax

from w2sr_jax.answers.grade import Grader, NumberGrader
from w2sr_jax.batches.settings import Batching
from w2sr_jax.core import keys
from w2sr_jax.core.records import Problem, Trace
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.policy import DrGrpo
from w2sr_jax.losses.rollout_watch import RolloutWatch
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import batch_divisor, make_mesh
from w2sr_jax.parallel.settings import Mesh
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.text import tokenizer
from w2sr_jax.text.render import Renderer
from w2sr_jax.text.settings import WordTokenizer
from w2sr_jax.training.frozen import NO_MODELS, Models
from w2sr_jax.training.loop import TrainingResult, fit
from w2sr_jax.training.policy.drawing import Drawing
from w2sr_jax.training.policy.draws import Draws
from w2sr_jax.training.policy.gates import Gates
from w2sr_jax.training.policy.program import RolloutProgram, learning_from, rollout_program
from w2sr_jax.training.policy.source import RolloutSource
from w2sr_jax.training.protocols import Hooks
from w2sr_jax.training.settings import Training

PROBLEMS = [Problem.of(f"Bob has {n} and finds {n + 1} . How many ?", str(2 * n + 1)) for n in range(8)]
ONE = Mesh(data=1)
DECODING = Decoding(temperature=1.0, max_tokens=8, batch=8)
TRAINING = Training(
    steps=4,
    learning_rate=3e-2,
    warmup=0.0,
    final_fraction=1.0,
    log_every=1,
    save_every=2,
    batching=Batching(length=24),
)
LOSS = DrGrpo()
GRADER = NumberGrader()


def even(trace: Trace, problem: Problem) -> float:
    """A reward that any model can earn: the share of even ids among an answer's tokens."""
    return sum(token % 2 == 0 for token in trace.token_ids) / len(trace.token_ids)


DRAWS = Draws(
    steps=4,
    problems=4,
    samples=4,
    length=24,
    advantages=LOSS.advantages,
    denominator=LOSS.denominator,
    rewards=(even,),
    truncated="count",
)


@functools.cache
def renderer() -> Renderer:
    return Renderer(tokenizer.build(WordTokenizer(largest=19), [problem.question for problem in PROBLEMS]))


@functools.cache
def model() -> ModelConfig:
    return ModelConfig(vocab_size=renderer().vocab_size, width=16, layers=2, heads=2, kv_heads=2, mlp=32)


@functools.cache
def params(seed: int = 0) -> Any:
    return jax.jit(transformer.init, static_argnums=0)(model(), keys.key(seed, "init"))


class OwnAnswers(NamedTuple):
    program: RolloutProgram
    source: RolloutSource


def own_answers(
    folder: Path,
    draws: Draws = DRAWS,
    training: Training = TRAINING,
    loss: Any = LOSS,
    decoding: Decoding = DECODING,
    mesh: Mesh = ONE,
    models: Models = NO_MODELS,
    gates: Gates | None = None,
    problems: list[Problem] = PROBLEMS,
    initial: bool = True,
    grader: Grader = GRADER,
    drawn_on: Mesh | None = None,
) -> OwnAnswers:
    devices = make_mesh(mesh)
    draws_on = make_mesh(drawn_on or mesh)
    folder.mkdir(parents=True, exist_ok=True)
    drawing = Drawing("student", 0, model(), renderer(), decoding, draws_on, folder, longest=draws.length + 1)
    draws = dataclasses.replace(draws, parts=training.accumulation, alone=hasattr(loss, "pairs"))
    batching = dataclasses.replace(training.batching, rows=draws.rollouts)
    training = dataclasses.replace(training, steps=draws.steps, batching=batching)
    objective = Objective(loss, block=64)
    learns = learning_from(objective, decoding, None, RolloutWatch(getattr(loss, "clip", None), initial))
    gates = gates or Gates(looping=0.0, truncated=0.0)
    program = rollout_program(model(), params(), training, objective, learns, devices, models, gates, 0)
    return OwnAnswers(program, RolloutSource(draws, grader, problems, drawing, program.whole, batch_divisor(devices)))


def learn(
    directory: Path, training: Training = TRAINING, stop: Callable[[], bool] | None = None, **settings: Any
) -> TrainingResult:
    """A whole training in `directory`, its answers in `directory`/drawn; `settings` are those of `own_answers`."""
    program, source = own_answers(directory / "drawn", training=training, **settings)
    return fit(program, source, directory, {"config_hash": "own answers"}, training.loop, Hooks(stop=stop))

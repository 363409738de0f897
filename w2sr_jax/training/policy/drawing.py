"""Answers of a student as it is: one engine for the whole training, with new weights before every draw and none after it."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from w2sr_jax.core.records import Problem, Rollout
from w2sr_jax.core.sharing import ON_ONE_DISK, Sharing
from w2sr_jax.models import transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.mesh import resting
from w2sr_jax.parallel.processes import put
from w2sr_jax.sampling.dividing import Division
from w2sr_jax.sampling.engine import Engine
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.traces import Author, Drawn, drawn
from w2sr_jax.text.render import Renderer


class Drawing:
    """Draws with one engine. `name` and `seed` enter every answer's key, `style` is how the student is asked. `folder` is where
    processes leave what they drew for each other, as `sharing` says."""

    def __init__(
        self,
        name: str,
        seed: int,
        config: ModelConfig,
        renderer: Renderer,
        decoding: Decoding,
        mesh: jax.sharding.Mesh,
        folder: Path,
        sharing: Sharing = ON_ONE_DISK,
        longest: int = 0,
        style: str = "reason",
    ) -> None:
        """`longest` is how many tokens a prompt and its answer have at most: draws of any prompts then share their programs."""
        self.name, self.seed, self.renderer, self.decoding, self.style = name, seed, renderer, decoding, style
        self.folder, self.sharing = folder, sharing
        self._config, self._mesh = config, mesh
        self._longest = longest
        self._layout = resting(mesh, transformer.logical_axes(config), transformer.shapes(config))
        self._engine: Engine | None = None
        self._division: Division | None = None

    def groups(self, draw: int, params: Any, problems: Sequence[Problem], samples: int) -> Iterator[tuple[Problem, list[Drawn]]]:
        """Each of this process's problems with all of its answers, in their order, once the last of these has ended. `params` are
        the student's, whole; answers depend on them, and on name, seed, number of the draw, problem and sample. Nothing of
        them, nor of the engine's slots, is held once all answers were given. All processes must call it."""
        author = Author(self.name, self._config, put(params, self._layout), self.renderer, self.seed, "", self._mesh)
        division = self._division = Division.of(author, self.folder, self.sharing)
        own = division.own(problems)
        answers: dict[int, list[Drawn]] = {}
        for answer in drawn(self._updated(division.author), division.author, own, samples, f"rollout {draw}", self.style):
            group = answers.setdefault(answer.problem, [])
            group.append(answer)
            if len(group) == samples:
                del answers[answer.problem]
                yield own[answer.problem], sorted(group, key=lambda one: one.sample)
        # The step that follows needs the memory; programs stay compiled.
        self._division = dataclasses.replace(division, author=dataclasses.replace(division.author, params={}))
        assert self._engine is not None
        self._engine.release()

    def gather(self, name: str, rollouts: Sequence[Rollout], order: Sequence[str]) -> list[Rollout]:
        """What all processes drew of the latest draw, at the first one, in the order of the problems."""
        assert self._division is not None
        row = {problem: index for index, problem in enumerate(order)}
        gathered = self._division.gather(f"rollouts-{name}", rollouts, order, Rollout)
        return sorted(gathered, key=lambda rollout: (row[rollout.problem_id], rollout.sample))

    def _updated(self, author: Author) -> Engine:
        if self._engine is None:
            ends, pad = self.renderer.end_tokens, self.renderer.pad
            known = self.renderer.vocab_size
            self._engine = Engine(self._config, self.decoding, ends, pad, author.mesh, known, self._longest)
        self._engine.update(author.params)
        return self._engine

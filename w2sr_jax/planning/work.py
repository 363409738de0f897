"""How many tokens the stages of an experiment read, draw and train on, at most or about, and the operations that takes."""

import dataclasses
import math
from collections.abc import Callable

from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.cost import sampling_flops, training_flops
from w2sr_jax.evaluation.faithfulness import FRACTIONS
from w2sr_jax.experiment import GOLD, Experiment, Start
from w2sr_jax.experiment.policy import OwnAnswers
from w2sr_jax.experiment.preference import Preference
from w2sr_jax.losses.inputs import INITIAL, models_of
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.stages import examples
from w2sr_jax.stages.evaluate import Evaluate
from w2sr_jax.stages.traces import Traces
from w2sr_jax.stages.train import Train
from w2sr_jax.training.preference.pairs import SIDES

TEST = 500
"""Test problems that are assumed where they lie in a data set that is not on this disk."""


@dataclasses.dataclass(frozen=True)
class Assumed:
    """What cannot be known before data and traces are there."""

    prompt: int = 512
    """Tokens of the longest prompt, and of every one."""
    completion: int | None = None
    """Tokens of a completion in the mean; None: as many as there may be."""
    problems: int | None = None
    """Problems of the pool, where the splits leave it to the data."""
    test: int | None = None
    """Test problems, where the data is not on this disk."""


@dataclasses.dataclass(frozen=True)
class Sampled:
    """Completions that a model draws: how many, after prompts of how many tokens, of how many each."""

    config: ModelConfig
    decoding: Decoding
    completions: int
    prompts: int
    """Prompts that are read; equal ones once."""
    prompt: int
    drawn: int

    @property
    def tokens(self) -> int:
        return self.prompts * self.prompt + self.completions * self.drawn

    @property
    def read_flops(self) -> float:
        return self.prompts * self.prompt * self.config.flops_per_token(self.prompt / 2)

    @property
    def drawn_flops(self) -> float:
        return self.completions * self.drawn * self.config.flops_per_token(self.context)

    @property
    def context(self) -> float:
        """Tokens that a drawn token attends to, in the mean."""
        return self.prompt + self.drawn / 2


@dataclasses.dataclass(frozen=True)
class Passed:
    """Positions that go through a model, forward or in training; padding counts, since it is computed."""

    positions: int
    flops: float
    """Of the model: without what is recomputed."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What a stage computes on devices. `counted` are its operations as manifests count them (`evaluation.cost`)."""

    stage: str
    kind: str
    passed: Passed
    sampled: tuple[Sampled, ...]
    counted: float

    @property
    def tokens(self) -> int:
        return self.passed.positions + sum(each.tokens for each in self.sampled)

    @property
    def flops(self) -> float:
        return self.passed.flops + sum(each.read_flops + each.drawn_flops for each in self.sampled)


class Counted:
    """Counts of an experiment's problems, examples and steps. `UserError` where a count is left to data that is not here."""

    def __init__(self, experiment: Experiment, assumed: Assumed, sized: Callable[[ModelConfig], ModelConfig]) -> None:
        self._experiment, self._assumed, self._sized = experiment, assumed, sized
        splits = experiment.splits
        self.pool = splits.pool if splits.pool >= 0 else self._rest()
        self.test_assumed = False
        self.test = self._test()

    def work(self, stage: object) -> Work | None:
        """What a stage computes on devices; None for one that computes nothing there."""
        if isinstance(stage, Train):
            return self._train(stage)
        if isinstance(stage, Traces) and stage.writer is not None and stage.teacher.decoding is not None:
            decoding, problems = stage.teacher.decoding, self._part(stage.pool)
            drawn = self._completion(decoding)
            count = problems * (stage.teacher.samples or 1)
            most = stage.teacher.most_tokens(problems)
            count = min(count, -(-most // drawn)) if most else count
            sampled = self._sampled(stage.writer.model.config, decoding, count, min(problems, count))
            return self._work(stage.name, stage.kind, Passed(0, 0.0), (sampled,))
        return self._evaluate(stage) if isinstance(stage, Evaluate) else None

    def steps(self, stage: Train) -> int:
        """Optimizer steps of a training on examples, at most."""
        training = stage.recipe.training
        assert training is not None
        batching, count = training.batching, self._examples(stage)
        rows = self._rows(stage, count)
        return training.total_steps(max(1, math.ceil(rows / batching.rows)))

    def rows(self, stage: Train) -> int:
        """Rows of a step, before they are rounded up for a mesh."""
        recipe = stage.recipe
        if isinstance(recipe, OwnAnswers):
            return recipe.rows(self._experiment.decoding, self._assumed.prompt)
        return recipe.training.batching.rows  # type: ignore[union-attr]

    def sequences(self, stage: Train) -> int:
        """The most sequences of a row of pairs, about."""
        batching = stage.recipe.training.batching  # type: ignore[union-attr]
        several = batching.length // (SIDES * self._example()) if batching.pack else 1
        return SIDES * max(1, int(several))

    def _rows(self, stage: Train, count: int) -> int:
        """Rows that so many examples, or pairs of such, fill."""
        batching = stage.recipe.training.batching  # type: ignore[union-attr]
        size = self._example() * (SIDES if isinstance(stage.recipe, Preference) else 1)
        return count if not batching.pack else math.ceil(count * min(1.0, size / batching.length))

    def intervenes(self, stage: Evaluate) -> bool:
        """Whether an evaluation goes on with parts of the model's own chains."""
        return stage.evaluation.faithfulness > 0 and stage.model.role in ("teacher", "student", GOLD)

    def looks(self, stage: Train) -> bool:
        """Whether a training looks at the probe problems."""
        probe = None if isinstance(stage.recipe, Start) else stage.recipe.probe
        return stage.sampling is not None and probe is not None and probe.every > 0

    def _train(self, stage: Train) -> Work | None:
        training = stage.recipe.training
        if training is None:
            return None
        config, objective = self._sized(stage.model.config), examples.objective_of(self._experiment, stage.model)
        positions = self.steps(stage) * self.rows(stage) * training.batching.length
        forward = config.flops_per_token(training.batching.length / 2)
        recipe = stage.recipe
        kept = isinstance(recipe, OwnAnswers) and recipe.keeps_initial
        looked = [config] if kept or INITIAL in models_of(objective.loss) else []
        looked += [self._sized(other.model.config) for other in stage.others]
        passes = 2 if training.lora.rank else 3  # without gradients of the frozen matrices
        flops = positions * (passes * forward + sum(other.flops_per_token(training.batching.length / 2) for other in looked))
        counted = training_flops(
            config.parameters(),
            positions,
            config.remat in ("layers", "attention"),
            sum(other.parameters() for other in looked),
            1 if training.lora.rank else None,
        )
        if isinstance(stage.recipe, Preference) and stage.recipe.loss.uses_reference:
            read = self._rows(stage, self._examples(stage)) * training.batching.length  # by the reference, once
            positions, flops = positions + read, flops + read * forward
            counted += sampling_flops(config.parameters(), read)
        sampled: list[Sampled] = []
        probe = None if isinstance(recipe, Start) else recipe.probe
        if isinstance(recipe, OwnAnswers):
            draws, how = recipe.draws, recipe.drawn_as(self._experiment.decoding)
            sampled.append(self._sampled(stage.model.config, how, draws.number * draws.rollouts, draws.number * draws.problems))
        if probe is not None and stage.sampling is not None and self.looks(stage):
            asked = min(probe.problems, self._experiment.splits.probe)
            looks = 1 + self.steps(stage) // probe.every
            sampled.append(self._sampled(stage.model.config, stage.sampling.decoding, looks * asked, looks * asked))
        return self._work(stage.name, stage.kind, Passed(positions, flops), tuple(sampled), counted)

    def _evaluate(self, stage: Evaluate) -> Work:
        config, decoding, settings = stage.model.config, stage.decoding, stage.evaluation
        greedy = self.test + (min(settings.pool, self._part(stage.pool)) if stage.pool is not None else 0)
        greedy += self._experiment.splits.probe if stage.asks_probe else 0
        sampled = [self._sampled(config, decoding, greedy, greedy)]
        if settings.samples:
            sampled.append(self._sampled(config, decoding, self.test * settings.samples, self.test))
        if self.intervenes(stage):
            again = min(settings.faithfulness, self.test) * (len(FRACTIONS) + 1)
            cut = self._assumed.prompt + self._completion(decoding) // 2
            sampled.append(dataclasses.replace(self._sampled(config, decoding, again, again), prompt=cut))
        positions = 0
        if stage.curation is not None:
            written = sum(traces.teacher.samples or 1 for traces in stage.traces)
            rows = self._experiment.splits.probe * written
            positions = rows * stage.length
        own = self._sized(config)
        passed = Passed(positions, positions * own.flops_per_token(stage.length / 2))
        return self._work(stage.name, stage.kind, passed, tuple(sampled), sampling_flops(own.parameters(), positions))

    def _work(self, name: str, kind: str, passed: Passed, sampled: tuple[Sampled, ...], counted: float = 0.0) -> Work:
        drawn = sum(sampling_flops(each.config.parameters(), each.tokens) for each in sampled)
        return Work(name, kind, passed, sampled, counted + drawn)

    def _sampled(self, config: ModelConfig, decoding: Decoding, completions: int, prompts: int) -> Sampled:
        return Sampled(self._sized(config), decoding, completions, prompts, self._assumed.prompt, self._completion(decoding))

    def _completion(self, decoding: Decoding) -> int:
        most = decoding.max_tokens
        return most if self._assumed.completion is None else min(most, self._assumed.completion)

    def _example(self) -> float:
        """Tokens of an example in the mean."""
        completion = self._assumed.completion
        return math.inf if completion is None else self._assumed.prompt + completion

    def _examples(self, stage: Train) -> int:
        """Examples that a training may have: every problem as often as curation keeps traces of it."""
        if stage.curation is None:
            start, splits = stage.recipe, self._experiment.splits
            if not isinstance(start, Start) or start.split is None:
                return 1
            sizes = {"pretrain": splits.pretrain, "teacher": splits.teacher, "pool": self.pool}
            return max(1, start.facts_wanted + sizes.get(start.split, 0))
        problems, how = self._part(stage.pool), stage.curation.curation
        pairs = max((arm.select.pairs for arm in stage.curation.arms if arm.name == stage.model.arm), default=0)
        count = problems if stage.model.arm == GOLD else problems * (pairs or how.per_problem)
        return max(1, min(count, how.limit) if how.limit else count)

    def _part(self, pool: tuple[float, float]) -> int:
        return max(1, round(self.pool * (pool[1] - pool[0])))

    def _rest(self) -> int:
        """The problems that the other splits leave."""
        splits = self._experiment.splits
        if self._assumed.problems is not None:
            return self._assumed.problems
        count = self._experiment.problems.available()
        if count is None:
            raise UserError(
                "splits.pool is -1, all that the other splits leave, and the problems cannot be counted on this disk; say with "
                "--problems how many the pool has"
            )
        return max(0, count - splits.pretrain - splits.teacher - splits.probe - splits.test)

    def _test(self) -> int:
        source = self._experiment.test_problems
        if source is None:
            return self._experiment.splits.test
        count = source.available() if self._assumed.test is None else self._assumed.test
        self.test_assumed = count is None
        return TEST if count is None else count

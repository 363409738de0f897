"""Training stages on the student's own answers: policy gradients, and token losses such as on-policy distillation."""

import dataclasses
from typing import TYPE_CHECKING, Literal, cast

from w2sr_jax.core import sentences
from w2sr_jax.core.code.unloaded import unloaded
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Trace
from w2sr_jax.evaluation.arms import Signal
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.experiment.arms import LeftOpen, TrainingStage
from w2sr_jax.losses.advantages import Advantages, Centered
from w2sr_jax.losses.inputs import TokenLoss
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.policy import Denominator, DrGrpo, check_advantages, check_denominator, learning, needs_rollouts
from w2sr_jax.losses.rollout_watch import RolloutWatch
from w2sr_jax.losses.shift import Shift
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.training.policy.draws import Draws
from w2sr_jax.training.policy.gates import Gates
from w2sr_jax.training.policy.rewards import Distinct, IsCorrect, RewardFunction, rewarded
from w2sr_jax.training.policy.rows import Shape
from w2sr_jax.training.settings import Training

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from w2sr_jax.core.records import Problem
    from w2sr_jax.experiment.work import TrainedModel, TrainingWork
    from w2sr_jax.losses.sequences import SequenceLoss
    from w2sr_jax.teachers.teacher import Small
    from w2sr_jax.training.program import Learning

OWN_ANSWERS = Training(learning_rate=1e-6, warmup=0.0, final_fraction=1.0, log_every=1)
"""How a student is trained on its own answers by default: a small, constant learning rate (Dr.GRPO, arXiv 2503.20783)."""


class OwnAnswers(TrainingStage):
    """What stages on the student's own answers have in common."""

    loss: TokenLoss
    steps: int
    problems: int
    rollouts: int
    denominator: Denominator | None
    decoding: Decoding | None
    training: Training
    watch_start: bool
    gates: Gates

    @property
    def samples(self) -> bool:
        return True

    @property
    def draws_own(self) -> bool:
        return True

    @property
    def objective(self) -> Objective:  # type: ignore[override]
        """The loss as training steps evaluate it."""
        return Objective(self.loss)

    @property
    def sequence_loss(self) -> "SequenceLoss | None":
        known = not unloaded(self.loss) and hasattr(self.loss, "pairs")
        return cast("SequenceLoss", self.loss) if known else None

    @property
    def keeps_initial(self) -> bool:
        return self.watch_start and self.sequence_loss is None  # beside which nothing is watched

    def drawn_as(self, decoding: Decoding) -> Decoding:
        """How answers are drawn, where the experiment's is `decoding`: of that without what the loss does not know, and without
        recording what nothing reads."""
        how = self.decoding or dataclasses.replace(decoding, temperature=1.0, repetition_penalty=1.0)
        return dataclasses.replace(how, record_top=0)

    def learning(self, decoding: Decoding, limit: int | None) -> "Learning":
        """What its steps learn from answers that are drawn as `decoding` says, of ids below `limit`."""
        from w2sr_jax.training.policy.program import learning_from

        watch = RolloutWatch(learning(self.loss).clip, self.keeps_initial)
        return learning_from(self.objective, self.drawn_as(decoding), limit, watch)

    def rows(self, decoding: Decoding, prompt: int = 1, ways: int = 1) -> int:
        """Of a step, where the experiment's decoding is `decoding`, the longest prompt has `prompt` tokens, and the mesh splits
        rows in `ways`: as many answers share one as surely have room. The default prompt gives the fewest that there can be."""
        return self._holding(prompt + self.drawn_as(decoding).max_tokens - 1, ways)

    def _holding(self, longest: int, ways: int = 1) -> int:
        training, alone = self.training, self.sequence_loss is not None
        length, parts = training.batching.length, training.accumulation
        return Shape.holding(self.problems * self.rollouts, min(longest, length), length, parts, ways, alone).rows

    def resolved(self, rung: "LeftOpen") -> "Self":
        """The stage with the steps of its training and, as far as it says itself how long answers are, the rows; else there is
        one for each answer. No step depends on this number (see `rows`)."""
        training = self.training
        known = training.batching.length if self.decoding is None else self.decoding.max_tokens
        batching = dataclasses.replace(training.batching, rows=self._holding(known), pack=False)
        whole = dataclasses.replace(training, steps=self.steps, epochs=None, batching=batching)
        return dataclasses.replace(super().resolved(rung), training=whole)  # type: ignore[type-var]

    def try_own_code(self, problems: "Sequence[Problem]") -> None:
        from w2sr_jax.losses.contract_learning import check_rule

        check_rule(self.draws.advantages)
        for problem in problems:
            for text in ("", f"1 + 1 = 2 ; #### {problem.answer or 2}"):
                trace = Trace.of(problem.id, "student", 0, text)
                tried = dataclasses.replace(trace, tokens=len(text.split()) or 1, token_ids=(1,), logprobs=(-1.0,))
                rewarded(self.draws.rewards, tried, problem)

    def rehearsed(self, small: "Small") -> "Self":
        shrunk = super().rehearsed(small)
        decoding = None if self.decoding is None else small.decoding(self.decoding)
        accumulation = min(self.training.accumulation, 2)
        few = {
            "problems": min(self.problems, 4),
            "rollouts": min(self.rollouts, 2),
            "decoding": decoding,
            "training": dataclasses.replace(shrunk.training, accumulation=accumulation),
        }
        return dataclasses.replace(shrunk, **few)  # type: ignore[type-var]

    def train(self, work: "TrainingWork") -> "TrainedModel":
        from w2sr_jax.parallel.mesh import batch_divisor
        from w2sr_jax.training.policy.program import rollout_program
        from w2sr_jax.training.policy.source import RolloutSource

        training, looks = self.training, work.probing(self.probe)
        drawing = work.drawing(self.drawn_as(work.decoding), training.batching.length + 1)
        known = work.renderer.vocab_size
        learns = self.learning(work.decoding, known if known < work.config.vocab_size else None)
        shown = (training, self.objective, learns, work.mesh, work.beside(), self.gates, work.seed)
        program = rollout_program(work.config, work.initial, *shown)
        asked, ways = work.problems(work.own_split), batch_divisor(work.mesh)
        source = RolloutSource(self.draws, work.grader, asked, drawing, program.whole, ways)
        result = work.fit(program, source, training.loop, looks)
        spent = source.spent()
        measures = {
            "rollouts": spent.rollouts,
            "rollout_tokens": spent.tokens,
            "flops": work.flops(training, self.objective, result.tokens, spent.read + spent.tokens, self.keeps_initial),
        }
        reward = result.metrics.get("reward")
        note = f"{result.steps} steps on {spent.rollouts:,} answers" + (
            "" if reward is None else f", reward {reward:.3f} at last"
        )
        return work.finish(result, measures, note, source.paths)

    @property
    def draws(self) -> Draws:
        """How answers are drawn and used."""
        raise NotImplementedError

    def _check(self) -> None:
        for name, least in (("steps", 1), ("problems", 1), ("rollouts", 1)):
            value = getattr(self, name)
            if value < least:
                raise UserError(f"{type(self).__name__}.{name} is {value}; it must be at least {least}")
        if self.denominator is not None:
            check_denominator(type(self).__name__, self.denominator)
        whole = self.sequence_loss
        if whole is not None and (whole.pairs or whole.uses_reference):
            raise UserError(
                f"{type(self).__name__}.loss is {sentences.value(self.loss, 80)}, which looks at "
                f"{'pairs' if whole.pairs else 'a reference'}; answers that are drawn while the student trains have none: give "
                "it a loss such as Gspo(), or learn from pairs of traces with Preference"
            )
        if self.training.reference_top:
            raise UserError(
                f"{type(self).__name__}.training.reference_top is {self.training.reference_top}; it must be 0: "
                "distributions can be stored of traces alone, and not of answers that are drawn while the student trains"
            )
        if self.decoding is not None and self.decoding.temperature == 0:
            raise UserError(
                f"{type(self).__name__}.decoding.temperature is 0; answers that are learned from must be drawn, so above 0"
            )
        if self.decoding is not None and self.decoding.repetition_penalty != 1:
            raise UserError(
                f"{type(self).__name__}.decoding.repetition_penalty is {self.decoding.repetition_penalty}; it must be 1: with a "
                "penalty a token's distribution depends on those before it in a way that the loss does not know"
            )


@dataclasses.dataclass(frozen=True)
class Policy(OwnAnswers):
    """Policy gradients: in every step the student answers problems, its answers are rewarded, and those that are better than the
    others to the same problem become more probable."""

    loss: TokenLoss = DrGrpo()
    """A loss on rollouts (`losses.policy`), or a sum of such; a user's own reads `tokens.drawn()`."""
    steps: int = 60
    """Optimizer steps."""
    problems: int = 64
    """Problems of a draw."""
    rollouts: int = 8
    """Answers to each of them."""
    rewards: tuple[RewardFunction, ...] = (IsCorrect(),)
    """What answers are worth, added up: functions (trace, problem) -> float (`training.policy.rewards`)."""
    advantages: Advantages | None = None
    """How rewards become advantages; None: as the loss says."""
    denominator: Denominator | None = None
    """What the sum over tokens is divided by; None: as the loss says."""
    decoding: Decoding | None = None
    """How answers are drawn; None: as the experiment says, at temperature 1."""
    reuse: int = 1
    """Optimizer steps on the same answers."""
    redraws: int = 0
    """How often a draw asks more problems, where too few have answers of different rewards (DAPO's dynamic sampling)."""
    truncated: Literal["mask", "count"] = "mask"
    """Whether answers that did not end are left out of the loss, or count."""
    ahead: bool = False
    """Draw the next step's answers before this step, and grade them during it; they are one update old."""
    patience: int = 10
    """Draws in a row without any difference in reward after which the training is given up; 0: never."""
    training: Training = OWN_ANSWERS
    """The optimizer, row length, micro-batches and saving. Its `steps` and `batching.rows` do not count."""
    watch_start: bool = True
    """Estimate how far the student is from where it started, which takes that model's forward pass, and memory for it. Beside a
    loss on whole sequences nothing is watched."""
    gates: Gates = Gates()
    """Bounds on what is watched."""
    probe: Probe | None = None
    """Looks at the probe problems while it trains; None: the rung's."""

    def __post_init__(self) -> None:
        self._check()
        for name, least in (("reuse", 1), ("redraws", 0), ("patience", 0)):
            if getattr(self, name) < least:
                raise UserError(f"Policy.{name} is {getattr(self, name)}; it must be at least {least}")
        if self.ahead and self.redraws:
            raise UserError("Policy.ahead and Policy.redraws exclude each other: what is drawn ahead is not rewarded yet")
        if self.rollouts < 2 and self.advantages is None:
            raise UserError("Policy.rollouts is 1; answers to a problem are compared with each other, so that it takes 2 or more")
        if not needs_rollouts(self.loss, unknown=True):
            raise UserError(
                f"Policy.loss is {sentences.value(self.loss, 80)}, in which nothing depends on rewards; give it a loss on "
                "rollouts, such as DrGrpo(), or use OnPolicy for a loss that needs no rewards"
            )
        if self.advantages is not None:
            check_advantages("Policy", self.advantages)
        if not self.rewards:
            raise UserError("Policy.rewards is empty; give it a reward, such as IsCorrect()")

    @property
    def signal(self) -> Signal:
        rule = self.draws.advantages
        return "rewards" if getattr(rule, "reads_rewards", True) else "answers"

    @property
    def reused(self) -> int:
        return self.reuse

    def rehearsed(self, small: "Small") -> "Self":
        """A rehearsal's models are never right, and seldom end: they are rewarded for what differs, so that something is
        learned."""
        return dataclasses.replace(super().rehearsed(small), rewards=(Distinct(),), truncated="count")

    @property
    def draws(self) -> Draws:
        asked = learning(self.loss)
        return Draws(
            steps=self.steps,
            problems=self.problems,
            samples=self.rollouts,
            length=self.training.batching.length,
            advantages=self.advantages or asked.advantages or Centered(),
            denominator=self.denominator or asked.denominator or "constant",
            rewards=self.rewards,
            reuse=self.reuse,
            redraws=self.redraws,
            truncated=self.truncated,
            flat="drop",
            ahead=self.ahead,
            patience=self.patience,
            parts=self.training.accumulation,
            alone=self.sequence_loss is not None,
        )


@dataclasses.dataclass(frozen=True)
class OnPolicy(OwnAnswers):
    """Any token loss on the student's own answers instead of a teacher's traces: on-policy distillation and weak-to-strong shifts
    (`Shift`), divergences to other models, or imitation of its own right answers (`OnCorrect(Nll())`)."""

    loss: TokenLoss = Shift()
    """A loss per token; the verdicts that it sees are the grader's."""
    steps: int = 60
    """Optimizer steps."""
    problems: int = 64
    """Problems of a step."""
    rollouts: int = 1
    """Answers to each of them."""
    denominator: Denominator = "token"
    """What the sum over tokens is divided by: the tokens of the step, each answer's, or a constant."""
    decoding: Decoding | None = None
    """How answers are drawn; None: as the experiment says, at temperature 1."""
    truncated: Literal["mask", "count"] = "count"
    """Whether answers that did not end are left out of the loss, or count."""
    training: Training = OWN_ANSWERS
    """The optimizer, row length, micro-batches and saving. Its `steps` and `batching.rows` do not count."""
    watch_start: bool = True
    """Estimate how far the student is from where it started, which takes that model's forward pass, and memory for it. Beside a
    loss on whole sequences nothing is watched."""
    gates: Gates = Gates()
    """Bounds on what is watched."""
    probe: Probe | None = None
    """Looks at the probe problems while it trains; None: the rung's."""

    def __post_init__(self) -> None:
        self._check()

    @property
    def draws(self) -> Draws:
        return Draws(
            steps=self.steps,
            problems=self.problems,
            samples=self.rollouts,
            length=self.training.batching.length,
            advantages=learning(self.loss).advantages or Centered(),
            denominator=self.denominator,
            rewards=(IsCorrect(),),
            truncated=self.truncated,
            flat="keep",
            patience=0,
            parts=self.training.accumulation,
            alone=self.sequence_loss is not None,
        )

"""What training stages and starts are given to do their work with. `stages.training_work` implements it."""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from w2sr_jax.answers.grade import Grader
    from w2sr_jax.core.records import Example, Problem
    from w2sr_jax.evaluation.probe import Probe
    from w2sr_jax.losses.objective import Objective
    from w2sr_jax.losses.sequences import SequenceLoss
    from w2sr_jax.models.config import ModelConfig
    from w2sr_jax.sampling.settings import Decoding
    from w2sr_jax.sampling.traces import Author
    from w2sr_jax.text.render import Renderer
    from w2sr_jax.training.frozen import Models
    from w2sr_jax.training.loop import TrainingResult
    from w2sr_jax.training.policy.drawing import Drawing
    from w2sr_jax.training.probe import Probing
    from w2sr_jax.training.protocols import Program, Source
    from w2sr_jax.training.settings import LoopSettings, Training


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """What a training stage made: the name of the sealed directory with the parameters (relative to the run) and their digest,
    files that must reproduce, counts and costs (`parameters` among them), a line for people."""

    checkpoint: str
    digest: str
    outputs: Sequence[Path] = ()
    measures: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""


class TextSource(Protocol):
    """The texts of a run that a model may learn from."""

    def problems(self, split: str) -> "Sequence[Problem]":
        """The problems of a split that the model may learn from: of the pool, its rung's part."""

    def facts(self, lines: int) -> "Sequence[Example]":
        """Lines of facts, where the problems have such."""


class TrainingWork(TextSource, Protocol):
    """One model in the making.

    `model` is its name in tables and keys, `config` its architecture with the vocabulary filled in, `directory` where its files
    lie. `mesh` holds the devices. Keys are derived from (`seed`, purpose, ids): see `core.keys`. `grader` and `decoding` are
    there where the training stage says that it `samples`.
    """

    @property
    def model(self) -> str: ...
    @property
    def config(self) -> "ModelConfig": ...
    @property
    def seed(self) -> int: ...
    @property
    def mesh(self) -> Any: ...
    @property
    def directory(self) -> Path: ...
    @property
    def drawn(self) -> Path:
        """A folder for what the training draws as it goes: when an interrupted training goes on, what lies there is still what it
        drew; where a setting or an input has changed since, it is empty again."""

    @property
    def own_split(self) -> str:
        """The split whose problems the model may answer by itself to learn from its answers: the pool's, of its rung's part; a
        teacher's own."""

    @property
    def renderer(self) -> "Renderer": ...
    @property
    def grader(self) -> "Grader": ...
    @property
    def decoding(self) -> "Decoding": ...

    def examples(self) -> "Sequence[Example]":
        """The examples that the model's arm selected; they stay on the disk. `NothingToTrain` where there are none."""

    def fresh(self) -> Any:
        """Random parameters of the architecture."""

    def initial(self) -> Any:
        """The parameters of the model that the training starts from, on the mesh."""

    def parent(self) -> Mapping[str, str]:
        """What a checkpoint's lineage says of the model that the training starts from; empty for one that starts from none."""

    def grown(self) -> Any:
        """`initial` of a smaller architecture, grown to this one without changing its function."""

    def author(self, params: Any) -> "Author":
        """The model with some parameters, ready to write."""

    def keep(self, params: Any, origin: Mapping[str, str]) -> TrainedModel:
        """Save parameters that need no training as a checkpoint like any other."""

    def load(self, reference: str) -> TrainedModel:
        """`keep` of parameters that the user gave by name: a Hub id, a Hugging Face directory, a checkpoint."""

    def imitate(
        self,
        examples: "Sequence[Example]",
        params: Any,
        training: "Training",
        objective: "Objective | None" = None,
        probe: "Probe | None" = None,
    ) -> TrainedModel:
        """Train on examples with the regularized imitation loss from `params`: a pytree, or a function that gives it, such as
        `initial` itself, which is then called when there is room for them. `objective` and `probe` are by default those of the
        training stage's fields of these names, else its rung's; a start has `Objective()` and no looks. Examples that are not
        those of `examples()` are kept with the model. `UserError` at a second call, after `fit` or `keep` too."""

    def prefer(self, params: Any, training: "Training", loss: "SequenceLoss", probe: "Probe | None" = None) -> TrainedModel:
        """Train on the pairs that the model's arm made, from `params` (as `imitate` takes them), which are the reference of the
        loss. `NothingToTrain` where there are none; `UserError` at a second call, after `fit`, `imitate` or `keep` too."""

    def probing(self, probe: "Probe | None", params: Any = None) -> "Probing | None":
        """Looks at the probe problems while the model is trained, as `probe` says, for `fit`; the stage must say that it
        `samples`. `params`, by default `initial`, is what the model is compared with (a pytree, or a function that gives it); let
        nothing else hold parameters meanwhile."""

    def drawing(self, decoding: "Decoding", longest: int) -> "Drawing":
        """Draws answers of the model as it is in training, with an engine that stays; `longest` is how many tokens a prompt and
        its answer have at most. The stage must say that it `samples`."""

    def beside(self) -> "Models":
        """The frozen models, besides the one that the training starts from, that the loss of the stage's `objective` looks at."""

    def flops(self, training: "Training", objective: "Objective", tokens: int, sampled: int = 0, initial: bool = False) -> float:
        """Floating-point operations of a training that read `tokens` positions in all and let the model decode or read `sampled`
        tokens; `initial` says that the frozen initial model was computed, whether or not the loss looks at it."""

    def fit(
        self, program: "Program", source: "Source", loop: "LoopSettings", probing: "Probing | None" = None
    ) -> "TrainingResult":
        """A training of the stage's own kind, by `training.loop.fit` in `directory`: with progress, warnings and requests to
        stop. An interrupted one goes on; where a setting or an input has changed since, it begins anew, with a warning."""

    def finish(
        self, result: "TrainingResult", measures: Mapping[str, Any], note: str, outputs: Sequence[Path] = ()
    ) -> TrainedModel:
        """What `fit` made, as a trained model; counts of steps and tokens are among its measures. `outputs` are files besides
        the journals that must reproduce."""

    def progress(self, done: float, total: float, detail: str) -> None: ...
    def warn(self, message: str) -> None: ...
    def stop(self) -> contextlib.AbstractContextManager[Callable[[], bool]]:
        """Inside, the function that is given says whether the work is asked to stop, and the work is expected to save itself."""

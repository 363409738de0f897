"""What starts and training stages are given to make a model with: `experiment.work.TrainingWork`, on the files of a run."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from w2sr_jax.answers.grade import Grader
from w2sr_jax.core import files
from w2sr_jax.core.errors import NothingToTrain, UserError
from w2sr_jax.core.keys import key
from w2sr_jax.core.records import Example, Problem, Stored
from w2sr_jax.core.trees import tree
from w2sr_jax.curation.texts import example, gold
from w2sr_jax.evaluation.cost import sampling_flops
from w2sr_jax.evaluation.probe import Probe
from w2sr_jax.experiment import TrainingStage
from w2sr_jax.experiment.work import TrainedModel
from w2sr_jax.graph.stage import Context, settings, stages_of
from w2sr_jax.losses.inputs import TEACHER
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.sequences import SequenceLoss
from w2sr_jax.models import finite, grow, transformer
from w2sr_jax.models.config import ModelConfig
from w2sr_jax.parallel.placement import mesh_of
from w2sr_jax.parallel.processes import first_does, put, report
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.traces import Author
from w2sr_jax.stages import examples as examples_of
from w2sr_jax.stages import layout, models, problems, tokenizer, training_files, weights
from w2sr_jax.stages import training_cost as cost
from w2sr_jax.stages.curate import emptied
from w2sr_jax.stages.probing import training_probe
from w2sr_jax.stages.problems import POOL
from w2sr_jax.stages.problems import TEACHER as TEACHER_SPLIT
from w2sr_jax.stages.training_notes import followers, spent, under_way
from w2sr_jax.text.render import Renderer
from w2sr_jax.training import checkpoints, journal
from w2sr_jax.training.frozen import FrozenModel
from w2sr_jax.training.loop import TrainingResult, fit
from w2sr_jax.training.policy.drawing import Drawing
from w2sr_jax.training.probe import Probing
from w2sr_jax.training.protocols import Hooks, Program, Source
from w2sr_jax.training.settings import LoopSettings, Training

if TYPE_CHECKING:
    from w2sr_jax.stages.train import Sampling, Train


class Work:
    """Satisfies `experiment.work.TrainingWork` for one training of a run."""

    def __init__(self, stage: Train, context: Context) -> None:
        self.stage, self.context, self.store = stage, context, context.store
        self.model, self.seed = stage.model.name, stage.seed
        self.directory = context.store.path(stage.model.directory)
        self.mesh = mesh_of(stage.mesh)
        self._made, self._began = False, time.monotonic()

    @cached_property
    def renderer(self) -> Renderer:
        return tokenizer.renderer(self.store)

    @cached_property
    def config(self) -> ModelConfig:
        return models.sized(self.stage.model.config, self.renderer)

    @cached_property
    def drawn(self) -> Path:
        return training_files.own_drawn(self.store, self.stage.model, self._identity, self.warn)

    @cached_property
    def _identity(self) -> str:
        """Digest of all that the model depends on."""
        read = {need.name: manifest.digest() for need in stages_of(self.stage) if (manifest := self.store.manifest(need.name))}
        return files.digest_json([settings(self.stage), read])

    @property
    def grader(self) -> Grader:
        return self.sampling.grader

    @property
    def decoding(self) -> Decoding:
        return self.sampling.decoding

    @property
    def sampling(self) -> Sampling:
        """How the model writes, and how that is graded."""
        if self.stage.sampling is None:
            raise UserError(
                f"{self.model}: a training stage asked for the grader or the decoding without saying so; let its property "
                "`samples` be True"
            )
        return self.stage.sampling

    @property
    def own_split(self) -> str:
        return POOL if self.stage.model.rung is not None else TEACHER_SPLIT

    def examples(self) -> Sequence[Example]:
        model, curation = self.stage.model, self.stage.curation
        if curation is None and model.rung is not None and isinstance(self.stage.recipe, TrainingStage):
            raise UserError(f"{self.model}: a training stage asked for examples, and its arm selects none; let it select some")
        if curation is None:
            return list(gold(self.problems(TEACHER_SPLIT))) if model.rung is None else []
        rows = Stored(self.store.file(examples_of.curated_in(curation.folder, model)), Example)
        if not len(rows):
            raise NothingToTrain(emptied(self.store, curation.name, str(model.arm)))
        return rows

    def problems(self, split: str) -> Sequence[Problem]:
        rows = problems.read(self.store, split)
        return problems.part(rows, self.stage.pool) if split == POOL else rows

    def facts(self, lines: int) -> Sequence[Example]:
        return [example("", "", line, "plain") for line in tokenizer.lines(self.stage.facts_of, lines)]

    def fresh(self) -> Any:
        return transformer.init(self.config, key(self.seed, "init", self.model))

    def initial(self) -> Any:
        return models.parameters(self.store, self._source().model, self.config, self.mesh)

    def grown(self) -> Any:
        source = self._source()
        smaller = models.sized(source.model.config, self.renderer)
        params = models.parameters(self.store, source.model, smaller, self.mesh)
        return params if smaller == self.config else grow.grow(smaller, params, self.config, key(self.seed, "grow", self.model))

    def parent(self) -> dict[str, str]:
        source = self.stage.source
        if source is None:
            return {}
        return {"parent_checkpoint": source.model.name, "parent_digest": models.digest(self.store, source.model)}

    def author(self, params: Any) -> Author:
        mesh = mesh_of(self.stage.probe_mesh or self.stage.mesh)
        spread = put(params, models.resting_shardings(self.config, mesh))
        return Author(self.model, self.config, spread, self.renderer, self.seed, "", mesh)

    def drawing(self, decoding: Decoding, longest: int) -> Drawing:
        mesh = mesh_of(self.stage.probe_mesh or self.stage.mesh)
        own = (self.model, self.seed, self.config, self.renderer, decoding, mesh, self.drawn)
        return Drawing(*own, self.store.sharing, longest)

    def flops(self, training: Training, objective: Objective, tokens: int, sampled: int = 0, initial: bool = False) -> float:
        own = cost.flops(self.config, training, objective, self.beside(), None, tokens, initial)
        return own + sampling_flops(self.config.parameters(), sampled)

    def keep(self, params: Any, origin: Mapping[str, str]) -> TrainedModel:
        self._making()
        params = put(params, models.resting_shardings(self.config, self.mesh))
        broken = finite.not_finite(params)
        if broken:
            source = origin.get("checkpoint") or origin.get("parent_checkpoint") or "what it starts from"
            raise UserError(f"{self.model}: {source} cannot be used: {finite.words(broken)}; take another checkpoint")
        digest = checkpoints.save_params(self.store.checkpoints(self.stage.model.checkpoints), params, origin)
        named = ("checkpoint", "revision", "parent_checkpoint")
        origins = [f"{name.replace('_', ' ')} {origin[name]}" for name in named if name in origin]
        return TrainedModel(
            layout.within(self.stage.model.checkpoints, "0"),
            digest,
            measures={"parameters": self.config.parameters(), **origin},
            note=", ".join([f"{self.config.parameters():,} parameters", *origins]),
        )

    def load(self, reference: str) -> TrainedModel:
        self.renderer.check_vocabulary(self.config.vocab_size)
        stored = weights.load(reference, self.config, models.resting_shardings(self.config, self.mesh))
        return self.keep(stored.params, stored.origin)

    def imitate(
        self,
        examples: Sequence[Example],
        params: Any,
        training: Training,
        objective: Objective | None = None,
        probe: Probe | None = None,
    ) -> TrainedModel:
        from w2sr_jax.stages.imitating import imitate

        return imitate(self, examples, params, training, objective, probe)

    def prefer(self, params: Any, training: Training, loss: SequenceLoss, probe: Probe | None = None) -> TrainedModel:
        from w2sr_jax.stages.preferring import prefer

        return prefer(self, params, training, loss, probe)

    def _making(self) -> None:
        self.check_unmade()
        self._made = True

    def check_unmade(self) -> None:
        if self._made:
            raise UserError(
                f"{self.model}: a training stage trains once, and this one calls imitate, fit or keep again; several rounds are "
                "several training stages of the arm, each of which goes on from the one before: Arm(…, train=(Round(), Round()))"
            )

    def probing(self, probe: Probe | None, params: Any = None) -> Probing | None:
        if probe is None or not probe.every or self.stage.model.rung is None:
            return None
        read = params if callable(params) else self.initial if params is None else partial(_same, params)
        looks = training_probe(self, read, probe)
        return None if looks is None else looks.probing()

    def fit(self, program: Program, source: Source, loop: LoopSettings, probing: Probing | None = None) -> TrainingResult:
        return self.fit_steered(program, source, loop, probing, self._identity)

    def fit_steered(
        self, program: Program, source: Source, loop: LoopSettings, probing: Probing | None, steered: str
    ) -> TrainingResult:
        """`fit` of a training that all of its settings steer by a digest of its own."""
        self._making()
        lineage = {"data_digest": source.digest, "config_hash": steered, **self.parent()}
        lineage |= {f"{name}_digest": models.digest(self.store, stage.model) for name, stage in self._others()}

        def clear() -> None:
            self.clear_foreign(lineage)
            if probing is None:
                files.remove(self.directory / journal.PROBE)  # of an interrupted training of other settings

        training_files.obtain_journals(self.store, self.stage.model)
        first_does(f"what an earlier training of {self.model} left", clear)
        with self.stop() as asked, self.about():
            hooks = Hooks(
                on_event=self._on_event,
                on_warning=lambda words: self.warn(f"{self.model}: {words}"),
                stop=asked,
                probe=probing,
                scalars=followers(self.context, self.stage, self.directory),
                began=self._began,
                keeping=training_files.keeping(self.store, self.stage.model),
            )
            return fit(program, source, self.directory, lineage, loop, hooks)

    def finish(
        self, result: TrainingResult, measures: Mapping[str, Any], note: str, outputs: Sequence[Path] = ()
    ) -> TrainedModel:
        counts = {"parameters": self.config.parameters(), "steps": result.steps, "tokens": result.tokens}
        looked = self.directory / journal.PROBE
        return TrainedModel(
            layout.within(self.stage.model.checkpoints, result.checkpoint.name),
            result.params_digest,
            [*outputs, *([looked] if looked.is_file() else []), self.directory / journal.METRICS],
            {**counts, **spent(self.directory), **measures},
            note,
        )

    def clear_foreign(self, lineage: Mapping[str, str]) -> None:
        """Remove checkpoints of other data or settings, with a warning: they stem from what an interrupted training of other
        inputs left."""
        folder = self.store.checkpoints(self.stage.model.checkpoints)
        try:
            before = checkpoints.read_lineage(folder)
        except UserError:  # none, or none that can be read: fit says so
            return
        changed = [name.replace("_", " ") for name, value in lineage.items() if before.get(name) != value]
        if changed:
            reason = f"its {' and '.join(changed)} changed after its checkpoints were made"
            self.warn(f"{self.model} is trained from the start, since {reason}")
            tree(folder).remove()

    def _on_event(self, event: Mapping[str, Any]) -> None:
        report({"waiting": event["waiting"]})
        self.progress(event["step"], event["total"], under_way(event))

    def progress(self, done: float, total: float, detail: str) -> None:
        self.context.watcher.progress(done, total, detail)

    def warn(self, message: str) -> None:
        self.context.watcher.warn(message)

    def stop(self) -> contextlib.AbstractContextManager[Callable[[], bool]]:
        return self.context.stop.deferred()

    def _others(self) -> list[tuple[str, Train]]:
        """The trainings of the models that the loss looks at, by the names that it has for them."""
        return list(zip(self.stage.other_names, self.stage.others, strict=True))

    def beside(self) -> dict[str, FrozenModel | None]:
        frozen: dict[str, FrozenModel | None] = {TEACHER: None} if self.stage.untaught else {}
        for name, stage in self._others():
            config = models.sized(stage.model.config, self.renderer)
            read = partial(models.parameters, self.store, stage.model, config, self.mesh)
            frozen[name] = FrozenModel(config, read, models.digest(self.store, stage.model))
        return frozen

    def _source(self) -> Train:
        source = self.stage.source
        if source is None:
            raise UserError(f"{self.model}: its start reads the parameters of a model before it, but there is none")
        return source

    @contextlib.contextmanager
    def about(self) -> Iterator[None]:
        """Says of a training that has nothing to learn from where its settings stand."""
        try:
            yield
        except NothingToTrain as error:
            model, curation = self.stage.model, self.stage.curation
            rung = f" ({curation.rung_name})" if curation is not None else ""
            where = model.name if model.rung is None else f"rungs.{model.rung}{rung}"
            raise NothingToTrain(f"{where}: {error}") from None


def _same(params: Any) -> Any:
    return params

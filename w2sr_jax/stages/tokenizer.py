"""The tokenizer that all models of a run share."""

import dataclasses

from w2sr_jax.graph.stage import Context, Stage, StageResult
from w2sr_jax.graph.store import RunStore
from w2sr_jax.problems.source import ProblemSource
from w2sr_jax.stages import layout, problems
from w2sr_jax.stages.external import DataSet
from w2sr_jax.stages.problems import POOL, PRETRAIN, PROBE, TEACHER, TEST, Problems
from w2sr_jax.teachers.teacher import Teacher
from w2sr_jax.text import tokenizer as tokenizers
from w2sr_jax.text.contract import TokenizerSettings
from w2sr_jax.text.render import Renderer


@dataclasses.dataclass(frozen=True)
class Tokenizer(Stage):
    """Make the tokenizer of the texts that models are trained on. A vocabulary of words also needs to know the words of the
    questions that are only asked. Writes tokenizer/."""

    problems: Problems
    settings: TokenizerSettings
    facts_of: ProblemSource | None = None
    """The problems of which arithmetic facts are made for bases that are pretrained in the run, `facts` lines of them."""
    facts: int = 0
    files: tuple[Teacher, ...] = ()
    data: tuple[DataSet, ...] = ()

    kind = "prepare"

    def run(self, context: Context) -> StageResult:
        store = context.store
        texts = lines(self.facts_of, self.facts)
        for name in (PRETRAIN, TEACHER, POOL):
            for problem in problems.read(store, name):
                texts.extend(text for text in (problem.question, problem.solution) if text)
        if self.settings.needs_questions():
            texts.extend(problem.question for name in (PROBE, TEST) for problem in problems.read(store, name))
        for teacher in self.files:
            texts.extend(trace.text for trace in teacher.load(problems.read(store, POOL)).traces)
        built = tokenizers.build(self.settings, texts)
        directory = store.path(layout.TOKENIZER)
        built.save(directory)
        outputs = sorted(path for path in directory.rglob("*") if path.is_file())
        return StageResult(outputs, measures={"vocabulary": built.vocab_size}, note=f"{built.vocab_size:,} tokens")


def renderer(store: RunStore) -> Renderer:
    """The run's renderer, with its tokenizer."""
    return Renderer(tokenizers.load(store.folder(layout.TOKENIZER)))


def lines(source: ProblemSource | None, count: int) -> list[str]:
    """Lines of facts that a source of problems has to pretrain on."""
    return [] if source is None else source.facts(count)

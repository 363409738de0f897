"""Evaluation of one model: answers to the test problems, their scores, its likelihood of held-out traces, and, for the error
ledger, answers to training problems; of a teacher that is a file, the answers to test problems that lie in it."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from w2sr_jax.answers.grade import Grader, grade_all
from w2sr_jax.batches.encode import encode, encoded
from w2sr_jax.batches.packing import pack
from w2sr_jax.core import codec, records
from w2sr_jax.core.records import Example, Problem, Trace
from w2sr_jax.evaluation.answered import score_answers
from w2sr_jax.evaluation.cost import sampling_flops
from w2sr_jax.evaluation.scores import HeldOut, score
from w2sr_jax.evaluation.settings import Evaluation
from w2sr_jax.experiment import GOLD
from w2sr_jax.graph.stage import NOT_READ, Context, Stage, StageResult
from w2sr_jax.graph.store import RunStore
from w2sr_jax.parallel.placement import Placement, mesh_of
from w2sr_jax.sampling.dividing import Division
from w2sr_jax.sampling.settings import Decoding
from w2sr_jax.sampling.traces import Author, draw
from w2sr_jax.stages import faithfulness, layout, problems, tables
from w2sr_jax.stages.curate import Curate
from w2sr_jax.stages.external import DataSet
from w2sr_jax.stages.layout import FAITHFULNESS, GENERATIONS, HELD_OUT, SCORES
from w2sr_jax.stages.models import Model, author_of
from w2sr_jax.stages.outcomes import GREEDY
from w2sr_jax.stages.problems import POOL, PROBE, TEST, Problems
from w2sr_jax.stages.tokenizer import Tokenizer
from w2sr_jax.stages.traces import Traces, by_problem
from w2sr_jax.stages.train import Train
from w2sr_jax.teachers.teacher import Teacher
from w2sr_jax.training.held_out import nll, unigram_nll


@dataclasses.dataclass(frozen=True)
class Evaluate(Stage):
    """Ask one model. Writes evaluations/MODEL/{generations.parquet,scores.json}; for a student also held_out.json, measured in
    rows of `length` tokens, `rows` at a time.

    For the error ledger a rung's models also answer the problems of its part of the pool (pool.parquet) and, where a teacher is
    no model of the run, which need not answer test problems, the probe problems (probe.parquet). `largest` is the largest number
    that the tokenizer knows, where it knows only some.
    """

    model: Model
    training: Train
    problems: Problems
    tokenizer: Tokenizer
    evaluation: Evaluation
    decoding: Decoding
    grader: Grader
    mesh: Placement = dataclasses.field(metadata=NOT_READ)
    seed: int
    curation: Curate | None = None
    traces: tuple[Traces, ...] = ()
    length: int = 0
    rows: int = 0
    pool: tuple[float, float] | None = None
    asks_probe: bool = False
    largest: int | None = None

    kind = "evaluate"

    @property
    def hosts(self) -> Literal["one", "all"]:
        return "all"

    @property
    def serves(self) -> int | None:
        return self.model.rung

    @property
    def computes_on(self) -> Placement:
        return self.mesh

    def run(self, context: Context) -> StageResult:
        store, settings = context.store, self.evaluation
        directory = store.path(layout.evaluation(self.model.name))
        test = problems.read(store, TEST)
        author = dataclasses.replace(author_of(store, self.training, self.model.name, self.mesh), seed=self.seed)
        held = None if self.curation is None else self._held_out(store, author, self.curation)
        division = Division.of(author, directory, store.sharing)
        answers = self._answers(context, division, test)
        if not context.first:
            return StageResult()
        greedy, sampled = answers.greedy, answers.sampled
        marked = [dataclasses.replace(trace, sample=GREEDY) for trace in greedy]
        records.write(directory / GENERATIONS, Trace, [*marked, *sampled])
        scores = score(test, greedy, sampled, settings)
        codec.write(directory / SCORES, scores)
        outputs = [directory / GENERATIONS, directory / SCORES]
        tokens = sum(trace.tokens for trace in [*greedy, *sampled])
        accuracy = scores.accuracy
        note = f"accuracy {accuracy.value:.1%} [{accuracy.low:.1%}, {accuracy.high:.1%}] on {accuracy.n} problems"
        if held is not None:
            codec.write(directory / HELD_OUT, held)
            outputs.append(directory / HELD_OUT)
            if held.nll is not None:
                note += f", held-out NLL {held.nll:.3f} (unigram {held.unigram:.3f}) nats/token"
        for name, traces in answers.ledger.items():
            marked = [dataclasses.replace(trace, sample=GREEDY) for trace in traces]
            path = store.path(layout.answers(self.model.name, name))
            records.write(path, Trace, marked)
            outputs.append(path)
            tokens += sum(trace.tokens for trace in marked)
        more_read = 0
        if answers.intervened is not None:
            codec.write(directory / FAITHFULNESS, answers.intervened.interventions)
            outputs.append(directory / FAITHFULNESS)
            more_read = answers.intervened.read
            tokens += answers.intervened.written
        others = [problem for more in self._ledger_problems(store).values() for problem in more]
        asked = author.renderer.prompts([problem.question for problem in test], self.model.style)
        also = author.renderer.prompts([problem.question for problem in others], self.model.style)
        read = (1 + settings.samples) * sum(map(len, asked)) + sum(map(len, also)) + more_read
        flops = sampling_flops(author.config.parameters(), read + tokens)
        measures = {"tokens": tokens, "flops": flops, "accuracy": accuracy.value}
        return StageResult(outputs, measures=measures, note=note)

    def _answers(self, context: Context, division: Division, test: list[Problem]) -> "_Answers":
        """All that the model answers. Each process draws its part of everything."""
        settings, progress, store = self.evaluation, context.watcher.progress, context.store
        cold = dataclasses.replace(self.decoding, temperature=0.0)
        warm = dataclasses.replace(self.decoding, temperature=settings.temperature)

        def drawn(name: str, problems: Sequence[Problem], samples: int, decoding: Decoding) -> tuple[list[Trace], list[Trace]]:
            own = division.own(problems)
            traces = draw(division.author, own, samples, decoding, self.grader, self.model.style, progress)
            return traces, division.gather(name, traces, [problem.id for problem in problems], Trace)

        own, greedy = drawn("greedy", test, 1, cold)
        sampled = drawn("sampled", test, settings.samples, warm)[1] if settings.samples else []
        ledger = {name: drawn(name, more, 1, cold)[1] for name, more in self._ledger_problems(store).items()}
        intervened = None
        if settings.faithfulness and self.model.role in ("teacher", "student", GOLD):
            intervened = faithfulness.intervene(division, test, own, settings, self.decoding, self.grader, self.largest, progress)
        return _Answers(greedy, sampled, ledger, intervened)

    def _ledger_problems(self, store: RunStore) -> dict[str, list[Problem]]:
        """The problems that the model answers for the error ledger besides the test problems, by the split they are from."""
        asked = {}
        if self.pool is not None and self.evaluation.pool:
            asked[POOL] = problems.pool(store, self.pool)[: self.evaluation.pool]
        if self.asks_probe:
            asked[PROBE] = problems.read(store, PROBE)
        return asked

    def _held_out(self, store: RunStore, author: Author, curation: Curate) -> HeldOut:
        """Mean NLL per supervised token, nats, of the teachers' traces on the probe problems, which no student was trained on;
        and that of a unigram model of the student's own training data, add-one smoothed."""
        probe = {problem.id: problem for problem in problems.read(store, PROBE)}
        groups = by_problem(store, curation.rung, curation.teachers, list(probe.values()))
        # Of what was cut off, or is empty, nothing is to be likely.
        traces = [trace for _, group in groups for trace in group if trace.finish == "stop" and trace.text.strip()]
        held, _ = encode([_example(trace, probe[trace.problem_id]) for trace in traces], author.renderer, self.length)
        if not held:
            return HeldOut(nll=None, unigram=None, traces=0, tokens=0)
        examples = records.Stored(
            store.file(layout.within(layout.arm(curation.folder, str(self.model.arm)), layout.CURATED)), Example
        )
        train = encoded(examples, author.renderer, self.length, Counter())
        packed = pack(held, self.length, author.renderer.pad)
        total, tokens = nll(author.config, author.params, packed, self.rows, mesh_of(self.mesh))
        return HeldOut(total / tokens, unigram_nll(train, held, author.config.vocab_size), len(held), tokens)


@dataclasses.dataclass(frozen=True)
class EvaluateFile(Stage):
    """Grade and score the answers to test problems that lie in a teacher's file. Writes evaluations/TEACHER/
    {generations.parquet,scores.json}, nothing where it has none. No student is trained on them: the pool holds no test
    problem."""

    teacher: Teacher = dataclasses.field(metadata=NOT_READ)
    steering: Any
    problems: Problems
    evaluation: Evaluation
    grader: Grader
    data: tuple[DataSet, ...] = ()

    kind = "evaluate"

    def run(self, context: Context) -> StageResult:
        store, progress = context.store, context.watcher.progress
        test = problems.read(store, TEST)
        traces = self.teacher.load([], tested=test).traces if test else []
        by_id = {problem.id: problem for problem in test}
        asked = [by_id[trace.problem_id] for trace in traces]
        texts = [trace.text for trace in traces]
        verdicts = grade_all(self.grader, texts, asked, lambda done, total: progress(done, total, "grading"))
        graded = [trace.graded(verdict) for trace, verdict in zip(traces, verdicts, strict=True)]
        scores = score_answers(test, graded, self.evaluation)
        answered = len({trace.problem_id for trace in graded})
        counts = {"traces": len(graded), "problems": answered, "test_problems": len(test)}
        if scores is None:
            return StageResult(measures=counts, note=f"{len(graded):,} answers to test problems, none of which can be graded")
        directory = store.path(layout.evaluation(self.teacher.name))
        records.write(directory / GENERATIONS, Trace, graded)
        codec.write(directory / SCORES, scores)
        accuracy = scores.accuracy
        note = (
            f"{len(graded):,} answers in the file to {answered:,} of {len(test):,} test problems, set aside: accuracy "
            f"{accuracy.value:.1%} [{accuracy.low:.1%}, {accuracy.high:.1%}]"
        )
        paths = [directory / GENERATIONS, directory / SCORES]
        return StageResult(paths, measures={**counts, "accuracy": accuracy.value}, note=note)


class _Answers(NamedTuple):
    """What a model answered, all of it at the first process: greedily and by sampling to the test problems, to each split of the
    error ledger, and after interventions."""

    greedy: list[Trace]
    sampled: list[Trace]
    ledger: Mapping[str, list[Trace]]
    intervened: faithfulness.Intervened | None


def generations(store: RunStore, model: str) -> tuple[list[Trace], list[Trace]]:
    """What the evaluation of the model of this name wrote: greedy traces and samples."""
    traces = tables.read(store.file(layout.within(layout.evaluation(model), GENERATIONS)), Trace)
    return [t for t in traces if t.sample == GREEDY], [t for t in traces if t.sample != GREEDY]


def _example(trace: Trace, problem: Problem) -> Example:
    return Example(trace.id, problem.id, trace.id, trace.teacher, problem.question, trace.text, "reason", trace.verdict, 1.0)

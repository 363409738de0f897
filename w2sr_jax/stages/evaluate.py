"""Evaluation of one model: answers to the test problems, their scores, its likelihood of held-out traces, and, for the error
ledger, answers to training problems."""

import dataclasses
from collections import Counter
from pathlib import Path

from w2sr_jax.batches.encode import encode, encoded
from w2sr_jax.batches.packing import pack
from w2sr_jax.core import codec, records
from w2sr_jax.core.records import Example, Problem, Trace
from w2sr_jax.evaluation.cost import sampling_flops
from w2sr_jax.evaluation.scores import HeldOut, score
from w2sr_jax.experiment import GOLD
from w2sr_jax.graph import verified
from w2sr_jax.graph.stage import Context, Made
from w2sr_jax.sampling.traces import Author, draw
from w2sr_jax.stages import faithfulness, models, tables
from w2sr_jax.stages import problems as prepare
from w2sr_jax.stages import traces as teach
from w2sr_jax.stages.models import Model
from w2sr_jax.stages.outcomes import GENERATIONS, GREEDY
from w2sr_jax.training.held_out import nll, unigram_nll

SCORES, HELD_OUT, FAITHFULNESS = "scores.json", "held_out.json", "faithfulness.json"


def evaluate(context: Context, model: Model, held_out: bool) -> Made:
    """Write evaluations/MODEL/{generations.parquet,scores.json}; with `held_out` also held_out.json.

    For the error ledger a rung's models also answer training problems (pool.parquet) and, where a teacher is a recorded file,
    which need not hold answers to test problems, probe problems (probe.parquet).
    """
    experiment = context.experiment
    directory = context.run / "evaluations" / model.name
    problems = prepare.read(context.run, prepare.TEST)
    author = teach.author_of(context, model, model.name)
    settings, grader, tell = experiment.evaluation, experiment.grader, context.watcher.progress
    greedy = _greedy(context, author, problems, model.style)
    sampled = []
    if settings.samples:
        warm = dataclasses.replace(experiment.decoding, temperature=settings.temperature)
        sampled = draw(author, problems, settings.samples, warm, grader, model.style, tell)
    marked = [dataclasses.replace(trace, sample=GREEDY) for trace in greedy]
    records.write(directory / GENERATIONS, Trace, [*marked, *sampled])
    scores = score(problems, greedy, sampled, settings)
    codec.write(directory / SCORES, scores)
    outputs = [directory / GENERATIONS, directory / SCORES]
    tokens = sum(trace.tokens for trace in [*greedy, *sampled])
    accuracy = scores.accuracy
    note = f"accuracy {accuracy.value:.1%} [{accuracy.low:.1%}, {accuracy.high:.1%}] on {accuracy.n} problems"
    if held_out and model.rung is not None:
        held = _held_out(context, model, model.rung, author)
        codec.write(directory / HELD_OUT, held)
        outputs.append(directory / HELD_OUT)
        if held.nll is not None:
            note += f", held-out NLL {held.nll:.3f} (unigram {held.unigram:.3f}) nats/token"
    others: list[Problem] = []
    more_read = 0
    for name, more in ledger_problems(context, model).items():
        marked = [dataclasses.replace(trace, sample=GREEDY) for trace in _greedy(context, author, more, model.style)]
        records.write(directory / f"{name}.parquet", Trace, marked)
        outputs.append(directory / f"{name}.parquet")
        others += more
        tokens += sum(trace.tokens for trace in marked)
    if settings.faithfulness and model.role in ("teacher", "student", GOLD):
        interventions, more_read, more_written = faithfulness.intervene(context, author, problems, greedy)
        codec.write(directory / FAITHFULNESS, interventions)
        outputs.append(directory / FAITHFULNESS)
        tokens += more_written
    asked = author.renderer.prompts([problem.question for problem in problems], model.style)
    also = author.renderer.prompts([problem.question for problem in others], model.style)
    read = (1 + settings.samples) * sum(map(len, asked)) + sum(map(len, also)) + more_read
    flops = sampling_flops(author.config.parameters(), read + tokens)
    measures = {"tokens": tokens, "flops": flops, "accuracy": accuracy.value}
    return Made(outputs, {}, measures, note)


def generations(run: Path, name: str) -> tuple[list[Trace], list[Trace]]:
    """What `evaluate` wrote of the model of this name: greedy traces and samples."""
    traces = tables.read(verified.file(run, f"evaluations/{name}/{GENERATIONS}"), Trace)
    return [t for t in traces if t.sample == GREEDY], [t for t in traces if t.sample != GREEDY]


def ledger_problems(context: Context, model: Model) -> dict[str, list[Problem]]:
    """The problems that a model answers for the error ledger besides the test problems, by the split they are from."""
    if model.rung is None or (model.role not in ("student", GOLD) and model != models.before(context.experiment, model.rung)):
        return {}
    rung, found = context.experiment.rungs[model.rung], {}
    if count := context.experiment.evaluation.pool:
        found[prepare.POOL] = prepare.part(prepare.read(context.run, prepare.POOL), rung.pool)[:count]
    if teach.foreign_teachers(context.experiment, model.rung):
        found[prepare.PROBE] = prepare.read(context.run, prepare.PROBE)
    return found


def _greedy(context: Context, author: Author, problems: list[Problem], style: str) -> list[Trace]:
    decoding = dataclasses.replace(context.experiment.decoding, temperature=0.0)
    return draw(author, problems, 1, decoding, context.experiment.grader, style, context.watcher.progress)


def _held_out(context: Context, model: Model, index: int, author: Author) -> HeldOut:
    """Mean NLL per supervised token, nats, of the teachers' traces on the probe problems, which no student was trained on; and
    that of a unigram model of the student's own training data, add-one smoothed."""
    rung = context.experiment.rungs[index]
    probe = {problem.id: problem for problem in prepare.read(context.run, prepare.PROBE)}
    written = [trace for _, traces in teach.by_problem(context, index, list(probe.values())) for trace in traces]
    traces = [trace for trace in written if trace.finish == "stop" and trace.text.strip()]  # else nothing to be likely
    training = rung.training
    length, rows = training.batching.length, training.batching.rows // training.accumulation
    held, _ = encode([_example(trace, probe[trace.problem_id]) for trace in traces], author.renderer, length)
    if not held:
        return HeldOut(nll=None, unigram=None, traces=0, tokens=0)
    examples = records.Stored(verified.file(context.run, f"{model.directory}/curated.parquet"), Example)
    train = encoded(examples, author.renderer, length, Counter())
    packed = pack(held, length, author.renderer.pad)
    total, tokens = nll(author.config, author.params, packed, rows, models.device_mesh(context.experiment))
    return HeldOut(total / tokens, unigram_nll(train, held, author.config.vocab_size), len(held), tokens)


def _example(trace: Trace, problem: Problem) -> Example:
    return Example(trace.id, problem.id, trace.id, trace.teacher, problem.question, trace.text, "reason", trace.verdict, 1.0)

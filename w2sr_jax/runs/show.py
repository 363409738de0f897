"""`w2sr show`: one training example, token by token, as its training meets it: spans, weights, location in the packed batches.

Computed from the run's files with NumPy alone, so that it needs no device. What a model or a file wrote is shown with hidden
characters spelt out.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from w2sr_jax.batches.batch import Batch
from w2sr_jax.batches.encode import Encoded, encode
from w2sr_jax.batches.packing import positions
from w2sr_jax.configuration import saved
from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import terminal
from w2sr_jax.core.records import Example
from w2sr_jax.experiment import BASE, Experiment
from w2sr_jax.graph import skips
from w2sr_jax.graph.store import RunStore
from w2sr_jax.losses.objective import Objective
from w2sr_jax.losses.weights import TokenWeights
from w2sr_jax.report import hostile
from w2sr_jax.runs import drawn_answers
from w2sr_jax.runs.packing import Location, Packing, example_at, packing_of
from w2sr_jax.stages import examples as batching
from w2sr_jax.stages import layout, models, tokenizer
from w2sr_jax.stages.execute import seed_stores
from w2sr_jax.stages.models import Model
from w2sr_jax.text import spans

STEPS = 8  # steps listed
WIDEST = 110  # characters of a line of tokens
SPACE, NEWLINE, TAB, EDGE = "·", "⏎", "⇥", "│"
LABELS = ("prompt", "reasoning", "answer", "end-of-turn")
STYLES = ("dim", "cyan", "bold green", "bold magenta")
_UNBOUNDED = 2**31
_FIELDS = ("tokens", "target", "segments", "span", "verdict", "weight", "teacher_logprob")


class ShownToken(NamedTuple):
    """One token as it is shown: what it adds to the text, its span, whether it is imitated, and with what weight."""

    piece: str
    span: int
    supervised: bool
    weight: float


def show(
    directory: Path, example: int, rung: int = 0, arm: str | None = None, plain: bool = False, console: Console | None = None
) -> None:
    """Print training example number `example` (from 0) of a rung's arm (`None`: its first). `UserError` where a number or a name
    is out of range, saying what there is, and where something has not been made yet."""
    experiment = saved.load(directory)
    seed, run = experiment.seeds[0], seed_stores(experiment, directory)[0]
    model = _model(experiment, rung, arm)
    examples = _examples(run, experiment, model)
    if not 0 <= example < len(examples):
        raise UserError(f"{model.name} has no example {example}; its examples are numbered 0 to {len(examples) - 1}")
    training = batching.training_of(experiment, model)
    if training is None:
        raise UserError(f"no setting says how {model.name} is trained on batches of examples, so that there is none to show")
    renderer = tokenizer.renderer(run)
    one = example_at(examples, example)
    objective = batching.objective_of(experiment, model)
    refused = renderer.refusal(one.response)
    if refused:
        raise UserError(f"example {example} of {model.name} is left out of its training: its response {refused}")
    (encoded,), _ = encode([one], renderer, _UNBOUNDED)
    packing = packing_of(run, model, examples, renderer, training, seed, batching.learns_from_pairs(experiment, model))
    location = packing.locate(example, encoded)
    tokens = _tokens(packing, encoded, location, objective.weights)
    name = batching.learnt_from(run, experiment, model) if model.arm != BASE else None
    page = _Page(packing, objective, one, encoded, location, tokens, name)
    if console is None:
        file = terminal.unguarded(sys.stdout)  # colours are its own; what is foreign in its lines is spelt out
        console = Console(file=file, highlight=False, soft_wrap=True, no_color=plain, color_system=None if plain else "auto")
    for line in page.lines(model, example, _notes(experiment, model, packing, name)):
        safe = terminal.escaped(line.plain)
        console.print(line if safe == line.plain else safe, soft_wrap=True, highlight=False, markup=False)


def weights(
    factors: TokenWeights,
    span: np.ndarray,
    verdict: np.ndarray,
    teacher_logprob: np.ndarray,
    weight: np.ndarray,
) -> Float[np.ndarray, "..."]:
    """What `factors` makes of the weights of an optimizer step's tokens: `TokenWeights.__call__` in NumPy."""
    by_span = np.select([span == 1, span == 2, span == 3], [factors.reasoning, factors.answer, factors.end], 1.0)
    by_verdict = np.select([verdict > 0, verdict < 0], [factors.correct, factors.incorrect], factors.unknown)
    new = weight * by_span * by_verdict
    if factors.confidence_gamma != 0.0:
        recorded = ~np.isnan(teacher_logprob)
        confidence = np.exp(factors.confidence_gamma * np.where(recorded, teacher_logprob, 0.0))
        before, after = np.sum(new * recorded), np.sum(new * recorded * confidence)
        new = new * np.where(recorded, confidence * before / (after if after > 0.0 else 1.0), 1.0)
    return new.astype(np.float32)


def _model(experiment: Experiment, index: int, arm: str | None) -> Model:
    if not 0 <= index < len(experiment.rungs):
        last = len(experiment.rungs) - 1
        raise UserError(f"there is no rung {index}; " + ("the only one is 0" if last == 0 else f"rungs are numbered 0 to {last}"))
    rung = experiment.rungs[index]
    base = (BASE,) if rung.start.training is not None else ()
    trained = (*(arm.name for arm in rung.trained), *base)
    if arm is not None and arm not in trained:
        raise UserError(f"rung {index} ({rung.name}) trains no {sentences.value(arm)}; it trains {', '.join(trained)}")
    return models.student(experiment, index, trained[0] if arm is None else arm)


def _examples(run: RunStore, experiment: Experiment, model: Model) -> Sequence[Example]:
    skipped = skips.reason(run, model.stage)
    if skipped:
        raise UserError(f"{model.name} was skipped: {sentences.printable(skipped)}")
    chooser = batching.chooser(experiment, model)
    if drawn_answers.draws_own(experiment, model):
        counts = drawn_answers.counted(run, model)
        raise UserError(
            f"{model.name} has no examples of others: its training stage {chooser} learns from what it draws itself; so far "
            f"{'; '.join(drawn_answers.lines(counts))}. w2sr explain {run.directory} PROBLEM shows those to a problem"
        )
    if chooser is not None and run.manifest(model.stage) is None:
        raise UserError(
            f"{model.name} has no examples yet: its training stage {chooser}, which may choose them itself, has not finished; "
            f"w2sr run {run.directory} makes it"
        )
    if chooser is not None and run.optional(layout.within(model.directory, layout.PACKING)) is None:
        raise UserError(f"{model.name} has no examples: its training stage {chooser} has trained in its own way, and kept none")
    name = batching.learnt_from(run, experiment, model)
    if model.arm != BASE and run.optional(name) is None:
        there = "was not written by a finished stage" if run.path(name).exists() else "is not there"
        raise UserError(f"{model.name} has no examples yet: {run.path(name)} {there}; w2sr curate {run.directory} makes them")
    if not run.below(layout.within(layout.TOKENIZER, "")):
        raise UserError(f"{run.directory} has no tokenizer yet; w2sr run makes it")
    examples = batching.examples_of(run, experiment, model)
    if not examples:
        raise UserError(f"{model.name} has no examples: its curation kept no trace")
    return examples


def _tokens(packing: Packing, encoded: Encoded, location: Location | None, factors: TokenWeights) -> list[ShownToken]:
    weight = np.zeros(len(encoded.tokens), np.float32)
    if location is None:
        alone = np.where(encoded.supervised, np.float32(encoded.weight), np.float32(0))
        verdict = np.full(len(alone), encoded.verdict)
        weight[1:] = weights(factors, encoded.span, verdict, encoded.teacher_logprob, alone)[1:]
    else:
        # A token is predicted one position before its own, and confidence is normalised over the tokens of a step.
        batch, row = _step(packing, location)
        every = weights(factors, batch.span, batch.verdict, batch.teacher_logprob, batch.weight)
        weight[1:] = every[row, location.start : location.start + positions(encoded)]
    pieces = packing.renderer.tokenizer.pieces(encoded.tokens.tolist())
    supervised = encoded.supervised & (np.arange(len(weight)) > 0)
    return [ShownToken(*one) for one in zip(pieces, encoded.span.tolist(), supervised.tolist(), weight.tolist(), strict=True)]


def _step(packing: Packing, location: Location) -> tuple[Batch, int]:
    """The batch of the first step that reads the row, and the row's index in it; the row alone where no step does."""
    assert packing.batches is not None
    packed = packing.batches.packed
    if not location.steps:
        rows = {field: getattr(packed, field)[location.row : location.row + 1] for field in (*_FIELDS, "positions")}
        return Batch(**rows), 0
    batch = packing.batches.batch_at(location.steps[0] - 1)
    wanted = {field: getattr(packed, field)[location.row] for field in _FIELDS}

    def is_wanted(row: int) -> bool:
        return all(np.array_equal(getattr(batch, field)[row], wanted[field], equal_nan=True) for field in _FIELDS)

    return batch, next(filter(is_wanted, range(len(batch.tokens))))


def _notes(experiment: Experiment, model: Model, packing: Packing, name: str | None) -> list[str]:
    if name == layout.within(model.directory, layout.LESSONS):
        return [
            f"the training stage {batching.chooser(experiment, model)} chose this text itself, it is none of those that were "
            "curated for the arm; weights are those of its objective as the settings have it"
        ]
    if packing.state == "foreign":
        path = layout.within(model.directory, layout.PACKING)
        return [f"{path} holds other batches than these examples make, so rows and steps may differ"]
    return []


@dataclasses.dataclass(frozen=True)
class _Page:
    packing: Packing
    objective: Objective
    example: Example
    encoded: Encoded
    location: Location | None
    tokens: Sequence[ShownToken]
    file: str | None

    def lines(self, model: Model, index: int, notes: Sequence[str]) -> Iterator[Text]:
        source = f", {self.file} row {index}" if self.file else ""
        yield Text(f"Example {index} of {len(self.packing.examples):,} (from 0), {model.name}{source}", "bold")
        yield Text(f"  {self._summary()}")
        yield Text(f"  {self._origin()}")
        yield Text(f"  {self._where()}")
        for note in [*notes, *self._remarks()]:
            yield Text(f"  note: {note}", "yellow")
        yield Text("")
        yield self._legend()
        for (span, supervised), run in groupby(enumerate(self.tokens), lambda one: (one[1].span, one[1].supervised)):
            yield from self._section(span, supervised, list(run))

    def _summary(self) -> str:
        renderer = self.packing.renderer
        imitated = [token for token in self.tokens if token.supervised]
        counts = ", ".join(
            f"{number:,} {LABELS[span]}" for span in range(4) if (number := sum(token.span == span for token in imitated))
        )
        ends = ", ".join(hostile.one_line(piece) for piece in renderer.tokenizer.pieces(list(renderer.end_tokens)))
        example = self.example
        return (
            f"{len(self.tokens):,} tokens, {len(imitated):,} supervised ({counts}), end tokens {ends}; style {example.style}, "
            f"teacher {hostile.one_line(example.teacher)}, {example.verdict}, "
            f"trace {hostile.one_line(example.trace_id) or 'none'}"
        )

    def _origin(self) -> str:
        example = self.example
        problem = f"problem {hostile.one_line(example.problem_id)}" if example.problem_id else "no problem"
        logprobs = self.encoded.teacher_logprob[self.encoded.supervised]
        mean = "not known"
        if not np.isnan(logprobs).all():
            mean = f"{float(np.exp(np.nanmean(logprobs))):.3g} per token (geometric mean)"
        return f"example {hostile.one_line(example.id)}, {problem}, weight {example.weight:.4g}, teacher's probability {mean}"

    def _where(self) -> str:
        location, settings = self.location, self.packing.training.batching
        taken = positions(self.encoded)
        if location is None and taken <= settings.length:
            count = len(self.packing.examples)
            if self.packing.state == "otherwise":
                return "its row and steps are not known, since it is not trained as the settings of its stage say"
            return f"its row and steps are not known before its training has packed the {count:,} examples"
        if location is None:
            return f"left out: it takes {taken:,} positions and a row has {settings.length:,}"
        of = "" if location.of == 1 else f" (number {location.number} of {location.of} there)"
        last = location.start + taken - 1
        here = f"packed in row {location.row:,}{of}, positions {location.start:,} to {last:,} of {settings.length:,}"
        total = self.packing.total
        if not location.steps:
            return f"{here}; in none of the {total:,} steps, which end before its turn"
        listed = [f"{step:,}" for step in location.steps]
        some = ", ".join(listed if len(listed) <= STEPS else [*listed[: STEPS - 1], "…", listed[-1]])
        return f"{here}; step{'s' if len(listed) > 1 else ''} {some} ({len(listed):,} in all, of {total:,})"

    def _remarks(self) -> Iterator[str]:
        example, gamma = self.example, self.objective.weights.confidence_gamma
        for remark in self.packing.renderer.remarks(example.response, example.style):
            yield f"the response {remark}"
        if gamma and self.location and self.location.steps:
            first = self.location.steps[0]
            yield f"the teacher's confidence is normalised over a step's tokens; weights are those of step {first:,}"
        if self.objective.trim:
            yield f"in each step the {self.objective.trim:.0%} of tokens whose loss is highest have weight 0 instead"

    def _legend(self) -> Text:
        legend = Text("")
        for label, style in zip(LABELS, STYLES, strict=True):
            legend.append(f" {label} ", style)
        return legend.append(f"   {EDGE} between tokens   {SPACE} space   {NEWLINE} newline   {TAB} tab", "dim")

    def _section(self, span: int, supervised: bool, run: Sequence[tuple[int, ShownToken]]) -> Iterator[Text]:
        """A heading, and the tokens of one span under it, each with its weight where they differ."""
        first, last = run[0][0], run[-1][0]
        values = [token.weight for _, token in run]
        same = not supervised or np.ptp(values) <= 1e-6 * max(values)
        if not supervised:
            words = "not supervised"
        elif same:
            words = f"supervised, weight {values[0]:.4g}" + (" each" if len(run) > 1 else "")
        else:
            words = f"supervised, weights {min(values):.3g} to {max(values):.3g}, each behind its token"
        where = f"token {first:,}" if first == last else f"tokens {first:,} to {last:,}"
        yield Text("")
        yield Text(f"{LABELS[span]}, {where}: {words}", "bold")
        line, width = Text(f"  {EDGE}", "dim"), 3
        for _, token in run:
            text = _visible(token.piece)
            weight = "" if same else f"{token.weight:.2g}"
            size = cell_len(text) + len(weight) + 1 + bool(weight)
            if width + size > WIDEST and width > 3:
                yield line
                line, width = Text(f"  {EDGE}", "dim"), 3
            line.append(text, STYLES[span])
            if weight:
                line.append(f" {weight}", "dim italic")
            line.append(EDGE, "dim")
            width += size
            if "\n" in token.piece and span != spans.END:
                yield line
                line, width = Text(f"  {EDGE}", "dim"), 3
        if width > 3:
            yield line


def _visible(piece: str) -> str:
    """A token on one line: spaces and newlines as signs, other hidden characters spelt out."""
    shown = hostile.visible(piece).replace(" ", SPACE).replace("\n", NEWLINE).replace("\t", TAB)
    return shown or "⟨empty⟩"

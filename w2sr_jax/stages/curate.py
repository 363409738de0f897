"""Curation of a rung: every arm's examples, the gold examples, and the funnels that say what became of every trace."""

import contextlib
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from w2sr_jax.answers.equality import Equality
from w2sr_jax.answers.grade import Grader
from w2sr_jax.core import codec, records
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import NothingToTrain
from w2sr_jax.core.records import Example, Pair, Problem, Trace
from w2sr_jax.curation.arms import Select
from w2sr_jax.curation.candidates import candidates
from w2sr_jax.curation.controls import Control
from w2sr_jax.curation.dispositions import REJECTED_SIDE, Disposition
from w2sr_jax.curation.select import Groups, Selection, Selector, examples, pairs
from w2sr_jax.curation.settings import Curation
from w2sr_jax.curation.texts import gold
from w2sr_jax.experiment import GOLD
from w2sr_jax.graph.stage import NOT_READ, WHERE_SET, Context, Stage, StageResult
from w2sr_jax.graph.store import RunStore
from w2sr_jax.problems.splits import CopyIndex
from w2sr_jax.stages import problems
from w2sr_jax.stages.controls import Controls, counting
from w2sr_jax.stages.layout import CURATED, DISPOSITIONS, FUNNELS, PAIRS, REJECTED
from w2sr_jax.stages.problems import Problems
from w2sr_jax.stages.tokenizer import Tokenizer
from w2sr_jax.stages.traces import DRAWN, Traces, by_problem, shards


@dataclasses.dataclass(frozen=True)
class Selected:
    """An arm as its curation sees it: its name, what it is called in tables, which traces it keeps."""

    name: str
    label: str
    select: Select


@dataclasses.dataclass(frozen=True)
class Curate(Stage):
    """Select the examples of every arm of a rung. Writes ARM/curated.parquet and ARM/dispositions.parquet (what became of every
    trace) into `folder`, ARM/pairs.parquet and ARM/rejected.parquet of an arm that makes pairs, the examples of the ceiling where
    there is one, and curation.json.

    An arm for which nothing is left gets no examples, and the measure `emptied` says why. `NothingToTrain` where the rung has
    nothing else: `others` says that it has arms besides, which learn from no traces. `weights` are the teachers', in their order.
    Controls (`curation.controls`) are made from what other arms have kept; `grader` is there where one of them grades again.
    """

    folder: str
    rung: int
    rung_name: str
    curation: Curation
    arms: tuple[Selected, ...]
    gold: bool
    pool: tuple[float, float]
    weights: tuple[float, ...]
    problems: Problems
    tokenizer: Tokenizer
    traces: tuple[Traces, ...]
    others: bool = dataclasses.field(default=False, metadata=WHERE_SET)
    grader: Grader | None = dataclasses.field(default=None, metadata=WHERE_SET)
    parents: tuple[Stage, ...] = dataclasses.field(default=(), metadata=NOT_READ)

    kind = "curate"

    @property
    def serves(self) -> int:
        return self.rung

    @property
    def after(self) -> tuple[Stage, ...]:
        return self.parents

    @property
    def teachers(self) -> list[str]:
        return [traces.teacher.name for traces in self.traces]

    def run(self, context: Context) -> StageResult:
        store, folder = context.store, context.store.path(self.folder)
        pool = problems.pool(store, self.pool)
        forbidden = [*problems.read(store, problems.TEST), *problems.read(store, problems.PROBE)]
        weights = dict(zip(self.teachers, self.weights, strict=True))
        copies = CopyIndex(forbidden, self.curation.copies) if forbidden else None
        own = next((arm.select for arm in self.arms if not usercode.is_ours(arm.select)), self)
        with usercode.guarded(own), Equality() as equality:
            selectors = {
                arm.name: Selector(arm.name, self.curation, copies, weights, equality, arm.select, arm.label)
                for arm in self.arms
                if not isinstance(arm.select, Control)
            }
            traces = self._show(store, pool, {folder / arm / DISPOSITIONS: one for arm, one in selectors.items()})
        paths = [path for teacher in self.teachers for path in shards(store, self.rung, teacher)]
        recorded = any(records.has_top(path, Trace) for path in paths)
        outputs, funnels = [], {}
        kept: dict[str, int] = {}
        emptied: dict[str, str] = {}
        lacking: list[str] = []
        for name, selector in selectors.items():
            selection, rows, path = selector.selection(), folder / name / DISPOSITIONS, folder / name / CURATED
            if selection.chosen is not None:
                records.write(rows, Disposition, map(selection.disposition, records.iterate(rows, Disposition)))
            groups = by_problem(store, self.rung, self.teachers, pool)
            records.write(path, Example, examples(selector, selection, groups, records.iterate(rows, Disposition)), recorded)
            outputs += [path, rows]
            if selector.select.pairs:
                outputs += self._write_pairs(store, pool, selector, selection)
            funnels[name], kept[name] = selection.funnel, selection.funnel.kept
            if selection.emptied:
                emptied[name] = selection.emptied
            lacking += [
                f"{count:,} problems with {reason.replace('_', ' ')} for {name}" for reason, count in selection.lacking.items()
            ]
        made = Controls(store, folder, self.rung, self.teachers, pool, weights, copies, self.curation, self.grader)
        for arm in self.arms:
            if isinstance(arm.select, Control):
                with usercode.guarded(arm.select):
                    funnel, kept[arm.name], why = made.write(arm.name, arm.label, arm.select, recorded)
                funnels[arm.name], about = funnel, funnel.control
                if about is not None and about.examples < about.wanted:
                    lacking.append(f"{arm.name} has {about.examples:,} for the {about.wanted:,} of {about.of}")
                outputs += [folder / arm.name / CURATED, folder / arm.name / DISPOSITIONS]
                if why:
                    emptied[arm.name] = why
        if self.gold:
            path = folder / GOLD / CURATED
            records.write(path, Example, gold(pool))
            outputs.append(path)
            kept[GOLD] = len(records.Stored(path, Example))
            if not kept[GOLD]:
                emptied[GOLD] = f"none of the {len(pool):,} problems has a worked solution to learn from"
        if len(emptied) == len(kept) and not self.others:
            why = "; ".join(dict.fromkeys(emptied.values()))
            raise NothingToTrain(f"rung {self.rung} ({self.rung_name}) has nothing to train on: {why}")
        codec.write(folder / FUNNELS, funnels)
        return StageResult(
            [*outputs, folder / FUNNELS],
            measures={"traces": traces, "kept": kept} | ({"emptied": emptied} if emptied else {}),
            note=f"{traces:,} traces; kept " + ", ".join([*(f"{arm} {count:,}" for arm, count in kept.items()), *lacking]),
        )

    def _write_pairs(self, store: RunStore, pool: Sequence[Problem], selector: Selector, selection: Selection) -> list[Path]:
        """The pairs of an arm, and the examples of their rejected sides."""
        folder = store.path(self.folder) / selector.arm
        rejected, paired = folder / REJECTED, folder / PAIRS

        def read() -> tuple[Groups, Iterable[Disposition]]:
            groups = by_problem(store, self.rung, self.teachers, pool, without=DRAWN)
            return groups, records.iterate(folder / DISPOSITIONS, Disposition)

        records.write(rejected, Example, examples(selector, selection, *read(), REJECTED_SIDE))
        records.write(paired, Pair, pairs(selector, selection, *read()))
        return [rejected, paired]

    def _show(self, store: RunStore, pool: Iterable[Problem], selectors: Mapping[Path, Selector]) -> int:
        """Show each selector all traces, and write down what becomes of them; how many traces there are."""
        tokens = counting(store)
        count = 0
        with contextlib.ExitStack() as stack:
            write = {path: stack.enter_context(records.writing(path, Disposition)) for path in selectors}
            for problem, traces in by_problem(store, self.rung, self.teachers, pool, without=DRAWN):
                group = list(candidates(traces, tokens))
                count += len(group)
                for path, selector in selectors.items():
                    write[path](selector.add(problem, group))
        return count


def emptied(store: RunStore, curation: str, arm: str) -> str:
    """Why an arm has no examples, as its curation said."""
    manifest = store.peek(curation)
    reasons = manifest.measures.get("emptied", {}) if manifest else {}
    return str(reasons.get(arm) or "its curation kept no trace")

"""The files of an arm that is made from what another arm of its rung has kept."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from w2sr_jax.answers.grade import Grader
from w2sr_jax.core import records
from w2sr_jax.core.records import Example, Problem, Trace
from w2sr_jax.curation.candidates import candidates
from w2sr_jax.curation.controls import Control, Tools
from w2sr_jax.curation.dispositions import KEPT, Disposition
from w2sr_jax.curation.funnel import Funnel
from w2sr_jax.curation.made import Making
from w2sr_jax.curation.settings import Curation
from w2sr_jax.graph.store import RunStore
from w2sr_jax.problems.splits import CopyIndex
from w2sr_jax.stages import tokenizer
from w2sr_jax.stages.layout import CURATED, DISPOSITIONS
from w2sr_jax.stages.traces import DRAWN, by_problem


@dataclasses.dataclass(frozen=True)
class Controls:
    """What the controls of a rung are made with. `folder` is the rung's, where the dispositions of the other arms lie; `pool` are
    its problems, `weights` the teachers', by their names."""

    store: RunStore
    folder: Path
    rung: int
    teachers: Sequence[str]
    pool: Iterable[Problem]
    weights: Mapping[str, float]
    copies: CopyIndex | None
    curation: Curation
    grader: Grader | None

    def write(self, arm: str, label: str, control: Control, recorded: bool) -> tuple[Funnel, int, str]:
        """Write ARM/curated.parquet and ARM/dispositions.parquet. The control's funnel, the number of its examples, and why there
        are none ("" where there are). `recorded`: traces have distributions."""
        spelled, tokens = tokenizer.renderer(self.store).tokenizer, counting(self.store)

        def known(text: str) -> bool:
            return spelled.unknown is None or spelled.unknown not in spelled.encode([text])[0]

        def length(text: str) -> int:
            return len(spelled.encode([text])[0]) + 1

        tools = Tools(self.curation, known, length, self.grader)
        making = Making(arm, label, control, tools, self.copies, self.weights)
        kept = self._kept(control.of)
        for problem, traces in self._groups(DRAWN):
            making.see(problem, traces, list(candidates(traces, tokens)), kept)
        making.draw()
        rows, path = self.folder / arm / DISPOSITIONS, self.folder / arm / CURATED
        with records.writing(rows, Disposition) as write:
            for problem, traces in self._groups(DRAWN):
                write(making.dispositions(problem, list(candidates(traces, tokens))))
        asked = {problem.id: problem for problem in self.pool if problem.id in making.asked} if making.asked else {}
        records.write(path, Example, making.examples(self._groups(()), asked), recorded)
        funnel = making.funnel()
        assert funnel.control is not None
        return funnel, funnel.control.examples, making.emptied()

    def _groups(self, without: Sequence[str]) -> Iterable[tuple[Problem, list[Trace]]]:
        return by_problem(self.store, self.rung, self.teachers, self.pool, without=without)

    def _kept(self, arm: str) -> frozenset[str]:
        rows = records.iterate(self.folder / arm / DISPOSITIONS, Disposition)
        return frozenset(row.trace_id for row in rows if row.reason == KEPT)


def counting(store: RunStore) -> Callable[[Trace], int]:
    """How many tokens a trace has, also where its teacher did not say."""
    renderer = tokenizer.renderer(store)
    return lambda trace: trace.tokens or len(renderer.tokenizer.encode([trace.text])[0]) + 1

"""From which files a section's numbers were read."""

import dataclasses
from collections.abc import Sequence

from w2sr_jax.report.evidence import listed
from w2sr_jax.report.results import Results, Source

TRAINING = ("metrics.jsonl", "held_out.json")
PROBE = ("probe.jsonl",)
REASONING = ("faithfulness.json",)


@dataclasses.dataclass(frozen=True)
class Files:
    """The files behind each section of the page."""

    answers: list[Source]
    reasoning: list[Source]
    training: list[Source]
    probe: list[Source]
    curation: list[Source]
    ledger: list[Source]
    teachers: list[Source]
    grading: list[Source]


def files(results: Results) -> Files:
    """The files of each section; those of a model are told apart by their names."""
    models = [source for model in results.models.values() for source in model.sources]
    answers = listed(source for source in models if _name(source) not in (*TRAINING, *PROBE, *REASONING))
    graded = [entry.sources for entry in results.grading.readings] + [entry.sources for entry in results.grading.wrong]
    return Files(
        answers=answers,
        reasoning=listed([*answers, *_named(models, REASONING)]),
        training=listed(_named(models, TRAINING)),
        probe=listed(_named(models, PROBE)),
        curation=listed(source for rung in results.rungs for source in rung.sources),
        ledger=listed(source for entry in results.ledgers for source in entry.sources),
        teachers=listed(source for entry in results.teachers for source in entry.sources),
        grading=listed(source for sources in graded for source in sources),
    )


def _named(sources: Sequence[Source], names: tuple[str, ...]) -> list[Source]:
    return [source for source in sources if _name(source) in names]


def _name(source: Source) -> str:
    return source.path.rpartition("/")[2]

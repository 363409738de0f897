"""From which files a section's numbers were read."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

TRAINING = ("metrics.jsonl", "held_out.json")
PROBE = ("probe.jsonl",)
REASONING = ("faithfulness.parquet", "faithfulness.json", "faithfulness.jsonl")


def listed(found: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each file once (and each choice of its rows), in order of their paths."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for source in found:
        path, where = str(source.get("path") or ""), source.get("where")
        digest = str(source.get("digest") or "")
        rows[path, str(where or "")] = {"path": path, "digest": digest, "rows": source.get("rows"), "where": where}
    return [rows[key] for key in sorted(rows)]


def sections(data: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The files behind each section of the page. Those of a model are told apart by their names."""
    models = [source for model in (data.get("models") or {}).values() for source in model.get("sources") or []]
    rungs = [source for rung in data.get("rungs") or [] for source in rung.get("sources") or []]
    elsewhere = (*TRAINING, *PROBE, *REASONING)
    answers = listed(source for source in models if _name(source) not in elsewhere)
    return {
        "accuracy": answers,
        "ladder": answers,
        "gap": answers,
        "reasoning": listed([*answers, *_named(models, REASONING)]),
        "training": listed(_named(models, TRAINING)),
        "probe": listed(_named(models, PROBE)),
        "curation": listed(rungs),
        "ledger": listed(source for entry in data.get("ledgers") or [] for source in entry.get("sources") or []),
        "teachers": listed(source for entry in data.get("teachers") or [] for source in entry.get("sources") or []),
    }


def _named(found: Sequence[Mapping[str, Any]], names: tuple[str, ...]) -> list[Mapping[str, Any]]:
    return [source for source in found if _name(source) in names]


def _name(source: Mapping[str, Any]) -> str:
    return str(source.get("path") or "").rpartition("/")[2]

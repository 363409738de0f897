"""What the page says of recorded teachers whose files hold answers to test problems."""

from collections.abc import Mapping
from typing import Any

from w2sr_jax.report import hostile, wording
from w2sr_jax.report.verdict import confidence


def notes(results: Mapping[str, Any]) -> list[str]:
    """A note for each such teacher of `results.json` (schema.Results): how many answers its file holds, to how many problems, how
    good they are, and that students are held against it on these alone."""
    return [_note(name, model) for name, model in sorted((results.get("models") or {}).items()) if model.get("on_file")]


def _note(name: str, model: Mapping[str, Any]) -> str:
    found, scores = model["on_file"], model.get("scores") or {}
    path = str(found.get("path") or "")
    file = hostile.one_line(path.rpartition("/")[2] or path, 60)
    answers = wording.count(found.get("answers"))
    problems, every = found.get("problems"), found.get("test_problems")
    accuracy = scores.get("accuracy") or {}
    right = f"{wording.percent(accuracy.get('value'))} right ({confidence(scores)} interval {wording.percent_range(accuracy)})"
    said = f"The teacher “{hostile.one_line(name, 40)}” is a file: {file} holds {answers} answers to "
    said += f"{wording.count(problems)} of {wording.count(every)} test problems, {right}. No student was trained on them"
    if problems == every:
        return f"{said}."
    return f"{said}; students are held against it on these {wording.count(problems)} problems, and against the others on all."

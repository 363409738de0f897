"""Write a report: `index.html` and `results.json`, each in one step, the same bytes for the same results."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from w2sr_jax import files
from w2sr_jax.errors import UserError
from w2sr_jax.report import page, schema

INDEX, RESULTS = "index.html", "results.json"


def write(directory: Path, results: Mapping[str, Any]) -> tuple[Path, Path]:
    """Write both files (schema.Results in) and return their paths: the page, the numbers."""
    plain = schema.plain(results)
    numbers, index = directory / RESULTS, directory / INDEX
    # Escaped to ASCII: hidden characters of a trace stay visible in an editor, and lone surrogates survive.
    text = json.dumps({**plain, "format": schema.VERSION}, sort_keys=True, indent=1, allow_nan=False)
    files.write_text(numbers, text + "\n")
    files.write_text(index, page.render(plain))
    return index, numbers


def read(directory: Path) -> dict[str, Any]:
    """The results that `write` wrote, without the format mark; a newer format is a `UserError`."""
    path = directory / RESULTS
    results = files.read_json(path)
    if not isinstance(results, dict):
        raise UserError(f"{path} does not hold the results of a run: it must be a JSON object")
    found = results.pop("format", schema.VERSION)
    if found != schema.VERSION:
        raise UserError(f"{path} has format {found}; this version of w2sr_jax reads format {schema.VERSION}")
    return results

"""Write a report: each file in one step, the same bytes for the same arguments."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from w2sr_jax.core import files
from w2sr_jax.core.errors import UserError
from w2sr_jax.report import evidence as pages
from w2sr_jax.report import page, rule, schema
from w2sr_jax.report.evidence import Evidence

INDEX, RESULTS, TIMINGS = "index.html", "results.json", "timings.json"


@dataclasses.dataclass(frozen=True)
class Written:
    """What `write` wrote. `index` and `timings` depend on clocks, where timings were given; the others do not."""

    index: Path
    numbers: Path
    timings: Path | None
    evidence: list[Path]


def write(
    directory: Path, results: Mapping[str, Any], timings: Mapping[str, Any] | None = None, evidence: Sequence[Evidence] = ()
) -> Written:
    """Write `index.html`, `results.json` (schema.Results in), `timings.json` (schema_evidence.Timings in), `evidence/KEY.html`.

    The verdict is made here, of the numbers it is about. What an earlier report left and this one has not is removed. The page
    comes last: what it links to is there.
    """
    given, checked = schema.plain(results), pages.checked(evidence)
    plain = {**given, "verdict": rule.verdict(given)}
    folder = directory / pages.FOLDER
    shown = [folder / pages.file_name(one.key) for one in checked]
    for path, one in zip(shown, checked, strict=True):
        files.write_text(path, pages.render(one, plain.get("name")))
    numbers, index, clock = directory / RESULTS, directory / INDEX, directory / TIMINGS
    files.write_text(numbers, _json({**plain, "format": schema.VERSION}))
    if timings is not None:
        files.write_text(clock, _json(schema.plain(timings)))
    files.write_text(index, page.render(plain, timings, checked))
    _remove_others(folder, shown)
    if timings is None:
        clock.unlink(missing_ok=True)
    return Written(index, numbers, None if timings is None else clock, shown)


def _json(value: Any) -> str:
    # Escaped to ASCII: hidden characters of a trace stay visible in an editor, and lone surrogates survive.
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"


def _remove_others(folder: Path, shown: Sequence[Path]) -> None:
    for path in sorted(folder.glob("*.html")):
        if path not in shown:
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def read(directory: Path) -> dict[str, Any]:
    """The results that `write` wrote, without the format mark; another format is a `UserError`."""
    path = directory / RESULTS
    results = files.read_json(path)
    if not isinstance(results, dict):
        raise UserError(f"{path} does not hold the results of a run: it must be a JSON object")
    found = results.pop("format", schema.VERSION)
    if found != schema.VERSION:
        raise UserError(f"{path} has format {found}; this version of w2sr_jax reads format {schema.VERSION}")
    return results

"""Write a report: each file in one step, the same bytes for the same arguments."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from w2sr_jax.core import codec, files, sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.evaluation.cost import Timings
from w2sr_jax.report import evidence as pages
from w2sr_jax.report import rule
from w2sr_jax.report.evidence import Evidence
from w2sr_jax.report.results import FORMAT, Results

INDEX, RESULTS, TIMINGS = "index.html", "results.json", "timings.json"


@dataclasses.dataclass(frozen=True)
class Written:
    """What `write` wrote. `index` and `timings` depend on clocks, where timings were given; the others do not."""

    index: Path
    numbers: Path
    timings: Path | None
    evidence: list[Path]


def write(directory: Path, results: Results, timings: Timings | None = None, evidence: Sequence[Evidence] = ()) -> Written:
    """Write `index.html`, `results.json`, `timings.json` and `evidence/KEY.html`.

    The verdict is made here, of the numbers it is about. What an earlier report left and this one has not is removed. The page
    comes last: what it links to is there.
    """
    from w2sr_jax.report import page  # which draws, and so imports much that a reader of results does not need

    checked = pages.checked(evidence)
    folder = directory / pages.FOLDER
    shown = [folder / pages.file_name(one.key) for one in checked]
    for path, one in zip(shown, checked, strict=True):
        files.write_text(path, pages.render(one, results.name))
    numbers, index, clock = directory / RESULTS, directory / INDEX, directory / TIMINGS
    complete = dataclasses.replace(results, verdict=rule.verdict(results))
    files.write_text(numbers, _json({**codec.encode(complete), "format": FORMAT}))
    if timings is not None:
        files.write_text(clock, _json(codec.encode(timings)))
    files.write_text(index, page.render(complete, timings, checked))
    _remove_others(folder, shown)
    if timings is None:
        clock.unlink(missing_ok=True)
    return Written(index, numbers, None if timings is None else clock, shown)


def read(directory: Path) -> Results:
    """The results that `write` wrote. `UserError` for a file of another format, or of another shape than it claims to have."""
    path = directory / RESULTS
    fields = files.read_json(path)
    if not isinstance(fields, dict):
        raise UserError(f"{path} does not hold the results of a run: it must be a JSON object")
    version = fields.pop("format", FORMAT)
    if version != FORMAT:
        raise UserError(
            f"{path} has format {sentences.value(version)}; this version of w2sr_jax reads format {FORMAT}: make the report again"
        )
    return codec.decode(Results, fields, str(path))


def read_timings(directory: Path) -> Timings | None:
    """The times that `write` wrote beside the results; None where it wrote none."""
    path = directory / TIMINGS
    return codec.read(Timings, path) if path.is_file() else None


def _json(value: object) -> str:
    # Escaped to ASCII: hidden characters of a trace stay visible in an editor, and lone surrogates survive.
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False) + "\n"


def _remove_others(folder: Path, shown: Sequence[Path]) -> None:
    for path in sorted(folder.glob("*.html")):
        if path not in shown:
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()

"""Everything that can be known of an experiment before a program is compiled: `w2sr check`, and what `w2sr run` does first.

A check looks at one subject and says what it looked at, what is odd, and what cannot work. All checks are made, so that all that
is wrong is said at once. None of them writes into the run, draws a trace or computes with a model.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import exits
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.stage import Watcher
from w2sr_jax.preflight import data, disk_and_servers, meshes, models, text, user_code
from w2sr_jax.preflight.findings import Findings
from w2sr_jax.preflight.subject import Subject

Check = Callable[[Subject, Findings], None]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("own code", user_code.user_code),
    ("mesh", meshes.mesh),
    ("models", models.architectures),
    ("memory", models.memory),
    ("batches", models.batches),
    ("weights", models.weights),
    ("growth", models.growth),
    ("problems", data.problems),
    ("traces", data.traces),
    ("arms", data.arms),
    ("tokenizer", text.tokenizer),
    ("lengths", text.lengths),
    ("disk", disk_and_servers.disk),
    ("servers", disk_and_servers.servers),
    ("trackers", disk_and_servers.trackers),
)


class Checked(NamedTuple):
    """What one check has to say."""

    name: str
    seen: tuple[str, ...]
    remarks: tuple[str, ...]
    refused: tuple[str, ...]


def check(experiment: Experiment, run: Path, rung: int | None = None) -> Iterator[Checked]:
    """All checks of an experiment (or of one rung) that goes on, or would begin, in the directory `run`, one after the other.
    What finished stages have settled is not looked at again, and what several checks refuse is said by the first of them."""
    return _checked(Subject(experiment, run, rung=rung))


def _checked(subject: Subject) -> Iterator[Checked]:
    told: set[str] = set()
    for name, look in CHECKS:
        findings = Findings()
        try:
            look(subject, findings)
        except UserError as error:
            findings.refuse_for(error)
        except Exception as error:  # a fault of the check's own keeps nobody from running
            without = exits.no_devices(error)
            if without is not None:
                findings.refuse(without)
            else:
                findings.remark(f"this could not be looked at ({sentences.cause(error)})")
        refused = [words for words in _once(findings.refused) if words not in told]
        told.update(refused)
        if not refused and (findings.refused or findings.hindered):
            findings.see("not all of this could be looked at, for what is refused above")
        yield Checked(name, tuple(findings.seen), _once(findings.remarks), tuple(refused))


def before(experiment: Experiment, run: Path, watcher: Watcher, kind: str | None = None, rung: int | None = None) -> None:
    """What `w2sr run` checks before its first stage, or before those of a kind or rung. `UserError` with all that stands in the
    way; what is odd is warned of."""
    subject = Subject(experiment, run, kind, rung)
    if subject.finished:
        return
    refused: list[str] = []
    for checked in _checked(subject):
        for remark in checked.remarks:
            watcher.warn(f"{checked.name}: {remark}")
        refused += checked.refused
    if refused:
        raise UserError(summary(refused))


def summary(refused: Sequence[str]) -> str:
    """All that stands in the way, in one sentence."""
    distinct = _once(refused)
    if len(distinct) == 1:
        return distinct[0]
    return f"{len(distinct)} things stand in the way: " + "; ".join(f"({i}) {words}" for i, words in enumerate(distinct, 1))


def report(experiment: Experiment, run: Path, write: Callable[[str], None], rung: int | None = None) -> int:
    """Tell `write` what every check has to say as it is made, and at last whether a run (or one rung of it) could begin; how many
    things stand in its way."""
    refused: list[str] = []
    remarks = 0
    for checked in check(experiment, run, rung):
        for line in lines(checked):
            write(line)
        refused += checked.refused
        remarks += len(checked.remarks)
    count = len(_once(refused))
    noted = f"; {remarks} note{'s' if remarks > 1 else ''} above" if remarks else ""
    some = "1 thing stands" if count == 1 else f"{count} things stand"
    write(f"\n{f'{some} in the way of {run}' if count else f'Nothing stands in the way of {run}'}{noted}. Nothing was written.")
    return count


def lines(checked: Checked) -> list[str]:
    """What a check has to say, for people."""
    every = [
        *checked.seen,
        *(f"note: {remark}" for remark in checked.remarks),
        *(f"REFUSED: {words}" for words in checked.refused),
    ]
    shown = [sentences.printable(line) for line in every or ["nothing to look at"]]
    return [f"{checked.name if number == 0 else '':<11}{line}" for number, line in enumerate(shown)]


def _once(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(lines))

"""`w2sr publish`: the traces that a rung learned from, with their verdicts, as a TFDS data set for others to train on.

Its split `train` holds the traces of the rung's part of the pool; `probe` those of problems that no student of the run learned
from.
"""

from collections.abc import Callable
from pathlib import Path

from w2sr_jax.configuration import saved
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import terminal
from w2sr_jax.core.records import Trace
from w2sr_jax.experiment import Experiment
from w2sr_jax.graph.store import RunStore
from w2sr_jax.stages import layout, models, traces
from w2sr_jax.stages import problems as prepare
from w2sr_jax.teachers import arrayrecord


def publish(directory: Path, rung: int, teacher: str | None, out: Path, say: Callable[[str], None] = terminal.say) -> Path:
    """Write the traces of a rung's teachers, or of one of them, into `out`; its path. `UserError` where there is no such rung or
    teacher, traces are not finished, or `out` is not free; then nothing is left of it."""
    experiment = saved.load(directory)
    if len(experiment.seeds) > 1:
        raise UserError(
            f"{directory} holds a run for each of its seeds; give one of them, such as "
            f"{directory / layout.seed(experiment.seeds[0])}"
        )
    run = RunStore(directory)
    teachers = _teachers(experiment, rung, teacher)
    problems = {name: prepare.read(run, name) for name in (prepare.POOL, prepare.PROBE)}
    split_of = {problem.id: name for name, rows in problems.items() for problem in rows}
    splits: dict[str, list[Trace]] = {prepare.POOL: [], prepare.PROBE: []}
    for name in teachers:
        stage = layout.traces_stage(models.rung_directory(experiment, rung), name)
        if run.manifest(stage) is None:
            raise UserError(f"{stage} has not finished; `w2sr sample {directory} --rung {rung}` makes the traces")
        for trace in traces.traces_of(run, rung, name):
            splits[split_of.get(trace.problem_id, prepare.POOL)].append(trace)
    named = {arrayrecord.TRAIN: splits[prepare.POOL], prepare.PROBE: splits[prepare.PROBE]}
    sizes = arrayrecord.write_traces(out, named, [*problems[prepare.POOL], *problems[prepare.PROBE]])
    counted = ", ".join(f"{split} {size:,}" for split, size in sizes.items())
    say(
        f"Traces of {', '.join(teachers)} ({counted}) in {out}; a teacher reads them with path = 'tfds:{out}:{arrayrecord.TRAIN}'"
    )
    return out


def _teachers(experiment: Experiment, rung: int, teacher: str | None) -> tuple[str, ...]:
    if not 0 <= rung < len(experiment.rungs):
        raise UserError(f"there is no rung {rung}; the run has rungs 0 to {len(experiment.rungs) - 1}")
    names = tuple(experiment.rungs[rung].teachers)
    if teacher is None:
        return names
    if teacher not in names:
        raise UserError(f"rung {rung} has no teacher {teacher!r}; it has {', '.join(names)}")
    return (teacher,)

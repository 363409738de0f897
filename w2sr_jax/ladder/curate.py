"""Curation of a rung: every arm's examples, the gold examples, and the funnels that say what became of every trace."""

from w2sr_jax import files, records
from w2sr_jax.curation.candidates import candidates
from w2sr_jax.curation.fates import Fate
from w2sr_jax.curation.select import examples, select
from w2sr_jax.experiment import GOLD
from w2sr_jax.ladder import batching, models, prepare, teach
from w2sr_jax.ladder.task import Context, Made
from w2sr_jax.records import Example, Trace

FATES = "fates.parquet"


def curate_rung(context: Context, index: int) -> Made:
    """Write ARM/curated.parquet and ARM/fates.parquet (what became of every trace) for each arm, and curation.json."""
    experiment = context.experiment
    rung = experiment.rungs[index]
    directory = context.run / models.rung_directory(experiment, index)
    pool = prepare.part(prepare.read(context.run, prepare.POOL), rung.pool)
    forbidden = [*prepare.read(context.run, prepare.TEST), *prepare.read(context.run, prepare.PROBE)]
    weights = {teacher.name: teacher.weight for teacher in experiment.teachers if teacher.name in rung.teachers}
    renderer = prepare.renderer(context.run)

    def tokens(trace: Trace) -> int:
        return trace.tokens or len(renderer.tokenizer.encode([trace.text])[0]) + 1

    every = teach.by_problem(context, index, pool, without=teach.DRAWN)
    given = list(candidates((trace for _, traces in every for trace in traces), tokens))
    outputs, funnels = [], {}
    kept: dict[str, int] = {}
    for arm in rung.arms:
        selected = select(given, pool, arm, rung.curation, forbidden, weights)
        path = directory / arm / "curated.parquet"
        records.write(path, Example, examples(selected, pool, teach.by_problem(context, index, pool)))
        records.write(directory / arm / FATES, Fate, selected.funnel.fates)
        outputs += [path, directory / arm / FATES]
        funnels[arm], kept[arm] = selected.funnel.summary(), len(selected.kept)
    if rung.gold:
        worked = batching.gold(pool)
        records.write(directory / GOLD / "curated.parquet", Example, worked)
        outputs.append(directory / GOLD / "curated.parquet")
        kept[GOLD] = len(worked)
    files.write_json(directory / "curation.json", funnels)
    return Made(
        [*outputs, directory / "curation.json"],
        {},
        {"traces": len(given), "kept": kept},
        f"{len(given):,} traces; kept " + ", ".join(f"{arm} {count:,}" for arm, count in kept.items()),
    )

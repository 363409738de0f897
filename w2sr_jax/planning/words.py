"""A plan in words and tables."""

from collections.abc import Iterator, Sequence

from w2sr_jax.parallel.accelerators import GIB
from w2sr_jax.planning import fitting
from w2sr_jax.planning.compile import Figures, Refused
from w2sr_jax.planning.plan import Plan, Planned
from w2sr_jax.planning.programs import TrainStep
from w2sr_jax.sampling.estimate import amount

Row = Sequence[str]
_NAMES = 4


def lines(plan: Plan) -> Iterator[str]:
    """All that is printed of a plan."""
    topology = plan.topology
    shapes = ", ".join(dict.fromkeys(str(each.shape) for each in plan.programs))
    hosts = f"{topology.hosts} host{'' if topology.hosts == 1 else 's'}"
    memory = f"{topology.accelerator.memory / GIB:.0f} GiB each"
    yield f"{plan.experiment.name} on {topology.name}: {topology.devices} devices of {memory}, {hosts}; mesh {shapes or '–'}"
    if plan.targets.devices is None:
        yield f"Nothing is compiled: {plan.targets.why}. What follows is arithmetic alone."
    for remark in plan.remarks:
        yield f"- {remark}"
    yield from ("", "Memory of one device while a program runs, GiB")
    yield from _table(_memory(plan))
    if exchanges := _exchanges(plan.programs):
        yield from ("", "What one device receives in one run of a program, GB")
        yield from _table(exchanges)
    if fits := [line for each in plan.programs for line in _fits(each)]:
        yield from ("", f"Rows of a micro-batch that fit into {fitting.LIMIT:.0%} of the memory, by rematerialisation")
        yield from fits
    yield from ("", _rates(plan))
    yield from _table(_stages(plan))


def refused(plan: Plan) -> str | None:
    """One sentence on what does not fit; None where everything does."""
    reasons = []
    for each in plan.programs:
        why = each.refused(plan.topology)
        if why is not None:
            reasons.append(f"the {each.use.program.what} of {', '.join(each.use.models)} ({each.use.program.size}): {why}")
    if not reasons:
        return None
    return f"{plan.experiment.name} does not fit {plan.topology.name}: {'; '.join(reasons)}"


def _memory(plan: Plan) -> list[Row]:
    held = ("parameters", "optimizer", "frozen", "cache", "temporaries", "beside", "needed", "left")
    rows: list[Row] = [("program", "models", "size", "mesh", *held, "by")]
    for each in plan.programs:
        own = each.memory
        names = (each.use.program.what, _short(each.use.models), each.use.program.size, str(each.shape))
        columns = tuple(map(_gib, (own.parameters, own.optimizer, own.frozen, own.cache)))
        if isinstance(each.compiled, Refused):
            rows.append((*names, *columns, "–", _gib(own.beside), "–", "refused", each.compiled.why))
            continue
        # What the compiler counts besides the arithmetic says of the arguments.
        held_bytes = own.parameters + own.optimizer + own.frozen + own.cache
        rest = own.activations if each.compiled is None else max(0, each.compiled.total - held_bytes)
        left = plan.topology.accelerator.memory - each.needed
        by = "arithmetic" if each.compiled is None else "compiler"
        rows.append((*names, *columns, _gib(rest), _gib(own.beside), _gib(each.needed), _gib(left), by))
    return rows


def _exchanges(programs: Sequence[Planned]) -> list[Row]:
    compiled = [(each, each.compiled) for each in programs if isinstance(each.compiled, Figures) and each.compiled.exchanged]
    kinds = sorted({kind for _, figures in compiled for kind in figures.exchanged})
    if not compiled:
        return []
    rows: list[Row] = [("program", "models", "size", "mesh", *kinds)]
    for each, figures in compiled:
        names = (each.use.program.what, _short(each.use.models), each.use.program.size, str(each.shape))
        rows.append((*names, *(f"{figures.exchanged.get(kind, 0) / 1e9:.2f}" for kind in kinds)))
    return rows


def _fits(each: Planned) -> Iterator[str]:
    step = each.use.program
    if not isinstance(step, TrainStep):
        return
    rows = step.training.batching.rows // step.training.accumulation
    cheapest = fitting.cheapest(each.fits, rows)
    choice = f"{cheapest} is the cheapest for its {rows}" if cheapest else f"none takes its {rows}"
    listed = ", ".join(f"{fit.remat} {fit.rows:,}" for fit in each.fits)
    yield f"{_short(each.use.models)}: {listed}; {choice} ({step.model.remat} is set)"


def _rates(plan: Plan) -> str:
    words = f"Time at {plan.asked.fraction:g} of the peak: {plan.topology.accelerator.flops / 1e12:,.0f} TFLOP/s and "
    words += f"{plan.topology.accelerator.bandwidth / 1e9:,.0f} GB/s on each device"
    for kind, rate in plan.measured.rates.items():
        words += f"; {kind} as the run measured, {rate / 1e12:.1f} TFLOP/s"
    if plan.measured.others:
        words += f"; the run's times are of {', '.join(plan.measured.others)} and say nothing here"
    return words


def _stages(plan: Plan) -> list[Row]:
    price, count, seeds = plan.asked.price, plan.topology.devices, len(plan.experiment.seeds)
    rows: list[Row] = [
        ("stage", "", "mesh", "", "tokens", "FLOP", "hours", "device-hours", *(("cost",) if price is not None else ()))
    ]

    def row(name: str, why: str, mesh: str, tokens: float, flops: float, seconds: float) -> Row:
        hours = seconds / 3600
        cost = (f"{hours * count * price:,.2f}",) if price is not None else ()
        return (name, why, mesh, "", amount(tokens), amount(flops), f"{hours:.2f}", f"{hours * count:,.1f}", *cost)

    for each in plan.stages:
        why = "waits for memory" if each.waits > 0.5 else ""
        rows.append(row(each.work.stage, why, str(each.shape), each.work.tokens, each.work.flops, each.seconds))
    totals = [sum(each.work.tokens for each in plan.stages), sum(each.work.flops for each in plan.stages)]
    seconds = sum(each.seconds for each in plan.stages)
    name = "all stages" if seeds == 1 else f"all stages, {seeds} seeds"
    rows.append(row(name, "", "", totals[0] * seeds, totals[1] * seeds, seconds * seeds))
    return rows


def _short(names: Sequence[str], most: int = 3) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" +{more}" if more > 0 else "")


def _gib(count: float) -> str:
    return f"{count / GIB:.2f}" if count else "–"


def _table(rows: Sequence[Row]) -> Iterator[str]:
    """The first columns to the left, numbers to the right."""
    wide = max(len(row) for row in rows)
    widths = [max(len(row[column]) for row in rows if column < len(row)) for column in range(wide)]
    for row in rows:
        cells = [
            cell.ljust(width) if column < _NAMES else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=False))
        ]
        yield "  ".join(cell for cell, width in zip(cells, widths, strict=False) if width).rstrip()

"""How the processes of a run go through its stages together: the first one decides what is done and writes it down, the others
are told which stages all of them do."""

import math
from collections.abc import Iterator

from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import NothingToTrain
from w2sr_jax.graph.planner import Plan
from w2sr_jax.graph.stage import Context, Stage
from w2sr_jax.parallel import processes

_NEXT, _STAGE = "the next stage", "*stage"


def together(stage: Stage) -> bool:
    """Whether several processes do the stage."""
    return stage.hosts == "all" and processes.count() > 1


def call(stage: Stage) -> None:
    """Have the other processes begin a stage that all do. The first process calls this."""
    if together(stage):
        processes.barrier(_NEXT, {_STAGE: stage.name})


def dismiss() -> None:
    """Tell the other processes that nothing is left to be done. The first process calls this."""
    if processes.count() > 1:
        processes.barrier(_NEXT, {_STAGE: ""})


def finished(stage: Stage) -> None:
    """Wait until all have done a stage, and the first one has written its manifest."""
    if together(stage):
        processes.barrier(f"the end of {stage.name}")


def follow(plan: Plan, context: Context) -> None:
    """Do the stages to which the first process calls, without writing down that they are finished. The other processes call
    this."""
    for stage in _called(plan):
        context.watcher.begin(stage.name, 0, len(plan))
        context.store.refresh()
        try:
            with usercode.guarded(stage):
                stage.run(context)
        except NothingToTrain:
            if not stage.may_skip:
                raise
        context.stop.check()
        finished(stage)


def _called(plan: Plan) -> Iterator[Stage]:
    while name := processes.barrier(_NEXT, patience=math.inf).get(_STAGE, ""):
        yield plan.by_name[name]

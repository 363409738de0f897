"""Weights & Biases (`pip install w2sr-jax[wandb]`). The key is the account's own: `wandb login`, or WANDB_API_KEY."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from w2sr_jax.trackers.tracker import State, TrackedTraining

_PATIENCE = 20.0  # seconds


@dataclasses.dataclass(frozen=True)
class Wandb:
    """Each training is a run of a W&B project, in a group with the others of the same run of w2sr."""

    project: str = "w2sr"
    """Project of the runs."""
    entity: str = ""
    """Account or team; empty: the account's default."""
    mode: Literal["online", "offline"] = "online"
    """offline: nothing is sent; `wandb sync` does so later with what lies in ./wandb, or where WANDB_DIR says. It is not put into
    the run, since W&B makes links there that lead out of it."""

    package: ClassVar[str] = "wandb"

    def __call__(self, training: TrackedTraining) -> "_Run":
        import wandb

        # Only what it is told: no captured output, no copies of the user's files.
        settings = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, save_code=False)
        # At the end of the process W&B waits for as long as this, whoever else does not.
        settings.init_timeout = _PATIENCE
        if hasattr(settings, "finish_timeout"):
            settings.finish_timeout = _PATIENCE
        run = wandb.init(
            project=self.project,
            entity=self.entity or None,
            mode=self.mode,
            id=training.id,
            resume="allow",
            name=f"{training.run}/{training.stage}",
            group=training.run,
            config=dict(training.settings),
            reinit="create_new",
            settings=settings,
        )
        return _Run(run, run.starting_step - 1 if self.mode == "online" else None)


class _Run:
    def __init__(self, run: Any, reached: int | None) -> None:
        self._run, self.reached = run, reached

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def end(self, state: State) -> None:
        if state == "stopped":
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if state == "finished" else 1)

"""Trackio (`pip install w2sr-jax[trackio]`): on this machine's disk, a Hugging Face Space or a server of one's own. Tokens are
the account's own: `hf auth login`, HF_TOKEN, TRACKIO_WRITE_TOKEN."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from w2sr_jax.core.errors import UserError
from w2sr_jax.trackers.secrecy import holds_secret
from w2sr_jax.trackers.tracker import State, TrackedTraining


@dataclasses.dataclass(frozen=True)
class Trackio:
    """Each training is a run of a Trackio project, named after its stage and the first digits of its id."""

    project: str = "w2sr"
    """Project of the runs."""
    space: str = ""
    """Space of the Hub (USER/NAME) that shows them; empty, with no `server`: offline, `trackio show` shows them here."""
    server: str = ""
    """Address of a Trackio server of one's own; its token is TRACKIO_WRITE_TOKEN."""

    package: ClassVar[str] = "trackio"

    def __post_init__(self) -> None:
        if holds_secret(self.server):
            raise UserError(
                "a tracker's server holds a token or a user, and would be saved with the run; give the bare address, and set "
                "TRACKIO_WRITE_TOKEN"
            )

    def __call__(self, training: TrackedTraining) -> "_Run":
        import trackio

        run = trackio.init(
            project=self.project,
            name=f"{training.run}/{training.stage} {training.id[:8]}",
            group=training.run,
            space_id=self.space or None,
            server_url=self.server or None,
            config=dict(training.settings),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        return _Run(run)


class _Run:
    def __init__(self, run: Any) -> None:
        self._run = run
        following = getattr(run, "_next_step", None)  # no public name; without it nothing is sent again
        self.reached = following - 1 if isinstance(following, int) else None

    def log(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def end(self, state: State) -> None:
        self._run.finish()  # Trackio has no states

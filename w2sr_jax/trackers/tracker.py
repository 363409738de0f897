"""What a tracker is: a function, or a frozen dataclass that can be called, which is told of a training and gets its scalars.

A tracker of one's own is a few lines in a configuration (docs/extending.md). It runs in a thread beside the training, at the
first process alone, and nothing that it does or fails to do has an influence on the training.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

Plain = bool | int | float | str | None
State = Literal["finished", "stopped", "failed"]
"""How a training ended, as far as the present command goes: done; asked to stop, and to be continued; or ended by an error."""


@dataclasses.dataclass(frozen=True)
class TrackedTraining:
    """The training that a tracker is told of."""

    run: str
    """Name of the run; of one with several seeds, with the seed's folder (`mine/seed-1`)."""
    stage: str
    """Name of the stage, such as `rungs/0-small/correct/train`."""
    id: str
    """32 hexadecimal digits, the same each time that this training is continued, and no other training's."""
    resumed: bool
    """Whether the tracker was told of this id before."""
    settings: Mapping[str, Plain]
    """All settings of the training, by their path, such as `recipe.training.learning_rate`."""
    directory: Path
    """A folder of the training's own in which the tracker may keep files. It exists."""


class Recording(Protocol):
    """One training as a tracker follows it. Each step comes once, also where a training that was interrupted repeats some.

    It may have an attribute `reached`, the last step of this training that it holds (None: it does not know): where a killed
    process took some with it that were on their way, they come again.
    """

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of a step, by names such as `train/loss` and `probe/accuracy`; steps never decrease."""

    def end(self, state: State) -> None:
        """No scalars come any more, or not before the training is continued."""


@runtime_checkable
class Tracker(Protocol):
    """A function or a frozen dataclass that is called once whenever a training begins or is continued. It may raise what it
    likes: the training goes on without it."""

    def __call__(self, training: TrackedTraining) -> Recording: ...


def name(tracker: Tracker) -> str:
    """What a tracker is called in sentences and files: the name of its type or function, in small letters."""
    own = tracker if hasattr(tracker, "__name__") else type(tracker)
    return str(getattr(own, "__name__", "tracker")).lower()


def flat(settings: object, path: str = "") -> dict[str, Plain]:
    """Settings as JSON (objects, lists, plain values) by their path."""
    if isinstance(settings, Mapping):
        parts = [(str(key), part) for key, part in settings.items()]
    elif isinstance(settings, list | tuple):
        parts = [(str(index), part) for index, part in enumerate(settings)]
    else:
        return {path: settings if settings is None or isinstance(settings, bool | int | float) else str(settings)}
    return {name: value for key, part in parts for name, value in flat(part, f"{path}.{key}" if path else key).items()}

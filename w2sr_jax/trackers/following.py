"""The trackers of a run at work: each in a thread of its own, so that no training waits for it or fails with it."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core import files, sentences
from w2sr_jax.trackers.muted import muted, muting
from w2sr_jax.trackers.secrecy import without_secrets
from w2sr_jax.trackers.sent import Sent
from w2sr_jax.trackers.tracker import Plain, Recording, State, TrackedTraining, Tracker, name

FOLDER = "trackers"
"""Below a training's directory: what its trackers keep there."""
MOST = 10_000  # steps that may wait for a tracker
PATIENCE, HURRY = 20.0, 4.0  # seconds at the end of a command in which trackers may send what waits; after a signal or error

Scalars = Mapping[str, float | int | None]


class Line(NamedTuple):
    """Scalars of one step; `group` is `train` or `probe`."""

    group: str
    step: int
    values: Scalars


class _Begin(NamedTuple):
    run: str
    stage: str
    settings: Mapping[str, Plain]
    directory: Path
    owner: str


class _End(NamedTuple):
    state: State


_Job = _Begin | Line | _End


class Following:
    """One training, as all trackers of the run are to follow it. Satisfies `training.protocols.Scalars`: no method raises or
    waits."""

    def __init__(
        self, workers: "Sequence[_Worker]", run: str, stage: str, settings: Mapping[str, Plain], directory: Path
    ) -> None:
        self._workers, self._about = workers, (run, stage, settings, directory)

    def begin(self, owner: str, earlier: Sequence[tuple[str, int, Scalars]]) -> None:
        """The training begins or goes on. `owner` is a digest of all that determines it, `earlier` are the lines that it has
        written so far, group by group; the trackers get those that they were not sent."""
        for worker in self._workers:
            worker.put(_Begin(*self._about, owner))
        for line in sorted((Line(*line) for line in earlier), key=lambda line: line.step):
            self._put(line)

    def scalars(self, group: str, step: int, values: Scalars) -> None:
        self._put(Line(group, step, values))

    def end(self, state: State) -> None:
        self._put(_End(state))

    def _put(self, job: _Job) -> None:
        for worker in self._workers:
            worker.put(job)


class Trackers:
    """The trackers of a run, at its first process. `warn` gets a sentence, from another thread, for each training that one of
    them cannot follow. `close` ends them."""

    def __init__(self, trackers: Sequence[Tracker], warn: Callable[[str], None]) -> None:
        kinds = [name(tracker) for tracker in trackers]
        alike = [kinds[:index].count(kind) for index, kind in enumerate(kinds)]
        names = [f"{kind}-{before + 1}" if before else kind for kind, before in zip(kinds, alike, strict=True)]
        self._workers = [_Worker(*pair, warn) for pair in zip(trackers, names, strict=True)]

    def following(self, run: str, stage: str, settings: Mapping[str, Plain], directory: Path) -> Following:
        """For the training of a stage, whose files lie in `directory`."""
        return Following(self._workers, run, stage, settings, directory)

    def close(self, patience: float = PATIENCE) -> None:
        """Wait until all is sent, `patience` seconds at most for all of them together; what is not is said."""
        until = time.monotonic() + patience
        for worker in self._workers:
            worker.close(until)


class _Worker:
    """One tracker and its thread, which begins with the first training."""

    def __init__(self, tracker: Tracker, name: str, warn: Callable[[str], None]) -> None:
        self.name = name
        self._tracker, self._warn = tracker, warn
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._thread: threading.Thread | None = None
        self._recording: Recording | None = None
        self._sent: Sent | None = None
        self._stage, self._dropped, self._left = "", False, False

    def put(self, job: _Job) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True, name=f"tracker {self.name}")
            self._thread.start()
        if isinstance(job, Line) and self._jobs.qsize() >= MOST:
            if not self._dropped:
                self._dropped = True
                self._warn(f"tracker {self.name}: {MOST:,} steps wait for it; later ones are left out until it has caught up")
            return
        self._jobs.put(job)

    def close(self, until: float) -> None:
        if self._thread is None:
            return
        self._jobs.put(None)
        self._thread.join(max(0.0, until - time.monotonic()))
        if self._thread.is_alive():
            self._left = True
            self._warn(
                f"tracker {self.name} has not taken all of {self._stage or 'the run'} in time, and is not waited for; all "
                "scalars are in metrics.jsonl and TensorBoard"
            )

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                with muted():
                    self._do(job)
            except (Exception, SystemExit) as error:  # trackers raise what they like
                self._fail(error)

    def _do(self, job: _Job) -> None:
        if isinstance(job, _Begin):
            self._begin(job)
        elif isinstance(job, Line) and self._recording is not None and self._sent is not None:
            values = {f"{job.group}/{name}": float(value) for name, value in job.values.items() if value is not None}
            if values and self._sent.first_time(job.group, job.step):
                self._recording.log(job.step, values)
        elif isinstance(job, _End) and self._recording is not None:
            recording, self._recording = self._recording, None
            self._forget()
            recording.end(job.state)

    def _begin(self, job: _Begin) -> None:
        self._recording, self._stage, self._dropped = None, job.stage, False
        self._forget()
        own = job.directory / FOLDER / self.name
        own.mkdir(parents=True, exist_ok=True)
        self._sent = Sent(own.with_suffix(".jsonl"), files.digest_json([job.run, job.stage, job.owner]))
        about = TrackedTraining(job.run, job.stage, self._sent.id, self._sent.resumed, dict(job.settings), own)
        recording = self._tracker(about)
        lacking = [member for member in ("log", "end") if not callable(getattr(recording, member, None))]
        if lacking:
            raise TypeError(f"it returned {sentences.value(recording, 60)}, which has no {' and no '.join(lacking)}")
        reached = getattr(recording, "reached", None)
        if self._sent.resumed and isinstance(reached, int):
            self._sent.lost(reached)
        self._recording = recording

    def _forget(self) -> None:
        if self._sent is not None:
            self._sent.close()
            self._sent = None

    def _fail(self, error: BaseException) -> None:
        self._recording = None
        if self._left:  # of which a warning was given
            return
        words = sentences.shown(without_secrets(f"{type(error).__name__}: {' '.join(str(error).split())}"), 300)
        self._warn(f"tracker {self.name} does not follow {self._stage} any further ({words}); the training goes on")


@contextlib.contextmanager
def tracked(trackers: Sequence[Tracker], warn: Callable[[str], None]) -> Iterator[Trackers | None]:
    """The trackers of a run inside; None where there are none. At the end they may send what waits, for less time where the run
    ends before it is done."""
    if not trackers:
        yield None
        return
    following, patience = Trackers(trackers, warn), HURRY
    with muting():
        try:
            yield following
            patience = PATIENCE
        finally:
            following.close(patience)

"""Several processes of one program: starting together, named barriers, host values to global arrays and back."""

import atexit
import contextlib
import inspect
import math
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from w2sr_jax import __version__
from w2sr_jax.core import sentences
from w2sr_jax.core.errors import NothingToTrain, Stopped, UserError
from w2sr_jax.core.process import stopping
from w2sr_jax.core.process.exits import exit_for
from w2sr_jax.core.process.stopping import Stop, Terminated
from w2sr_jax.parallel import rendezvous
from w2sr_jax.parallel.peers import PATIENCE, Peers, hold_abort
from w2sr_jax.parallel.rendezvous import Identity
from w2sr_jax.parallel.settings import Processes

# Seconds after which jax's own service gives up; `peers` notices earlier.
_BOUNDS = {"initialization_timeout": 30, "heartbeat_timeout_seconds": 100, "shutdown_timeout_seconds": 20}
_CAUSE = 5.0  # seconds to wait for the cause of an error: a collective fails at once where another process has failed

_NOTHING = "*nothing to train"

T = TypeVar("T")

# Set once for the whole process, as what jax itself holds of the other processes.
_peers: list[Peers] = []


def initialize(settings: Processes | None = None, facts: Mapping[str, str] | None = None) -> None:
    """Joins this process to the others; call it before anything touches a device. One process and no coordinator: does nothing.

    `facts` are what all processes must be started with alike, by name (arguments, digests). Afterwards this process ends, with a
    sentence on its standard error, as soon as another one fails or is lost, even amid a collective. Signals are handled as
    before.

    Raises UserError where the others are not reached in time, have other facts, or the cluster does not say who they are.
    """
    settings = Processes() if settings is None else settings
    if settings.count == 1 and not settings.coordinator:
        return
    if settings.count and not settings.coordinator:
        raise UserError(f"processes.count is {settings.count}, but processes.coordinator (host:port of process 0) is empty")
    if settings.count and not 0 <= settings.index < settings.count:
        raise UserError(f"processes.index is {settings.index}; it must lie in 0 … {settings.count - 1}")
    coordinator, who, local = _identity(settings)
    same = {**(facts or {}), "version of w2sr": __version__, "version of jax": jax.__version__}
    lines = rendezvous.connect(coordinator, Identity(who[0], who[1], same), settings.timeout)
    hold_abort()
    peers = Peers(*who, lines)
    _peers[:] = [peers]
    atexit.register(_at_exit, peers)
    peers.start()
    parameters = inspect.signature(jax.distributed.initialize).parameters
    bounds: dict[str, Any] = {name: bound for name, bound in _BOUNDS.items() if name in parameters}
    try:
        jax.distributed.initialize(coordinator, who[1], who[0], local, **bounds)
    except (RuntimeError, ValueError, jax.errors.JaxRuntimeError) as error:
        raise UserError(
            f"process {who[0]} of {who[1]} at {coordinator}: jax cannot join them: {sentences.cause(error)}"
        ) from error
    stopping.reinstall()


@contextlib.contextmanager
def joined(settings: Processes, facts: Mapping[str, str], stop: Stop, afterwards: str) -> Iterator[None]:
    """Inside, this process is joined to the others, see `initialize`. All leave together; where one of them fails, each ends with
    an exit code and a sentence, and without the interpreter's exit handlers, which would wait for the others. `afterwards` says
    what is left where a signal ends it. One process alone: does nothing."""
    try:
        initialize(settings, facts)
        if _peers:
            stop.on_late(_peers[0].fail)
        yield
        barrier("the end")
        if _peers:
            jax.distributed.shutdown()
            _peers[0].finish()
    except BaseException as error:
        if not _peers:
            raise
        _leave(_peers[0], error, stop, afterwards)


def _leave(peers: Peers, error: BaseException, stop: Stop, afterwards: str) -> NoReturn:
    """End this process, in which `error` was raised, and the others with it."""
    own = isinstance(error, UserError | Stopped | KeyboardInterrupt | Terminated)
    lost = peers.cause(0.3 if own else _CAUSE)
    if lost is not None:
        peers.say()
        stopping.leave(lost.code)
    exit_ = exit_for(error, stop.signal, afterwards)
    if exit_ is None:
        traceback.print_exception(error)
    code, words = (1, sentences.cause(error)) if exit_ is None else exit_
    peers.fail(words, code)
    stopping.leave(code, "" if exit_ is None else words)


def _at_exit(peers: Peers) -> None:
    """At the end of a process that was joined by `initialize` alone. Where it has failed, jax would wait for the others."""
    failed = getattr(sys, "last_value", None)
    if failed is None:
        peers.finish()
    elif peers.cause(_CAUSE) is None:
        peers.fail(sentences.cause(failed), 1)
        stopping.leave(1)
    else:
        threading.Event().wait()  # until the thread that watches the others has ended this process


def _identity(settings: Processes) -> tuple[str, tuple[int, int], Any]:
    """The coordinator's address, (index of this process, number of processes), and the numbers of its devices where the cluster
    says which are its own."""
    if settings.count:
        return settings.coordinator, (settings.index, settings.count), None
    try:
        from jax._src.clusters import ClusterEnv  # no public name; what follows asks as `jax.distributed.initialize` does

        address = settings.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
        coordinator, count, index, local = ClusterEnv.auto_detect_unset_distributed_params(
            address, None, None, None, None, settings.timeout
        )
    except Exception as error:  # each kind of cluster fails in its own way
        raise UserError(
            f"processes.count 0 asks the cluster, and that fails ({sentences.cause(error)}); set the three fields"
        ) from None
    if coordinator is None or count is None or index is None:
        raise UserError("processes.count 0 asks the cluster, and no cluster was recognised; set the three fields")
    return coordinator, (index, count), local


def gather(tree: Any) -> Any:
    """The arrays of a pytree as NumPy arrays of the whole values, on every process. All processes must call it, with the same
    tree."""
    return jax.tree.map(_whole, tree)


def barrier(name: str, facts: Mapping[str, str] | None = None, patience: float = PATIENCE) -> Mapping[str, str]:
    """Waits until all processes have called it with the same name, at most `patience` seconds; returns the facts of process 0.

    Facts that several processes give under one name must be equal, except under names that begin with `*`, by which process 0
    tells the others something. Otherwise all processes end with a sentence that says what differs.
    """
    if _peers:
        return _peers[0].barrier(name, facts, patience)
    if jax.process_count() > 1:  # joined by other means than `initialize`
        multihost_utils.sync_global_devices(name)
    return facts or {}


def report(values: Mapping[str, str | float]) -> str:
    """What this process says of its work, by the names of `pace.Report`: it reaches process 0 within about a second, and nothing
    waits for it. At process 0 of several: how all of them go, in words; otherwise empty."""
    return _peers[0].report(values) if _peers else ""


def observe(on_pace: Callable[[str], None]) -> None:
    """At process 0: whom to tell, from another thread, of processes that are silent or do not go on."""
    if _peers:
        _peers[0].observe(on_pace)


def count() -> int:
    """The number of processes; 1 before any was joined, without looking at a device."""
    return _peers[0].count if _peers else jax.process_count() if jax.distributed.is_initialized() else 1


def index() -> int:
    """The number of this process, from 0."""
    return jax.process_index() if count() > 1 else 0


def is_first() -> bool:
    """Whether this is the process that decides, writes what is written once, and talks to the user."""
    return index() == 0


def first_does(name: str, work: Callable[[], T]) -> T | None:
    """Process 0 does some work, however long it takes, and the others wait; its result there, None elsewhere. Where it has
    nothing to train on, all raise `NothingToTrain`."""
    if not is_first():
        facts = barrier(name, patience=math.inf)
        if _NOTHING in facts:
            raise NothingToTrain(facts[_NOTHING])
        return None
    try:
        result = work()
    except NothingToTrain as nothing:
        barrier(name, {_NOTHING: str(nothing)})
        raise
    barrier(name)
    return result


def put(tree: Any, shardings: Any) -> Any:
    """Put the arrays of a pytree on devices: global arrays from values that every process has in full, or from global arrays,
    which go from device to device. `shardings` is one sharding for all of them, or a pytree as `tree`."""
    if isinstance(shardings, jax.sharding.Sharding):
        return jax.tree.map(lambda value: _put(value, shardings), tree)
    return jax.tree.map(_put, tree, shardings)


def _put(value: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    if isinstance(value, jax.Array) and value.sharding.is_equivalent_to(sharding, value.ndim):
        return value
    if jax.process_count() == 1 or (isinstance(value, jax.Array) and not value.is_fully_addressable):
        return jax.device_put(value, sharding)
    host = np.asarray(value)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _whole(value: Any) -> np.ndarray:
    if not isinstance(value, jax.Array) or value.is_fully_addressable:
        return np.asarray(value)
    if value.is_fully_replicated:
        return np.asarray(value.addressable_data(0))
    return np.asarray(multihost_utils.process_allgather(value, tiled=True))

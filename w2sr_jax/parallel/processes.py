"""Several processes: start-up, waiting for each other, host values to global arrays, and back."""

import atexit
import contextlib
import inspect
import os
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from w2sr_jax import __version__
from w2sr_jax.core import sentences
from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.core.process import stopping
from w2sr_jax.core.process.exits import exit_for
from w2sr_jax.core.process.stopping import Stop, Terminated
from w2sr_jax.parallel import rendezvous
from w2sr_jax.parallel.peers import Peers, hold_abort
from w2sr_jax.parallel.rendezvous import Who
from w2sr_jax.parallel.settings import Processes

# Seconds after which jax's own service gives up; `peers` is quicker.
_BOUNDS = {"initialization_timeout": 30, "heartbeat_timeout_seconds": 100, "shutdown_timeout_seconds": 20}
_LATER = 5.0  # seconds for the cause of an error to be known: a collective fails when another process does

# What jax keeps of the processes is of the whole process too, and is set once.
_peers: list[Peers] = []


def initialize(settings: Processes | None = None, told: Mapping[str, str] | None = None) -> None:
    """Joins this process to the others; call it before anything touches a device. One process and no coordinator: does nothing.

    `told` is what all must have been given alike, by name. From here on a process of which another one fails or is lost ends with
    a sentence on its standard error, whatever it is at. Signals are handled as before.

    Raises UserError where the others are not reached in time, were given something else, or the cluster does not say who they
    are.
    """
    settings = Processes() if settings is None else settings
    if settings.count == 1 and not settings.coordinator:
        return
    if settings.count and not settings.coordinator:
        raise UserError(f"processes.count is {settings.count}, but processes.coordinator (host:port of process 0) is empty")
    if settings.count and not 0 <= settings.index < settings.count:
        raise UserError(f"processes.index is {settings.index}; it must lie in 0 … {settings.count - 1}")
    coordinator, who, local = _identity(settings)
    same = {**(told or {}), "version of w2sr": __version__, "version of jax": jax.__version__}
    lines = rendezvous.gather(coordinator, Who(who[0], who[1], same), settings.timeout)
    hold_abort()
    peers = Peers(*who, lines)
    _peers[:] = [peers]
    atexit.register(_at_exit, peers)
    peers.start()
    known = inspect.signature(jax.distributed.initialize).parameters
    bounds: dict[str, Any] = {name: bound for name, bound in _BOUNDS.items() if name in known}
    try:
        jax.distributed.initialize(coordinator, who[1], who[0], local, **bounds)
    except (RuntimeError, ValueError, jax.errors.JaxRuntimeError) as error:
        raise UserError(
            f"process {who[0]} of {who[1]} at {coordinator}: jax cannot join them: {sentences.cause(error)}"
        ) from error
    stopping.reinstall()


@contextlib.contextmanager
def joined(settings: Processes, told: Mapping[str, str], stop: Stop, afterwards: str) -> Iterator[None]:
    """Inside, this process is one of those of `settings`. All leave together, or each ends with an exit code and a sentence:
    without its own interpreter's exit handlers, which would wait for the others. One process alone: does nothing."""
    try:
        initialize(settings, told)
        yield
        barrier("the end")
        if _peers:
            jax.distributed.shutdown()
            _peers[0].finish()
    except BaseException as error:
        if not _peers:
            raise
        _part(_peers[0], error, stop, afterwards)


def _part(peers: Peers, error: BaseException, stop: Stop, afterwards: str) -> NoReturn:
    """End this process, of which something was raised, and the others with it."""
    own = isinstance(error, UserError | Stopped | KeyboardInterrupt | Terminated)
    lost = peers.cause(0.3 if own else _LATER)
    if lost is not None:
        peers.say()
        stopping.leave(lost.code)
    ended = exit_for(error, stop.signal, afterwards)
    if ended is None:
        traceback.print_exception(error)
    code, words = (1, sentences.cause(error)) if ended is None else ended
    peers.fail(words, code)
    stopping.leave(code, "" if ended is None else words)


def _at_exit(peers: Peers) -> None:
    """A process that was joined without `joined` leaves; jax would wait for the others where it has failed."""
    failed = getattr(sys, "last_value", None)
    if failed is None:
        peers.finish()
    elif peers.cause(_LATER) is None:
        peers.fail(sentences.cause(failed), 1)
        stopping.leave(1)
    else:
        threading.Event().wait()  # until the thread that knows has ended this process


def _identity(settings: Processes) -> tuple[str, tuple[int, int], Any]:
    """The coordinator, this process's index and the count, and its devices' numbers where the cluster says which are its own."""
    if settings.count:
        return settings.coordinator, (settings.index, settings.count), None
    try:
        from jax._src.clusters import ClusterEnv  # no public name; what follows asks as `jax.distributed.initialize` does

        given = settings.coordinator or os.environ.get("JAX_COORDINATOR_ADDRESS")
        address, count, index, local = ClusterEnv.auto_detect_unset_distributed_params(
            given, None, None, None, None, settings.timeout
        )
    except Exception as error:  # each kind of cluster fails in its own way
        raise UserError(
            f"processes.count 0 asks the cluster, and that fails ({sentences.cause(error)}); set the three fields"
        ) from None
    if address is None or count is None or index is None:
        raise UserError("processes.count 0 asks the cluster, and no cluster was recognised; set the three fields")
    return address, (index, count), local


def gather(tree: Any) -> Any:
    """NumPy arrays of the whole values, on every process. All processes must call it, with the same tree."""
    return jax.tree.map(_whole, tree)


def barrier(where: str, told: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """Returns when all processes have called it with the same words; what process 0 told. What they tell under the same names
    must be the same (but for names that begin with `*`), or all end with a sentence that says what differs."""
    if _peers:
        return _peers[0].barrier(where, told)
    if jax.process_count() > 1:  # joined by other means than `initialize`
        multihost_utils.sync_global_devices(where)
    return told or {}


def put(tree: Any, shardings: Any) -> Any:
    """Global arrays from values that every process has in full, or from global arrays. `shardings`: one, or a pytree."""
    if isinstance(shardings, jax.sharding.Sharding):
        return jax.tree.map(lambda value: _put(value, shardings), tree)
    return jax.tree.map(_put, tree, shardings)


def _put(value: Any, sharding: jax.sharding.Sharding) -> jax.Array:
    if isinstance(value, jax.Array) and value.sharding.is_equivalent_to(sharding, value.ndim):
        return value
    if jax.process_count() == 1:
        return jax.device_put(value, sharding)
    host = _whole(value)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _whole(value: Any) -> np.ndarray:
    if not isinstance(value, jax.Array) or value.is_fully_addressable:
        return np.asarray(value)
    if value.is_fully_replicated:
        return np.asarray(value.addressable_data(0))
    return np.asarray(multihost_utils.process_allgather(value, tiled=True))

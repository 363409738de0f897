"""Several processes: start-up, host values to global arrays, and back."""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from w2sr_jax.errors import UserError
from w2sr_jax.parallel.settings import Processes


def initialize(settings: Processes | None = None) -> None:
    """Joins this process to the others; call it before anything touches a device. One process and no coordinator: does nothing.

    Raises UserError where the others are not reached in time or the cluster does not say who they are.
    """
    settings = Processes() if settings is None else settings
    if settings.count == 1 and not settings.coordinator:
        return
    if settings.count and not settings.coordinator:
        raise UserError(f"processes.count is {settings.count}, but processes.coordinator (host:port of process 0) is empty")
    if settings.count and not 0 <= settings.index < settings.count:
        raise UserError(f"processes.index is {settings.index}; it must lie in 0 … {settings.count - 1}")
    try:
        if settings.count:
            jax.distributed.initialize(
                settings.coordinator, settings.count, settings.index, initialization_timeout=settings.timeout
            )
        else:
            jax.distributed.initialize(settings.coordinator or None, initialization_timeout=settings.timeout)
    except ValueError as error:
        raise UserError(
            f"processes.count 0 asks the cluster, and no cluster was recognised ({error}); set the three fields"
        ) from error
    except (RuntimeError, jax.errors.JaxRuntimeError) as error:
        where = f"process {settings.index} of {settings.count} at {settings.coordinator or 'the coordinator the cluster named'}"
        raise UserError(f"{where}: the processes did not meet within {settings.timeout} s ({error})") from error


def gather(tree: Any) -> Any:
    """NumPy arrays of the whole values, on every process. All processes must call it, with the same tree."""
    return jax.tree.map(_whole, tree)


def meet(where: str) -> None:
    """Returns when all processes have called it with the same words."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def place(tree: Any, shardings: Any) -> Any:
    """Global arrays from values that every process has in full, or from global arrays. `shardings`: one, or a pytree."""
    if isinstance(shardings, jax.sharding.Sharding):
        return jax.tree.map(lambda value: _place(value, shardings), tree)
    return jax.tree.map(_place, tree, shardings)


def _place(value: Any, sharding: jax.sharding.Sharding) -> jax.Array:
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

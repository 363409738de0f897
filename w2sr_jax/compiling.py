"""Compiled programs outlive the process: a second run of the same shapes starts in seconds."""

import functools
import os
import warnings
from collections.abc import MutableMapping
from pathlib import Path

SWITCH = "W2SR_COMPILATION_CACHE"
BYTES = 4 << 30


def remember(environment: MutableMapping[str, str] | None = None) -> Path | None:
    """Makes jax keep what it compiles; call it before jax is imported. The directory, None where it is switched off.

    Programs lie in `$JAX_COMPILATION_CACHE_DIR`, by default `$XDG_CACHE_HOME/w2sr_jax/compiled` (`~/.cache/…`), up to 4 GiB,
    those longest unused removed first. Their keys are digests of program, compiler, flags and devices, so that no setting, nor a
    loss of the user's own, can meet another's program. `W2SR_COMPILATION_CACHE=0` switches it off. What jax's own variables say
    comes first.
    """
    given = os.environ if environment is None else environment
    if given.get(SWITCH, "1") in ("0", "off", "false", ""):
        return None
    home = given.get("XDG_CACHE_HOME") or str(Path(given.get("HOME") or "~").expanduser() / ".cache")
    given.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(home) / "w2sr_jax" / "compiled"))
    given.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(BYTES))  # with a limit, jax locks what it reads and writes
    given.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    given.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    # An entry that a killed process left half-written is compiled anew; nobody needs to hear of it.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
    return Path(given["JAX_COMPILATION_CACHE_DIR"])


@functools.cache
def tidy() -> None:
    """After every compilation gives back to the system what the compiler has freed, which the C library would keep: hundreds of
    megabytes beside the first step. Linux with glibc; elsewhere nothing."""
    import ctypes

    import jax

    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return

    def compiled(event: str, duration_secs: float, **_: str | int) -> None:
        del duration_secs
        if "backend_compile" in event:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(compiled)

"""Compiled programs are kept on disk, so that a second run of the same shapes starts in seconds; long compilations are
reported."""

import contextlib
import functools
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import NamedTuple

from w2sr_jax.core import sentences

SWITCH = "W2SR_COMPILATION_CACHE"
BYTES = 4 << 30
PATIENCE = 20.0
"""Seconds of compiling after which it is reported, and again whenever twice as many have passed."""

_PHASES = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling",
}


def remember(environment: MutableMapping[str, str] | None = None) -> Path | None:
    """Makes jax keep what it compiles; call it before jax is imported. Returns the directory, None where it is switched off.

    Programs lie in `$JAX_COMPILATION_CACHE_DIR`, by default `$XDG_CACHE_HOME/w2sr_jax/compiled` (`~/.cache/…`), up to 4 GiB,
    those longest unused removed first. Their keys are digests of program, compiler, flags and devices, so that a changed setting
    or loss never takes another one's program. `W2SR_COMPILATION_CACHE=0` switches it off. jax's own variables come first.
    """
    variables = os.environ if environment is None else environment
    if variables.get(SWITCH, "1") in ("0", "off", "false", ""):
        return None
    home = variables.get("XDG_CACHE_HOME") or str(Path(variables.get("HOME") or "~").expanduser() / ".cache")
    variables.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(home) / "w2sr_jax" / "compiled"))
    variables.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(BYTES))  # with a limit, jax locks what it reads and writes
    variables.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    variables.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    # An entry that a killed process left half-written is compiled anew; nobody needs to hear of it.
    warnings.filterwarnings("ignore", message="Error (reading|writing) persistent compilation cache entry")
    return Path(variables["JAX_COMPILATION_CACHE_DIR"])


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


@contextlib.contextmanager
def announced(say: Callable[[str], None], patience: float = PATIENCE, every: float = 1.0) -> Iterator[None]:
    """While inside, `say` is called for every program that takes more than `patience` seconds to trace, lower or compile, which
    blocks the thread that asked for it. `say` is called from another thread, which looks every `every` seconds."""
    import jax

    work, done = _Work(), threading.Event()
    jax.monitoring.register_scalar_listener(work.began)
    jax.monitoring.register_event_duration_secs_listener(work.ended)
    threading.Thread(target=_tell, args=(work, done, say, patience, every), daemon=True, name="compiling").start()
    try:
        yield
    finally:
        done.set()
        with contextlib.suppress(AssertionError, ValueError):  # somebody has removed all listeners
            jax.monitoring.unregister_scalar_listener(work.began)
            jax.monitoring.unregister_event_duration_listener(work.ended)


class _Phase(NamedTuple):
    what: str
    since: float


class _Work:
    """What jax is at in each thread, from its own events: a phase begins with a scalar and ends with a duration; within one,
    others may begin."""

    def __init__(self) -> None:
        self._open: dict[int, list[_Phase]] = {}

    def began(self, event: str, value: float | int, **about: str | int) -> None:
        del value
        if event in _PHASES:
            name = str(about.get("fun_name", "a program")).removeprefix("jit(").removesuffix(")")
            phase = _Phase(f"{_PHASES[event]} {sentences.shown(name, 60)}", time.monotonic())
            self._open.setdefault(threading.get_ident(), []).append(phase)

    def ended(self, event: str, duration_secs: float, **about: str | int) -> None:
        del duration_secs, about
        if event in _PHASES and self._open.get(threading.get_ident()):
            self._open[threading.get_ident()].pop()

    def longest(self) -> _Phase | None:
        """The phase that has gone on for longest."""
        outer = [phases[0] for phases in list(self._open.values()) if phases]
        return min(outer, key=lambda phase: phase.since, default=None)


def _tell(work: _Work, done: threading.Event, say: Callable[[str], None], patience: float, every: float) -> None:
    last, due = None, patience
    while not done.wait(every):
        phase = work.longest()
        if phase != last:
            last, due = phase, patience
        if phase is None or time.monotonic() - phase.since < due:
            continue
        seconds = time.monotonic() - phase.since
        due = 2 * seconds
        with contextlib.suppress(Exception):  # nobody may be there to hear it any more
            say(f"{phase.what} has taken {seconds:,.0f} s so far; what is compiled once is kept for later runs")

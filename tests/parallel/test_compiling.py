"""Compiled programs are kept between processes, and a training with them ends with the same bits."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from w2sr_jax.parallel import compiling

TRAINING = """
import sys, json
from w2sr_jax.parallel import compiling
compiling.remember()
import jax
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import training_toy as toy
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
result = toy.run(Path(sys.argv[1]))
hits = events.count("/jax/compilation_cache/cache_hits")
print(json.dumps([result.params_digest, hits, events.count("/jax/compilation_cache/cache_misses")]))
"""


def trained(directory: Path, environment: dict[str, str]) -> tuple[str, int, int]:
    toys = Path(__file__).parents[1] / "training"
    shell = {key: value for key, value in os.environ.items() if not key.startswith("JAX_")} | {
        "JAX_PLATFORMS": "cpu",
        **environment,
    }
    command = [sys.executable, "-c", TRAINING, str(directory), str(toys)]
    done = subprocess.run(command, capture_output=True, text=True, env=shell, check=False)
    assert done.returncode == 0, done.stderr
    digest, hits, misses = json.loads(done.stdout.splitlines()[-1])
    return digest, hits, misses


def test_a_second_process_compiles_nothing_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    home = {"XDG_CACHE_HOME": str(tmp_path / "home")}
    cold, _, missed = trained(tmp_path / "cold", home)
    warm, hits, again = trained(tmp_path / "warm", home)
    assert warm == cold
    assert hits >= 1
    assert again < missed
    cache = tmp_path / "home" / "w2sr_jax" / "compiled"
    assert any(cache.iterdir())
    assert trained(tmp_path / "without", {compiling.SWITCH: "0", **home})[0] == cold


def test_variables_of_jax_have_precedence_and_the_switch_turns_all_off() -> None:
    environment = {"HOME": "/home/x"}
    assert compiling.remember(environment) == Path("/home/x/.cache/w2sr_jax/compiled")
    assert int(environment["JAX_COMPILATION_CACHE_MAX_SIZE"]) == compiling.BYTES
    own = {"JAX_COMPILATION_CACHE_DIR": "/elsewhere", "XDG_CACHE_HOME": "/cache"}
    assert compiling.remember(own) == Path("/elsewhere")
    off = {compiling.SWITCH: "0", "HOME": "/home/x"}
    assert compiling.remember(off) is None
    assert off == {compiling.SWITCH: "0", "HOME": "/home/x"}


TIDY = """
import ctypes

class Library:
    calls = 0
    def malloc_trim(self, room):
        Library.calls += 1

ctypes.CDLL = lambda name: Library()
from w2sr_jax.parallel import compiling

compiling.tidy()
compiling.tidy()
import jax

before = Library.calls
jax.jit(lambda x: x * 3)(1.0).block_until_ready()
once = Library.calls
jax.jit(lambda x: x * 3)
print(before, once > 0, Library.calls == once)
"""


def test_what_the_compiler_has_freed_is_given_back_after_each_compilation() -> None:
    environment = {**os.environ, "W2SR_COMPILATION_CACHE": "0"}
    done = subprocess.run([sys.executable, "-c", TIDY], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "True", "True"]


def heard(lines: list[str]) -> str:
    """What was said first, at the latest after a minute."""
    deadline = time.monotonic() + 60
    while not lines and time.monotonic() < deadline:
        time.sleep(0.01)
    return lines[0] if lines else ""


def test_a_program_that_takes_long_to_compile_says_so() -> None:
    import jax

    event, lines = "/jax/core/compile/backend_compile_duration", []
    with compiling.announced(lines.append, patience=0.05, every=0.01):
        jax.monitoring.record_scalar(event, time.time(), fun_name="jit(step)")  # as jax does before it compiles
        assert heard(lines).startswith("compiling step has taken ")
        jax.monitoring.record_event_duration_secs(event, 0.1, fun_name="jit(step)")
        time.sleep(0.1)
        lines.clear()
        time.sleep(0.2)
        assert lines == []  # it is done


def test_a_program_that_takes_long_to_trace_says_so_by_its_outermost_name() -> None:
    import jax
    import jax.numpy as jnp

    lines: list[str] = []

    @jax.jit
    def inner(x: jax.Array) -> jax.Array:
        heard(lines)
        return x * 2

    @jax.jit
    def slow_step(x: jax.Array) -> jax.Array:
        return inner(x) + jnp.sin(x)

    with compiling.announced(lines.append, patience=0.05, every=0.01):
        slow_step(1.0)
    assert lines[0].startswith("tracing slow_step has taken ")


def test_what_compiles_quickly_or_outside_is_not_spoken_of() -> None:
    import jax

    lines: list[str] = []
    with compiling.announced(lines.append, every=0.01):
        jax.jit(lambda x: x * 5)(1.0)
    jax.monitoring.record_scalar("/jax/core/compile/backend_compile_duration", time.time(), fun_name="jit(step)")
    jax.monitoring.record_event_duration_secs("/jax/core/compile/backend_compile_duration", 99.0, fun_name="jit(step)")
    time.sleep(0.05)
    assert lines == []

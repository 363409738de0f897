"""Fuzz cases of settings: configuration files, overrides on the command line, saved experiments. All go through `cli.run`."""

import contextlib
import dataclasses
import functools
import io
import json
import random
import sys
import types
import warnings
from pathlib import Path
from typing import Any

from mutate import json_value, mutated
from row_cases import Broken, Outcome
from setting_inputs import CONFIG, EVIL, NAMES, TEXTS, VALUES

from w2sr_jax.cli import main as cli
from w2sr_jax.configuration import saved
from w2sr_jax.core import files
from w2sr_jax.experiment import Experiment


@functools.cache
def options() -> list[str]:
    """Overrides that the command line has: for plain values and tuples of them."""
    leaves = [path for path in places() if not isinstance(_value(path), tuple) and not dataclasses.is_dataclass(_value(path))]
    return sorted({"--" + ".".join(path[:-1] if path[-1].isdigit() else path).replace("_", "-") for path in leaves})


def _value(path: tuple[str, ...]) -> Any:
    value = _base()
    for name in path:
        value = value[int(name)] if isinstance(value, tuple) else getattr(value, name)
    return value


@functools.cache
def places() -> list[tuple[str, ...]]:
    """Where settings are in the experiment of `CONFIG`."""
    return _places(_base(), ())


def _places(value: Any, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    if isinstance(value, tuple):
        parts = [(str(index), part) for index, part in enumerate(value)]
    elif dataclasses.is_dataclass(value):
        parts = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        return [path]
    return ([path] if path else []) + [place for name, part in parts for place in _places(part, (*path, name))]


@functools.cache
def _base() -> Any:
    names: dict[str, Any] = {"__name__": "fuzz_config"}
    sys.modules["fuzz_config"] = types.ModuleType("fuzz_config")
    exec(compile(CONFIG, "fuzz_config.py", "exec"), names)
    del sys.modules["fuzz_config"]
    return names["base"]()


def config_bytes(rng: random.Random, folder: Path) -> Outcome:
    return _configured(folder, mutated(rng, CONFIG.encode()))


def config_values(rng: random.Random, folder: Path) -> Outcome:
    path, value = rng.choice(places()), rng.choice(VALUES)
    return _configured(folder, CONFIG.replace("return base()", f"return put(base(), {path!r}, {value})").encode())


def overrides(rng: random.Random, folder: Path) -> Outcome:
    given: list[str] = []
    for _ in range(rng.choice((1, 1, 2))):
        option = rng.choice(options())
        given += [mutated(rng, option.encode()).decode("utf-8", "surrogateescape") if rng.random() < 0.2 else option]
        given += [rng.choice(TEXTS) for _ in range(rng.choice((0, 1, 1, 1, 1, 1, 2)))]
    (folder / "given.json").write_text(json.dumps(given))
    return _configured(folder, CONFIG.encode(), [word for word in given if word not in ("-h", "--help")])


def saved_bytes(rng: random.Random, folder: Path) -> Outcome:
    """A saved experiment with damaged bytes: refused, unless it says the same; with a new digest, judged by what it says."""
    run, before = _saved(folder)
    path = run / saved.EXPERIMENT
    path.write_bytes(mutated(rng, path.read_bytes()))
    resealed = rng.random() < 0.6 and _reseal(path)
    outcome = _called(["report", str(run)], folder)
    if outcome.accepted and not resealed and saved.config_hash(saved.load(run)) != before:
        raise Broken("a changed setting was not noticed")
    return outcome


def saved_values(rng: random.Random, folder: Path) -> Outcome:
    """A saved experiment in which values, types and names are exchanged, with a digest that fits."""
    run, _ = _saved(folder)
    path = run / saved.EXPERIMENT
    raw = json.loads(path.read_text())
    for _ in range(rng.choice((1, 1, 2))):
        holder, key = rng.choice(_slots(raw))
        how = rng.randrange(5)
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, dict):
            holder[rng.choice(("surprise", "type", "function", "source", "\ud800"))] = json_value(rng)
        elif how == 2:
            holder[key] = {rng.choice(("type", "function")): rng.choice(NAMES)}
        elif how == 3 and isinstance(holder, dict) and ("type" in holder or "function" in holder):
            holder["type" if "type" in holder else "function"] = rng.choice(NAMES)
        else:
            holder[key] = json_value(rng)
        if not _slots(raw):
            break
    path.write_text(json.dumps(raw))
    _reseal(path)
    return _called(["report", str(run)], folder)


def own_source(rng: random.Random, folder: Path) -> Outcome:
    """The run's copy of the user's configuration, damaged: noticed by its digest."""
    run, _ = _saved(folder)
    path = next((run / "config").glob("*.py"))
    data = path.read_bytes()
    path.write_bytes(mutated(rng, data))
    outcome = _called(["report", str(run)], folder)
    if outcome.accepted and path.read_bytes() != data:
        raise Broken("changed code was not noticed")
    return outcome


def _slots(raw: Any, depth: int = 12) -> list[tuple[Any, Any]]:
    keys = list(raw) if isinstance(raw, dict) else range(len(raw)) if isinstance(raw, list) else ()
    return [slot for key in keys for slot in ((raw, key), *(_slots(raw[key], depth - 1) if depth else ()))]


def _reseal(path: Path) -> bool:
    try:
        raw = json.loads(path.read_bytes())
        raw.pop("digest", None)
        path.write_text(json.dumps(raw | {"digest": files.digest_json(raw)}))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return False
    return True


def _saved(folder: Path) -> tuple[Path, str]:
    path = folder / "fuzz_config.py"
    path.write_text(CONFIG)
    experiment = saved.load_config(path)
    saved.save(folder / "run", experiment)
    _forget()
    return folder / "run", saved.config_hash(saved.load(folder / "run"))


def _configured(folder: Path, source: bytes, given: list[str] | None = None) -> Outcome:
    path = folder / "fuzz_config.py"
    path.write_bytes(source)
    return _called(["run", str(path), "--root", str(folder / "runs"), *(given or [])], folder)


def _stub(experiment: Experiment, run: Path, *_: Any) -> None:
    """In place of the work: what was accepted can be saved, and comes back the same."""
    saved.save(run, experiment)
    again = saved.load(run)
    if saved.config_hash(again) != saved.config_hash(experiment):
        raise Broken("the experiment is another one after saving")


def _forget() -> None:
    sys.modules.pop("fuzz_config", None)


def _called(argv: list[str], folder: Path) -> Outcome:
    """Exit code 0, or 2 with one sentence (where the command line's parser speaks, with its own words)."""
    for place in (folder, folder.parent, Path.cwd()):
        (place / "fuzz_evil.py").write_text(EVIL)
    from w2sr_jax.stages import execute

    execute.execute = _stub
    _forget()
    out, error = io.StringIO(), io.StringIO()
    parser = False
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = cli.run(argv)
    except SystemExit as ended:
        code, parser = ended.code, True
    finally:
        _forget()
    said = error.getvalue()
    if hasattr(sys, "fuzz_evil"):
        del sys.fuzz_evil
        raise Broken("code outside the run was imported")
    if code not in (0, 2) or "Traceback" in said:
        raise Broken(f"exit code {code}: {said}")
    line = said.removesuffix("\n")
    if code == 2 and not parser and (not line.startswith("w2sr: ") or not line.isprintable() or len(line) > 2000):
        raise Broken(f"not one sentence: {said!r}")
    return Outcome(code == 0, said=said)


KINDS = {
    "configuration, bytes": config_bytes,
    "configuration, values": config_values,
    "overrides": overrides,
    "experiment.json, bytes": saved_bytes,
    "experiment.json, values": saved_values,
    "the run's own code, bytes": own_source,
}

"""Configuration files in, saved experiments in and out.

A saved experiment is the JSON of `encoding` with the digests of the user's files that it needs (`code`), of which the run keeps
copies in RUN/config, the `format` of the run's files, and a digest over all. `load` looks at it and executes nothing of them;
`load_trusted` does.
"""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from w2sr_jax.configuration import encoding
from w2sr_jax.configuration.encoding import encode
from w2sr_jax.core import files, sentences
from w2sr_jax.core.code import copies, imports, trust, usercode
from w2sr_jax.core.code.unloaded import Reference, Unloaded
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.fieldtypes import mistyped
from w2sr_jax.experiment import Experiment, check
from w2sr_jax.experiment.study import Study

EXPERIMENT = "experiment.json"
CONFIG = "config"
_OWN = ("digest", "code", "format")
_DEFINED = {"experiment": "run", "study": "study"}
"""What a configuration may define, and the command that it is for."""

Kind = TypeVar("Kind")


def load_config(path: Path) -> Experiment:
    """The experiment that a configuration file defines: the value of its `experiment()`, with every setting of its type."""
    experiment = defined(path, "experiment", Experiment)
    _check_types(experiment, path)
    return experiment


def load_study(path: Path) -> Study:
    """The study that a configuration file defines: the value of its `study()`."""
    return defined(path, "study", Study)


def defined(path: Path, name: str, kind: type[Kind]) -> Kind:
    """What the function of this name in a file returns. `UserError` where there is none, or it returns anything else."""
    if not path.is_file():
        raise UserError(f"configuration {path} does not exist")
    module = usercode.load(path)
    with usercode.running(path):
        function = getattr(module, name, None)
        value = function() if callable(function) else None
    if not callable(function):
        other = next((each for each in _DEFINED if each != name and callable(getattr(module, each, None))), None)
        hint = f"; it defines {other}(), which is for w2sr {_DEFINED[other]}" if other else ""
        raise UserError(f"{path} must define a function {name}() that returns {_a(kind)}{hint}")
    if not isinstance(value, kind):
        raise UserError(f"{path}: {name}() returned a {type(value).__name__}, not {_a(kind)}")
    return value


def save(run: Path, experiment: Experiment) -> None:
    """Write RUN/experiment.json and copies of the user's modules that it refers to, and of those that these import."""
    encoded = encode(experiment)
    sources = imports.closure(encoding.user_modules(experiment))
    code = imports.digests(sources)
    if not code and _refers(encoded):
        raise ValueError("settings that were only looked at cannot be saved; they have none of the code that they name")
    for name, source in sources.items():
        target = run / CONFIG / name
        if source != target.resolve():
            with files.replacing(target) as copy:
                shutil.copyfile(source, copy)
    whole = encoded | {"code": code, "format": files.FORMAT}
    files.write_json(run / EXPERIMENT, whole | {"digest": files.digest_json(whole)})
    trust.remember(code)


def check_read_back(run: Path) -> None:
    """`UserError` where another process could not read the run's own code back from its copies; nothing where it has none."""
    if not _code(run, _raw(run)):
        return
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from w2sr_jax.configuration import saved\nfrom w2sr_jax.core.errors import UserError\n"
        "try:\n    saved.load_trusted(Path(sys.argv[1]), True)\nexcept UserError as error:\n    sys.exit(f'w2sr: {error}')\n"
    )
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-c", program, str(run)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=environment, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1].removeprefix("w2sr: ")
        raise UserError(
            f"the run could not be opened again from its copies of your code: {sentences.shown(last, 600)}; let modules read "
            'only files that they name beside themselves (Path(__file__).parent / "NAME"), of at most 1 MiB'
        )


def check_format(run: Path) -> None:
    """`UserError` where another version wrote the run's experiment in a way that this one cannot read; nothing where there is
    none, or none that is sound."""
    try:
        raw = files.read_json(run / EXPERIMENT)
    except UserError:
        return
    if isinstance(raw, dict) and _as_saved(raw):
        _check_format(run, raw)


def load(run: Path) -> Experiment:
    """The experiment that `save` wrote, to look at: the user's own types and functions are stand-ins that cannot be called."""
    return _load(run, _raw(run), Unloaded)


def load_trusted(run: Path, trusted: bool = False) -> Experiment:
    """The experiment that `save` wrote, to be worked on: what is the user's own is executed from the run's copies. `UserError`
    where it is code that this account has not run before and that is not `trusted`, or that is not as it was saved."""
    raw = _raw(run)
    looked = _load(run, raw, Unloaded)
    code = _code(run, raw)
    if not code:
        return looked
    trust.check(run, run / CONFIG, code, trusted)
    copies.install(run / CONFIG, code)
    experiment = _load(run, raw, _executed)
    if config_hash(experiment) != config_hash(looked):
        raise UserError(f"{run / CONFIG} is not what {run / EXPERIMENT} was saved with; restore it, or begin another run")
    trust.remember(code)
    return experiment


def has_code(run: Path) -> bool:
    """Whether `load_trusted` executes code of the user's own."""
    return bool(_code(run, _raw(run)))


def settings_of(run: Path) -> dict[str, Any]:
    """The settings of a run as JSON, as `save` wrote them."""
    return {name: value for name, value in _raw(run).items() if name not in _OWN}


def config_hash(experiment: Experiment) -> str:
    """Digest of all settings but the run's name and its trackers."""
    return files.digest_json(encode(dataclasses.replace(experiment.untracked, name="-")))


def edited(run: Path, experiment: Experiment) -> list[str]:
    """The user's files that an experiment needs and that are not as the run keeps them; none where the run has no experiment that
    can be read."""
    try:
        kept = _code(run, _raw(run))
    except UserError:
        return []
    now = imports.digests(imports.closure(encoding.user_modules(experiment)))
    return sorted(name for name in kept.keys() & now.keys() if kept[name] != now[name])


def _load(run: Path, raw: Mapping[str, Any], stand_for: Any) -> Experiment:
    path = run / EXPERIMENT
    try:
        code = _code(run, raw)
    except RecursionError:
        raise UserError(f"{path} is nested too deeply") from None
    for name, digest in code.items():
        if files.digest_file(_inside(run, name, path)) != digest:
            raise UserError(
                f"{run / CONFIG / name} is not as it was saved, and {path} refers to it; restore it, or begin another run"
            )

    def resolve(reference: Reference) -> Any:
        module = reference.name.partition(":")[0]
        if not any(name in code for name in _files_of(module)):
            missing = sentences.shown(str(run / CONFIG / f"{module.replace('.', '/')}.py"))
            raise UserError(f"{reference.setting} refers to {sentences.shown(reference.name)}, but {missing} does not exist")
        return stand_for(reference)

    try:
        value = encoding.decode({name: part for name, part in raw.items() if name not in _OWN}, path, "", resolve)
    except RecursionError:
        raise UserError(f"{path} is nested too deeply") from None
    if not isinstance(value, Experiment):
        raise UserError(f"{path} does not hold an experiment")
    _check_types(value, path)
    check(value)
    return value


def _executed(reference: Reference) -> Any:
    """A type or function of the user's, from the copies in use."""
    import importlib

    module, _, qualified = reference.name.partition(":")
    with usercode.calling(reference.name):
        value: Any = importlib.import_module(module)
    for part in qualified.split("."):
        value = getattr(value, part, None)
    if value is None:
        raise UserError(f"{reference.setting} refers to {sentences.shown(reference.name)}, which does not exist")
    return value


def _raw(run: Path) -> dict[str, Any]:
    path = run / EXPERIMENT
    if not path.is_file():
        raise UserError(f"{run} is not a run: it has no {EXPERIMENT}")
    if path.stat().st_size > files.LARGEST_JSON:
        raise UserError(f"{path} has {path.stat().st_size:,} bytes, and JSON of more than {files.LARGEST_JSON:,} is not read")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_object)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {sentences.cause(error)}") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} does not hold an experiment")
    if not _as_saved(raw):
        raise UserError(
            f"{path} is not as it was saved; settings of a run cannot be changed: override those of its configuration"
        )
    _check_format(run, raw)
    return raw


def _check_format(run: Path, raw: Mapping[str, Any]) -> None:
    if "digest" in raw and raw.get("format") != files.FORMAT:
        raise UserError(files.other_format(run, raw.get("format")))


def _as_saved(raw: Mapping[str, Any]) -> bool:
    """Whether a saved experiment has the digest it was saved with; one without a digest was written otherwise."""
    if "digest" not in raw:
        return True
    try:
        return bool(raw["digest"] == files.digest_json({key: part for key, part in raw.items() if key != "digest"}))
    except (ValueError, RecursionError):  # values that are never saved
        return False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a field occurs twice in one object")
    return values


def _check_types(experiment: Experiment, path: Path) -> None:
    try:
        wrong = mistyped(experiment, Experiment)
    except RecursionError:
        wrong = "its settings are nested too deeply"
    if wrong:
        raise UserError(f"{path}: {wrong}")


def _code(run: Path, raw: Mapping[str, Any]) -> dict[str, str]:
    """The user's files that a run needs, by path below RUN/config, with their digests; of a run that does not list them, all
    that lie there."""
    listed = raw.get("code")
    path = run / EXPERIMENT
    if listed is None:
        there = sorted((run / CONFIG).glob("*.py")) if _refers(raw) else []
        return {file.name: files.digest_file(file) for file in there if file.is_file() and not file.is_symlink()}
    if not isinstance(listed, dict) or not all(isinstance(name, str) and isinstance(of, str) for name, of in listed.items()):
        raise UserError(f"{path}, code must map paths to digests")
    for name in listed:
        _inside(run, name, path)
    return dict(listed)


def _inside(run: Path, name: str, path: Path) -> Path:
    """RUN/config/NAME where it is a file that lies there itself."""
    folder, parts = run / CONFIG, PurePosixPath(name).parts
    file = folder / name
    try:
        lies = bool(parts) and ".." not in parts and not PurePosixPath(name).is_absolute()
        sound = lies and file.is_file() and file.resolve() == folder.resolve().joinpath(*parts)
    except (OSError, ValueError, RuntimeError):
        sound = False
    if not sound:
        raise UserError(f"{path} refers to {sentences.shown(str(file))}, but that does not exist there")
    return file


def _a(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"


def _files_of(module: str) -> tuple[str, str]:
    stem = module.replace(".", "/")
    return f"{stem}.py", f"{stem}/__init__.py"


def _refers(raw: Any) -> bool:
    """Whether settings refer to anything of the user's."""
    if isinstance(raw, list):
        return any(map(_refers, raw))
    if not isinstance(raw, Mapping):
        return False
    name = raw.get("type", raw.get("function"))
    own = isinstance(name, str) and name.partition(":")[0].split(".")[0] != usercode.OURS
    return own or any(map(_refers, raw.values()))

"""`w2sr launch`: the job that runs an experiment on every host of a cluster, printed or handed to the cluster's own tool."""

import argparse
import tomllib
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from w2sr_jax.core.errors import UserError
from w2sr_jax.core.process import terminal
from w2sr_jax.core.process.stopping import Stop
from w2sr_jax.launch import hosts, launch, settings
from w2sr_jax.launch.job import RESTARTS, Environment, Job, Root, name_from

if TYPE_CHECKING:
    from w2sr_jax.experiment import Experiment

_TAKEN = ("coordinator", "processes", "process", "dry_run")
"""Options of `w2sr run` that a job gives itself, or that do nothing."""


def parser(about: str) -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(prog="w2sr launch", description=about, add_help=False, allow_abbrev=False)
    add = arguments.add_argument
    add("target", metavar="CONFIG.py", nargs="?", help="configuration file; overrides and options of w2sr run go along")
    add("--on", metavar="CLUSTER", help="; ".join(f"{name}: {launch.cluster(name).about}" for name in launch.CLUSTERS))
    add("--nodes", type=int, metavar="N", help="hosts in all; with --topology, those of the slices")
    add("--gpus", type=int, default=0, metavar="N", help="GPUs of each host (default: 0)")
    add("--topology", metavar="NAME", help="a TPU slice, such as v5p:2x2x4")
    add("--slices", type=int, default=1, metavar="N", help="how many such slices (default: 1)")
    add("--root", default="runs", metavar="ROOT", help="of all runs: a bucket (gs://…, s3://…) or a directory (default: runs)")
    add("--shared", action="store_true", help="states that every host sees the directory ROOT")
    add("--scratch", default="", metavar="DIR", help="directory of each host's own, beside a bucket")
    add("--image", default="", metavar="IMAGE", help="container image that holds w2sr and the configuration")
    add("--environment", default="", metavar="DIR", help="virtual environment with w2sr that every host sees")
    add("--install", default="", metavar="WHAT", help="package, wheel or directory (.) that bare hosts install")
    add("--job", default="", metavar="NAME", help="name of the job (default: that of the experiment)")
    add(
        "--restarts",
        type=int,
        default=RESTARTS,
        metavar="N",
        help=f"at most so many starts after the first (default: {RESTARTS})",
    )
    add("--logs", default="", metavar="DIR", help="directory of log files (default: logs)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="setting of the cluster, see below")
    add("--submit", action="store_true", help="hand the job to the cluster's own tool instead of printing it")
    return arguments


def run(argv: list[str], about: str, _: Stop) -> int:
    """Print the job, or submit it. `UserError` where it could not run, before anything is submitted."""
    arguments = parser(about)
    options, rest = arguments.parse_known_args(argv)
    if options.target is None or "-h" in rest or "--help" in rest:
        arguments.print_help()
        for name in launch.CLUSTERS:
            terminal.say(f"\n--set with --on {name}:")
            for line in settings.lines(launch.cluster(name).settings):
                terminal.say(f"  {line}")
        arguments.exit(0 if options.target is not None or rest else 2)
    if options.on is None:
        raise UserError(f"w2sr launch needs --on: {', '.join(launch.CLUSTERS)}")
    used = {name: getattr(options, name) for name in ("topology", "gpus", "image", "environment", "install", "logs")}
    launch.check_options(options.on, {**used, "slices": options.slices if options.slices != 1 else 0})
    where = hosts.resolved(options.nodes, options.topology, options.slices, options.gpus)
    experiment = _experiment(options.target, rest)
    if where.devices and not experiment.rehearsal:
        _check_mesh(experiment, where)
    job = Job(
        name=options.job or name_from(experiment.name),
        config=options.target,
        arguments=tuple(rest),
        hosts=where,
        root=Root(options.root, options.shared),
        scratch=options.scratch,
        environment=_environment(options),
        restarts=options.restarts,
        logs=options.logs or "logs",
    )
    written = launch.written(options.on, job, options.set)
    if not options.submit:
        terminal.say(written.text.rstrip("\n"))
        return 0
    code = launch.submit(options.on, written)
    if code:
        tool = launch.cluster(options.on).submission("")[0]
        raise UserError(
            f"{tool} ended with exit code {code}; what it says stands above, and the job without --submit shows what it got"
        )
    return 0


def _experiment(target: str, arguments: Sequence[str]) -> "Experiment":
    """The experiment as all hosts will read it: what is wrong with it is said here, before anything waits for a cluster."""
    from w2sr_jax.cli import run
    from w2sr_jax.configuration import saved
    from w2sr_jax.configuration.overrides import overridden
    from w2sr_jax.experiment import check
    from w2sr_jax.runs import requirements

    if not target.endswith(".py"):
        raise UserError(f"{target} is no configuration (a .py file), which is what a job begins with")
    plain, overrides = run.parser("").parse_known_args([target, *arguments])
    for name in _TAKEN:
        if getattr(plain, name) != run.parser("").get_default(name):
            raise UserError(f"--{name.replace('_', '-')} is not for a job, which says that to each host itself; leave it out")
    with terminal.coloured():
        experiment = overridden(saved.load_config(Path(target)), overrides, f"w2sr launch {target}")
    check(experiment)
    requirements.understood(plain.require, experiment)
    return experiment


def _check_mesh(experiment: "Experiment", where: hosts.Hosts) -> None:
    """`UserError` where a mesh would not fit the devices, which each host would find out only once it runs."""
    from w2sr_jax.parallel import mesh
    from w2sr_jax.stages import placing

    for stated, asked in placing.stated(experiment):
        whose = "" if stated == "mesh" else f"{stated}: "
        try:
            used = prod(mesh.resolved(asked, where.devices, where.kind))
        except UserError as error:
            raise UserError(f"{whose}{error}") from None
        if used < where.devices and where.nodes > 1:
            raise UserError(
                f"{whose}the mesh uses {used} of {where.devices} devices; with several hosts it must use them all "
                "(--mesh.data -1)"
            )


def _environment(options: argparse.Namespace) -> Environment:
    """How hosts get the package. Bare ones get it from the working directory, where this is the project's own."""
    own = not options.install and _is_own(Path("pyproject.toml"))
    lock = "requirements.lock" if own and Path("requirements.lock").is_file() else ""
    return Environment(options.image, options.environment, "." if own else options.install, lock)


def _is_own(pyproject: Path) -> bool:
    try:
        return tomllib.loads(pyproject.read_text(encoding="utf-8")).get("project", {}).get("name") == "w2sr-jax"
    except (OSError, ValueError, AttributeError):
        return False

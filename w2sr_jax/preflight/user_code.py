"""Whether the losses, schedules, weights and graders of a user's own are what they must be."""

import dataclasses
from typing import Any

from w2sr_jax.answers.contract import check_grader
from w2sr_jax.configuration.encoding import encode
from w2sr_jax.core.code import usercode
from w2sr_jax.core.errors import Unsavable
from w2sr_jax.core.records import Problem
from w2sr_jax.graph.planner import check_savable
from w2sr_jax.losses.contract import check_objective
from w2sr_jax.losses.contract_sequences import check_sequence_loss
from w2sr_jax.losses.objective import Objective
from w2sr_jax.preflight.findings import Findings
from w2sr_jax.preflight.subject import Subject


def user_code(subject: Subject, findings: Findings) -> None:
    """Can the settings be saved, can every objective train, and does the grader grade? Also where other stages alone are asked
    for, since nothing is to be computed for a training that fails."""
    experiment = subject.experiment
    try:
        encode(experiment)
        check_savable(subject.stages)
    except Unsavable as error:
        findings.refuse(str(error))
    looked_at: list[tuple[Objective, int | None]] = []
    for trained in dataclasses.replace(subject, kind=None, rung=None).trainings:
        if trained.stage is not None:
            with findings.refusing(trained.where):
                trained.stage.try_own_code(subject.some[:TRIED])
        if trained.stage is not None and trained.stage.sequence_loss is not None:
            with findings.refusing(trained.where):
                for remark in check_sequence_loss(trained.stage.sequence_loss):
                    findings.remark(f"{trained.where}: {remark}")
            continue
        size = _vocabulary(subject, trained.model.config.vocab_size)
        if any(trained.objective is objective and size == other for objective, other in looked_at):
            continue
        looked_at.append((trained.objective, size))
        with findings.refusing(trained.where):
            own = trained.stage is not None and trained.stage.draws_own
            for remark in check_objective(trained.objective, vocab_size=size, rollouts=own):
                findings.remark(f"{trained.where}: {remark}")
    with findings.refusing():
        for remark in check_grader(experiment.grader, *_answers(subject)):
            findings.remark(remark)
    for location in _own(experiment) or ["none but this package's"]:
        findings.see(location)


TRIED = 8
"""Problems that a training stage's own code is tried on."""


def _vocabulary(subject: Subject, size: int) -> int | None:
    """The vocabulary of a model; None where it is the tokenizer's, which is not made yet."""
    if size:
        return size
    renderer = subject.renderer
    return None if renderer is None else -(-renderer.vocab_size // 8) * 8


def _answers(subject: Subject) -> tuple[list[Problem], list[tuple[str, Problem]]]:
    """Problems of the run, and recorded texts with theirs."""
    texts = []
    for loaded in subject.loaded.values():
        problems = {problem.id: problem for problem in loaded.problems}
        texts += [(trace.text, problems[trace.problem_id]) for trace in loaded.traces[:4] if trace.problem_id in problems]
    return list(subject.some[:256]), texts


def _own(value: Any) -> list[str]:
    """Where the functions and classes of the user's own stand that settings hold."""
    if isinstance(value, tuple):
        return list(dict.fromkeys(location for part in value for location in _own(part)))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = tuple(getattr(value, field.name) for field in dataclasses.fields(value))
        inner = _own(parts)
        return inner if _ours(type(value).__module__) else list(dict.fromkeys([usercode.defined(value), *inner]))
    return [usercode.defined(value)] if callable(value) and not _ours(getattr(value, "__module__", None)) else []


def _ours(module: object) -> bool:
    return str(module).split(".")[0] == usercode.OURS

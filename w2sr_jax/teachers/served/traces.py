"""The traces of a teacher behind a server, for the problems of a rung; and whether the server answers before a run."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from w2sr_jax.core import sentences
from w2sr_jax.core.errors import UserError
from w2sr_jax.teachers import finish_reasons
from w2sr_jax.teachers.served import ask, request
from w2sr_jax.teachers.served.client import Again, Server
from w2sr_jax.teachers.teacher import Findings
from w2sr_jax.teachers.work import TeacherWork, WrittenTraces

if TYPE_CHECKING:
    from w2sr_jax.teachers.settings import Served

PATIENCE = 5.0
"""Seconds that a server may take to list its models."""


def write_served(teacher: Served, work: TeacherWork) -> WrittenTraces:
    """Let the server's model answer the problems. Answers are stored as they arrive, in one journal for all rungs."""
    problems = list(work.problems)
    work.say(f"{teacher.name}: {request.bound(teacher, problems).words()}")
    with work.stop() as asked:
        answered = ask.ask(
            work.folder,
            teacher,
            problems,
            work.grader,
            work.seed,
            journal=work.shared_folder / ask.JOURNAL,
            on_progress=work.progress,
            stop=asked,
            tokenizer=None if work.tokenizer is None else work.tokenizer(),
        )
    tokens = {"prompt_tokens": answered.prompt_tokens, "tokens": answered.completion_tokens, "flops": None}
    missing = sum(answered.counts[name] for name in ("refused", "filtered", "empty", "failed"))
    note = f", {missing:,} answers without a trace" if missing else ""
    if answered.counts["unfinished"]:
        note += f", {answered.counts['unfinished']:,} not finished ({_listed(answered.reasons)})"
    unsaid = answered.unknown | {name: count for name, count in answered.reasons.items() if name == finish_reasons.UNSTATED}
    if unsaid:
        why = f"{teacher.url} gives no known reason why answers ended ({_listed(unsaid)})"
        work.warn(f"{teacher.name}: {why}; they count as not finished")
    ends = {name: answered.counts[name] for name in ("unfinished", "unanswered")} | {"finish_reasons": answered.reasons}
    note += f"; {answered.prompt_tokens + answered.completion_tokens:,} tokens, cost {answered.cost:,.2f}"
    measures = {**tokens, **ends, "cost": answered.cost}
    if teacher.top_logprobs:
        count, every = answered.counts[ask.DISTRIBUTIONS], answered.counts["traces"]
        measures[ask.DISTRIBUTIONS] = count
        note += f"; {count:,} with the most probable tokens"
        if not count:
            work.warn(
                f"{teacher.name}: of none of its {every:,} traces the most probable tokens can be used: {teacher.url} reports "
                "none, or its model has another tokenizer than the run"
            )
    return WrittenTraces(answered.paths, measures, note)


def inspect_served(teacher: Served, findings: Findings) -> None:
    """Does the server answer, and does it know the model? `UserError` where it does not answer, or refuses."""
    where = f"teacher {teacher.name!r}"
    key = (
        f"with the key in {teacher.key_env}"
        if teacher.key_env and os.environ.get(teacher.key_env, "").strip()
        else "without a key"
    )
    try:
        listed = asyncio.run(_models(teacher))
    except Again as error:
        if "connection failed" in str(error):
            raise UserError(f"{where}: {teacher.url} does not answer: {error}; start the server, or correct url") from None
        findings.remark(f"{where}: {teacher.url} does not list its models: {error}")
        return
    except UserError as error:
        if "does not know the path" not in str(error):
            raise
        findings.remark(f"{where}: {teacher.url} does not list its models, so that it is not known whether it serves this one")
        return
    shown = ", ".join(sentences.shown(name, 60) for name in listed[:5]) or "none"
    findings.see(f"{teacher.name}: {teacher.url} answers {key}; it serves {shown}{' and more' if len(listed) > 5 else ''}")
    if not teacher.model and len(listed) != 1:
        findings.refuse(f"{where} has no model, and {teacher.url} serves {len(listed)} ({shown}); set model to one")
    elif teacher.model and listed and teacher.model not in listed:
        findings.remark(f"{where}: {teacher.url} lists no model {sentences.value(teacher.model)}, only {shown}")


async def _models(teacher: Served) -> list[str]:
    async with Server(dataclasses.replace(teacher, timeout=min(teacher.timeout, PATIENCE))) as server:
        return await server.models()


def _listed(counts: Mapping[str, int]) -> str:
    """Counts by name, in words."""
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())

"""Asking for every answer that is missing: so many requests at a time, with retries, under the limits of a teacher's settings."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from w2sr_jax.core import keys, sentences
from w2sr_jax.core.errors import Stopped, UserError
from w2sr_jax.teachers.served.answer import Answer
from w2sr_jax.teachers.served.client import Again, Server
from w2sr_jax.teachers.served.journal import Journal
from w2sr_jax.teachers.served.rate_limit import Budget, Charge, OverBudget, RateLimit, back_off
from w2sr_jax.teachers.served.request import Request, cost

if TYPE_CHECKING:
    from w2sr_jax.teachers.settings import Served

log = logging.getLogger(__name__)

Progress = Callable[[int, int, str], None]
"""Called with (answers in the journal, answers in all, a few words on rate, retries and cost)."""

_POLL = 0.1  # seconds between polls of whether to stop

T = TypeVar("T")


def run(
    settings: Served,
    plan: Callable[[], Iterator[Request]],
    journal: Journal,
    seed: int,
    on_progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> Counter[str]:
    """Fill the journal with an answer to every request of the plan; requests with an answer there are not sent. Returns the
    counts `kept`, `asked`, `retries` and `failed`, see `ask.Asked`. Raises UserError and Stopped; the journal keeps what has
    arrived."""
    counts: Counter[str] = Counter(kept=0, asked=0, retries=0, failed=0)
    total, spent, models = 0, 0.0, set()
    for request in plan():
        total += 1
        entry = journal.get(request.key)
        if entry is not None:
            counts["kept"] += 1
            models.add(entry[0])
            spent += _charge(settings, request, entry[1])
    if counts["kept"] < total:
        missing = (request for request in plan() if request.key not in journal)
        halted = threading.Event()
        work = _Work(
            settings,
            journal,
            seed,
            missing,
            total,
            counts,
            models,
            Budget(settings.max_cost, spent),
            lambda: halted.is_set() or (stop is not None and stop()),
            on_progress,
        )
        _in_loop(work.run, halted)
    return counts


def _in_loop(work: Callable[[], Coroutine[Any, Any, None]], halted: threading.Event) -> None:
    """Run in an event loop; in another thread where this one has a loop already, as in a notebook."""
    if not _looping():
        return asyncio.run(work())
    with ThreadPoolExecutor(1) as pool:
        try:
            return pool.submit(lambda: asyncio.run(work())).result()
        finally:
            halted.set()


def _looping() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


@dataclasses.dataclass
class _Work:
    """What the workers of one call share. `end` says in words why no more requests are sent ("": they are); `sending` are the
    tasks whose request is under way; `models` are the models whose answers are in the journal."""

    settings: Served
    journal: Journal
    seed: int
    missing: Iterator[Request]
    total: int
    counts: Counter[str]
    models: set[str]
    budget: Budget
    stop: Callable[[], bool]
    on_progress: Progress | None
    model: str = ""
    end: str = ""
    tokens: int = 0
    sending: set[Any] = dataclasses.field(default_factory=set)

    def __post_init__(self) -> None:
        self.where = f"teacher {sentences.value(self.settings.name)}"
        self.pace = RateLimit(self.settings.requests_per_minute, self.settings.tokens_per_minute)
        self.server = Server(self.settings)
        self.started = time.monotonic()

    async def run(self) -> None:
        async with self.server:
            await self._watch([self._choose_model()])
            await self._watch([self._worker() for _ in range(self.settings.concurrency)])
        if self.end:
            raise UserError(f"{self.where} {self.end}; {self._journaled()}")

    async def _watch(self, works: list[Coroutine[Any, Any, None]]) -> None:
        """Run coroutines until they are done, one raises, or `stop` says so; the others are then cancelled. Once `end` is set,
        only those whose request is under way go on, since it will be paid for."""
        pending = {asyncio.ensure_future(work) for work in works}
        try:
            while pending:
                done, pending = await asyncio.wait(pending, timeout=_POLL, return_when=asyncio.FIRST_EXCEPTION)
                errors = [task.exception() for task in done if not task.cancelled()]
                for error in errors:
                    if error is not None:
                        raise error
                if self.stop():
                    raise Stopped(
                        f"{self.where} was asked to stop and did so; {self._journaled()}; the same command goes on from there"
                    )
                if self.end:
                    for task in pending - self.sending:
                        task.cancel()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _choose_model(self) -> None:
        """The model of the settings, or the only one that the server lists."""
        self.model = self.settings.model
        if self.model:
            return
        try:
            names = await self._tried(lambda _: self.server.models(), 0, "", 0)
        except Again as error:
            raise UserError(f"{self.where} cannot ask {self.settings.url} for its models: {error}; start the server") from None
        if len(names) != 1:
            listed = ", ".join(sentences.shown(name, 60) for name in names[:10]) or "none"
            raise UserError(
                f"{self.where} has no model, and {self.settings.url} serves {len(names)} ({listed}); set model to one"
            )
        self.model = names[0]
        others = self.models - {self.model}
        if others:
            was, now = sentences.shown(sorted(others)[0], 60), sentences.shown(self.model, 60)
            raise UserError(
                f"{self.where} has answers of the model {was} in {self.journal.path}, but {self.settings.url} serves {now}; "
                "set model to the one that is meant"
            )

    async def _worker(self) -> None:
        for request in self.missing:
            await self._ask(request)
            if self.end:
                return

    async def _ask(self, request: Request) -> None:
        settings = self.settings
        most, charged = cost(settings, request.most_prompt_tokens, settings.max_tokens), 0.0
        try:
            await self.budget.reserve(most)
        except OverBudget:
            self.end = (
                f"has cost {self.budget.spent:.4g}, and the next answer could cost {most:.4g}, above its max_cost of "
                f"{settings.max_cost:g}: raise it to go on"
            )
            return

        async def send(charge: Charge) -> Answer:
            task = asyncio.current_task()
            self.sending.add(task)
            try:
                about = f"the request for problem {request.problem.id}"
                answer = await self.server.complete({**request.body, "model": self.model}, about)
                self._keep(request, answer)
            finally:
                self.sending.discard(task)
            if answer.prompt_tokens is not None and answer.completion_tokens is not None:
                charge.tokens = answer.prompt_tokens + answer.completion_tokens
            return answer

        most_tokens = request.most_prompt_tokens + settings.max_tokens
        try:
            answer = await self._tried(send, most_tokens, request.problem.id, request.sample)
            charged = _charge(settings, request, answer)
        except Again as error:
            self._failed(request, error)
        finally:
            await self.budget.settle(most, charged)

    async def _tried(self, send: Callable[[Charge], Awaitable[T]], tokens: int, *ids: str | int) -> T:
        """What comes of sending; the last attempt's Again where none succeeds. `tokens` is the most that it can take."""
        attempt = 0
        while True:
            charge = await self.pace.turn(tokens)
            try:
                return await send(charge)
            except Again as error:
                charge.tokens = 0
                self.counts["retries"] += 1
                attempt += 1
                if self.end or attempt >= self.settings.attempts:
                    raise
                if error.wait is not None:
                    self.pace.hold(error.wait)
            draw = keys.generator(self.seed, "back-off", self.settings.name, *ids, attempt).random()
            await asyncio.sleep(back_off(self.settings.back_off, attempt - 1, draw))

    def _keep(self, request: Request, answer: Answer) -> None:
        self.journal.add(request.key, self.model, answer)
        self.counts["asked"] += 1
        self.tokens += answer.completion_tokens or 0
        if self.on_progress is not None:
            words = f"{self.tokens / max(time.monotonic() - self.started, 1e-9):,.0f} tokens/s"
            retries, spent = self.counts["retries"], self.budget.spent + _charge(self.settings, request, answer)
            words += (f", {retries:,} retries" if retries else "") + (f", cost {spent:.4g}" if spent else "")
            self.on_progress(self.counts["kept"] + self.counts["asked"], self.total, words)

    def _failed(self, request: Request, error: Exception) -> None:
        """Count a request that failed for good; the work ends where there are too many."""
        if self.end:
            return
        self.counts["failed"] += 1
        log.warning("%s: no answer for problem %s, sample %d: %s", self.where, request.problem.id, request.sample, error)
        if self.counts["failed"] > self.settings.failures:
            failed = f"{self.counts['failed']:,} requests failed in all of {self.settings.attempts} attempts"
            self.end = f"stops: {failed}, the last one because {error}"

    def _journaled(self) -> str:
        return f"{self.counts['kept'] + self.counts['asked']:,} of {self.total:,} answers are kept in {self.journal.path}"


def _charge(settings: Served, request: Request, answer: Answer) -> float:
    """What an answer counts against the limit of cost: the most that it can have cost where the server does not say."""
    prompt, completion = answer.prompt_tokens, answer.completion_tokens
    return cost(
        settings,
        request.most_prompt_tokens if prompt is None else prompt,
        settings.max_tokens if completion is None else completion,
    )

"""The request for a trace, and the key under which the journal has its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from w2sr_jax.core import files, keys
from w2sr_jax.core.errors import UserError
from w2sr_jax.core.records import Problem
from w2sr_jax.teachers.served import address

if TYPE_CHECKING:
    from w2sr_jax.teachers.settings import Served

Messages = Callable[[Problem], Sequence[Mapping[str, str]]]
"""The messages that ask for a problem's trace, each with `role` and `content`."""

_OVERHEAD = 64  # tokens that a server may write around a message


class Request(NamedTuple):
    """`body` is the JSON to send. `digest` depends on it and on the url, and on nothing else."""

    problem: Problem
    sample: int
    body: dict[str, Any]
    digest: str

    @property
    def key(self) -> tuple[str, int, str]:
        return self.problem.id, self.sample, self.digest

    @property
    def most_prompt_tokens(self) -> int:
        """No prompt has more tokens than bytes, what a chat template adds aside, for which some are allowed."""
        parts = [message["content"] for message in self.body.get("messages", ())] or [self.body.get("prompt", "")]
        return sum(len(part.encode(errors="replace")) + _OVERHEAD for part in parts) + _OVERHEAD


class Bound(NamedTuple):
    """The most that a teacher's traces can take. Tokens of prompts are bounded by their bytes, so that they are some 3 or 4 times
    what English prompts take."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float

    def words(self) -> str:
        """For people, before the first request."""
        price = f", cost at most {self.cost:,.2f}" if self.cost else ""
        return f"{self.requests:,} requests, at most {self.prompt_tokens + self.completion_tokens:,} tokens{price}"


def steering(settings: Served) -> tuple[Any, ...]:
    """The settings on which an answer depends; all others say how often, how fast and at what price it is asked for."""
    return (
        address.plain(settings.url),
        settings.model,
        settings.api,
        settings.prompt,
        settings.system,
        settings.temperature,
        settings.top_p,
        settings.max_tokens,
        settings.length_field,
        settings.stop,
        settings.extra_body,
        settings.send_seed,
        settings.logprobs,
        *((settings.top_logprobs,) if settings.top_logprobs else ()),
    )


def requests(settings: Served, problems: Sequence[Problem], seed: int, messages: Messages | None = None) -> Iterator[Request]:
    """One request per problem and sample, in this order. Its seed derives from (seed, teacher's name, problem id, sample)."""
    extra = _nested(settings)
    for problem in problems:
        asked = _asked(settings, problem, messages)
        for sample in range(settings.samples):
            body = {"model": settings.model, **asked, **_decoding(settings), **extra}
            if settings.send_seed:
                body["seed"] = keys.words(seed, "served", settings.name, problem.id, sample)[0] >> 1  # fits 31 bits
            yield Request(problem, sample, body, files.digest_json([address.plain(settings.url), settings.api, body]))


def bound(settings: Served, problems: Sequence[Problem], messages: Messages | None = None) -> Bound:
    """What all requests can take at most, answered at the first attempt."""
    prompts = sum(request.most_prompt_tokens for request in requests(settings, problems, 0, messages))
    count = len(problems) * settings.samples
    completions = count * settings.max_tokens
    return Bound(count, prompts, completions, cost(settings, prompts, completions))


def cost(settings: Served, prompt_tokens: int, completion_tokens: int) -> float:
    return (prompt_tokens * settings.prompt_price + completion_tokens * settings.completion_price) / 1e6


def _asked(settings: Served, problem: Problem, messages: Messages | None) -> dict[str, Any]:
    if messages is not None:
        if settings.api == "completions":
            raise UserError(f"teacher {settings.name!r} continues a prompt (api = 'completions') and cannot be given messages")
        return {"messages": [{"role": each["role"], "content": each["content"]} for each in messages(problem)]}
    text = settings.prompt.replace("{question}", problem.question)
    if settings.api == "completions":
        return {"prompt": text}
    system = [] if settings.system is None else [{"role": "system", "content": settings.system}]
    return {"messages": [*system, {"role": "user", "content": text}]}


def _decoding(settings: Served) -> dict[str, Any]:
    length = settings.length_field if settings.api == "chat" else "max_tokens"
    fields: dict[str, Any] = {length: settings.max_tokens}
    if settings.temperature is not None:
        fields["temperature"] = settings.temperature
    if settings.top_p is not None:
        fields["top_p"] = settings.top_p
    if settings.stop:
        fields["stop"] = list(settings.stop)
    if settings.logprobs or settings.top_logprobs:
        fields["logprobs"] = True if settings.api == "chat" else max(1, settings.top_logprobs)
    if settings.top_logprobs and settings.api == "chat":
        fields["top_logprobs"] = settings.top_logprobs
    return fields


def _nested(settings: Served) -> dict[str, Any]:
    """`extra_body` with dots in names as objects within objects."""
    values: dict[str, Any] = {}
    for path, value in settings.extra_body:
        *above, name = path.split(".")
        inner = values
        for part in above:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                break
        if not isinstance(inner, dict) or name in inner:
            raise UserError(f"teacher {settings.name!r} gives {path!r} in extra_body twice; give every field once")
        inner[name] = value
    return values

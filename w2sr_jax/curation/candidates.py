"""What curation looks at of a trace."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from w2sr_jax.answers.quality import loops
from w2sr_jax.core.records import Finish, Trace, VerdictName


@dataclass(frozen=True, slots=True)
class Candidate:
    """A trace without its text; `content` is equal where texts are equal but for case and spaces."""

    id: str
    problem_id: str
    teacher: str
    answer: str | None
    verdict: VerdictName
    finish: Finish
    tokens: int
    characters: int
    empty: bool
    looping: bool
    content: bytes


def candidates(traces: Iterable[Trace], count_tokens: Callable[[Trace], int] | None = None) -> Iterator[Candidate]:
    """`count_tokens` says how long a trace is (by default `Trace.tokens`, which recorded traces do not know)."""
    for trace in traces:
        content = hashlib.blake2b(" ".join(trace.text.lower().split()).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        yield Candidate(
            trace.id,
            trace.problem_id,
            trace.teacher,
            trace.answer,
            trace.verdict,
            trace.finish,
            count_tokens(trace) if count_tokens else trace.tokens,
            len(trace.text),
            not trace.text.strip(),
            loops(trace.text),
            content,
        )

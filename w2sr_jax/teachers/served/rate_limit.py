"""When a server may be asked: limits per minute, waits that it asks for, back-off with jitter, and a limit of cost."""

import asyncio
import dataclasses
import email.utils
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

LONGEST_BACK_OFF = 60.0
_MINUTE = 60.0
_LOOK = 1.0  # seconds between looks at how long to wait still
_ROUNDING = 1e-9


@dataclasses.dataclass
class Charge:
    """Tokens that a request sent at `time` is counted with."""

    time: float
    tokens: float


class Pace:
    """Spreads requests evenly, so that no minute has more than allowed, and lets no more tokens into any minute than allowed
    (None: no limit). Whoever asks first goes first."""

    def __init__(
        self,
        requests_per_minute: float | None,
        tokens_per_minute: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._between = _MINUTE / requests_per_minute if requests_per_minute else 0.0
        self._most = tokens_per_minute
        self._clock, self._sleep = clock, sleep
        self._charges: deque[Charge] = deque()
        self._from = 0.0  # the clock's time from which on a request may be sent
        self._turn = asyncio.Lock()

    async def turn(self, tokens: int) -> Charge:
        """Wait until a request may be sent, and count it as sent, with the most tokens that it can take. One that could take more
        than a minute may have gets a minute for itself."""
        async with self._turn:
            while (wait := self._wait(tokens)) > 0:
                await self._sleep(min(wait, _LOOK))
            charge = Charge(self._clock(), tokens)
            self._from = charge.time + self._between
            if self._most is not None:
                self._charges.append(charge)
            return charge

    def hold(self, seconds: float) -> None:
        """Nothing is sent for so long."""
        self._from = max(self._from, self._clock() + seconds)

    def _wait(self, tokens: int) -> float:
        now = self._clock()
        if self._most is None:
            return self._from - now
        while self._charges and self._charges[0].time <= now - _MINUTE:
            self._charges.popleft()
        full = sum(charge.tokens for charge in self._charges) + min(tokens, self._most) > self._most
        return max(self._from, self._charges[0].time + _MINUTE if full and self._charges else 0.0) - now


class OverLimit(Exception):
    """Nothing more can be sent under the limit of cost."""


class Purse:
    """Keeps `spent`, and what requests on their way may cost at most, below a limit (None: there is none)."""

    def __init__(self, limit: float | None, spent: float) -> None:
        self._limit, self.spent, self._reserved = limit, spent, 0.0
        self._changed = asyncio.Condition()

    async def reserve(self, most: float) -> None:
        """Set aside what a request may cost, when there is room. Raises OverLimit where there will never be any."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(most) or self._reserved < _ROUNDING)
            if not self._fits(most):
                raise OverLimit
            self._reserved += most

    async def settle(self, most: float, spent: float) -> None:
        """Of what was set aside, this was spent."""
        async with self._changed:
            self._reserved = max(0.0, self._reserved - most)
            self.spent += spent
            self._changed.notify_all()

    def _fits(self, most: float) -> bool:
        return self._limit is None or self.spent + self._reserved + most <= self._limit + _ROUNDING


def back_off(base: float, attempt: int, draw: float) -> float:
    """Seconds to wait after attempt 0, 1, …: `draw` in [0, 1) of a time that doubles (full jitter: Brooker, "Exponential Backoff
    And Jitter", 2015)."""
    return draw * min(LONGEST_BACK_OFF, base * 2.0 ** min(attempt, 60))


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds for which a server asks to be left alone: `retry-after-ms`, or `Retry-After` as seconds or as a date (RFC 9110,
    section 10.2.3); None where it does not say."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        return max(0.0, seconds) if seconds < float("inf") else None
    try:
        date = email.utils.parsedate_to_datetime(headers["retry-after"])
    except (KeyError, ValueError, TypeError):
        return None
    date = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (date - (now or datetime.now(UTC))).total_seconds())

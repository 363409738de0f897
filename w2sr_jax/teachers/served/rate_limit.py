"""When the next request may be sent: limits per minute, waits that the server asks for, back-off with jitter, a budget."""

import asyncio
import dataclasses
import email.utils
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

LONGEST_BACK_OFF = 60.0
_MINUTE = 60.0
_POLL = 1.0  # seconds after which the time to wait is computed anew
_ROUNDING = 1e-9


@dataclasses.dataclass
class Charge:
    """The tokens that a request, sent at `time`, counts for."""

    time: float
    tokens: float


class RateLimit:
    """Spreads requests evenly, so that no minute has more of them than the limit, and no minute more tokens than theirs (None: no
    limit). First come, first served."""

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
        """Wait until a request may be sent, and count it with the most tokens that it can take. One that could take more than the
        limit of a minute gets a minute of its own."""
        async with self._turn:
            while (wait := self._wait(tokens)) > 0:
                await self._sleep(min(wait, _POLL))
            charge = Charge(self._clock(), tokens)
            self._from = charge.time + self._between
            if self._most is not None:
                self._charges.append(charge)
            return charge

    def hold(self, seconds: float) -> None:
        """Let no request be sent for so many seconds."""
        self._from = max(self._from, self._clock() + seconds)

    def _wait(self, tokens: int) -> float:
        now = self._clock()
        if self._most is None:
            return self._from - now
        while self._charges and self._charges[0].time <= now - _MINUTE:
            self._charges.popleft()
        full = sum(charge.tokens for charge in self._charges) + min(tokens, self._most) > self._most
        return max(self._from, self._charges[0].time + _MINUTE if full and self._charges else 0.0) - now


class OverBudget(Exception):
    """No further request fits into the budget."""


class Budget:
    """Keeps the sum of `spent` and of what requests under way may cost at most below a limit (None: no limit)."""

    def __init__(self, limit: float | None, spent: float) -> None:
        self._limit, self.spent, self._reserved = limit, spent, 0.0
        self._changed = asyncio.Condition()

    async def reserve(self, most: float) -> None:
        """Reserve what a request may cost at most, once there is room. Raises OverBudget where there will never be any."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(most) or self._reserved < _ROUNDING)
            if not self._fits(most):
                raise OverBudget
            self._reserved += most

    async def settle(self, most: float, spent: float) -> None:
        """Release the reservation `most`, of which `spent` was spent."""
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

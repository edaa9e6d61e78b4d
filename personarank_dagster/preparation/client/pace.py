"""How many requests are in flight: as many as the server answers without queueing them."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

# Requests that may queue at the server: fewer let the number in flight grow, more let it shrink.
FEW_QUEUED, MANY_QUEUED = 2.0, 6.0

# Share of a new latency in the mean, and how fast the best one is forgotten.
NEW, FORGET = 0.1, 1.0001


@dataclass
class Sent:
    """When a request was sent."""

    at: float


class Pace:
    """Additive increase, multiplicative decrease; and less where latency says that requests queue.

    Local servers take any number of requests and let them wait, without a 429. The number that wait is estimated as
    in TCP Vegas: in flight * (1 - best latency / present latency).
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = float(min(4, most))
        self.peak = 0
        self.in_flight = 0
        self._most, self._clock = most, clock
        self._mean = self._best = 0.0
        self._decreased = self._open_at = float("-inf")
        self._room = asyncio.Condition()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Sent]:
        """Wait for a place among the requests in flight, and hold it."""
        async with self._room:
            await self._room.wait_for(lambda: self.in_flight < int(self.limit))
            self.in_flight += 1
            self.peak = max(self.peak, self.in_flight)
        try:
            if (pause := self._open_at - self._clock()) > 0:
                await asyncio.sleep(pause)
            yield Sent(self._clock())
        finally:
            self.in_flight -= 1
            async with self._room:
                self._room.notify_all()

    def answered(self, sent: Sent) -> None:
        """An answer came."""
        latency = max(self._clock() - sent.at, 1e-6)
        self._mean = latency if not self._mean else (1 - NEW) * self._mean + NEW * latency
        self._best = min(self._best * FORGET, self._mean) if self._best else self._mean
        queued = self.limit * (1 - self._best / self._mean)
        if queued < FEW_QUEUED:
            self.limit = min(self._most, self.limit + 1 / self.limit)
        elif queued > MANY_QUEUED:
            self.limit = max(1.0, self.limit - 1 / self.limit)

    def overloaded(self, sent: Sent, *, pause: float = 0.0) -> None:
        """The server refused or timed out: half as many, once for all that were sent before it was noticed."""
        self._open_at = max(self._open_at, self._clock() + pause)
        if sent.at >= self._decreased:
            self._decreased = self._clock()
            self.limit = max(1.0, self.limit / 2)

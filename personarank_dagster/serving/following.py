"""What is opened from current versions, and exchanged in the background when others become current."""

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from personarank_dagster.core.errors import reason_of
from personarank_dagster.serving.published import Pointers

# How long a caller may take for granted that nothing new was published: looking takes a tenth of a call.
LOOK_SECONDS = 0.01
FAR_LOOK_SECONDS = 5.0
# After this what could not be opened is tried again, though no pointer has changed since.
RETRY_SECONDS = 5.0

OpenedT = TypeVar("OpenedT")


class Following(Generic[OpenedT]):
    """What `open_now` opens of the current versions, and what it opens of later ones; threads may share it.

    Nobody waits for a new one: it is opened beside the old one by a thread of its own, once for each change of the
    pointers. Where it cannot be opened, as while half of a refresh is published, the old one stays and `problem` says
    why.
    """

    def __init__(self, pointers: Pointers, open_now: Callable[[], OpenedT]) -> None:
        self.problem: str | None = None
        self._pointers, self._open_now = pointers, open_now
        self._look_seconds = LOOK_SECONDS if pointers.published.is_near else FAR_LOOK_SECONDS
        self._opening = threading.Lock()
        self._look_again = self._try_again = 0.0
        self._tried = pointers.state()
        self._opened = open_now()

    def current(self) -> OpenedT:
        """What is open now; looks for other versions where the last look is some time ago."""
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + self._look_seconds
            if not self._pointers.published.is_near or self._is_due():
                self._begin()
        return self._opened

    def _is_due(self) -> bool:
        if self._pointers.state() != self._tried:
            return True
        return self.problem is not None and time.monotonic() >= self._try_again

    def _begin(self) -> None:
        if self._opening.acquire(blocking=False):
            threading.Thread(target=self._take_up, name="personarank-open", daemon=True).start()

    def _take_up(self) -> None:
        try:
            if self._is_due():
                self._tried = self._pointers.state()
                self._opened = self._open_now()
                self.problem = None
        except Exception as error:
            # A thread has nobody to raise to: whatever it was, the old one stays, and health and metrics tell it.
            self.problem = reason_of(error)
            self._try_again = time.monotonic() + RETRY_SECONDS
        finally:
            self._opening.release()

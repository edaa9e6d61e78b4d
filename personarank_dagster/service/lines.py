"""Lines that are written behind the answers: gathered in memory, and written together."""

import os
from contextlib import suppress
from typing import Any

import msgspec

HELD_LINES = 1000

_encode = msgspec.json.Encoder().encode


class Lines:
    """Lines of JSON for a file descriptor; `flush` is called several times a second."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._held = descriptor, list[bytes]()

    def write(self, line: Any) -> None:
        """Hold a line, or write them all if there are many."""
        self._held.append(_encode(line))
        if len(self._held) >= HELD_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what is held; a reader that is gone costs the log alone."""
        if not self._held:
            return
        content, self._held = b"\n".join([*self._held, b""]), []
        with suppress(OSError):
            while content:
                content = content[os.write(self._descriptor, content) :]

"""How much memory readers may cost together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from graph.live.message import Message

LIMIT = 128 * 1024 * 1024
"""Most bytes of large messages that are on their way at once, each counted once however many readers it has."""


class Reader(Protocol):
    """Whoever a large message is being written to."""

    def abort(self) -> None:
        """Drop the connection, with whatever has not been read."""


class Load:
    """The large messages that are on their way. Beyond the limit, the readers that have taken longest are dropped.

    A reader that was dropped comes back and goes on after the last event it has; one that stopped reading, on purpose
    or not, cannot keep pictures in the memory of the server.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._readers: dict[Message, set[Reader]] = {}
        self._bytes = 0

    @contextmanager
    def carry(self, message: Message, reader: Reader) -> Iterator[None]:
        """Count a large message as on its way to a reader."""
        if (readers := self._readers.get(message)) is None:
            readers = self._readers[message] = set()
            self._bytes += len(message.body)
        readers.add(reader)
        self._make_room(message)
        try:
            yield
        finally:
            readers.discard(reader)
            if not readers and self._readers.get(message) is readers:
                self._drop(message)

    def _make_room(self, newest: Message) -> None:
        while self._bytes > self._limit and (slowest := next(iter(self._readers))) is not newest:
            for slow in self._drop(slowest):
                slow.abort()

    def _drop(self, message: Message) -> set[Reader]:
        self._bytes -= len(message.body)
        return self._readers.pop(message)

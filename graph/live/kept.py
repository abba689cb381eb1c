"""What a group keeps of its newest events, for subscribers who are behind."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque

from graph.live.message import Message

MESSAGES = 64
"""Most encoded events that a group keeps where what is further back can be read again."""
BYTES = 16 * 1024 * 1024
"""Most bytes of them, but for the newest, which is kept alone if it must be."""
BYTES_IN_ALL = 64 * 1024 * 1024
"""Most bytes that all groups keep together."""
OBJECTS = 1024
"""About what an event takes beside its encoded bytes."""


class Total:
    """How many bytes all groups keep."""

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class Kept:
    """The newest messages of a group, without a gap, as far as there is room for them. Nothing above `floor` is
    missing."""

    __slots__ = ("_bytes", "_floor", "_messages", "_most", "_total")

    def __init__(self, total: Total, floor: int, most: int | None) -> None:
        self._total = total
        self._floor = floor
        self._most = most
        self._messages: deque[Message] = deque()
        self._bytes = 0

    def add(self, message: Message) -> None:
        """Keep the newest one, and drop what there is no room for any more."""
        self._messages.append(message)
        self._count(len(message.body) + OBJECTS)
        while self._messages and (
            (self._most is not None and len(self._messages) > self._most)
            or (self._bytes > BYTES and len(self._messages) > 1)
            or self._total.bytes > BYTES_IN_ALL
        ):
            dropped = self._messages.popleft()
            self._floor = dropped.sequence
            self._count(-len(dropped.body) - OBJECTS)

    def after(self, sequence: int) -> Message | None:
        """The first one above a sequence; None if that one may be missing."""
        if sequence < self._floor:
            return None
        at = bisect_right(self._messages, sequence, key=lambda message: message.sequence)
        return self._messages[at] if at < len(self._messages) else None

    def reaches(self, sequence: int) -> bool:
        """Whether nothing above a sequence is missing."""
        return sequence >= self._floor

    def clear(self) -> None:
        """Nobody is behind any more."""
        self._messages.clear()
        self._count(-self._bytes)

    def _count(self, size: int) -> None:
        self._bytes += size
        self._total.bytes += size

"""Stored events, read once for all who ask for them at about the same moment.

When a server comes back, or a network does, everybody comes back at once, and most of them to where the others are.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence

from graph.live.message import Message
from graph.live.source import LiveEvent, Source

SECONDS = 1.0
"""How long what was read is shared. A replayed event shows its task as it is now, so not for long."""
EVENTS = 256
"""Most events that are held at a time; whoever needs more reads on."""


class Replay:
    """Stored events, and what they are encoded, as far as somebody has done that."""

    __slots__ = ("_events", "_messages")

    def __init__(self, events: Sequence[LiveEvent]) -> None:
        self._events = events[:EVENTS]
        self._messages: dict[int, Message] = {}

    def after(self, sequence: int) -> LiveEvent | None:
        """The first event above a sequence."""
        at = bisect_right(self._events, sequence, key=lambda event: event.sequence)
        return self._events[at] if at < len(self._events) else None

    def message(self, event: LiveEvent) -> Message | None:
        """The event as it was encoded before."""
        return self._messages.get(event.sequence)

    def keep(self, message: Message) -> None:
        """Share an encoded event with the others."""
        self._messages[message.sequence] = message


class Replays:
    """What is shared at this moment, by the sequence after which it begins."""

    __slots__ = ("_reading",)

    def __init__(self) -> None:
        self._reading: dict[int, asyncio.Future[Replay]] = {}

    async def after(self, source: Source, sequence: int) -> Replay:
        """The stored events above a sequence."""
        reading = self._reading.get(sequence)
        if reading is None:
            reading = asyncio.create_task(read(source, sequence), name="replay")
            reading.add_done_callback(_seen)
            self._share(sequence, reading)
        return await asyncio.shield(reading)

    def begin(self, sequence: int, events: Sequence[LiveEvent]) -> None:
        """Share what has just been read."""
        known = asyncio.get_running_loop().create_future()
        known.set_result(Replay(events))
        self._share(sequence, known)

    def _share(self, sequence: int, reading: asyncio.Future[Replay]) -> None:
        self._reading[sequence] = reading
        asyncio.get_running_loop().call_later(SECONDS, self._reading.pop, sequence, None)

    def forget(self) -> None:
        """Something has happened: whoever comes from now on reads again."""
        self._reading.clear()


async def read(source: Source, sequence: int) -> Replay:
    """The same for one reader alone."""
    return Replay(await source.stored(sequence))


def _seen(reading: asyncio.Future[Replay]) -> None:
    """Whoever waits for it is told what went wrong; when all have left, nobody needs to know."""
    if not reading.cancelled():
        reading.exception()

"""Stored events, read once for all who ask for them at about the same moment.

When a server comes back, or a network does, everybody comes back at once, and most of them to where the others are.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from graph.live.message import Message
from graph.live.source import LiveEvent, Prelude, Source

SECONDS = 1.0
"""How long what was read is shared. A replayed event shows its task as it is now, so not for long."""
EVENTS = 256
"""Most events that are held at a time, and most encoded ones; whoever needs more reads on."""


class Replay:
    """Stored events, and what they are encoded, as far as somebody has done that."""

    __slots__ = ("_encoding", "_events", "_messages")

    def __init__(self, events: Sequence[LiveEvent]) -> None:
        self._events = events[:EVENTS]
        self._messages: dict[int, Message] = {}
        self._encoding: dict[int, asyncio.Event] = {}

    def after(self, sequence: int) -> LiveEvent | None:
        """The first event above a sequence."""
        at = bisect_right(self._events, sequence, key=lambda event: event.sequence)
        return self._events[at] if at < len(self._events) else None

    async def encoded(self, event: LiveEvent, encode: Callable[[], Awaitable[Message]]) -> Message:
        """The event as it was encoded before, or is being encoded for somebody else; only else is it encoded."""
        sequence = event.sequence
        while (message := self._messages.get(sequence)) is None:
            if (busy := self._encoding.get(sequence)) is not None:
                await busy.wait()
                continue
            busy = self._encoding[sequence] = asyncio.Event()
            try:
                message = self._messages[sequence] = await encode()
            finally:
                del self._encoding[sequence]
                busy.set()
            if len(self._messages) > EVENTS:
                del self._messages[next(iter(self._messages))]
        return message


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


class Preludes:
    """Preludes that are shared at this moment, by the place that somebody comes back to."""

    __slots__ = ("_reading",)

    def __init__(self) -> None:
        self._reading: dict[str, _Reading] = {}

    async def of(self, source: Source, shared: Source, reaches: Callable[[int], bool]) -> tuple[Prelude, Replay]:
        """The one for a source, and how its events are encoded. `reaches` says whether all after a sequence is there;
        what goes on after another is of no use."""
        place = source.place or ""
        while (known := self._reading.get(place)) is not None:
            found = await self._wait(place, known)
            if reaches(found[0].then):
                return found
            self._forget(place, known)
        known = self._reading[place] = _Reading(asyncio.create_task(prelude(source, shared), name="prelude"))
        known.task.add_done_callback(partial(self._read, place, known))
        return await self._wait(place, known)

    async def _wait(self, place: str, known: _Reading) -> tuple[Prelude, Replay]:
        """Wait with the others. When all have left, nobody goes on asking a database that is perhaps away."""
        known.waiting += 1
        try:
            return await asyncio.shield(known.task)
        finally:
            known.waiting -= 1
            if not known.waiting and not known.task.done():
                known.task.cancel()
                self._forget(place, known)

    def _read(self, place: str, known: _Reading, task: asyncio.Task[tuple[Prelude, Replay]]) -> None:
        _seen(task)
        if task.cancelled() or task.exception() is not None:
            self._forget(place, known)
        else:
            asyncio.get_running_loop().call_later(SECONDS, self._forget, place, known)

    def _forget(self, place: str, known: _Reading) -> None:
        if self._reading.get(place) is known:
            del self._reading[place]


@dataclass(slots=True, eq=False)
class _Reading:
    """A prelude that is being read, or has been, and how many wait for it."""

    task: asyncio.Task[tuple[Prelude, Replay]]
    waiting: int = 0


async def prelude(source: Source, shared: Source) -> tuple[Prelude, Replay]:
    """The same for one who comes back alone."""
    found = await source.prelude(shared)
    return found, Replay(found.events)


def _seen(reading: asyncio.Future[Any]) -> None:
    """Whoever waits for it is told what went wrong; when all have left, nobody needs to know."""
    if not reading.cancelled():
        reading.exception()

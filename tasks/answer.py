"""A provider's answer, read as it comes, whatever is slow at our end.

A vendor hangs up when nobody reads for a while, and an answer that cannot be opened again is lost with its pictures. So
it is read even while the database or the picture store is away, and waits in memory until it can be kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from providers.contract import FinalImage, PartialImage, ProviderEvent

ROOM = 32_000_000
"""Bytes of pictures that one answer may have waiting. Beyond that earlier stages are left out, and a finished picture
is not read before there is room again."""


class Answer(AsyncIterator[ProviderEvent]):
    """What a provider says, in the order in which it does. Reading begins at once and closes `said` in the end; an
    error of it comes after everything that was said before. `stop` it where it is not iterated to its end."""

    def __init__(self, said: AsyncGenerator[ProviderEvent, None], room: int = ROOM) -> None:
        self._said = said
        self._room = room
        self._waiting: asyncio.Queue[ProviderEvent | None] = asyncio.Queue()
        self._held = 0
        self._taken = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def __anext__(self) -> ProviderEvent:
        """The next thing it said."""
        event = await self._waiting.get()
        if event is None:
            await self._reading
            raise StopAsyncIteration
        self._held -= _size(event)
        self._taken.set()
        return event

    async def stop(self) -> list[FinalImage]:
        """Read no more; the finished pictures that have been read and that nobody has taken."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        left = [self._waiting.get_nowait() for _ in range(self._waiting.qsize())]
        return [event for event in left if isinstance(event, FinalImage)]

    async def _read(self) -> None:
        try:
            async with aclosing(self._said) as said:
                async for event in said:
                    await self._put(event)
        finally:
            self._waiting.put_nowait(None)

    async def _put(self, event: ProviderEvent) -> None:
        size = _size(event)
        while self._held and size and self._held + size > self._room:
            if isinstance(event, PartialImage):
                return
            self._taken.clear()
            try:
                await self._taken.wait()
            except asyncio.CancelledError:
                self._waiting.put_nowait(event)  # it has been read, so it is among what is left
                raise
        self._held += size
        self._waiting.put_nowait(event)


def _size(event: ProviderEvent) -> int:
    return len(event.data) if isinstance(event, PartialImage | FinalImage) else 0

"""graphql-sse, "distinct connections": one operation per HTTP response, which lasts as long as the operation.

The protocol is that of the npm package `graphql-sse` (its PROTOCOL.md), with one thing more: each event has an `id`,
its sequence, so that a browser's `EventSource` that comes back goes on after the last one it has seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

import orjson
from graphql import GraphQLError
from starlette.types import Receive, Scope, Send

from graph.live.message import Message
from graph.live.outlet import Outlet
from graph.live.subscriber import Subscriber
from graph.schema import presentable
from resolvers.images import DataUriBudget

log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
COMMENT = b":\n\n"
"""Says nothing, and keeps proxies from thinking that nobody is here."""
COMPLETE = b"event: complete\ndata: \n\n"
END = b"\n\n"
"""Of an event."""
BUFFER = 64 * 1024
"""Bytes that wait for the reader before it counts as one that does not keep up."""


class EventStream(Outlet):
    """One HTTP response. It counts as a connection of its caller until it has ended."""

    __slots__ = (
        "_aborted",
        "_budget",
        "_chunks",
        "_ended",
        "_keep_alive",
        "_leave",
        "_news",
        "_sending",
        "_size",
        "_streams",
        "_subscriber",
    )

    def __init__(self, keep_alive: float, leave: Callable[[], None], streams: set[EventStream]) -> None:
        super().__init__()
        self._streams = streams
        self._keep_alive = keep_alive
        self._leave = leave
        self._budget = DataUriBudget()
        self._subscriber: Subscriber | None = None
        self._chunks: list[bytes | memoryview] = [COMMENT]
        self._size = 0
        self._news = asyncio.Event()
        self._news.set()
        self._ended = False
        self._aborted = False
        self._sending: asyncio.Task[object] | None = None

    @property
    def budget(self) -> DataUriBudget:
        """How much picture data this client gets inline."""
        return self._budget

    def carry(self, subscriber: Subscriber) -> None:
        """Send what a subscriber gets."""
        self._subscriber = subscriber

    def answer(self, body: bytes) -> None:
        """Send one result, and end."""
        self.put(b"event: next\ndata: " + body + END)
        self.end(COMPLETE)

    def refuse(self, errors: list[GraphQLError]) -> None:
        """Send why there is no result, and end."""
        self.answer(orjson.dumps({"errors": [error.formatted for error in errors]}))

    def leave(self) -> None:
        """It is over, or it will not be sent at all."""
        if self._subscriber is not None:
            self._subscriber.leave()
        self._streams.discard(self)
        self._leave()

    def end(self, words: bytes = b"") -> None:
        """Close the response when everything has been read. Without `words` the client comes back."""
        if words:
            self.put(words)
        self._ended = True
        self._news.set()

    def deliver(self, subscriber: Subscriber, message: Message) -> None:
        """Write an event in one go."""
        self._chunks += (_opening(message), message.body)
        self._size += len(message.body)
        self.put(END)

    def pieces_of(self, subscriber: Subscriber, message: Message) -> Iterator[bytes | memoryview]:
        """Parts of one event."""
        yield _opening(message)
        view = memoryview(message.body)
        for start in range(0, len(view), BUFFER):
            yield view[start : start + BUFFER]
        yield END

    def put(self, piece: bytes | memoryview) -> None:
        """Add to what is sent next."""
        self._chunks.append(piece)
        self._size += len(piece)
        self._news.set()
        if self._size >= BUFFER:
            self.pause()

    def whole(self) -> None:
        """Nothing waits for that here."""

    def complete(self, subscriber: Subscriber) -> None:
        """The subscription has ended."""
        subscriber.leave()
        self.end(COMPLETE)

    def fail(self, subscriber: Subscriber, error: Exception) -> None:
        """The subscription broke off. The client may come back after the last event it has."""
        subscriber.leave()
        self.refuse(presentable([error]))

    def abort(self) -> None:
        """Nobody reads this any more, and what is being sent need not be waited for."""
        if self._aborted:
            return
        self._aborted = True
        self._forget()
        self.end()
        if self._sending is not None:
            self._sending.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        gone = asyncio.create_task(self._until_gone(receive), name="event stream")
        self._sending = asyncio.current_task()
        try:
            await self._send(send)
        except asyncio.CancelledError:
            if not self._aborted or self._sending is None or self._sending.uncancel():
                raise
            if not gone.done():  # it is still connected
                log.warning("An event stream was cut, because its reader is slow and pictures fill the memory.")
        finally:
            self._sending = None
            gone.cancel()
            self.leave()

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        while self._chunks or not self._ended:
            body = b"".join(self._chunks) if self._chunks or await self._anything_new() else COMMENT
            self._forget()
            self._news.clear()
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
            if self.paused:
                self.resume()
        await send({"type": "http.response.body", "body": b""})

    async def _anything_new(self) -> bool:
        """Wait for something to send; False when it takes so long that a sign of life is due."""
        if self._ended:
            return True
        try:
            async with asyncio.timeout(self._keep_alive):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.abort()

    def _forget(self) -> None:
        self._chunks.clear()
        self._size = 0


def _opening(message: Message) -> bytes:
    if message.opening is None:
        cursor = message.event.cursor or str(message.sequence)
        message.opening = b"id: %b\nevent: next\ndata: " % cursor.encode()
    return message.opening

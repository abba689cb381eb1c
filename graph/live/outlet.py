"""A connection as its subscribers see it: who may write next, and whether anything is read at all."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from graph.live.message import Message
from resolvers.images import DataUriBudget

if TYPE_CHECKING:
    from graph.live.subscriber import Subscriber


class Writer(Protocol):
    """Somebody with a message to write."""

    def urgent(self) -> bool:
        """Whether it goes before pictures, as things are now."""


class Outlet(ABC):
    """One connection. One writer has the turn at a time, and whoever has a picture to write lets the others go first.

    `blocked` is all that is looked at while everything is well: the reader does not keep up, or somebody has the turn.
    """

    __slots__ = ("_pieces", "_taken", "_waiting", "_written", "blocked", "paused")

    def __init__(self) -> None:
        self.blocked = False
        self.paused = False
        self._taken = False
        self._waiting: dict[Writer, asyncio.Future[None]] | None = None
        self._pieces: Iterator[bytes | memoryview] | None = None
        self._written: asyncio.Future[None] | None = None

    @property
    @abstractmethod
    def budget(self) -> DataUriBudget:
        """How much picture data this client gets inline."""

    @abstractmethod
    def deliver(self, subscriber: Subscriber, message: Message) -> None:
        """Write a message at once. The caller has the turn, or has seen that nothing is blocked."""

    @abstractmethod
    def pieces_of(self, subscriber: Subscriber, message: Message) -> Iterator[bytes | memoryview]:
        """A large message, as it is written piece by piece."""

    @abstractmethod
    def put(self, piece: bytes | memoryview) -> None:
        """Write a piece."""

    @abstractmethod
    def complete(self, subscriber: Subscriber) -> None:
        """Tell the client that a subscription has ended, and forget it."""

    @abstractmethod
    def fail(self, subscriber: Subscriber, error: Exception) -> None:
        """Tell the client that a subscription broke off, and forget it."""

    @abstractmethod
    def abort(self) -> None:
        """Drop the connection, with whatever has not been read."""

    async def write(self, pieces: Iterator[bytes | memoryview]) -> None:
        """Write a large message as fast as it is read. The caller has the turn.

        A caller that is cancelled meanwhile leaves at once; the message is finished all the same, because half of one
        cannot be followed by another.
        """
        self._pieces = pieces
        self._go_on()
        if self._pieces is not None:
            self._written = asyncio.get_running_loop().create_future()
            await self._written

    @asynccontextmanager
    async def turn(self, writer: Writer) -> AsyncIterator[None]:
        """Wait for the turn, and have it."""
        if self.blocked:
            await self._wait(writer)
        else:
            self._taken = self.blocked = True
        try:
            yield
        finally:
            self._taken = False
            self._release()

    def pause(self) -> None:
        """The reader does not keep up."""
        self.paused = self.blocked = True

    def resume(self) -> None:
        """The reader has caught up with what was written."""
        self.paused = False
        if self._pieces is not None:
            self._go_on()
        self._release()

    @abstractmethod
    def whole(self) -> None:
        """Called when a large message has been written to its end."""

    def _go_on(self) -> None:
        while self._pieces is not None and not self.paused:
            piece = next(self._pieces, None)
            if piece is not None:
                self.put(piece)
                continue
            self._pieces = None
            self.whole()
            if self._written is not None and not self._written.done():
                self._written.set_result(None)
            self._release()

    async def _wait(self, writer: Writer) -> None:
        if self._waiting is None:
            self._waiting = {}
        turn = self._waiting[writer] = asyncio.get_running_loop().create_future()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._taken = False
                self._release()
            else:
                self._waiting.pop(writer, None)
            raise

    def _release(self) -> None:
        """Let the next one write, if nothing is in the way."""
        self.blocked = self.paused or self._taken or self._pieces is not None
        if self.blocked or not self._waiting:
            return
        urgent = next((writer for writer in self._waiting if writer.urgent()), None)
        if urgent is None:
            # Whoever has just written something small may have more of it, and goes first.
            asyncio.get_running_loop().call_soon(self._hand_on)
        else:
            self._hand_to(urgent)

    def _hand_on(self) -> None:
        if not self.blocked and self._waiting:
            self._hand_to(next((one for one in self._waiting if one.urgent()), None) or next(iter(self._waiting)))

    def _hand_to(self, writer: Writer) -> None:
        assert self._waiting is not None
        turn = self._waiting.pop(writer)
        if turn.cancelled():  # it has just left
            self._release()
            return
        self._taken = self.blocked = True
        turn.set_result(None)

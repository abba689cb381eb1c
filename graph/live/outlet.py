"""A connection as its subscribers see it: who may write next, and whether anything is read at all."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
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

    __slots__ = ("_drained", "_taken", "_waiting", "blocked", "paused")

    def __init__(self) -> None:
        self.blocked = False
        self.paused = False
        self._taken = False
        self._waiting: dict[Writer, asyncio.Future[None]] | None = None
        self._drained: asyncio.Future[None] | None = None

    @property
    @abstractmethod
    def budget(self) -> DataUriBudget:
        """How much picture data this client gets inline."""

    @abstractmethod
    def deliver(self, subscriber: Subscriber, message: Message) -> None:
        """Write a message at once. The caller has the turn, or has seen that nothing is blocked."""

    @abstractmethod
    async def deliver_large(self, subscriber: Subscriber, message: Message) -> None:
        """Write a large message as fast as it is read. The caller has the turn."""

    @abstractmethod
    def complete(self, subscriber: Subscriber) -> None:
        """Tell the client that a subscription has ended, and forget it."""

    @abstractmethod
    def fail(self, subscriber: Subscriber, error: Exception) -> None:
        """Tell the client that a subscription broke off, and forget it."""

    @abstractmethod
    def abort(self) -> None:
        """Drop the connection, with whatever has not been read."""

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
            self._release()

    def pause(self) -> None:
        """The reader does not keep up."""
        self.paused = self.blocked = True

    def resume(self) -> None:
        """The reader has caught up with what was written."""
        self.paused = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if not self._taken:
            self._release()

    async def drained(self) -> None:
        """Wait until the reader has caught up. Only whoever has the turn may wait for that."""
        if self.paused:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    async def _wait(self, writer: Writer) -> None:
        if self._waiting is None:
            self._waiting = {}
        turn = self._waiting[writer] = asyncio.get_running_loop().create_future()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()
            else:
                del self._waiting[writer]
            raise

    def _release(self) -> None:
        """Hand the turn to the next one, if there is one and if anything is read."""
        self._taken, self.blocked = False, self.paused
        if self.paused or not self._waiting:
            return
        writer = next((one for one in self._waiting if one.urgent()), None) or next(iter(self._waiting))
        self._taken = self.blocked = True
        self._waiting.pop(writer).set_result(None)

"""One commit for everything that was waiting to be written.

A commit waits for the disk, and that takes longer than all the rest; so what has been asked for meanwhile goes into
the next one together. How pieces of work share a transaction, and what becomes of the others when one of them fails, is
each database's own affair.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import Connection

T = TypeVar("T")

TOGETHER = 64
"""Most pieces of work in one commit."""
STUCK_SECONDS = 0.1
"""How long something may wait before another thread helps: by then those before it wait for a lock of somebody else."""


class Piece(Generic[T]):
    """One transaction that somebody waits for."""

    def __init__(self, work: Callable[[Connection], T]) -> None:
        self._work = work
        self._result: T | None = None
        self._error: BaseException | None = None
        self.since = time.monotonic()
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self.loop.create_future()

    @property
    def error(self) -> BaseException | None:
        """Why it has not happened."""
        return self._error

    def do(self, connection: Connection) -> None:
        """Do the work in the transaction of `connection`; may be called again when that has been undone."""
        self._result = self._work(connection)

    def fail(self, error: BaseException) -> None:
        """It has not happened, or nobody knows."""
        self._error = RuntimeError(f"{error!r} in a transaction") if isinstance(error, StopIteration) else error

    def settle(self) -> None:
        """Tell the caller, who may have gone. Called on the event loop."""
        if self.future.done():
            return
        if self._error is None:
            self.future.set_result(cast(T, self._result))
        else:
            self.future.set_exception(self._error)


class Errand(Generic[T]):
    """Something that is no transaction of ours, and that somebody waits for."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self.since = time.monotonic()
        self.future: Future[T] = Future()

    def do(self) -> None:
        """Do it, and tell whoever waits."""
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            self.future.set_result(self._work())
        except BaseException as exc:  # noqa: BLE001 - the caller gets it
            self.future.set_exception(exc)


class Queue:
    """Does pieces of work in the order in which they come, in one thread, and in as few commits as it can. Where one of
    them is stuck, up to so many `threads` go on with the others.

    `commit` does them in one transaction and lets those `fail` that have not happened; it must not raise. It may `tell`
    some of the callers sooner.
    """

    def __init__(self, commit: Callable[[Sequence[Piece[Any]]], None], *, threads: int) -> None:
        self._commit = commit
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="database-write")
        self._waiting: deque[Piece[Any] | Errand[Any]] = deque()
        self._lock = threading.Lock()
        self._busy = 0
        self._watched = False

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Have a piece of work done."""
        piece = Piece(work)
        self._put(piece)
        return await piece.future

    async def outside(self, work: Callable[[], T]) -> T:
        """Do something else in the same thread, between two commits."""
        errand = Errand(work)
        self._put(errand)
        return await asyncio.wrap_future(errand.future)

    def close(self) -> None:
        """Finish what is waiting."""
        with self._lock:
            self._threads = 0  # none are added any more
        self._pool.shutdown()

    def _put(self, piece: Piece[Any] | Errand[Any]) -> None:
        with self._lock:
            if self._busy == 0:
                self._begin()
            else:
                self._watch()
            self._waiting.append(piece)

    def _begin(self) -> None:
        self._pool.submit(self._work)
        self._busy += 1

    def _watch(self) -> None:
        if not self._watched and self._busy < self._threads:
            self._watched = True
            asyncio.get_running_loop().call_later(STUCK_SECONDS, self._help)

    def _help(self) -> None:
        with self._lock:
            self._watched = False
            if not self._waiting or self._busy >= self._threads:
                return
            if time.monotonic() - self._waiting[0].since >= STUCK_SECONDS:
                self._begin()
            self._watch()

    def _work(self) -> None:
        while pieces := self._take():
            if isinstance(pieces, Errand):
                pieces.do()
                continue
            wanted = [piece for piece in pieces if not piece.future.cancelled()]
            if wanted:
                self._commit(wanted)
                tell(wanted)

    def _take(self) -> list[Piece[Any]] | Errand[Any]:
        with self._lock:
            pieces: list[Piece[Any]] = []
            while self._waiting and len(pieces) < TOGETHER:
                if isinstance(first := self._waiting[0], Errand):
                    return pieces or cast(Errand[Any], self._waiting.popleft())
                pieces.append(first)
                self._waiting.popleft()
            if not pieces:
                self._busy -= 1
            return pieces


def tell(pieces: Sequence[Piece[Any]]) -> None:
    """Let the callers know, each on the event loop where it waits; telling them again changes nothing."""

    def settle(loop: asyncio.AbstractEventLoop) -> None:
        for piece in pieces:
            if piece.loop is loop:
                piece.settle()

    for loop in {piece.loop for piece in pieces}:
        with suppress(RuntimeError):  # closed: nobody waits there any more
            loop.call_soon_threadsafe(settle, loop)

"""One commit for everything that was waiting to be written to SQLite, in one thread.

A commit waits for the disk, and that takes longer than all the rest; so what has been asked for meanwhile goes into
the next one together, each piece in a savepoint of its own.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from tasks.errors import DatabaseUnavailableError

T = TypeVar("T")

TOGETHER = 64
"""Most pieces of work in one commit."""

AWAY = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
)
"""Errors about the disk and about other processes, and not about what was asked."""
PRIMARY = 0xFF
"""The bits of an error code that say what kind of error it is."""


class Piece(Generic[T]):
    """One transaction that somebody waits for."""

    def __init__(self, work: Callable[[Connection], T]) -> None:
        self._work = work
        self._result: T | None = None
        self._error: BaseException | None = None
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[T] = self.loop.create_future()

    @property
    def error(self) -> BaseException | None:
        """Why it has not happened."""
        return self._error

    def do(self, connection: Connection) -> None:
        """Do the work in the transaction of `connection`. What goes wrong is undone, and kept for the caller."""
        try:
            with understood(), _savepoint(_driver(connection)):
                self._result = self._work(connection)
        except BaseException as exc:  # noqa: BLE001 - the caller gets it
            self.fail(exc)

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
    """Does pieces of work in the order in which they come, in one thread, with one commit for all that wait."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database-write")
        self._waiting: deque[Piece[Any] | Errand[Any]] = deque()
        self._lock = threading.Lock()
        self._busy = False

    def put(self, piece: Piece[Any] | Errand[Any]) -> None:
        """Have a piece done; its future says when."""
        with self._lock:
            if not self._busy:
                self._thread.submit(self._work)
                self._busy = True
            self._waiting.append(piece)

    async def outside(self, work: Callable[[], T]) -> T:
        """Do something else in the same thread, between two commits."""
        errand = Errand(work)
        self.put(errand)
        return await asyncio.wrap_future(errand.future)

    def close(self) -> None:
        """Finish what is waiting."""
        self._thread.shutdown()

    def _work(self) -> None:
        while pieces := self._take():
            if isinstance(pieces, Errand):
                pieces.do()
                continue
            wanted = [piece for piece in pieces if not piece.future.cancelled()]
            if wanted:
                self._commit(wanted)
                _settle(wanted)

    def _take(self) -> list[Piece[Any]] | Errand[Any]:
        with self._lock:
            self._busy = bool(self._waiting)
            pieces: list[Piece[Any]] = []
            while self._waiting and len(pieces) < TOGETHER:
                if isinstance(first := self._waiting[0], Errand):
                    return pieces or cast(Errand[Any], self._waiting.popleft())
                pieces.append(first)
                self._waiting.popleft()
            return pieces

    def _commit(self, pieces: Sequence[Piece[Any]]) -> None:
        committing = False
        try:
            with self._engine.begin() as connection:
                for piece in pieces:
                    piece.do(connection)
                    if piece.error is not None and _undone(connection):
                        # Some errors undo everything since BEGIN, whatever was asked to be undone.
                        raise piece.error
                committing = True
        except BaseException as exc:  # noqa: BLE001 - the callers get it
            for piece in pieces:
                if piece.error is None:
                    piece.fail(exc if len(pieces) == 1 and not _away(exc) else _lost(exc, committing=committing))


@contextmanager
def understood() -> Iterator[None]:
    """Errors about the disk and about other processes become `DatabaseUnavailableError`."""
    try:
        yield
    except DBAPIError as exc:
        if not _away(exc):
            raise
        raise DatabaseUnavailableError(f"The database cannot be used now: {exc.orig}") from exc


def _away(error: BaseException) -> bool:
    code: int = getattr(error.orig, "sqlite_errorcode", 0) if isinstance(error, DBAPIError) else 0
    return code & PRIMARY in AWAY


def _lost(error: BaseException, *, committing: bool) -> DatabaseUnavailableError:
    """What the callers hear whose work ended with somebody else's, or with the commit of all."""
    reason = error.orig if isinstance(error, DBAPIError) else error
    unknown = committing and _away(error)
    lost = DatabaseUnavailableError(f"The database cannot be used now: {reason}", perhaps_committed=unknown)
    lost.__cause__ = error
    return lost


def _undone(connection: Connection) -> bool:
    return not _driver(connection).in_transaction


@contextmanager
def _savepoint(driver: sqlite3.Connection) -> Iterator[None]:
    """What the block has changed is undone when it raises. Said to the driver itself: through all of SQLAlchemy these
    words cost more than a small write."""
    driver.execute("SAVEPOINT piece")
    try:
        yield
    except BaseException:
        if driver.in_transaction:
            driver.execute("ROLLBACK TO piece")
        raise
    finally:
        if driver.in_transaction:
            driver.execute("RELEASE piece")


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.dbapi_connection)


def _settle(pieces: Sequence[Piece[Any]]) -> None:
    def settle(loop: asyncio.AbstractEventLoop) -> None:
        for piece in pieces:
            if piece.loop is loop:
                piece.settle()

    for loop in {piece.loop for piece in pieces}:
        with suppress(RuntimeError):  # closed: nobody waits there any more
            loop.call_soon_threadsafe(settle, loop)

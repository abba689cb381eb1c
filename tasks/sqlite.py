"""SQLite: one writer, many readers, no server."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from tasks.commits import Piece, Queue
from tasks.errors import DatabaseUnavailableError

T = TypeVar("T")

BUSY_TIMEOUT_MS = 30_000
READERS = 4

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


class SQLite:
    """Transactions on a SQLite file. Writers wait for each other in a queue, readers for nobody (WAL)."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._writer = _engine(url, begin="BEGIN IMMEDIATE")
        self._reader = _engine(url, begin="BEGIN")
        self._queue = Queue(self._commit, threads=1)
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="database-read")

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in one transaction."""
        return await self._queue.write(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do `work` on one view of the database."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._read, work)

    async def outside(self, work: Callable[[], T]) -> T:
        """Do work that writes with connections of its own, in turn with ours: SQLite would let both sleep."""
        return await self._queue.outside(work)

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[Callable[[Callable[[Connection], None]], None]]:
        """Have the tables to oneself: yields what does a piece of work in one transaction."""
        if self._url.database:
            await asyncio.to_thread(Path(self._url.database).parent.mkdir, parents=True, exist_ok=True)
        # A table is changed by making it anew; with foreign keys on, dropping the old one would empty others.
        engine = _engine(self._url, begin="BEGIN IMMEDIATE", foreign_keys=False)

        def in_one_transaction(work: Callable[[Connection], None]) -> None:
            with understood(), engine.begin() as connection:
                work(connection)
                if dangling := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall():
                    raise RuntimeError(f"the migration would leave rows without what they refer to: {dangling}")

        try:
            yield in_one_transaction
        finally:
            engine.dispose()

    def close(self) -> None:
        """Finish what has begun, and close all connections."""
        self._queue.close()
        self._reading.shutdown()
        self._writer.dispose()
        self._reader.dispose()

    def _commit(self, pieces: Sequence[Piece[Any]]) -> None:
        """Each piece in a savepoint of its own."""
        committing = False
        try:
            with self._writer.begin() as connection:
                for piece in pieces:
                    _do(piece, connection)
                    if piece.error is not None and not _driver(connection).in_transaction:
                        # Some errors undo everything since BEGIN, whatever was asked to be undone.
                        raise piece.error
                committing = True
        except BaseException as exc:  # noqa: BLE001 - the callers get it
            for piece in pieces:
                if piece.error is None:
                    piece.fail(exc if len(pieces) == 1 and not _away(exc) else _lost(exc, committing=committing))

    def _read(self, work: Callable[[Connection], T]) -> T:
        with understood(), self._reader.begin() as connection:
            return work(connection)


def _do(piece: Piece[Any], connection: Connection) -> None:
    """Do a piece of work. What goes wrong is undone, and kept for the caller.

    The words for that go to the driver itself: through all of SQLAlchemy they cost more than a small write.
    """
    driver = _driver(connection)
    driver.execute("SAVEPOINT piece")
    try:
        with understood():
            piece.do(connection)
    except BaseException as exc:  # noqa: BLE001 - the caller gets it
        piece.fail(exc)
        if driver.in_transaction:
            driver.execute("ROLLBACK TO piece")
    if driver.in_transaction:
        driver.execute("RELEASE piece")


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.dbapi_connection)


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


def _engine(url: URL, *, begin: str, foreign_keys: bool = True) -> Engine:
    engine = create_engine(
        url.set(drivername="sqlite"),
        max_overflow=-1,
        connect_args={"check_same_thread": False},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # Python's driver would begin transactions by itself, and too late; SQLAlchemy's recipe is to do it below.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        _use_wal(cursor)
        # FULL: a charge that was recorded before a power cut is still recorded after it.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute(f"PRAGMA foreign_keys={'ON' if foreign_keys else 'OFF'}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


def _use_wal(cursor: sqlite3.Cursor) -> None:
    """Two processes that do this to a new file at the same moment do not wait for each other by themselves."""
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode & PRIMARY != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(random.uniform(0, 0.02))
        else:
            return

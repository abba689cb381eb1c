"""SQLite: one writer, many readers, no server."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event

from tasks.commits import PRIMARY, Piece, Queue, understood

T = TypeVar("T")

BUSY_TIMEOUT_MS = 30_000
READERS = 4


class SQLite:
    """Transactions on a SQLite file. Writers wait for each other in a queue, readers for nobody (WAL)."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self._writer = _engine(url, begin="BEGIN IMMEDIATE")
        self._reader = _engine(url, begin="BEGIN")
        self._queue = Queue(self._writer)
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="database-read")

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in one transaction."""
        piece = Piece(work)
        self._queue.put(piece)
        return await piece.future

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

    def _read(self, work: Callable[[Connection], T]) -> T:
        with understood(), self._reader.begin() as connection:
            return work(connection)


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

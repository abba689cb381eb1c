"""The database, SQLite or PostgreSQL, behind two ways in: to read, and to write.

Work on it is a plain function over a session that runs in a thread, a whole transaction at a time: on SQLite that
costs a quarter of what an asynchronous driver does, which changes threads for every statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlmodel import Session

from tasks.lock import DatabaseLock

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 30_000
READERS = 4
POSTGRES_WRITERS = 8


class Database:
    """Sessions on the database at `url`.

    SQLite has one writer at a time. Here writers wait for each other in the queue of a single thread, in order and
    without spinning on the file lock; readers never wait (WAL).
    """

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._lock = DatabaseLock(Path(self.url.database)) if self.sqlite and self.url.database else None
        writers = 1 if self.sqlite else POSTGRES_WRITERS
        self._writing = ThreadPoolExecutor(writers, thread_name_prefix="database-write")
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="database-read")
        if self.sqlite:
            self._writer = _sqlite_engine(self.url, begin="BEGIN IMMEDIATE")
            self._reader = _sqlite_engine(self.url, begin="BEGIN")
        else:
            options = {"pool_pre_ping": True, "pool_size": writers + READERS}
            self._writer = create_engine(self.sync_url, **options)
            # One view of the database for all the statements of a reader, as SQLite gives it by itself.
            self._reader = self._writer.execution_options(isolation_level="REPEATABLE READ")

    @property
    def sync_url(self) -> str:
        """The URL with its driver: the engine and the migrations use the same database."""
        driver = "sqlite" if self.sqlite else "postgresql+psycopg"
        return self.url.set(drivername=driver).render_as_string(hide_password=False)

    def lock(self) -> None:
        """Make sure that no other process works on the same SQLite file. Raises `AlreadyRunningError`."""
        if self._lock is not None:
            self._lock.acquire()

    async def migrate(self) -> None:
        """Bring the tables up to date. Running it again changes nothing."""
        if self.sqlite and self.url.database:
            await asyncio.to_thread(Path(self.url.database).parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(command.upgrade, alembic_config(self.sync_url), "head")

    async def write(self, work: Callable[[Session], T]) -> T:
        """Do `work` in one transaction: committed when it returns, rolled back when it raises.

        A caller that is cancelled does not interrupt it once it has begun (`tasks.uninterrupted` makes sure it does).
        """
        return await asyncio.get_running_loop().run_in_executor(self._writing, self._transaction, self._writer, work)

    async def read(self, work: Callable[[Session], T]) -> T:
        """Do `work` on a consistent view; it must not change anything."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._transaction, self._reader, work)

    async def close(self) -> None:
        """Finish what has begun, and close all connections."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        for pool in (self._writing, self._reading):
            pool.shutdown()
        for engine in (self._writer, self._reader):
            engine.dispose()
        if self._lock is not None:
            self._lock.release()

    @staticmethod
    def _transaction(engine: Engine, work: Callable[[Session], T]) -> T:
        with Session(engine, expire_on_commit=False) as session, session.begin():
            return work(session)


def alembic_config(sync_url: str) -> Config:
    """Alembic's configuration, made here so that it needs no file beside an installed wheel."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("sqlalchemy.url", sync_url.replace("%", "%%"))
    return config


def _sqlite_engine(url: URL, *, begin: str) -> Engine:
    engine = create_engine(url.set(drivername="sqlite"), max_overflow=-1, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # Python's driver would begin transactions by itself, and too late; SQLAlchemy's recipe is to do it below.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # FULL: a charge that was recorded before a power cut is still recorded after it.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine

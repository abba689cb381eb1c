"""The database, SQLite or PostgreSQL, behind two ways in: to read, and to write.

Work on it is a plain function over a connection that runs in a thread, a whole transaction at a time: on SQLite that
costs a quarter of what an asynchronous driver does, which changes threads for every statement.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, make_url

from tasks.errors import NewerDatabaseError
from tasks.lock import DatabaseLock
from tasks.postgresql import PostgreSQL, connecting
from tasks.sqlite import SQLite
from tasks.uninterrupted import uninterrupted

T = TypeVar("T")

MIGRATIONS = Path(__file__).parent / "migrations"

# Alembic keeps what it works on in variables of its module.
_alembic = threading.Lock()


class Database:
    """Transactions on the database at `url`."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self._lock = DatabaseLock(Path(self.url.database)) if self.sqlite and self.url.database else None
        self._transactions = SQLite(self.url) if self.sqlite else PostgreSQL(self.url)

    @property
    def sync_url(self) -> str:
        """The URL as the engine and the migrations need it, who use the same database. It holds the password."""
        url = self.url.set(drivername="sqlite") if self.sqlite else connecting(self.url)
        return url.render_as_string(hide_password=False)

    def lock(self) -> None:
        """Make sure that no other process works on the same SQLite file. Raises `AlreadyRunningError`, or
        `DatabaseUnavailableError` where nothing can be written."""
        if self._lock is not None:
            self._lock.acquire()

    async def migrate(self, also: Callable[[], None] | None = None) -> None:
        """Bring the tables up to date; running it again changes nothing. `also` is what the engine does for its own.

        Nodes that start together take turns. A server that is still starting is waited for: after 30 seconds that is
        a `DatabaseUnavailableError`.
        """
        async with self._transactions.migrating() as in_one_transaction:
            await uninterrupted(asyncio.to_thread(in_one_transaction, _upgrade))
            if also is not None:
                await uninterrupted(asyncio.to_thread(also))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in one transaction: committed when it returns, rolled back when it raises.

        On PostgreSQL `work` may be called again, when it collided with another transaction: it should change nothing
        but the database. A caller that is cancelled does not interrupt it once it has begun (`tasks.uninterrupted`
        makes sure it does). Raises `DatabaseUnavailableError`.
        """
        return await self._transactions.write(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do `work` on a consistent view; it must not change anything. Raises `DatabaseUnavailableError`."""
        return await self._transactions.read(work)

    async def outside(self, work: Callable[[], T]) -> T:
        """Do work that has connections of its own, in a thread, while no transaction of ours keeps it from writing."""
        return await self._transactions.outside(work)

    async def close(self) -> None:
        """Finish what has begun, and close all connections."""
        await asyncio.to_thread(self._transactions.close)
        if self._lock is not None:
            self._lock.release()


def alembic_config(sync_url: str) -> Config:
    """Alembic's configuration, made here so that it needs no file beside an installed wheel."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("sqlalchemy.url", sync_url.replace("%", "%%"))
    return config


def _upgrade(connection: Connection) -> None:
    config = alembic_config(str(connection.engine.url))
    config.attributes["connection"] = connection
    with _alembic:
        try:
            command.upgrade(config, "head")
        except CommandError as exc:
            raise NewerDatabaseError(str(exc)) from exc

"""PostgreSQL: how to connect to it, what its failures mean, and how nodes that start together take turns."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from tasks.commits import Piece, Queue, tell
from tasks.errors import DatabaseUnavailableError

T = TypeVar("T")

log = logging.getLogger(__name__)

WRITERS = 6
READERS = 4
"""Connections of one node, at most. The engine has its own, and a server takes 100 altogether if nobody changed it."""

FIRST_CONTACT_SECONDS = 30.0
"""How long a starting node waits for the server to answer."""
PAUSE_SECONDS = 0.2
COLLISIONS = 5
"""Tries of a transaction that collides with another one, before its caller hears of it."""
MIGRATION_LOCK = 0x6461726B726F6F6D
"""Which advisory lock a node holds while it changes tables. Any number that nobody else uses."""

# A host that died, and whatever stops answering without closing: noticed after about 25 s, from both ends.
CLIENT = {
    "application_name": "darkroom",
    "connect_timeout": "5",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",
    # After a fail-over the address may still lead to the old primary: nothing can be written there, and what is read
    # there is out of date. (It asks nothing more of a server since version 14.)
    "target_session_attrs": "read-write",
}
SERVER = {
    "timezone": "UTC",
    "tcp_keepalives_idle": "10s",
    "tcp_keepalives_interval": "5s",
    "tcp_keepalives_count": "3",
    # A process that is frozen in a transaction would keep its rows locked for as long as it likes.
    "idle_in_transaction_session_timeout": "10s",
    # Whatever is usual there: a server that forgot, in a crash, that a request was about to be sent, would pay twice.
    "synchronous_commit": "on",
}

LOCKED = "55P03"
"""A lock was not to be had in the time there was for it."""
LOCK_MS = 100
"""How long a transaction of several pieces waits for a lock."""
COLLIDED = ("40001", "40P01")
"""Serialization failure, deadlock: nothing has happened, and the same again may well succeed."""
READ_ONLY = "25006"
"""Something was to be written in a session that only reads."""
AWAY = ("57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "53100", "53200", "53300", READ_ONLY)
"""Stopping, starting, or ended this session; out of disk, memory or connections; read-only after a fail-over."""
CONNECTION = "08"
"""How the codes begin that say that a connection is no good."""
HOPELESS = ("authentication failed", "does not exist", "no pg_hba.conf entry", "no password supplied")
"""What the server says when waiting for it does not help. It sends no code with that."""


def connecting(url: URL) -> URL:
    """The URL with all that every connection of this process should be told. What it says itself has precedence."""
    server = " ".join(f"-c {name}={value}" for name, value in SERVER.items())
    client = {name: value for name, value in CLIENT.items() if name not in url.query}
    url = url.set(drivername="postgresql+psycopg")
    return url.update_query_dict({**client, "options": " ".join((server, *_texts(url, "options")))})


def conninfo(url: URL) -> str:
    """The same for a connection that does not go through SQLAlchemy. It holds the password."""
    _, parameters = url.get_dialect()().create_connect_args(connecting(url))
    return make_conninfo(**parameters)


def place(url: URL) -> str:
    """Where a database is, for messages: no user, no password."""
    host = url.host or ",".join(_texts(url, "host")) or "localhost"
    return f"PostgreSQL at {host}{f':{url.port}' if url.port else ''}, database {url.database or 'of the user'}"


def keep_no_spent_sessions(engine: Engine) -> None:
    """Take out of an engine's pool what lives, but can never be used again: a session on a server that only reads since
    a fail-over, and one that does not understand what is said to it; with it go all that began earlier. Whatever else
    a server reports either ends the session itself, or passes."""
    event.listen(engine, "handle_error", _end_spent)
    event.listen(engine, "checkin", _end_read_only)


def _end_spent(context: ExceptionContext) -> None:
    code = getattr(context.original_exception, "sqlstate", None) or ""
    if code == READ_ONLY or code.startswith(CONNECTION):
        context.is_disconnect = True


def _end_read_only(connection: psycopg.Connection[Any] | None, entry: ConnectionPoolEntry) -> None:
    """Who only reads gets no error, and would see for ever what the old primary knew. Servers tell since version 14."""
    if connection is None or connection.closed:
        return
    if connection.info.parameter_status("default_transaction_read_only") == "on":
        entry.invalidate()


def _texts(url: URL, name: str) -> tuple[str, ...]:
    value = url.query.get(name, ())
    return (value,) if isinstance(value, str) else value


class PostgreSQL:
    """Transactions on a PostgreSQL database, each in a thread of its own."""

    def __init__(self, url: URL) -> None:
        self._url = connecting(url)
        self._place = place(url)
        self._queue = Queue(self._commit, threads=WRITERS)
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="database-read")
        self._writer = self._engine(WRITERS)
        # One view of the database for all the statements of a reader, as SQLite gives it by itself.
        self._reader = self._engine(READERS, isolation_level="REPEATABLE READ")

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do `work` in one transaction."""
        return await self._queue.write(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do `work` on one view of the database."""
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._patiently, self._reader, work)

    async def outside(self, work: Callable[[], T]) -> T:
        """Do work that has connections of its own."""
        return await asyncio.to_thread(work)

    def close(self) -> None:
        """Finish what has begun, and close all connections."""
        self._queue.close()
        self._reading.shutdown()
        self._writer.dispose()
        self._reader.dispose()

    @asynccontextmanager
    async def migrating(self) -> AsyncIterator[Callable[[Callable[[Connection], None]], None]]:
        """Have the tables to oneself, among all the nodes: yields what does a piece of work in one transaction."""
        engine = create_engine(self._url, poolclass=NullPool, hide_parameters=True)
        await self._first_contact(engine)
        # A connection of its own, and never in a transaction: whoever builds an index waits for all transactions to
        # end, so a node that waited for its turn inside one would wait for ever.
        holding = await asyncio.to_thread(engine.execution_options(isolation_level="AUTOCOMMIT").connect)
        try:
            await self._turn(holding)
            yield partial(_in_one_transaction, engine)
        finally:
            # The lock ends with the session, so nothing has to be undone on a connection that may be broken.
            await asyncio.to_thread(_discard, holding)

    def _engine(self, connections: int, **options: str) -> Engine:
        engine = create_engine(self._url, pool_size=connections, max_overflow=0, hide_parameters=True, **options)
        keep_no_spent_sessions(engine)
        return engine

    async def _turn(self, holding: Connection) -> None:
        waiting = False
        while not await asyncio.to_thread(_try_lock, holding):
            if not waiting:
                log.info("Another node is bringing the database up to date; waiting for it")
            waiting = True
            await asyncio.sleep(PAUSE_SECONDS)

    async def _first_contact(self, engine: Engine) -> None:
        """Wait for a server that is still starting. Raises `DatabaseUnavailableError`."""
        deadline = time.monotonic() + FIRST_CONTACT_SECONDS
        waiting = False
        while True:
            try:
                await asyncio.to_thread(_touch, engine)
            except DBAPIError as exc:
                reason = _reason(exc)
                if not unavailable(exc) or any(words in reason for words in HOPELESS):
                    raise DatabaseUnavailableError(f"{self._place} refuses: {reason}") from exc
                if time.monotonic() > deadline:
                    message = f"{self._place} has not answered for {FIRST_CONTACT_SECONDS:g} seconds: {reason}"
                    raise DatabaseUnavailableError(message) from exc
                if not waiting:
                    log.warning("Waiting for %s: %s", self._place, reason)
                waiting = True
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return

    def _commit(self, pieces: Sequence[Piece[Any]]) -> None:
        """All pieces together, unless one of them fails, or would have to wait for somebody else's lock: the others
        would wait with it, and nobody could have theirs. Then each by itself, and last those that wait."""
        if len(pieces) == 1:
            self._each(pieces, waits=True)
            return
        try:
            self._patiently(self._writer, partial(_do, pieces, waits=False))
        except DatabaseUnavailableError as exc:
            for piece in pieces:
                piece.fail(exc)
        except BaseException:  # noqa: BLE001 - whose it is shows now
            self._each(self._each(pieces, waits=False), waits=True)

    def _each(self, pieces: Sequence[Piece[Any]], *, waits: bool) -> list[Piece[Any]]:
        """Each piece by itself, and its caller told at once; those that would have to wait for a lock are given back
        if they may not."""
        locked = []
        away = False
        for piece in pieces:
            try:
                if away:
                    raise DatabaseUnavailableError(f"{self._place} is not available")
                self._patiently(self._writer, partial(_do, [piece], waits=waits))
            except DatabaseUnavailableError as exc:
                away = True
                piece.fail(exc)
            except BaseException as exc:  # noqa: BLE001 - the caller gets it
                if not waits and isinstance(exc, DBAPIError) and _code(exc) == LOCKED:
                    locked.append(piece)
                    continue
                piece.fail(exc)
            tell([piece])
        return locked

    def _patiently(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        """Do `work`, and do it again when it collided with another transaction, or met a connection that had died, or
        become useless, in the pool: in all these cases nothing of it has happened."""
        stale = False
        collisions = 0
        while True:
            committing = False
            try:
                with engine.begin() as connection:
                    done = work(connection)
                    committing = True
            except DBAPIError as exc:
                if _code(exc) in COLLIDED and collisions < COLLISIONS:
                    collisions += 1
                    time.sleep(random.uniform(0, 0.01 * 2**collisions))
                elif not unavailable(exc):
                    raise
                elif committing or stale or not exc.connection_invalidated:
                    # An error that the server could still report has undone the transaction.
                    unknown = committing and exc.connection_invalidated
                    message = f"{self._place} is not available: {_reason(exc)}"
                    raise DatabaseUnavailableError(message, perhaps_committed=unknown) from exc
                else:
                    stale = True
            else:
                return done


def _do(pieces: Sequence[Piece[Any]], connection: Connection, *, waits: bool) -> None:
    if not waits:
        connection.exec_driver_sql(f"set local lock_timeout = {LOCK_MS}")
    for piece in pieces:
        piece.do(connection)


def unavailable(error: DBAPIError) -> bool:
    """Whether an error is about the server and the way to it, and not about what was asked."""
    code = _code(error)
    unreachable = code is None and isinstance(error.orig, psycopg.OperationalError)
    return error.connection_invalidated or unreachable or code in AWAY or (code or "").startswith(CONNECTION)


def _code(error: DBAPIError) -> str | None:
    code: str | None = getattr(error.orig, "sqlstate", None)
    return code


def _reason(error: DBAPIError) -> str:
    """What the server said, without the statement."""
    return " ".join(str(error.orig).split())


def _touch(engine: Engine) -> None:
    with engine.connect():
        pass


def _in_one_transaction(engine: Engine, work: Callable[[Connection], None]) -> None:
    with engine.begin() as connection:
        work(connection)


def _try_lock(holding: Connection) -> bool:
    return bool(holding.scalar(text("select pg_try_advisory_lock(:key)"), {"key": MIGRATION_LOCK}))


def _discard(connection: Connection) -> None:
    connection.invalidate()
    connection.close()

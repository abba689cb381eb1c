"""What a customer of the simulated APIs would have been billed, kept on disk.

The simulators write a charge before the first byte of an answer leaves them, so the ledger says what a real
vendor's invoice would say even when the answer, or this process, is lost right after.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS charges (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    provider TEXT NOT NULL,
    reference TEXT,
    submission TEXT NOT NULL,
    images INTEGER NOT NULL CHECK (images > 0),
    at TEXT NOT NULL
)
"""
_BUSY_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Charge:
    """One accepted generation: `images` pictures, billed by `provider` for its own `submission` id.

    `reference` is the customer's own name for the request (Darkroom sends the task id), None where none came along.
    """

    provider: str
    reference: str | None
    submission: str
    images: int
    at: datetime


class Ledger:
    """A ledger in the SQLite file at `path`, made with its folder when first used. Processes may share one file.

    A charge survives `kill -9` and a power cut once `charge` has returned. Every method may be called from any
    task; the work is done in threads. Close it when done; a closed ledger raises `ValueError`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    async def charge(self, *, provider: str, reference: str | None, submission: str, images: int) -> None:
        """Record that `images` pictures were sold. `images` below 1 raises `ValueError`: nothing sold is no charge."""
        if images < 1:
            raise ValueError(f"a charge is for 1 picture or more, not {images}; do not charge what was not accepted")
        await asyncio.to_thread(self._insert, provider, reference, submission, images)

    async def charges(self, reference: str | None = None) -> list[Charge]:
        """Every charge, oldest first; with `reference` only those for that request."""
        return await asyncio.to_thread(self._select, reference)

    def close(self) -> None:
        """Close the file. Closing twice is fine."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _insert(self, provider: str, reference: str | None, submission: str, images: int) -> None:
        with self._open() as connection, connection:
            connection.execute(
                "INSERT INTO charges (provider, reference, submission, images, at) VALUES (?, ?, ?, ?, ?)",
                (provider, reference, submission, images, datetime.now(UTC).isoformat()),
            )

    def _select(self, reference: str | None) -> list[Charge]:
        query = "SELECT provider, reference, submission, images, at FROM charges"
        values: tuple[str, ...] = ()
        if reference is not None:
            query, values = f"{query} WHERE reference = ?", (reference,)
        with self._open() as connection:
            rows = connection.execute(f"{query} ORDER BY id", values).fetchall()
        return [Charge(row[0], row[1], row[2], row[3], datetime.fromisoformat(row[4])) for row in rows]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """The one connection, for one thread at a time; opened when first needed, so that constructing is instant."""
        with self._lock:
            if self._closed:
                raise ValueError(f"the ledger {self.path} is closed")
            if self._connection is None:
                self._connection = _connect(self.path)
            yield self._connection


def _connect(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    try:
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(_SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. SQLite does not wait for its turn here when two connections do it at once."""
    give_up = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as exc:
            if exc.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.005)
        else:
            return

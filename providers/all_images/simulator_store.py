"""What the simulated vendor knows, in a small SQLite file beside the ledger: a sandbox that is killed and started
again still has its customers' generations, as a real vendor would.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import orjson
from pydantic import JsonValue

from providers.sandbox.script import Script

_SCHEMA = """
CREATE TABLE IF NOT EXISTS generations (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, record TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS images (id TEXT PRIMARY KEY, generation TEXT NOT NULL, position INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS bought (id TEXT PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS webhooks (id TEXT PRIMARY KEY, url TEXT NOT NULL, events TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS credits (kind TEXT PRIMARY KEY, left INTEGER NOT NULL, total INTEGER NOT NULL);
"""
_BUSY_SECONDS = 30.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Print:
    """One generation. `started` is when its present attempt began, in seconds of the simulator's clock; `step` how
    long each stage of it takes; `home` the address its links begin with; `told` the last stage webhooks were told.
    """

    id: str
    created: float
    started: float
    step: float
    home: str
    body: Mapping[str, JsonValue]
    images: tuple[str, ...]
    free: int = 0
    charged: bool = False
    told: int = -1
    attempt: int = 0
    script: Script = field(default_factory=Script)
    next_script: Script | None = None
    """What an update asks of the next attempt."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where to report what."""

    id: str
    url: str
    events: tuple[str, ...]


class Store:
    """The vendor's database at `path`, made when first used. Every method may be called from any task."""

    def __init__(self, path: Path, credits: Mapping[str, int]) -> None:
        self._path = path
        self._credits = credits
        self._lock = threading.Lock()
        self._ready = False

    async def add(self, made: Print) -> None:
        """Keep a new generation."""

        def work(db: sqlite3.Connection) -> None:
            db.execute("INSERT INTO generations (id, record) VALUES (?, ?)", (made.id, _packed(made)))
            db.executemany(
                "INSERT INTO images VALUES (?, ?, ?)", [(id_, made.id, n) for n, id_ in enumerate(made.images)]
            )

        await self._do(work)

    async def change(self, generation_id: str, change: Callable[[Print], Print]) -> Print | None:
        """Change a generation in one step; None where there is none."""

        def work(db: sqlite3.Connection) -> Print | None:
            row = db.execute("SELECT record FROM generations WHERE id = ?", (generation_id,)).fetchone()
            if row is None:
                return None
            changed = change(_unpacked(row[0]))
            db.execute("UPDATE generations SET record = ? WHERE id = ?", (_packed(changed), generation_id))
            return changed

        return await self._do(work)

    async def get(self, generation_id: str) -> Print | None:
        """The generation with that id."""
        return await self.change(generation_id, lambda made: made)

    async def all(self) -> list[Print]:
        """Every generation, newest first."""

        def work(db: sqlite3.Connection) -> list[Print]:
            return [_unpacked(row[0]) for row in db.execute("SELECT record FROM generations ORDER BY number DESC")]

        return await self._do(work)

    async def delete(self, generation_ids: list[str]) -> None:
        """Forget generations and their images; unknown ones are no error."""

        def work(db: sqlite3.Connection) -> None:
            rows = [(id_,) for id_ in generation_ids]
            db.executemany("DELETE FROM images WHERE generation = ?", rows)
            db.executemany("DELETE FROM generations WHERE id = ?", rows)

        await self._do(work)

    async def image(self, image_id: str) -> tuple[Print, int] | None:
        """The generation an image belongs to, and which of its images it is."""

        def work(db: sqlite3.Connection) -> tuple[Print, int] | None:
            row = db.execute(
                "SELECT record, position FROM images JOIN generations ON generations.id = generation "
                "WHERE images.id = ?",
                (image_id,),
            ).fetchone()
            return None if row is None else (_unpacked(row[0]), int(row[1]))

        return await self._do(work)

    async def buy(self, image_id: str, kind: str, at: float) -> bool | None:
        """Debit a credit for an image: True the first time, False when it had been bought, None without credits."""

        def work(db: sqlite3.Connection) -> bool | None:
            if db.execute("SELECT 1 FROM bought WHERE id = ?", (image_id,)).fetchone():
                return False
            if not _debited(db, kind):
                return None
            db.execute("INSERT INTO bought VALUES (?, ?)", (image_id, at))
            return True

        return await self._do(work)

    async def bought(self) -> dict[str, float]:
        """When each image was bought, latest first."""
        return await self._do(
            lambda db: dict(db.execute("SELECT id, at FROM bought ORDER BY at DESC, rowid DESC").fetchall())
        )

    async def debit(self, kind: str) -> bool:
        """Take one credit; whether there was one."""
        return await self._do(lambda db: _debited(db, kind))

    async def credits(self) -> list[tuple[str, int, int]]:
        """Kind, what is left and what there was."""
        return await self._do(lambda db: db.execute("SELECT kind, left, total FROM credits ORDER BY kind").fetchall())

    async def subscribe(self, webhook: Webhook) -> None:
        """Keep a webhook."""
        row = (webhook.id, webhook.url, " ".join(webhook.events))
        await self._do(lambda db: db.execute("INSERT INTO webhooks VALUES (?, ?, ?)", row))

    async def unsubscribe(self, webhook_id: str) -> bool:
        """Forget a webhook; whether there was one."""
        deleted = "DELETE FROM webhooks WHERE id = ?"
        return await self._do(lambda db: db.execute(deleted, (webhook_id,)).rowcount > 0)

    async def webhooks(self) -> list[Webhook]:
        """Every webhook there is."""

        def work(db: sqlite3.Connection) -> list[Webhook]:
            rows = db.execute("SELECT id, url, events FROM webhooks").fetchall()
            return [Webhook(row[0], row[1], tuple(row[2].split())) for row in rows]

        return await self._do(work)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.to_thread(self._locked, work)

    def _locked(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock, self._open() as db:
            return work(db)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction. Nobody tells the simulator when it ends, so none is kept open."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous=OFF")  # survives a killed process, which is what it is for
            if not self._ready:
                db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
                rows = [(kind, left, left) for kind, left in self._credits.items()]
                db.executemany("INSERT OR IGNORE INTO credits VALUES (?, ?, ?)", rows)
                self._ready = True
            db.execute("BEGIN IMMEDIATE")
            yield db
            db.execute("COMMIT")
        finally:
            db.close()


def charged(made: Print) -> Print:
    """The same, paid for."""
    return replace(made, charged=True)


def _debited(db: sqlite3.Connection, kind: str) -> bool:
    return db.execute("UPDATE credits SET left = left - 1 WHERE kind = ? AND left > 0", (kind,)).rowcount > 0


def _packed(made: Print) -> bytes:
    scripts = {name: getattr(made, name) for name in ("script", "next_script")}
    dumped = {
        name: None if script is None else script.model_dump(mode="json", exclude_unset=True)
        for name, script in scripts.items()
    }
    fields = {name: getattr(made, name) for name in Print.__dataclass_fields__ if name not in scripts}
    return orjson.dumps({**fields, **dumped})


def _unpacked(record: bytes | str) -> Print:
    fields = orjson.loads(record)
    later = fields["next_script"]
    return Print(
        **{
            **fields,
            "images": tuple(fields["images"]),
            "script": Script.model_validate(fields["script"]),
            "next_script": None if later is None else Script.model_validate(later),
        }
    )

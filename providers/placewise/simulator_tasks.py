"""The tasks of the simulated Placewise: kept on disk beside the ledger, and so survive a restart as a vendor's do.

A task is a row; its state follows from the time since it was accepted (contract placewise §5: the vendor's other
background jobs go `waiting → working → finished`, or `failed`; for this one it is assumed).
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from providers.placewise.simulator_validation import Order
from providers.sandbox.drawing import Drawing
from providers.sandbox.script import Script

State = Literal["waiting", "working", "finished", "failed"]
_SCHEMA = """
CREATE TABLE IF NOT EXISTS tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT, "order" TEXT NOT NULL, script TEXT NOT NULL, pace REAL NOT NULL,
    token TEXT NOT NULL, accepted_at REAL NOT NULL
)
"""
_LARGEST_ID = 2**63 - 1
_STARTS, _ENDS = 1, 3
"""In paces since acceptance: when a task begins to work, and when it is over."""


@dataclass(frozen=True, slots=True)
class Task:
    """One accepted order. `token` is what makes its link unguessable."""

    id: int
    order: Order
    script: Script
    pace: float
    token: str
    accepted_at: float

    @property
    def fails(self) -> bool:
        """Whether it ends without a picture, as its script wants."""
        return self.script.error_after is not None or self.script.refuse == "output"

    @property
    def ends_at(self) -> float:
        """Seconds since the epoch; one that fails does so after as many states as `error_after` says."""
        paces = _ENDS if self.script.error_after is None else (0, _STARTS, _ENDS)[min(self.script.error_after, 2)]
        return self.accepted_at + paces * self.pace

    @property
    def works_at(self) -> float:
        """Seconds since the epoch."""
        return self.accepted_at + _STARTS * self.pace

    def state(self, now: float) -> State:
        """What has become of it by `now`, in seconds since the epoch."""
        if now >= self.ends_at:
            return "failed" if self.fails else "finished"
        return "working" if now >= self.works_at else "waiting"

    def drawing(self) -> Drawing:
        """The picture. Without a seed it is another one each time."""
        width, height = self.order.pixels
        order = self.order
        seed = self.id if order.random_seed is None else order.random_seed
        looks = (order.model_type, order.creativity, order.photorealistic)
        key = hashlib.sha256(f"{seed} {self.script.seed} {looks}".encode()).digest()
        return Drawing(order.prompt, width, height, seed=int.from_bytes(key[:6]))


class Tasks:
    """The tasks in the SQLite file at `path`, made when first used. The work is done in threads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    async def add(self, order: Order, script: Script, *, pace: float) -> Task:
        """Keep a new task, with the next id."""
        return await asyncio.to_thread(self._insert, order, script, pace)

    async def get(self, task_id: int) -> Task | None:
        """The task with this id."""
        return await asyncio.to_thread(self._select, task_id) if task_id <= _LARGEST_ID else None

    def _insert(self, order: Order, script: Script, pace: float) -> Task:
        token, now = secrets.token_urlsafe(16), time.time()
        values = (
            json.dumps(dataclasses.asdict(order)),
            script.model_dump_json(exclude_unset=True),
            pace,
            token,
            now,
        )
        with self._open() as connection, connection:
            row = connection.execute(
                'INSERT INTO tasks ("order", script, pace, token, accepted_at) VALUES (?, ?, ?, ?, ?)', values
            )
        if row.lastrowid is None:
            raise sqlite3.DatabaseError("a new task got no id")
        return Task(row.lastrowid, order, script, pace, token, now)

    def _select(self, task_id: int) -> Task | None:
        with self._open() as connection:
            row = connection.execute(
                'SELECT id, "order", script, pace, token, accepted_at FROM tasks WHERE id = ?', (task_id,)
            ).fetchone()
        if row is None:
            return None
        return Task(row[0], Order(**json.loads(row[1])), Script.model_validate_json(row[2]), row[3], row[4], row[5])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own, which nobody has to close at the end of the server."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock, closing(sqlite3.connect(self._path, timeout=30)) as connection:
            connection.execute(_SCHEMA)
            yield connection

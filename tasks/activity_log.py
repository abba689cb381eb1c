"""The event log of all tasks, in an order in which nothing ever appears behind what has been read.

On SQLite that is the order of positions, because there is one writer. On PostgreSQL positions are given out before the
commit, so a row may become visible after one with a higher position. There the order is by transaction first, and
only transactions below the oldest one that is still running are read: none of those can add anything any more.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, literal_column, select, tuple_

from tasks.database import Database
from tasks.errors import InvalidCursorError
from tasks.events import TaskEvent, change_of, image_id_of
from tasks.history import images_in
from tasks.records import DEFAULT_PROJECT
from tasks.tables import EVENTS, TASKS, task_of

LAST = (1 << 63) - 1
PAGE = 500
"""Most events that are read at once."""
SETTLED: ColumnElement[int] = literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
"""The oldest transaction that is still running, anywhere on this PostgreSQL server."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the log of all tasks; `transaction` is 0 on SQLite."""

    transaction: int
    position: int

    @property
    def cursor(self) -> str:
        """The place, for a client to come back to."""
        return base64.urlsafe_b64encode(f"activity:{self.transaction}:{self.position}".encode()).decode()


def position_of(cursor: str) -> Position:
    """The place in a cursor. Raises `InvalidCursorError`."""
    try:
        kind, transaction, position = base64.urlsafe_b64decode(cursor.encode()).decode().split(":")
        found = Position(int(transaction), int(position))
    except (ValueError, binascii.Error) as exc:
        raise InvalidCursorError(cursor) from exc
    if kind != "activity" or not (0 <= found.transaction <= LAST and 0 <= found.position <= LAST):
        raise InvalidCursorError(cursor)
    return found


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event at its place among those of all tasks; its task is the row as it is now."""

    position: Position
    event: TaskEvent


class ActivityLog:
    """The log of one project."""

    def __init__(self, database: Database, project: str = DEFAULT_PROJECT) -> None:
        self._database = database
        self._project = project

    async def end(self) -> Position:
        """Where the log ends now."""
        if not self._database.sqlite:
            settled = await self._database.read(lambda connection: connection.execute(select(SETTLED)).scalar_one())
            return Position(settled - 1, LAST)
        newest = select(func.max(EVENTS.c.position))
        return Position(0, await self._database.read(lambda connection: connection.execute(newest).scalar_one()) or 0)

    async def after(self, position: Position) -> Sequence[LoggedEvent]:
        """The next events, at most `PAGE` of them, in order."""
        return await self._database.read(lambda connection: self._after(connection, position))

    def _after(self, connection: Connection, position: Position) -> list[LoggedEvent]:
        records = connection.execute(self._page(position)).all()
        wanted = select(TASKS).where(TASKS.c.id.in_({record.task_id for record in records}))
        tasks = {row.id: task_of(row) for row in connection.execute(wanted)} if records else {}
        changes = [change_of(record.kind, record.payload) for record in records]
        images = images_in(connection, changes)
        return [
            LoggedEvent(
                Position(record.transaction or 0, record.position),
                TaskEvent(
                    tasks[record.task_id], record.sequence, record.at, change, images.get(image_id_of(change) or "")
                ),
            )
            for record, change in zip(records, changes, strict=True)
        ]

    def _page(self, position: Position) -> Select[Any]:
        place, transaction = EVENTS.c.position, EVENTS.c.transaction
        events = select(EVENTS).where(EVENTS.c.project == self._project).limit(PAGE)
        if self._database.sqlite:
            return events.where(place > position.position).order_by(place)
        return events.where(
            tuple_(transaction, place) > (position.transaction, position.position), transaction < SETTLED
        ).order_by(transaction, place)

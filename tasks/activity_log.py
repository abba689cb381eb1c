"""The event log of all tasks, in an order in which nothing ever appears behind what has been read.

On SQLite that is the order of positions, because there is one writer. On PostgreSQL positions are given out before the
commit, so a row may become visible after one with a higher position. There the order is by transaction first, and
only transactions below the oldest one that is still running are read: none of those can add anything any more.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    and_,
    bindparam,
    case,
    func,
    literal_column,
    select,
    tuple_,
)

from tasks.database import Database
from tasks.errors import InvalidCursorError
from tasks.events import (
    Canceled,
    Change,
    Failed,
    HandedOff,
    RetryScheduled,
    StatusChanged,
    Succeeded,
    TaskEvent,
    change_of,
    image_id_of,
)
from tasks.history import images_in
from tasks.records import DEFAULT_PROJECT, ImageRecord, TaskRecord
from tasks.status import TaskStatus
from tasks.tables import EVENTS, TASKS, task_of

log = logging.getLogger(__name__)

LAST = (1 << 63) - 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NEWEST = select(func.max(EVENTS.c.position))
PAGE = 500
"""Most events that are read at once."""
SETTLED: ColumnElement[int] = literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
"""The oldest transaction that is still running, anywhere on this PostgreSQL server."""
FOREIGN = (
    EVENTS.update()
    .where(EVENTS.c.transaction >= literal_column("pg_snapshot_xmax(pg_current_snapshot())::text::bigint"))
    .values(transaction=SETTLED - 1)
)
"""Events of transactions that this PostgreSQL server has not begun yet become the newest of those that are over."""

ARRIVES = {
    RetryScheduled.kind: TaskStatus.QUEUED,
    Succeeded.kind: TaskStatus.SUCCEEDED,
    Failed.kind: TaskStatus.FAILED,
    Canceled.kind: TaskStatus.CANCELED,
    HandedOff.kind: TaskStatus.HANDED_OFF,
}
"""The state that an event moves its task to, by its kind; `StatusChanged` says it itself."""
STATES = {status.value: status for status in TaskStatus} | ARRIVES

_before = EVENTS.alias()
_left = (
    select(func.coalesce(_before.c.payload["status"].as_string(), _before.c.kind))
    .where(
        _before.c.task_id == EVENTS.c.task_id,
        _before.c.sequence < EVENTS.c.sequence,
        _before.c.kind.in_([StatusChanged.kind, *ARRIVES]),
    )
    .order_by(_before.c.sequence.desc())
    .limit(1)
    .scalar_subquery()
)
LEAVES = case((EVENTS.c.kind.in_([StatusChanged.kind, *ARRIVES]), _left)).label("leaves")
"""The state that an event moves its task from, as a key of `STATES`."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the log of all tasks; `transaction` is 0 on SQLite.

    `at` is when the last event up to there was recorded, in microseconds since 1970, 0 where there is none. By that a
    place in another log is told from the same place in this one, and so is one from before a back-up was restored.
    """

    transaction: int
    position: int
    at: int = field(default=0, compare=False)

    @property
    def cursor(self) -> str:
        """The place, for a client to come back to."""
        return base64.urlsafe_b64encode(f"activity:{self.transaction}:{self.position}:{self.at}".encode()).decode()


def position_of(cursor: str) -> Position:
    """The place in a cursor. Raises `InvalidCursorError`."""
    try:
        kind, *numbers = base64.urlsafe_b64decode(cursor.encode()).decode().split(":")
        transaction, position, at = map(int, numbers)
    except (ValueError, binascii.Error) as exc:
        raise _invalid(cursor) from exc
    if kind != "activity" or not all(0 <= number <= LAST for number in (transaction, position, at)):
        raise _invalid(cursor)
    return Position(transaction, position, at)


def _invalid(cursor: str) -> InvalidCursorError:
    return InvalidCursorError(
        cursor, "`activity`", "the `cursor` of the newest event you have", "begin with what happens from now on"
    )


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event at its place among those of all tasks; its task is the row as it is now. One that cannot be read is
    None, so that the others still can.

    `states` are those that it moves the task from and to; of an event that moves nothing, the one it is in now.
    """

    position: Position
    task: TaskRecord
    event: TaskEvent | None
    states: Collection[TaskStatus]


class ActivityLog:
    """The log of one project."""

    def __init__(self, database: Database, project: str = DEFAULT_PROJECT) -> None:
        self._database = database
        place, transaction = EVENTS.c.position, EVENTS.c.transaction
        order: tuple[ColumnElement[Any], ...]
        if database.sqlite:
            order = (place,)
            after, up_to = place > bindparam("position"), place <= bindparam("position")
        else:
            order = (transaction, place)
            there = tuple_(bindparam("transaction", type_=BigInteger), bindparam("position", type_=BigInteger))
            after, up_to = and_(tuple_(*order) > there, transaction < SETTLED), tuple_(*order) <= there
        events = select(EVENTS, LEAVES).where(EVENTS.c.project == project, after)
        self._page = events.order_by(*order).limit(PAGE)
        self._last = select(EVENTS.c.at).where(up_to).order_by(*(one.desc() for one in order)).limit(1)

    async def settle(self) -> None:
        """Once at the start: what comes from another PostgreSQL server, by a back-up, is old, however high its
        transactions were counted there. Otherwise it would be news when this server has counted that far.

        What this server has committed, also for another node just now, is never changed: a statement sees nothing of
        transactions that begin after its view was taken.
        """
        if not self._database.sqlite:
            await self._database.write(lambda connection: connection.execute(FOREIGN))

    async def end(self) -> Position:
        """Where the log ends now."""
        return await self._database.read(self._end)

    async def holds(self, position: Position) -> bool:
        """Whether a position is one of this log, as far as that can be known."""
        return await self._database.read(lambda connection: self._recorded(connection, position)) == position.at

    async def after(self, position: Position) -> Sequence[LoggedEvent]:
        """The next events, at most `PAGE` of them, in order."""
        return await self._database.read(lambda connection: self._after(connection, position))

    def _end(self, connection: Connection) -> Position:
        if self._database.sqlite:
            end = Position(0, connection.execute(NEWEST).scalar_one() or 0)
        else:
            end = Position(connection.execute(select(SETTLED)).scalar_one() - 1, LAST)
        return replace(end, at=self._recorded(connection, end))

    def _recorded(self, connection: Connection, position: Position) -> int:
        """When the last event up to a position was recorded."""
        at = connection.execute(self._last, _parameters(position)).scalar_one_or_none()
        return 0 if at is None else _microseconds(at)

    def _after(self, connection: Connection, position: Position) -> list[LoggedEvent]:
        records = connection.execute(self._page, _parameters(position)).all()
        wanted = select(TASKS).where(TASKS.c.id.in_({record.task_id for record in records}))
        tasks = {row.id: task_of(row) for row in connection.execute(wanted)} if records else {}
        changes = [_change(record) for record in records]
        images = images_in(connection, [change for change in changes if change is not None])
        return [
            _logged(record, tasks[record.task_id], change, images)
            for record, change in zip(records, changes, strict=True)
        ]


def _parameters(position: Position) -> dict[str, int]:
    return {"transaction": position.transaction, "position": position.position}


def _change(record: Row[Any]) -> Change | None:
    try:
        return change_of(record.kind, record.payload)
    except (KeyError, ValidationError):
        log.exception("Event %d of task %s cannot be read; `activity` leaves it out", record.sequence, record.task_id)
        return None


def _logged(
    record: Row[Any], task: TaskRecord, change: Change | None, images: Mapping[str, ImageRecord]
) -> LoggedEvent:
    position = Position(record.transaction or 0, record.position, _microseconds(record.at))
    if change is None:
        return LoggedEvent(position, task, None, tuple(TaskStatus))  # whatever it was
    arrives = STATES.get(record.payload.get("status", record.kind))
    states = {task.status} if arrives is None else {arrives, STATES.get(record.leaves, arrives)}
    image = images.get(image_id_of(change) or "")
    return LoggedEvent(position, task, TaskEvent(task, record.sequence, record.at, change, image), states)


def _microseconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)

"""The one way a task changes: row, event and picture in one transaction, fenced, then published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, literal_column, or_, select

from tasks.database import Database
from tasks.errors import DatabaseUnavailableError, LostTaskError
from tasks.events import Change, TaskEvent, payload_of
from tasks.feed import Feed
from tasks.images import keep_announced, keep_once
from tasks.patience import patiently
from tasks.records import ImageRecord, TaskRecord, now
from tasks.signals import Signals
from tasks.status import TERMINAL
from tasks.tables import EVENTS, IMAGES, TASKS, row_of, task_of
from tasks.uninterrupted import uninterrupted

_TRANSACTION: ColumnElement[int] = literal_column("pg_current_xact_id()::text::bigint")

OPEN = TASKS.insert().returning(TASKS.c.number)
CLAIM = (
    TASKS.update()
    .where(TASKS.c.id == bindparam("claimed_id"), or_(TASKS.c.status.not_in(TERMINAL), TASKS.c.listening))
    .values(run=TASKS.c.run + 1, idle_runs=TASKS.c.idle_runs + bindparam("idle"))
    .returning(*TASKS.columns)
)
APPEND = (
    TASKS.update()
    .where(
        TASKS.c.id == bindparam("claimed_id"),
        TASKS.c.run == bindparam("claimed_run"),
        TASKS.c.status.not_in(TERMINAL),
    )
    .values(last_sequence=TASKS.c.last_sequence + 1)
    .returning(TASKS.c.last_sequence, TASKS.c.cancel_requested_at)
)
"""Fenced: it changes a task only as long as the claim holds and the task has not ended."""

EVENT_SIGNAL = "event"
"""The hint to other nodes that there is a new event; its text is the id of the task."""


class Journal:
    """Writes the event log of tasks and keeps their rows in step with it."""

    def __init__(self, database: Database, feed: Feed, signals: Signals) -> None:
        self._database = database
        self._feed = feed
        self._signals = signals

    def open(self, task: TaskRecord, change: Change, connection: Connection) -> TaskEvent:
        """Store a new task with its first event, inside the caller's transaction; `publish` it after the commit."""
        row = row_of(task) | {"last_sequence": 1}
        number = connection.execute(OPEN, row).scalar_one()
        task = task.model_copy(update={"last_sequence": 1, "number": number})
        return self._log(connection, task, change, None)

    async def claim(
        self, task_id: str, *, again: bool = False, owned: Callable[[Connection], bool] | None = None
    ) -> TaskRecord | None:
        """Take over a task that has not ended: from now on earlier runs of it cannot write. None if it has ended, or is
        not `owned` any more: a node that stood still must not take it back from the one that goes on with it.

        `again` is for a run of this same process that has failed: it is not a sign of a crash.
        """

        def claim(connection: Connection) -> TaskRecord | None:
            if owned is not None and not owned(connection):
                return None
            claimed = connection.execute(CLAIM, {"claimed_id": task_id, "idle": 0 if again else 1})
            return _task(claimed.one_or_none())

        return await self._database.write(claim)

    async def append(
        self, task: TaskRecord, change: Change, *, image: ImageRecord | None = None, **values: Any
    ) -> TaskRecord:
        """Record a change of a claimed task: its row gets `values`, the log one more event, in one transaction.

        Returns the row as it is now. Raises `LostTaskError` when the claim has been lost or the task has ended. A
        caller that is cancelled meanwhile does not interrupt it: what has happened is recorded and published. While
        the database is away it is tried again, and a commit whose answer was lost is recognised.
        """
        uncertain = False

        def append(connection: Connection) -> TaskEvent:
            if uncertain and (landed := self._landed(connection, task, change, image)):
                return landed
            return self._append(connection, task, change, image, values)

        async def attempt() -> TaskEvent:
            nonlocal uncertain
            try:
                return await self._database.write(append)
            except DatabaseUnavailableError:
                uncertain = True
                raise

        async def write() -> TaskEvent:
            event = await patiently(attempt)
            self.publish(event)
            return event

        return (await uninterrupted(write())).task

    async def keep_late(self, image: ImageRecord) -> None:
        """Keep a picture that arrived after its task had ended. There is no event for it: the last one has been sent.

        One that is here already is not stored again.
        """
        keep = partial(keep_once, image=image, late=True)
        await uninterrupted(patiently(lambda: self._database.write(keep)))

    async def settle(self, task: TaskRecord, **values: Any) -> None:
        """Change the row of a claimed task that has ended, without an event."""
        statement = TASKS.update().where(TASKS.c.id == task.id, TASKS.c.run == task.run).values(**values)
        await patiently(lambda: self._database.write(lambda connection: connection.execute(statement)))

    async def entrust(self, task: TaskRecord, **values: Any) -> None:
        """Leave what the provider has accepted to other runs, although this one has lost the task: if they do not know
        of it, somebody will listen for its pictures (`tasks.repair` finds the task)."""
        unknown = (TASKS.c.id == task.id, TASKS.c.run > task.run, TASKS.c.submission.is_(None))
        statement = TASKS.update().where(*unknown).values(listening=True, **values)
        await patiently(lambda: self._database.write(lambda connection: connection.execute(statement)))

    def _append(
        self,
        connection: Connection,
        task: TaskRecord,
        change: Change,
        image: ImageRecord | None,
        values: dict[str, Any],
    ) -> TaskEvent:
        fence = {"claimed_id": task.id, "claimed_run": task.run}
        found = connection.execute(APPEND, fence | values | {"idle_runs": 0}).one_or_none()
        if found is None:
            raise LostTaskError(task.id, task.run)
        if image is not None and task.run > 1:
            keep_announced(connection, image)
        elif image is not None:
            connection.execute(IMAGES.insert(), row_of(image))
        # The claim makes this run the only one that changes anything else.
        changed = values | {"last_sequence": found.last_sequence, "cancel_requested_at": found.cancel_requested_at}
        return self._log(connection, task.model_copy(update=changed), change, image)

    def change(
        self,
        connection: Connection,
        conditions: Sequence[ColumnElement[bool]],
        change: Change,
        *,
        image: ImageRecord | None = None,
        **values: Any,
    ) -> TaskEvent | None:
        """Change the one task that fulfils the conditions, inside the caller's transaction; None if it does not.

        `publish` the event after the commit.
        """
        statement = (
            TASKS.update()
            .where(*conditions)
            .values(last_sequence=TASKS.c.last_sequence + 1, **values)
            .returning(*TASKS.columns)
        )
        task = _task(connection.execute(statement).one_or_none())
        if task is None:
            return None
        if image is not None:
            connection.execute(IMAGES.insert(), row_of(image))
        return self._log(connection, task, change, image)

    def publish(self, event: TaskEvent) -> None:
        """Tell the live subscribers about an event that has been committed: those of this node at once, those of the
        others soon."""
        self._feed.publish(event)
        self._signals.tell(EVENT_SIGNAL, event.task.id)

    def _log(self, connection: Connection, task: TaskRecord, change: Change, image: ImageRecord | None) -> TaskEvent:
        event = TaskEvent(task=task, sequence=task.last_sequence, at=now(), change=change, image=image)
        values = {
            "task_id": task.id,
            "project": task.project,
            "sequence": event.sequence,
            "kind": change.kind,
            "payload": payload_of(change),
            "at": event.at,
        }
        insert = EVENTS.insert() if self._database.sqlite else EVENTS.insert().values(transaction=_TRANSACTION)
        connection.execute(insert, values)
        return event

    def _landed(
        self, connection: Connection, task: TaskRecord, change: Change, image: ImageRecord | None
    ) -> TaskEvent | None:
        """The event of a commit whose answer was lost, if it was carried out."""
        later = select(EVENTS).where(
            EVENTS.c.task_id == task.id, EVENTS.c.sequence > task.last_sequence, EVENTS.c.kind == change.kind
        )
        for line in connection.execute(later):
            if line.payload == payload_of(change):
                row = _task(connection.execute(select(TASKS).where(TASKS.c.id == task.id)).one_or_none())
                if row is not None and row.run == task.run:
                    return TaskEvent(task=row, sequence=line.sequence, at=line.at, change=change, image=image)
        return None


def _task(row: Row[Any] | None) -> TaskRecord | None:
    return None if row is None else task_of(row)

"""Canceling a task, on whatever node it runs.

What still waits is canceled at once, by its row alone. For what is on its way the wish is recorded, and the run that
owns the task is told; it ends the task with what canceling really achieved.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlmodel import Session, col, select

from tasks.cancellation import CANCELLATION, NEVER_SENT, Cancellation
from tasks.database import Database
from tasks.events import Canceled, CancelRequested, TaskEvent
from tasks.journal import TASKS, Journal
from tasks.records import JsonObject, TaskRecord, now
from tasks.signals import Signals
from tasks.status import TERMINAL, TaskStatus
from tasks.uninterrupted import uninterrupted

CANCEL_SIGNAL = "cancel"
"""The hint to other nodes that somebody wants a task, the text of the hint, to be canceled."""


class Cancels:
    """The wishes to cancel, and the runs that wait for them."""

    def __init__(self, database: Database, journal: Journal, signals: Signals) -> None:
        self._database = database
        self._journal = journal
        self._signals = signals
        self._wishes: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        signals.on(CANCEL_SIGNAL, self._tell)

    async def request(self, task_id: str) -> None:
        """Cancel a task that waits; ask the run of one that does not. One that has ended stays as it is."""
        event = await uninterrupted(self._request(task_id))
        if event is not None:
            self._tell(task_id)

    @contextmanager
    def wish(self, task_id: str) -> Iterator[asyncio.Event]:
        """Set once somebody wants the task to be canceled, while the block lasts."""
        try:
            yield self._wishes[task_id]
        finally:
            self._wishes.pop(task_id, None)

    async def look(self) -> None:
        """Look into the table for wishes that nobody told this node about."""
        wanted = select(col(TaskRecord.id)).where(
            col(TaskRecord.id).in_(list(self._wishes)), col(TaskRecord.cancel_requested_at).is_not(None)
        )
        for task_id in await self._database.read(lambda session: session.exec(wanted).all()):
            self._tell(task_id)

    def _tell(self, task_id: str) -> None:
        if task_id in self._wishes:
            self._wishes[task_id].set()

    async def _request(self, task_id: str) -> TaskEvent | None:
        def request(session: Session) -> TaskEvent | None:
            one, at = TASKS.c.id == task_id, now()
            waiting = (one, TASKS.c.status == TaskStatus.QUEUED)
            values = canceled(NEVER_SENT) | {"run": TASKS.c.run + 1, "cancel_requested_at": at, "retry_at": None}
            event = self._journal.change(session, waiting, Canceled(NEVER_SENT), **values)
            if event is None:
                on_its_way = (one, TASKS.c.status.not_in(TERMINAL), TASKS.c.cancel_requested_at.is_(None))
                event = self._journal.change(session, on_its_way, CancelRequested(), cancel_requested_at=at)
            if event is not None:
                self._signals.send(session, CANCEL_SIGNAL, task_id)
            return event

        event = await self._database.write(request)
        if event is not None:
            self._journal.publish(event)
        return event


def stored(cancellation: Cancellation) -> JsonObject:
    """What the row of a task keeps of what canceling achieved."""
    value: JsonObject = CANCELLATION.dump_python(cancellation, mode="json")
    return value


def canceled(cancellation: Cancellation) -> dict[str, Any]:
    """What canceling changes in the row of its task."""
    return {
        "status": TaskStatus.CANCELED,
        "cancellation": stored(cancellation),
        "transport": cancellation.transport.value,
        "finished_at": now(),
    }

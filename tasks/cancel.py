"""Canceling a task, on whatever node it runs.

What still waits is canceled at once, by its row alone. For what is on its way the wish is recorded, and the run that
owns the task is told; it ends the task with what canceling really achieved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, select

from tasks.cancellation import CANCELLATION, NEVER_SENT, Cancellation
from tasks.database import Database
from tasks.events import Canceled, CancelRequested, TaskEvent
from tasks.journal import Journal
from tasks.records import JsonObject, now
from tasks.signals import Signals
from tasks.status import TERMINAL, TaskStatus
from tasks.tables import TASKS
from tasks.uninterrupted import uninterrupted

CANCEL_SIGNAL = "cancel"
"""The hint to other nodes that somebody wants a task, the text of the hint, to be canceled."""


class Cancels:
    """The wishes to cancel, and the runs that wait for them."""

    def __init__(self, database: Database, journal: Journal, signals: Signals) -> None:
        self._database = database
        self._journal = journal
        self._signals = signals
        self._wishes: dict[str, list[asyncio.Event]] = {}
        signals.on(CANCEL_SIGNAL, self._tell)

    async def request(self, task_id: str) -> bool:
        """Cancel a task that waits; ask the run of one that does not. One that has ended stays as it is.

        Returns whether it has been canceled with that, so that it needs no run any more.
        """
        event = await uninterrupted(self._request(task_id))
        # Also when it was asked for before: that wish may have got lost on its way to the run.
        self._tell(task_id)
        return event is not None and isinstance(event.change, Canceled)

    @contextmanager
    def wish(self, task_id: str) -> Iterator[asyncio.Event]:
        """Set once somebody wants the task to be canceled, while the block lasts."""
        wish = asyncio.Event()
        # Two runs of a task may overlap here, when it was taken from the older one.
        self._wishes.setdefault(task_id, []).append(wish)
        try:
            yield wish
        finally:
            self._wishes[task_id].remove(wish)
            if not self._wishes[task_id]:
                del self._wishes[task_id]

    async def look(self) -> None:
        """Look into the table for wishes that nobody told this node about."""
        if not self._wishes:
            return
        wanted = select(TASKS.c.id).where(TASKS.c.id.in_(list(self._wishes)), TASKS.c.cancel_requested_at.is_not(None))
        for task_id in await self._database.read(lambda connection: connection.execute(wanted).scalars().all()):
            self._tell(task_id)

    def _tell(self, task_id: str) -> None:
        for wish in self._wishes.get(task_id, ()):
            wish.set()

    async def _request(self, task_id: str) -> TaskEvent | None:
        def request(connection: Connection) -> TaskEvent | None:
            one, at = TASKS.c.id == task_id, now()
            waiting = (one, TASKS.c.status == TaskStatus.QUEUED)
            values = canceled(NEVER_SENT) | {"run": TASKS.c.run + 1, "cancel_requested_at": at}
            event = self._journal.change(connection, waiting, Canceled(NEVER_SENT), **values)
            if event is None:
                on_its_way = (one, TASKS.c.status.not_in(TERMINAL), TASKS.c.cancel_requested_at.is_(None))
                event = self._journal.change(connection, on_its_way, CancelRequested(), cancel_requested_at=at)
            if event is not None:
                self._signals.send(connection, CANCEL_SIGNAL, task_id)
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
        "retry_at": None,
        "finished_at": now(),
    }

"""Starting a task: one click, one row, one event, one place in the queue, in one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from pydantic import BaseModel, JsonValue
from sqlalchemy import Connection, bindparam, select
from sqlalchemy.exc import IntegrityError

from tasks.database import Database
from tasks.engine import Engine
from tasks.errors import IdempotencyConflictError
from tasks.events import StatusChanged, TaskEvent
from tasks.journal import Journal
from tasks.records import DEFAULT_PROJECT, JsonObject, TaskRecord
from tasks.signals import Signals
from tasks.status import TaskStatus
from tasks.tables import TASKS, new_task, task_of
from tasks.turn import next_turn

WITH_KEY = select(TASKS).where(TASKS.c.project == bindparam("project"), TASKS.c.idempotency_key == bindparam("key"))

QUEUED_SIGNAL = "queued"
"""The hint to other nodes that a queue, the text of the hint, has more than this node can start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """What a client asked for. `request` has been validated; `sandbox` says who will carry it out."""

    provider: str
    request: BaseModel
    sandbox: bool
    idempotency_key: str | None = None
    name: str | None = None
    tags: Sequence[str] = ()
    metadata: JsonValue = None
    project: str = DEFAULT_PROJECT
    retried_from: str | None = None


async def start(new: NewTask, *, database: Database, journal: Journal, engine: Engine, signals: Signals) -> TaskRecord:
    """Store the task and queue it. With an idempotency key that was used before, answer with that task instead.

    Raises `IdempotencyConflictError` when the key belongs to another request.
    """

    def store(connection: Connection) -> TaskRecord | TaskEvent:
        asked = _record(new)
        if earlier := _earlier(connection, asked):
            return earlier
        task = asked.model_copy(update={"turn": next_turn(connection, asked.project, asked.provider)})
        event = journal.open(task, StatusChanged(TaskStatus.QUEUED), connection)
        engine.enqueue(connection, task.id, task.provider, task.turn)
        if engine.full(task.provider):
            signals.send(connection, QUEUED_SIGNAL, task.provider)
        return event

    try:
        stored = await database.write(store)
    except IntegrityError:
        if new.idempotency_key is None:
            raise
        # The same key arrived on another connection at the same instant, and was first; it is there to be found now.
        stored = await database.write(store)
    if isinstance(stored, TaskRecord):
        return stored
    journal.publish(stored)
    engine.wake(new.provider)
    return stored.task


async def retried(database: Database, task: TaskRecord, key: str | None) -> TaskRecord | None:
    """The task that repeats this one already, under that idempotency key."""
    if key is None:
        return None
    found = await database.read(lambda connection: _with_key(connection, task.project, key))
    return found if found is not None and found.retried_from == task.id else None


def _earlier(connection: Connection, task: TaskRecord) -> TaskRecord | None:
    if task.idempotency_key is None:
        return None
    earlier = _with_key(connection, task.project, task.idempotency_key)
    if earlier is not None and earlier.fingerprint != task.fingerprint:
        raise IdempotencyConflictError(task.idempotency_key, earlier.id, earlier.number or 0)
    return earlier


def _with_key(connection: Connection, project: str, key: str) -> TaskRecord | None:
    row = connection.execute(WITH_KEY, {"project": project, "key": key}).one_or_none()
    return None if row is None else task_of(row)


def _record(new: NewTask) -> TaskRecord:
    request: JsonObject = new.request.model_dump(mode="json", exclude_none=True)
    asked = {"provider": new.provider, "request": request, "name": new.name, "tags": new.tags, "metadata": new.metadata}
    if new.retried_from is not None:
        # What is missing may change between two clicks: a picture can arrive late.
        asked = {"retried_from": new.retried_from}
    model = request.get("model")
    return new_task(
        project=new.project,
        provider=new.provider,
        sandbox=new.sandbox,
        request=request,
        prompt=str(request.get("prompt", "")),
        model=model if isinstance(model, str) else None,
        idempotency_key=new.idempotency_key,
        fingerprint=hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest(),
        name=new.name,
        tags=list(new.tags),
        client_metadata=new.metadata,
        retried_from=new.retried_from,
    )

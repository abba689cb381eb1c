"""Reading back: tasks by id and by page, their pictures, their events."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, bindparam, func, select

from tasks.database import Database
from tasks.errors import InvalidCursorError
from tasks.events import Change, TaskEvent, change_of, image_id_of
from tasks.records import DEFAULT_PROJECT, ImageKind, ImageRecord, TaskRecord
from tasks.status import TaskStatus
from tasks.tables import EVENTS, IMAGES, TASKS, image_of, task_of

TASK = select(TASKS).where(TASKS.c.id == bindparam("id"), TASKS.c.project == bindparam("project"))
EVENTS_AFTER = (
    select(EVENTS)
    .where(EVENTS.c.task_id == bindparam("task_id"), EVENTS.c.sequence > bindparam("after"))
    .order_by(EVENTS.c.sequence)
)

LARGEST_NUMBER = 1 << 63
PAGE_LIMIT = 100
"""Most tasks on one page."""


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Which tasks to list; an empty condition matches everything."""

    providers: Sequence[str] = ()
    statuses: Sequence[TaskStatus] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None

    @property
    def key(self) -> Hashable:
        """Equal for filters that match the same tasks."""
        return frozenset(self.providers), frozenset(self.statuses), self.created_after, self.created_before


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page: `size` tasks after or before a cursor, counted from the start of the list, or from its end."""

    size: int
    after: str | None = None
    before: str | None = None
    from_end: bool = False
    newest_first: bool = True
    filter: TaskFilter = field(default_factory=TaskFilter)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of tasks, in list order."""

    tasks: Sequence[TaskRecord]
    has_next: bool
    has_previous: bool


def cursor_of(task: TaskRecord) -> str:
    """The place of a task in any list of tasks. It stays right while new tasks arrive."""
    return base64.urlsafe_b64encode(f"task:{task.number}".encode()).decode()


def number_of(cursor: str) -> int:
    """The task number in a cursor; raises `InvalidCursorError`."""
    try:
        kind, number = base64.urlsafe_b64decode(cursor.encode()).decode().split(":")
        if kind != "task":
            raise InvalidCursorError(cursor)
        if not 0 <= int(number) < LARGEST_NUMBER:
            raise InvalidCursorError(cursor)
        return int(number)
    except (ValueError, binascii.Error) as exc:
        raise InvalidCursorError(cursor) from exc


def conditions(filter: TaskFilter, project: str) -> list[ColumnElement[bool]]:
    """What a row of the table must fulfil to be listed in a project."""
    return [TASKS.c.project == project, *chosen(filter)]


def chosen(filter: TaskFilter) -> list[ColumnElement[bool]]:
    """What a row of the table must fulfil to match."""
    found: list[ColumnElement[bool]] = []
    if filter.providers:
        found.append(TASKS.c.provider.in_(filter.providers))
    if filter.statuses:
        found.append(TASKS.c.status.in_(filter.statuses))
    if filter.created_after is not None:
        found.append(TASKS.c.created_at >= filter.created_after)
    if filter.created_before is not None:
        found.append(TASKS.c.created_at < filter.created_before)
    return found


def matches(filter: TaskFilter, task: TaskRecord, states: Iterable[TaskStatus]) -> bool:
    """Whether a task would be listed in one of these states."""
    if filter.providers and task.provider not in filter.providers:
        return False
    if filter.created_after is not None and task.created_at < filter.created_after:
        return False
    if filter.created_before is not None and task.created_at >= filter.created_before:
        return False
    return not filter.statuses or any(status in filter.statuses for status in states)


def finished(images: Iterable[ImageRecord]) -> list[ImageRecord]:
    """The finished pictures among those of one task: a preview only while the picture has not been bought."""
    whole = [image for image in images if image.kind is not ImageKind.PARTIAL]
    bought = {image.index for image in whole if image.kind is ImageKind.FINAL}
    return [image for image in whole if image.kind is ImageKind.FINAL or image.index not in bought]


def images_in(connection: Connection, changes: Iterable[Change]) -> dict[str, ImageRecord]:
    """The pictures that changes are about, by their ids."""
    wanted = {image_id for change in changes if (image_id := image_id_of(change)) is not None}
    rows = connection.execute(select(IMAGES).where(IMAGES.c.id.in_(wanted))) if wanted else ()
    return {row.id: image_of(row) for row in rows}


class History:
    """What has happened, for one project."""

    def __init__(self, database: Database, project: str = DEFAULT_PROJECT) -> None:
        self._database = database
        self._project = project

    async def task(self, task_id: str) -> TaskRecord | None:
        """The task with this id."""
        return await self._database.read(lambda connection: self._task(connection, task_id))

    async def page(self, request: PageRequest) -> Page:
        """One page of the list of tasks. Tasks that arrive meanwhile neither shift nor repeat anything."""
        wanted = conditions(request.filter, self._project)
        number = TASKS.c.number
        after, before = (number.__lt__, number.__gt__) if request.newest_first else (number.__gt__, number.__lt__)
        if request.after is not None:
            wanted.append(after(number_of(request.after)))
        if request.before is not None:
            wanted.append(before(number_of(request.before)))
        descending = request.newest_first is not request.from_end
        statement = (
            select(TASKS).where(*wanted).order_by(number.desc() if descending else number.asc()).limit(request.size + 1)
        )
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        more, tasks = len(rows) > request.size, [task_of(row) for row in rows[: request.size]]
        if request.from_end:
            return Page(tasks[::-1], has_next=request.before is not None, has_previous=more)
        return Page(tasks, has_next=more, has_previous=request.after is not None)

    async def count(self, filter: TaskFilter) -> int:
        """How many tasks match."""
        statement = select(func.count()).select_from(TASKS).where(*conditions(filter, self._project))
        return await self._database.read(lambda connection: connection.execute(statement).scalar_one())

    async def image(self, image_id: str) -> ImageRecord | None:
        """The picture with this id."""
        return next(iter(await self._images(IMAGES.c.id == image_id)), None)

    async def images_of(self, task_ids: Iterable[str]) -> dict[str, list[ImageRecord]]:
        """All pictures of each of these tasks, in order."""
        found: dict[str, list[ImageRecord]] = {task_id: [] for task_id in task_ids}
        for image in await self._images(IMAGES.c.task_id.in_(list(found))):
            found[image.task_id].append(image)
        return found

    async def events(
        self, task_id: str, after: int, most: int | None = None
    ) -> tuple[TaskRecord | None, list[TaskEvent]]:
        """A task and its events after a sequence number, read in one view: the events end where the row stands, unless
        there are more than wanted."""
        return await self._database.read(lambda connection: self._events(connection, task_id, after, most))

    def _events(
        self, connection: Connection, task_id: str, after: int, most: int | None
    ) -> tuple[TaskRecord | None, list[TaskEvent]]:
        task = self._task(connection, task_id)
        if task is None or task.last_sequence <= after:
            return task, []
        events = EVENTS_AFTER if most is None else EVENTS_AFTER.limit(most)
        records = connection.execute(events, {"task_id": task_id, "after": after}).all()
        changes = [change_of(record.kind, record.payload) for record in records]
        images = images_in(connection, changes)
        return task, [
            TaskEvent(task, record.sequence, record.at, change, images.get(image_id_of(change) or ""))
            for record, change in zip(records, changes, strict=True)
        ]

    def _task(self, connection: Connection, task_id: str) -> TaskRecord | None:
        row = connection.execute(TASK, {"id": task_id, "project": self._project}).one_or_none()
        return None if row is None else task_of(row)

    async def _images(self, *conditions: ColumnElement[bool]) -> list[ImageRecord]:
        order = (IMAGES.c.index, IMAGES.c.partial_image_index, IMAGES.c.number)
        statement = select(IMAGES).where(IMAGES.c.project == self._project, *conditions).order_by(*order)
        rows = await self._database.read(lambda connection: connection.execute(statement).all())
        return [image_of(row) for row in rows]

"""`task` and `tasks`: the history."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.darkroom import Darkroom
from tasks.events import TaskEvent
from tasks.history import PAGE_LIMIT, Page, PageRequest, TaskFilter
from tasks.records import ImageRecord, TaskRecord

DEFAULT_PAGE = 20
EVENTS_LIMIT = 1000


class InvalidPageError(ValueError):
    """The page arguments contradict each other, or ask for too much."""


async def task(darkroom: Darkroom, task_id: str) -> TaskRecord | None:
    """One task; None if there is none with this id."""
    return await darkroom.history.task(task_id)


async def queue_position(darkroom: Darkroom, task: TaskRecord) -> int | None:
    """The place of a task in the queue of its provider, from 1; None when it is not waiting."""
    return await darkroom.queue_position(task)


async def events(darkroom: Darkroom, task: TaskRecord, after: int, first: int) -> list[TaskEvent]:
    """The events of a task with a sequence above `after`, oldest first. Raises `InvalidPageError`."""
    if not 1 <= first <= EVENTS_LIMIT:
        raise InvalidPageError(f"`first` is {first}; it must be between 1 and {EVENTS_LIMIT}.")
    _, found = await darkroom.history.events(task.id, max(after, 0), first)
    return found


async def image(darkroom: Darkroom, image_id: str) -> ImageRecord | None:
    """One picture; None if there is none with this id."""
    return await darkroom.history.image(image_id)


async def tasks(
    darkroom: Darkroom,
    *,
    first: int | None,
    after: str | None,
    last: int | None,
    before: str | None,
    newest_first: bool,
    filter: TaskFilter,
) -> Page:
    """A page of the history. Raises `InvalidPageError`, or `tasks.errors.InvalidCursorError`."""
    if first is not None and last is not None:
        raise InvalidPageError(f"Pass `first` ({first}) or `last` ({last}), not both.")
    name, size = ("last", last) if last is not None else ("first", DEFAULT_PAGE if first is None else first)
    if not 1 <= size <= PAGE_LIMIT:
        raise InvalidPageError(f"`{name}` is {size}; it must be between 1 and {PAGE_LIMIT}.")
    return await darkroom.history.page(
        PageRequest(
            size=size,
            after=after,
            before=before,
            from_end=last is not None,
            newest_first=newest_first,
            filter=filter,
        )
    )


async def unknown_provider(darkroom: Darkroom, names: Iterable[str]) -> str | None:
    """The first of these that is no provider and has not been one of any task either; None if all are known."""
    for name in dict.fromkeys(names):
        if name not in darkroom.definitions and not await _has_tasks(darkroom, name):
            return name
    return None


async def _has_tasks(darkroom: Darkroom, provider: str) -> bool:
    if not (provider.isascii() and provider.isidentifier()):
        return False  # what no database need be asked about, and one could not be: NUL
    page = await darkroom.history.page(PageRequest(size=1, filter=TaskFilter(providers=[provider])))
    return bool(page.tasks)

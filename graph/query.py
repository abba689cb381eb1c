"""The queries."""

from __future__ import annotations

from typing import Annotated

import strawberry

import resolvers.providers
import resolvers.tasks
from graph.context import Info
from graph.errors import RequestError
from graph.ids import decode, key
from graph.inputs import TaskFilterInput, TaskOrder
from graph.types.connection import TaskConnection, connection_of
from graph.types.image import Image, image_of
from graph.types.node import Node
from graph.types.provider import Provider, provider_of
from graph.types.task import Task, task_of
from tasks.errors import InvalidCursorError
from tasks.history import TaskFilter


@strawberry.type(description="Reading. Nothing here changes anything, or spends money.")
class Query:
    """Root of all queries."""

    @strawberry.field(description="Anything with an id. An unknown id is null, with an error `NOT_FOUND`.")
    async def node(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The global id.")]
    ) -> Node | None:
        """Relay's refetch field."""
        kind, _ = decode(id)
        if kind == "Image":
            return await _image(info, id)
        return await _task(info, id)

    @strawberry.field(description="One task. An unknown id is null, with an error `NOT_FOUND`.")
    async def task(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The task's id.")]
    ) -> Task | None:
        """By id."""
        return await _task(info, id)

    @strawberry.field(description="The history: a page of tasks, newest first. New tasks neither shift nor repeat it.")
    async def tasks(
        self,
        info: Info,
        first: Annotated[
            int | None, strawberry.argument(description="How many from the start, 1–100; 20 when nothing is said.")
        ] = None,
        after: Annotated[
            str | None, strawberry.argument(description="Only what comes after this cursor (an `endCursor`).")
        ] = None,
        last: Annotated[int | None, strawberry.argument(description="How many from the end, 1–100.")] = None,
        before: Annotated[
            str | None, strawberry.argument(description="Only what comes before this cursor (a `startCursor`).")
        ] = None,
        filter: Annotated[TaskFilterInput | None, strawberry.argument(description="Which tasks.")] = None,
        order_by: Annotated[TaskOrder, strawberry.argument(description="In which order.")] = TaskOrder.NEWEST_FIRST,
    ) -> TaskConnection:
        """A keyset connection."""
        conditions = await filter.conditions(info.context.darkroom) if filter else TaskFilter()
        try:
            page = await resolvers.tasks.tasks(
                info.context.darkroom,
                first=first,
                after=after,
                last=last,
                before=before,
                newest_first=order_by is TaskOrder.NEWEST_FIRST,
                filter=conditions,
            )
        except InvalidCursorError as exc:
            raise RequestError("INVALID_CURSOR", str(exc)) from exc
        except resolvers.tasks.InvalidPageError as exc:
            raise RequestError("INVALID_PAGE", str(exc)) from exc
        return connection_of(page, conditions)

    @strawberry.field(description="Every provider, with what it can do and all its parameters.")
    def providers(self, info: Info) -> list[Provider]:
        """The catalogue."""
        return [provider_of(entry) for entry in resolvers.providers.providers(info.context.darkroom)]


async def _task(info: Info, id: str) -> Task:
    record = await resolvers.tasks.task(info.context.darkroom, key(id, "Task"))
    if record is None:
        raise unknown(id, "task")
    return task_of(record)


async def _image(info: Info, id: str) -> Image:
    record = await resolvers.tasks.image(info.context.darkroom, key(id, "Image"))
    if record is None:
        raise unknown(id, "picture")
    return image_of(record)


def unknown(id: str, noun: str) -> RequestError:
    """The answer to an id that looks right, but belongs to nothing."""
    return RequestError("NOT_FOUND", f"There is no {noun} with the id {id!r}. Query `tasks` for those there are.")

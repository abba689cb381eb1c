"""`TaskConnection`: a page of the history (the Relay connection specification)."""

from __future__ import annotations

import strawberry

from graph.context import Info
from graph.types.task import Task, task_of
from tasks.history import Page, TaskFilter, cursor_of


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    """The Relay type."""

    has_next_page: bool = strawberry.field(description="Whether more follow; pass `endCursor` as `after` to get them.")
    has_previous_page: bool = strawberry.field(
        description="Whether some come before; pass `startCursor` as `before` to get them."
    )
    start_cursor: str | None = strawberry.field(description="The cursor of the first task on the page.")
    end_cursor: str | None = strawberry.field(description="The cursor of the last task on the page.")


@strawberry.type(description="A task at its place in the list.")
class TaskEdge:
    """The Relay type."""

    cursor: str = strawberry.field(description="Its place; stays right while new tasks arrive.")
    node: Task = strawberry.field(description="The task.")


@strawberry.type(description="A page of tasks.")
class TaskConnection:
    """The Relay type."""

    filter: strawberry.Private[TaskFilter]
    edges: list[TaskEdge] = strawberry.field(description="The tasks of this page, with their cursors.")
    page_info: PageInfo = strawberry.field(description="Where this page lies.")

    @strawberry.field(description="The tasks of this page.")
    def nodes(self) -> list[Task]:
        """The edges without their cursors."""
        return [edge.node for edge in self.edges]

    @strawberry.field(description="How many tasks there are on all pages together. Counted only when it is selected.")
    async def total_count(self, info: Info) -> int:
        """Matches of the filter."""
        return await info.context.darkroom.history.count(self.filter)


def connection_of(page: Page, filter: TaskFilter) -> TaskConnection:
    """The schema's view of a page."""
    edges = [TaskEdge(cursor=cursor_of(task), node=task_of(task)) for task in page.tasks]
    return TaskConnection(
        filter=filter,
        edges=edges,
        page_info=PageInfo(
            has_next_page=page.has_next,
            has_previous_page=page.has_previous,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=edges[-1].cursor if edges else None,
        ),
    )

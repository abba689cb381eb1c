"""The mutations."""

from __future__ import annotations

from typing import Annotated, TypeAlias, cast

import strawberry
from pydantic import JsonValue

import resolvers.generations
from graph.context import Info
from graph.errors import IdempotencyConflictError, ValidationError
from graph.inputs import StartGenerationInput
from graph.types.task import Task, task_of


@strawberry.type(description="The task has been stored and queued.")
class StartGenerationSuccess:
    """The good result of `startGeneration`."""

    task: Task = strawberry.field(
        description="The new task, or the first one with this idempotency key. Watch it with `taskEvents`."
    )


StartGenerationResult: TypeAlias = Annotated[
    StartGenerationSuccess | ValidationError | IdempotencyConflictError,
    strawberry.union("StartGenerationResult", description="What became of `startGeneration`."),
]


@strawberry.type(description="Changing something. Problems that a client can mend come back as data.")
class Mutation:
    """Root of all mutations."""

    @strawberry.mutation(
        description="Start a generation. Answers as soon as the task is stored, long before the picture is there."
    )
    async def start_generation(
        self,
        info: Info,
        input: Annotated[StartGenerationInput, strawberry.argument(description="What to generate.")],
    ) -> StartGenerationResult:
        """One click, one task."""
        provider, request = input.request.chosen
        record = await resolvers.generations.start_generation(
            info.context.darkroom,
            provider=provider,
            request=request,
            idempotency_key=input.idempotency_key,
            name=input.name,
            tags=input.tags or [],
            metadata=cast(JsonValue, input.metadata),
        )
        return StartGenerationSuccess(task=task_of(record))

"""The inputs of queries and mutations. The providers' own parameters are in `graph.requests`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, TypeAlias

import orjson
import strawberry
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, create_model
from strawberry.scalars import JSON

from graph import requests  # noqa: F401 - makes the request models inputs of the schema
from graph.enums import TaskStatus, enum
from graph.errors import RequestError, keep_allowed
from providers.described import DescribedEnum
from providers.registry import PROVIDERS
from tasks.history import TaskFilter

METADATA_LIMIT = 16 * 1024
"""Most bytes of JSON a client can keep on a task."""


Tag = Annotated[str, StringConstraints(min_length=1, max_length=64)]


def _small(metadata: object) -> object:
    try:
        size = len(orjson.dumps(metadata))
    except TypeError as exc:
        raise ValueError(f"The metadata cannot be kept as JSON: {exc}.") from exc
    if size > METADATA_LIMIT:
        raise ValueError(f"The metadata has {size:,} bytes as JSON; at most {METADATA_LIMIT:,} are kept on a task.")
    return metadata


class OneProvider(BaseModel):
    """A request to exactly one provider."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @property
    def chosen(self) -> tuple[str, BaseModel]:
        """The name of the provider, and its parameters."""
        for name in type(self).model_fields:
            if (maybe := getattr(self, name)) is not None:
                return name, maybe.value
        raise AssertionError("GraphQL lets exactly one field through")


if TYPE_CHECKING:
    GenerationRequest: TypeAlias = OneProvider
else:
    GenerationRequest = strawberry.pydantic.input(
        create_model(
            "GenerationRequest",
            __base__=OneProvider,
            **{
                # One field per provider, named like it: `openaiImages`, `placewise`, `allImages`.
                one.name: (strawberry.Maybe[one.request], Field(description=f"{one.title}: {one.description}"))
                for one in PROVIDERS
            },
        ),
        one_of=True,
        description="Which provider to ask, and what: exactly one of the fields.",
    )


@strawberry.pydantic.input(description="A generation to start.")
class StartGenerationInput(BaseModel):
    """The input of `startGeneration`."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid", frozen=True, arbitrary_types_allowed=True)

    request: GenerationRequest
    """Which provider to ask, and what."""
    idempotency_key: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    """Any text of your own, of 1–200 characters. The same key with the same input answers with the task of the first
    call and starts nothing, so a retry can never pay twice."""
    name: Annotated[str, StringConstraints(max_length=200)] | None = None
    """A name to find the task by, of up to 200 characters."""
    tags: Annotated[list[Tag], Field(max_length=20)] | None = None
    """Up to 20 tags of 1–64 characters to group tasks by."""
    metadata: Annotated[JSON, AfterValidator(_small)] | None = None
    """Anything you want to find again on the task, up to 16 KiB of JSON."""


keep_allowed(StartGenerationInput)


@enum
class TaskOrder(DescribedEnum):
    """The order of a list of tasks."""

    NEWEST_FIRST = "newest_first", "The task that was started last comes first."
    OLDEST_FIRST = "oldest_first", "The task that was started first comes first."


@strawberry.input(name="TaskFilter", description="Which tasks to list. Conditions that are left out match every task.")
class TaskFilterInput:
    """The filter of `tasks`."""

    provider: list[str] | None = strawberry.field(default=None, description="Made by one of these providers.")
    status: list[TaskStatus] | None = strawberry.field(default=None, description="In one of these states.")
    created_after: datetime | None = strawberry.field(default=None, description="Started then or later.")
    created_before: datetime | None = strawberry.field(default=None, description="Started before then.")

    def conditions(self) -> TaskFilter:
        """The same for the rooms below. Raises `RequestError` for a time without a zone."""
        for name, time in (("createdAfter", self.created_after), ("createdBefore", self.created_before)):
            if time is not None and time.tzinfo is None:
                raise RequestError(
                    "INVALID_TIME", f"`{name}` is {time.isoformat()}, without a time zone; add one, like `Z` for UTC."
                )
        return TaskFilter(
            providers=self.provider or (),
            statuses=self.status or (),
            created_after=self.created_after,
            created_before=self.created_before,
        )

"""The inputs of queries and mutations. The providers' own parameters are in `graph.requests`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import orjson
import strawberry
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from strawberry.scalars import JSON

from graph import requests  # noqa: F401 - makes the request models part of the schema
from graph.enums import TaskStatus, enum
from graph.errors import RequestError, keep_allowed
from providers.described import DescribedEnum
from providers.openai_images.request import OpenAIImagesRequest
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


@strawberry.pydantic.input(one_of=True, description="Which provider to ask, and what: exactly one of the fields.")
class GenerationRequest(BaseModel):
    """One field per provider, named like the provider."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid", frozen=True)

    openai_images: strawberry.Maybe[OpenAIImagesRequest]
    """An OpenAI-style images API: OpenAI itself, the TrueFoundry gateway, or any other that speaks
    `POST …/images/generations`."""

    @property
    def chosen(self) -> tuple[str, BaseModel]:
        """The name of the provider, and its parameters."""
        for name in type(self).model_fields:
            if (maybe := getattr(self, name)) is not None:
                return name, maybe.value
        raise AssertionError("GraphQL lets exactly one field through")


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

"""The inputs of queries and mutations. The providers' own parameters are in `graph.requests`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Self, TypeAlias

import orjson
import strawberry
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError
from strawberry.scalars import JSON

import resolvers.tasks
from graph import requests  # noqa: F401 - makes the request models inputs of the schema
from graph.enums import TaskStatus, enum
from graph.errors import RequestError
from graph.problems import explain
from providers.described import DescribedEnum
from providers.registry import PROVIDERS
from tasks.darkroom import Darkroom
from tasks.history import TaskFilter

NAMES = tuple(one.name for one in PROVIDERS)
"""The providers there are."""
METADATA_LIMIT = 16 * 1024
"""Most bytes of JSON a client can keep on a task."""
METADATA_DEPTH = 32
"""Most levels of lists and objects in it."""
NUL = PydanticCustomError("nul_character", "The text has a NUL character (U+0000), which cannot be kept. Leave it out.")


def _plain(value: object, depth: int) -> None:
    """Refuse what cannot be given back the way it came."""
    if depth < 0:
        raise ValueError(f"The metadata is nested more than {METADATA_DEPTH} levels deep.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("The metadata has a number that JSON does not know.")
    if isinstance(value, int) and abs(value) >= 1 << 63:
        raise ValueError("The metadata has a whole number of more than 64 bits; send it as text.")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _plain(inner, depth - 1)


def _nul(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every text with a NUL character in it, with its place: databases cannot keep one."""
    if isinstance(value, str) and "\0" in value:
        yield path, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _nul(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _nul(inner, (*path, index))


IdempotencyKey = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64)]


def _small(metadata: object) -> object:
    _plain(metadata, METADATA_DEPTH)
    try:
        size = len(orjson.dumps(metadata))
    except TypeError as exc:
        raise ValueError(f"The metadata cannot be kept as JSON: {exc}.") from exc
    if size > METADATA_LIMIT:
        raise ValueError(f"The metadata has {size:,} bytes as JSON; at most {METADATA_LIMIT:,} are kept on a task.")
    return metadata


class Clean(BaseModel):
    """An input whose texts can be kept."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @model_validator(mode="wrap")
    @classmethod
    def _without_nul(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if found := [InitErrorDetails(type=NUL, loc=path, input=text) for path, text in _nul(data)]:
            raise ValidationError.from_exception_data(cls.__name__, found)
        return handler(data)


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
class StartGenerationInput(Clean):
    """The input of `startGeneration`."""

    request: GenerationRequest
    """Which provider to ask, and what."""
    idempotency_key: IdempotencyKey | None = None
    """Any text of your own, of 1–200 characters. The same key with the same input answers with the task of the first
    call and starts nothing, so a retry can never pay twice."""
    name: Annotated[str, StringConstraints(max_length=200)] | None = None
    """A name to find the task by, of up to 200 characters."""
    tags: Annotated[list[Tag], Field(max_length=20)] | None = None
    """Up to 20 tags of 1–64 characters to group tasks by."""
    metadata: Annotated[JSON, AfterValidator(_small)] | None = None
    """Anything you want to find again on the task, up to 16 KiB of JSON, 32 levels deep."""


@strawberry.pydantic.input(description="A task to start again.")
class RetryTaskInput(Clean):
    """The input of `retryTask`."""

    id: strawberry.ID
    """The id of a task that has ended."""
    idempotency_key: IdempotencyKey | None = None
    """Any text of your own, of 1–200 characters. The same key answers with the same new task, so that a second click
    does not pay twice."""


explain(StartGenerationInput)
explain(RetryTaskInput)


@enum
class TaskOrder(DescribedEnum):
    """The order of a list of tasks."""

    NEWEST_FIRST = "newest_first", "The task that was started last comes first."
    OLDEST_FIRST = "oldest_first", "The task that was started first comes first."


@strawberry.input(name="TaskFilter", description="Which tasks to list. Conditions that are left out match every task.")
class TaskFilterInput:
    """The filter of `tasks`."""

    provider: list[str] | None = strawberry.field(
        default=None, description=f"Made by one of these providers, by `name`: {', '.join(NAMES)}."
    )
    status: list[TaskStatus] | None = strawberry.field(default=None, description="In one of these states.")
    created_after: datetime | None = strawberry.field(default=None, description="Started then or later.")
    created_before: datetime | None = strawberry.field(default=None, description="Started before then.")

    async def conditions(self, darkroom: Darkroom) -> TaskFilter:
        """The same for the rooms below. Raises `RequestError` for a provider that never was, for a time without a zone
        and for times in which nothing can be."""
        for name, time in (("createdAfter", self.created_after), ("createdBefore", self.created_before)):
            if time is not None:
                _check_time(name, time)
        if self.created_after and self.created_before and self.created_after > self.created_before:
            raise RequestError(
                "INVALID_TIME",
                f"`createdAfter` ({self.created_after.isoformat()}) is later than `createdBefore` "
                f"({self.created_before.isoformat()}), so nothing can be in between. Exchange them, or leave one out.",
            )
        # Whatever a client repeats is looked for once.
        providers, statuses = tuple(dict.fromkeys(self.provider or ())), tuple(dict.fromkeys(self.status or ()))
        unknown = await resolvers.tasks.unknown_provider(darkroom, providers)
        if unknown is not None:
            shown = unknown if len(unknown) <= 80 else unknown[:77] + "…"
            raise RequestError(
                "INVALID_PROVIDER", f"{shown!r} in `provider` is not a provider; there are {', '.join(NAMES)}."
            )
        return TaskFilter(
            providers=providers,
            statuses=statuses,
            created_after=self.created_after,
            created_before=self.created_before,
        )


def _check_time(name: str, time: datetime) -> None:
    if time.tzinfo is None:
        raise RequestError(
            "INVALID_TIME", f"`{name}` is {time.isoformat()}, without a time zone; add one, like `Z` for UTC."
        )
    try:
        time.astimezone(UTC)
    except OverflowError as exc:
        raise RequestError("INVALID_TIME", f"`{name}` is {time.isoformat()}, beyond all calendars.") from exc

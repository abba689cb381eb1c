"""`Task`: one generation, from the click to its end."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry
from pydantic import TypeAdapter
from strawberry.scalars import JSON
from strawberry.utils.str_converters import to_camel_case

import resolvers.providers
import resolvers.tasks
from graph.context import Info
from graph.enums import ImageKind, ProgressOrigin, TaskStatus
from graph.errors import RequestError
from graph.ids import encode
from graph.requests import TaskRequest, requested_of
from graph.types.cancellation import Cancellation, cancellation_of
from graph.types.failure import Failure, failure_of
from graph.types.image import Image, image_of
from graph.types.node import Node
from graph.types.provider import Provider, provider_of
from providers.contract import Effective
from tasks.cancellation import CANCELLATION
from tasks.events import NOTICES, PROGRESSED, USAGE, NoticeGiven, Progressed, UsageReported
from tasks.failure import FAILURE
from tasks.history import finished
from tasks.records import JsonObject, TaskRecord

if TYPE_CHECKING:
    from graph.types.events import TaskEvent

EFFECTIVE: TypeAdapter[Effective] = TypeAdapter(Effective)


@strawberry.type(description="How far a task is.")
class Progress:
    """The newest progress report."""

    fraction: float | None = strawberry.field(description="From 0 to 1; null when only the message is known.")
    origin: ProgressOrigin = strawberry.field(description="Whether the number was reported or estimated.")
    message: str | None = strawberry.field(description="What is going on, in words.")


@strawberry.type(description="What the provider counted. Unknown numbers are null, never 0.")
class Usage:
    """Usage as reported."""

    input_tokens: int | None = strawberry.field(description="Tokens of the prompt.")
    output_tokens: int | None = strawberry.field(description="Tokens of the pictures, partial ones included.")
    total_tokens: int | None = strawberry.field(description="All tokens.")
    reported: JSON = strawberry.field(description="The provider's own object, unchanged.")


@strawberry.type(description="Something worth knowing that is no failure, like a value that has no effect.")
class Notice:
    """A remark on a task."""

    message: str = strawberry.field(description="What happened, for a person.")
    parameter: str | None = strawberry.field(description="The parameter it is about, if it is about one.")


@strawberry.type(
    description="What the provider made of the request. Null where it did not say; never a guess of this server."
)
class EffectiveRequest:
    """Beside `Task.request`, which is what was asked."""

    model: str | None = strawberry.field(description="The model that really answered.")
    revised_prompt: str | None = strawberry.field(description="The prompt as the provider rewrote it.")
    size: str | None = strawberry.field(description="The size of the picture, as `WIDTHxHEIGHT`.")
    quality: str | None = strawberry.field(description="The quality it was made in.")
    output_format: str | None = strawberry.field(description="The file format it was delivered in.")
    background: str | None = strawberry.field(description="The background it was given.")


@strawberry.type(description="One generation, from the click to its end. It goes on whether or not anybody watches.")
class Task(Node):
    """A row of `task`."""

    record: strawberry.Private[TaskRecord]
    number: int = strawberry.field(description="Its readable number; counts up with every task of this server.")
    status: TaskStatus = strawberry.field(description="Where it is in its life.")
    sandbox: bool = strawberry.field(description="Whether the built-in simulator makes it. It costs nothing.")
    prompt: str = strawberry.field(description="What was asked for, in words.")
    model: str | None = strawberry.field(description="The model that was asked for.")
    name: str | None = strawberry.field(description="The name the client gave it.")
    tags: list[str] = strawberry.field(description="The tags the client gave it.")
    metadata: JSON | None = strawberry.field(description="Whatever the client wanted to find again on it.")
    idempotency_key: str | None = strawberry.field(description="The key it was started with.")
    provider_task_id: str | None = strawberry.field(description="The provider's own id of it, where it gives one.")
    last_sequence: int = strawberry.field(
        description="The sequence of its newest event: watch with `after` set to it to get only what is new."
    )
    attempt: int = strawberry.field(
        description="How many times its request has been sent. More than once only where the provider had turned it "
        "away before anything was made."
    )
    retry_at: datetime | None = strawberry.field(description="When it is sent again, while it waits for that.")
    cancel_requested_at: datetime | None = strawberry.field(description="When somebody first wanted it canceled.")
    created_at: datetime = strawberry.field(description="When it was started.")
    submitted_at: datetime | None = strawberry.field(description="When the request that pays left this server.")
    accepted_at: datetime | None = strawberry.field(description="When the provider accepted it.")
    finished_at: datetime | None = strawberry.field(description="When it ended.")

    @strawberry.field(description="The remote API that makes it.")
    def provider(self, info: Info) -> Provider:
        """The catalogue's entry."""
        return provider_of(resolvers.providers.provider(info.context.darkroom, self.record.provider))

    @strawberry.field(description="The parameters as they were asked for.")
    def request(self) -> TaskRequest:
        """What the client sent."""
        return requested_of(self.record.provider, self.record.request)

    @strawberry.field(description="What the provider made of the parameters; null until it says so.")
    def effective(self) -> EffectiveRequest | None:
        """What the provider answered."""
        stored = self.record.effective
        return None if stored is None else effective_of(EFFECTIVE.validate_python(stored))

    @strawberry.field(description="How far it is; null until something is known.")
    def progress(self) -> Progress | None:
        """The newest report."""
        stored = self.record.progress
        return None if stored is None else progress_of(PROGRESSED.validate_python(stored))

    @strawberry.field(description="What the provider counted; null until it says so.")
    def usage(self) -> Usage | None:
        """Usage as reported."""
        stored = self.record.usage
        return None if stored is None else usage_of(USAGE.validate_python(stored))

    @strawberry.field(description="Remarks that are no failure, oldest first.")
    def notices(self) -> list[Notice]:
        """What is worth knowing."""
        return [notice_of(found) for found in NOTICES.validate_python(self.record.notices)]

    @strawberry.field(description="Why it failed; null unless it did.")
    def failure(self) -> Failure | None:
        """The stored failure."""
        stored = self.record.failure
        return None if stored is None else failure_of(FAILURE.validate_python(stored))

    @strawberry.field(description="What canceling it achieved; null unless somebody canceled it.")
    def cancellation(self) -> Cancellation | None:
        """The stored cancellation."""
        stored = self.record.cancellation
        return None if stored is None else cancellation_of(CANCELLATION.validate_python(stored))

    @strawberry.field(
        description="Its place among the tasks that wait for the same provider, 1 for the next one; null unless it "
        "waits. Projects take turns, so it may move back as well."
    )
    async def queue_position(self, info: Info) -> int | None:
        """Counted now."""
        if self.record.status is not TaskStatus.QUEUED:
            return None
        return await resolvers.tasks.queue_position(info.context.darkroom, self.record)

    @strawberry.field(description="What has happened to it, oldest first: the same events that `taskEvents` sends.")
    async def events(
        self,
        info: Info,
        after: Annotated[int, strawberry.argument(description="The sequence of the last event already seen.")] = 0,
        first: Annotated[
            int, strawberry.argument(description="How many at most, up to 1000; go on with `after` for more.")
        ] = 100,
    ) -> list[Annotated[TaskEvent, strawberry.lazy("graph.types.events")]]:
        """The log."""
        from graph.types.events import event_of  # events knows Task

        try:
            found = await resolvers.tasks.events(info.context.darkroom, self.record, after, first)
        except resolvers.tasks.InvalidPageError as exc:
            raise RequestError("INVALID_PAGE", str(exc)) from exc
        return [event_of(event) for event in found]

    @strawberry.field(description="The task that this one repeats.")
    async def retried_from(self, info: Info) -> Task | None:
        """The older one."""
        if self.record.retried_from is None:
            return None
        found = await resolvers.tasks.task(info.context.darkroom, self.record.retried_from)
        return None if found is None else task_of(found)

    @strawberry.field(
        description="Its finished pictures, in order; previews where the provider sells them. They are kept even "
        "when it failed later."
    )
    async def images(self, info: Info) -> list[Image]:
        """Final pictures."""
        return [image_of(one) for one in finished(await info.context.images.load(self.record.id))]

    @strawberry.field(description="The earlier stages of its pictures that were received, in order.")
    async def partial_images(self, info: Info) -> list[Image]:
        """Partial pictures."""
        images = await info.context.images.load(self.record.id)
        return [image_of(one) for one in images if one.kind is ImageKind.PARTIAL]


def task_of(record: TaskRecord) -> Task:
    """The schema's view of a stored task."""
    return Task(
        id=strawberry.ID(encode("Task", record.id)),
        record=record,
        number=record.number or 0,
        status=record.status,
        sandbox=record.sandbox,
        prompt=record.prompt,
        model=record.model,
        name=record.name,
        tags=record.tags,
        metadata=None if record.client_metadata is None else JSON(record.client_metadata),
        idempotency_key=record.idempotency_key,
        provider_task_id=_provider_task_id(record.submission),
        last_sequence=record.last_sequence,
        attempt=record.attempt,
        retry_at=record.retry_at,
        cancel_requested_at=record.cancel_requested_at,
        created_at=record.created_at,
        submitted_at=record.submitted_at,
        accepted_at=record.accepted_at,
        finished_at=record.finished_at,
    )


def _provider_task_id(submission: JsonObject | None) -> str | None:
    found = (submission or {}).get("id")
    return None if found is None else str(found)


def progress_of(found: Progressed) -> Progress:
    """The schema's view of a progress report."""
    return Progress(fraction=found.fraction, origin=found.origin, message=found.message)


def usage_of(found: UsageReported) -> Usage:
    """The schema's view of what a provider counted."""
    return Usage(
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        total_tokens=found.total_tokens,
        reported=JSON(found.reported),
    )


def notice_of(found: NoticeGiven) -> Notice:
    """The schema's view of a remark."""
    parameter = None if found.parameter is None else to_camel_case(found.parameter)
    return Notice(message=found.message, parameter=parameter)


def effective_of(found: Effective) -> EffectiveRequest:
    """The schema's view of what a provider made of a request."""
    return EffectiveRequest(
        model=found.model,
        revised_prompt=found.revised_prompt,
        size=found.size,
        quality=found.quality,
        output_format=found.output_format,
        background=found.background,
    )

"""The mutations."""

from __future__ import annotations

from typing import Annotated, TypeAlias, cast

import strawberry
from pydantic import JsonValue

import resolvers.cancellations
import resolvers.generations
import resolvers.purchases
import resolvers.retries
import tasks.failure
from graph.context import Info
from graph.errors import Error, ErrorCode, IdempotencyConflictError, RequestError, ValidationError
from graph.ids import key
from graph.inputs import RetryTaskInput, StartGenerationInput
from graph.query import unknown
from graph.types.cancellation import Cancellation, cancellation_of
from graph.types.failure import Failure, failure_of
from graph.types.image import Image, image_of
from graph.types.task import Task, task_of
from providers.errors import ProviderError
from tasks import errors


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


@strawberry.type(description="The picture has been bought, now or before.")
class PurchaseImageSuccess:
    """The good result of `purchaseImage`."""

    image: Image = strawberry.field(description="The full picture.")


@strawberry.type(
    description="The wish to cancel has been carried out, as far as that is possible; `cancellation` says what it "
    "achieved."
)
class CancelTaskSuccess:
    """The good result of `cancelTask`."""

    task: Task = strawberry.field(
        description="The task as it is now. It is what it was when it had ended before. While its `status` is not a "
        "last one, the wish is recorded, and is carried out as soon as the server that runs the task can."
    )
    cancellation: Cancellation | None = strawberry.field(
        description="What it achieved: `TOO_LATE` where the task had ended before, by itself. Null while the wish is "
        "only recorded."
    )


@strawberry.type(description="A new task has been stored and queued.")
class RetryTaskSuccess:
    """The good result of `retryTask`."""

    task: Task = strawberry.field(description="The new task. Its `retriedFrom` is the old one.")


@strawberry.type(description="There is nothing with this id, or it is no id of what it should be.")
class NotFoundError(Error):
    """An id of nothing."""


def _not_found(why: RequestError) -> NotFoundError:
    return NotFoundError(code=ErrorCode.NOT_FOUND, message=str(why))


@strawberry.type(description="The picture cannot be bought.")
class NotForSaleError(Error):
    """Not a preview, or not of a provider that sells."""


@strawberry.type(description="The provider did not do it.")
class ProviderFailedError(Error):
    """What would be the failure of a task, for something that is no task."""

    failure: Failure = strawberry.field(description="Why, and whether it was billed.")


@strawberry.type(description="The task cannot be started again.")
class NotRetryableError(Error):
    """It has not ended, or nothing of it is missing."""


CancelTaskResult: TypeAlias = Annotated[
    CancelTaskSuccess | NotFoundError,
    strawberry.union("CancelTaskResult", description="What became of `cancelTask`."),
]

RetryTaskResult: TypeAlias = Annotated[
    RetryTaskSuccess | ValidationError | NotFoundError | NotRetryableError | IdempotencyConflictError,
    strawberry.union("RetryTaskResult", description="What became of `retryTask`."),
]

PurchaseImageResult: TypeAlias = Annotated[
    PurchaseImageSuccess | NotFoundError | NotForSaleError | ProviderFailedError,
    strawberry.union("PurchaseImageResult", description="What became of `purchaseImage`."),
]


@strawberry.input(description="A picture to buy.")
class PurchaseImageInput:
    """The input of `purchaseImage`."""

    id: strawberry.ID = strawberry.field(description="The id of an `Image` whose `kind` is PREVIEW.")


@strawberry.input(description="A task to cancel.")
class CancelTaskInput:
    """The input of `cancelTask`."""

    id: strawberry.ID = strawberry.field(description="The id of the task.")


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

    @strawberry.mutation(
        description="Cancel a task: at once while it waits, otherwise as far as its provider allows. Where that cannot "
        "stop, a picture that still arrives is kept, and marked as late. Closing a subscription never cancels anything."
    )
    async def cancel_task(
        self,
        info: Info,
        input: Annotated[CancelTaskInput, strawberry.argument(description="Which task to cancel.")],
    ) -> CancelTaskResult:
        """From whatever node."""
        try:
            record = await resolvers.cancellations.cancel_task(info.context.darkroom, key(input.id, "Task"))
        except RequestError as exc:
            return _not_found(exc)
        if record is None:
            return _not_found(unknown(input.id, "task"))
        achieved = resolvers.cancellations.achieved(record)
        return CancelTaskSuccess(
            task=task_of(record), cancellation=None if achieved is None else cancellation_of(achieved)
        )

    @strawberry.mutation(
        description="Start a task again that ended without all its pictures, as a new task that asks only for the "
        "missing ones. That pays again. A task whose outcome is unknown may have been billed before: look at the "
        "provider's usage page first."
    )
    async def retry_task(
        self,
        info: Info,
        input: Annotated[RetryTaskInput, strawberry.argument(description="Which task to start again.")],
    ) -> RetryTaskResult:
        """Only what is missing."""
        try:
            record = await resolvers.retries.retry_task(
                info.context.darkroom, key(input.id, "Task"), input.idempotency_key
            )
        except errors.NotRetryableError as exc:
            return NotRetryableError(code=ErrorCode.NOT_RETRYABLE, message=str(exc))
        except RequestError as exc:
            return _not_found(exc)
        if record is None:
            return _not_found(unknown(input.id, "task"))
        return RetryTaskSuccess(task=task_of(record))

    @strawberry.mutation(
        description="Buy the full picture behind a preview. That pays the provider, once: doing it again answers with "
        "the picture that has been bought."
    )
    async def purchase_image(
        self,
        info: Info,
        input: Annotated[PurchaseImageInput, strawberry.argument(description="Which picture to buy.")],
    ) -> PurchaseImageResult:
        """One picture, one payment."""
        try:
            record = await resolvers.purchases.purchase_image(info.context.darkroom, key(input.id, "Image"))
        except errors.NotForSaleError as exc:
            return NotForSaleError(code=ErrorCode.NOT_FOR_SALE, message=str(exc))
        except ProviderError as exc:
            failure = failure_of(tasks.failure.failure_of(exc))
            return ProviderFailedError(code=ErrorCode.PROVIDER_FAILED, message=exc.message, failure=failure)
        except RequestError as exc:
            return _not_found(exc)
        if record is None:
            return _not_found(unknown(input.id, "picture"))
        return PurchaseImageSuccess(image=image_of(record))

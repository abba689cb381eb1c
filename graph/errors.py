"""Errors, in their two forms.

What a person can cause and mend in a mutation is data: members of result unions that implement `Error`.
What is wrong with the request itself (an unknown id, a broken cursor) is a GraphQL error with `extensions.code`.
Anything else is a fault of ours: it is logged, and clients see only that it happened.
"""

from __future__ import annotations

import strawberry
from graphql import GraphQLError
from strawberry.pydantic.error import InputValidationError
from strawberry.types import Info
from strawberry.types.field import StrawberryField

from graph.enums import enum
from graph.problems import Detail, place
from providers.described import DescribedEnum
from tasks import errors as task_errors


@enum
class ErrorCode(DescribedEnum):
    """What kind of error it is. Clients branch on it, so members are only ever added."""

    VALIDATION_FAILED = "validation_failed", "One or more input values are not valid; `problems` lists them all."
    IDEMPOTENCY_CONFLICT = "idempotency_conflict", "The idempotency key already belongs to another request."
    NOT_FOUND = "not_found", "There is nothing with this id."
    NOT_FOR_SALE = "not_for_sale", "The picture cannot be bought."
    NOT_RETRYABLE = "not_retryable", "The task cannot be started again."
    PROVIDER_FAILED = "provider_failed", "The provider did not do it; `failure` says why."


class RequestError(GraphQLError):
    """Something about the request itself is wrong. The message says what, and what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, extensions={"code": code})


@strawberry.interface(description="Something that went wrong and that the client can do something about.")
class Error:
    """Member of every mutation's result union."""

    code: ErrorCode = strawberry.field(description="What kind of error it is.")
    message: str = strawberry.field(description="What happened and what to do, for a person.")


@strawberry.type(description="One input value that is not valid.")
class ValidationProblem:
    """One line of a `ValidationError`."""

    path: list[str] = strawberry.field(
        description="Where the value is: the argument, then field names and list indexes as the client wrote them."
    )
    message: str = strawberry.field(description="Which rule the value breaks, and what would be valid.")
    code: str = strawberry.field(description="The rule in one word, like `value_not_supported`.")
    allowed: list[str] | None = strawberry.field(
        description="Every valid value as you write it, where there is a list of them. Null where a range or a rule "
        "decides: `message` has it."
    )


@strawberry.type(description="The input is not valid. Nothing was stored, sent or charged.")
class ValidationError(Error):
    """All problems of an input at once."""

    problems: list[ValidationProblem] = strawberry.field(description="Every problem there is, not only the first.")


@strawberry.type(description="The idempotency key was used before, for another request.")
class IdempotencyConflictError(Error):
    """A retry that is none."""

    task_id: strawberry.ID = strawberry.field(description="The task that the key belongs to.")


class ValidationErrors(strawberry.ExceptionHandler[InputValidationError, ValidationError]):
    """Turns what pydantic found into a `ValidationError`."""

    def handle(self, exception: InputValidationError, *, field: StrawberryField, info: Info) -> ValidationError:
        problems = [
            ValidationProblem(
                path=detail.location,
                message=detail.message,
                code=detail.type,
                allowed=detail.allowed if isinstance(detail, Detail) else None,
            )
            for detail in exception.errors
        ]
        names = ", ".join(dict.fromkeys(place(problem.path) for problem in problems if problem.path))
        count = f"{len(problems)} problems" if len(problems) > 1 else "one problem"
        return ValidationError(
            code=ErrorCode.VALIDATION_FAILED,
            message=f"The input has {count} ({names}). Nothing was stored or sent; mend it and send it again.",
            problems=problems,
        )


class IdempotencyConflicts(strawberry.ExceptionHandler[task_errors.IdempotencyConflictError, IdempotencyConflictError]):
    """Turns a conflict over an idempotency key into data."""

    def handle(
        self, exception: task_errors.IdempotencyConflictError, *, field: StrawberryField, info: Info
    ) -> IdempotencyConflictError:
        from graph.ids import encode  # ids knows RequestError

        return IdempotencyConflictError(
            code=ErrorCode.IDEMPOTENCY_CONFLICT,
            message=str(exception),
            task_id=strawberry.ID(encode("Task", exception.task_id)),
        )


def is_ours(error: GraphQLError) -> bool:
    """Whether an error is a fault of this server, whose text clients must not see."""
    return error.original_error is not None and not isinstance(error.original_error, GraphQLError)

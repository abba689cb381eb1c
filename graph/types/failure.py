"""`Failure`: why a task failed."""

from __future__ import annotations

import strawberry
from strawberry.utils.str_converters import to_camel_case

from graph.enums import FailureCode, Transport
from tasks import failure


@strawberry.type(description="One parameter that the provider refused.")
class ParameterProblem:
    """A line of a refusal."""

    path: list[str] = strawberry.field(
        description="Where it is in the provider's input: field names and list indexes, as the client writes them."
    )
    message: str = strawberry.field(description="Why, in the provider's words.")


@strawberry.type(description="Why a task failed.")
class Failure:
    """The same for every provider."""

    code: FailureCode = strawberry.field(description="What kind of failure it is.")
    message: str = strawberry.field(description="What happened and what to do, for a person.")
    retryable: bool = strawberry.field(description="Whether the same request may succeed when it is made again.")
    billed: bool | None = strawberry.field(description="Whether the provider charges for it; null when nobody knows.")
    transport: Transport = strawberry.field(description="How far the request that pays got.")
    retry_after: float | None = strawberry.field(description="Seconds to wait first, as the provider said.")
    parameter: str | None = strawberry.field(description="The parameter the provider complained about.")
    vendor_code: str | None = strawberry.field(description="The provider's own error code.")
    vendor_message: str | None = strawberry.field(description="The provider's own words.")
    request_id: str | None = strawberry.field(description="What the provider's support asks for.")
    problems: list[ParameterProblem] = strawberry.field(
        description="Every parameter the provider refused, where it names them one by one."
    )


def failure_of(found: failure.Failure) -> Failure:
    """The schema's view of a failure."""
    return Failure(
        code=found.code,
        message=found.message,
        retryable=found.retryable,
        billed=found.billed,
        transport=found.transport,
        retry_after=found.retry_after,
        parameter=found.parameter,
        vendor_code=found.vendor_code,
        vendor_message=found.vendor_message,
        request_id=found.request_id,
        problems=[
            ParameterProblem(path=[to_camel_case(name) for name in one.path], message=one.message)
            for one in found.problems
        ],
    )

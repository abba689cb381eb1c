"""`Cancellation`: what canceling a task achieved."""

from __future__ import annotations

import strawberry

from graph.enums import CancelOutcome, Transport
from tasks import cancellation


@strawberry.type(description="What canceling a task achieved.")
class Cancellation:
    """The same for every provider."""

    outcome: CancelOutcome = strawberry.field(description="What it achieved.")
    billed: bool | None = strawberry.field(description="Whether the provider charges for it; null when nobody knows.")
    transport: Transport = strawberry.field(description="How far the request that pays had got.")
    message: str = strawberry.field(description="What that means, for a person.")


def cancellation_of(found: cancellation.Cancellation) -> Cancellation:
    """The schema's view of a cancellation."""
    return Cancellation(outcome=found.outcome, billed=found.billed, transport=found.transport, message=found.message)

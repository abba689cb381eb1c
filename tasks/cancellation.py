"""What canceling a task achieved, in the form that is stored and shown."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import TypeAdapter

from providers.contract import CancelOutcome
from providers.errors import Transport


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """What canceling achieved. `billed` is None where nobody can know."""

    outcome: CancelOutcome
    billed: bool | None
    transport: Transport
    message: str


CANCELLATION: TypeAdapter[Cancellation] = TypeAdapter(Cancellation)

NEVER_SENT = Cancellation(
    outcome=CancelOutcome.NEVER_SENT,
    billed=False,
    transport=Transport.NOT_SENT,
    message="It was canceled before anything was sent, so nothing is billed.",
)


def stopped(title: str) -> Cancellation:
    """The provider confirmed that it stopped."""
    return Cancellation(
        outcome=CancelOutcome.STOPPED,
        billed=None,
        transport=Transport.ACCEPTED,
        message=f"{title} confirmed that it stopped. What it bills for the part that was done is up to its terms.",
    )


def abandoned(title: str, transport: Transport) -> Cancellation:
    """Nobody waits any more, but the provider goes on."""
    return Cancellation(
        outcome=CancelOutcome.ABANDONED,
        billed=None,
        transport=transport,
        message=f"{title} offers no way to stop a generation: it goes on, and probably bills it. A picture that still "
        "arrives is kept with the task, and marked as late.",
    )


def too_late(title: str) -> Cancellation:
    """It had finished already."""
    return Cancellation(
        outcome=CancelOutcome.TOO_LATE,
        billed=True,
        transport=Transport.ACCEPTED,
        message=f"{title} had finished before the request to stop arrived. Its pictures are kept.",
    )

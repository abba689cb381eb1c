"""What must have come when an order has been carried out. A quick wrong answer is worth nothing."""

from __future__ import annotations

from httpx_sse import ServerSentEvent

from bench.messages import Event
from bench.pictures import KINDS
from bench.upstream import Order


class WrongError(Exception):
    """What came is not what was sent. The figures would mean nothing."""


def check_direct(event: ServerSentEvent, order: Order, number: int) -> None:
    """Frame `number` (from 0) as it was read from the upstream itself; `[DONE]` comes after the last one."""
    due = [f"image_generation.{'completed' if stage == 'final' else 'partial_image'}" for stage in order.frames]
    name = [*due, "message"][number] if number <= len(due) else None
    if event.event != name or (name == "message" and event.data != "[DONE]"):
        raise WrongError(f"Frame {number} of {order} read directly is {event.event!r} {event.data[:80]!r}…")


def check_events(events: list[Event], order: Order, *, placeholder: bool) -> None:
    """All the events of one task: in order, without a gap, every frame of the order among them, and a good end."""
    if failure := next((event.failure for event in events if event.failure), None):
        raise WrongError(f"A task failed with {failure.code}: {failure.message}")
    if [event.sequence for event in events] != list(range(1, len(events) + 1)):
        raise WrongError(f"The events of {order} have a gap or a repeat: {[event.sequence for event in events]}")
    if not events or events[-1].kind != "TaskSucceeded":
        raise WrongError(f"The last event of {order} is {events[-1:]}, and not TaskSucceeded")
    steps = order.partials + 1
    due: list[tuple[str, int, int | None]] = [
        ("ImageReady", number // steps, None)
        if stage == "final"
        else ("PartialImageReady", number // steps, number % steps)
        for number, stage in enumerate(order.frames)
    ]
    frames = [event for event in events if event.image is not None]
    if [(event.kind, event.index, event.partial_image_index) for event in frames] != due:
        raise WrongError(f"The frames of {order} are not those that were sent: {frames}")
    kind = KINDS[order.pictures]
    sides = {(event.image.width, event.image.height) for event in frames if event.image}
    if sides != {(kind.width, kind.height)} or len({event.image.url for event in frames if event.image}) != len(frames):
        raise WrongError(f"The pictures of {order} have the sides {sides}, or share an address.")
    if placeholder and not all(event.image.placeholder for event in frames if event.image):
        raise WrongError(f"A picture of {order} has no placeholder.")

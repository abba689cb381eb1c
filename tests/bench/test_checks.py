"""A wrong answer is noticed, whatever is wrong with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from httpx_sse import ServerSentEvent

from bench.checks import WrongError, check_direct, check_events
from bench.messages import Event, Failure, Image, Message
from bench.upstream import Order

ORDER = Order(pictures="small", images=2, partials=1)
Damage = Callable[[list[Event]], list[Event]]


def image(number: int, **other: int) -> Image:
    return Image.model_validate(
        {"kind": "FINAL", "url": f"/images/{number}", "width": 64, "height": 64, "placeholder": "data:,"} | other
    )


def event(sequence: int, kind: str, **fields: object) -> Event:
    return Event.model_validate({"__typename": kind, "sequence": sequence} | fields)


EVENTS = [
    event(1, "TaskStatusChanged"),
    event(2, "PartialImageReady", index=0, partialImageIndex=0, image=image(1)),
    event(3, "ImageReady", index=0, image=image(2)),
    event(4, "PartialImageReady", index=1, partialImageIndex=0, image=image(3)),
    event(5, "TaskProgressed"),
    event(6, "ImageReady", index=1, image=image(4)),
    event(7, "TaskSucceeded"),
]


def without(number: int) -> Damage:
    return lambda events: [*events[:number], *events[number + 1 :]]


def numbered_anew(events: list[Event]) -> list[Event]:
    return [one.model_copy(update={"sequence": number}) for number, one in enumerate(events, 1)]


def changed(number: int, **fields: object) -> Damage:
    return lambda events: [
        one.model_copy(update=fields) if position == number else one for position, one in enumerate(events)
    ]


def test_what_was_ordered_passes() -> None:
    check_events(EVENTS, ORDER, placeholder=True)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (without(4), "gap or a repeat"),
        (lambda events: [*events[:3], events[2], *events[3:]], "gap or a repeat"),
        (lambda events: [*events[:1], events[2], events[1], *events[3:]], "gap or a repeat"),
        (lambda events: numbered_anew(without(2)(events)), "not those that were sent"),
        (lambda events: numbered_anew([events[0], events[2], events[1], *events[3:]]), "not those that were sent"),
        (changed(3, index=0), "not those that were sent"),
        (without(6), "not TaskSucceeded"),
        (lambda _: [], "not TaskSucceeded"),
        (changed(2, image=image(2, width=63)), "sides"),
        (changed(2, image=image(1)), "share an address"),
        (changed(2, image=image(2).model_copy(update={"placeholder": None})), "no placeholder"),
        (changed(6, failure=Failure(code="TRUNCATED", message="cut off")), "TRUNCATED: cut off"),
    ],
)
def test_events_that_were_not_ordered_are_refused(damage: Damage, complaint: str) -> None:
    with pytest.raises(WrongError, match=complaint):
        check_events(damage(EVENTS), ORDER, placeholder=True)


def sse(name: str, data: str = "{}") -> ServerSentEvent:
    return ServerSentEvent(event=name, data=data)


PARTIAL, FINAL, DONE = "image_generation.partial_image", "image_generation.completed", sse("message", "[DONE]")


def test_a_direct_stream_as_ordered_passes() -> None:
    for number, frame in enumerate([sse(PARTIAL), sse(FINAL), sse(PARTIAL), sse(FINAL), DONE]):
        check_direct(frame, ORDER, number)


@pytest.mark.parametrize(
    ("number", "frame"),
    [(0, sse(FINAL)), (1, sse(PARTIAL)), (3, DONE), (4, sse(FINAL)), (4, sse("message")), (5, DONE)],
)
def test_a_direct_frame_out_of_place_is_refused(number: int, frame: ServerSentEvent) -> None:
    with pytest.raises(WrongError, match=f"Frame {number} "):
        check_direct(frame, ORDER, number)


@pytest.mark.parametrize(
    "text",
    [
        '{"type":"complete","id":"1"}',
        '{"type":"error","id":"1","payload":[{"message":"no"}]}',
        '{"type":"next","id":"1","payload":{"data":null,"errors":[{"message":"no"}]}}',
        '{"type":"next","id":"1","payload":{"data":{"taskEvents":{"__typename":"TaskSucceeded","sequence":1}},'
        '"errors":[{"message":"no"}]}}',
    ],
)
def test_only_a_message_without_errors_holds_an_event(text: str) -> None:
    assert Message.model_validate_json(text).event is None

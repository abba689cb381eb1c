"""Every shape an answer can come in, and what the adapter makes of it; the vendor is made of bare sockets."""

from __future__ import annotations

import asyncio
import time

import pytest
from pydantic import JsonValue

from providers.contract import (
    FinalImage,
    Notice,
    Progress,
)
from providers.errors import (
    BadResponseError,
    ProviderError,
    Transport,
    TruncatedError,
    UnavailableError,
)
from tests.providers.upstream import (
    Heard,
    answered,
    b64,
    final,
    frame,
    http,
    json_body,
    kinds,
    partial,
    request,
    sse,
)

pytestmark = pytest.mark.anyio

USAGE: JsonValue = {"input_tokens": 5, "output_tokens": 100, "total_tokens": 105, "input_tokens_details": {"x": 1}}


async def test_a_json_body_is_understood_where_a_stream_was_asked_for() -> None:
    outcome = await answered(
        json_body({"created": 1, "data": [{"b64_json": b64(b"done")}], "size": "1024x1536", "usage": USAGE}),
        request(partial_images=3),
    )
    assert kinds(outcome.events) == ["Accepted", "FinalImage", "Usage"]
    assert outcome.finals == [b"done"]


async def test_a_stream_is_understood_where_json_was_asked_for() -> None:
    assert (await answered(sse(final(b"done")), request(stream=False))).finals == [b"done"]


@pytest.mark.parametrize("media_type", ["text/event-stream", "Text/Event-Stream ; charset=utf-8"])
async def test_the_content_type_decides(media_type: str) -> None:
    assert (await answered(http(final(b"done"), media_type=media_type))).finals == [b"done"]


async def test_several_pictures_in_one_body() -> None:
    outcome = await answered(
        json_body({"data": [{"b64_json": b64(b"one"), "revised_prompt": "a fox"}, {"b64_json": b64(b"two")}]}),
        request(n=2),
    )
    finals = [event for event in outcome.events if isinstance(event, FinalImage)]
    assert [(each.index, each.data) for each in finals] == [(0, b"one"), (1, b"two")]
    assert [each.effective.revised_prompt for each in finals] == ["a fox", None]


@pytest.mark.parametrize(
    "frames",
    [
        [partial(0, b"a0"), partial(1, b"a1"), final(b"a"), partial(0, b"b0"), partial(1, b"b1"), final(b"b")],
        [partial(0, b"a0"), partial(0, b"b0"), partial(1, b"a1"), partial(1, b"b1"), final(b"a"), final(b"b")],
    ],
    ids=["one after the other", "in turns"],
)
async def test_several_pictures_in_one_stream(frames: list[bytes]) -> None:
    outcome = await answered(sse(*frames), request(n=2, partial_images=2))
    assert outcome.error is None
    assert sorted(outcome.partials) == [(0, 0, b"a0"), (0, 1, b"a1"), (1, 0, b"b0"), (1, 1, b"b1")]
    assert outcome.finals == [b"a", b"b"]
    fractions = [event.fraction or 0 for event in outcome.events if isinstance(event, Progress)]
    assert fractions == sorted(set(fractions)), "progress never stands still and never goes back"


async def test_fewer_partial_images_than_asked_for_are_fine() -> None:
    outcome = await answered(sse(partial(0, b"only"), final(b"done")), request(partial_images=3))
    assert outcome.error is None
    assert outcome.partials == [(0, 0, b"only")]


async def test_stages_that_come_after_their_picture_are_dropped() -> None:
    outcome = await answered(sse(final(b"done"), partial(0, b"late"), partial(1, b"later")), request(partial_images=2))
    assert outcome.error is None
    assert kinds(outcome.events) == ["Accepted", "FinalImage"]


async def test_repeated_events_are_told_once() -> None:
    frames = [partial(0, b"p"), partial(1, b"q"), final(b"done", usage=USAGE)]
    outcome = await answered(sse(*[each for each in frames for _ in range(2)]), request(partial_images=2))
    assert outcome.error is None
    assert kinds(outcome.events) == [
        "Accepted",
        "PartialImage",
        "Progress",
        "PartialImage",
        "Progress",
        "FinalImage",
        "Usage",
    ]


async def test_stages_without_a_number_are_numbered_as_they_come() -> None:
    name = "image_generation.partial_image"
    frames = [frame({"type": name, "b64_json": b64(data)}) for data in (b"p", b"q")]
    assert (await answered(sse(*frames, final(b"done")), request(partial_images=2))).partials == [
        (0, 0, b"p"),
        (0, 1, b"q"),
    ]


@pytest.mark.parametrize(
    "frames",
    [
        [frame({"b64_json": b64(b"done")}, "image_generation.completed")],
        [frame({"type": "image_generation.completed", "b64_json": b64(b"done")})],
        [frame({"b64_json": b64(b"done")})],
        [frame({"partial_image_index": 0, "b64_json": b64(b"p")}), frame({"b64_json": b64(b"done")})],
        [frame({"type": "image_edit.completed", "b64_json": b64(b"done")})],
        [frame({"created": 1, "data": [{"b64_json": b64(b"done")}]})],
        [frame({"type": "ping"}), frame({"type": 7}, "x"), final(b"done", error=None, new={"a": [1]}), frame({"z": 1})],
        [b"data: [DONE]\n\n" if each is None else each for each in (final(b"done"), None)],
        [b": hello\n\n", final(b"done")],
        [final(b"done", usage={"input_tokens": "many"}, size=7, quality=None)],
    ],
)
async def test_what_is_missing_or_new_does_no_harm(frames: list[bytes]) -> None:
    outcome = await answered(sse(*frames), request(partial_images=1))
    assert outcome.error is None
    assert outcome.finals == [b"done"]


async def test_base64_is_tolerated_as_it_comes() -> None:
    data = bytes(range(256)) * 3
    for text in (
        b64(data),
        f"data:image/png;base64,{b64(data)}",
        "\n".join(b64(data)[start : start + 76] for start in range(0, 1024, 76)),
    ):
        assert (await answered(json_body({"data": [{"b64_json": text}]}))).finals == [data]


PNG = b"\x89PNG\r\n\x1a\n" + b"0" * 5000 + b"\x00\x00\x00\x00IEND\xaeB`\x82"


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ({"b64_json": b64(PNG)[:-3]}, TruncatedError),
        ({"b64_json": b64(PNG)[:400]}, TruncatedError),
        ({"b64_json": b64(b"\xff\xd8\xff" + b"0" * 999)}, TruncatedError),
        ({"b64_json": b64(b"RIFF\xff\x00\x00\x00WEBP" + b"0" * 99)}, TruncatedError),
        ({"b64_json": "not base64!!"}, BadResponseError),
        ({"b64_json": "data:image/png,plain"}, BadResponseError),
        ({"b64_json": b64(bytes(786_431)) + b64(bytes(99))}, BadResponseError),  # padding in the middle
        ({"b64_json": ""}, BadResponseError),
        ({"b64_json": None, "url": None}, BadResponseError),
        ({}, BadResponseError),
        (7, BadResponseError),
    ],
)
async def test_a_picture_that_is_none_is_never_a_success(item: JsonValue, error: type[ProviderError]) -> None:
    in_body = await answered(json_body({"data": [item]}))
    assert type(in_body.failure()) is error
    assert in_body.finals == []
    assert in_body.failure().billed is True
    if isinstance(item, dict):
        in_stream = await answered(sse(frame({"type": "image_generation.completed", **item})))
        assert type(in_stream.failure()) is error


async def test_a_whole_png_is_whole() -> None:
    assert (await answered(json_body({"data": [{"b64_json": b64(PNG)}]}))).finals == [PNG]


async def test_a_broken_stage_costs_the_stage_and_not_the_picture() -> None:
    broken = frame({"type": "image_generation.partial_image", "b64_json": "!", "partial_image_index": 0})
    outcome = await answered(sse(broken, partial(1, b"q"), final(b"done")), request(partial_images=2))
    assert kinds(outcome.events) == ["Accepted", "Notice", "PartialImage", "Progress", "FinalImage"]


async def test_the_pictures_that_can_be_read_are_handed_over_before_the_failure() -> None:
    outcome = await answered(json_body({"data": [{}, {"b64_json": b64(b"two")}]}), request(n=2))
    assert outcome.finals == [b"two"]
    assert isinstance(outcome.failure(), BadResponseError)


def completed(item: dict[str, JsonValue], **more: JsonValue) -> bytes:
    return frame({"type": "image_generation.completed", **item, **more})


BROKEN: list[dict[str, JsonValue]] = [{}, {"b64_json": "!"}, {"b64_json": b64(PNG)[:400]}]


@pytest.mark.parametrize("item", BROKEN)
@pytest.mark.parametrize("place", [0, 1, 3])
async def test_a_picture_that_is_broken_costs_none_of_the_others_streamed_or_not(
    item: dict[str, JsonValue], place: int
) -> None:
    items: list[dict[str, JsonValue]] = [{"b64_json": b64(data)} for data in (b"a", b"b", b"c")]
    items.insert(place, item)
    streamed = await answered(sse(*[completed(each) for each in items]), request(n=4, stream=True))
    whole = await answered(json_body({"data": list[JsonValue](items)}), request(n=4))
    for outcome in (streamed, whole):
        assert outcome.finals == [b"a", b"b", b"c"]
        indexes = [event.index for event in outcome.events if isinstance(event, FinalImage)]
        assert indexes == [number for number in range(4) if number != place]
        assert outcome.failure().billed is True
    assert type(streamed.failure()) is type(whole.failure())


async def test_a_broken_picture_that_is_repeated_takes_one_place() -> None:
    broken = completed(BROKEN[1])
    outcome = await answered(sse(broken, broken, final(b"b")), request(n=2))
    assert [event.index for event in outcome.events if isinstance(event, FinalImage)] == [1]


async def test_stages_after_a_broken_picture_belong_to_the_next_one() -> None:
    frames = [partial(0, b"a0"), completed(BROKEN[1]), partial(0, b"b0"), final(b"b")]
    outcome = await answered(sse(*frames), request(n=2, partial_images=1))
    assert outcome.partials == [(0, 0, b"a0"), (1, 0, b"b0")]
    assert [event.index for event in outcome.events if isinstance(event, FinalImage)] == [1]
    assert isinstance(outcome.failure(), BadResponseError)


async def test_what_a_broken_picture_cost_is_told() -> None:
    outcome = await answered(sse(completed(BROKEN[1], usage=USAGE)))
    assert kinds(outcome.events) == ["Accepted", "Usage"]


async def test_a_broken_picture_is_forgiven_once_all_that_were_asked_for_are_here() -> None:
    outcome = await answered(sse(completed(BROKEN[1]), final(b"done")))
    assert outcome.error is None
    assert [(event.index, event.data) for event in outcome.events if isinstance(event, FinalImage)] == [(0, b"done")]


async def test_a_stream_that_ends_early_after_a_broken_picture_fails_with_what_came_first() -> None:
    moderated = frame({"type": "error", "error": {"code": "moderation_blocked", "message": "no"}})
    outcome = await answered(sse(completed(BROKEN[1]), final(b"b"), moderated), request(n=3))
    assert outcome.finals == [b"b"]
    assert isinstance(outcome.failure(), BadResponseError)


@pytest.mark.parametrize("name", ["image_generation.partial_image", "image_generation.completed", None])
async def test_an_event_that_cannot_be_read_does_not_end_the_stream(name: str | None) -> None:
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    unreadable = head + b'data: {"b64_json": "QUJ\n\n'
    outcome = await answered(sse(unreadable, final(b"done")), request(partial_images=1))
    assert outcome.error is None
    assert outcome.finals == [b"done"]
    outcome = await answered(sse(unreadable, final(b"done")), request(n=2, partial_images=1))
    assert outcome.finals == [b"done"]
    failure = outcome.failure()
    assert isinstance(failure, TruncatedError if name and "partial" in name else BadResponseError)


@pytest.mark.parametrize("body", [{"created": 1, "data": []}, {"created": 1}, {"data": None}, {}])
async def test_an_answer_without_pictures_is_a_failure(body: JsonValue) -> None:
    failure = (await answered(json_body(body))).failure()
    assert isinstance(failure, BadResponseError)
    assert failure.transport is Transport.ACCEPTED


async def test_fewer_pictures_than_asked_for_are_kept_and_said() -> None:
    outcome = await answered(json_body({"data": [{"b64_json": b64(b"one")}]}), request(n=3))
    assert outcome.error is None
    assert kinds(outcome.events) == ["Accepted", "FinalImage", "Progress", "Notice"]


async def test_more_pictures_than_asked_for_are_kept_and_said() -> None:
    outcome = await answered(json_body({"data": [{"b64_json": b64(b"one")}, {"b64_json": b64(b"two")}]}))
    assert outcome.error is None
    assert outcome.finals == [b"one", b"two"]
    assert kinds(outcome.events)[-1] == "Notice"


async def test_an_error_in_a_body_that_claims_success_is_an_error() -> None:
    failure = (await answered(json_body({"error": {"message": "busy", "code": "server_error"}}))).failure()
    assert isinstance(failure, UnavailableError)
    assert failure.transport is Transport.ACCEPTED


async def test_an_answer_that_is_no_json_says_where_to_look() -> None:
    failure = (await answered(http(b"<!doctype html><title>Console</title>", media_type="text/html"))).failure()
    assert isinstance(failure, BadResponseError)
    assert "text/html" in failure.message
    assert "DARKROOM_OPENAI_IMAGES_BASE_URL" in failure.message


async def test_an_answer_over_the_limit_is_given_up() -> None:
    large = b64(b"0" * 1_500_000)
    for answer in (json_body({"data": [{"b64_json": large}]}), sse(final(b"0" * 1_500_000))):
        failure = (await answered(answer, frame_limit_bytes=1024 * 1024)).failure()
        assert isinstance(failure, BadResponseError)
        assert "FRAME_LIMIT_BYTES" in failure.message


async def test_an_event_of_64_mib_comes_through_over_the_wire() -> None:
    picture = bytes(48 * 1024 * 1024)
    event = final(picture)
    assert len(event) > 64 * 1024 * 1024

    async def serve(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(event), 16_384):
            part = event[start : start + 16_384]
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    begin = time.perf_counter()
    outcome = await answered(serve)
    assert outcome.error is None
    assert outcome.finals == [picture]
    assert time.perf_counter() - begin < 60


async def test_a_value_that_is_not_sent_is_a_notice() -> None:
    body = json_body({"data": [{"b64_json": b64(b"x")}]})
    outcome = await answered(body, request(output_compression=100))
    assert kinds(outcome.events) == ["Accepted", "Notice", "FinalImage"]
    notice = outcome.events[1]
    assert isinstance(notice, Notice)
    assert notice.parameter == "output_compression"


async def test_what_was_made_otherwise_than_asked_for_is_a_notice() -> None:
    made = final(b"a", size="1536x1024", quality="medium", output_format="png", background="opaque")
    again = final(b"b", size="1536x1024", quality="medium")
    asked = request(n=2, size="1024x1024", quality="medium", background="auto", output_format="png", stream=True)
    notices = [event for event in (await answered(sse(made, again), asked)).events if isinstance(event, Notice)]
    assert [notice.parameter for notice in notices] == ["size"]
    assert "1024x1024" in notices[0].message
    assert "1536x1024" in notices[0].message

"""Each knob of the fault script does what it says, to the bytes on the wire and to the ledger."""

from __future__ import annotations

import base64
import binascii
import time
from typing import Any

import httpx
import openai
import orjson
import pytest
from httpx_sse import EventSource

from tests.providers.openai_images.conftest import Vendor

pytestmark = pytest.mark.anyio
Event = dict[str, Any]


def request_body(script: str, *, stream: bool, n: int = 1) -> Event:
    body = {"model": "gpt-image-1", "prompt": f"A fox [[sandbox: {script}]]", "output_format": "jpeg", "n": n}
    return {**body, "stream": True, "partial_images": 2} if stream else body


async def streamed(vendor: Vendor, script: str, *, n: int = 1, reference: str = "-") -> list[Event]:
    """The data of each event of a streamed answer, with two partial images per picture."""
    raw = await read(vendor, script, n=n, reference=reference)
    return [orjson.loads(line.removeprefix(b"data: ")) for line in raw.splitlines() if line.startswith(b"data: {")]


async def read(vendor: Vendor, script: str, *, n: int = 1, reference: str = "-", stream: bool = True) -> bytes:
    """The body of an answer."""
    headers = {"authorization": "Bearer any", "x-client-request-id": reference}
    async with httpx.AsyncClient(base_url=vendor.url, headers=headers) as client:
        answer = await client.post("/images/generations", json=request_body(script, n=n, stream=stream))
    return answer.raise_for_status().content


async def read_until_cut(vendor: Vendor, script: str, *, reference: str, stream: bool = True) -> bytes:
    """What arrives of an answer before its connection breaks; fails if it does not break."""
    arrived = b""
    headers = {"authorization": "Bearer any", "x-client-request-id": reference}
    async with httpx.AsyncClient(base_url=vendor.url, headers=headers) as client:
        try:
            async with client.stream("POST", "/images/generations", json=request_body(script, stream=stream)) as answer:
                async for chunk in answer.aiter_bytes():
                    arrived += chunk
        except httpx.RemoteProtocolError:
            return arrived
    pytest.fail(f"the connection was not broken; {len(arrived)} bytes arrived in good order")


def kinds(events: list[Event]) -> list[str]:
    return [event["type"].removeprefix("image_generation.") for event in events]


async def test_without_a_script_the_stream_is_as_documented(vendor: Vendor) -> None:
    raw = await read(vendor, "")
    frames = raw.split(b"\n\n")
    assert frames.pop() == b""
    for frame in frames:
        event, data = frame.split(b"\n")
        assert orjson.loads(data.removeprefix(b"data: "))["type"] == event.removeprefix(b"event: ").decode()
    assert b"[DONE]" not in raw
    assert b"auto" not in b"".join(frame.split(b'"b64_json"')[0] for frame in frames)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("duplicate", ["partial_image"] * 4 + ["completed"] * 2),
        ("final_first", ["completed", "partial_image", "partial_image"]),
        ("partials=1", ["partial_image", "completed"]),
        ("partials=0", ["completed"]),
        ("partials=9", ["partial_image", "partial_image", "completed"]),
        ("no_final", ["partial_image", "partial_image"]),
        ("error_after=0", ["error"]),
        ("error_after=1", ["partial_image", "error"]),
    ],
)
async def test_events_come_and_go_as_scripted(vendor: Vendor, script: str, expected: list[str]) -> None:
    assert kinds(await streamed(vendor, script)) == expected


async def test_duplicated_events_are_identical_pictures(vendor: Vendor) -> None:
    events = await streamed(vendor, "duplicate")
    assert events[0]["b64_json"] == events[1]["b64_json"]
    assert events[0]["partial_image_index"] == events[1]["partial_image_index"]


async def test_several_pictures_can_come_one_after_the_other(vendor: Vendor) -> None:
    assert kinds(await streamed(vendor, "sequential", n=2)) == ["partial_image", "partial_image", "completed"] * 2


async def test_an_error_in_mid_stream_is_charged_and_raises_in_the_client(vendor: Vendor) -> None:
    script = "[[sandbox: error_after=1 code=image_generation_failed message='Out of paint']]"
    stream = await vendor.client.images.generate(
        prompt=script, model="gpt-image-1", stream=True, partial_images=2,
        extra_headers={"X-Client-Request-Id": "mid-stream"},
    )  # fmt: skip
    assert (await anext(stream)).type == "image_generation.partial_image"
    with pytest.raises(openai.APIError, match="Out of paint") as caught:
        await anext(stream)
    assert (caught.value.code, caught.value.type) == ("image_generation_failed", "image_generation_server_error")
    assert len(await vendor.ledger.charges("mid-stream")) == 1
    [_, error] = await streamed(vendor, "error_after=1")
    assert error["sequence_number"] == 0


@pytest.mark.parametrize(
    ("script", "whole", "broken"),
    [
        ("cut_after=0", 0, 0),
        ("cut_after=2", 2, 0),
        ("cut_after=3", 3, 0),
        ("cut_inside", 0, 1),
        ("cut_after=1 cut_inside", 1, 1),
    ],
)
async def test_a_stream_can_be_cut_between_or_inside_frames(
    vendor: Vendor, script: str, whole: int, broken: int
) -> None:
    arrived = await read_until_cut(vendor, script, reference=f"cut {script}")
    assert arrived.count(b"\n\n") == whole
    assert bool(arrived.rpartition(b"\n\n")[2]) == bool(broken)
    assert len(await vendor.ledger.charges(f"cut {script}")) == 1


async def test_a_json_answer_can_be_cut(vendor: Vendor) -> None:
    assert await read_until_cut(vendor, "cut_after=0", reference="json cut", stream=False) == b""
    arrived = await read_until_cut(vendor, "cut_inside", reference="json cut", stream=False)
    assert arrived.startswith(b"{")
    assert not arrived.endswith(b"}")
    assert len(await vendor.ledger.charges("json cut")) == 2


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("lose", "charged"), [("request", 0), ("response", 1)])
async def test_a_lost_response_is_charged_and_a_lost_request_is_not(
    vendor: Vendor, lose: str, charged: int, stream: bool
) -> None:
    reference = f"lost {lose} {stream}"
    assert await read_until_cut(vendor, f"lose={lose}", reference=reference, stream=stream) == b""
    assert len(await vendor.ledger.charges(reference)) == charged


async def test_one_frame_can_have_base64_that_breaks_off(vendor: Vendor) -> None:
    first, second, last = await streamed(vendor, "truncate=1")
    assert base64.b64decode(first["b64_json"], validate=True).startswith(b"\xff\xd8")
    assert base64.b64decode(last["b64_json"], validate=True).startswith(b"\xff\xd8")
    with pytest.raises(binascii.Error):
        base64.b64decode(second["b64_json"], validate=True)
    [cut, *_] = await streamed(vendor, "truncate=0 truncate_decodable")
    assert not base64.b64decode(cut["b64_json"], validate=True).endswith(b"\xff\xd9")
    answer = orjson.loads(await read(vendor, "truncate=0", stream=False))
    with pytest.raises(binascii.Error):
        base64.b64decode(answer["data"][0]["b64_json"], validate=True)


async def test_json_can_come_where_a_stream_was_asked_for(vendor: Vendor) -> None:
    answer = orjson.loads(await read(vendor, "answer_json"))
    assert [*answer["data"][0]] == ["b64_json"]


@pytest.mark.parametrize(("script", "status"), [("url", 200), ("url expired", 403)])
async def test_links_can_come_where_pictures_belong(vendor: Vendor, script: str, status: int) -> None:
    last = (await streamed(vendor, script))[-1]
    answer = orjson.loads(await read(vendor, script, stream=False))
    async with httpx.AsyncClient() as anybody:
        for part in (last, answer["data"][0]):
            assert "b64_json" not in part
            assert (await anybody.get(part["url"])).status_code == status


async def test_the_stream_can_end_with_done(vendor: Vendor) -> None:
    assert (await read(vendor, "done")).endswith(b"\n\ndata: [DONE]\n\n")


async def test_fields_can_be_added_and_left_out(vendor: Vendor) -> None:
    partial, _, last = await streamed(vendor, "omit_fields")
    assert sorted(partial) == ["b64_json", "partial_image_index", "type"]
    assert sorted(last) == ["b64_json", "type", "usage"]
    assert "x_sandbox" in (await streamed(vendor, "extra_fields"))[0]
    assert sorted(orjson.loads(await read(vendor, "omit_fields", stream=False))) == ["created", "data", "usage"]


async def test_frames_can_be_padded_to_any_size(vendor: Vendor) -> None:
    for event in await streamed(vendor, "padding=3000000"):
        assert len(event["padding"]) == 3_000_000


async def test_an_sse_reader_copes_with_tiny_pieces_comments_and_carriage_returns(vendor: Vendor) -> None:
    body = {"model": "gpt-image-1", "prompt": "A fox", "stream": True, "partial_images": 2, "output_format": "jpeg"}
    headers = {
        "authorization": "Bearer any",
        "x-sandbox-script": '{"chunk": 97, "keepalive": true, "crlf": true, "done": true}',
    }
    async with (
        httpx.AsyncClient(base_url=vendor.url, headers=headers) as client,
        client.stream("POST", "/images/generations", json=body) as answer,
    ):
        events = [event async for event in EventSource(answer).aiter_sse()]
    assert [event.data == "[DONE]" for event in events] == [False, False, False, True]
    assert kinds([event.json() for event in events[:3]]) == ["partial_image", "partial_image", "completed"]


async def test_a_failure_carries_retry_after(vendor: Vendor) -> None:
    with pytest.raises(openai.RateLimitError) as caught:
        await vendor.client.images.generate(
            prompt="[[sandbox: status=429 retry_after=1.5 should_retry=false message='Slow down']]", model="gpt-image-1"
        )
    assert caught.value.response.headers["retry-after"] == "1.5"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert "Slow down" in caught.value.message


@pytest.mark.parametrize(
    ("shape", "starts"),
    [("openai", b'{"error":'), ("truefoundry", b'{"status":"failure"'), ("html", b"<html>"), ("empty", b"")],
)
async def test_a_failure_can_have_any_shape(vendor: Vendor, shape: str, starts: bytes) -> None:
    headers = {"authorization": "Bearer any"}
    body = {"model": "gpt-image-1", "prompt": f"[[sandbox: status=502 error_shape={shape}]]"}
    async with httpx.AsyncClient(base_url=vendor.url, headers=headers) as client:
        answer = await client.post("/images/generations", json=body)
    assert answer.status_code == 502
    assert answer.content.startswith(starts)
    assert bool(answer.content) == bool(starts)


async def test_latency_delays_the_first_byte_and_pause_each_frame(vendor: Vendor) -> None:
    started = time.monotonic()
    await read(vendor, "latency=0.1 pause=0.05")
    assert time.monotonic() - started >= 0.1 + 3 * 0.05


async def test_a_seed_draws_another_picture(vendor: Vendor) -> None:
    assert await read(vendor, "seed=1", stream=False) != await read(vendor, "seed=2", stream=False)


async def test_the_directive_is_neither_drawn_nor_refused(vendor: Vendor) -> None:
    with_it = orjson.loads(await read(vendor, "", stream=False))
    plain = await vendor.client.images.generate(prompt="A fox", model="gpt-image-1", output_format="jpeg")
    assert plain.data is not None
    assert with_it["data"][0]["b64_json"] == plain.data[0].b64_json
    alone = await vendor.client.images.generate(prompt="[[sandbox:]]", model="gpt-image-1")
    assert alone.data


async def test_a_queue_scripts_the_next_requests(vendor: Vendor) -> None:
    async with httpx.AsyncClient(base_url=vendor.url) as client:
        set_ = await client.put("/script", json=[{"status": 500}, {}, {"status": 429}])
        assert set_.json() == [{"status": 500}, {}, {"status": 429}]
        with pytest.raises(openai.InternalServerError):
            await vendor.client.images.generate(prompt="A fox", model="gpt-image-1")
        await vendor.client.images.generate(prompt="A fox", model="gpt-image-1")
        assert (await client.get("/script")).json() == [{"status": 429}]
        with pytest.raises(openai.RateLimitError):
            await vendor.client.images.generate(prompt="A fox", model="gpt-image-1")
        assert (await client.get("/script")).json() == []
        refused = await client.put("/script", json=[{"status": 42}])
    assert refused.status_code == 400
    assert "status" in refused.json()["error"]["message"]


async def test_a_malformed_script_is_explained_and_not_charged(vendor: Vendor) -> None:
    headers = {"X-Client-Request-Id": "malformed", "X-Sandbox-Script": '{"statsu": 429}'}
    with pytest.raises(openai.BadRequestError, match="statsu") as caught:
        await vendor.client.images.generate(prompt="A fox", model="gpt-image-1", extra_headers=headers)
    assert caught.value.code == "invalid_script"
    assert "retry_after" in caught.value.message, "it lists the knobs there are"
    assert await vendor.ledger.charges("malformed") == []

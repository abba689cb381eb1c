"""How the adapter sends its request, follows the answer and lets go of it; the vendor is made of bare sockets."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress

import orjson
import pytest
from pydantic import JsonValue

from providers.contract import (
    Accepted,
    CancelOutcome,
    Effective,
    FinalImage,
    PartialImage,
    Progress,
    ProgressOrigin,
    ProviderEvent,
    Submission,
    Usage,
)
from providers.errors import (
    OutcomeUnknownError,
    RefusedError,
    TimedOutError,
    Transport,
    TruncatedError,
)
from tests.providers.upstream import (
    REFERENCE,
    TOKEN,
    Heard,
    account,
    answered,
    b64,
    final,
    frame,
    json_body,
    kinds,
    partial,
    request,
    run,
    sse,
    upstream,
)

pytestmark = pytest.mark.anyio

USAGE: JsonValue = {"input_tokens": 5, "output_tokens": 100, "total_tokens": 105, "input_tokens_details": {"x": 1}}


async def test_a_stream_is_told_in_order() -> None:
    outcome = await answered(
        sse(
            partial(0, b"first"),
            partial(1, b"second"),
            final(b"done", size="1024x1024", quality="low", output_format="png", background="auto", usage=USAGE),
            x_request_id="req_7",
            x_tfy_resolved_model="gpt-image-2-2026-04-21",
        ),
        request(partial_images=2),
    )
    assert outcome.error is None
    accepted, one, first, two, second, done, usage = outcome.events
    assert accepted == Accepted(Submission(id=None, request_id="req_7"))
    assert one == PartialImage(0, 0, b"first")
    assert two == PartialImage(0, 1, b"second")
    assert isinstance(first, Progress)
    assert isinstance(second, Progress)
    assert first.origin is second.origin is ProgressOrigin.ESTIMATED
    assert [first.fraction, second.fraction] == [pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert done == FinalImage(
        0,
        b"done",
        Effective(model="gpt-image-2-2026-04-21", size="1024x1024", quality="low", output_format="png"),
    )
    assert isinstance(USAGE, dict)
    assert usage == Usage(5, 100, 105, USAGE)


async def test_the_request_is_what_the_api_documents() -> None:
    async with upstream(sse(final(b"done"))) as server:
        provider = account(
            f"{server.url}/api/llm/",
            metadata={"team": "ü"},
            request_timeout_ms=1000,
            ttft_timeout_ms=500,
            retry_config={"attempts": 2},
            logging_config={"enabled": True},
            strict_openai=True,
        )
        assert (await run(provider, request(partial_images=1, n=1))).finals == [b"done"]
    (heard,) = server.heard
    assert heard.line == "POST /api/llm/images/generations HTTP/1.1"
    assert heard.json == {"prompt": "a red fox", "model": "gpt-image-2", "n": 1, "partial_images": 1, "stream": True}
    assert heard.headers["authorization"] == f"Bearer {TOKEN}"
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["accept"].startswith("text/event-stream")
    assert heard.headers["x-client-request-id"] == REFERENCE
    assert orjson.loads(heard.headers["x-tfy-metadata"]) == {"team": "ü", "darkroom_reference": REFERENCE}
    assert heard.headers["x-tfy-request-timeout"] == "1000"
    assert heard.headers["x-tfy-ttft-timeout-ms"] == "500"
    assert orjson.loads(heard.headers["x-tfy-retry-config"]) == {"attempts": 2}
    assert orjson.loads(heard.headers["x-tfy-logging-config"]) == {"enabled": True}
    assert heard.headers["x-tfy-strict-openai"] == "true"


@pytest.mark.parametrize(
    ("base", "path"),
    [
        ("", "/images/generations"),
        ("/", "/images/generations"),
        ("/v1", "/v1/images/generations"),
        ("/api/llm/api/inference/openai/", "/api/llm/api/inference/openai/images/generations"),
        ("/openai/v1?api-version=preview", "/openai/v1/images/generations?api-version=preview"),
    ],
)
async def test_any_base_path_is_kept(base: str, path: str) -> None:
    async with upstream(json_body({"data": [{"b64_json": b64(b"x")}]})) as server:
        assert (await run(account(server.url + base))).error is None
    assert server.heard[0].line == f"POST {path} HTTP/1.1"


async def test_headers_of_a_gateway_are_not_sent_unless_they_are_configured() -> None:
    async with upstream(json_body({"data": [{"b64_json": b64(b"x")}]})) as server:
        await run(account(server.url))
    assert not [name for name in server.heard[0].headers if name.startswith("x-tfy")]
    assert "cookie" not in server.heard[0].headers


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"data: [DONE]\n\n"],
        [partial(0, b"p")],
        [partial(0, b"p"), b"data: [DONE]\n\n"],
        [final(b"done")[:-1]],
        [final(b"done")[:-9]],
    ],
)
async def test_a_stream_without_a_final_picture_is_never_a_success(frames: list[bytes]) -> None:
    outcome = await answered(sse(*frames), request(partial_images=1))
    failure = outcome.failure()
    assert isinstance(failure, TruncatedError)
    assert (failure.transport, failure.billed, failure.retryable) == (Transport.ACCEPTED, None, False)
    assert outcome.finals == []


async def test_a_stream_that_lacks_one_of_its_pictures_is_a_failure_that_was_billed() -> None:
    outcome = await answered(sse(final(b"a"), partial(0, b"b0")), request(n=2, partial_images=1))
    assert outcome.finals == [b"a"]
    assert isinstance(outcome.failure(), TruncatedError)
    assert outcome.failure().billed is True


async def test_a_cut_stream_is_never_a_success_wherever_it_is_cut() -> None:
    whole = sse(partial(0, b"p"), final(b"done"), x_request_id="req_7")
    head = whole.index(b"\r\n\r\n") + 4
    for end in range(head, len(whole), 7):
        outcome = await answered(whole[:end], request(partial_images=1))
        failure = outcome.failure()
        assert isinstance(failure, TruncatedError), end
        assert failure.request_id == "req_7"
        assert failure.transport is Transport.ACCEPTED


async def test_a_cut_body_is_never_a_success() -> None:
    whole = json_body({"data": [{"b64_json": b64(b"done" * 50)}]})
    assert isinstance((await answered(whole[:-5])).failure(), TruncatedError)
    unframed = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + whole.partition(b"\r\n\r\n")[2]
    assert (await answered(unframed)).finals == [b"done" * 50]
    assert isinstance((await answered(unframed[:-5])).failure(), TruncatedError)


async def test_once_every_picture_is_here_the_rest_may_be_lost() -> None:
    whole = sse(final(b"done"), partial(0, b"late"), b"data: [DONE]\n\n")
    assert (await answered(whole[:-20])).error is None
    complaint = frame({"type": "error", "error": {"message": "too late"}}, "error")
    assert (await answered(sse(final(b"done"), complaint))).error is None
    assert (await answered(sse(final(b"done"), b"data: {broken\n\n"))).error is None


async def test_nobody_waits_long_for_a_stream_that_never_ends_after_its_last_picture() -> None:
    left = asyncio.Event()

    async def linger(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + final(b"done"))
        await writer.drain()
        await left.wait()

    async with upstream(linger) as server, asyncio.timeout(5):
        outcome = await run(account(server.url))
        left.set()
    assert outcome.error is None
    assert outcome.finals == [b"done"]


@pytest.mark.parametrize(
    "error",
    [
        {"type": "error", "error": {"message": "blocked", "type": "x", "code": "moderation_blocked"}},
        {"error": {"message": "blocked", "code": "moderation_blocked"}, "sequence_number": 0},
        {"type": "error", "message": "blocked", "code": "moderation_blocked"},
    ],
)
async def test_an_error_in_mid_stream_ends_it_as_what_it_is(error: JsonValue) -> None:
    outcome = await answered(sse(partial(0, b"p"), frame(error, "error"), final(b"x")), request(partial_images=1))
    assert outcome.partials == [(0, 0, b"p")]
    assert outcome.finals == []
    failure = outcome.failure()
    assert isinstance(failure, RefusedError)
    assert "blocked" in failure.message
    assert (failure.transport, failure.billed) == (Transport.ACCEPTED, None)


async def test_acceptance_is_told_before_the_first_picture_exists() -> None:
    told = asyncio.Event()

    async def serve(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nx-request-id: r\r\n\r\n")
        await writer.drain()
        await told.wait()  # the picture is only sent once acceptance was told
        writer.write(final(b"done"))

    async with upstream(serve) as server, asyncio.timeout(5):
        provider = account(server.url)
        async with aclosing(provider.run(request(), reference=REFERENCE)) as events:
            assert await anext(events) == Accepted(Submission(request_id="r"))
            told.set()
            assert [event async for event in events] == [FinalImage(0, b"done")]
        await provider.aclose()


@pytest.mark.parametrize("after", [Accepted, PartialImage])
async def test_closing_a_run_hangs_up(after: type[ProviderEvent]) -> None:
    hung_up = asyncio.Event()

    async def serve(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + partial(0, b"p"))
        await writer.drain()
        while not writer.transport.is_closing():
            writer.write(b": waiting\n\n")
            await asyncio.sleep(0.005)
        hung_up.set()

    async with upstream(serve) as server, asyncio.timeout(5):
        provider = account(server.url)
        async with aclosing(provider.run(request(partial_images=1), reference=REFERENCE)) as events:
            async for event in events:
                if isinstance(event, after):
                    break
        await hung_up.wait()
        await provider.aclose()


async def test_no_connection_is_used_twice() -> None:
    """A connection the vendor has just closed cannot be told from one that lost a request that pays."""
    connections = 0
    answer = json_body({"data": [{"b64_json": b64(b"x")}]})

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:  # as many requests as the client likes
                await reader.readuntil(b"}")
                writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        provider = account(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        for _ in range(2):
            async with aclosing(provider.run(request(), reference="r")) as events:
                assert kinds([event async for event in events]) == ["Accepted", "FinalImage"]
        await provider.aclose()
    assert connections == 2


async def test_an_error_whose_body_never_ends_is_still_that_error() -> None:
    async def serve(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 429 Slow Down\r\nContent-Length: 999\r\nRetry-After: 3\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(5)

    failure = (await answered(serve, total_timeout_seconds=0.2)).failure()
    assert failure.retry_after == 3


async def test_a_run_cannot_be_resumed_and_posts_nothing() -> None:
    async with upstream(sse(final(b"done"))) as server:
        provider = account(server.url)
        with pytest.raises(OutcomeUnknownError) as caught:
            async with aclosing(provider.run(request(), reference="r", resume=Submission(request_id="req_7"))) as run_:
                await anext(run_)
        assert caught.value.request_id == "req_7"
        assert await provider.find("r") is None
        assert await provider.health() is None
        assert await provider.cancel(Submission()) is CancelOutcome.ABANDONED
        await provider.aclose()
        assert server.heard == []


async def test_an_answer_that_falls_silent_is_given_up() -> None:
    async def serve(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + partial(0, b"p"))
        await writer.drain()
        await asyncio.sleep(1)

    outcome = await answered(serve, request(partial_images=1), read_timeout_seconds=0.1)
    assert isinstance(outcome.failure(), TimedOutError)
    assert outcome.failure().transport is Transport.ACCEPTED
    assert outcome.partials == [(0, 0, b"p")]


async def test_an_answer_that_only_pretends_to_be_alive_is_given_up() -> None:
    async def serve(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while not writer.transport.is_closing():
            writer.write(b": ping\n\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    outcome = await answered(serve, total_timeout_seconds=0.2)
    assert isinstance(outcome.failure(), TimedOutError)

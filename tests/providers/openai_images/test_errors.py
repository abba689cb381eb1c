"""What goes wrong, and what is said about it: what it was, whether it is billed, and when to come back."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import orjson
import pytest
from pydantic import JsonValue

from providers.errors import (
    BadResponseError,
    InvalidRequestError,
    OutcomeUnknownError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
    TimedOutError,
    Transport,
    UnauthorizedError,
    UnavailableError,
)
from providers.openai_images.errors import refusal
from providers.speaker import Speaker
from tests.providers.upstream import (
    TOKEN,
    Heard,
    account,
    answered,
    error_body,
    frame,
    http,
    json_body,
    run,
    sse,
    upstream,
)

pytestmark = pytest.mark.anyio


def converted(status: int, body: JsonValue | bytes = b"", **headers: str) -> ProviderError:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return refusal(status, httpx.Headers(named), raw, Speaker("api.example", TOKEN))


def openai(code: str | None, type_: str = "invalid_request_error", **more: JsonValue) -> JsonValue:
    return {"error": {"message": "as the vendor says", "type": type_, "param": "size", "code": code, **more}}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, openai("invalid_value"), InvalidRequestError),
        (400, openai("invalid_value", "image_generation_user_error"), InvalidRequestError),
        (400, openai("moderation_blocked", "image_generation_user_error"), RefusedError),
        (400, openai("content_policy_violation"), RefusedError),
        (400, openai("billing_hard_limit_reached"), QuotaExhaustedError),
        (401, openai("invalid_api_key"), UnauthorizedError),
        (401, b"", UnauthorizedError),
        (402, b"", QuotaExhaustedError),
        (403, {"status": "failure", "message": "no", "error": {"message": "n", "type": "AuthorizationError"}}, None),
        (403, openai(None), UnauthorizedError),
        (404, openai("model_not_found"), InvalidRequestError),
        (404, b"<html>nothing here</html>", BadResponseError),
        (405, b"", BadResponseError),
        (408, {"status": "failure", "message": "first token"}, TimedOutError),
        (409, openai("conflict"), UnavailableError),
        (413, b"", InvalidRequestError),
        (422, {"detail": "n must be 1"}, InvalidRequestError),
        (424, b"", UnavailableError),
        (429, openai("rate_limit_exceeded"), RateLimitedError),
        (429, b"", RateLimitedError),
        (429, openai("insufficient_quota"), QuotaExhaustedError),
        (429, openai("project_spend_limit_exceeded"), QuotaExhaustedError),
        (500, openai("image_generation_failed", "image_generation_server_error"), UnavailableError),
        (502, b"<html>bad gateway</html>", UnavailableError),
        (503, b"", UnavailableError),
        (504, b"", TimedOutError),
        (529, b"", UnavailableError),
        (301, b"", BadResponseError),
    ],
)
def test_a_refusal_is_what_it_is(status: int, body: JsonValue | bytes, error: type[ProviderError] | None) -> None:
    failure = converted(status, body, x_request_id="req_7")
    assert isinstance(failure, error or UnauthorizedError)
    assert failure.status == status
    assert failure.request_id == "req_7"
    assert "api.example" in failure.message
    if status < 500 and status not in (408, 424):
        assert (failure.billed, failure.transport) == (False, Transport.ACCEPTED)
    else:
        assert (failure.billed, failure.transport) == (None, Transport.PERHAPS_SENT)


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (openai("invalid_value"), "as the vendor says", "invalid_value"),
        ({"status": "failure", "message": "outer", "error": {"message": "inner", "code": 17}}, "inner", "17"),
        ({"status": "failure", "message": "outer", "error": {"type": "Odd"}}, "outer", "Odd"),
        ({"message": "bare", "code": "c"}, "bare", "c"),
        ({"error": "just text"}, "just text", None),
        ({"detail": "fastapi"}, "fastapi", None),
        ({"error": None}, None, None),
        ([1, 2], None, None),
        (b"\xff\xfe not json", None, None),
        (b"", None, None),
    ],
)
def test_both_shapes_of_a_body_are_read_and_any_other_survived(
    body: JsonValue | bytes, message: str | None, code: str | None
) -> None:
    failure = converted(400, body)
    assert (failure.vendor_message, failure.vendor_code) == (message, code)
    assert message is None or message in failure.message


def test_a_refusal_names_the_parameter_and_the_categories() -> None:
    assert converted(400, openai("invalid_value")).parameter == "size"
    assert converted(404, {"error": {"message": "m", "code": "model_not_found"}}).parameter == "model"
    blocked = openai("moderation_blocked", moderation_details={"moderation_stage": "input", "categories": ["a", "b"]})
    assert "a, b" in converted(400, blocked).message
    assert converted(400, blocked).billed is False


def test_a_picture_refused_after_it_was_made_may_have_been_billed() -> None:
    blocked = openai("moderation_blocked", moderation_details={"moderation_stage": "output", "categories": []})
    assert converted(400, blocked).billed is None


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry_after": "7"}, b"", 7),
        ({"retry_after": "0.5"}, b"", 0.5),
        ({"retry_after_ms": "1500"}, b"", 1.5),
        ({"retry_after": "-1"}, b"", None),
        ({"retry_after": "soon"}, b"", None),
        ({"retry_after": "nan"}, b"", None),
        ({}, {"error": {"message": "m", "retry_after": 3}}, 3),
        ({}, {"error": {"message": "m"}, "retry_after": "4"}, 4),
        ({}, {"error": {"message": "Please try again in 1m12.5s."}}, 72.5),
        ({}, {"error": {"message": "Please try again in 350ms."}}, 0.35),
        ({}, {"error": {"message": "Please try again in 20s. Contact us."}}, 20),
        ({}, {"error": {"message": "Please try again in a while."}}, None),
        ({"retry_after": "7"}, {"error": {"message": "try again in 20s", "retry_after": 3}}, 7),
        ({}, b"", None),
    ],
)
def test_when_to_come_back_is_read_wherever_it_is_written(
    headers: dict[str, str], body: JsonValue | bytes, seconds: float | None
) -> None:
    assert converted(429, body, **headers).retry_after == seconds


def test_when_to_come_back_may_be_a_date() -> None:
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert converted(503, b"", retry_after=at).retry_after == pytest.approx(90, abs=5)
    past = format_datetime(datetime.now(UTC) - timedelta(days=9), usegmt=True)
    assert converted(503, b"", retry_after=past).retry_after == 0


def test_the_vendor_decides_whether_a_retry_makes_sense() -> None:
    for status in (429, 503, 504):
        assert converted(status).retryable
        refused = converted(status, b"", x_should_retry="false")
        assert not refused.retryable
        assert refused.code is converted(status).code
    assert not converted(400, b"").retryable
    assert converted(400, b"", x_should_retry="true").retryable
    assert not converted(400, openai("moderation_blocked"), x_should_retry="true").retryable


@pytest.mark.parametrize(
    ("status", "body", "safe"),
    [
        (429, openai("rate_limit_exceeded"), True),
        (409, openai("conflict"), True),
        (429, openai("insufficient_quota"), False),
        (400, openai("image_generation_failed", "image_generation_server_error"), False),
        (400, openai("invalid_value"), False),
        (401, b"", False),
        (408, b"", False),
        (424, b"", False),
        (500, openai("rate_limit_exceeded"), False),
        (503, b"", False),
        (504, b"", False),
    ],
)
def test_only_what_made_nothing_is_safe_to_send_again(status: int, body: JsonValue | bytes, safe: bool) -> None:
    assert converted(status, body).safe_to_send_again is safe
    assert not converted(status, body, x_should_retry="false").safe_to_send_again


async def test_what_broke_off_in_the_middle_is_never_safe_to_send_again() -> None:
    broken = frame({"type": "error", "error": {"code": "rate_limit_exceeded", "message": "later"}}, "error")
    failure = (await answered(sse(broken))).failure()
    assert isinstance(failure, RateLimitedError)
    assert (failure.retryable, failure.safe_to_send_again) == (True, False)


def test_a_model_that_is_not_allowed_does_not_count_against_the_account() -> None:
    assert converted(401).counts_against_account
    assert not converted(403, openai(None)).counts_against_account


async def test_a_redirect_is_not_followed_and_says_where_it_leads() -> None:
    async with upstream(json_body({"data": []})) as elsewhere:
        location = f"{elsewhere.url.replace('127.0.0.1', 'localhost')}/v1?secret=1"
        async with upstream(http(b"", status="308 Permanent Redirect", Location=location)) as server:
            failure = (await run(account(server.url))).failure()
        assert elsewhere.heard == []
    assert isinstance(failure, BadResponseError)
    assert "localhost" in failure.message
    assert "secret" not in failure.message
    assert "DARKROOM_OPENAI_IMAGES_BASE_URL" in failure.message
    assert failure.billed is False


@pytest.mark.parametrize("status", ["429 Too Many", "500 Oops", "503 Busy", "408 Timeout", "307 Elsewhere"])
async def test_a_request_that_fails_is_sent_exactly_once(status: str) -> None:
    async with upstream(error_body(status, Location="/again", Retry_After="0", x_should_retry="true")) as server:
        assert (await run(account(server.url))).error is not None
    assert len(server.heard) == 1


async def test_a_request_whose_answer_is_lost_is_sent_exactly_once_and_its_outcome_is_unknown() -> None:
    outcome = None
    async with upstream(b"") as server:
        outcome = await run(account(server.url))
    assert len(server.heard) == 1
    failure = outcome.failure()
    assert isinstance(failure, OutcomeUnknownError)
    assert (failure.transport, failure.billed, failure.retryable) == (Transport.PERHAPS_SENT, None, False)
    assert outcome.events == []


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-"])
async def test_a_broken_head_leaves_the_outcome_unknown(answer: bytes) -> None:
    assert isinstance((await answered(answer)).failure(), OutcomeUnknownError)


async def test_silence_before_the_answer_leaves_the_outcome_unknown() -> None:
    async def silent(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)

    for limits in ({"read_timeout_seconds": 0.1}, {"total_timeout_seconds": 0.1}):
        async with upstream(silent) as server:
            failure = (await run(account(server.url, **limits))).failure()
        assert isinstance(failure, OutcomeUnknownError)
        assert failure.transport is Transport.PERHAPS_SENT


async def test_what_was_never_sent_is_known_not_to_be_billed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/v1", "http://no-such-host.invalid/v1"):
        failure = (await run(account(url))).failure()
        assert isinstance(failure, UnavailableError)
        assert (failure.transport, failure.billed, failure.retryable) == (Transport.NOT_SENT, False, True)
        assert httpx.URL(url).host in failure.message


async def test_a_tls_failure_means_that_nothing_was_sent() -> None:
    async with upstream(b"") as server:
        failure = (await run(account(server.url.replace("http:", "https:"), connect_timeout_seconds=0.5))).failure()
    assert isinstance(failure, UnavailableError)
    assert failure.transport is Transport.NOT_SENT
    assert isinstance(failure.__cause__, httpx.ConnectError | httpx.ConnectTimeout | ssl.SSLError)


async def test_the_network_switch_refuses_every_other_address_before_connecting() -> None:
    failure = (await run(account("http://192.0.2.1/v1", connect_timeout_seconds=60))).failure()
    assert isinstance(failure, UnavailableError)
    assert failure.transport is Transport.NOT_SENT
    assert "DARKROOM_NETWORK=loopback" in failure.message


async def test_no_proxy_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream(json_body({"data": []})) as proxy, upstream(error_body("400 Bad")) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        await run(account(server.url))
        assert len(server.heard) == 1
        assert proxy.heard == []


async def test_the_token_never_shows(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = f"Incorrect API key provided: {TOKEN}. Bearer {TOKEN}"
    answers = [
        error_body("401 Unauthorized", code="invalid_api_key", message=echo),
        http(echo.encode(), media_type="text/plain"),
        json_body({"error": {"message": echo, "code": TOKEN}}),
        b"",
    ]
    for answer in answers:
        async with upstream(answer) as server:
            provider = account(server.url)
            failure = (await run(provider)).failure()
        shown = [str(failure), repr(failure), *map(str, vars(failure).values()), repr(provider), repr(vars(provider))]
        shown += traceback.format_exception(failure)
        assert not [text for text in shown if TOKEN in text]
    assert TOKEN not in caplog.text

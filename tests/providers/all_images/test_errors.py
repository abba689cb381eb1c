"""What goes wrong, and what is said about it: what it was, whether it is billed, and when to come back."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import orjson
import pytest
from pydantic import JsonValue

from providers.all_images.errors import refusal
from providers.contract import Submission
from providers.errors import (
    BadResponseError,
    InvalidRequestError,
    OutcomeUnknownError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitedError,
    ResultUnavailableError,
    TimedOutError,
    Transport,
    UnauthorizedError,
    UnavailableError,
)
from providers.speaker import Speaker
from tests.providers.all_images.account import KEY, account, path_of, request, run
from tests.providers.upstream import Answer, Heard, http, json_body, upstream

pytestmark = pytest.mark.anyio


def converted(status: int, body: JsonValue | bytes = b"", **headers: str) -> ProviderError:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return refusal(status, httpx.Headers(named), raw, Speaker("api.example", KEY))


def nest(status: int, message: JsonValue, error: str | None = "Bad Request") -> JsonValue:
    body: dict[str, JsonValue] = {"statusCode": status, "message": message}
    return body if error is None else {**body, "error": error}


def by_route(routes: dict[tuple[str, str], bytes | list[bytes]]) -> Answer:
    """Answers by method and path; of a list each answer once, the last for ever."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        found = routes[path_of(heard.line)]
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        writer.write(found)

    return answer


CREATE, LIST, READ = ("POST", "/image-generations"), ("GET", "/image-generations"), ("GET", "/image-generations/g")
NOTHING = json_body({"filteredResults": 0, "prints": []})


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, nest(400, ["prompt must be a string"]), InvalidRequestError),
        (401, nest(401, "Unauthorized", None), UnauthorizedError),
        (402, nest(402, "Not enough credits.", "Payment Required"), QuotaExhaustedError),
        (403, nest(403, "Forbidden resource", "Forbidden"), UnauthorizedError),
        (404, nest(404, "Cannot POST /x", "Not Found"), BadResponseError),
        (405, b"", BadResponseError),
        (408, b"", TimedOutError),
        (413, nest(413, "request entity too large", None), InvalidRequestError),
        (422, b"", InvalidRequestError),
        (429, nest(429, "ThrottlerException: Too Many Requests", None), RateLimitedError),
        (500, nest(500, "Internal server error", None), UnavailableError),
        (502, b"<html>bad gateway</html>", UnavailableError),
        (503, b"", UnavailableError),
        (504, b"", TimedOutError),
        (301, b"", BadResponseError),
    ],
)
def test_a_refusal_is_what_it_is(status: int, body: JsonValue | bytes, error: type[ProviderError]) -> None:
    failure = converted(status, body)
    assert isinstance(failure, error)
    assert failure.status == status
    assert "api.example" in failure.message
    if status < 500 and status != 408:
        assert (failure.billed, failure.transport) == (False, Transport.ACCEPTED)
    else:
        assert (failure.billed, failure.transport) == (None, Transport.PERHAPS_SENT)


@pytest.mark.parametrize(
    ("body", "message", "code", "parameter"),
    [
        (nest(400, ["prompt is odd", "so is mode"]), "prompt is odd; so is mode", "Bad Request", "prompt"),
        (nest(400, "just one", "Bad Request"), "just one", "Bad Request", None),
        (nest(400, "params.chaos must be an integer", None), "params.chaos must be an integer", None, "chaos"),
        (nest(400, "each value in tags must be a string", None), "each value in tags must be a string", None, "tags"),
        ({"error": "Bad Request"}, "Bad Request", "Bad Request", None),
        ({"message": [], "error": 7}, None, None, None),
        ({"message": [None, {"a": 1}, "text"]}, "text", None, None),
        ([1, 2], None, None, None),
        (b"\xff\xfe not json", None, None, None),
        (b"", None, None, None),
    ],
)  # fmt: skip
def test_every_shape_of_a_body_is_read_and_any_other_survived(
    body: JsonValue | bytes, message: str | None, code: str | None, parameter: str | None
) -> None:
    failure = converted(400, body)
    assert (failure.vendor_message, failure.vendor_code, failure.parameter) == (message, code, parameter)
    assert message is None or message in failure.message


def test_when_to_come_back_is_kept() -> None:
    assert converted(429, b"", retry_after="7").retry_after == 7
    assert converted(503, b"", retry_after="nonsense").retry_after is None
    assert converted(429, {"message": "slow down", "retry_after": 9}).retry_after == 9
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert converted(429, b"", retry_after=soon).retry_after == pytest.approx(90, abs=5)


@pytest.mark.parametrize(("status", "safe"), [(400, False), (402, False), (429, True), (500, False), (503, False)])
def test_only_what_made_nothing_is_safe_to_send_again(status: int, safe: bool) -> None:
    assert converted(status).safe_to_send_again is safe


def test_a_refusal_that_may_be_about_one_request_does_not_count_against_the_account() -> None:
    assert converted(401).counts_against_account
    assert not converted(403).counts_against_account


async def test_which_status_means_no_credits_can_be_set() -> None:
    async with upstream(json_body(nest(403, "no credit"), status="403 Forbidden")) as server:
        assert isinstance((await run(account(server.url))).failure(), UnauthorizedError)
        assert isinstance((await run(account(server.url, no_credits_status=403))).failure(), QuotaExhaustedError)


@pytest.mark.parametrize("status", ["400 Bad", "401 No", "402 Pay", "403 No", "422 Bad", "429 Slow", "307 Elsewhere"])
async def test_a_refused_creation_is_sent_once_and_not_looked_for(status: str) -> None:
    async with upstream(json_body(nest(0, "no"), status=status, Location="/again", Retry_After="0")) as server:
        outcome = await run(account(server.url))
        assert [path_of(heard.line) for heard in server.heard] == [CREATE]
    assert outcome.events == []
    assert (outcome.failure().billed, outcome.failure().transport) == (False, Transport.ACCEPTED)


@pytest.mark.parametrize(
    ("answer", "error", "transport"),
    [
        (b"", OutcomeUnknownError, Transport.PERHAPS_SENT),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", OutcomeUnknownError, Transport.PERHAPS_SENT),
        (b"SSH-2.0-OpenSSH\r\n\r\n", OutcomeUnknownError, Transport.PERHAPS_SENT),
        (http(b"", status="500 Oops"), UnavailableError, Transport.PERHAPS_SENT),
        (http(b"<html>", status="502 Bad Gateway"), UnavailableError, Transport.PERHAPS_SENT),
        (http(b"", status="504 Late"), TimedOutError, Transport.PERHAPS_SENT),
        (http(b"<html>", media_type="text/html"), BadResponseError, Transport.ACCEPTED),
        (json_body([1]), BadResponseError, Transport.ACCEPTED),
        (json_body({"status": 0}), BadResponseError, Transport.ACCEPTED),
    ],
)
async def test_a_creation_without_a_clear_answer_is_looked_for_and_never_sent_again(
    answer: bytes, error: type[ProviderError], transport: Transport
) -> None:
    async with upstream(by_route({CREATE: answer, LIST: NOTHING})) as server:
        failure = (await run(account(server.url))).failure()
        paths = [path_of(heard.line) for heard in server.heard]
    assert isinstance(failure, error)
    assert (failure.transport, failure.billed) == (transport, None)
    assert paths.count(CREATE) == 1
    assert paths.count(LIST) > 1, "a list may lag"


async def test_what_was_never_sent_is_known_not_to_be_billed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    failure = (await run(account(f"http://127.0.0.1:{port}/v1"))).failure()
    assert isinstance(failure, UnavailableError)
    assert (failure.transport, failure.billed, failure.retryable) == (Transport.NOT_SENT, False, True)


async def test_silence_leaves_the_outcome_unknown() -> None:
    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        if path_of(heard.line) == CREATE:
            await asyncio.sleep(0.5)
        writer.write(NOTHING)

    async with upstream(answer) as server:
        failure = (await run(account(server.url, read_timeout_seconds=0.1))).failure()
    assert isinstance(failure, OutcomeUnknownError)
    assert failure.transport is Transport.PERHAPS_SENT


async def test_a_generation_is_not_given_up_because_the_vendor_asks_for_an_hour(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("providers.all_images.api.LONGEST_ASKED_SECONDS", 0.01)
    answers = by_route({READ: [http(b"", status="503 Maintenance", Retry_After="3600"), http(b"", status="404 Gone")]})
    async with upstream(answers) as server:
        failure = (await run(account(server.url), resume=Submission(id="g"))).failure()
        assert len(server.heard) > 1
    assert isinstance(failure, ResultUnavailableError)


async def test_a_wrong_key_is_named_by_its_setting() -> None:
    async with upstream(json_body(nest(401, "Unauthorized", None), status="401 No")) as server:
        failure = (await run(account(server.url))).failure()
    assert "DARKROOM_ALL_IMAGES_API_KEY" in failure.message


async def test_the_key_never_shows(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = f"Invalid api-key {KEY}"
    shown: list[str] = []
    for answer in (
        json_body({"statusCode": 401, "message": echo, "error": KEY}, status="401 No"),
        json_body({"statusCode": 400, "message": [echo, KEY]}, status="400 Bad"),
        http(echo.encode(), media_type="text/plain"),
        json_body({"id": KEY, "webhookId": KEY, "apiKeyId": KEY, "status": "x"}, status="500 Oops"),
        b"",
    ):
        async with upstream(answer) as server:
            provider = account(server.url)
            failures: list[ProviderError] = [(await run(provider)).failure()]
            provider = account(server.url, download_seconds=0.05)
            health = await provider.health()
            for call in (
                provider.purchase("i"),
                provider.find("r"),
                provider.delete(Submission(id="g")),
                provider.retry(Submission(id="g"), request()),
            ):
                try:
                    await call
                except ProviderError as exc:
                    failures.append(exc)
            await provider.aclose()
        shown += [repr(health), repr(provider), repr(vars(provider)), repr(vars(vars(provider)["_api"]))]
        for failure in failures:
            shown += [str(failure), repr(failure), *map(str, vars(failure).values())]
            shown += traceback.format_exception(failure)
    assert not [text for text in shown if KEY in text]
    assert KEY not in caplog.text

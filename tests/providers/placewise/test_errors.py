"""What goes wrong with an order, and what is said about it: what it was, whether it is billed, whether to try again."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback

import httpx
import orjson
import pytest
from pydantic import JsonValue

from providers.contract import Accepted
from providers.errors import (
    BadResponseError,
    InvalidRequestError,
    OutcomeUnknownError,
    ProviderError,
    RateLimitedError,
    RefusedError,
    TimedOutError,
    Transport,
    UnauthorizedError,
    UnavailableError,
)
from providers.placewise.errors import Speaker, refusal
from tests.providers.placewise.account import CREATED, TOKEN, USER_TOKEN, account, answered, posts, run
from tests.providers.upstream import Heard, http, json_body, upstream

pytestmark = pytest.mark.anyio

PLAIN: JsonValue = {"error": "as the vendor says"}
TREE: JsonValue = {
    "error": "Invalid parameters",
    "details": {
        "image_size": [
            {
                "value": "small",
                "error": "inclusion",
                "options": {"in": ["thumbnail", "medium"]},
                "message": "is not included in the list",
            }
        ],
        "creativity": [
            {"value": -1, "error": "greater_or_equal_to", "options": {"number": 0}, "message": ""},
            {"value": -1, "error": "odd"},
        ],
        "nested": {"0": {"name": [{"error": "presence"}]}, "1": [{"error": "blank", "message": "can't be blank"}]},
    },
}


def converted(status: int, body: JsonValue | bytes = b"", **headers: str) -> ProviderError:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return refusal(status, httpx.Headers(named), raw, Speaker("api.example", (TOKEN,)))


@pytest.mark.parametrize("body", [PLAIN, b"", b"<html>nothing</html>"], ids=["plain", "empty", "html"])
@pytest.mark.parametrize(
    ("status", "error", "retryable"),
    [
        (400, InvalidRequestError, False),
        (401, UnauthorizedError, False),
        (402, UnauthorizedError, False),
        (403, UnauthorizedError, False),
        (405, InvalidRequestError, False),
        (406, InvalidRequestError, False),
        (408, TimedOutError, False),
        (409, InvalidRequestError, False),
        (418, InvalidRequestError, False),
        (422, InvalidRequestError, False),
        (429, RateLimitedError, True),
        (444, RefusedError, False),
        (460, UnauthorizedError, False),
        (465, InvalidRequestError, False),
        (470, UnauthorizedError, False),
        (471, UnauthorizedError, False),
        (500, UnavailableError, False),
        (502, UnavailableError, False),
        (503, UnavailableError, True),
        (504, TimedOutError, False),
    ],
)
async def test_a_status_is_what_the_vendor_documents(
    status: int, error: type[ProviderError], retryable: bool, body: JsonValue | bytes
) -> None:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    outcome = await answered(http(raw, status=f"{status} Whatever", X_Request_Id="req_7"))
    failure = outcome.failure()
    assert outcome.events == []
    assert isinstance(failure, error)
    assert failure.retryable is retryable
    assert failure.status == status
    assert failure.request_id == "req_7"
    assert failure.safe_to_send_again is (status == 429)
    if status < 500 and status != 408:
        assert (failure.billed, failure.transport) == (False, Transport.ACCEPTED)
    else:
        assert (failure.billed, failure.transport) == (None, Transport.PERHAPS_SENT)
    said = body == PLAIN
    assert failure.vendor_message == ("as the vendor says" if said else None)
    assert ("as the vendor says" in failure.message) is said
    assert f"HTTP {status}" in failure.message


@pytest.mark.parametrize(
    ("status", "settings"),
    [
        (401, ["CLIENT_TOKEN", "USER_TOKEN", "LOYALTY_CLUB_SLUG"]),
        (402, ["LOYALTY_CLUB_SLUG"]),
        (403, ["CLIENT_TOKEN", "ML:ImageGeneration:Post"]),
        (460, ["USER_TOKEN"]),
        (470, ["LOYALTY_CLUB_SLUG", "USER_AGENT", "PRODUCT_NAME"]),
        (471, ["CUSTOMER", "LOCALE"]),
        (404, ["BASE_URL"]),
    ],
)
def test_an_error_of_the_account_names_the_settings_to_look_at(status: int, settings: list[str]) -> None:
    assert all(name in converted(status).message for name in settings)


def test_a_missing_resource_is_not_a_missing_api() -> None:
    assert isinstance(converted(404, PLAIN), InvalidRequestError)
    assert isinstance(converted(404, b"<html>not found</html>"), BadResponseError)


def test_every_leaf_of_a_422_is_told_with_its_path() -> None:
    failure = converted(422, TREE)
    assert isinstance(failure, InvalidRequestError)
    assert failure.parameter == "image_size"
    assert failure.vendor_code == "inclusion"
    assert failure.vendor_message == "Invalid parameters"
    for part in (
        'image_size: is not included in the list (inclusion, in: thumbnail | medium, got "small")',
        "creativity: greater or equal to (greater_or_equal_to, number: 0, got -1)",
        "creativity: odd (got -1)",
        "nested.0.name: presence",
        "nested.1: can't be blank (blank)",
    ):
        assert part in failure.message, part


@pytest.mark.parametrize(
    "details",
    [
        None,
        [],
        "text",
        7,
        {"a": None},
        {"a": 1.5},
        {"a": [None, 3, []]},
        {"a": [{"error": None, "message": None, "options": 5}]},
        {"a": [{"error": {"b": 1}}]},
        {"prompt": ["plain text"], "x": "y"},
    ],
)
def test_a_422_of_any_other_shape_is_survived(details: JsonValue) -> None:
    assert isinstance(converted(422, {"error": "Invalid parameters", "details": details}), InvalidRequestError)


def test_a_huge_tree_makes_no_huge_message() -> None:
    deep: JsonValue = [{"error": "x"}]
    for _ in range(200):
        deep = {"a": deep}
    wide: JsonValue = {f"p{number}": [{"error": "blank", "value": "v" * 5000}] for number in range(5000)}
    failure = converted(422, {"error": "Invalid parameters", "details": {"deep": deep, "wide": wide}})
    assert len(failure.message) < 6000
    assert failure.parameter == "wide"


def test_when_to_come_back_is_kept_should_the_vendor_say() -> None:
    assert converted(429, b"", retry_after="7").retry_after == 7
    assert converted(429, PLAIN).retry_after is None
    assert converted(429, {"error": "slow down", "retry_after": 9}).retry_after == 9


async def test_a_redirect_is_not_followed_and_says_where_it_leads() -> None:
    async with upstream(CREATED) as elsewhere:
        location = f"{elsewhere.url.replace('127.0.0.1', 'localhost')}/v1?secret=1"
        outcome = await answered(http(b"", status="308 Permanent Redirect", Location=location))
        assert elsewhere.heard == []
    failure = outcome.failure()
    assert isinstance(failure, BadResponseError)
    assert "localhost" in failure.message
    assert "secret" not in failure.message
    assert (failure.billed, failure.retryable) == (False, False)


@pytest.mark.parametrize("status", ["429 Too Many", "500 Oops", "503 Maintenance", "307 Elsewhere", "444 Blocked"])
async def test_an_order_that_fails_is_sent_exactly_once(status: str) -> None:
    async with upstream(http(b"", status=status, Location="/again", Retry_After="0")) as server:
        assert (await run(account(server.url))).error is not None
    assert len(server.heard) == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-"])
async def test_a_connection_cut_before_the_answer_leaves_the_outcome_unknown(answer: bytes) -> None:
    async with upstream(answer) as server:
        outcome = await run(account(server.url))
    assert posts(server.heard) == 1
    failure = outcome.failure()
    assert isinstance(failure, OutcomeUnknownError)
    assert (failure.transport, failure.billed, failure.retryable) == (Transport.PERHAPS_SENT, None, False)
    assert outcome.events == []


async def test_an_answer_cut_inside_was_accepted_and_is_never_a_success() -> None:
    head = CREATED.index(b"\r\n\r\n") + 4
    for end in range(head, len(CREATED)):
        failure = (await answered(CREATED[:end])).failure()
        assert isinstance(failure, OutcomeUnknownError), end
        assert failure.transport is Transport.ACCEPTED
    unframed = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + CREATED[head:]
    assert (await answered(unframed)).error is None
    assert (await answered(unframed[:-3])).failure().transport is Transport.ACCEPTED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>welcome</html>",
        b"{'image_generation_task': {'id': 1}}",
        b"[]",
        b"{}",
        b'{"image_generation_task": null}',
        b'{"image_generation_task": {}}',
        b'{"image_generation_task": {"id": null}}',
        b'{"image_generation_task": {"id": true}}',
        b'{"image_generation_task": {"id": 1.5}}',
        b'{"image_generation_task": {"id": ""}}',
    ],
)
async def test_an_acceptance_without_a_task_id_is_no_success(body: bytes) -> None:
    failure = (await answered(http(body))).failure()
    assert isinstance(failure, OutcomeUnknownError)
    assert (failure.transport, failure.billed, failure.retryable) == (Transport.ACCEPTED, None, False)


@pytest.mark.parametrize(("task_id", "kept"), [(0, "0"), (2**60, str(2**60)), ("abc", "abc")])
async def test_any_task_id_is_kept_and_unknown_fields_are_ignored(task_id: int | str, kept: str) -> None:
    body = json_body({"x": [1], "image_generation_task": {"id": task_id, "eta": {"s": None}}, "image": None})
    outcome = await answered(body)
    assert outcome.error is None
    (accepted,) = outcome.events
    assert isinstance(accepted, Accepted)
    assert accepted.submission.id == kept


async def test_silence_before_the_answer_leaves_the_outcome_unknown() -> None:
    async def silent(_heard: Heard, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)

    failure = (await answered(silent, read_timeout_seconds=0.05)).failure()
    assert isinstance(failure, OutcomeUnknownError)
    assert failure.transport is Transport.PERHAPS_SENT
    assert "in time" in failure.message


async def test_what_was_never_sent_is_known_not_to_be_billed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}", f"http://localhost:{port}/proxy"):
        failure = (await run(account(url))).failure()
        assert isinstance(failure, UnavailableError)
        assert (failure.transport, failure.billed, failure.retryable) == (Transport.NOT_SENT, False, True)


async def test_a_tls_failure_means_that_nothing_was_sent() -> None:
    async with upstream(b"") as server:
        failure = (await run(account(server.url.replace("http:", "https:"), connect_timeout_seconds=0.5))).failure()
    assert failure.transport is Transport.NOT_SENT


async def test_the_tokens_never_show(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = f"Bad token {TOKEN} or Bearer {USER_TOKEN}"
    leaf: JsonValue = {"prompt": [{"error": TOKEN, "message": echo, "value": USER_TOKEN, "options": {TOKEN: echo}}]}
    answers = [
        json_body({"error": echo}, status="401 Unauthorized"),
        json_body({"error": echo, "details": leaf}, status="422 Unprocessable"),
        http(echo.encode(), media_type="text/plain"),
        b"",
    ]
    for answer in answers:
        async with upstream(answer) as server:
            provider = account(server.url, user_token=USER_TOKEN)
            failure = (await run(provider)).failure()
        shown = [str(failure), repr(failure), *map(str, vars(failure).values()), repr(provider), repr(failure.args)]
        shown += traceback.format_exception(failure)
        for secret in (TOKEN, USER_TOKEN):
            assert not [text for text in shown if secret in text]
    assert TOKEN not in caplog.text
    assert USER_TOKEN not in caplog.text

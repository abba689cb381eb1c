"""What can be done beside a run: stop, retry, delete, and ask about the account; the vendor is made of bare sockets."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import JsonValue

from providers.all_images.adapter import AllImages
from providers.contract import (
    CancelOutcome,
    Deleting,
    Health,
    Purchasing,
    Retrying,
    Submission,
)
from providers.errors import (
    OutcomeUnknownError,
    UnavailableError,
)
from tests.providers.all_images.account import (
    REFERENCE,
    account,
    request,
)
from tests.providers.all_images.bare import NOT_FOUND, PUT, READ, RETRY, Vendor, generation, made, paths
from tests.providers.upstream import Heard, http, json_body, upstream

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("look", "outcome"),
    [
        (generation(1), CancelOutcome.ABANDONED),
        (generation(3, 4), CancelOutcome.TOO_LATE),
        (generation(4), CancelOutcome.TOO_LATE),
        (NOT_FOUND, CancelOutcome.ABANDONED),
        (http(b"", status="500 Oops"), CancelOutcome.ABANDONED),
    ],
)
async def test_nothing_is_stopped_and_nothing_deleted(
    look: dict[str, JsonValue] | bytes, outcome: CancelOutcome
) -> None:
    async with upstream(Vendor(look)) as server:
        provider = account(server.url)
        assert await provider.cancel(Submission("g")) is outcome
        assert await provider.cancel(Submission(None)) is CancelOutcome.ABANDONED
        await provider.aclose()
    assert {method for method, _ in paths(server)} == {"GET"}


async def test_who_cancels_does_not_wait_for_a_vendor_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.all_images.adapter._CANCEL_SECONDS", 0.05)

    async def answer(_heard: Heard, _writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    async with upstream(answer) as server, asyncio.timeout(5):
        provider = account(server.url)
        assert await provider.cancel(Submission("g")) is CancelOutcome.ABANDONED
        await provider.aclose()


async def test_a_retry_puts_the_new_request_and_tries_again_once() -> None:
    async with upstream(Vendor(generation(4), retry=http(b""))) as server:
        provider = account(server.url)
        before = Submission("g", state={"reference": REFERENCE, "webhook": "w"})
        after = await provider.retry(before, request(prompt="a blue fox"))
        await provider.aclose()
    assert after == Submission("g", state={"reference": REFERENCE, "webhook": "w", "retried": True})
    assert paths(server) == [PUT, RETRY]
    assert server.heard[0].json == request(prompt="a blue fox").replacement(REFERENCE)


async def test_after_a_retry_the_old_failure_is_not_taken_for_a_new_one() -> None:
    retried = Submission("g", state={"retried": True})
    outcome, _ = await made(Vendor(generation(4), generation(4), generation(0), generation(3, 4)), resume=retried)
    assert outcome.error is None
    outcome, server = await made(Vendor(generation(4)), resume=retried)
    assert isinstance(outcome.failure(), UnavailableError)
    assert paths(server).count(READ) == 3
    outcome, server = await made(Vendor(generation(4), generation(1), generation(4)), resume=retried)
    assert paths(server).count(READ) == 3, "the second failure is a new one and needs no proof"


async def test_a_retry_without_an_answer_is_looked_for_and_never_sent_again() -> None:
    async with upstream(Vendor(generation(4), generation(0), retry=b"")) as server:
        provider = account(server.url)
        assert (await provider.retry(Submission("g"), request())).state == {"retried": True}
        await provider.aclose()
        assert paths(server).count(RETRY) == 1
    async with upstream(Vendor(generation(4), retry=b"")) as server:
        provider = account(server.url)
        with pytest.raises(OutcomeUnknownError):
            await provider.retry(Submission("g"), request())
        await provider.aclose()
        assert paths(server).count(RETRY) == 1


async def test_a_deletion_is_confirmed_because_its_answer_says_nothing() -> None:
    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(http(b"") if heard.line.startswith("DELETE") else gone.pop(0) if len(gone) > 1 else gone[0])

    gone = [json_body(generation(3)), NOT_FOUND]
    async with upstream(answer) as server:
        provider = account(server.url)
        await provider.delete(Submission("g"))
        assert server.heard[0].json == {"printIds": ["g"]}
        assert server.heard[0].line == "DELETE /image-generations HTTP/1.1"
        gone[:] = [json_body(generation(3))]
        with pytest.raises(UnavailableError, match="still has it"):
            await provider.delete(Submission("g"))
        await provider.aclose()


@pytest.mark.parametrize(
    ("credits", "expected"),
    [
        ([{"type": "f_images", "credit": 7, "creditTotal": 10}], [("f_images", 7, 10)]),
        ([{"type": "global", "credit": 0, "unlimited": True}], [("global", None, None)]),
        ([{"credit": 0.5}], [("credits", 0.5, None)]),
        ([{"type": "x"}, 7, None], []),
        ({}, []),
    ],
)
async def test_credits_are_part_of_health(
    credits: JsonValue, expected: list[tuple[str, float | None, float | None]]
) -> None:
    health = await _health(json_body({"email": "someone@example.com", "credits": credits}))
    assert health.usable
    assert [(credit.kind, credit.left, credit.total) for credit in health.credits] == expected
    assert "someone@" not in repr(health)


async def test_health_says_what_is_wrong_and_generates_nothing() -> None:
    assert "no credits" in (await _health(json_body({"credits": [{"type": "global", "credit": 0}]}))).message
    wrong = await _health(json_body({"statusCode": 401, "message": "Unauthorized"}, status="401 No"))
    assert not wrong.usable
    assert "API_KEY" in wrong.message
    assert not (await _health(b"")).usable


async def _health(answer: bytes) -> Health:
    async with upstream(answer) as server:
        provider = account(server.url)
        health = await provider.health()
        await provider.aclose()
    assert set(paths(server)) <= {("GET", "/api-keys/check"), ("GET", "/credit")}
    assert health is not None
    return health


async def test_it_is_everything_it_says_it_is() -> None:
    provider: AllImages = account("http://127.0.0.1:1")
    assert isinstance(provider, Purchasing)
    assert isinstance(provider, Retrying)
    assert isinstance(provider, Deleting)
    await provider.aclose()

"""Looks at a generation that is paid for, and that fail: none of them gives it up before its deadline."""

from __future__ import annotations

import pytest

from providers.contract import Submission
from providers.errors import TimedOutError, Transport
from tests.providers.all_images.bare import CREATE, READ, Vendor, generation, made, paths
from tests.providers.upstream import http, json_body

pytestmark = pytest.mark.anyio

REFUSED = json_body({"statusCode": 401, "message": "Unauthorized"}, status="401 No")


@pytest.mark.parametrize(
    "odd",
    [
        REFUSED,
        http(b"", status="403 No"),
        http(b"", status="400 Bad"),
        http(b"", status="302 Elsewhere", Location="http://x/"),
        http(b"", status="408 Slow"),
        http(b"", status="500 Oops"),
        http(b"", status="520 Unknown"),
        http(b"<html>", media_type="text/html"),
        json_body([]),
        b"",
    ],
)
async def test_a_look_that_fails_is_taken_again(odd: bytes) -> None:
    outcome, server = await made(Vendor(odd, odd, generation(2, 1), odd, generation(3, 4)))
    assert outcome.error is None
    assert [final.index for final in outcome.finals] == [0, 1, 2, 3]
    assert paths(server).count(READ) == 5
    assert paths(server).count(CREATE) == 1


@pytest.mark.parametrize(
    ("answer", "said", "told"),
    [
        (REFUSED, ["DARKROOM_ALL_IMAGES_API_KEY", "Unauthorized", "401"], 1),
        (json_body({"message": "name must be a text"}, status="400 Bad"), ["name must be a text", "400"], 1),
        (http(b"<html>", media_type="text/html"), ["DARKROOM_ALL_IMAGES_BASE_URL", "no JSON"], 1),
        (json_body([]), ["no object"], 1),
        (json_body({"message": "Internal server error"}, status="500 Oops"), ["Internal server error", "500"], 0),
        (http(b"", status="503 Busy"), ["503"], 0),
    ],
)
async def test_what_keeps_failing_is_given_up_at_the_deadline_and_told_once(
    answer: bytes, said: list[str], told: int
) -> None:
    outcome, _ = await made(Vendor(answer), Submission(id="g"), deadline_seconds=0.2)
    failure = outcome.failure()
    assert isinstance(failure, TimedOutError)
    assert (failure.transport, failure.billed) == (Transport.ACCEPTED, None)
    assert len(outcome.notices) == told
    for text in (failure.message, *(notice.message for notice in outcome.notices)):
        assert all(word in text for word in said), text


async def test_each_new_problem_is_told_once() -> None:
    other = http(b"", status="403 No")
    outcome, _ = await made(Vendor(REFUSED, other, REFUSED, other, generation(3, 1)))
    assert outcome.error is None
    first, second = outcome.notices
    assert "401" in first.message
    assert "403" in second.message


async def test_reading_is_tried_again_after_what_passes() -> None:
    busy = http(b"", status="503 Busy")
    outcome, server = await made(Vendor(busy, b"", http(b"", status="429 Slow", Retry_After="0"), generation(3, 1)))
    assert outcome.error is None
    assert paths(server).count(READ) == 4


async def test_the_vendor_is_not_asked_again_before_it_wants_to_be_but_once_at_the_deadline() -> None:
    slow = http(b"", status="429 Slow", Retry_After="30")
    outcome, server = await made(Vendor(slow), Submission(id="g"), deadline_seconds=0.3)
    assert isinstance(outcome.failure(), TimedOutError)
    assert "429" in outcome.failure().message
    assert len(server.heard) <= 2
    outcome, _ = await made(Vendor(slow, generation(3, 1)), Submission(id="g"), deadline_seconds=1)
    assert len(outcome.finals) == 1, "it is paid for, so nothing is given up unseen"

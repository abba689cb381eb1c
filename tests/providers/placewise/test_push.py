"""Results that are sent to a callback URL: any form, any order, repeated, before and after a restart."""

from __future__ import annotations

import asyncio
import base64

import httpx
import orjson
import pytest
from pydantic import JsonValue

from providers.contract import Notice, Submission
from providers.errors import (
    ResultUnavailableError,
    TimedOutError,
    Transport,
    TruncatedError,
    UnavailableError,
)
from tests.providers.placewise.account import (
    CREATED,
    PNG,
    PUSH,
    Listener,
    Outcome,
    account,
    creating,
    listening,
    picture,
    posts,
    run,
)
from tests.providers.upstream import Answer, Heard, http, kinds, upstream

pytestmark = pytest.mark.anyio

BASE64 = base64.b64encode(PNG).decode()


def said(state: str, **more: JsonValue) -> bytes:
    return orjson.dumps({"state": state, **more})


async def pushed(*reports: bytes | tuple[str, bytes], **settings: object) -> Outcome:
    """What comes of an order about which the vendor sends these reports."""
    listener = Listener("http://127.0.0.1:1/callbacks/t0ken")

    async def answer(_heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(CREATED)
        for each in reports:
            media_type, body = each if isinstance(each, tuple) else ("application/json", each)
            listener.deliver(body, media_type)

    async with upstream(answer) as server:
        outcome = await run(account(server.url, **{**PUSH, **settings}), callback=listener)
        assert posts(server.heard) == len(server.heard) == 1
    assert listener.closed
    return outcome


@pytest.mark.parametrize(
    "report",
    [
        ("image/png", PNG),
        ("IMAGE/PNG; x=y", PNG),
        ("", PNG),
        ("application/octet-stream", PNG),
        said("ready", images=[BASE64]),
        said("ready", images=[f"data:image/png;base64,{BASE64}"], x={"y": None}),
        ("text/plain", said("ready", images=[BASE64])),
    ],
)
async def test_a_picture_may_be_sent_in_any_of_these_forms(report: bytes | tuple[str, bytes]) -> None:
    outcome = await pushed(report)
    assert outcome.error is None
    assert outcome.finals == [PNG]
    assert kinds(outcome.events)[0] == "Accepted"


async def test_a_link_is_fetched() -> None:
    async with upstream(picture()) as store:
        assert (await pushed(said("ready", images=[f"{store.url}/41.png"]))).finals == [PNG]


async def test_a_link_that_does_not_work_is_told_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.placewise.listening.FIRST_WAIT", 0.01)
    gone = http(b"", status="404 Gone")
    async with upstream(creating(gone, gone, picture())) as store:
        outcome = await pushed(said("ready", images=[f"{store.url}/41.png"]))
    assert outcome.finals == [PNG]
    assert outcome.states == ["ready"]
    assert kinds(outcome.events).count("Notice") == 1
    assert len(store.heard) == 3


async def test_a_link_that_does_not_work_may_be_another_one_in_the_next_report() -> None:
    async with upstream(http(b"", status="404 Gone")) as dead, upstream(picture()) as store:
        outcome = await pushed(
            said("ready", images=[f"{dead.url}/1.png"]), said("working"), said("ready", images=[f"{store.url}/2.png"])
        )
    assert outcome.finals == [PNG]


async def test_a_link_that_never_works_fails_at_the_deadline_as_a_picture_that_was_made() -> None:
    async with upstream(http(b"", status="404 Gone")) as store:
        failure = (await pushed(said("ready", images=[f"{store.url}/41.png"]), deadline_seconds=0.2)).failure()
    assert isinstance(failure, ResultUnavailableError)
    assert (failure.transport, failure.billed) == (Transport.ACCEPTED, True)


async def test_a_picture_that_came_cut_may_come_whole() -> None:
    outcome = await pushed(("image/png", PNG[:-9]), ("image/png", PNG))
    assert outcome.finals == [PNG]


async def test_reports_may_repeat_and_overtake_each_other() -> None:
    outcome = await pushed(said("waiting"), said("waiting"), said("working"), said("working"), ("image/png", PNG))
    assert outcome.states == ["waiting", "working"]
    assert outcome.finals == [PNG]
    early = await pushed(said("ready", images=[BASE64]), said("working"), said("ready", images=[BASE64]))
    assert (early.states, early.finals) == (["ready"], [PNG])


async def test_a_report_that_makes_no_sense_is_told_once_and_passed_over() -> None:
    outcome = await pushed(b"<xml/>", b"<xml/>", said("ready"), b"[]", b"", said("ready", images=[BASE64]))
    assert outcome.finals == [PNG]
    notices = [event.message for event in outcome.events if isinstance(event, Notice)]
    assert len(notices) == 3
    assert "no JSON" in notices[0]
    assert "IMAGE_POINTER" in notices[1]


async def test_a_flood_of_nonsense_makes_no_flood_of_notices() -> None:
    outcome = await pushed(*(f"<{number}>".encode() for number in range(100)), ("image/png", PNG))
    assert outcome.finals == [PNG]
    assert len(outcome.notices) <= 1
    assert kinds(outcome.events).count("Notice") == 5


async def test_a_failure_is_a_failure() -> None:
    failure = (await pushed(said("working"), said("failed", why="no paint"))).failure()
    assert isinstance(failure, UnavailableError)
    assert "no paint" in failure.message
    assert not failure.retryable
    broken = (await pushed(("image/png", PNG[:-9]), deadline_seconds=0.05)).failure()
    assert isinstance(broken, TruncatedError)
    assert broken.billed is True


async def test_nothing_sent_in_time_times_out() -> None:
    failure = (await pushed(said("working"), deadline_seconds=0.05)).failure()
    assert isinstance(failure, TimedOutError)
    assert failure.transport is Transport.ACCEPTED
    assert "working" in failure.message


async def test_a_report_over_a_real_socket() -> None:
    async with listening() as listener:

        async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
            writer.write(CREATED)
            async with httpx.AsyncClient(trust_env=False) as vendor:
                told = heard.headers["x-notify"]
                await vendor.post(told, content=said("working"), headers={"Content-Type": "application/json"})
                await vendor.post(told, content=PNG, headers={"Content-Type": "image/png"})

        outcome = await ordered(answer, listener)
    assert outcome.states == ["working"]
    assert outcome.finals == [PNG]


async def ordered(answer: Answer, listener: Listener) -> Outcome:
    async with upstream(answer) as server:
        return await run(account(server.url, **PUSH), callback=listener)


async def test_a_resumed_task_hears_what_came_while_nobody_listened_and_never_posts() -> None:
    listener = Listener("http://127.0.0.1:1/callbacks/t0ken")
    listener.deliver(said("working"))
    listener.deliver(PNG, "image/png")
    async with upstream(b"") as server:
        outcome = await run(account(server.url, **PUSH), resume=Submission("41"), callback=listener)
        assert server.heard == []
    assert kinds(outcome.events) == ["Progress", "FinalImage"]


async def test_without_a_callback_nothing_is_sent_because_nothing_could_come_back() -> None:
    async with upstream(CREATED) as server:
        failure = (await run(account(server.url, **PUSH))).failure()
        assert server.heard == []
    assert isinstance(failure, UnavailableError)
    assert (failure.transport, failure.billed, failure.retryable) == (Transport.NOT_SENT, False, False)
    assert "RESULTS" in failure.message


async def test_a_resumed_task_without_a_callback_cannot_get_its_result() -> None:
    async with upstream(b"") as server:
        failure = (await run(account(server.url, **PUSH), resume=Submission("41"))).failure()
    assert isinstance(failure, ResultUnavailableError)
    assert (failure.transport, failure.billed) == (Transport.ACCEPTED, None)

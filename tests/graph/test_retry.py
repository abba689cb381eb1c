"""Sending again: by itself only what cannot be paid twice, and by `retryTask` only what is missing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from graph.ids import encode
from tests.clients import (
    RETRY,
    all_images,
    cancel,
    charges,
    eventually,
    execute,
    openai_images,
    placewise,
    retry,
    start,
    task,
    until,
    watch,
)
from tests.server import LiveServer, Reachable, running

pytestmark = pytest.mark.anyio

TWO_OF_THREE = "Three doors [[sandbox: truncate=1 truncate_decodable]]"
"""One of three pictures arrives broken."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One of its own, because what other tests do to an account shows in its circuit."""
    settings = {"shutdown_seconds": 0, "retry_attempts": 3, "retry_seconds": 0.5}
    with running(tmp_path_factory.mktemp("retrying"), tasks=settings) as live:
        yield live


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["__typename"] for event in events]


async def script(server: Reachable, provider: str, *scripts: dict[str, Any]) -> None:
    """What happens to the next requests."""
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.put(f"{server.url}/sandbox/{provider}/script", json=list(scripts))
    assert response.is_success, response.text


async def test_only_the_missing_pictures_are_asked_for_again(server: LiveServer) -> None:
    first = await start(server, openai_images(TWO_OF_THREE, n=3))
    assert (await watch(server, first))[-1]["__typename"] == "TaskFailed"
    before = await task(server, first)
    result = await retry(server, first)
    again = result["task"]["id"]
    await watch(server, again)
    after = await task(server, again)

    assert len(before["images"]) == 2
    assert result["__typename"] == "RetryTaskSuccess"
    assert again != first
    assert result["task"]["retriedFrom"] == {"id": first}
    assert (before["request"], after["request"]) == ({"n": 3}, {"n": 1})
    assert after["prompt"] == before["prompt"]
    assert await task(server, first) == before, "the old task stays as it is"


async def test_a_second_click_on_retry_pays_once_also_when_a_picture_came_late_between_the_two(
    server: LiveServer,
) -> None:
    first = await start(server, openai_images("A yard [[sandbox: pause=0.3]]", n=2, partialImages=1))
    await until(server, first, "PartialImageReady")
    await cancel(server, first)
    again = (await retry(server, first, "click"))["task"]["id"]

    async def both_pictures() -> bool:
        return len((await task(server, first))["images"]) == 2

    await eventually(both_pictures)
    assert (await retry(server, first, "click"))["task"]["id"] == again
    assert (await retry(server, first, "another click"))["code"] == "NOT_RETRYABLE"
    await watch(server, again)
    assert await charges(server, again) == 1


async def test_two_clicks_at_the_same_instant_are_one_task(server: LiveServer) -> None:
    first = await start(server, placewise("A lawn [[sandbox: status=400]]"))
    await watch(server, first)
    results = await asyncio.gather(*(retry(server, first, "at once") for _ in range(5)))

    assert len({result["task"]["id"] for result in results}) == 1


async def test_a_key_that_belongs_to_something_else_is_a_conflict(server: LiveServer) -> None:
    variables = placewise("A moat [[sandbox: status=400]]")
    variables["input"]["idempotencyKey"] = "moat"
    first = await start(server, variables)
    await watch(server, first)

    assert (await retry(server, first, "moat"))["code"] == "IDEMPOTENCY_CONFLICT"


async def test_what_cannot_be_retried_says_why(server: LiveServer) -> None:
    done = await start(server, placewise("A hall"))
    await watch(server, done)
    going = await start(server, placewise("A hall [[sandbox: pause=60]]"))
    answer = await execute(server, RETRY, {"input": {"id": done, "idempotencyKey": ""}})
    invalid = answer["data"]["retryTask"]

    complete, early = await retry(server, done), await retry(server, going)
    assert (complete["__typename"], complete["code"]) == ("NotRetryableError", "NOT_RETRYABLE")
    assert "pictures are here" in complete["message"]
    assert (early["__typename"], early["code"]) == ("NotRetryableError", "NOT_RETRYABLE")
    assert "cancel it first" in early["message"]
    for id in (encode("Task", "0" * 32), "nonsense", encode("Image", "0" * 32)):
        assert (await retry(server, id))["__typename"] == "NotFoundError"
    assert invalid["__typename"] == "ValidationError"
    assert invalid["problems"][0]["path"][-1] == "idempotencyKey"


async def test_a_task_whose_outcome_is_unknown_can_be_paid_for_again_by_a_person_only(server: LiveServer) -> None:
    await script(server, "openai_images", {"lose": "response"})
    first = await start(server, openai_images("A nave"))
    failure = (await watch(server, first))[-1]["failure"]
    result = await retry(server, first)
    again = result["task"]["id"]

    assert (failure["code"], failure["billed"], failure["transport"]) == ("OUTCOME_UNKNOWN", None, "PERHAPS_SENT")
    assert (await watch(server, again))[-1]["__typename"] == "TaskSucceeded"
    assert (await charges(server, first), await charges(server, again)) == (1, 1)


@pytest.mark.parametrize(
    ("provider", "request_", "refusal"),
    [
        ("openai_images", openai_images("A crypt"), {"status": 429, "retry_after": 0.2}),
        ("openai_images", openai_images("A crypt"), {"status": 429, "message": "Please try again in 200ms."}),
        ("placewise", placewise("A crypt"), {"status": 429, "retry_after": 0.2}),
        ("all_images", all_images("A crypt"), {"status": 429, "retry_after": 0.2}),
    ],
)
async def test_what_a_provider_turned_away_is_sent_again_when_it_said_and_paid_once(
    server: LiveServer, provider: str, request_: dict[str, Any], refusal: dict[str, Any]
) -> None:
    await script(server, provider, refusal)
    task_id = await start(server, request_)
    events = await watch(server, task_id)
    (scheduled,) = [event for event in events if event["__typename"] == "TaskRetryScheduled"]
    done = await task(server, task_id)

    assert events[-1]["__typename"] == "TaskSucceeded"
    assert [event.get("status") for event in events if event["__typename"] == "TaskStatusChanged"] == [
        "QUEUED",
        "SUBMITTING",
        "SUBMITTING",
        "RUNNING",
    ]
    assert (scheduled["attempt"], scheduled["failure"]["code"]) == (2, "RATE_LIMITED")
    assert scheduled["failure"]["retryAfter"] == pytest.approx(0.2)
    assert datetime.fromisoformat(done["submittedAt"]) >= datetime.fromisoformat(scheduled["retryAt"])
    assert (done["attempt"], done["retryAt"]) == (2, None)
    assert await charges(server, task_id) == 1


async def test_after_the_last_attempt_it_fails_with_what_the_provider_said(server: LiveServer) -> None:
    refusal = {"status": 429, "retry_after": 0.05}
    await script(server, "openai_images", refusal, refusal, refusal)
    task_id = await start(server, openai_images("A vault"))
    events = await watch(server, task_id)

    assert kinds(events).count("TaskRetryScheduled") == 2
    assert (events[-1]["failure"]["code"], events[-1]["failure"]["billed"]) == ("RATE_LIMITED", False)
    assert (await task(server, task_id))["attempt"] == 3
    assert await charges(server, task_id) == 0


async def test_a_pause_that_is_too_long_is_left_to_whoever_asked(tmp_path: Path) -> None:
    with running(tmp_path, tasks={"shutdown_seconds": 0, "retry_seconds": 5}) as server:
        events = await watch(
            server, await start(server, openai_images("A tomb [[sandbox: status=429 retry_after=60]]"))
        )

    assert "TaskRetryScheduled" not in kinds(events)
    assert (events[-1]["failure"]["code"], events[-1]["failure"]["retryAfter"]) == ("RATE_LIMITED", 60)
    assert events[-1]["failure"]["retryable"]


@pytest.mark.parametrize(
    "fault", ["status=500", "status=503 retry_after=0.01", "status=504", "cut_inside", "lose=request"]
)
async def test_what_may_have_been_paid_for_is_never_sent_again(server: LiveServer, fault: str) -> None:
    task_id = await start(server, openai_images(f"A cell [[sandbox: {fault}]]"))
    events = await watch(server, task_id)

    assert events[-1]["__typename"] == "TaskFailed"
    assert events[-1]["failure"]["billed"] is not False
    assert kinds(events).count("TaskRetryScheduled") == 0
    assert [event.get("status") for event in events].count("SUBMITTING") == 1
    assert await charges(server, task_id) <= 1


async def test_what_never_left_this_server_is_sent_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    settings = {"shutdown_seconds": 0, "retry_attempts": 2, "retry_seconds": 0.05}
    with running(tmp_path, tasks=settings, sandbox_url=f"http://127.0.0.1:{port}/sandbox") as server:
        task_id = await start(server, openai_images("A barn"))
        events = await watch(server, task_id)

    (scheduled,) = [event for event in events if event["__typename"] == "TaskRetryScheduled"]
    assert (scheduled["attempt"], scheduled["failure"]["code"]) == (2, "UNAVAILABLE")
    assert (events[-1]["failure"]["transport"], events[-1]["failure"]["billed"]) == ("NOT_SENT", False)

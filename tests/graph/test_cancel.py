"""`cancelTask`: at once for what waits, the truth for what is on its way, and never a lost picture."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from graph.ids import encode
from tests.clients import (
    WATCH,
    all_images,
    cancel,
    charges,
    eventually,
    openai_images,
    placewise,
    start,
    subscribe,
    task,
    until,
    watch,
)
from tests.process import Process, serve
from tests.providers.test_adding_one import WITH_TINY
from tests.server import LiveServer, Reachable, running

pytestmark = pytest.mark.anyio

AT_ONCE = 4.0
"""Seconds: far more than it takes, and far less than a generation or a retry here."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One of its own, because what other tests do to an account shows in its circuit."""
    with running(tmp_path_factory.mktemp("canceling"), tasks={"shutdown_seconds": 0}) as live:
        yield live


@pytest.fixture(scope="module")
def with_tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server with a provider that can be stopped."""
    home = tmp_path_factory.mktemp("tiny")
    with serve(home, command=[sys.executable, "-c", WITH_TINY, "serve"], DARKROOM_SHUTDOWN_SECONDS="0") as process:
        yield process


async def canceled(server: Reachable, task_id: str) -> dict[str, Any]:
    """Cancel a task, quickly; the task."""
    began = time.monotonic()
    result = await cancel(server, task_id)
    assert result["__typename"] == "CancelTaskSuccess", result
    assert time.monotonic() - began < AT_ONCE
    found: dict[str, Any] = result["task"]
    return found


async def late_pictures(server: Reachable, task_id: str, count: int) -> list[dict[str, Any]]:
    """The pictures of a task, as soon as there are so many."""

    async def look() -> list[dict[str, Any]]:
        images: list[dict[str, Any]] = (await task(server, task_id))["images"]
        return images if len(images) >= count else []

    return await eventually(look)


async def ends_with_its_cancellation(server: Reachable, task_id: str, outcome: str) -> None:
    events = await watch(server, task_id)
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    assert (events[-1]["__typename"], events[-1]["cancellation"]["outcome"]) == ("TaskCanceled", outcome)


async def test_what_waits_in_the_queue_is_canceled_at_once_and_costs_nothing(tmp_path: Path) -> None:
    with running(tmp_path, tasks={"concurrency": 1, "shutdown_seconds": 0}) as server:
        blocking = await start(server, openai_images("A wall [[sandbox: latency=60]]"))
        await until(server, blocking, "SUBMITTING")
        waiting, last = [await start(server, openai_images(f"A door {number}")) for number in range(2)]
        assert (await task(server, last))["queuePosition"] == 2
        gone = await canceled(server, waiting)

        assert gone["status"] == "CANCELED"
        assert (gone["cancellation"]["outcome"], gone["cancellation"]["billed"]) == ("NEVER_SENT", False)
        assert gone["cancellation"]["transport"] == "NOT_SENT"
        assert (await task(server, last))["queuePosition"] == 1
        assert await charges(server, waiting) == 0
        await ends_with_its_cancellation(server, waiting, "NEVER_SENT")


async def test_a_stream_that_is_canceled_ends_at_once_and_its_late_picture_is_kept(server: LiveServer) -> None:
    task_id = await start(server, openai_images("A tower [[sandbox: pause=0.4]]", partialImages=2))
    await until(server, task_id, "PartialImageReady")
    gone = await canceled(server, task_id)

    assert gone["status"] == "CANCELED"
    assert (gone["cancellation"]["outcome"], gone["cancellation"]["billed"]) == ("ABANDONED", None)
    await ends_with_its_cancellation(server, task_id, "ABANDONED")
    events = await watch(server, task_id)
    (late,) = await late_pictures(server, task_id, 1)
    assert (late["kind"], late["late"]) == ("FINAL", True)
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(late["url"])).is_success
    assert await watch(server, task_id) == events, "nothing is told after the end"
    assert await charges(server, task_id) == 1


@pytest.mark.parametrize(
    ("request_", "count"), [(all_images("A heron [[sandbox: pause=0.1]]"), 4), (placewise("[[sandbox: pause=0.2]]"), 1)]
)
async def test_a_job_that_is_canceled_ends_at_once_and_its_late_pictures_are_kept(
    server: LiveServer, request_: dict[str, Any], count: int
) -> None:
    task_id = await start(server, request_)
    await until(server, task_id, "RUNNING")
    gone = await canceled(server, task_id)

    assert gone["cancellation"]["outcome"] == "ABANDONED"
    await ends_with_its_cancellation(server, task_id, "ABANDONED")
    images = await late_pictures(server, task_id, count)
    assert [image["index"] for image in images] == list(range(count))
    assert images[-1]["late"]
    assert await charges(server, task_id) == 1


async def test_what_is_on_its_way_to_the_provider_is_canceled_without_a_claim_that_it_was_not_sent(
    server: LiveServer,
) -> None:
    requests = [openai_images("A gate [[sandbox: latency=0.6]]"), placewise("A gate [[sandbox: latency=0.6]]")]
    for request in requests:
        task_id = await start(server, request)
        await until(server, task_id, "SUBMITTING")
        gone = await canceled(server, task_id)

        assert (gone["status"], gone["cancellation"]["outcome"]) == ("CANCELED", "ABANDONED")
        assert (gone["cancellation"]["transport"], gone["cancellation"]["billed"]) == ("PERHAPS_SENT", None)
        assert (await late_pictures(server, task_id, 1))[0]["late"]
        assert await charges(server, task_id) == 1
    assert (await task(server, task_id))["providerTaskId"], "what was accepted late is known all the same"


async def test_what_the_vendor_had_finished_is_too_late_to_cancel(server: LiveServer) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        slow = [{"latency": 0.5}]
        await client.put(f"{server.url}/sandbox/all_images/script/image", json=slow)
    task_id = await start(server, all_images("A stork [[sandbox: pause=0]]"))
    await until(server, task_id, "RUNNING")
    await canceled(server, task_id)
    events = await watch(server, task_id)
    done = await task(server, task_id)

    assert "TaskCancelRequested" in [event["__typename"] for event in events]
    assert events[-1]["__typename"] == "TaskSucceeded"
    assert (done["cancellation"]["outcome"], done["cancellation"]["billed"]) == ("TOO_LATE", True)
    assert [image["late"] for image in done["images"]] == [False] * 4


async def test_what_can_be_stopped_is_stopped(with_tiny: Process) -> None:
    task_id = await start(with_tiny, {"input": {"request": {"tiny": {"prompt": "a square", "seconds": 50}}}})
    await until(with_tiny, task_id, "RUNNING")
    gone = await canceled(with_tiny, task_id)

    assert gone["status"] == "CANCELED"
    assert (gone["cancellation"]["outcome"], gone["cancellation"]["transport"]) == ("STOPPED", "ACCEPTED")
    await ends_with_its_cancellation(with_tiny, task_id, "STOPPED")
    assert (await task(with_tiny, task_id))["images"] == []


async def test_what_has_been_asked_to_stop_before_it_was_accepted_is_stopped_as_soon_as_it_is(
    with_tiny: Process,
) -> None:
    for _ in range(5):
        task_id = await start(with_tiny, {"input": {"request": {"tiny": {"prompt": "a square", "seconds": 50}}}})
        await until(with_tiny, task_id, "SUBMITTING")
        gone = await canceled(with_tiny, task_id)
        assert gone["cancellation"]["outcome"] == "STOPPED"


async def test_what_waits_for_another_attempt_or_for_the_account_is_canceled_at_once(tmp_path: Path) -> None:
    with running(tmp_path, tasks={"shutdown_seconds": 0}) as server:
        refused = await start(server, placewise("A pier [[sandbox: status=429 retry_after=30]]"))
        scheduled = await until(server, refused, "TaskRetryScheduled")
        behind = await start(server, placewise("A quay"))
        notice = await until(server, behind, "NoticeGiven")

        assert (await task(server, refused))["retryAt"] == scheduled["retryAt"]
        assert "Placewise" in notice["notice"]["message"]
        for task_id in (refused, behind):
            assert (await task(server, task_id))["status"] == "QUEUED"
            gone = await canceled(server, task_id)
            assert (gone["status"], gone["cancellation"]["outcome"]) == ("CANCELED", "NEVER_SENT")
            await ends_with_its_cancellation(server, task_id, "NEVER_SENT")
            assert (await task(server, task_id))["retryAt"] is None
            assert await charges(server, task_id) == 0
        await eventually(lambda: nothing_runs(server))


async def nothing_runs(server: LiveServer) -> bool:
    return not server.darkroom._engine.running


async def test_a_second_click_on_cancel_changes_nothing(server: LiveServer) -> None:
    task_id = await start(server, openai_images("A lane [[sandbox: pause=0.3]]", partialImages=1))
    await until(server, task_id, "RUNNING")
    first, second = await asyncio.gather(canceled(server, task_id), canceled(server, task_id))
    third = await canceled(server, task_id)

    assert first == second == third
    kinds = [event["__typename"] for event in await watch(server, task_id)]
    assert (kinds.count("TaskCancelRequested"), kinds.count("TaskCanceled")) == (1, 1)


async def test_what_has_ended_stays_as_it_is(server: LiveServer) -> None:
    succeeded, failed = (
        await start(server, openai_images("A well")),
        await start(server, placewise("[[sandbox: status=400]]")),
    )
    await watch(server, succeeded)
    await watch(server, failed)
    before = [await task(server, task_id) for task_id in (succeeded, failed)]

    assert (await canceled(server, succeeded))["status"] == "SUCCEEDED"
    assert (await canceled(server, failed))["status"] == "FAILED"
    assert [await task(server, task_id) for task_id in (succeeded, failed)] == before


async def test_to_cancel_what_has_ended_is_too_late_and_says_so(server: LiveServer) -> None:
    succeeded, failed = (
        await start(server, openai_images("A well")),
        await start(server, placewise("[[sandbox: status=400]]")),
    )
    for task_id, status, billed in ((succeeded, "SUCCEEDED", True), (failed, "FAILED", False)):
        await watch(server, task_id)
        result = await cancel(server, task_id)

        assert (result["cancellation"]["outcome"], result["cancellation"]["billed"]) == ("TOO_LATE", billed)
        assert status in result["cancellation"]["message"]
        assert result["task"]["cancellation"] is None, "the task itself was not canceled"


async def test_what_canceling_achieved_is_beside_the_task_too(server: LiveServer) -> None:
    task_id = await start(server, openai_images("A lane [[sandbox: pause=0.3]]", partialImages=1))
    await until(server, task_id, "RUNNING")
    result = await cancel(server, task_id)

    assert result["cancellation"]["outcome"] == "ABANDONED"
    assert result["cancellation"] == result["task"]["cancellation"]


async def test_an_unknown_task_is_data_and_so_is_a_broken_id(server: LiveServer) -> None:
    for id in (encode("Task", "0" * 32), "nonsense", "", encode("Image", "0" * 32)):
        result = await cancel(server, id)
        assert (result["__typename"], result["code"]) == ("NotFoundError", "NOT_FOUND")
        assert "is not a valid id" in result["message"] or "Query `tasks`" in result["message"]


async def test_leaving_never_cancels(server: LiveServer) -> None:
    task_id = await start(server, openai_images("A mill [[sandbox: pause=0.2]]", partialImages=1))
    async with aclosing(subscribe(server, WATCH, {"id": task_id})) as messages:
        await anext(messages)
    await until(server, task_id, "RUNNING")
    events = await watch(server, task_id)

    assert events[-1]["__typename"] == "TaskSucceeded"
    assert (await task(server, task_id))["cancelRequestedAt"] is None

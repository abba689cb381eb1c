"""What becomes of tasks when the server dies under them: nothing runs for ever, nothing is paid twice."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest

from graph.ids import key
from tests.clients import WATCH, openai_images, start, subscribe, watch
from tests.process import Process, serve

pytestmark = pytest.mark.anyio


async def charges(server: Process, task_id: str) -> int:
    """How often the vendor was paid for a task."""
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"{server.url}/sandbox/ledger", params={"reference": key(task_id, "Task")})
    return len(response.json())


async def until(server: Process, task_id: str, kind: str) -> dict[str, Any]:
    """Watch a task up to the first event of a kind, and leave."""
    async with aclosing(subscribe(server, WATCH, {"id": task_id})) as messages:
        async for message in messages:
            event: dict[str, Any] = message["payload"]["data"]["taskEvents"]
            if kind in (event["__typename"], event.get("status")):
                return event
    raise AssertionError(f"the task ended without {kind}")


async def test_a_task_killed_while_it_was_generating_ends_with_the_truth(tmp_path: Path) -> None:
    with serve(tmp_path) as first:
        task_id = await start(first, openai_images("A tower [[sandbox: pause=0.2 latency=0]]", partialImages=3))
        await until(first, task_id, "PartialImageReady")
        first.kill()
    with serve(tmp_path) as second:
        events = await watch(second, task_id)

        assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
        assert "PartialImageReady" in [event["__typename"] for event in events]
        assert events[-1]["failure"]["code"] == "OUTCOME_UNKNOWN"
        assert events[-1]["failure"]["transport"] == "ACCEPTED"
        assert events[-1]["failure"]["billed"] is None
        assert await charges(second, task_id) == 1


async def test_a_task_killed_inside_the_post_is_never_posted_again(tmp_path: Path) -> None:
    with serve(tmp_path) as first:
        task_id = await start(first, openai_images("A gate [[sandbox: latency=60]]"))
        await until(first, task_id, "SUBMITTING")
        first.kill()
    with serve(tmp_path) as second:
        events = await watch(second, task_id)

        assert events[-1]["failure"]["code"] == "OUTCOME_UNKNOWN"
        assert events[-1]["failure"]["transport"] == "PERHAPS_SENT"
        assert await charges(second, task_id) <= 1


async def test_what_was_waiting_in_the_queue_runs_after_the_restart(tmp_path: Path) -> None:
    with serve(tmp_path, DARKROOM_CONCURRENCY="1") as first:
        blocking = await start(first, openai_images("A wall [[sandbox: latency=60]]"))
        await until(first, blocking, "SUBMITTING")
        waiting = [await start(first, openai_images(f"A door {number}")) for number in range(3)]
        first.kill()
    with serve(tmp_path) as second:
        for task_id in waiting:
            assert (await watch(second, task_id))[-1]["__typename"] == "TaskSucceeded"
            assert await charges(second, task_id) == 1


async def test_a_server_that_is_stopped_leaves_no_traceback_and_no_running_task(tmp_path: Path) -> None:
    with serve(tmp_path, DARKROOM_SHUTDOWN_SECONDS="0.1") as first:
        task_id = await start(first, openai_images("A well [[sandbox: pause=60]]", partialImages=1))
        await until(first, task_id, "RUNNING")
        assert first.stop() in (0, -15)
    assert "Traceback" not in "".join(first.log)
    with serve(tmp_path) as second:
        assert (await watch(second, task_id))[-1]["failure"]["code"] == "OUTCOME_UNKNOWN"


async def test_a_server_that_is_stopped_lets_short_work_end(tmp_path: Path) -> None:
    with serve(tmp_path) as first:
        task_id = await start(first, openai_images("A lane [[sandbox: pause=0.3]]", partialImages=1))
        await until(first, task_id, "RUNNING")
        assert first.stop() in (0, -15)
    with serve(tmp_path) as second:
        last = (await watch(second, task_id))[-1]
        assert last["__typename"] == "TaskSucceeded", (last, first.log)


async def test_a_second_server_on_the_same_data_is_refused(tmp_path: Path) -> None:
    with serve(tmp_path) as first:
        task_id = await start(first, openai_images("A pier [[sandbox: pause=0.3]]", partialImages=1))
        second = serve(tmp_path)
        with pytest.raises(AssertionError) as refused:
            second.__enter__()

        assert "Another Darkroom" in str(refused.value)
        assert "Traceback" not in str(refused.value)
        assert (await watch(first, task_id))[-1]["__typename"] == "TaskSucceeded"

"""`providers { health }`: what this server's own traffic has shown of an account. Nothing is sent to find out."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from tests.clients import cancel, charges, eventually, execute, openai_images, start, task, until, watch
from tests.server import LiveServer, running

pytestmark = pytest.mark.anyio

HEALTH = """
{
  providers {
    name
    health {
      usable message
      circuit { status failures openedAt retryAt lastFailure lastMessage lastSuccessAt }
    }
  }
}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One of its own, because what other tests do to an account shows in its circuit."""
    with running(tmp_path_factory.mktemp("health"), tasks={"shutdown_seconds": 0}) as live:
        live.darkroom.accounts._circuits["openai_images"]._cooldown = 2.0  # nobody needs to wait for five
        yield live


async def health(server: LiveServer, provider: str = "openai_images") -> dict[str, Any]:
    """What is known about an account."""
    answer = await execute(server, HEALTH)
    found: dict[str, dict[str, Any]] = {one["name"]: one["health"] for one in answer["data"]["providers"]}
    return found[provider]


async def ledger(server: LiveServer) -> list[dict[str, Any]]:
    """Everything that was ever billed."""
    async with httpx.AsyncClient(trust_env=False) as client:
        found: list[dict[str, Any]] = (await client.get(f"{server.url}/sandbox/ledger")).json()
    return found


async def test_an_account_that_fails_again_and_again_is_left_alone_until_one_generation_gets_through(
    server: LiveServer,
) -> None:
    untouched = await health(server, "placewise")
    for _ in range(5):
        await watch(server, await start(server, openai_images("A raft [[sandbox: status=503]]")))
    broken = await health(server)
    waiting = [await start(server, openai_images(f"A raft {number}")) for number in range(3)]
    notices = [await until(server, task_id, "NoticeGiven") for task_id in waiting]
    while_waiting = [await task(server, task_id) for task_id in waiting]
    ends = [(await watch(server, task_id))[-1]["__typename"] for task_id in waiting]
    mended = await health(server)

    assert (untouched["circuit"]["status"], untouched["circuit"]["lastFailure"]) == ("CLOSED", None)
    assert (broken["usable"], broken["circuit"]["status"]) == (False, "OPEN")
    assert broken["circuit"]["lastFailure"] == "UNAVAILABLE"
    assert broken["circuit"]["lastMessage"] == broken["message"]
    assert broken["circuit"]["openedAt"] < broken["circuit"]["retryAt"]
    assert {one["status"] for one in while_waiting} == {"QUEUED"}
    assert all("failed before" in notice["notice"]["message"] for notice in notices)
    assert ends == ["TaskSucceeded"] * 3
    assert mended["usable"]
    assert (mended["circuit"]["status"], mended["circuit"]["failures"], mended["circuit"]["retryAt"]) == (
        "CLOSED",
        0,
        None,
    )
    probe, *others = sorted([(await task(server, task_id))["submittedAt"] for task_id in waiting])
    assert probe >= broken["circuit"]["retryAt"]
    assert all(datetime.fromisoformat(other) > datetime.fromisoformat(probe) for other in others)
    assert [await charges(server, task_id) for task_id in waiting] == [1, 1, 1]


async def test_a_pause_that_a_provider_asks_for_is_shown_and_ends_by_itself(server: LiveServer) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        once = [{"status": 429, "retry_after": 1}]
        await client.put(f"{server.url}/sandbox/openai_images/script", json=once)
    first = await start(server, openai_images("A kite"))
    await until(server, first, "TaskRetryScheduled")
    paused = await health(server)
    await cancel(server, first)

    async def over() -> bool:
        now = await health(server)
        return bool(now["usable"] and now["circuit"]["status"] == "CLOSED")

    assert (paused["usable"], paused["circuit"]["status"]) == (False, "OPEN")
    assert paused["circuit"]["lastFailure"] == "RATE_LIMITED"
    await eventually(over)
    assert (await health(server))["circuit"]["retryAt"] is None


async def test_an_account_that_may_be_tried_again_is_usable_so_that_somebody_tries(server: LiveServer) -> None:
    for _ in range(5):
        await watch(server, await start(server, openai_images("A reef [[sandbox: status=503]]")))
    broken = await health(server)

    async def due() -> bool:
        return bool((await health(server))["usable"])

    await eventually(due)
    still = await health(server)
    assert not broken["usable"]
    assert still["circuit"]["status"] == "OPEN", "only a generation can show that it works"
    tried = await start(server, openai_images("A reef"))
    assert (await watch(server, tried))[-1]["__typename"] == "TaskSucceeded"
    assert (await health(server))["circuit"]["status"] == "CLOSED"


async def test_asking_how_an_account_is_never_generates(server: LiveServer) -> None:
    before = await ledger(server)
    for _ in range(3):
        await execute(server, HEALTH)

    assert await ledger(server) == before

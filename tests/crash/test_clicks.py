"""The same click, sent several times at the same instant."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.clients import START, openai_images
from tests.crash.databases import DATABASES, Databases
from tests.crash.evidence import Vendor, all_tasks, collect, loopback
from tests.crash.oracle import assert_sound
from tests.process import serve
from tests.server import Reachable

pytestmark = pytest.mark.anyio

CONNECTIONS = 12


async def at_once(servers: Sequence[Reachable], clicks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Send every click over a connection of its own; all connections are open before the first one is sent."""
    async with AsyncExitStack() as stack:
        clients = []
        for number, _ in enumerate(clicks):
            url = servers[number % len(servers)].url
            client = await stack.enter_async_context(loopback(base_url=url))
            await client.get("/healthz")
            clients.append(client)
        answers = await asyncio.gather(
            *(
                client.post("/graphql", json={"query": START, "variables": click})
                for client, click in zip(clients, clicks, strict=True)
            )
        )
    found = [answer.json() for answer in answers]
    assert not [one for one in found if "errors" in one]
    return [one["data"]["startGeneration"] for one in found]


def _click(prompt: str, key: str) -> dict[str, Any]:
    click = openai_images(prompt)
    click["input"]["idempotencyKey"] = key
    return click


@pytest.mark.parametrize("database", DATABASES)
async def test_the_same_click_at_the_same_instant_is_one_task(
    database: str, databases: Databases, vendor: Vendor
) -> None:
    with databases.of(database) as (home, settings), serve(home, DARKROOM_SANDBOX_URL=vendor.url, **settings) as server:
        answers = await at_once([server], [_click("A kiln", "one click")] * CONNECTIONS)
        task_ids = {answer["task"]["id"] for answer in answers}
        found = await collect(server, vendor, task_ids.pop(), expected=1)

        assert not task_ids
        assert [task["id"] for task in await all_tasks(server)] == [found.task["id"]]
        assert found.task["status"] == "SUCCEEDED"
        assert_sound(found)
        assert len(found.charges) == 1


@pytest.mark.parametrize("database", DATABASES)
async def test_one_key_for_different_requests_at_the_same_instant_is_one_task_and_conflicts(
    database: str, databases: Databases, vendor: Vendor
) -> None:
    with databases.of(database) as (home, settings), serve(home, DARKROOM_SANDBOX_URL=vendor.url, **settings) as server:
        answers = await at_once([server], [_click(f"Kiln {number}", "one key") for number in range(CONNECTIONS)])
        started = [answer["task"]["id"] for answer in answers if answer["__typename"] == "StartGenerationSuccess"]
        refused = {answer["taskId"] for answer in answers if answer["__typename"] == "IdempotencyConflictError"}

        assert len(started) == 1
        assert refused == set(started)
        assert len(await all_tasks(server)) == 1

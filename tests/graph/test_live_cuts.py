"""The connection is cut, wherever: what a client has put together afterwards is what it would have seen without."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clients import WATCH, socket, watch
from tests.graph.stage import Stage, StagedTask, noise, staged

pytestmark = pytest.mark.anyio

EVENTS = 12
"""How many events the task of these tests has."""
PICTURE = noise(2)


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


async def act(task: StagedTask) -> None:
    """What happens to the task, while it is watched."""
    await task.progress(2)
    for number in range(3):
        await task.partial(number, PICTURE)
        await task.progress()
    await task.picture(PICTURE)
    await task.progress()
    await task.succeed()


async def by_websocket(stage: Stage, task_id: str, after: int) -> AsyncIterator[dict[str, Any]]:
    """Events after a sequence, until the connection is dropped in the middle, or to the end."""
    async with socket(stage) as ws:
        payload = {"query": WATCH, "variables": {"id": task_id, "after": after}}
        await ws.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
        try:
            async for text in ws:
                message = json.loads(text)
                if message["type"] == "complete":
                    return
                yield message["payload"]["data"]["taskEvents"]
        finally:
            if ws.transport is not None:
                ws.transport.abort()


async def by_event_stream(stage: Stage, task_id: str, after: int) -> AsyncIterator[dict[str, Any]]:
    """The same as a browser's `EventSource` does it, which knows its place by the ids of the events."""
    params = {"query": WATCH, "variables": json.dumps({"id": task_id})}
    headers = {"accept": "text/event-stream"} | ({"last-event-id": str(after)} if after else {})
    async with (
        httpx.AsyncClient(trust_env=False, timeout=10) as client,
        client.stream("GET", f"{stage.url}/graphql", params=params, headers=headers) as response,
    ):
        if response.status_code == 204:
            return
        async for event in EventSource(response).aiter_sse():
            if event.event == "complete":
                return
            yield json.loads(event.data)["data"]["taskEvents"]


Transport = Callable[[Stage, str, int], AsyncIterator[dict[str, Any]]]
TRANSPORTS: list[Transport] = [by_websocket, by_event_stream]


async def put_together(
    stages: list[Stage], transport: Transport, task_id: str, cuts: list[int]
) -> list[dict[str, Any]]:
    """All events, over connections of which each is cut after so many of them, but for the last."""
    seen: list[dict[str, Any]] = []
    for number, cut in enumerate([*cuts, EVENTS + 1]):
        after = seen[-1]["sequence"] if seen else 0
        async with aclosing(transport(stages[number % len(stages)], task_id, after)) as events:  # type: ignore[type-var]
            while cut and (event := await anext(events, None)) is not None:
                seen.append(event)
                cut -= 1
    return seen


def lasting(event: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on whether an event was seen live: its task is shown as it is when it is read."""
    return {name: value for name, value in event.items() if name != "task"}


async def rebuilt(stages: list[Stage], transport: Transport, cuts: list[int]) -> None:
    """Watch a task that is under way over connections that are cut, and compare."""
    task = await stages[0].task()
    acting = asyncio.create_task(act(task))
    seen = await put_together(stages, transport, task.id, cuts)
    await acting

    whole = await watch(stages[0], task.id)
    assert [lasting(event) for event in seen] == [lasting(event) for event in whole]
    assert [event["sequence"] for event in seen] == list(range(1, EVENTS + 1))
    assert seen[-1]["task"]["status"] == "SUCCEEDED"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_connection_that_is_cut_after_any_event_costs_nothing(stage: Stage, transport: Transport) -> None:
    for cut in range(EVENTS + 1):
        await rebuilt([stage], transport, [cut])
    await stage.is_left()


@pytest.mark.parametrize("transport", TRANSPORTS)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(min_value=0, max_value=4), max_size=8))
async def test_a_connection_that_is_cut_again_and_again_costs_nothing(
    stage: Stage, transport: Transport, cuts: list[int]
) -> None:
    await rebuilt([stage], transport, cuts)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plans=st.lists(st.lists(st.integers(min_value=0, max_value=5), max_size=5), min_size=2, max_size=6))
async def test_many_clients_are_cut_at_places_of_their_own(stage: Stage, plans: list[list[int]]) -> None:
    task = await stage.task()
    acting = asyncio.create_task(act(task))
    found = await asyncio.gather(
        *(put_together([stage], TRANSPORTS[number % 2], task.id, cuts) for number, cuts in enumerate(plans))
    )
    await acting

    for seen in found:
        assert [event["sequence"] for event in seen] == list(range(1, EVENTS + 1))


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_client_may_come_back_to_another_node(tmp_path: Path, postgres_url: str, transport: Transport) -> None:
    shared = {
        "database_url": postgres_url,
        "storage_url": (tmp_path / "images").as_uri(),
        "public_url": "http://darkroom.example",
    }
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(staged(tmp_path / name, **shared)) for name in ("a", "b")]
        for cuts in ([], [0], [1, 1, 1, 1, 1], [3, 2, 0, 4], [5, 5], [2] * 6, [11]):
            await rebuilt(nodes, transport, cuts)
            await rebuilt(nodes[::-1], transport, cuts)
        for node in nodes:
            await node.is_left()

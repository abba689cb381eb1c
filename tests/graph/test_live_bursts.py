"""Much at once: whoever reads gets all of it, however fast it comes, and the rest of the server goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource

from graph.context import Rights
from graph.live import kept
from graph.live.message import Message
from graph.live.operation import OperationRequest, check
from graph.live.outlet import Outlet
from graph.live.source import LiveEvent
from graph.live.subscriber import Subscriber
from graph.schema import schema
from resolvers.images import DataUriBudget
from tasks.activity import Activity, Started, TaskChanged
from tasks.activity_log import Position
from tests.clients import socket
from tests.graph.raw import RawSocket, raw_socket
from tests.graph.stage import Stage, staged, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_safety_net")]

SECONDS = 20
TASKS = 1500
PROMPT = "x" * 5000
QUERY = """
subscription {
  activity { __typename ... on ActivityStarted { complete } ... on TaskChanged { task { number prompt } } }
}
"""


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@dataclass
class Burst:
    """Changes of many tasks, all of them there at the same moment."""

    stage: Stage
    begin: asyncio.Event = field(default_factory=asyncio.Event)
    told: int = 0

    async def follow(self, *_: object) -> AsyncGenerator[Activity, None]:
        """In place of what really happens."""
        task = (await self.stage.task()).record
        yield Started(Position(0, 0), complete=True)
        await self.begin.wait()
        for number in range(1, TASKS + 1):
            record = task.model_copy(update={"number": number, "prompt": PROMPT})
            yield TaskChanged(Position(0, number), record, [], 0)
            self.told = number
        await asyncio.Event().wait()


@pytest.fixture
def burst(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Burst:
    found = Burst(stage)
    monkeypatch.setattr("graph.activity.resolvers.activity.activity", found.follow)
    return found


async def all_of(messages: AsyncIterator[dict[str, Any]]) -> list[int]:
    """The numbers of the tasks that are told, to the last one, without a new beginning."""
    told: list[int] = []
    async with asyncio.timeout(SECONDS):
        while not told or told[-1] != TASKS:
            event = (await anext(messages))["data"]["activity"]
            assert event["__typename"] == "TaskChanged", event
            told.append(event["task"]["number"])
    return told


@asynccontextmanager
async def followed(stage: Stage, transport: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """What somebody who reads is told, from the first message on."""
    if transport == "websocket":
        async with socket(stage) as ws:
            await ws.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": QUERY}}))
            yield (json.loads(text)["payload"] async for text in ws)
        return
    headers = {"accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(trust_env=False, timeout=20) as client,
        client.stream("GET", f"{stage.url}/graphql", params={"query": QUERY}, headers=headers) as response,
    ):
        yield (json.loads(event.data) async for event in EventSource(response).aiter_sse())


async def spoken(raw: RawSocket) -> AsyncIterator[dict[str, Any]]:
    """The payloads that come over a socket with no manners."""
    while True:
        yield (await raw.message())["payload"]


STARTED = {"data": {"activity": {"__typename": "ActivityStarted", "complete": True}}}


@pytest.mark.parametrize("transport", ["websocket", "event stream"])
async def test_whoever_reads_is_told_of_every_task_that_changes_at_once(
    stage: Stage, burst: Burst, transport: str
) -> None:
    async with followed(stage, transport) as messages:
        assert await anext(messages) == STARTED
        burst.begin.set()
        assert await all_of(messages) == list(range(1, TASKS + 1))
    await stage.is_left()


async def test_a_reader_that_stops_for_a_while_is_waited_for_when_it_is_alone(stage: Stage, burst: Burst) -> None:
    async with raw_socket(stage) as raw:
        raw.subscribe("1", QUERY)
        messages = spoken(raw)
        assert await anext(messages) == STARTED
        burst.begin.set()
        await until(lambda: any(group._behind for group in stage.live.groups))
        for _ in range(2 * TASKS):
            await asyncio.sleep(0)
        assert burst.told < TASKS
        assert await all_of(messages) == list(range(1, TASKS + 1))
    await stage.is_left()


async def test_a_reader_that_keeps_up_does_not_wait_for_one_that_has_stopped(stage: Stage, burst: Burst) -> None:
    async with raw_socket(stage) as raw, followed(stage, "websocket") as quick:
        raw.subscribe("1", QUERY)
        slow = spoken(raw)
        assert [await anext(quick), await anext(slow)] == [STARTED] * 2
        burst.begin.set()
        assert await all_of(quick) == list(range(1, TASKS + 1))
        assert any(group._behind for group in stage.live.groups)
        assert stage.live.groups.kept.bytes > 1_000_000
        assert await all_of(slow) == list(range(1, TASKS + 1))
        await until(lambda: stage.live.groups.kept.bytes == 0)
    await stage.is_left()


async def test_a_reader_that_is_too_far_behind_the_others_begins_anew_and_is_told_so(
    stage: Stage, burst: Burst, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "BYTES", 100_000)
    async with raw_socket(stage) as raw, followed(stage, "websocket") as quick:
        raw.subscribe("1", QUERY)
        slow = spoken(raw)
        assert [await anext(quick), await anext(slow)] == [STARTED] * 2
        burst.begin.set()
        assert await all_of(quick) == list(range(1, TASKS + 1))
        assert 0 < stage.live.groups.kept.bytes < 110_000
        async with asyncio.timeout(SECONDS):
            while (event := (await anext(slow))["data"]["activity"])["__typename"] == "TaskChanged":
                assert event["task"]["number"] < TASKS

    assert event == {"__typename": "ActivityStarted", "complete": False}
    await stage.is_left()


class Attentive(Outlet):
    """A client that notes what it gets, and can do something the moment it gets it."""

    budget = DataUriBudget()

    def __init__(self) -> None:
        super().__init__()
        self.got: list[int] = []
        self.failed: list[Exception] = []
        self.then: Callable[[], object] = lambda: None

    def deliver(self, subscriber: Subscriber, message: Message) -> None:
        self.got.append(message.sequence)
        self.then()

    def put(self, piece: bytes | memoryview) -> None: ...
    def whole(self) -> None: ...
    def pieces_of(self, subscriber: Subscriber, message: Message) -> Iterator[bytes]:
        return iter(())

    def complete(self, subscriber: Subscriber) -> None: ...
    def fail(self, subscriber: Subscriber, error: Exception) -> None:
        self.failed.append(error)

    def abort(self) -> None: ...


async def joined(stage: Stage, outlet: Outlet, query: str, **variables: Any) -> Subscriber:
    context = stage.live.context(Rights(stage.url), outlet.budget)
    request = OperationRequest(query, variables)
    return await stage.live.groups.join(request, check(schema, query, None), context, outlet)


async def test_the_rest_of_the_server_goes_on_during_a_burst(stage: Stage, burst: Burst) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while burst.told < TASKS:
            turns += 1
            await asyncio.sleep(0)

    outlet = Attentive()
    subscriber = await joined(stage, outlet, QUERY)
    await until(lambda: outlet.got == [1])
    burst.begin.set()
    await asyncio.wait_for(count(), SECONDS)
    subscriber.leave()

    assert len(outlet.got) >= TASKS
    assert turns > TASKS / 20


async def test_whoever_leaves_right_after_falling_behind_again_gets_nothing_more(stage: Stage) -> None:
    task = await stage.task()
    outlet = Attentive()
    subscriber = await joined(stage, outlet, "subscription($id: ID!) { taskEvents(id: $id) { sequence } }", id=task.id)
    group = subscriber._group

    def fall_behind() -> None:
        assert subscriber in group._live
        outlet.pause()
        group._deliver(Message(LiveEvent(2, None), b"{}"))

    # It catches up with the first event; the second comes in the same turn of the loop.
    outlet.then = lambda: asyncio.get_running_loop().call_soon(fall_behind)
    await until(lambda: subscriber in group._behind and bool(outlet._waiting))
    outlet.then = lambda: None
    subscriber.leave()
    outlet.resume()
    await stage.is_unwatched()
    await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "subscriber"])

    assert outlet.got == [1]
    assert outlet.failed == []

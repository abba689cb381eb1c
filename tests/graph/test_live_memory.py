"""What clients may take of the memory: counted, and given back."""

from __future__ import annotations

import asyncio
import gc
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from graph.live.connection import Connection
from graph.live.load import Load
from graph.live.message import Message
from graph.live.source import LiveEvent
from tests.graph.raw import raw_socket, raw_stream
from tests.graph.stage import Stage, StagedTask, noise, staged, until

pytestmark = pytest.mark.anyio

STATUS = "subscription($id: ID!) { taskEvents(id: $id) { sequence } }"
PICTURES = """
subscription($id: ID!) {
  taskEvents(id: $id, after: 1) { ... on PartialImageReady { image { dataUri(maxBytes: 4000000) } } }
}
"""


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


def large() -> list[Message]:
    """The large messages that anybody still holds."""
    gc.collect()
    return [one for one in gc.get_objects() if type(one) is Message and one.large]


def held() -> int:
    """Bytes that are in use in this process, of those since `tracemalloc` has been started."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def test_readers_that_take_longest_are_dropped_when_pictures_would_fill_the_memory() -> None:
    dropped = []

    class Reader:
        def __init__(self, name: str) -> None:
            self.name = name

        def abort(self) -> None:
            dropped.append(self.name)

    load = Load(limit=250)
    event = LiveEvent(1, None)
    first, second, third = (Message(event, b"x" * 100) for _ in range(3))
    with load.carry(first, Reader("a")), load.carry(first, Reader("b")), load.carry(second, Reader("c")):
        assert dropped == []
        with load.carry(third, Reader("d")):
            assert sorted(dropped) == ["a", "b"]
    with load.carry(first, Reader("e")), load.carry(second, Reader("f")):
        assert sorted(dropped) == ["a", "b"]


async def test_a_picture_that_others_still_read_is_counted_until_they_have_it() -> None:
    event = LiveEvent(1, None)
    first, second = Message(event, b"x" * 100), Message(event, b"x" * 100)
    load = Load(limit=150)
    with ExitStack() as slow, ExitStack() as quick:
        slow.enter_context(load.carry(first, Nobody()))
        quick.enter_context(load.carry(second, Nobody()))  # drops the first one
        quick.close()
        with load.carry(first, Nobody()):
            slow.close()
            assert load._bytes == 100
    assert load._bytes == 0


class Nobody:
    """A reader that does not mind."""

    def abort(self) -> None: ...


async def test_an_event_stream_that_is_dropped_takes_its_picture_along(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = await stage.task(), await stage.task()
    monkeypatch.setattr(stage.live.groups.load, "_limit", 5_000_000)
    async with raw_stream(stage, PICTURES, id=first.id), raw_stream(stage, PICTURES, id=second.id):
        await stage.watched_by(2)
        await first.partial(0, noise(2800))
        await until(lambda: len(large()) == 1)
        await second.partial(0, noise(2800))
        await until(lambda: len(stage.live.callers) == 1)
        (group,) = stage.live.groups
        assert group.source.key == ("taskEvents", second.record.id)
        await until(lambda: len(large()) == 1)
    await stage.is_left()
    await until(lambda: not large())

    assert not [record for record in caplog.records if record.exc_info]


async def test_whoever_asks_and_does_not_read_gets_only_so_many_answers_made(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = "__schema { types { name description fields { name description args { name description } } } }"
    query = "{ " + " ".join(f"a{number}: {types}" for number in range(8)) + " }"
    begun: list[str] = []
    execute = stage.live.schema.execute

    async def counted(asked: str, *args: Any, **more: Any) -> Any:
        begun.append(asked)
        return await execute(asked, *args, **more)

    monkeypatch.setattr(stage.live.schema, "execute", counted)
    async with raw_socket(stage) as raw:
        for number in range(12):
            raw.subscribe(str(number), query)
        await until(lambda: len(begun) == 8)
        for _ in range(500):
            await asyncio.sleep(0)
        assert len(begun) == 8
        assert 1 <= len(large()) <= 8
        assert stage.live.groups.load._bytes == sum(len(message.body) for message in large())
        answered: list[int] = []
        while len(answered) < 12:
            message = await raw.message()
            if message["type"] == "next":
                answered.append(int(message["id"]))
    await stage.is_left()

    assert answered == list(range(12))
    assert stage.live.groups.load._bytes == 0


async def test_what_a_client_says_is_not_kept(stage: Stage) -> None:
    task = await stage.task()
    protocols = [Subprotocol("graphql-transport-ws")]
    async with connect(f"{stage.websocket_url}/graphql", subprotocols=protocols, proxy=None) as ws:
        await until(lambda: len(stage.live.callers) == 1)
        tracemalloc.start()
        try:
            before = held()
            await ws.send(json.dumps({"type": "connection_init", "payload": {"rights": [[]] * 100_000}}))
            assert json.loads(await ws.recv()) == {"type": "connection_ack"}
            for number in range(5):
                await ws.send(long_winded(str(number), task))
                assert json.loads(await ws.recv())["payload"] == {"data": {"taskEvents": {"sequence": 1}}}
            await stage.watched_by(5)
            grown = held() - before
        finally:
            tracemalloc.stop()
        assert len(stage.live.groups) == 5
    await stage.is_left()

    assert grown < 700_000


async def test_parts_of_a_message_that_say_nothing_are_not_kept(stage: Stage) -> None:
    async with raw_socket(stage) as raw:
        raw.frame(0x01, b'{"type":')
        for _ in range(1000):
            raw.frame(0x00, b"")
        raw.frame(0x89, b"read so far")
        while (await raw.receive())[1] != b"read so far":
            pass
        kept = [len(one.frames) for one in gc.get_objects() if type(one) is Connection]
        raw.frame(0x80, b'"ping"}')
        answer = await raw.message()
    await stage.is_left()

    assert max(kept) < 10
    assert answer == {"type": "pong"}


def long_winded(id: str, task: StagedTask) -> str:
    """A subscription with much that means nothing."""
    payload = {"query": STATUS, "variables": {"id": task.id, "unused": id + "x" * 900_000}}
    return json.dumps({"id": id, "type": "subscribe", "payload": payload})

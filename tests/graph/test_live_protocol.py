"""`graphql-transport-ws` to the letter, and what happens to clients that do not keep to it."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from graph.server import listen
from tests.clients import socket
from tests.graph.raw import RawSocket, raw_socket, vanish_at_once
from tests.graph.stage import Stage, noise, staged, until

pytestmark = pytest.mark.anyio

STATUS = "subscription($id: ID!, $after: Int! = 0) { taskEvents(id: $id, after: $after) { sequence } }"
PICTURES = """
subscription($id: ID!) {
  taskEvents(id: $id, after: 1) { sequence ... on PartialImageReady { image { dataUri(maxBytes: 4000000) } } }
}
"""
INIT = {"type": "connection_init"}
QUERY = {"query": "{ __typename }"}
DEEP = json.loads("[" * 400 + "]" * 400)


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    async with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


async def read_for_ever(ws: ClientConnection) -> None:
    while True:
        await ws.recv()


async def ask_for_ever(raw: RawSocket) -> None:
    while True:
        raw.send({"type": "ping"})
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("messages", "code", "words"),
    [
        ([INIT, INIT], 4429, "Too many initialisation requests"),
        ([{"type": "connection_init", "payload": []}], 4400, "Invalid connection init payload"),
        ([{"id": "1", "type": "subscribe", "payload": QUERY}], 4401, "Unauthorized"),
        ([INIT, {"type": "subscribe", "payload": QUERY}], 4400, "`id`"),
        ([INIT, {"id": "", "type": "subscribe", "payload": QUERY}], 4400, "`id`"),
        ([INIT, {"id": "x" * 257, "type": "subscribe", "payload": QUERY}], 4400, "256 characters"),
        ([INIT, {"id": "1", "type": "subscribe"}], 4400, "`payload`"),
        ([INIT, {"id": "1", "type": "subscribe", "payload": QUERY | {"variables": []}}], 4400, "`payload`"),
        ([INIT, {"id": "1", "type": "start", "payload": QUERY}], 4400, "start"),
        ([INIT, {"id": "1"}], 4400, "`type`"),
        ([INIT, {"type": "complete"}], 4400, "`id`"),
        ([INIT, {"type": "complete", "id": 1}], 4400, "`id`"),
        ([INIT, {"type": "ping", "payload": "now"}], 4400, "of a ping must be an object"),
        ([INIT, {"type": "pong", "payload": []}], 4400, "of a pong must be an object"),
        ([INIT, {"type": "ping", "payload": {"deep": DEEP}}], 4400, "too deeply"),
        ([INIT, *[{"id": "1", "type": "subscribe", "payload": {"query": STATUS}}] * 2], 4409, "1 already exists"),
    ],
)
async def test_what_breaks_the_protocol_closes_the_socket_with_its_code(
    stage: Stage, messages: list[dict[str, Any]], code: int, words: str
) -> None:
    async with connect(
        f"{stage.websocket_url}/graphql", subprotocols=[Subprotocol("graphql-transport-ws")], proxy=None
    ) as ws:
        for message in messages:
            await ws.send(json.dumps(message))
        with pytest.raises(ConnectionClosed) as closed:
            await read_for_ever(ws)

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code
    assert words in closed.value.rcvd.reason
    await stage.is_left()


async def test_bytes_instead_of_text_and_too_much_text_close_the_socket(stage: Stage) -> None:
    for message, code in ((b"{}", 4400), ("x" * 2_000_000, 1009)):
        async with socket(stage) as ws:
            await ws.send(message)
            with pytest.raises(ConnectionClosed) as closed:
                await ws.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
    await stage.is_left()


async def test_a_reason_that_is_too_long_is_cut_between_characters(stage: Stage) -> None:
    async with socket(stage) as ws:
        await ws.send(json.dumps({"type": "é" * 200}))
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4400
    assert closed.value.rcvd.reason.endswith("é")


async def test_a_ping_is_answered_with_a_pong(stage: Stage) -> None:
    async with socket(stage) as ws:
        await ws.send('{"type":"ping"}')
        assert json.loads(await ws.recv()) == {"type": "pong"}
        await ws.send('{"type":"pong"}')
        await ws.send('{"id":"never","type":"complete"}')
        await ws.send('{"type":"pong","payload":{"a":1}}')
        await ws.send('{"type":"ping","payload":null}')
        assert json.loads(await ws.recv()) == {"type": "pong"}
        for payload in ({}, {"sent": 1.5, "by": ["me"]}):
            await ws.send(json.dumps({"type": "ping", "payload": payload}))
            assert json.loads(await ws.recv()) == {"type": "pong", "payload": payload}


async def test_a_client_that_says_nothing_is_closed(tmp_path: Path) -> None:
    async with staged(tmp_path, connection_init_seconds=0.05) as stage:
        async with socket(stage) as ws, raw_socket(stage, init=False) as silent:
            with pytest.raises(ConnectionError, match="4408"):
                await silent.message()
            await ws.send('{"type":"ping"}')
            assert json.loads(await ws.recv()) == {"type": "pong"}
        await stage.is_left()


async def test_a_client_for_which_nothing_goes_on_is_sent_away(tmp_path: Path) -> None:
    async with asyncio.timeout(10), staged(tmp_path, idle_socket_seconds=0.3) as stage, AsyncExitStack() as stack:
        task = await stage.task()
        watching = await stack.enter_async_context(raw_socket(stage))
        watching.subscribe("1", STATUS, id=task.id)
        assert (await watching.message())["type"] == "next"
        asking = await stack.enter_async_context(raw_socket(stage))
        asking.subscribe("1", "{ __typename }")
        assert [(await asking.message())["type"] for _ in range(2)] == ["next", "complete"]
        for gone in (asking, await stack.enter_async_context(raw_socket(stage))):
            with pytest.raises(ConnectionError, match="closed with 1000: no operation was going on"):
                await gone.message()
        await task.progress()
        assert (await watching.message())["type"] == "next"
        watching.send({"type": "complete", "id": "1"})
        with pytest.raises(ConnectionError, match="closed with 1000"):
            await watching.message()
        await stack.aclose()
        await stage.is_left()


async def test_a_client_that_vanishes_while_it_connects_leaves_nothing_behind(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(30):
        vanish_at_once(stage)
        async with raw_socket(stage, init=False):
            pass
    await stage.is_left()

    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


async def test_a_client_that_answers_no_ping_is_dropped(tmp_path: Path) -> None:
    async with staged(tmp_path, ping_seconds=0.05, pong_seconds=0.05) as stage:
        task = await stage.task()
        async with raw_socket(stage) as deaf, socket(stage) as alive:
            deaf.subscribe("1", STATUS, id=task.id)
            payload = {"query": STATUS, "variables": {"id": task.id}}
            await alive.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
            await until(lambda: stage.live.groups.subscribers == 2)
            await until(lambda: stage.live.groups.subscribers == 1)
            await task.progress()
            assert [json.loads(await alive.recv())["type"] for _ in range(2)] == ["next", "next"]


async def test_a_client_that_reads_no_pings_because_it_is_stuck_is_dropped_at_once(tmp_path: Path) -> None:
    async with staged(tmp_path, ping_seconds=0.05, pong_seconds=0.05) as stage:
        task = await stage.task()
        async with raw_socket(stage) as stuck:
            stuck.subscribe("1", PICTURES, id=task.id)
            await stage.watched_by(1)
            await task.partial(0, noise(2000))
            await stage.is_left()


async def test_a_client_that_is_busy_reading_a_picture_is_not_taken_for_dead(tmp_path: Path) -> None:
    async with staged(tmp_path, ping_seconds=0.1, pong_seconds=0.4) as stage:
        task = await stage.task()
        async with raw_socket(stage) as slow:
            slow.subscribe("1", PICTURES, id=task.id)
            await stage.watched_by(1)
            await task.partial(0, noise(3000))
            read = 0
            while read < 4_000_000:  # a piece at a time, and in all for longer than a ping may stay unanswered
                read += len((await slow.receive())[1])
                await asyncio.sleep(0.03)
            assert stage.live.groups.subscribers == 1


async def test_a_client_that_asks_and_does_not_read_the_answers_is_dropped(stage: Stage) -> None:
    async with raw_socket(stage) as raw:
        with pytest.raises((ConnectionError, BlockingIOError)):
            await ask_for_ever(raw)
    await stage.is_left()


async def test_a_socket_has_only_so_many_operations_at_a_time(tmp_path: Path) -> None:
    async with staged(tmp_path, max_operations_per_socket=2) as stage:
        task = await stage.task()
        async with socket(stage) as ws:
            for id in ("a", "b", "c"):
                payload = {"query": STATUS, "variables": {"id": task.id, "after": 1}}
                await ws.send(json.dumps({"id": id, "type": "subscribe", "payload": payload}))
            refused = json.loads(await ws.recv())
            assert (refused["id"], refused["type"]) == ("c", "error")
            assert refused["payload"][0]["extensions"]["code"] == "TOO_MANY_OPERATIONS"
            await stage.watched_by(2)
            await ws.send('{"id":"a","type":"complete"}')
            await ws.send(json.dumps({"id": "c", "type": "subscribe", "payload": payload}))
            await until(lambda: stage.live.groups.subscribers == 2)
            await task.progress()
            assert {json.loads(await ws.recv())["id"] for _ in range(2)} == {"b", "c"}


async def test_a_caller_has_only_so_many_sockets(tmp_path: Path) -> None:
    async with staged(tmp_path, max_connections_per_caller=3) as stage, AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(socket(stage))
        with pytest.raises(InvalidStatus) as refused:
            async with socket(stage):
                pass
        assert refused.value.response.status_code == 429
        assert "DARKROOM_MAX_CONNECTIONS_PER_CALLER" in (refused.value.response.body or b"").decode()
        await stack.aclose()
        await stage.is_left()
        async with socket(stage):
            pass


async def test_a_stopping_server_sends_even_a_stuck_client_away(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(staged(tmp_path))
        task = await stage.task()
        stuck = await stack.enter_async_context(raw_socket(stage))
        stuck.subscribe("1", PICTURES, id=task.id)
        await stage.watched_by(1)
        await task.partial(0, noise(2000))
        reader = await stack.enter_async_context(socket(stage))
        async with asyncio.timeout(5):
            stopping = asyncio.create_task(stage.stop())
            with pytest.raises(ConnectionClosed) as closed:
                await reader.recv()
            await stopping

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


@pytest.mark.skipif(not hasattr(sockets, "TCP_USER_TIMEOUT"), reason="Linux only")
def test_the_kernel_drops_whoever_takes_nothing_for_a_minute_and_keeps_little_for_it() -> None:
    with listen("127.0.0.1", 0) as listener, sockets.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_USER_TIMEOUT) == 60_000
            assert accepted.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_NOTSENT_LOWAT) == 128 * 1024

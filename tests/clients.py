"""Clients as a user would write them: one for HTTP, one for `graphql-transport-ws`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from graph.ids import key
from tests.server import Reachable

T = TypeVar("T")

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
    ... on TaskRetryScheduled { attempt retryAt failure { code retryAfter } }
    ... on TaskCanceled { cancellation { outcome billed transport message } }
  }
}
"""

TASK = """
query($id: ID!) {
  task(id: $id) {
    id number status prompt attempt retryAt queuePosition cancelRequestedAt submittedAt finishedAt providerTaskId
    cancellation { outcome billed transport message }
    failure { code message retryable billed transport retryAfter }
    notices { message }
    images { id index kind late sha256 url }
    request { ... on OpenAIImagesRequest { n } }
    retriedFrom { id }
  }
}
"""

CANCEL = """
mutation($id: ID!) {
  cancelTask(input: { id: $id }) {
    __typename
    ... on CancelTaskSuccess {
      task { id status cancellation { outcome billed transport message } }
      cancellation { outcome billed transport message }
    }
    ... on Error { code message }
  }
}
"""

RETRY = """
mutation($input: RetryTaskInput!) {
  retryTask(input: $input) {
    __typename
    ... on RetryTaskSuccess { task { id status prompt retriedFrom { id } } }
    ... on Error { code message }
    ... on ValidationError { problems { path code } }
  }
}
"""


def openai_images(prompt: str = "A lighthouse at dusk", **parameters: Any) -> dict[str, Any]:
    """Variables of `START` for one OpenAI-style picture; as small as the model allows, so that tests are quick."""
    request = {"model": "gpt-image-2", "size": "1024x640", "outputFormat": "jpeg", "prompt": prompt} | parameters
    return {"input": {"request": {"openaiImages": request}}}


def placewise(prompt: str = "A mall in spring", **parameters: Any) -> dict[str, Any]:
    """The same for one Placewise picture."""
    return {"input": {"request": {"placewise": {"prompt": prompt, "imageSize": "THUMBNAIL", **parameters}}}}


def all_images(prompt: str = "A fox in the snow", **parameters: Any) -> dict[str, Any]:
    """The same for the four pictures of All-Images.ai."""
    return {"input": {"request": {"allImages": {"mode": "SIMPLE", "name": "fox", "prompt": prompt, **parameters}}}}


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


async def task(server: Reachable, task_id: str) -> dict[str, Any]:
    """A task as it is now."""
    answer = await execute(server, TASK, {"id": task_id})
    found: dict[str, Any] = answer["data"]["task"]
    return found


async def cancel(server: Reachable, task_id: str) -> dict[str, Any]:
    """Cancel a task; the result."""
    answer = await execute(server, CANCEL, {"id": task_id})
    result: dict[str, Any] = answer["data"]["cancelTask"]
    return result


async def retry(server: Reachable, task_id: str, with_key: str | None = None) -> dict[str, Any]:
    """Start a task again; the result."""
    answer = await execute(server, RETRY, {"input": {"id": task_id, "idempotencyKey": with_key}})
    result: dict[str, Any] = answer["data"]["retryTask"]
    return result


async def charges(server: Reachable, task_id: str) -> int:
    """How often the vendor was paid for the generation of a task; bought pictures are charges of their own."""
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"{server.url}/sandbox/ledger", params={"reference": key(task_id, "Task")})
    return len([one for one in response.json() if not one["submission"].startswith("image:")])


async def until(server: Reachable, task_id: str, kind: str) -> dict[str, Any]:
    """Watch a task up to the first event of a kind, or to the first change to a status, and leave."""
    async with aclosing(subscribe(server, WATCH, {"id": task_id})) as messages:
        async for message in messages:
            if message["type"] != "next":
                break
            event: dict[str, Any] = message["payload"]["data"]["taskEvents"]
            if kind in (event["__typename"], event.get("status")):
                return event
    raise AssertionError(f"the task ended without {kind}")


async def eventually(look: Callable[[], Awaitable[T]], seconds: float = 20) -> T:
    """Look until there is something to see, for what no event tells of."""
    async with asyncio.timeout(seconds):
        while not (seen := await look()):  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(0.02)
        return seen


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

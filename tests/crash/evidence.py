"""What can be found out about a task from outside: what clients are told and can fetch, what the vendor billed."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx
from tenacity import AsyncRetrying, stop_after_delay, wait_fixed
from websockets.exceptions import WebSocketException

from graph.ids import key
from tests.clients import WATCH, subscribe
from tests.server import Reachable

PATIENCE_SECONDS = 90.0
"""How long a task may take to its end after a restart."""
RECONNECT_SECONDS = 0.1

TASK = """
query Task($id: ID!) {
  task(id: $id) {
    id name status lastSequence cancelRequestedAt
    failure { code message retryable billed transport }
    cancellation { outcome billed transport message }
    images { id index late sha256 url }
    partialImages { id index partialImageIndex sha256 url }
  }
}
"""
ALL = """
query All($after: String) {
  tasks(first: 100, after: $after) { pageInfo { hasNextPage endCursor } nodes { id name status } }
}
"""


@dataclass(frozen=True)
class Evidence:
    """One task, as it is found."""

    expected: int
    """How many pictures were asked for."""
    task: dict[str, Any]
    events: list[dict[str, Any]]
    charges: list[dict[str, Any]]
    """What the vendor billed under the task's reference: generations, and pictures that were bought."""
    fetched: dict[str, str]
    """The hash of each picture as it was downloaded, by its id; the problem where it could not be."""

    def __str__(self) -> str:
        told = [f"{event['sequence']} {event.get('status') or event['__typename']}" for event in self.events]
        charges = [f"{charge['submission']} ({charge['images']})" for charge in self.charges]
        ends = {name: self.task[name] for name in ("status", "failure", "cancellation")}
        return f"{self.task['name']}\nevents {told}\n{ends}\ncharges {charges}\npictures {self.fetched}"


@dataclass(frozen=True)
class Vendor:
    """The simulated vendor, in a process of its own: it outlives every server."""

    url: str

    async def charges(self, task_id: str) -> list[dict[str, Any]]:
        """What was billed for a task."""
        async with loopback() as client:
            found = await client.get(f"{self.url}/ledger", params={"reference": key(task_id, "Task")})
        charges: list[dict[str, Any]] = found.json()
        return charges

    async def until_charged(self, task_id: str) -> None:
        """Wait until something has been billed for a task."""
        async for attempt in AsyncRetrying(wait=wait_fixed(0.1), stop=stop_after_delay(20), reraise=True):
            with attempt:
                assert await self.charges(task_id), "it was never charged"


def loopback(*, seconds: float = 30.0, base_url: str = "") -> httpx.AsyncClient:
    """A client for this machine. It reads no certificates: that would take longer than most of what it is used for."""
    return httpx.AsyncClient(trust_env=False, verify=False, timeout=seconds, base_url=base_url)


async def ask(server: Reachable, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    """The data of a query that is meant to succeed."""
    async with loopback() as client:
        answer = (await client.post(f"{server.url}/graphql", json={"query": query, "variables": variables})).json()
    assert "errors" not in answer, answer
    data: dict[str, Any] = answer["data"]
    return data


async def collect(server: Reachable, vendor: Vendor, task_id: str, *, expected: int, charged: bool = False) -> Evidence:
    """Watch a task to its end, and find out everything else; with `charged`, not before it has been charged for."""
    events = await history(server, task_id)
    if charged:
        await vendor.until_charged(task_id)
    task = (await ask(server, TASK, {"id": task_id}))["task"]
    shown = [event["image"] for event in events if event.get("image")] + task["images"] + task["partialImages"]
    pictures = {image["id"]: image["url"] for image in shown}
    async with loopback() as client:
        fetched = dict(zip(pictures, [await _fetch(client, url) for url in pictures.values()], strict=True))
    return Evidence(expected, task, events, await vendor.charges(task_id), fetched)


async def history(server: Reachable, task_id: str, *, seconds: float = PATIENCE_SECONDS) -> list[dict[str, Any]]:
    """The events of a task to its end, or as many as there were when patience ran out."""
    events: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(seconds), aclosing(subscribe(server, WATCH, {"id": task_id})) as messages:
            async for message in messages:
                if message["type"] == "complete":
                    break
                assert message["type"] == "next", message
                events.append(message["payload"]["data"]["taskEvents"])
    except TimeoutError:
        pass  # a task that has not ended is a finding
    return events


async def follow(servers: Callable[[], Sequence[Reachable]], task_id: str) -> list[dict[str, Any]]:
    """The events of a task to its end, as a client puts them together that goes elsewhere when its server is gone.

    `servers` are those there are at the moment. No event may be missed or come twice.
    """
    events: list[dict[str, Any]] = []
    for turn in count():
        there = servers()
        if there and await _listen(there[turn % len(there)], task_id, events):
            return events
        await asyncio.sleep(RECONNECT_SECONDS)
    raise AssertionError("unreachable")


async def _listen(server: Reachable, task_id: str, events: list[dict[str, Any]]) -> bool:
    """Add what comes; whether the task has ended."""
    try:
        async with aclosing(subscribe(server, WATCH, {"id": task_id, "after": len(events)})) as messages:
            async for message in messages:
                if message["type"] == "complete":
                    return True
                event = (message["payload"].get("data") or {}).get("taskEvents") if message["type"] == "next" else None
                if event is None:
                    return False  # the server cannot tell now
                assert event["sequence"] == len(events) + 1, (task_id, event["sequence"], len(events))
                events.append(event)
    except (OSError, WebSocketException):
        pass
    return False


async def all_tasks(server: Reachable) -> list[dict[str, Any]]:
    """Id, name and status of every task there is."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = (await ask(server, ALL, {"after": after}))["tasks"]
        found += page["nodes"]
        if not page["pageInfo"]["hasNextPage"]:
            return found
        after = page["pageInfo"]["endCursor"]


async def _fetch(client: httpx.AsyncClient, url: str) -> str:
    answer = await client.get(url)
    return hashlib.sha256(answer.content).hexdigest() if answer.is_success else f"HTTP {answer.status_code}"

"""The two clients that are compared: one reads the upstream itself, the other one watches a Darkroom.

Both take the time when the text of a frame is in their hands, before they look into it. Both check all they get; what
is missing, repeated or out of order raises `WrongError`, because a quick wrong answer is worth nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count

import httpx
import orjson
from httpx_sse import aconnect_sse
from websockets.asyncio.client import ClientConnection

from bench.checks import WrongError, check_direct, check_events
from bench.messages import FRAMES, FRAMES_WITH_PLACEHOLDER, START, Event, Message, StartAnswer
from bench.pictures import Stage, mark_of
from bench.upstream import Bill, Order, Stamps
from graph.ids import key
from tests.clients import socket
from tests.server import Reachable

MODEL = "gpt-image-2"
PATIENCE_SECONDS = 60
_references = count(1)


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame on its whole way, in nanoseconds of the monotonic clock."""

    stage: Stage
    sent_ns: int
    received_ns: int

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return (self.received_ns - self.sent_ns) / 1e6


@dataclass(frozen=True, slots=True)
class Posted:
    """A generation that was asked for: when the client began to ask, and when the upstream had the headers."""

    asked_ns: int
    received_ns: int

    @property
    def milliseconds(self) -> float:
        """How long it took."""
        return (self.received_ns - self.asked_ns) / 1e6


class Direct:
    """A client of the upstream, with nothing in between."""

    def __init__(self, upstream: str, http: httpx.AsyncClient) -> None:
        self._upstream = upstream
        self._http = http

    async def stream(self, order: Order) -> list[Arrived]:
        """Generate, and read the frames."""
        reference = f"direct-{next(_references)}"
        body = _parameters(order) | {"stream": True}
        url, headers = f"{self._upstream}/v1/images/generations", {"X-Client-Request-Id": reference}
        received: list[int] = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with aconnect_sse(self._http, "POST", url, json=body, headers=headers) as source:
                async for event in source.aiter_sse():
                    received.append(time.monotonic_ns())
                    check_direct(event, order, len(received) - 1)
            return _paired(order, await stamps_of(self._http, self._upstream, reference), received[:-1])

    async def ask(self, order: Order) -> None:
        """Generate without a stream."""
        await self._post(order, f"direct-{next(_references)}")

    async def post(self, order: Order) -> Posted:
        """The same, with stamps."""
        reference = f"direct-{next(_references)}"
        asked_ns = time.monotonic_ns()
        await self._post(order, reference)
        return Posted(asked_ns, (await stamps_of(self._http, self._upstream, reference)).received_ns)

    async def billed(self) -> int:
        """How many generations the upstream has been asked for, by anybody."""
        response = (await self._http.get(f"{self._upstream}/bill")).raise_for_status()
        return Bill.model_validate_json(response.content).generations

    async def _post(self, order: Order, reference: str) -> None:
        url, headers = f"{self._upstream}/v1/images/generations", {"X-Client-Request-Id": reference}
        response = (await self._http.post(url, json=_parameters(order), headers=headers)).raise_for_status()
        if not response.content.startswith(b'{"created":'):
            raise WrongError(f"A direct request was answered with {response.content[:200]!r}…")


class Watcher:
    """A frontend of a Darkroom: starts by HTTP, watches over one websocket that stays open."""

    def __init__(self, server: Reachable, upstream: str, http: httpx.AsyncClient, ws: ClientConnection) -> None:
        self._url = f"{server.url}/graphql"
        self._upstream = upstream
        self._http = http
        self._ws = ws
        self._operations = count(1)

    async def stream(self, order: Order, *, placeholder: bool = False, look: bool = False) -> list[Arrived]:
        """Generate, and watch the frames. With `look` each picture is fetched, to see that it is the one sent."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            task_id = await self._start(order)
            events = await self._watch(task_id, FRAMES_WITH_PLACEHOLDER if placeholder else FRAMES)
            frames = [(event, ns) for event, ns in events if event.image is not None]
            check_events([event for event, _ in events], order, placeholder=placeholder)
            stamps = await stamps_of(self._http, self._upstream, key(task_id, "Task"))
            if look:
                await self._look(stamps, [event for event, _ in frames])
            return _paired(order, stamps, [ns for _, ns in frames])

    async def ask(self, order: Order) -> str:
        """Generate without a stream, and wait for the end; the task's id."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            task_id = await self._start(order)
            events = await self._watch(task_id, FRAMES)
            check_events([event for event, _ in events], order, placeholder=False)
            return task_id

    async def post(self, order: Order) -> Posted:
        """The same, with stamps."""
        asked_ns = time.monotonic_ns()
        task_id = await self.ask(order)
        stamps = await stamps_of(self._http, self._upstream, key(task_id, "Task"))
        return Posted(asked_ns, stamps.received_ns)

    async def _start(self, order: Order) -> str:
        request: dict[str, object] = {"prompt": order.model_dump_json(), "model": MODEL, "n": order.images}
        if order.partials:
            request["partialImages"] = order.partials
        variables = {"input": {"request": {"openaiImages": request}}}
        response = await self._http.post(self._url, json={"query": START, "variables": variables})
        answer = StartAnswer.model_validate_json(response.content)
        if answer.data is None or answer.data.start_generation.task is None:
            raise WrongError(f"The mutation was not accepted: {response.text}")
        return answer.data.start_generation.task.id

    async def _watch(self, task_id: str, query: str) -> list[tuple[Event, int]]:
        """The events of a task with the time they were here."""
        operation = str(next(self._operations))
        payload = {"query": query, "variables": {"id": task_id}}
        await self._ws.send(orjson.dumps({"id": operation, "type": "subscribe", "payload": payload}), text=True)
        events: list[tuple[Event, int]] = []
        while True:
            text = await self._ws.recv(decode=False)
            received_ns = time.monotonic_ns()
            message = Message.model_validate_json(text)
            if message.id == operation and message.event is not None:
                events.append((message.event, received_ns))
            elif message.id == operation and message.type == "complete":
                return events
            elif message.type != "ping":
                raise WrongError(f"An event was due, and this came: {text[:500]!r}")

    async def _look(self, stamps: Stamps, events: list[Event]) -> None:
        for sent, event in zip(stamps.frames, events, strict=True):
            if event.image is not None:
                response = (await self._http.get(event.image.url)).raise_for_status()
                if mark_of(response.content) != sent.mark:
                    raise WrongError(f"Event {event.sequence} leads to another picture than the upstream sent.")


@asynccontextmanager
async def watcher(server: Reachable, upstream: str, http: httpx.AsyncClient) -> AsyncIterator[Watcher]:
    """A `Watcher` with its websocket open."""
    async with socket(server) as ws:
        yield Watcher(server, upstream, http, ws)


async def stamps_of(http: httpx.AsyncClient, upstream: str, reference: str) -> Stamps:
    """What the upstream knows of a request; it then forgets it."""
    response = (await http.get(f"{upstream}/stamps/{reference}")).raise_for_status()
    return Stamps.model_validate_json(response.content)


def _parameters(order: Order) -> dict[str, object]:
    parameters: dict[str, object] = {"model": MODEL, "prompt": order.model_dump_json(), "n": order.images}
    return parameters | ({"partial_images": order.partials} if order.partials else {})


def _paired(order: Order, stamps: Stamps, received: list[int]) -> list[Arrived]:
    if not len(order.frames) == len(stamps.frames) == len(received):
        raise WrongError(f"{len(order.frames)} frames were due, {len(stamps.frames)} left, {len(received)} came.")
    return [Arrived(stage, sent.ns, ns) for stage, sent, ns in zip(order.frames, stamps.frames, received, strict=True)]

"""A Placewise account of the tests: how its client is made, what it tells, and who listens at its callback URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from providers.contract import Callback, Delivery, FinalImage, Notice, Progress, ProviderEvent, Submission
from providers.errors import ProviderError
from providers.placewise.adapter import Placewise
from providers.placewise.request import PlacewiseRequest
from providers.placewise.settings import PlacewiseSettings
from tests.providers.upstream import Answer, Heard, http, json_body, upstream
from tests.serving import serving

TOKEN = "client-secret-0123456789"
USER_TOKEN = "user.secret.9876543210"
REFERENCE = "task-7"
PNG = b"\x89PNG\r\n\x1a\n....IEND\xaeB`\x82"
"""As much of a picture as an adapter looks at."""

POLL: dict[str, Any] = {
    "results": "poll",
    "poll_url_template": "/v1/jobs/{id}",
    "poll_interval_seconds": 0.005,
    "status_pointer": "/job/state",
    "done_values": "finished,ready",
    "failed_values": "failed",
    "image_pointer": "/job/image",
    "reason_pointer": "/job/why",
    "deadline_seconds": 5,
    "doubt_seconds": 0,
}
"""A way to the result that is nothing like the simulator's."""

PUSH: dict[str, Any] = {
    "results": "push",
    "callback_header": "X-Notify",
    "status_pointer": "/state",
    "done_values": "ready",
    "failed_values": "failed",
    "image_pointer": "/images/0",
    "reason_pointer": "/why",
    "deadline_seconds": 5,
}

CREATED = json_body({"image_generation_task": {"id": 41}})


def account(url: str, **settings: object) -> Placewise:
    """A client of the server at `url`, with tokens that must never show."""
    values = {"base_url": url, "client_token": TOKEN, "loyalty_club_slug": "infinity-mall", **settings}
    return Placewise(PlacewiseSettings.model_validate(values), base_url=url, sandbox=False)


def request(**parameters: object) -> PlacewiseRequest:
    return PlacewiseRequest.model_validate({"prompt": "a red fox", **parameters})


@dataclass
class Outcome:
    """What one run told, and how it ended."""

    events: list[ProviderEvent]
    error: ProviderError | None

    @property
    def states(self) -> list[str | None]:
        return [event.message for event in self.events if isinstance(event, Progress)]

    @property
    def finals(self) -> list[bytes]:
        return [event.data for event in self.events if isinstance(event, FinalImage)]

    @property
    def notices(self) -> dict[str | None, str]:
        return {event.parameter: event.message for event in self.events if isinstance(event, Notice)}

    def failure(self) -> ProviderError:
        assert self.error is not None, f"it did not fail: {self.events}"
        return self.error


async def run(
    provider: Placewise,
    asked: PlacewiseRequest | None = None,
    *,
    reference: str = REFERENCE,
    resume: Submission | None = None,
    callback: Callback | None = None,
) -> Outcome:
    """Run one request to its end, whatever that is."""
    events: list[ProviderEvent] = []
    running = provider.run(asked or request(), reference=reference, resume=resume, callback=callback)
    try:
        async with aclosing(running) as stream:
            async for event in stream:
                events.append(event)
    except ProviderError as exc:
        return Outcome(events, exc)
    finally:
        await provider.aclose()
    return Outcome(events, None)


async def answered(answer: Answer | bytes, asked: PlacewiseRequest | None = None, /, **settings: Any) -> Outcome:
    """What a client makes of that answer."""
    async with upstream(answer) as server:
        return await run(account(server.url, **settings), asked)


def creating(*polled: bytes) -> Answer:
    """Accepts every order as task 41, and answers one question after the other, the last one again and again."""
    waiting = list(polled)

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        if heard.line.startswith("POST"):
            writer.write(CREATED)
        else:
            writer.write(waiting.pop(0) if len(waiting) > 1 else waiting[0])

    return answer


def job(state: JsonValue, **more: JsonValue) -> bytes:
    return json_body({"job": {"state": state, **more}})


def picture(data: bytes = PNG) -> bytes:
    return http(data, media_type="image/png")


def kinds_of(outcome: Outcome) -> list[str]:
    """The events by name."""
    return [type(event).__name__ for event in outcome.events]


def posts(heard: Sequence[Heard]) -> int:
    """How many orders there were among the requests."""
    return sum(each.line.startswith("POST") for each in heard)


@dataclass
class Listener:
    """A callback of ours: remembers what has been sent to `url`, before anybody listens as well."""

    url: str
    arrived: list[Delivery] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    def deliver(self, body: bytes, media_type: str = "application/json") -> None:
        self.arrived.append(Delivery(media_type, body))
        self.news.set()

    async def deliveries(self) -> AsyncGenerator[Delivery, None]:
        told = 0
        try:
            while True:
                self.news.clear()
                for delivery in self.arrived[told:]:
                    told += 1
                    yield delivery
                if told == len(self.arrived):
                    await self.news.wait()
        finally:
            self.closed = True


@asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    """A callback on a real socket."""
    listener = Listener("")

    async def receive(request: Request) -> Response:
        listener.deliver(await request.body(), request.headers.get("content-type", ""))
        return Response(status_code=204)

    async with serving(Starlette(routes=[Route("/callbacks/unguessable", receive, methods=["POST"])])) as url:
        listener.url = f"{url}/callbacks/unguessable"
        yield listener

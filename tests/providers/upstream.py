"""A vendor made of bare sockets, for tests that decide about every byte and every pause of its answer."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field

import orjson
from pydantic import JsonValue, SecretStr

from providers.contract import FinalImage, PartialImage, ProviderEvent
from providers.errors import ProviderError
from providers.openai_images.adapter import OpenAIImages
from providers.openai_images.request import OpenAIImagesRequest
from providers.openai_images.settings import OpenAIImagesSettings

TOKEN = "sk-secret-0123456789"
REFERENCE = "task-7"


@dataclass(frozen=True)
class Heard:
    """One request as it came in."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, JsonValue]:
        value: dict[str, JsonValue] = orjson.loads(self.body)
        return value


@dataclass
class Upstream:
    """A running server and what it heard."""

    url: str
    heard: list[Heard] = field(default_factory=list)


Answer = Callable[[Heard, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def upstream(answer: Answer | bytes, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    """Serve `answer` (or these bytes) to every request, then close the connection."""
    running = Upstream("")
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                heard = await _read(reader)
                running.heard.append(heard)
                if isinstance(answer, bytes):
                    writer.write(answer)
                else:
                    await answer(heard, writer)
                await writer.drain()
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    async with server:
        running.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield running
        finally:
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Heard:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    line, *rest = head.rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in rest)}
    return Heard(line, headers, await reader.readexactly(int(headers.get("content-length", "0"))))


def http(body: bytes, *, status: str = "200 OK", media_type: str = "application/json", **headers: str) -> bytes:
    """A whole answer, its length announced."""
    fields = {"Content-Type": media_type, "Content-Length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def json_body(value: JsonValue, *, status: str = "200 OK", **headers: str) -> bytes:
    return http(orjson.dumps(value), status=status, **headers)


def error_body(status: str, *, code: str | None = None, message: str = "no", **headers: str) -> bytes:
    error: JsonValue = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return json_body({"error": error}, status=status, **headers)


def sse(*frames: bytes, **headers: str) -> bytes:
    """A whole event stream, its length announced so that its end is no cut."""
    return http(b"".join(frames), media_type="text/event-stream; charset=utf-8", **headers)


def frame(data: JsonValue, name: str | None = None, *, end: bytes = b"\n") -> bytes:
    lines = [b"data: " + orjson.dumps(data), b""]
    if name is not None:
        lines.insert(0, b"event: " + name.encode())
    return end.join(lines) + end


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def partial(index: int, data: bytes, **more: JsonValue) -> bytes:
    name = "image_generation.partial_image"
    return frame({"type": name, "b64_json": b64(data), "partial_image_index": index, **more}, name)


def final(data: bytes, **more: JsonValue) -> bytes:
    name = "image_generation.completed"
    return frame({"type": name, "b64_json": b64(data), **more}, name)


def account(url: str, **settings: object) -> OpenAIImages:
    """A client of the server at `url` with a token that must never show."""
    return OpenAIImages(
        OpenAIImagesSettings.model_validate({"base_url": url, "token": SecretStr(TOKEN), **settings}),
        base_url=url,
        sandbox=False,
    )


def request(**parameters: object) -> OpenAIImagesRequest:
    return OpenAIImagesRequest.model_validate({"prompt": "a red fox", "model": "gpt-image-2", **parameters})


@dataclass
class Outcome:
    """What one run told, and how it ended."""

    events: list[ProviderEvent]
    error: ProviderError | None

    @property
    def partials(self) -> list[tuple[int, int, bytes]]:
        return [(e.index, e.partial_image_index, e.data) for e in self.events if isinstance(e, PartialImage)]

    @property
    def finals(self) -> list[bytes]:
        return [event.data for event in self.events if isinstance(event, FinalImage)]

    def failure(self) -> ProviderError:
        assert self.error is not None, f"it did not fail: {self.events}"
        return self.error


async def run(provider: OpenAIImages, asked: OpenAIImagesRequest | None = None) -> Outcome:
    """Run one request to its end, whatever that is."""
    events: list[ProviderEvent] = []
    try:
        async with aclosing(provider.run(asked or request(), reference=REFERENCE)) as stream:
            async for event in stream:
                events.append(event)
    except ProviderError as exc:
        return Outcome(events, exc)
    finally:
        await provider.aclose()
    return Outcome(events, None)


async def answered(answer: Answer | bytes, asked: OpenAIImagesRequest | None = None, **settings: object) -> Outcome:
    """What a client makes of that answer."""
    async with upstream(answer) as server:
        return await run(account(server.url, **settings), asked)


def kinds(events: Sequence[ProviderEvent]) -> list[str]:
    return [type(event).__name__ for event in events]

"""Server-sent events, each with a whole picture in it.

httpx-sse reads the fields of an event; what is added here is where one event ends. The library decodes lines on
the event loop: a 64 MiB event, cut into pieces of any size, takes it linear time (0.25 s), but most of that in one
step that would stop every other task, and it has no limit. So the bytes are collected until a blank line (by
`FrameSplitter`, which looks for nothing else), and the library gets whole events, large ones on a thread.

The JSON in them is read by pydantic-core: on a picture's worth of text it is five times as fast as orjson, which
also asks for thirteen times the size of its input in memory. What runs on the thread still holds the interpreter's
lock while it copies, so passes over a picture are counted here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass

import httpx
from httpx_sse import EventSource
from pydantic import JsonValue
from pydantic_core import from_json

from providers.errors import BadResponseError, Transport

LARGE = 256 * 1024
"""From this many bytes on, parsing and decoding go to a thread: about a millisecond of work."""

_BLANK_LINE = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_EVENT_STREAM = {"Content-Type": "text/event-stream; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event: its name (empty where it has none) and its JSON object, or why that cannot be read."""

    name: str
    data: dict[str, JsonValue]
    broken: BadResponseError | None = None


class FrameSplitter:
    """Cuts a byte stream after each blank line, wherever its chunks begin and end."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self._tail = b""
        """Line ends at the very end of what was fed: with what comes next they may be a blank line."""

    def feed(self, chunk: bytes) -> list[list[bytes]]:
        """The events that `chunk` completes, each in the pieces it came in."""
        if b"\n" not in chunk and b"\r" not in chunk:  # the inside of a picture: by far the most common
            self._tail = b""
            self._keep(chunk)
            return []
        frames: list[list[bytes]] = []
        window = self._tail + chunk
        searched, begin = 0, len(self._tail)
        while (blank := _BLANK_LINE.search(window, searched)) is not None:
            searched = blank.end()
            self._keep(window[begin:searched])
            frames.append(self._parts)
            self._parts, self._size, begin = [], 0, searched
        self._keep(window[begin:])
        last = window[max(searched, len(window) - 2) :]
        self._tail = last[len(last.rstrip(b"\r\n")) :]
        return frames

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._limit:
            raise BadResponseError(
                f"One event of the answer is larger than {self._limit:,} bytes. Raise "
                "DARKROOM_OPENAI_IMAGES_FRAME_LIMIT_BYTES if pictures of that size are meant to come.",
                transport=Transport.ACCEPTED,
            )
        if part:
            self._parts.append(part)


async def stream_events(chunks: AsyncIterable[bytes], *, limit: int) -> AsyncGenerator[StreamEvent, None]:
    """The events of a stream until `[DONE]` or its end; one that is cut before its blank line is not an event.

    `limit` is in bytes per event. Raises BadResponseError for a larger one; one whose JSON is broken ends nothing.
    """
    splitter = FrameSplitter(limit)
    async for chunk in chunks:
        for parts in splitter.feed(chunk):
            if sum(map(len, parts)) > LARGE:
                events, done = await asyncio.to_thread(_parse, parts)
            else:
                events, done = _parse(parts)
            for event in events:
                yield event
            if done:
                return


def _parse(parts: list[bytes]) -> tuple[list[StreamEvent], bool]:
    """The events in one frame (one, or none in a comment), and whether it says that the stream is over."""
    events: list[StreamEvent] = []
    frame = httpx.Response(200, headers=_EVENT_STREAM, content=b"".join(parts))
    for event in EventSource(frame).iter_sse():
        if event.data.startswith("[DONE]"):
            return events, True
        if not event.data.lstrip().startswith("{"):
            continue  # a keep-alive, or something for somebody else
        name = "" if event.event == "message" else event.event
        try:
            data: JsonValue = from_json(event.data)
        except ValueError as exc:
            broken = BadResponseError(f"An event of the answer is not valid JSON: {exc}.", transport=Transport.ACCEPTED)
            events.append(StreamEvent(name, {}, broken))
            continue
        if isinstance(data, dict):
            events.append(StreamEvent(name, data))
    return events, False

"""The answers of the simulated vendor: JSON and server-sent events, nice or as a fault script wants them.

Shapes: contract openai-images §3.1 (JSON), §3.2 (events), §4.1 (an error in mid-stream).
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Literal

import orjson
from pydantic import JsonValue

from providers.openai_images.simulator_errors import scripted_error
from providers.openai_images.simulator_usage import usage
from providers.openai_images.simulator_validation import Order
from providers.sandbox.drawing import Drawing, drawn
from providers.sandbox.script import Script

Link = Callable[[Drawing, Order], str]
"""Puts a picture where its link can be fetched, and returns the link."""
_STEPS = 3
"""A picture without partial images takes as long as this many stages of one with them."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One event to come: a stage (0-based) of a picture, a finished picture, or the error that ends it all."""

    kind: Literal["partial", "final", "error"]
    picture: int = 0
    stage: int = 0


def planned(order: Order, script: Script) -> list[Frame]:
    """The events of a streamed answer in the order they are sent, with whatever the script changes about it.

    The vendor does not say how it streams several pictures. Here they develop side by side: the first stage
    of each, the second of each, and so on to one completed event per picture.
    """
    stages = order.partial_images if script.partials is None else min(script.partials, order.partial_images)
    partials = [Frame("partial", picture, stage) for stage in range(stages) for picture in range(order.n)]
    finals = [] if script.no_final else [Frame("final", picture) for picture in range(order.n)]
    frames = [*finals, *partials] if script.final_first else [*partials, *finals]
    if script.sequential:
        frames.sort(key=lambda frame: frame.picture)
    if script.duplicate:
        frames = [frame for frame in frames for _ in range(2)]
    if script.error_after is not None:
        frames = [*frames[: script.error_after], Frame("error")]
    return frames


class Answer:
    """One answer to one accepted order. `pace` is in seconds between stages; `link` is for answers with links."""

    def __init__(self, order: Order, script: Script, *, pace: float, link: Link) -> None:
        self._order = order
        self._script = script
        self._pace = pace if script.pause is None else script.pause
        self._link = link
        self._as_url = order.as_url or script.url

    @property
    def streams(self) -> bool:
        return self._order.stream and not self._script.answer_json

    @property
    def media_type(self) -> str:
        return "text/event-stream; charset=utf-8" if self.streams else "application/json"

    @property
    def cut(self) -> bool:
        return self._script.cut_inside or self._script.cut_after is not None

    async def parts(self) -> AsyncGenerator[bytes, None]:
        """The body, as it comes into being."""
        if not self.streams:
            yield await self._json()
            return
        due = time.monotonic()
        for number, frame in enumerate(planned(self._order, self._script)):
            if self.cut and number == (self._script.cut_after or 0):
                if self._script.cut_inside:
                    whole = await self._event(frame, number)
                    yield whole[: len(whole) // 2]
                return
            due += self._wait(frame)
            event = await self._event(frame, number)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            yield event
        if self._script.done and not self.cut:
            yield self._lines(["data: [DONE]", "", ""])

    def _wait(self, frame: Frame) -> float:
        """Pictures develop side by side: one wait for a stage of all of them."""
        if frame.picture and not self._script.sequential:
            return 0
        skipped = _STEPS - self._order.partial_images if frame.kind == "final" else 1
        return self._pace * (max(1, skipped) if self._script.pause is None else 1)

    async def _event(self, frame: Frame, number: int) -> bytes:
        if frame.kind == "error":
            body: dict[str, JsonValue] = {
                "type": "error",
                "error": scripted_error(self._script),
                "sequence_number": 0,
            }
            return await asyncio.to_thread(self._rendered, "error", body, None, False)
        order, final = self._order, frame.kind == "final"
        drawing = self._drawing(frame.picture)
        progress = 1.0 if final else (frame.stage + 1) / (order.partial_images + 1)
        name = f"image_generation.{'completed' if final else 'partial_image'}"
        body = {"type": name}
        if not final:
            body["partial_image_index"] = frame.stage
        if not self._script.omit_fields:
            body |= {"created_at": int(time.time()), **self._effective()}
        if final and order.family.formats:
            body["usage"] = usage(order, images=1, partials=self._stages(), detailed=False)
        if final and order.user is not None and not self._script.omit_fields:
            body["safety_identifier"] = order.user
        if self._as_url:
            body["url"] = self._link(drawing, order)
            return await asyncio.to_thread(self._rendered, name, body, None, False)
        picture = await drawn(drawing, order.output_format, compression=order.compression, progress=progress)
        return await asyncio.to_thread(self._rendered, name, body, picture, number == self._script.truncate)

    async def _json(self) -> bytes:
        order, script = self._order, self._script
        steps = max(_STEPS, order.partial_images + 1) if script.pause is None else 1
        due = time.monotonic() + self._pace * steps
        pictures: list[dict[str, JsonValue]] = []
        for index in range(0 if script.no_final else order.n):
            picture: dict[str, JsonValue] = {}
            drawing = self._drawing(index)
            if self._as_url:
                picture["url"] = self._link(drawing, order)
            else:
                file = await drawn(drawing, order.output_format, compression=order.compression)
                picture["b64_json"] = await asyncio.to_thread(self._base64, file, index == script.truncate)
            if order.family.styles and not script.omit_fields:
                picture["revised_prompt"] = f"{order.prompt.strip()}, as a print from the darkroom"
            pictures += [picture, picture] if script.duplicate else [picture]
        body: dict[str, JsonValue] = {"created": int(time.time()), "data": [*pictures]}
        if order.family.formats:
            if not script.omit_fields:
                body |= self._effective()
                if order.user is not None:
                    body["safety_identifier"] = order.user
            body["usage"] = usage(order, images=order.n, partials=0, detailed=True)
        text = await asyncio.to_thread(self._dressed, body)
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if script.cut_inside:
            return text[: len(text) // 2]
        return b"" if script.cut_after is not None else text

    def _drawing(self, index: int) -> Drawing:
        order = self._order
        transparent = order.background == "transparent"
        return Drawing(order.prompt, order.width, order.height, self._script.seed, index, transparent)

    def _stages(self) -> int:
        asked, sent = self._order.partial_images, self._script.partials
        return asked if sent is None else min(asked, sent)

    def _effective(self) -> dict[str, JsonValue]:
        order = self._order
        return {
            "background": order.background,
            "output_format": order.output_format,
            "quality": order.quality,
            "size": order.size,
        }

    def _rendered(self, name: str, body: dict[str, JsonValue], picture: bytes | None, truncated: bool) -> bytes:
        """One event as it goes over the wire."""
        if picture is not None:
            body = {**body, "b64_json": self._base64(picture, truncated)}
        lines = [f"event: {name}", f"data: {self._dressed(body).decode()}", "", ""]
        return self._lines([": still here", *lines] if self._script.keepalive else lines)

    def _dressed(self, body: dict[str, JsonValue]) -> bytes:
        """The JSON, with the fields the script adds to it."""
        if self._script.extra_fields:
            surprise: JsonValue = {"nested": [None, 1.5, {"deep": True}], "unicode": "überraschung ✓"}
            body = {"x_sandbox": surprise, **body, "moderation_details": None}
        if self._script.padding:
            body = {**body, "padding": "0" * self._script.padding}
        return orjson.dumps(body)

    def _lines(self, lines: list[str]) -> bytes:
        return ("\r\n" if self._script.crlf else "\n").join(lines).encode()

    def _base64(self, file: bytes, truncated: bool) -> str:
        """Standard base64. Truncated, it ends one character into a group of four, unless it is to stay decodable."""
        text = base64.b64encode(file).decode()
        if not truncated:
            return text
        return text[: len(text) // 8 * 4 + (0 if self._script.truncate_decodable else 1)]

"""The upstream of the measurements: as quick as can be, and it knows when everything left it.

It speaks as much of `POST …/images/generations` as Darkroom needs (contract openai-images §3.1, §3.2). What to send is
the `Order` in the prompt, and what happened is told by `GET /stamps/{X-Client-Request-Id}`; `GET /bill` tells how many
generations were paid for. Stamps are `time.monotonic_ns()`, a clock that all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import orjson
import uvicorn
from pydantic import BaseModel
from starlette.types import Receive, Scope, Send

from bench.pictures import KINDS, STAGES, Picture, Stage, load
from graph.server import listen


class Order(BaseModel):
    """What the upstream is to send. It travels as the prompt.

    `lead` and `gap` are in seconds: the time before the first frame, and between two frames on average (anything from
    half to one and a half of it, decided by `seed`). Without `partials` and `lead` it answers at once.
    """

    pictures: str
    images: int = 1
    partials: int = 0
    lead: float = 0
    gap: float = 0
    seed: int = 0

    @property
    def frames(self) -> list[Stage]:
        """The frames of the answer, in order: picture by picture, its stages and then itself."""
        partials: list[Stage] = ["partial"] * self.partials
        final: list[Stage] = ["final"]
        return (partials + final) * self.images


class Request(BaseModel):
    """The fields of a request that matter here."""

    prompt: str
    stream: bool = False


class Sent(BaseModel):
    """A frame that left: when (right before it was written), and the mark in its picture."""

    ns: int
    mark: int


class Stamps(BaseModel):
    """What is known of one request: when its headers were here, and the frames that were sent."""

    received_ns: int
    frames: list[Sent]


class Bill(BaseModel):
    """How many generations have been asked for since the start: each of them would cost."""

    generations: int


class Upstream:
    """The ASGI application. `folder` holds what `bench.pictures.make` has drawn."""

    def __init__(self, folder: Path, kinds: list[str]) -> None:
        self._pictures: dict[tuple[str, Stage], Picture] = {
            (kind, stage): load(folder, kind, stage) for kind in kinds for stage in STAGES
        }
        self._marks = count(1)
        self._stamps: dict[str, Stamps] = {}
        self._generations = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        received_ns = time.monotonic_ns()
        if scope["type"] != "http":
            raise ValueError(f"{scope['type']} is not spoken here")
        if scope["method"] == "POST":
            reference = dict(scope["headers"])[b"x-client-request-id"].decode()
            self._generations += 1
            self._stamps[reference] = stamps = Stamps(received_ns=received_ns, frames=[])
            await self._generate(stamps, await _body(receive), send)
            return
        if scope["path"] == "/bill":
            bill = Bill(generations=self._generations)
            await _answer(send, 200, b"application/json", bill.model_dump_json().encode())
            return
        found = self._stamps.pop(scope["path"].rpartition("/")[2], None)
        body = b"{}" if found is None else found.model_dump_json().encode()
        await _answer(send, 404 if found is None else 200, b"application/json", body)

    async def _generate(self, stamps: Stamps, body: bytes, send: Send) -> None:
        request = Request.model_validate_json(body)
        order = Order.model_validate_json(request.prompt)
        if not request.stream:
            picture = self._pictures[order.pictures, "final"].base64(next(self._marks)).decode()
            answer = orjson.dumps({"created": int(time.time()), "data": [{"b64_json": picture}]})
            await _answer(send, 200, b"application/json", answer)
            return
        dice = random.Random(order.seed)
        await _start(send, 200, b"text/event-stream; charset=utf-8")
        due = time.monotonic() + order.lead
        for number, stage in enumerate(order.frames):
            mark = next(self._marks)
            picture_of_stage = self._pictures[order.pictures, stage]
            frame = _frame(stage, number % (order.partials + 1), picture_of_stage, mark)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            stamps.frames.append(Sent(ns=time.monotonic_ns(), mark=mark))
            await send({"type": "http.response.body", "body": frame, "more_body": True})
            due = time.monotonic() + order.gap * dice.uniform(0.5, 1.5)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def _frame(stage: Stage, number: int, picture: Picture, mark: int) -> bytes:
    name = "image_generation.completed" if stage == "final" else "image_generation.partial_image"
    about: dict[str, object] = {"type": name}
    if stage == "partial":
        about["partial_image_index"] = number
    about |= {"created_at": int(time.time()), "output_format": picture.format}
    head = orjson.dumps(about)[:-1]
    return b'event: %b\ndata: %b,"b64_json":"%b"}\n\n' % (name.encode(), head, picture.base64(mark))


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _start(send: Send, status: int, media_type: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", media_type)]})


async def _answer(send: Send, status: int, media_type: bytes, body: bytes) -> None:
    await _start(send, status, media_type)
    await send({"type": "http.response.body", "body": body})


@contextmanager
def upstream(folder: Path, kinds: list[str]) -> Iterator[str]:
    """The upstream in a process of its own, until the block ends; its address, like `http://127.0.0.1:40123`."""
    with listen("127.0.0.1", 0) as listener:
        handle = listener.fileno()
        command = [sys.executable, "-m", "bench.upstream", str(handle), str(folder), *kinds]
        root = str(Path(__file__).parent.parent)
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": root}, cwd=folder, pass_fds=[handle])
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        yield address
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """The process: listen on the socket that was handed over."""
    handle, folder, *kinds = sys.argv[1:]
    if unknown := set(kinds) - set(KINDS):
        raise SystemExit(f"there are no such pictures: {', '.join(sorted(unknown))}")
    app = Upstream(Path(folder), kinds)
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, lifespan="off")
    with socket.socket(fileno=int(handle)) as listener:
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()

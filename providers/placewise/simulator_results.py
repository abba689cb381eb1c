"""The way to the result that the simulated Placewise has and the real one does not document (contract placewise §5).

Everything here is assumed, and every answer and every report says so in `X-Sim-Assumed: 1`.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from typing import Literal

import httpx
import orjson
from pydantic import JsonValue
from starlette.requests import Request
from starlette.responses import Response
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_exponential

from providers.http import IPAddress, async_client
from providers.placewise.simulator_errors import Refusal, refused, scripted_refusal
from providers.placewise.simulator_tasks import Task, Tasks
from providers.sandbox.delivery import Dropped
from providers.sandbox.drawing import drawn
from providers.sandbox.script import Script, ScriptQueue

ASSUMED: Mapping[str, str] = {"X-Sim-Assumed": "1"}
PushAs = Literal["link", "base64", "picture"]
"""What a report to a callback URL holds when the picture is there; `picture` is the bare file, without any JSON."""

_PATIENCE_SECONDS = 120.0
"""How long a report is sent again and again to somebody who does not take it."""
_REASON = "The image could not be generated"
Link = Callable[[Task], str]


class Results:
    """What can be asked about the tasks, and the links to their pictures. Links are good for `link_seconds`."""

    def __init__(self, tasks: Tasks, *, link_seconds: float) -> None:
        self._tasks = tasks
        self._link_seconds = link_seconds
        self.queue = ScriptQueue()
        """Scripts for the next questions, whichever task they are about."""

    async def serve_task(self, request: Request) -> Response:
        """The state of a task."""
        script = self.queue.take() or Script()
        await asyncio.sleep(script.latency)
        if script.lose is not None:
            return Dropped()
        task = await self._tasks.get(request.path_params["id"])
        if script.status is not None:
            answer = refused(scripted_refusal(script), script)
        elif task is None:
            answer = refused(Refusal(404), script)
        else:
            answer = Response(orjson.dumps(report(task, linker(request), time.time())), media_type="application/json")
        answer.headers.update(ASSUMED)
        return answer

    async def serve_file(self, request: Request) -> Response:
        """The picture behind a link; 403 when the link has expired, 404 when there never was one."""
        task = await self._tasks.get(request.path_params["id"])
        if task is None or request.path_params["token"] != task.token or task.state(time.time()) != "finished":
            return Response(b"", 404, ASSUMED)
        if task.script.expired or time.time() > task.ends_at + self._link_seconds:
            return Response(b"", 403, ASSUMED)
        return Response(await file_of(task), headers=ASSUMED, media_type="image/png")


def linker(request: Request) -> Link:
    """Makes links that whoever sent `request` can reach."""
    home = f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"
    return lambda task: f"{home}/files/{task.id}/{task.token}.png"


def report(task: Task, link: Link, now: float) -> dict[str, JsonValue]:
    """A task as it is at `now`, in seconds since the epoch."""
    state = task.state(now)
    inner: dict[str, JsonValue] = {"id": task.id, "status": state, "url": None}
    if state == "finished" and not task.script.no_final:
        inner["url"] = link(task)
    if state == "failed":
        inner["error"] = task.script.message or _REASON
    if task.script.omit_fields:
        inner = {name: value for name, value in inner.items() if value is not None and name != "id"}
    if task.script.extra_fields:
        inner["eta"] = {"nested": [None, 1.5, "überraschung ✓"]}
    return {"image_generation_task": inner}


async def file_of(task: Task) -> bytes:
    """The picture's file; broken off in the middle where the script wants that."""
    data = await drawn(task.drawing(), "png")
    return data if task.script.truncate is None else data[: len(data) // 2]


class Reporter:
    """Sends reports about tasks to callback URLs, in the background."""

    def __init__(self, *, push_as: PushAs, anywhere: bool) -> None:
        self._push_as = push_as
        self._rule = None if anywhere else _this_machine
        self._running: set[asyncio.Task[None]] = set()

    def follow(self, task: Task, url: str, link: Link) -> None:
        """Report on `task` to `url` whenever its state changes, until it is over."""
        running = asyncio.create_task(self._follow(task, url, link))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def aclose(self) -> None:
        """Report no more."""
        running = [*self._running]
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _follow(self, task: Task, url: str, link: Link) -> None:
        moments = [at for at in (task.works_at, task.ends_at) if at <= task.ends_at]
        if task.script.final_first:
            moments.reverse()  # the last report overtakes the one before it
        async with async_client(connect_seconds=5, read_seconds=30, rule=self._rule) as client:
            for at in moments:
                await asyncio.sleep(max(0.0, at - time.time()))
                for _ in range(2 if task.script.duplicate else 1):
                    await self._send(client, url, *await self._report(task, link, at))

    async def _report(self, task: Task, link: Link, at: float) -> tuple[str, bytes]:
        """Media type and body."""
        said = report(task, link, at)
        inner = said["image_generation_task"]
        if self._push_as != "link" and isinstance(inner, dict) and inner.get("url"):
            data = await file_of(task)
            if self._push_as == "picture":
                return "image/png", data
            inner["url"] = base64.b64encode(data).decode()
        return "application/json", orjson.dumps(said)

    async def _send(self, client: httpx.AsyncClient, url: str, media_type: str, body: bytes) -> None:
        """Failures and 5xx are tried again for minutes, then forgotten; anything else is the receiver's last word."""

        async def send() -> None:
            answer = await client.post(url, content=body, headers={"Content-Type": media_type, **ASSUMED})
            if answer.is_server_error:
                raise httpx.ReadError(f"the receiver answered {answer.status_code}")

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(httpx.TransportError),
            wait=wait_exponential(multiplier=0.1, max=5),
            stop=stop_after_delay(_PATIENCE_SECONDS),
        )
        try:
            await retrying(send)
        except (RetryError, httpx.InvalidURL):
            return


def _this_machine(address: IPAddress) -> str | None:
    return None if address.is_loopback else "the sandbox reports to this machine only"

"""Placewise's MPC API, simulated: contract placewise as a Starlette app.

The create call is faithful: headers, tokens, both encodings, statuses, the tree of a 422. In this order, which the
vendor does not document: firewall (444), headers (470, 471), tokens (401, 460), permit (403), feature of the club
(402), parsing (400, empty), parameters (422). What else the contract leaves open:

- The way to the result is assumed and off unless `assumed_results` is set: `GET …/image_generation_tasks/{id}`, and
  reports to a URL in the request header `X-Sim-Callback-URL`. Whatever comes that way says `X-Sim-Assumed: 1`.
- A prompt with a script tag is what the firewall takes for an attack.
- Unknown fields are ignored; so are `creativity` on the small model and `photorealistic` below the large one.

Every token and every club is good, except these, so that refusals can be tried: the token `sandbox-invalid` (401 as
client token, 460 as user token), the token `sandbox-forbidden` (403), the clubs `sandbox-disabled` (402) and
`sandbox-unknown` (471).

The knobs of a fault script (`providers.sandbox.script`) mean, for an order: `latency`, `status`, `message`,
`retry_after`, `error_shape` (html or empty; anything else is the vendor's own), `code` (with status 422: the symbol in
the tree), `refuse=input` (444), `lose`, `cut_after` and `cut_inside` (of the answer with the task id), `chunk`,
`padding`, `extra_fields`. For what becomes of it: `pause` (between two states), `error_after` (it fails, after that
many states) or `refuse=output` (it fails at the end), `message` (the reason), `no_final` (it finishes without a
picture), `expired` (a dead link), `truncate` (a picture that breaks off), `duplicate` and `final_first` (of reports to
a callback URL), `omit_fields`, `extra_fields`, `seed`. The other knobs have no meaning here.

`PUT /script` sets scripts for the next orders; `PUT /script/results` for the next questions about any task, of which
`latency`, `status`, `message`, `retry_after`, `error_shape` and `lose` are followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import orjson
from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from providers.placewise.channel import ASSUMED_CALLBACK_HEADER
from providers.placewise.simulator_errors import Refusal, bad_script, refused, scripted_refusal
from providers.placewise.simulator_results import PushAs, Reporter, Results, linker
from providers.placewise.simulator_tasks import Task, Tasks
from providers.placewise.simulator_validation import (
    Fields,
    Order,
    Rules,
    check_headers,
    check_tokens,
    checked,
    read_fields,
)
from providers.sandbox.delivery import Delivery, Dropped
from providers.sandbox.ledger import Ledger
from providers.sandbox.script import Script, ScriptError, ScriptQueue, scripted
from providers.sandbox.settings import SandboxSettings

NAME = "placewise"
CREATE_PATH = "/v1/ml/general/generate_image"
TASK_PATH = "/v1/ml/general/image_generation_tasks/{id:int}"
_MAX_BODY = 1024 * 1024


def simulator(
    ledger: Ledger,
    *,
    pace: float | None = None,
    assumed_results: bool = False,
    rules: Rules | None = None,
    link_seconds: float = 3600,
    push_as: PushAs = "link",
    push_anywhere: bool = False,
) -> Starlette:
    """The simulated API, billing into `ledger`; its tasks are kept in a file beside that.

    `pace` is the time a task spends waiting, and half the time it works, in seconds; by default
    `DARKROOM_SANDBOX_PACE`. `rules` decides what the contract leaves open about parameters. Reports go to callback
    URLs on this machine only, unless `push_anywhere` is set.
    """
    tasks = Tasks(ledger.path.with_name(f"{ledger.path.stem}-{NAME}.db"))
    results = Results(tasks, link_seconds=link_seconds)
    reporter = Reporter(push_as=push_as, anywhere=push_anywhere)
    vendor = _Vendor(
        ledger,
        tasks,
        pace=SandboxSettings().pace if pace is None else pace,
        rules=rules or Rules(),
        reporter=reporter if assumed_results else None,
    )
    routes: list[BaseRoute] = [
        Route(CREATE_PATH, vendor.generate, methods=["POST"]),
        *_script_routes("/script", vendor.queue),
    ]
    if assumed_results:
        routes += [
            Route(TASK_PATH, results.serve_task, methods=["GET"]),
            Route("/files/{id:int}/{token}.png", results.serve_file, methods=["GET"]),
            *_script_routes("/script/results", results.queue),
        ]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await reporter.aclose()

    return Starlette(routes=routes, lifespan=lifespan)


def sandbox(ledger: Ledger) -> Starlette:
    """The simulated API as the sandbox serves it: with a way to the result, which the real one does not document."""
    return simulator(ledger, assumed_results=True)


class _Vendor:
    """The simulated vendor's one account."""

    def __init__(self, ledger: Ledger, tasks: Tasks, *, pace: float, rules: Rules, reporter: Reporter | None) -> None:
        self.queue = ScriptQueue()
        self._ledger = ledger
        self._tasks = tasks
        self._pace = pace
        self._rules = rules
        self._reporter = reporter

    async def generate(self, request: Request) -> Response:
        """One order: judged, then charged, then answered with its id."""
        script = Script()
        try:
            body = await _body(request)
            if b"<script" in body.lower():
                raise Refusal(444)
            check_headers(request.headers)
            check_tokens(request.headers)
            fields, text = await read_fields(request.headers, body)
            script, fields = _scripted(request, fields, self.queue)
            await asyncio.sleep(script.latency)
            if script.lose == "request":
                return Dropped()
            order = self._judge(fields, script, text=text)
        except ScriptError as exc:
            return bad_script(exc)
        except Refusal as refusal:
            return refused(refusal, script)
        task = await self._accept(order, script, request.headers.get("X-Client-Request-Id"))
        callback_url = request.headers.get(ASSUMED_CALLBACK_HEADER)
        if self._reporter is not None and callback_url:
            self._reporter.follow(task, callback_url, linker(request))
        if script.lose == "response":
            return Dropped()
        cut = script.cut_inside or script.cut_after is not None
        return Delivery(_answer(task), media_type="application/json", headers={}, chunk=script.chunk, cut=cut)

    async def _accept(self, order: Order, script: Script, reference: str | None) -> Task:
        pace = self._pace if script.pause is None else script.pause
        task = await self._tasks.add(order, script, pace=pace)
        await self._ledger.charge(provider=NAME, reference=reference, submission=str(task.id), images=1)
        return task

    def _judge(self, fields: Fields, script: Script, *, text: bool) -> Order:
        """The order, unless the script or the rules refuse it."""
        if script.status is not None:
            raise scripted_refusal(script)
        if script.refuse == "input":
            raise Refusal(444)
        return checked(fields, self._rules, text=text)


async def _body(request: Request) -> bytes:
    collected = bytearray()
    async for chunk in request.stream():
        collected += chunk
        if len(collected) > _MAX_BODY:
            raise Refusal(413, f"The request body is larger than {_MAX_BODY} bytes")
    return bytes(collected)


def _scripted(request: Request, fields: Fields, queue: ScriptQueue) -> tuple[Script, Fields]:
    """The script, and the fields as the vendor would see them: with no directive in the prompt."""
    prompt = fields.get("prompt")
    if not isinstance(prompt, str):
        return scripted(request.headers, "", queue)[0], fields
    script, words = scripted(request.headers, prompt, queue)
    return script, fields if words == prompt else {**fields, "prompt": words or "an untitled print"}


async def _answer(task: Task) -> AsyncGenerator[bytes, None]:
    """The answer with the task id, or as much of it as the script lets through."""
    script = task.script
    answer: dict[str, JsonValue] = {"image_generation_task": {"id": task.id}}
    if script.extra_fields:
        answer = {
            "x_sandbox": [None, 1.5],
            "image_generation_task": {"id": task.id, "status": "waiting", "eta": {"seconds": 9}},
        }
    if script.padding:
        answer["padding"] = "0" * script.padding
    text = orjson.dumps(answer)
    if script.cut_inside:
        yield text[: len(text) // 2]
    elif script.cut_after is None:
        yield text


def _script_routes(path: str, queue: ScriptQueue) -> list[Route]:
    """Reading and replacing a queue of fault scripts."""

    async def read(request: Request) -> Response:
        return Response(orjson.dumps(queue.waiting()), media_type="application/json")

    async def write(request: Request) -> Response:
        try:
            queue.replace(await request.body())
        except ScriptError as exc:
            return bad_script(exc)
        return await read(request)

    return [Route(path, read, methods=["GET"]), Route(path, write, methods=["PUT"])]

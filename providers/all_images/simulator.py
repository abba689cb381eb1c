"""The All-Images.ai API, simulated: contract all-images as a Starlette app.

What the contract leaves open is decided here, and can be set otherwise:

- A generation costs one credit of the kind `f_images_print`, a bought picture one of `f_images`. Creating without
  credits is a 402, an unknown id a 404, an update or retry at the wrong time a 400.
- What a request has no business with is ignored, as the vendor is assumed to do; `strict` refuses it.
- Every picture costs, unless the request's metaData says `"sandbox_free": "1"` (to `"4"`): so many are free.
- The full picture is served only once it was bought, unless it is free; a preview needs no key.
- Webhooks call addresses on this machine only, once per event.

Billing: a generation is one charge for four images under its own id, each bought picture one charge for one image
under `image:<its id>`, both with the customer's reference. A generation refused for its prompt (`refuse=input`) is not
charged. What it knows is kept beside the ledger, so that it survives `kill -9`.

Fault scripts (`providers.sandbox.script`) come with a creation, in its prompt, its header or the queue `/script`, and
some of their knobs stay with the generation: `pause` is the time between its stages, `refuse`, `error_after` and
`no_final` end it badly, `duplicate` and `final_first` mix up its webhooks, `omit_fields` and `extra_fields` change what
is told of it, `expired` makes its links dead, `truncate=2` breaks off the file of that picture, and `seed` draws
another. Every other operation has a queue of its own, `/script/<operation>`, and takes `latency`, `status`, `code`,
`message`, `retry_after`, `error_shape`, `lose` and `cut_inside`; see `OPERATIONS`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import orjson
from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from providers.all_images.simulator_account import Account
from providers.all_images.simulator_errors import bad_script, refused, scripted_refusal
from providers.all_images.simulator_gallery import Gallery
from providers.all_images.simulator_prints import Asked, Prints
from providers.all_images.simulator_store import Store
from providers.all_images.simulator_validation import Refusal, Strictness
from providers.all_images.simulator_webhooks import Reporter
from providers.sandbox.delivery import Delivery, Dropped
from providers.sandbox.ledger import Ledger
from providers.sandbox.script import Script, ScriptError, ScriptQueue, scripted
from providers.sandbox.settings import SandboxSettings

RESERVED_KEYS: Mapping[str, Script] = {
    "sandbox-invalid": Script(status=401),
    "sandbox-no-credits": Script(status=402),
}
"""API keys that are refused so that refusals can be tried; any other is accepted."""

CREDITS: Mapping[str, int] = {"f_images": 10_000, "f_images_print": 10_000}
OPERATIONS = (
    "create", "read", "list", "update", "retry", "delete", "search", "buy", "download", "image", "downloaded",
    "credit", "check", "subscribe", "webhook", "unsubscribe",
)  # fmt: skip
_MAX_BODY = 1024 * 1024

Handler = Callable[[Asked], Awaitable[Response]]


def simulator(
    ledger: Ledger,
    *,
    pace: float | None = None,
    clock: Callable[[], float] = time.time,
    credits: Mapping[str, int] = CREDITS,
    strict: bool = False,
    seed_time: bool = False,
    ignore_tags: bool = False,
    default_format: str = "1:1",
    no_credits_status: int = 402,
    unknown_id_status: int = 404,
    wrong_time_status: int = 400,
    default_limit: int = 20,
    max_limit: int = 100,
) -> ASGIApp:
    """The simulated API, billing into `ledger`.

    `pace` is the time between two pictures, in seconds, by default `DARKROOM_SANDBOX_PACE`; with 0 a generation is done
    when it is created. `clock` tells the time, in seconds. `credits` are those of a new account. `seed_time` accepts
    the parameter `Time`, `ignore_tags` has the list ignore its filter by tag. Serves at `/v1` and at the root; `PUT`
    and `GET /script` is the queue of fault scripts for creations, `/script/<operation>` those for the rest.
    """
    step = (SandboxSettings().pace if pace is None else pace) / 2
    store = Store(ledger.path.with_name(f"{ledger.path.stem}-all-images.db"), credits)
    reporter = Reporter(store, clock)
    prints = Prints(
        store,
        ledger,
        reporter,
        clock=clock,
        step=step,
        rules=Strictness(strict, seed_time),
        ignore_tags=ignore_tags,
        no_credits_status=no_credits_status,
        unknown_id_status=unknown_id_status,
        wrong_time_status=wrong_time_status,
        limits=(default_limit, max_limit),
    )
    gallery = Gallery(
        store, ledger, clock=clock, default_format=default_format, unknown_id_status=unknown_id_status,
        limits=(default_limit, max_limit),
    )  # fmt: skip
    account = Account(store, reporter, unknown_id_status=unknown_id_status)
    desk = _Desk()
    routes: list[BaseRoute] = [
        desk.route("POST", "/image-generations", "create", prints.create),
        desk.route("GET", "/image-generations", "list", prints.list),
        desk.route("DELETE", "/image-generations", "delete", prints.delete),
        desk.route("POST", "/image-generations/retry/{id}", "retry", prints.retry),
        desk.route("GET", "/image-generations/{id}", "read", prints.read),
        desk.route("PUT", "/image-generations/{id}", "update", prints.update),
        desk.route("POST", "/images/search", "search", gallery.search),
        desk.route("POST", "/images/buy", "buy", gallery.buy),
        desk.route("POST", "/images/download", "download", gallery.download),
        desk.route("POST", "/images/downladed", "downloaded", gallery.downloaded),
        desk.route("GET", "/images/{format}/{id}.jpg", "image", gallery.file, key=False),
        desk.route("GET", "/credit", "credit", account.credit),
        desk.route("GET", "/api-keys/check", "check", account.check),
        desk.route("POST", "/api-keys/webhook/subscribe", "subscribe", account.subscribe),
        desk.route("DELETE", "/api-keys/webhook/unsubscribe/{id}", "unsubscribe", account.unsubscribe),
        desk.route("GET", "/api-keys/webhook/{id}", "webhook", account.webhook),
        Route("/script", desk.read_script, methods=["GET"]),
        Route("/script", desk.write_script, methods=["PUT"]),
        Route("/script/{operation}", desk.read_script, methods=["GET"]),
        Route("/script/{operation}", desk.write_script, methods=["PUT"]),
    ]

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        await reporter.aclose()

    return Starlette(routes=[*routes, Mount("/v1", routes=routes)], lifespan=lifespan)


class _Desk:
    """Where requests come in: judged by key and script before anybody looks at them."""

    def __init__(self) -> None:
        self._queues = {operation: ScriptQueue() for operation in OPERATIONS}

    def route(self, method: str, path: str, operation: str, handler: Handler, *, key: bool = True) -> Route:
        """An endpoint of the vendor's."""

        async def endpoint(request: Request) -> Response:
            script = Script()
            try:
                if key:
                    _authorize(request)
                body = await _body(request)
                script, body = self._scripted(request, operation, body)
                await asyncio.sleep(script.latency)
                if script.lose == "request":
                    return Dropped()
                if script.status is not None:
                    raise scripted_refusal(script)
                home = f"{request.url.scheme}://{request.url.netloc}{request.scope.get('root_path', '')}"
                response = await handler(
                    Asked(body, dict(request.path_params), request.query_params, home, script, _key(request))
                )
            except ScriptError as exc:
                return bad_script(exc)
            except Refusal as exc:
                return refused(exc, script)
            if script.lose == "response":
                return Dropped()
            return _cut(response) if script.cut_inside else response

        return Route(path, endpoint, methods=[method], name=operation)

    async def read_script(self, request: Request) -> Response:
        queue = self._queue(request)
        if queue is None:
            return refused(Refusal(404, f"The operations are: {', '.join(OPERATIONS)}."), Script())
        return Response(orjson.dumps(queue.waiting()), media_type="application/json")

    async def write_script(self, request: Request) -> Response:
        queue = self._queue(request)
        try:
            if queue is not None:
                queue.replace(await request.body())
        except ScriptError as exc:
            return bad_script(exc)
        return await self.read_script(request)

    def _queue(self, request: Request) -> ScriptQueue | None:
        return self._queues.get(request.path_params.get("operation", "create"))

    def _scripted(
        self, request: Request, operation: str, body: dict[str, JsonValue]
    ) -> tuple[Script, dict[str, JsonValue]]:
        """The script, and the body as the vendor would see it: with no directive in the prompt."""
        prompt = body.get("prompt")
        if operation not in ("create", "update") or not isinstance(prompt, str):
            return scripted(request.headers, "", self._queues[operation])[0], body
        script, words = scripted(request.headers, prompt, self._queues[operation])
        return script, body if words == prompt else {**body, "prompt": words or " "}


def _key(request: Request) -> str:
    return request.headers.get("api-key", "")


def _authorize(request: Request) -> None:
    key = _key(request)
    if not key:
        raise Refusal(401, "Unauthorized")
    if key in RESERVED_KEYS:
        raise scripted_refusal(RESERVED_KEYS[key])


async def _body(request: Request) -> dict[str, JsonValue]:
    collected = bytearray()
    async for chunk in request.stream():
        collected += chunk
        if len(collected) > _MAX_BODY:
            raise Refusal(413, "request entity too large")
    if not collected:
        return {}
    try:
        body = orjson.loads(bytes(collected))
    except orjson.JSONDecodeError as exc:
        raise Refusal(400, f"{exc}") from exc
    if not isinstance(body, dict):
        raise Refusal(400, ["body must be an object"])
    return body


def _cut(response: Response) -> Response:
    whole = bytes(response.body)

    async def half() -> AsyncGenerator[bytes, None]:
        yield whole[: max(1, len(whole) // 2)]

    cut = Delivery(half(), media_type=response.media_type or "application/json", headers={}, cut=True)
    cut.status_code = response.status_code
    return cut

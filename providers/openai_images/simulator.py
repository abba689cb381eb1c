"""The OpenAI Images API and the gateway before it, simulated: contract openai-images as a Starlette app.

What the contract leaves open is decided here, and can be set otherwise:

- Every model in `families` is served, whether its vendor has retired it or not, because other providers behind
  a gateway still serve them and their rules are worth trying; `era` changes that.
- Several pictures in one stream are served side by side, one completed event for each and usage for each on its
  own; `streams_many=False` refuses them.
- A transparent background on gpt-image-2, which needs preview access, is refused unless `previews` is set;
  the gif and svg previews are not simulated.
- At the gateway's path an unknown model gets the gateway's own 403, the same as a forbidden one (§4.1).

Any bearer token is accepted except those in `RESERVED_TOKENS`, which are refused so that refusals can be tried.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping

import orjson
from pydantic import JsonValue
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from providers.openai_images.simulator_answers import Answer
from providers.openai_images.simulator_errors import bad_script, moderation_blocked, refused, scripted_refusal
from providers.openai_images.simulator_files import Files
from providers.openai_images.simulator_validation import Era, Order, Refusal, checked, checked_model
from providers.sandbox.delivery import Delivery, Dropped
from providers.sandbox.ledger import Ledger
from providers.sandbox.script import Script, ScriptError, ScriptQueue, scripted
from providers.sandbox.settings import SandboxSettings

NAME = "openai_images"
RESERVED_TOKENS: Mapping[str, Script] = {
    "sandbox-invalid": Script(status=401),
    "sandbox-forbidden": Script(status=403),
    "sandbox-no-quota": Script(status=429, code="insufficient_quota"),
}
_MAX_BODY = 1024 * 1024
_METADATA_VALUE_MAX = 128


def simulator(
    ledger: Ledger,
    *,
    pace: float | None = None,
    era: Era = "all",
    previews: bool = False,
    streams_many: bool = True,
    link_seconds: float = 3600,
) -> Starlette:
    """The simulated API, billing into `ledger`.

    `pace` is the time between two stages of a picture, in seconds, by default `DARKROOM_SANDBOX_PACE`; links in
    answers are good for `link_seconds`. Serves `POST …/images/generations` at the vendor's path `/v1`, the
    gateway's `/api/llm`, and at the root; `PUT` and `GET /script` is the queue of fault scripts.
    """
    vendor = _Vendor(
        ledger,
        pace=SandboxSettings().pace if pace is None else pace,
        era=era,
        previews=previews,
        streams_many=streams_many,
        link_seconds=link_seconds,
    )
    return Starlette(
        routes=[
            Route("/images/generations", vendor.generate, methods=["POST"]),
            Route("/v1/images/generations", vendor.generate, methods=["POST"], name="vendor"),
            Route("/api/llm/images/generations", vendor.generate, methods=["POST"], name="gateway"),
            Route("/files/{name}", vendor.files.serve, methods=["GET"]),
            Route("/script", vendor.read_script, methods=["GET"]),
            Route("/script", vendor.write_script, methods=["PUT"]),
        ]
    )


class _Vendor:
    """The simulated vendor's one account."""

    def __init__(
        self, ledger: Ledger, *, pace: float, era: Era, previews: bool, streams_many: bool, link_seconds: float
    ) -> None:
        self.files = Files(seconds=link_seconds)
        self._ledger = ledger
        self._pace = pace
        self._era: Era = era
        self._previews = previews
        self._streams_many = streams_many
        self._queue = ScriptQueue()

    async def read_script(self, request: Request) -> Response:
        return Response(orjson.dumps(self._queue.waiting()), media_type="application/json")

    async def write_script(self, request: Request) -> Response:
        try:
            self._queue.replace(await request.body())
        except ScriptError as exc:
            return bad_script(exc, {})
        return await self.read_script(request)

    async def generate(self, request: Request) -> Response:
        """One generation: judged, then charged, then answered."""
        started = time.monotonic()
        request_id = f"req_{uuid.uuid4().hex}"
        gateway = request.url.path.endswith("/api/llm/images/generations")
        headers = {"x-request-id": request_id}
        script = Script()
        try:
            _authorize(request)
            reference = _reference(request, strict=gateway)
            body = await _json_body(request)
            script, body = _scripted(request, body, self._queue)
            await asyncio.sleep(script.latency)
            if script.lose == "request":
                return Dropped()
            order = self._judge(
                body, script, gateway=gateway, vendor=request.url.path.endswith("/v1/images/generations")
            )
        except ScriptError as exc:
            return bad_script(exc, headers)
        except Refusal as refusal:
            return refused(refusal, headers | _failure_headers(script), shape=_shape(refusal, script, gateway=gateway))
        await self._ledger.charge(provider=NAME, reference=reference, submission=request_id, images=order.n)
        if script.lose == "response":
            return Dropped()
        answer = Answer(order, script, pace=self._pace, link=self.files.linker(request, expired=script.expired))
        headers |= {
            "openai-processing-ms": str(round((time.monotonic() - started) * 1000)),
            "x-ratelimit-limit-requests": "500",
            "x-ratelimit-remaining-requests": "499",
        }
        if gateway:
            headers |= {"x-tfy-resolved-model": order.model, "x-tfy-applied-configurations": "{}"}
            if not answer.streams:
                headers["server-timing"] = "gateway;dur=1.0"
        return Delivery(
            answer.parts(), media_type=answer.media_type, headers=headers, chunk=script.chunk, cut=answer.cut
        )

    def _judge(self, body: Mapping[str, JsonValue], script: Script, *, gateway: bool, vendor: bool) -> Order:
        """The order, unless the script, the rules or the safety system refuse it."""
        if script.status is not None:
            raise scripted_refusal(script)
        try:
            model, family = checked_model(body, era=self._era, account_prefix=not vendor)
        except Refusal as refusal:
            if gateway and refusal.code == "invalid_value":
                message = f"Not allowed to access model {body.get('model')}, or it does not exist."
                raise Refusal(message, param=None, code=None, status=403) from refusal
            raise
        order = checked(body, model, family, previews=self._previews)
        if order.stream and order.n > 1 and not self._streams_many:
            raise Refusal("Streaming is only supported with n=1.", param="n", code="invalid_value")
        if script.refuse is not None:
            raise moderation_blocked(script)
        return order


def _authorize(request: Request) -> None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        message = "You didn't provide an API key. Provide it in an Authorization header: 'Authorization: Bearer KEY'."
        raise Refusal(message, param=None, code=None, status=401)
    if token in RESERVED_TOKENS:
        raise scripted_refusal(RESERVED_TOKENS[token])


def _reference(request: Request, *, strict: bool) -> str | None:
    """The customer's own name for the request. With `strict`, the gateway's metadata must follow its rules (§1)."""
    metadata: object = {}
    text = request.headers.get("x-tfy-metadata")
    if text is not None:
        try:
            metadata = orjson.loads(text)
        except orjson.JSONDecodeError:
            metadata = None
    sound = isinstance(metadata, dict) and all(
        isinstance(value, str) and len(value) <= _METADATA_VALUE_MAX for value in metadata.values()
    )
    if strict and not sound:
        message = f"x-tfy-metadata must be a JSON object of strings of at most {_METADATA_VALUE_MAX} characters."
        raise Refusal(message, param="x-tfy-metadata", code="invalid_header")
    given = request.headers.get("x-client-request-id")
    if given is None and isinstance(metadata, dict):
        given = metadata.get("darkroom_reference")
    return given if isinstance(given, str) and given else None


async def _json_body(request: Request) -> dict[str, JsonValue]:
    collected = bytearray()
    async for chunk in request.stream():
        collected += chunk
        if len(collected) > _MAX_BODY:
            message = f"The request body is larger than {_MAX_BODY} bytes."
            raise Refusal(message, param=None, code="request_too_large", status=413)
    try:
        body = orjson.loads(bytes(collected))
    except orjson.JSONDecodeError as exc:
        message = f"We could not parse the JSON body of your request: {exc}."
        raise Refusal(message, param=None, code=None) from exc
    if not isinstance(body, dict):
        raise Refusal("The JSON body of your request must be an object.", param=None, code=None)
    return body


def _scripted(request: Request, body: dict[str, JsonValue], queue: ScriptQueue) -> tuple[Script, dict[str, JsonValue]]:
    """The script, and the body as the vendor would see it: with no directive in the prompt."""
    prompt = body.get("prompt")
    if not isinstance(prompt, str):
        return scripted(request.headers, "", queue)[0], body
    script, words = scripted(request.headers, prompt, queue)
    return script, body if words == prompt else {**body, "prompt": words or " "}


def _failure_headers(script: Script) -> dict[str, str]:
    headers = {}
    if script.retry_after is not None:
        headers["retry-after"] = f"{script.retry_after:g}"
    if script.should_retry is not None:
        headers["x-should-retry"] = "true" if script.should_retry else "false"
    return headers


def _shape(refusal: Refusal, script: Script, *, gateway: bool) -> str:
    """At the gateway's path it is the gateway that judges tokens and models, in its own shape."""
    if gateway and script.error_shape == "openai" and script.status is None and refusal.status in {401, 403}:
        return "truefoundry"
    return script.error_shape

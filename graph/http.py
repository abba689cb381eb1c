"""GraphQL over HTTP and websockets: Strawberry's view, with the answers that the specification asks for.

A request that cannot be executed gets a 4xx with GraphQL `errors`, an `extensions.code`, and no `data` (the
GraphQL-over-HTTP draft, "application/graphql-response+json"; clients that accept only `application/json` get 200 for
errors in the document, as that draft's legacy rules say). Subscriptions need a connection that stays open: a websocket
that speaks `graphql-transport-ws`, or an event stream as graphql-sse has it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import orjson
from cross_web import AsyncHTTPRequestAdapter, HTTPException
from graphql import GraphQLSyntaxError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry.asgi import GraphQL
from strawberry.exceptions import MissingQueryError
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData, process_result
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types import ExecutionResult
from strawberry.types.graphql import OperationType

from graph.body import LimitedBody
from graph.context import Context, Rights
from graph.live.callers import TooManyConnectionsError
from graph.live.connection import EXTENSION, Connection
from graph.live.operation import Checked, OperationRequest, RefusedError, check, encode
from graph.live.server import Live
from graph.live.socket import Socket
from graph.live.sse import MEDIA_TYPE, EventStream
from graph.refusal import refusal
from graph.schema import Schema
from graph.settings import ServerSettings
from tasks.darkroom import Darkroom

log = logging.getLogger(__name__)

GRAPHQL_RESPONSE = "application/graphql-response+json"
STATIC = Path(__file__).parent / "static"
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self' ws: wss:; worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
LONGEST_ORIGIN = 200
"""Characters of an origin that the log has room for."""
LONGEST_CURSOR = 200
"""Characters of a cursor that anybody would have got from here."""


TOO_LARGE = (
    "The request is larger than {limit:,} bytes, the most this server reads (DARKROOM_MAX_BODY_BYTES). Prompts are "
    "text; picture data has no place in a request."
)
MUTATION_BY_GET = "Mutations change something, so they must be sent with POST."


class GraphQLView(GraphQL[Context, None]):
    """The endpoint `/graphql`: GraphiQL for browsers, GraphQL for everybody else."""

    def __init__(self, schema: Schema, darkroom: Darkroom, settings: ServerSettings) -> None:
        super().__init__(
            schema,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL,),
            allowed_origins=settings.allowed_origins,
        )
        self.live = Live(schema, darkroom, settings)
        self._darkroom = darkroom
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one websocket."""
        if scope["type"] != "http":
            await self._open(WebSocket(scope, receive, send))
            return
        body = LimitedBody(receive, self._settings.max_body_bytes, TOO_LARGE)
        request = Request(scope, body.receive)
        try:
            response = await self._stream(request) or await self.run(request)
        except HTTPException as exc:
            response = refusal(exc.status_code, exc.reason)
        except ClientDisconnect:
            return  # in the middle of its request: nobody is there to be answered
        await response(scope, receive, send)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:
        """What resolvers see; made once per request, and once per websocket."""
        accept = request.headers.get("accept", "")
        if isinstance(response, Response):
            response.media_type = GRAPHQL_RESPONSE if GRAPHQL_RESPONSE in accept else "application/json"
            request.state.sub_response = response
        return Context(self._darkroom, self._rights(request))

    def _rights(self, request: Request | WebSocket) -> Rights:
        return Rights(base_url=self._settings.public_url or origin(request))

    def is_websocket_origin_allowed(self, request: WebSocket, origin: str) -> bool:
        """Whether a page from elsewhere may open a websocket here."""
        allowed = super().is_websocket_origin_allowed(request, origin)
        if not allowed:
            log.warning(
                "A page of %r may not open a websocket here. If it should, add its origin to DARKROOM_ALLOWED_ORIGINS",
                origin[:LONGEST_ORIGIN],
            )
        return allowed

    async def _open(self, websocket: WebSocket) -> None:
        """Open a websocket, and hand it over to its conversation."""
        if not self._check_websocket_origin(websocket):
            await self.reject_websocket(websocket)
            return
        try:
            leave = self.live.callers.enter(address(websocket))
        except TooManyConnectionsError as exc:
            await websocket.send_denial_response(refusal(429, str(exc)))
            return
        connection: Connection = websocket.scope["extensions"][EXTENSION]
        try:
            subprotocol = await self.pick_websocket_subprotocol(websocket)
            await websocket.accept(subprotocol)
        except WebSocketDisconnect:
            leave()
            return  # it has gone already
        except BaseException:
            leave()
            raise
        connection.hand_over(socket := Socket(self.live, connection, self._rights(websocket), leave))
        if subprotocol is None:
            socket.refuse_protocol()

    async def _stream(self, request: Request) -> EventStream | Response | None:
        """Answer by an event stream, where the client reads nothing else or asks for a subscription; else None."""
        accept = request.headers.get("accept", "").lower()
        adapter = self.request_adapter_class(request)
        if MEDIA_TYPE not in accept or not self.is_request_allowed(adapter):
            return None
        data = await self.parse_http_body(adapter)
        if isinstance(data, list):
            return None
        reads_json = "json" in accept or "*/*" in accept
        asked = OperationRequest(data.query or "", data.variables, data.operation_name)
        checked, refused = None, None
        try:
            checked = check(self.live.schema, asked.query, asked.operation_name)
        except RefusedError as exc:
            refused = exc
        if reads_json and (checked is None or checked.type is not OperationType.SUBSCRIPTION):
            return None
        if checked is not None and checked.type is OperationType.MUTATION and request.method == "GET":
            raise HTTPException(405, MUTATION_BY_GET)
        try:
            stream = self.live.stream(address(request))
        except TooManyConnectionsError as exc:
            raise HTTPException(429, str(exc)) from exc
        if checked is None:
            stream.refuse(refused.errors if refused else [])
            return stream
        return await self._begin(stream, asked, checked, request)

    async def _begin(
        self, stream: EventStream, asked: OperationRequest, checked: Checked, request: Request
    ) -> EventStream | Response:
        context = self.live.context(self._rights(request), stream.budget)
        try:
            if checked.type is not OperationType.SUBSCRIPTION:
                result = await self.live.schema.execute(
                    asked.query, asked.variables, context_value=context, operation_name=asked.operation_name
                )
                stream.answer(encode(result.data, result.errors))
                return stream
            cursor = cursor_of(request)
            subscriber = await self.live.groups.join(asked, checked, context, stream, cursor=cursor)
        except RefusedError as exc:
            stream.refuse(exc.errors)
            return stream
        except BaseException:
            stream.leave()
            raise
        stream.carry(subscriber)
        if cursor is not None and subscriber.at_end:
            # A browser's EventSource comes back whenever a stream ends. This tells it that there is nothing more.
            stream.leave()
            return Response(status_code=204)
        return stream

    async def execute_single(
        self,
        request: Request,
        request_adapter: AsyncHTTPRequestAdapter,
        sub_response: Response,
        context: Context,
        root_value: None,
        request_data: GraphQLRequestData,
    ) -> ExecutionResult:
        """Run a query or a mutation. Over plain HTTP there are no subscriptions, and GET changes nothing."""
        allowed = {OperationType.QUERY} if request_adapter.method == "GET" else set(OperationType)
        try:
            return await self.schema.execute(
                request_data.query,
                variable_values=request_data.variables,
                context_value=context,
                operation_name=request_data.operation_name,
                allowed_operation_types=allowed - {OperationType.SUBSCRIPTION},
            )
        except CannotGetOperationTypeError as exc:
            raise HTTPException(400, exc.as_http_error_reason()) from exc
        except InvalidOperationTypeError as exc:
            if exc.operation_type is OperationType.SUBSCRIPTION:
                reason = (
                    "A subscription needs a connection that stays open. Open a websocket to this URL with the "
                    f"subprotocol `{GRAPHQL_TRANSPORT_WS_PROTOCOL}`; any graphql-ws client does that. Or send the same "
                    f"request with `Accept: {MEDIA_TYPE}`; any graphql-sse client does that."
                )
                raise HTTPException(400, reason) from exc
            raise HTTPException(405, MUTATION_BY_GET) from exc
        except MissingQueryError as exc:
            raise HTTPException(400, 'There is no `query` in the request. Send JSON like {"query": "…"}.') from exc

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        """A request that was not executed has no `data`, and a 4xx where the client knows what that means."""
        data = process_result(result)
        if result.data is None and result.errors and all(error.path is None for error in result.errors):
            data.pop("data", None)
            response: Response = request.state.sub_response
            if response.media_type == GRAPHQL_RESPONSE:
                response.status_code = 400 if isinstance(result.errors[0], GraphQLSyntaxError) else 422
        return data

    def create_response(
        self, response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse], sub_response: Response
    ) -> Response:
        """The answer, in the media type the client asked for."""
        response = super().create_response(response_data, sub_response)
        response.headers["content-type"] = f"{sub_response.media_type}; charset=utf-8"
        response.headers["cache-control"] = "no-store"
        return response

    async def render_graphql_ide(self, request: Request) -> Response:
        """GraphiQL, from this server alone."""
        page = STATIC / "graphiql.html"
        headers = {"content-security-policy": CONTENT_SECURITY_POLICY, "x-content-type-options": "nosniff"}
        if page.exists():
            return FileResponse(page, headers=headers | {"cache-control": "no-cache"})
        return HTMLResponse(
            "<!doctype html><title>Darkroom</title><p>GraphiQL has not been built into this installation. "
            "Run <code>python web/hatch_build.py</code> in the source folder. The API itself works: POST to this URL.",
            status_code=503,
            headers=headers,
        )

    def parse_json(self, data: str | bytes) -> Any:
        """The body of a request, which is an object. Strawberry looks at the rest of it."""
        parsed = super().parse_json(data)
        if not isinstance(parsed, dict | list):
            raise HTTPException(400, 'The request body must be a JSON object like {"query": "…"}.')
        if isinstance(parsed, dict) and not isinstance(parsed.get("operationName"), str | None):
            raise HTTPException(400, "`operationName` must be a string or null, if it is given.")
        return parsed

    def decode_json(self, data: str | bytes) -> object:
        """Strict and fast JSON."""
        return orjson.loads(data)

    def encode_json(self, data: object) -> str:
        """Strict and fast JSON."""
        return orjson.dumps(data).decode()


def origin(request: Request | WebSocket) -> str:
    """Where a client reached this server, as it was typed there."""
    secure = request.url.scheme in ("https", "wss")
    return f"{'https' if secure else 'http'}://{request.headers.get('host') or request.url.netloc}"


def address(request: Request | WebSocket) -> str:
    """Who is asking, as far as the network tells."""
    return request.client.host if request.client else ""


def cursor_of(request: Request) -> str | None:
    """The `id` of the last event that a browser has seen before it came back."""
    return request.headers.get("last-event-id", "")[:LONGEST_CURSOR] or None

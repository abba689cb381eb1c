"""`graphql-transport-ws`: the conversation over one websocket, with any number of operations at a time.

The protocol, and the codes of a close, are those of the npm package `graphql-ws` (its PROTOCOL.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import orjson
from graphql import GraphQLError
from strawberry.types.graphql import OperationType

from graph.context import Context, Rights
from graph.live.answers import Answers, prefix_of
from graph.live.connection import Connection
from graph.live.frames import fragments, header
from graph.live.message import Message
from graph.live.operation import OperationRequest, RefusedError, check, request_of
from graph.live.outlet import Outlet
from graph.live.server import Live
from graph.live.subscriber import Subscriber
from graph.schema import presentable
from resolvers.images import DataUriBudget

NORMAL = 1000
"""A client connects again when it needs to; graphql-ws does so at once when there is something that it waits for."""
INVALID, UNAUTHORIZED, INITIALISATION_TIMEOUT = 4400, 4401, 4408
UNACCEPTABLE, DUPLICATE, TOO_MANY_INITIALISATIONS = 4406, 4409, 4429
LONGEST_ID = 256
"""Characters of the id of an operation, which is kept as long as the operation, and repeated in every message."""
UNSENT_REPLIES = 1000
"""Most short replies that wait for the end of a picture."""
UNSENT_BYTES = 1024 * 1024
"""Most bytes of them."""


class Socket(Outlet):
    """One client over one websocket. It counts as a connection of its caller until `leave` is called."""

    __slots__ = (
        "_answers",
        "_budget",
        "_connection",
        "_initialised",
        "_later",
        "_later_bytes",
        "_leave",
        "_live",
        "_operations",
        "_rights",
        "_timer",
        "_transport",
    )

    def __init__(self, live: Live, connection: Connection, rights: Rights, leave: Callable[[], None]) -> None:
        super().__init__()
        self._live = live
        self._connection = connection
        self._transport = connection.transport
        self._rights = rights
        self._leave = leave
        self._initialised = False
        self._operations: dict[str, Subscriber | asyncio.Task[None]] = {}
        self._later: list[bytes] | None = None
        self._later_bytes = 0
        self._answers: Answers | None = None
        self._budget: DataUriBudget | None = None
        self._timer: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(
            live.settings.connection_init_seconds, self._not_initialised
        )

    @property
    def budget(self) -> DataUriBudget:
        """How much picture data this client gets inline."""
        if self._budget is None:
            self._budget = DataUriBudget()
        return self._budget

    # What the client says.

    def received(self, text: bytes) -> None:
        """One message of the client."""
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError:
            self._close(INVALID, "WebSocket message must be valid JSON")
            return
        if not isinstance(message, dict):
            self._close(INVALID, "A message must be a JSON object")
            return
        match message.get("type"):
            case "subscribe":
                self._subscribe(message.get("id"), message.get("payload"))
            case "complete":
                self._stop(message.get("id"))
            case "ping" | "pong" as kind:
                self._sign_of_life(kind, message.get("payload"))
            case "connection_init":
                self._initialise(message.get("payload"))
            case str(unknown):
                self._close(INVALID, f"Unknown message type: {unknown}")
            case _:
                self._close(INVALID, "A message must have a `type`")

    def not_text(self) -> None:
        """The client sent bytes."""
        self._close(INVALID, "WebSocket message type must be text")

    def refuse_protocol(self) -> None:
        """The client speaks another protocol."""
        self._close(UNACCEPTABLE, "Subprotocol not acceptable")

    def closed(self) -> None:
        """The connection is over: whatever was going on for this client ends."""
        self.blocked = True
        self._pieces = None
        self._leave()
        self._stop_timer()
        for operation in list(self._operations.values()):
            if isinstance(operation, Subscriber):
                operation.leave()
            else:
                operation.cancel()
        self._operations.clear()

    def _sign_of_life(self, kind: str, payload: object) -> None:
        """A ping gets its payload back."""
        if not isinstance(payload, dict | None):
            self._close(INVALID, f"The `payload` of a {kind} must be an object")
        elif kind == "ping":
            pong = {"type": "pong"} if payload is None else {"type": "pong", "payload": payload}
            try:
                self._reply(orjson.dumps(pong))
            except orjson.JSONEncodeError:
                self._close(INVALID, "The `payload` of a ping is nested too deeply")

    def _initialise(self, payload: object) -> None:
        if not isinstance(payload, dict | None):
            self._close(INVALID, "Invalid connection init payload")
        elif self._initialised:
            self._close(TOO_MANY_INITIALISATIONS, "Too many initialisation requests")
        else:
            self._stop_timer()
            self._initialised = True
            self._idle()
            self._reply(b'{"type":"connection_ack"}')

    def _not_initialised(self) -> None:
        self._close(INITIALISATION_TIMEOUT, "Connection initialisation timeout")

    def _idle(self) -> None:
        """Nothing is going on for this client."""
        seconds = self._live.settings.idle_socket_seconds
        if self._connection.open and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._idle_for_long)

    def _idle_for_long(self) -> None:
        seconds = self._live.settings.idle_socket_seconds
        self._close(NORMAL, f"no operation was going on for {seconds:g} s; connect again when there is one")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _subscribe(self, id: object, payload: object) -> None:
        request = request_of(payload)
        if request is None:
            self._close(INVALID, "`payload` must be an object with a text `query` and object `variables`")
        elif not isinstance(id, str) or not 0 < len(id) <= LONGEST_ID:
            self._close(INVALID, f"`id` must be a text that is not empty, of at most {LONGEST_ID} characters")
        elif not self._initialised:
            self._close(UNAUTHORIZED, "Unauthorized")
        elif id in self._operations:
            self._close(DUPLICATE, f"Subscriber for {id} already exists")
        elif len(self._operations) >= (limit := self._live.settings.max_operations_per_socket):
            message = f"{limit} operations are going on over this socket, the most there may be. Complete one first."
            self._refuse(id, [GraphQLError(message, extensions={"code": "TOO_MANY_OPERATIONS"})])
        else:
            self._stop_timer()
            task = asyncio.create_task(self._begin(id, request), name="operation")
            self._operations[id] = task
            task.add_done_callback(lambda done: self._begun(id, done))

    def _stop(self, id: object) -> None:
        if not isinstance(id, str) or not id:
            self._close(INVALID, "`id` must be a text that is not empty")
            return
        operation = self._end(id)
        if isinstance(operation, Subscriber):
            operation.leave()
        elif operation is not None:
            operation.cancel()

    def _end(self, id: str) -> Subscriber | asyncio.Task[None] | None:
        """Forget an operation."""
        operation = self._operations.pop(id, None)
        if not self._operations:
            self._idle()
        return operation

    # What it gets.

    def deliver(self, subscriber: Subscriber, message: Message) -> None:
        """Write an event in one go."""
        prefix = subscriber.prefix
        length = len(prefix)
        body = message.body
        head = message.heads.get(length)
        if head is None:
            head = message.heads[length] = header(length + len(body) + 1)
        if not self._transport.is_closing():
            self._transport.write(b"".join((head, prefix, body, b"}")))

    def pieces_of(self, subscriber: Subscriber, message: Message) -> Iterator[bytes]:
        """Fragments of one websocket message."""
        return fragments(subscriber.prefix, message.body, b"}")

    def put(self, piece: bytes | memoryview) -> None:
        """Write a fragment."""
        if not self._transport.is_closing():
            self._transport.write(piece)

    def whole(self) -> None:
        """What had to wait for the end of a message follows it."""
        later, self._later, self._later_bytes = self._later, None, 0
        for reply in later or ():
            self._connection.write(reply)

    def complete(self, subscriber: Subscriber) -> None:
        """A subscription has ended."""
        self._forget(subscriber)
        self._reply(b'{"id":%b,"type":"complete"}' % orjson.dumps(subscriber.id))

    def fail(self, subscriber: Subscriber, error: Exception) -> None:
        """A subscription broke off."""
        self._forget(subscriber)
        self._refuse(subscriber.id, presentable([error]))

    def abort(self) -> None:
        """Drop the connection, with whatever has not been read."""
        self._transport.abort()

    def _forget(self, subscriber: Subscriber) -> None:
        self._end(subscriber.id)
        subscriber.leave()

    async def _begin(self, id: str, request: OperationRequest) -> None:
        checked = check(self._live.schema, request.query, request.operation_name)
        context = self._live.context(self._rights, self.budget)
        if checked.type is OperationType.SUBSCRIPTION:
            joined = await self._live.groups.join(request, checked, context, self, id=id, prefix=prefix_of(id))
            self._operations[id] = joined
        else:
            await self._answer(id, request, context, checked.type)

    def _begun(self, id: str, task: asyncio.Task[None]) -> None:
        if self._operations.get(id) is task:
            self._end(id)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, RefusedError):
            self._refuse(id, error.errors)
        elif isinstance(error, Exception):
            self._refuse(id, presentable([error]))

    async def _answer(self, id: str, request: OperationRequest, context: Context, type: OperationType) -> None:
        """Run a query or a mutation."""
        if self._answers is None:
            self._answers = Answers(self, self._live)
        await self._answers.give(id, request, context, type)
        if self._end(id) is not None:
            self._reply(b'{"id":%b,"type":"complete"}' % orjson.dumps(id))

    def _refuse(self, id: str, errors: list[GraphQLError]) -> None:
        self._reply(orjson.dumps({"id": id, "type": "error", "payload": [error.formatted for error in errors]}))

    def _reply(self, text: bytes) -> None:
        """Write something small, at once or after the message that is being written."""
        if self._pieces is None:
            self._connection.write(text)
            return
        if self._later is None:
            self._later = []
        self._later.append(text)
        self._later_bytes += len(text)
        if len(self._later) > UNSENT_REPLIES or self._later_bytes > UNSENT_BYTES:
            self.abort()

    def _close(self, code: int, reason: str) -> None:
        self._connection.close(code, reason)

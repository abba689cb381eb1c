"""The answers to queries and mutations over a websocket."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING

import orjson
from strawberry.types.execution import PreExecutionError
from strawberry.types.graphql import OperationType

from graph.context import Context
from graph.live.frames import fragments
from graph.live.message import Message
from graph.live.operation import OperationRequest, RefusedError, encode
from graph.live.source import LiveEvent

if TYPE_CHECKING:
    from graph.live.server import Live
    from graph.live.socket import Socket

AT_A_TIME = 8
"""Most queries of one socket that are being answered, or whose answers wait to be read. The next one is begun when one
has been written, so whoever does not read what was asked for does not get more of it into the memory."""


class Answers:
    """What one socket has asked for."""

    def __init__(self, socket: Socket, live: Live) -> None:
        self._socket = socket
        self._live = live
        self._places = asyncio.Semaphore(AT_A_TIME)

    async def give(self, id: str, request: OperationRequest, context: Context, type: OperationType) -> None:
        """Run a query or a mutation, and write its result. Raises `RefusedError`.

        Mutations wait for nobody: their answers are small, and what they do may take its time.
        """
        async with nullcontext() if type is OperationType.MUTATION else self._places:
            result = await self._live.schema.execute(
                request.query, request.variables, context_value=context, operation_name=request.operation_name
            )
            if isinstance(result, PreExecutionError):
                raise RefusedError(result.errors or [])
            message = Message(LiveEvent(0, None), encode(result.data, result.errors))
            del result
            if message.large:
                with self._live.groups.load.carry(message, self._socket):
                    await self._write(id, message)
            else:
                await self._write(id, message)

    async def _write(self, id: str, message: Message) -> None:
        async with self._socket.turn(_Answer()):
            pieces = fragments(prefix_of(id), message.body, b"}")
            if message.large:
                await self._socket.write(pieces)
            else:
                self._socket.put(b"".join(pieces))


class _Answer:
    """One of them, waiting to be written."""

    def urgent(self) -> bool:
        """Somebody waits for it."""
        return True


def prefix_of(id: str) -> bytes:
    """What comes before every result of an operation."""
    return b'{"id":%b,"type":"next","payload":' % orjson.dumps(id)

"""`darkroom serve`, doomed: it holds each task at the place chosen for it, and dies once they are all there.

    DARKROOM_DOOM='{"places": {"a task": {"title": "…", "passage": "before put"}}}' python -m tests.crash.doomed serve

The product knows nothing of this: its methods are wrapped from outside. A held task goes no further, but holds up
nobody else, so what is on disk and at the vendor is what a kill at that place leaves behind; then the process sends
itself SIGKILL, which is no clean-up of any kind. Transactions cannot be held without holding up the others: tasks that
should be inside one are held before it, and in the end one of them (the `victim`) goes on, and the process dies between
its last statement and its commit. Instead of dying it can also freeze, or wait for a signal, and then let them all go
on (`Then`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextvars import ContextVar
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import httpx
from sqlalchemy import Connection, event
from sqlalchemy import Engine as AnyEngine

from graph.cli import main
from tasks.arrivals import Arrivals
from tasks.darkroom import Darkroom
from tasks.database import Database
from tasks.engine import Engine, Owned, Runner
from tasks.events import Change, StatusChanged, TaskEvent
from tasks.images import ImageStore
from tasks.journal import Journal
from tasks.records import TaskRecord
from tests.crash.points import DOOM, PLAN, Plan, Then

PAYING = ("/images/generations", "/generate_image", "/image-generations")
"""How the paths end that a paying POST goes to."""
BUYING = "/images/download"
"""How the path ends that a picture is bought at."""

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")
Method = Callable[Concatenate[S, P], Awaitable[T]]

CURRENT: Final[ContextVar[str | None]] = ContextVar("CURRENT", default=None)
"""The name of the task that is being run here."""


class Doom:
    """Who has to get where, and who is there."""

    def __init__(self, plan: Plan) -> None:
        self._places = plan.places
        self._then = plan.then
        self._victim = plan.victim
        self._passed: Counter[str] = Counter()
        self._there: set[str] = set()
        self._last = asyncio.Event()
        self._released = asyncio.Event()
        self._dying: set[str] = set()
        self._listening = False
        self.names: dict[str, str] = {}
        """The names of the tasks by their ids."""

    async def passing(self, passage: str, name: str | None = None) -> None:
        """Called between transactions: hold the task if this is its place."""
        name = name or CURRENT.get() or ""
        point = self._places.get(name)
        if point is None:
            return
        if point.passage == "after start" and passage == "before claim":
            await self._released.wait()  # nobody may take it before it is there
        if point.passage != passage:
            return
        self._passed[name] += 1
        if self._passed[name] == point.nth:
            self._arrive(name)
            await self._released.wait()

    async def writing(self, kind: str, name: str | None) -> None:
        """Called before a transaction: hold the task if it is to be killed inside this one."""
        if not self._listening and self._then is Then.WAIT:
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._released.set)
            self._listening = True
        name = name or ""
        point = self._places.get(name)
        if point is None or point.transaction != kind:
            return
        self._passed[name] += 1
        if self._passed[name] == point.nth:
            self._arrive(name)
            await (self._last if name == self._victim else self._released).wait()
            self._dying.add(name)

    def committing(self, names: Collection[str]) -> None:
        """Called before a commit, in a thread, with the tasks it is about."""
        if self._dying & {*names}:
            os.kill(os.getpid(), signal.SIGKILL)

    def _arrive(self, name: str) -> None:
        self._say(name)
        self._there.add(name)
        if self._there == self._places.keys():
            self._all_there()

    def _say(self, name: str) -> None:
        sys.stderr.write(f"held {name}\n")
        sys.stderr.flush()

    def _all_there(self) -> None:
        if self._then is Then.DIE and self._victim is None:
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._then is Then.DIE:
            self._last.set()
        elif self._then is Then.FREEZE:
            os.kill(os.getpid(), signal.SIGSTOP)
            self._released.set()


def wrap(doom: Doom) -> None:
    """Put the gates around the product."""
    _wrap_the_start(doom)
    _wrap_the_commit(doom)
    _wrap_the_run(doom)
    _wrap_the_wire(doom)


def _wrap_the_start(doom: Doom) -> None:
    start, open_ = Darkroom.start, Journal.open

    async def held_start(self: Darkroom, new: Any) -> TaskRecord:
        await doom.writing("QUEUED", new.name)
        task = await start(self, new)
        await doom.passing("after start", task.name)
        return task

    def named_open(self: Journal, task: TaskRecord, *args: Any, **kwargs: Any) -> TaskEvent:
        doom.names[task.id] = task.name or ""
        return open_(self, task, *args, **kwargs)

    _put(Darkroom, "start", held_start)
    _put(Journal, "open", named_open)


def _wrap_the_commit(doom: Doom) -> None:
    written: dict[Connection, set[str]] = {}

    @event.listens_for(AnyEngine, "after_cursor_execute")
    def executed(connection: Connection, _cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("INSERT INTO task_event"):
            ids = {str(values["task_id"]) for values in rest[1].compiled_parameters}
            written.setdefault(connection, set()).update(doom.names.get(id_, "") for id_ in ids)

    @event.listens_for(AnyEngine, "commit")
    def committing(connection: Connection) -> None:
        doom.committing(written.pop(connection, set()))


def _wrap_the_run(doom: Doom) -> None:
    make, claim, append, put, note = Engine.__init__, Journal.claim, Journal.append, ImageStore.put, Arrivals.note

    def held_engine(self: Engine, database: Database, runner: Runner, *args: Any, **kwargs: Any) -> None:
        async def held_runner(task_id: str, owned: Owned) -> None:
            CURRENT.set(doom.names.get(task_id))
            await runner(task_id, owned)
            await doom.passing("after run")

        make(self, database, held_runner, *args, **kwargs)

    async def held_claim(self: Journal, *args: Any, **kwargs: Any) -> TaskRecord | None:
        await doom.passing("before claim")
        task = await claim(self, *args, **kwargs)
        if task is not None:
            doom.names[task.id] = task.name or ""
            CURRENT.set(task.name)  # a task of an earlier process is only known now
        await doom.passing("after claim")
        return task

    async def held_append(self: Journal, task: TaskRecord, change: Change, **values: Any) -> TaskRecord:
        kind = change.status.name if isinstance(change, StatusChanged) else type(change).__name__
        await doom.passing(f"before append {kind}", task.name)
        await doom.writing(kind, task.name)
        appended = await append(self, task, change, **values)
        await doom.passing(f"after append {kind}", task.name)
        return appended

    async def held_put(self: ImageStore, *args: Any, **kwargs: Any) -> Any:
        await doom.passing("before put")
        stored = await put(self, *args, **kwargs)
        await doom.passing("after put")
        return stored

    async def held_note(self: Arrivals, *args: Any, **kwargs: Any) -> None:
        await note(self, *args, **kwargs)
        await doom.passing("after note")

    _put(Engine, "__init__", held_engine)
    _put(Arrivals, "note", held_note)
    _put(Journal, "claim", held_claim)
    _put(Journal, "append", held_append)
    _put(ImageStore, "put", held_put)


def _wrap_the_wire(doom: Doom) -> None:
    handle = httpx.AsyncHTTPTransport.handle_async_request

    async def held_handle(self: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            await doom.passing("look")
        if request.method == "POST" and request.url.path.endswith(BUYING):
            await doom.passing("before buying")
            bought = await handle(self, request)
            await doom.passing("after buying")
            return bought
        if request.method != "POST" or not request.url.path.endswith(PAYING):
            return await handle(self, request)
        theirs = request.extensions.get("trace")

        async def trace(name: str, info: Any) -> None:
            if theirs is not None:
                await theirs(name, info)
            if name.endswith("send_request_body.complete"):
                await doom.passing("inside POST")

        request.extensions = {**request.extensions, "trace": trace}
        await doom.passing("before POST")
        response = await handle(self, request)
        await doom.passing("after POST")
        if request.url.path.endswith("/images/generations"):
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = _HeldStream(doom, response.stream)
        return response

    _put(httpx.AsyncHTTPTransport, "handle_async_request", held_handle)


class _HeldStream(httpx.AsyncByteStream):
    """An answer whose body is what is being watched."""

    def __init__(self, doom: Doom, stream: httpx.AsyncByteStream) -> None:
        self._doom = doom
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await self._doom.passing("look")
        async for chunk in self._stream:
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()


def _put(owner: type, name: str, method: Callable[..., Any]) -> None:
    assert hasattr(owner, name)
    setattr(owner, name, method)


if __name__ == "__main__":
    if DOOM in os.environ:
        wrap(Doom(PLAN.validate_json(os.environ.pop(DOOM))))
    main()

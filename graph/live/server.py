"""What all live connections of this server share."""

from __future__ import annotations

from graph.context import Context, Rights
from graph.live.callers import Callers
from graph.live.groups import Groups
from graph.live.sse import EventStream
from graph.schema import Schema
from graph.settings import ServerSettings
from resolvers.images import DataUriBudget
from tasks.darkroom import Darkroom


class Live:
    """The groups of this process, who is connected to it, and what a connection may cost."""

    def __init__(self, schema: Schema, darkroom: Darkroom, settings: ServerSettings) -> None:
        self.schema = schema
        self.settings = settings
        self.groups = Groups(schema)
        self.callers = Callers(settings.max_connections_per_caller)
        self.streams: set[EventStream] = set()
        self._darkroom = darkroom

    def stream(self, address: str) -> EventStream:
        """A new event stream of a caller. Raises `TooManyConnectionsError`."""
        stream = EventStream(self.settings.ping_seconds, self.callers.enter(address), self.streams)
        self.streams.add(stream)
        return stream

    def end(self) -> None:
        """Send the readers of event streams away; they come back to whoever serves next."""
        for stream in self.streams:
            stream.end()

    def context(self, rights: Rights, budget: DataUriBudget) -> Context:
        """What the resolvers of one operation see."""
        return Context(self._darkroom, rights, budget)

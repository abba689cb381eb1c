"""Who is connected, and how often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


class TooManyConnectionsError(Exception):
    """A caller holds as many live connections as it may."""

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"You hold {limit:,} live connections to this server, the most there may be "
            "(DARKROOM_MAX_CONNECTIONS_PER_CALLER). Close some, or watch several tasks over one websocket."
        )


class Callers:
    """Counts the live connections of each client address. A limit of 0 is none."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._connections: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._connections.total()

    def enter(self, address: str) -> Callable[[], None]:
        """Count a connection until the returned function is called. Raises `TooManyConnectionsError`."""
        if 0 < self._limit <= self._connections[address]:
            raise TooManyConnectionsError(self._limit)
        self._connections[address] += 1

        def leave() -> None:
            self._connections[address] -= 1
            if not self._connections[address]:
                del self._connections[address]

        return leave

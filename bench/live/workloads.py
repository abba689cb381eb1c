"""What is measured, and what it should come to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

HERE = Path(__file__).parent


class Contender(Enum):
    """A server that is measured."""

    DARKROOM = "Darkroom"
    STOCK = "strawberry.asgi"
    NODE = "graphql-ws"


@dataclass(frozen=True, slots=True)
class Load:
    """What the load client does to one server.

    A round is one event for each of `tasks` tasks; it is over when every watcher has it. Two rounds are under way at a
    time. Seconds are measured after `warm_up` rounds; `paced` is how many rounds a second are sent, evenly, for the
    latency, in `steps` steps each, where the server is not under pressure. Zero leaves that out.
    """

    name: str
    document: str
    watchers: int
    tasks: int
    warm_up: int = 5
    seconds: float = 2.5
    rounds: int = 0
    """Exactly so many rounds instead of so many seconds."""
    paced: float = 0
    paced_seconds: float = 3
    steps: int = 1
    hold_seconds: float = 0
    """How long to do nothing with everything connected, before the rounds."""
    picture: bool = False


HOT = Load("one hot task, 1,000 watchers", "status", watchers=1000, tasks=1, paced=2)
FAN = Load("1,000 tasks, one watcher each", "status", watchers=1000, tasks=1000, paced=1, steps=100)
PICTURE = Load("partial of 100 KB inline, 100 watchers", "picture", watchers=100, tasks=1, paced=5, picture=True)
LONG = Load("a million deliveries, 200 watchers", "status", watchers=200, tasks=1, warm_up=500, rounds=5000)
OPEN = Load("5,000 open sockets, held for a minute", "status", watchers=5000, tasks=50, rounds=5, hold_seconds=60)

ALL = tuple(Contender)


@dataclass(frozen=True, slots=True)
class Target:
    """What Darkroom's figure should be, beside that of another: so many times as good, or so many times as much."""

    figure: str
    beside: Contender
    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True, slots=True)
class Workload:
    """A load, who is put under it, and what it should come to."""

    load: Load
    contenders: tuple[Contender, ...] = ALL
    targets: tuple[Target, ...] = ()
    background: bool = False
    """Whether it may go on while the next one is measured, because it is mostly waiting."""


WORKLOADS = (
    Workload(
        HOT,
        targets=(
            Target("cpu", Contender.STOCK, at_least=15),
            Target("cpu", Contender.NODE, at_least=3),
            Target("memory", Contender.STOCK, at_most=0.7),
        ),
    ),
    Workload(
        FAN,
        targets=(Target("cpu", Contender.STOCK, at_least=1), Target("memory", Contender.STOCK, at_most=0.7)),
    ),
    Workload(PICTURE, targets=(Target("cpu", Contender.STOCK, at_least=10),)),
    Workload(OPEN, contenders=(Contender.DARKROOM,), background=True),
    Workload(LONG, contenders=(Contender.DARKROOM,)),
)
NO_GROWTH = 2 * 1024 * 1024
"""Bytes that a server may grow by in a million deliveries: what allocators do, not what is kept per event."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the load client saw. Times are in seconds, memory in bytes."""

    deliveries: int
    seconds: float
    server_cpu: float
    client_cpu: float
    message_bytes: int
    p50: float | None
    p99: float | None
    memory_connected: int
    """How much larger the server is with everybody connected than with nobody."""
    memory_grown: int
    """How much it grew during the measured rounds."""
    connect_cpu: float

    @property
    def cpu(self) -> float:
        """Processor seconds of the server per 10,000 deliveries."""
        return self.server_cpu / self.deliveries * 10_000

    @property
    def busy_client(self) -> float:
        """The part of the time that the load client was working; near 1 it is what limits the deliveries."""
        return self.client_cpu / self.seconds

"""What is measured, and for how long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.pictures import KINDS
from bench.setups import POSTGRES, SQLITE, TWO_NODES, Setup
from bench.upstream import Order

FRAME_TARGET_MS = 10.0
MUTATION_TARGET_MS = 50.0
TASKS_TARGET = 100.0
"""Whole tasks per second, where there is more than one client."""
IDLE_TARGET_PERCENT = 3.0
"""Of one core, for a node that has nothing to do."""


@dataclass(frozen=True, slots=True)
class Workload:
    """Streams of one kind, read directly and through Darkroom in turn, for about `seconds` in all.

    `gap` is the average time between two frames of a stream in seconds. It is long enough that the work for one frame
    is over when the next one comes: a vendor needs seconds for a frame.
    """

    pictures: str
    streams: int
    gap: float
    seconds: float
    placeholder: bool = False
    images: int = 4
    partials: int = 2

    @property
    def title(self) -> str:
        """For a person."""
        at_once = "1 stream" if self.streams == 1 else f"{self.streams} streams"
        rate = f"{self.streams / self.gap:.0f}/s"
        return f"{KINDS[self.pictures].title}, {at_once}, {rate}{', placeholder' if self.placeholder else ''}"

    def order(self, seed: int) -> Order:
        """One stream. The same seed makes the same gaps; the streams of a round begin at different moments."""
        lead = 0.15 + (seed % self.streams) / self.streams * self.gap
        order = Order(pictures=self.pictures, images=self.images, partials=self.partials, seed=seed)
        return order.model_copy(update={"lead": lead, "gap": self.gap})


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole run."""

    warm_up: int
    """How many small tasks come before anything is measured."""
    workloads: Sequence[Workload]
    mutations: int
    setups: Sequence[Setup]
    """The shapes of a Darkroom whose whole tasks per second are counted, and that are left idle afterwards."""
    clients: Sequence[int]
    """How many clients are at work at once."""
    throughput_seconds: float
    """How long they work, for every number of them."""
    settle_seconds: float
    """How long a Darkroom is left alone after that before it counts as idle."""
    idle_seconds: float

    @property
    def kinds(self) -> list[str]:
        """The pictures it needs."""
        return list(dict.fromkeys(["small", *(workload.pictures for workload in self.workloads)]))

    def scaled(self, factor: float) -> Plan:
        """The same for a longer or a shorter time."""
        return replace(
            self,
            workloads=[replace(one, seconds=one.seconds * factor) for one in self.workloads],
            mutations=max(1, round(self.mutations * factor)),
            throughput_seconds=self.throughput_seconds * factor,
            idle_seconds=self.idle_seconds * factor,
        )


PLAN = Plan(
    warm_up=20,
    workloads=[
        Workload("jpeg-100k", streams=1, gap=0.04, seconds=7),
        Workload("png-100k", streams=1, gap=0.04, seconds=7),
        Workload("jpeg-1300k", streams=1, gap=0.1, seconds=9),
        Workload("png-1300k", streams=1, gap=0.1, seconds=9),
        Workload("png-1300k", streams=1, gap=0.1, seconds=6, placeholder=True),
        Workload("jpeg-100k", streams=8, gap=0.2, seconds=6),
        Workload("png-100k", streams=8, gap=0.2, seconds=6),
        Workload("jpeg-1300k", streams=8, gap=0.4, seconds=8, images=2),
        Workload("png-1300k", streams=8, gap=0.4, seconds=8, images=2),
    ],
    mutations=100,
    setups=[SQLITE, POSTGRES, TWO_NODES],
    clients=[1, 16, 64],
    throughput_seconds=6,
    settle_seconds=3,
    idle_seconds=20,
)

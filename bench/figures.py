"""From single measurements to what is printed: percentiles, and what Darkroom adds to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that at least `percent` of 100 of them do not exceed (the nearest rank).

    It is always one of the values: of fewer than 100 of them, the 99th percentile is the largest.
    """
    if not values:
        raise ValueError("there is no percentile of nothing")
    if not 0 < percent <= 100:
        raise ValueError(f"{percent} is no percentage; use more than 0 and at most 100")
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


@dataclass(slots=True)
class Comparison:
    """The same thing measured twice, in milliseconds: directly, and through Darkroom."""

    what: str
    direct: list[float] = field(default_factory=list)
    darkroom: list[float] = field(default_factory=list)
    target: float | None = None
    """Milliseconds that Darkroom may add at the median."""

    def added(self, percent: float) -> float:
        """How much larger a percentile is through Darkroom. The difference of percentiles, not of single frames."""
        return percentile(self.darkroom, percent) - percentile(self.direct, percent)

    @property
    def ratio(self) -> float:
        """How many times as long it takes at the median."""
        return percentile(self.darkroom, 50) / percentile(self.direct, 50)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.added(50) < self.target


@dataclass(frozen=True, slots=True)
class Section:
    """Comparisons made under the same conditions."""

    title: str
    rows: list[Comparison]


@dataclass(frozen=True, slots=True)
class Throughput:
    """Whole tasks, from the mutation to `TaskSucceeded`, with so many clients at once."""

    clients: int
    seconds: float
    tasks: list[float]
    """How long each took, in milliseconds."""
    direct_seconds: float
    direct: list[float]
    """The same for requests to the upstream itself."""
    node_seconds: float | None = None
    """Processor time of all nodes meanwhile; None where it cannot be known."""
    database_seconds: float | None = None
    """The same of a database that is a process of its own."""
    target: float | None = None
    """Tasks per second there should be."""

    @property
    def per_second(self) -> float:
        """Tasks that ended, per second."""
        return len(self.tasks) / self.seconds

    @property
    def direct_per_second(self) -> float:
        """Direct requests that were answered, per second."""
        return len(self.direct) / self.direct_seconds

    @property
    def ratio(self) -> float:
        """How many direct requests are answered in the time of one task."""
        return self.direct_per_second / self.per_second

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.per_second >= self.target


@dataclass(frozen=True, slots=True)
class Idle:
    """What a node costs that has nothing to do."""

    what: str
    seconds: float
    processor_seconds: float | None
    """Its processor time meanwhile; None where it cannot be known."""
    target: float | None = None
    """Percent of one core it may use."""

    @property
    def percent(self) -> float | None:
        """Of one core."""
        return None if self.processor_seconds is None else self.processor_seconds / self.seconds * 100

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none, or nothing is known."""
        return None if self.target is None or self.percent is None else self.percent < self.target


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much one shape of a Darkroom can carry, and what it costs when there is nothing to carry."""

    title: str
    throughputs: list[Throughput]
    idle: list[Idle]


@dataclass(frozen=True, slots=True)
class Results:
    """A whole run."""

    sections: list[Section]
    capacities: list[Capacity]
    about: list[str]

"""The ways to ask for pictures, and which places each of them passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.clients import all_images, openai_images, placewise
from tests.crash.points import (
    ADOPT_TWICE,
    BUYING,
    FIND_TWICE,
    FOUR,
    JSON,
    ON_ITS_WAY,
    POLL,
    POLL_TWICE,
    PUSH,
    STREAM,
    UNANSWERED,
    UNFINISHED,
    Point,
)


@dataclass(frozen=True)
class Variant:
    """One way to ask for pictures."""

    name: str
    expected: int
    points: Sequence[Point]
    losing: frozenset[str]
    """At which passages a crash may lose its pictures. At all others they must arrive."""
    request: Callable[[str], dict[str, Any]]
    """The variables of a click, for a prompt."""
    settings: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What the servers are set to besides, for all variants of a row."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Case:
    """A task that somebody wants, and a place where it is held."""

    variant: Variant
    point: Point

    def __str__(self) -> str:
        return f"{self.variant}-{self.point}"

    @property
    def name(self) -> str:
        """The name of the task."""
        return f"{self.variant} {self.point}"

    def click(self) -> dict[str, Any]:
        """The variables of the click. Each picture is another one, so that none is found in the place of another."""
        script = f" [[sandbox: {self.point.script}]]" if self.point.script else ""
        click = self.variant.request(self.name + script)
        click["input"] |= {"name": self.name, "idempotencyKey": self.name}
        return click


def places(cases: Iterable[Case]) -> dict[str, Point]:
    """Where each task is held, by its name."""
    return {case.name: case.point for case in cases}


STREAMED = Variant("openai_images stream", 1, STREAM, UNFINISHED, lambda prompt: openai_images(prompt, partialImages=2))
PLAIN = Variant("openai_images JSON", 1, JSON, UNFINISHED, lambda prompt: openai_images(prompt, stream=False))
POLLED = Variant("placewise", 1, POLL, UNANSWERED, placewise)
PUSHED = replace(
    POLLED, name="placewise push", points=PUSH, losing=frozenset(), settings={"DARKROOM_PLACEWISE_RESULTS": "push"}
)
PREVIEWED = Variant("all_images", 4, FOUR, ON_ITS_WAY, all_images)
BOUGHT = Variant("all_images bought", 4, BUYING, ON_ITS_WAY, lambda prompt: all_images(prompt, purchase=True))

TWICE = (
    replace(PLAIN, points=ADOPT_TWICE, losing=frozenset()),
    replace(POLLED, points=POLL_TWICE, losing=frozenset({"before POST"})),
    replace(PREVIEWED, points=FIND_TWICE, losing=frozenset()),
)
"""The same, for servers that are killed a second time."""

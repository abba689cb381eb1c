"""The ways to ask for pictures, and which places each of them passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.clients import all_images, openai_images, placewise
from tests.crash.points import BUYING, FOUR, JSON, ON_ITS_WAY, POLL, STREAM, UNANSWERED, UNFINISHED, Point


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

    def __str__(self) -> str:
        return self.name

    def clicks(self, points: Sequence[Point]) -> dict[Point, dict[str, Any]]:
        """A click for each point; each has a picture of its own, so that none is found in the place of another."""
        return {point: self._click(point) for point in points}

    def _click(self, point: Point) -> dict[str, Any]:
        name = f"{self} {point}"
        script = f" [[sandbox: {point.script}]]" if point.script else ""
        click = self.request(name + script)
        click["input"] |= {"name": name, "idempotencyKey": name}
        return click


def places(clicks: Mapping[Point, dict[str, Any]]) -> dict[str, Point]:
    """Where the task of each click is held, by its name."""
    return {click["input"]["name"]: point for point, click in clicks.items()}


STREAMED = Variant("openai_images stream", 1, STREAM, UNFINISHED, lambda prompt: openai_images(prompt, partialImages=2))
PLAIN = Variant("openai_images JSON", 1, JSON, UNFINISHED, lambda prompt: openai_images(prompt, stream=False))
POLLED = Variant("placewise", 1, POLL, UNANSWERED, placewise)
PREVIEWED = Variant("all_images", 4, FOUR, ON_ITS_WAY, all_images)
BOUGHT = Variant("all_images bought", 4, BUYING, ON_ITS_WAY, lambda prompt: all_images(prompt, purchase=True))

"""The life of a simulated generation: a function of the time alone, so that it goes on while the vendor is down.

Stages, one `step` apart: 0 created, 1 pending, 2 processing, 3–6 one more picture each, 7 done. A script can make it
fail before it draws (`refuse=input`), before the first picture is shown (`refuse=output`), or after some
(`error_after=2`); or be done without any (`no_final`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import JsonValue

from providers.all_images.simulator_store import Print

PICTURES = 4
LAST = 3 + PICTURES
_CREATED, _PENDING, _PROCESSING, _DONE, _ERROR = range(5)


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a generation is: its stage, the vendor's status, and how many pictures there are."""

    stage: int
    status: int
    pictures: int
    event: str | None
    """What a webhook is told when this stage is reached (contract all-images §3.5)."""


def failing_stage(made: Print) -> int | None:
    """The stage at which it fails, if it does."""
    if made.script.refuse == "input":
        return 2
    if made.script.refuse == "output":
        return 3
    if made.script.error_after is not None:
        return min(LAST, 3 + made.script.error_after)
    return None


def stage_at(made: Print, now: float) -> int:
    """The stage it has reached."""
    end = failing_stage(made) or LAST
    if made.step <= 0:
        return end
    return max(0, min(end, math.floor((now - made.started) / made.step)))


def due(made: Print, stage: int) -> float:
    """When it reaches that stage."""
    return made.started + stage * made.step


def moment(made: Print, stage: int) -> Moment:
    """What there is at a stage."""
    pictures = 0 if made.script.no_final else max(0, min(PICTURES, stage - 2))
    if stage == failing_stage(made):
        return Moment(stage, _ERROR, min(pictures, max(0, stage - 3)), "print.failed")
    if stage == 0:
        return Moment(stage, _CREATED, 0, "print.created")
    if stage == 1:
        return Moment(stage, _PENDING, 0, None)
    if stage == LAST:
        return Moment(stage, _DONE, pictures, "print.completed")
    return Moment(stage, _PROCESSING, pictures, "print.active" if stage == 2 else "print.progress")


def told(made: Print, at: Moment, home: str) -> dict[str, JsonValue]:
    """The generation as the vendor tells it (contract all-images §3.1); links begin with `home`."""
    images: list[JsonValue] = [_image(made, number, home) for number in range(at.pictures)]
    telling: dict[str, JsonValue] = {"id": made.id, "status": at.status, "images": images}
    if not made.script.omit_fields:
        telling |= {
            "name": made.body["name"],
            "prompt": made.body["prompt"],
            "params": made.body.get("params") or [],
            "processMode": made.body.get("processMode") or "fast",
            "nbImages": at.pictures,
            "tags": made.body.get("tags") or [],
            "metaData": made.body.get("metaData"),
            "createdAt": iso(made.created),
        }
    if made.script.extra_fields:
        telling |= {"xSandbox": {"nested": [None, 1.5, {"deep": True}]}, "nbImages": None, "progress": "überraschung ✓"}
    return telling


def iso(seconds: float) -> str:
    """A time as the vendor writes it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def is_free(made: Print, number: int) -> bool:
    """Whether picture `number` costs no credit: the last ones of a generation are."""
    return number >= PICTURES - made.free


def _image(made: Print, number: int, home: str) -> JsonValue:
    image_id = made.images[number]
    image: dict[str, JsonValue] = {"id": image_id, "free": is_free(made, number)}
    if not made.script.omit_fields:
        image |= {
            "url": f"{home}/images/preview/{image_id}.jpg",
            "urlFull": f"{home}/images/full/{image_id}.jpg",
            "validate": True,
            "titles": {"en": str(made.body["name"])},
        }
    return image

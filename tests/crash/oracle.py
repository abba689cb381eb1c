"""What must be true of a task that has been through a crash, whatever became of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.crash.evidence import Evidence

ENDS = {"TaskSucceeded": "SUCCEEDED", "TaskFailed": "FAILED", "TaskCanceled": "CANCELED", "TaskHandedOff": "HANDED_OFF"}
"""The last event of a task, and the status that goes with it."""
BOUGHT = "image:"
"""How the submission of a picture begins that was bought out of a generation."""
WHAT_TO_DO = re.compile(r"\b(start|look|retry|retryTask|check|ask|contact|set|free|buy|change)\b", re.IGNORECASE)


def assert_sound(found: Evidence) -> None:
    """Fail with everything that cannot be true."""
    wrong = contradictions(found)
    assert not wrong, "\n".join((*wrong, str(found)))


def contradictions(found: Evidence) -> list[str]:
    """Everything that cannot be the truth, in words; empty for a task that is sound."""
    return [*_the_log(found), *_the_end(found), *_the_money(found), *_the_pictures(found), *_the_failure(found)]


def generations(found: Evidence) -> list[dict[str, Any]]:
    """The charges for making pictures, as opposed to buying them."""
    return [charge for charge in found.charges if not charge["submission"].startswith(BOUGHT)]


def _the_log(found: Evidence) -> Iterator[str]:
    sequences = [event["sequence"] for event in found.events]
    if sequences != list(range(1, len(sequences) + 1)):
        yield f"the sequences are {sequences}"
    told = [_identity(event) for event in found.events]
    for repeated in sorted({one for one in told if one is not None and told.count(one) > 1}):
        yield f"{repeated} was told {told.count(repeated)} times"
    if found.task["lastSequence"] != len(sequences):
        yield f"the row counts {found.task['lastSequence']} events, the log has {len(sequences)}"


def _identity(event: dict[str, Any]) -> str | None:
    """What may be told only once. Progress and notices may come again after a restart."""
    match event["__typename"]:
        case "TaskStatusChanged":
            return f"status {event['status']}"
        case "ImageReady":
            return f"picture {event['index']}"
        case "PartialImageReady":
            return f"partial image {event['partialImageIndex']} of picture {event['index']}"
        case "TaskProgressed" | "NoticeGiven":
            return None
        case other:
            return str(other)


def _the_end(found: Evidence) -> Iterator[str]:
    kinds = [event["__typename"] for event in found.events]
    if not kinds or kinds[-1] not in ENDS:
        yield f"it never ended; its events are {kinds}"
    elif found.task["status"] != ENDS[kinds[-1]]:
        yield f"its last event is {kinds[-1]}, and its status {found.task['status']}"
    if any(kind in ENDS for kind in kinds[:-1]):
        yield f"something happened after its end: {kinds}"


def _the_money(found: Evidence) -> Iterator[str]:
    if len(generations(found)) > 1:
        yield f"it was charged {len(generations(found))} times: {generations(found)}"
    bought = [charge["submission"] for charge in found.charges if charge["submission"].startswith(BOUGHT)]
    for twice in sorted({one for one in bought if bought.count(one) > 1}):
        yield f"{twice} was bought {bought.count(twice)} times"
    if bought and not generations(found):
        yield f"{bought} were bought from a generation that was never charged"


def _the_pictures(found: Evidence) -> Iterator[str]:
    ready = [event for event in found.events if event["__typename"] == "ImageReady"]
    partial = [event for event in found.events if event["__typename"] == "PartialImageReady"]
    for event in (*ready, *partial):
        image = event["image"]
        if image is None:
            yield f"event {event['sequence']} announces a picture that is not there"
        elif found.fetched[image["id"]] != image["sha256"]:
            yield f"the picture of event {event['sequence']} came as {found.fetched[image['id']]}"
    listed = [image["index"] for image in found.task["images"]]
    if sorted(event["index"] for event in ready) != sorted(listed):
        yield f"pictures {[event['index'] for event in ready]} were announced, {listed} are listed"
    if len(partial) != len(found.task["partialImages"]):
        yield f"{len(partial)} partial images were announced, {len(found.task['partialImages'])} are listed"
    if found.task["status"] == "SUCCEEDED" and len(ready) != found.expected:
        yield f"it succeeded with {len(ready)} of {found.expected} pictures"
    if ready and not generations(found):
        yield "there are pictures that nobody charged for"


def _the_failure(found: Evidence) -> Iterator[str]:
    failure = found.task["failure"]
    if (found.task["status"] == "FAILED") != (failure is not None):
        yield f"it is {found.task['status']}, and its failure is {failure}"
    if failure is None:
        return
    told = [event["failure"] for event in found.events if event["__typename"] == "TaskFailed"]
    for name in ("code", "message", "billed", "transport", "retryable"):
        if [each[name] for each in told] != [failure[name]]:
            yield f"the last event and the row disagree about {name}"
    charged = bool(generations(found))
    if charged and failure["billed"] is False:
        yield f"it says that nothing was billed, but {generations(found)}"
    if charged and failure["transport"] == "NOT_SENT":
        yield "it says that nothing was sent, but it was charged"
    if not charged and failure["billed"] is True:
        yield "it says that it was billed, but nothing was"
    if not charged and failure["transport"] == "ACCEPTED":
        yield "it says that the vendor has accepted it, but nothing was charged"
    if failure["billed"] is not False and not WHAT_TO_DO.search(failure["message"]):
        yield f"it may have been billed, and nobody is told what to do: {failure['message']}"

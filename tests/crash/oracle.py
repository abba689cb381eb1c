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
    aspects = (_the_log, _the_end, _the_money, _the_pictures, _the_failure, _the_cancellation)
    return [one for aspect in aspects for one in aspect(found)]


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
        if event["image"] is None:
            yield f"event {event['sequence']} announces a picture that is not there"
    for image in (*found.task["images"], *found.task["partialImages"], *_images(ready), *_images(partial)):
        if found.fetched[image["id"]] != image["sha256"]:
            yield f"picture {image['id']} came as {found.fetched[image['id']]}"
    listed = [image["index"] for image in found.task["images"] if not image["late"]]
    late = [image["index"] for image in found.task["images"] if image["late"]]
    if sorted(event["index"] for event in ready) != sorted(listed):
        yield f"pictures {[event['index'] for event in ready]} were announced, {listed} are listed"
    if len(partial) != len(found.task["partialImages"]):
        yield f"{len(partial)} partial images were announced, {len(found.task['partialImages'])} are listed"
    if found.task["status"] == "SUCCEEDED" and (len(ready) != found.expected or late):
        yield f"it succeeded with {len(ready)} of {found.expected} pictures, and {len(late)} late ones"
    if len({*listed, *late}) != len(listed) + len(late):
        yield f"a picture is there twice: {listed} in time, {late} late"
    if found.task["images"] and not generations(found):
        yield "there are pictures that nobody charged for"


def _images(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event["image"] for event in events if event["image"] is not None]


def _the_failure(found: Evidence) -> Iterator[str]:
    failure = found.task["failure"]
    if (found.task["status"] == "FAILED") != (failure is not None):
        yield f"it is {found.task['status']}, and its failure is {failure}"
    if failure is not None:
        told = [event["failure"] for event in found.events if event["__typename"] == "TaskFailed"]
        yield from _the_verdict(found, failure, told, ("code", "message", "billed", "transport", "retryable"))
        if failure["billed"] is not False and not WHAT_TO_DO.search(failure["message"]):
            yield f"it may have been billed, and nobody is told what to do: {failure['message']}"


def _the_cancellation(found: Evidence) -> Iterator[str]:
    cancellation = found.task["cancellation"]
    if found.task["status"] == "CANCELED" and cancellation is None:
        yield "it was canceled, and nobody is told what that achieved"
    if found.task["status"] == "FAILED" and cancellation is not None:
        yield f"it failed, and canceling it is said to have achieved {cancellation}"
    if cancellation is None:
        return
    told = [event["cancellation"] for event in found.events if event["__typename"] == "TaskCanceled"]
    if found.task["status"] == "CANCELED":
        yield from _the_verdict(found, cancellation, told, ("outcome", "billed", "transport", "message"))
    if (cancellation["outcome"] == "TOO_LATE") != (found.task["status"] == "SUCCEEDED"):
        yield f"it is {found.task['status']}, and canceling it is said to have been {cancellation['outcome']}"


def _the_verdict(
    found: Evidence, verdict: dict[str, Any], told: list[dict[str, Any]], names: tuple[str, ...]
) -> Iterator[str]:
    """What is said about money, in the row and in the event, against what the vendor says."""
    for name in names:
        if [each[name] for each in told] != [verdict[name]]:
            yield f"the last event and the row disagree about {name}"
    charged = bool(generations(found))
    if charged and verdict["billed"] is False:
        yield f"it says that nothing was billed, but {generations(found)}"
    if charged and verdict["transport"] == "NOT_SENT":
        yield "it says that nothing was sent, but it was charged"
    if not charged and verdict["billed"] is True:
        yield "it says that it was billed, but nothing was"
    if not charged and verdict["transport"] == "ACCEPTED":
        yield "it says that the vendor has accepted it, but nothing was charged"

"""The oracle of the crash tests can tell a lie from the truth."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from tests.crash.evidence import Evidence
from tests.crash.oracle import contradictions

CHARGE = {"provider": "placewise", "reference": "t", "submission": "7", "images": 1}
FAILURE = {
    "code": "OUTCOME_UNKNOWN",
    "message": "It may have been billed. Look at the provider's usage page.",
    "retryable": False,
    "billed": None,
    "transport": "PERHAPS_SENT",
}

NEVER_SENT = {"outcome": "NEVER_SENT", "billed": False, "transport": "NOT_SENT", "message": "Nothing was sent."}


def _event(sequence: int, kind: str, **values: Any) -> dict[str, Any]:
    return {"sequence": sequence, "__typename": kind, **values}


def succeeded() -> Evidence:
    """A task that went well."""
    picture = {"id": "p", "index": 0, "sha256": "abc", "url": "http://x/p", "late": False}
    events = [
        _event(1, "TaskStatusChanged", status="QUEUED"),
        _event(2, "TaskStatusChanged", status="SUBMITTING"),
        _event(3, "TaskStatusChanged", status="RUNNING"),
        _event(4, "ImageReady", index=0, image=picture),
        _event(5, "TaskSucceeded"),
    ]
    task = {"status": "SUCCEEDED", "lastSequence": 5, "failure": None}
    task |= {"cancellation": None, "images": [picture], "partialImages": []}
    return Evidence(1, task, events, [CHARGE], {"p": "abc"})


def failed() -> Evidence:
    """A task whose request was lost."""
    events = [
        _event(1, "TaskStatusChanged", status="QUEUED"),
        _event(2, "TaskStatusChanged", status="SUBMITTING"),
        _event(3, "TaskFailed", failure=deepcopy(FAILURE)),
    ]
    task = {"status": "FAILED", "lastSequence": 3, "failure": deepcopy(FAILURE)}
    task |= {"cancellation": None, "images": [], "partialImages": []}
    return Evidence(1, task, events, [], {})


def canceled() -> Evidence:
    """A task that was canceled while it waited."""
    events = [
        _event(1, "TaskStatusChanged", status="QUEUED"),
        _event(2, "TaskCanceled", cancellation=deepcopy(NEVER_SENT)),
    ]
    task = {"status": "CANCELED", "lastSequence": 2, "failure": None, "cancellation": deepcopy(NEVER_SENT)}
    task |= {"images": [], "partialImages": []}
    return Evidence(1, task, events, [], {})


def _failing_with(found: Evidence, *, charged: bool = False, **values: Any) -> None:
    found.charges.extend([CHARGE] * charged)
    found.task["failure"] |= values
    found.events[-1]["failure"] |= values


def test_the_truth_has_no_contradictions() -> None:
    assert contradictions(succeeded()) == []
    assert contradictions(failed()) == []
    assert contradictions(canceled()) == []


LIES: dict[str, Callable[[Evidence], Any]] = {
    "charged 2 times": lambda found: found.charges.append(CHARGE),
    "was bought 2 times": lambda found: found.charges.extend([{**CHARGE, "submission": "image:1"}] * 2),
    "the sequences are": lambda found: found.events.pop(3),
    "picture 0 was told 2 times": lambda found: found.events.append({**found.events[3], "sequence": 6}),
    "status RUNNING was told 2 times": lambda found: found.events.append({**found.events[2], "sequence": 6}),
    "TaskSucceeded was told 2 times": lambda found: found.events.append({**found.events[4], "sequence": 6}),
    "it never ended": lambda found: found.events.pop(),
    "the row counts": lambda found: found.task.update(lastSequence=4),
    "its last event is TaskSucceeded": lambda found: found.task.update(status="RUNNING"),
    "came as HTTP 404": lambda found: found.fetched.update(p="HTTP 404"),
    "came as def": lambda found: found.fetched.update(p="def"),
    "a picture that is not there": lambda found: found.events[3].update(image=None),
    "[] are listed": lambda found: found.task["images"].clear(),
    "a picture is there twice": lambda found: found.task["images"].append({**found.task["images"][0], "late": True}),
    "and 1 late ones": lambda found: found.task["images"].append({**found.task["images"][0], "index": 1, "late": True}),
    "canceling it is said to have been ABANDONED": lambda found: found.task.update(
        cancellation={"outcome": "ABANDONED", "billed": None, "transport": "ACCEPTED", "message": "Look."}
    ),
    "with 1 of 4 pictures": lambda found: object.__setattr__(found, "expected", 4),
    "pictures that nobody charged for": lambda found: found.charges.clear(),
}
LIES_ABOUT_A_CANCELLATION: dict[str, Callable[[Evidence], Any]] = {
    "it says that nothing was billed": lambda found: found.charges.append(CHARGE),
    "nobody is told what that achieved": lambda found: found.task.update(cancellation=None),
    "disagree about outcome": lambda found: found.events[-1].update(cancellation={**NEVER_SENT, "outcome": "STOPPED"}),
    "it failed, and canceling it": lambda found: found.task.update(status="FAILED"),
}
LIES_ABOUT_A_FAILURE: dict[str, Callable[[Evidence], Any]] = {
    "it says that nothing was billed": lambda found: _failing_with(found, charged=True, billed=False),
    "nothing was sent, but it was charged": lambda found: _failing_with(found, charged=True, transport="NOT_SENT"),
    "it says that it was billed, but nothing was": lambda found: _failing_with(found, billed=True),
    "the vendor has accepted it, but nothing": lambda found: _failing_with(found, transport="ACCEPTED"),
    "nobody is told what to do": lambda found: _failing_with(found, message="Oh dear."),
    "disagree about code": lambda found: found.task["failure"].update(code="INTERNAL"),
    "its failure is None": lambda found: found.task.update(failure=None),
}


@pytest.mark.parametrize("words", LIES)
def test_a_lie_about_a_success_is_found(words: str) -> None:
    found = succeeded()
    LIES[words](found)

    assert words in "\n".join(contradictions(found))


@pytest.mark.parametrize("words", LIES_ABOUT_A_CANCELLATION)
def test_a_lie_about_a_cancellation_is_found(words: str) -> None:
    found = canceled()
    LIES_ABOUT_A_CANCELLATION[words](found)

    assert words in "\n".join(contradictions(found))


@pytest.mark.parametrize("words", LIES_ABOUT_A_FAILURE)
def test_a_lie_about_a_failure_is_found(words: str) -> None:
    found = failed()
    LIES_ABOUT_A_FAILURE[words](found)

    assert words in "\n".join(contradictions(found))

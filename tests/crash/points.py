"""Where a server can be stopped: the places in the life of one task, in the order in which it passes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from pydantic import TypeAdapter

DOOM = "DARKROOM_DOOM"
"""The environment variable with the plan of a doomed server (`PLAN`). A server without it is like any other."""


@dataclass(frozen=True, slots=True)
class Point:
    """One place. `passage` is what `tests.crash.doomed` calls it, `nth` how often it has to be passed to count."""

    title: str
    passage: str
    nth: int = 1
    script: str = ""
    """What the simulated vendor has to do for it (`providers.sandbox.script`)."""
    charged: bool = False
    """Whether the vendor charges for it, but only after the server has died."""

    again: str = ""
    """Where the next server is killed, at which passage of the same task, while it puts things right."""

    @property
    def transaction(self) -> str | None:
        """What is written in the transaction it is inside of, if it is inside of one."""
        _, inside, written = self.passage.partition("inside append ")
        return written if inside else None

    def __str__(self) -> str:
        return self.title


class Then(StrEnum):
    """What happens when every task is where it should be."""

    DIE = "die"
    """`kill -9`."""
    FREEZE = "freeze"
    """SIGSTOP; after SIGCONT they all go on."""
    WAIT = "wait"
    """Until SIGUSR1; then they all go on."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Where each task is held, by its name, and what happens then."""

    places: Mapping[str, Point]
    then: Then = Then.DIE
    victim: str | None = None
    """Which of those that should be inside a transaction really is, when the server dies."""


PLAN = TypeAdapter(Plan)

BEFORE_THE_END = (
    Point("inside the transaction that enqueues it", "inside append QUEUED"),
    Point("after it was enqueued, before the answer", "after start"),
    Point("before it is claimed", "before claim"),
    Point("after it was claimed, before the intent", "after claim"),
    Point("after the intent, before the POST", "before POST"),
    Point("inside a POST that never arrives", "inside POST", script="latency=30 lose=request"),
    Point("inside a POST that arrives later", "inside POST", script="latency=4", charged=True),
    Point("after the POST, before its answer is read", "after POST"),
    Point("after the answer, before acceptance is recorded", "before append RUNNING"),
    Point("inside the transaction that records acceptance", "inside append RUNNING"),
    Point("after acceptance was recorded", "after append RUNNING"),
    Point("while watching", "look"),
)
AT_THE_END = (
    Point("before the last event", "before append Succeeded"),
    Point("inside the transaction of the last event", "inside append Succeeded"),
    Point("after the last event", "after append Succeeded"),
    Point("after the run, before the engine knows", "after run"),
)


def _picture(number: int, put: int) -> tuple[Point, ...]:
    """Around picture `number` (from 1), for which the store is asked for the `put`th time."""
    return (
        Point(f"before picture {number} is stored", "before put", put),
        Point(f"after picture {number} was stored, before its row", "after put", put),
        Point(f"inside the transaction that announces picture {number}", "inside append ImageReady", number),
        Point(f"after picture {number} was announced", "after append ImageReady", number),
    )


_NOTED = Point("after the arrival of the picture was noted, before its row", "after note")
_PROGRESS = Point("after progress was recorded", "after append Progressed")
_USAGE = Point("after usage was recorded", "after append UsageReported")

ON_ITS_WAY = frozenset({"before POST", "inside POST"})
"""Where nobody but the vendor can know what became of a request."""
UNANSWERED = ON_ITS_WAY | {"after POST", "before append RUNNING", "inside append RUNNING"}
"""Where a task is lost if the vendor cannot be asked for it by our reference."""
UNFINISHED = UNANSWERED | {
    "after append RUNNING",
    "look",
    "before put",
    "after put",
    "after append PartialImageReady",
    "after append Progressed",
}
"""Where a picture is lost if the vendor's answer cannot be opened a second time."""

STREAM = (
    *BEFORE_THE_END,
    Point("before a partial image is stored", "before put"),
    Point("after a partial image was stored, before its row", "after put"),
    Point("after the first partial image was announced", "after append PartialImageReady"),
    _PROGRESS,
    Point("after the second partial image was announced", "after append PartialImageReady", 2),
    *_picture(1, put=3),
    _NOTED,
    _USAGE,
    *AT_THE_END,
)
JSON = (*BEFORE_THE_END, *_picture(1, put=1), _NOTED, _USAGE, *AT_THE_END)
POLL = (*BEFORE_THE_END, _PROGRESS, *_picture(1, put=1), *AT_THE_END)
PUSH = (
    *(point for point in BEFORE_THE_END if point.passage != "before POST" and "never" not in point.title),
    _PROGRESS,
    *_picture(1, put=1),
    *AT_THE_END,
)
"""A vendor that was never asked reports nothing, and that it does not is only believed after minutes."""
FOUR = (*BEFORE_THE_END, _PROGRESS, *_picture(1, put=1), *_picture(4, put=4), *AT_THE_END)
BUYING = (
    Point("before picture 1 is bought", "before buying"),
    Point("after picture 1 was bought, before that is known", "after buying"),
    *_picture(1, put=1),
    Point("before picture 4 is bought", "before buying", 4),
    Point("after picture 4 was bought, before that is known", "after buying", 4),
    *_picture(4, put=4),
    *AT_THE_END,
)

# A second crash, in the middle of recovering from the first one.
POLL_TWICE = (
    Point("before it is claimed, and after", "before claim", again="after claim"),
    Point("after it was claimed, and before the POST", "after claim", again="before POST"),
    Point("after acceptance was recorded, and while watching", "after append RUNNING", again="look"),
    Point("while watching, and before the picture is stored", "look", again="before put"),
    Point("before the picture is stored, and after", "before put", again="after put"),
    Point("after the picture was stored, and after it was announced", "after put", again="after append ImageReady"),
    Point("before the last event, and again", "before append Succeeded", again="before append Succeeded"),
)
FIND_TWICE = (
    Point("after the POST, and while looking for it", "after POST", again="look"),
    Point("before acceptance is recorded, and again", "before append RUNNING", again="before append RUNNING"),
    Point(
        "after picture 1 was announced, and after picture 2", "after append ImageReady", again="after append ImageReady"
    ),
    Point("after picture 1 was stored, and again", "after put", again="after put"),
)
ADOPT_TWICE = (
    Point("before it is claimed, and after the picture was noted", "before claim", again="after note"),
    Point("after the picture was noted, and before it is adopted", "after note", again="before append ImageReady"),
    Point("after the picture was noted, and after it was adopted", "after note", again="after append ImageReady"),
    Point(
        "after the picture was announced, and before the end",
        "after append ImageReady",
        again="before append Succeeded",
    ),
)

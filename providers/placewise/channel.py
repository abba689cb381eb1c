"""How the result of a task reaches this server. No channel is documented, so it is configured, never coded.

Source: contract placewise §5. The one assumption made here is the simulator's own channel, which is marked as assumed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias
from urllib.parse import quote

import orjson
from pydantic import JsonValue

from providers.described import DescribedEnum
from providers.placewise.pointer import value_at


class ResultChannel(DescribedEnum):
    """How the finished picture is obtained."""

    NONE = "none", "Not at all, as documented: a task ends with the vendor's task id."
    POLL = "poll", "By asking an address for the state of the task until the picture is there."
    PUSH = "push", "By waiting for the vendor to send it to a callback address of this server."


@dataclass(frozen=True, slots=True)
class ReportShape:
    """Where in a JSON report the things are, as JSON pointers. A report may also be the picture file itself."""

    status: str | None = None
    """To the state, a text, number or boolean. None: a report that has a picture is the last one."""
    done: tuple[str, ...] = ()
    """The states that mean finished."""
    failed: tuple[str, ...] = ()
    """The states that mean that no picture will come."""
    image: str | None = None
    """To a link (http or https), a data URI or base64."""
    reason: str | None = None
    """To what the vendor says about a failure."""

    def status_in(self, document: JsonValue) -> str | None:
        """The state as the settings write it: `finished`, `3`, `true`; None where there is none."""
        return None if self.status is None else _text(value_at(document, self.status))

    def image_in(self, document: JsonValue) -> str | None:
        """The link, data URI or base64; None where there is none."""
        found = None if self.image is None else value_at(document, self.image)
        return found if isinstance(found, str) and found else None

    def reason_in(self, document: JsonValue) -> str | None:
        """What went wrong, in the vendor's words; None where it does not say."""
        return None if self.reason is None else _text(value_at(document, self.reason))


@dataclass(frozen=True, slots=True)
class NoChannel:
    """Nothing can be fetched."""


@dataclass(frozen=True, slots=True)
class PollChannel:
    """A URL is asked every `interval` seconds, for `deadline` seconds after acceptance. What looks like the end of a
    task, and may be a passing oddity, is believed when it has stayed so for `doubt` seconds.
    """

    url: str
    """With `{id}` where the task id goes. Absolute, or beginning with a slash: then below the base URL."""
    shape: ReportShape
    interval: float
    deadline: float
    doubt: float

    def url_of(self, task_id: str, base_url: str) -> str:
        """The address that knows about `task_id`."""
        path = self.url.replace("{id}", quote(task_id, safe=""))
        return f"{base_url.rstrip('/')}{path}" if path.startswith("/") else path


@dataclass(frozen=True, slots=True)
class PushChannel:
    """The vendor reports to a callback URL, of which it is told in a header or a field of the request."""

    shape: ReportShape
    deadline: float
    header: str | None = None
    field: str | None = None


Channel: TypeAlias = NoChannel | PollChannel | PushChannel

ASSUMED_CALLBACK_HEADER = "X-Sim-Callback-URL"
"""Where the simulator, and nobody else, looks for a callback URL."""

_ASSUMED_SHAPE = ReportShape(
    status="/image_generation_task/status",
    done=("finished",),
    failed=("failed",),
    image="/image_generation_task/url",
    reason="/image_generation_task/error",
)
_ASSUMED_POLL = PollChannel(
    url="/v1/ml/general/image_generation_tasks/{id}", shape=_ASSUMED_SHAPE, interval=0.5, deadline=0, doubt=3
)


def assumed(
    kind: ResultChannel | None, *, interval: float | None, deadline: float, doubt: float | None = None
) -> Channel:
    """The simulator's channel of that kind; polling where nobody says."""
    match kind:
        case ResultChannel.NONE:
            return NoChannel()
        case ResultChannel.PUSH:
            return PushChannel(shape=_ASSUMED_SHAPE, deadline=deadline, header=ASSUMED_CALLBACK_HEADER)
        case _:
            return replace(
                _ASSUMED_POLL,
                interval=interval or _ASSUMED_POLL.interval,
                deadline=deadline,
                doubt=_ASSUMED_POLL.doubt if doubt is None else doubt,
            )


def _text(value: JsonValue) -> str | None:
    if isinstance(value, str):
        return value or None
    return orjson.dumps(value).decode() if isinstance(value, bool | int | float) else None

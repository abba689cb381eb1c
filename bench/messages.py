"""What a Darkroom says to the client of the measurements, as far as that client reads it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic.alias_generators import to_camel

START, FRAMES, FRAMES_WITH_PLACEHOLDER = (
    (Path(__file__).parent / f"{name}.graphql").read_text() for name in ("start", "frames", "frames_with_placeholder")
)


class _Read(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, frozen=True)


class Image(_Read):
    """A picture in an event."""

    kind: str
    url: str
    width: int
    height: int
    placeholder: str | None = None


class Failure(_Read):
    """Why a task failed."""

    code: str
    message: str


class Event(_Read):
    """One event of a task."""

    kind: str = Field(alias="__typename")
    sequence: int
    index: int | None = None
    partial_image_index: int | None = None
    image: Image | None = None
    failure: Failure | None = None


class _Events(_Read):
    task_events: Event


class _Payload(_Read):
    data: _Events | None = None
    errors: list[JsonValue] = []


class Message(_Read):
    """One message of `graphql-transport-ws`, from the server. An `error` carries a list instead of a payload."""

    type: str
    id: str | None = None
    payload: _Payload | list[JsonValue] | None = None

    @property
    def event(self) -> Event | None:
        """The event in it, if there is one and nothing else."""
        if self.type != "next" or not isinstance(self.payload, _Payload) or self.payload.errors:
            return None
        return self.payload.data.task_events if self.payload.data else None


class _Task(_Read):
    id: str


class Started(_Read):
    """What `startGeneration` answered."""

    kind: str = Field(alias="__typename")
    task: _Task | None = None
    message: str | None = None


class _Data(_Read):
    start_generation: Started


class StartAnswer(_Read):
    """The HTTP answer to the mutation."""

    data: _Data | None = None
    errors: list[JsonValue] = []

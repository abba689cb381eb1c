"""A client of whatever server a test sets up, its requests, and what a run of it told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass

import httpx
import orjson
from pydantic import JsonValue, SecretStr

from providers.all_images.adapter import AllImages
from providers.all_images.request import AllImagesRequest
from providers.all_images.settings import AllImagesSettings
from providers.contract import Callback, FinalImage, Notice, Progress, ProviderEvent, Submission
from providers.errors import ProviderError

KEY = "ai-secret-0123456789"
REFERENCE = "task-7"


def account(url: str, **settings: object) -> AllImages:
    """A client of the server at `url`, with a key that must never show and no patience."""
    quick: dict[str, object] = {
        "poll_first_seconds": 0.01,
        "poll_longest_seconds": 0.02,
        "lookup_seconds": 0.2,
        "deadline_seconds": 20,
        "doubt_seconds": 0,
        "download_seconds": 2,
    }
    return AllImages(
        AllImagesSettings.model_validate({"base_url": url, "api_key": SecretStr(KEY), **quick, **settings}),
        base_url=url,
        sandbox=False,
    )


def request(**parameters: object) -> AllImagesRequest:
    return AllImagesRequest.model_validate({"mode": "simple", "name": "A fox", "prompt": "a red fox", **parameters})


@dataclass
class Outcome:
    """What one run told, and how it ended."""

    events: list[ProviderEvent]
    error: ProviderError | None

    @property
    def finals(self) -> list[FinalImage]:
        return [event for event in self.events if isinstance(event, FinalImage)]

    @property
    def notices(self) -> list[Notice]:
        return [event for event in self.events if isinstance(event, Notice)]

    @property
    def progress(self) -> list[Progress]:
        return [event for event in self.events if isinstance(event, Progress)]

    def failure(self) -> ProviderError:
        assert self.error is not None, f"it did not fail: {self.events}"
        return self.error


async def run(
    provider: AllImages,
    asked: AllImagesRequest | None = None,
    *,
    reference: str = REFERENCE,
    resume: Submission | None = None,
    callback: Callback | None = None,
    known: Mapping[str, int] | None = None,
    between: Callable[[ProviderEvent], Awaitable[None]] | None = None,
) -> Outcome:
    """Run one request to its end, whatever that is; `between` is called after each event."""
    events: list[ProviderEvent] = []
    stream = provider.run(asked or request(), reference=reference, resume=resume, callback=callback, known=known)
    try:
        async with aclosing(stream):
            async for event in stream:
                events.append(event)
                if between is not None:
                    await between(event)
    except ProviderError as exc:
        return Outcome(events, exc)
    finally:
        await provider.aclose()
    return Outcome(events, None)


def kinds(outcome: Outcome) -> list[str]:
    return [type(event).__name__ for event in outcome.events]


def wire(body: bytes) -> dict[str, JsonValue]:
    value: dict[str, JsonValue] = orjson.loads(body)
    return value


def path_of(line: str) -> tuple[str, str]:
    """Method and path of a request line, without the query."""
    method, target, _ = line.split()
    return method, httpx.URL(target).path

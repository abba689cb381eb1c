"""What an answer means, event by event: which picture a stage belongs to, what is a repeat, what is still missing.

Sources: contract openai-images §3.1 (JSON body), §3.2 (events), §3.3 (usage). Only the type and the picture itself
are counted on; every other field may be absent.

The API does not say to which of several pictures a streamed event belongs. Finals are numbered as they come, and a
partial image goes to the first unfinished picture that has no stage with that number yet; that is right for pictures
sent one after the other and for pictures that take turns. A picture that is broken, or that cannot be fetched, keeps
its number and costs none of the others: the failure is raised at the end, if a picture is missing then.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeAlias

from pydantic import JsonValue

from providers.contract import (
    Effective,
    FinalImage,
    Notice,
    PartialImage,
    Progress,
    ProgressOrigin,
    ProviderEvent,
    Usage,
)
from providers.errors import (
    BadResponseError,
    ProviderError,
    ResultUnavailableError,
    Transport,
    TruncatedError,
)
from providers.links import LinkFetcher
from providers.openai_images.errors import failure_in_answer
from providers.openai_images.request import OpenAIImagesRequest
from providers.openai_images.stream import LARGE, StreamEvent
from providers.pictures import CutPictureError, NotAPictureError, decode_picture
from providers.speaker import Speaker

JsonObject: TypeAlias = dict[str, JsonValue]
Fingerprint: TypeAlias = tuple[int, int]
"""Enough to see that a picture came twice in one answer; a third of the time of a digest."""

_SAID_AGAIN = ("size", "quality", "output_format", "background")
"""Parameters that the answer repeats, with what was made of them."""


class Answer:
    """One answer while it arrives. `failure` is the first thing that went wrong with it."""

    def __init__(
        self,
        *,
        request: OpenAIImagesRequest,
        model: str | None,
        speaker: Speaker,
        links: LinkFetcher,
    ) -> None:
        self.expected = request.n or 1
        """How many pictures were asked for."""
        self._partials = request.partial_images or 0
        self._asked = {name: value for name in _SAID_AGAIN if (value := _decided(getattr(request, name))) is not None}
        self._model = model
        self._speaker = speaker
        self._links = links
        self.failure: ProviderError | None = None
        self._stages: dict[int, set[int]] = {}
        self._seen_stages: set[Fingerprint] = set()
        self._here: set[int] = set()
        """The numbers of the final pictures that arrived."""
        self._numbered = 0
        """How many numbers were given away, those of pictures that are missing included."""
        self._vacant: list[int] = []
        """The numbers of pictures that are broken, for any that come beyond the number asked for."""
        self._later: list[tuple[int, JsonObject, JsonObject]] = []
        """Pictures whose link did not work at first: number, item, and what stands around it."""
        self._seen_finals: set[Fingerprint] = set()
        self._finished = False
        """A final picture was announced, whether or not it could be read: it will be billed."""

    @property
    def complete(self) -> bool:
        """Whether every picture that was asked for has arrived."""
        return len(self._here) >= self.expected

    @property
    def billed(self) -> bool | None:
        """True once a final picture was announced, until then nobody can know."""
        return True if self._finished else None

    def truncated(self, why: str) -> TruncatedError:
        """The error for an answer that ends here."""
        stages = sum(map(len, self._stages.values()))
        return TruncatedError(
            f"The answer of {self._speaker.host} {why} with {len(self._here)} of {self.expected} final pictures and "
            f"{stages} partial images. The request may have been billed; it was not sent again.",
            transport=Transport.ACCEPTED,
            billed=self.billed,
        )

    def bad(self, what: str) -> BadResponseError:
        """The error for an answer that is not what the API promises."""
        return BadResponseError(
            f"The answer of {self._speaker.host} {what}.",
            transport=Transport.ACCEPTED,
            billed=self.billed,
        )

    def fail(self, exc: ProviderError) -> None:
        """Remember what went wrong; only the first counts."""
        self.failure = self.failure or exc

    async def of_event(self, event: StreamEvent) -> AsyncGenerator[ProviderEvent, None]:
        """What one event of a stream means; nothing, where it is of a type this API did not have."""
        data = event.data
        type_ = data.get("type")
        name = type_ if isinstance(type_, str) else event.name
        unnamed = not name and ("b64_json" in data or "url" in data)
        if event.broken is not None:
            for told in self._unreadable(event.broken, name):
                yield told
        elif data.get("error") or name in ("error", "image_generation.failed"):
            raise self._failure(data)
        elif name.endswith(".partial_image") or (unnamed and "partial_image_index" in data):
            for told in await self._partial(data):
                yield told
        elif name.endswith(".completed") or unnamed:
            finished = await self._final(data, data)
            for told in [*(finished or ()), *(self._usage(data) if finished is not None else ())]:
                yield told
        elif isinstance(data.get("data"), list):  # the JSON body, in an event
            async with aclosing(self.of_body(data)) as body:
                async for told in body:
                    yield told

    async def of_body(self, body: JsonObject) -> AsyncGenerator[ProviderEvent, None]:
        """What a JSON body means."""
        items = body.get("data")
        if not isinstance(items, list) or not items:
            if body.get("error") or body.get("status") == "failure":
                raise self._failure(body)
            raise self.bad("holds no picture: its `data` is missing or empty")
        for item in items:
            for told in await self._final(item if isinstance(item, dict) else {}, body) or ():
                yield told
        for told in self._usage(body):
            yield told

    async def rest(self) -> AsyncGenerator[ProviderEvent, None]:
        """What is left to do once everything was said: the links that did not work at first, now with patience.

        Raises the first failure if a picture is missing then.
        """
        for number, item, about in self._later:
            try:
                picture, fingerprint = await self._picture(item, patient=True)
            except ResultUnavailableError as exc:
                self.fail(exc)
                continue
            if self._is_new(fingerprint):
                for told in self._arrived(number, picture, item, about):
                    yield told
        if self.failure is not None and not self.complete:
            raise self.failure

    def fewer(self) -> Notice:
        """That fewer pictures came than were asked for."""
        return Notice(f"{self.expected} pictures were asked for and {len(self._here)} came.", parameter="n")

    def _unreadable(self, exc: BadResponseError, name: str) -> list[ProviderEvent]:
        if name.endswith(".partial_image"):
            return [_stage_lost(exc)]
        self._finished = self._finished or name.endswith(".completed")
        exc.billed = self.billed
        self.fail(exc)
        return []

    async def _partial(self, data: JsonObject) -> list[ProviderEvent]:
        if self._numbered >= self.expected:
            return []  # a stage of a picture that is finished
        try:
            picture, fingerprint = await self._picture(data, patient=False)
        except (BadResponseError, TruncatedError, ResultUnavailableError) as exc:
            return [_stage_lost(exc)]
        place = self._place(data.get("partial_image_index"), fingerprint)
        if place is None:
            return []
        told: list[ProviderEvent] = [PartialImage(*place, picture)]
        if self._partials:
            told.append(self._progress(f"partial image {len(self._stages[place[0]])} of {self._partials}"))
        return told

    def _place(self, claimed: JsonValue, fingerprint: Fingerprint) -> tuple[int, int] | None:
        """The picture and the number of a stage, or None for one that was here before."""
        if fingerprint in self._seen_stages:
            return None
        self._seen_stages.add(fingerprint)
        number = claimed if isinstance(claimed, int) and not isinstance(claimed, bool) and claimed >= 0 else None
        for picture in range(self._numbered, self.expected):
            stages = self._stages.setdefault(picture, set())
            index = len(stages) if number is None else number
            if index not in stages:
                stages.add(index)
                return picture, index
        stages = self._stages[self._numbered]  # another stage under a number that was used: it comes after the others
        stages.add(max(stages) + 1)
        return self._numbered, max(stages)

    async def _final(self, item: JsonObject, about: JsonObject) -> list[ProviderEvent] | None:
        """A finished picture; nothing of one that cannot be had, or not yet, and None for one that was here before."""
        self._finished = True
        try:
            picture, fingerprint = await self._picture(item, patient=False)
        except (BadResponseError, TruncatedError, ResultUnavailableError) as exc:
            text = _text(item.get("b64_json")) or _text(item.get("url"))
            if text is not None and not self._is_new((len(text), hash(text))):
                return None
            if isinstance(exc, ResultUnavailableError):
                self._later.append((self._numbered, item, about))
            else:
                self._vacant.append(self._numbered)
                self.fail(exc)
            self._numbered += 1
            return []
        if not self._is_new(fingerprint):
            return None
        return self._arrived(self._number(), picture, item, about)

    def _number(self) -> int:
        """The number of the next picture: beyond those asked for, that of one that is missing."""
        if self._numbered >= self.expected and self._vacant:
            return self._vacant.pop(0)
        if self._numbered >= self.expected and self._later:
            return self._later.pop(0)[0]
        self._numbered += 1
        return self._numbered - 1

    def _is_new(self, fingerprint: Fingerprint) -> bool:
        new = fingerprint not in self._seen_finals
        self._seen_finals.add(fingerprint)
        return new

    def _arrived(self, number: int, picture: bytes, item: JsonObject, about: JsonObject) -> list[ProviderEvent]:
        effective = Effective(
            model=self._model or _text(about.get("model")),
            revised_prompt=_text(item.get("revised_prompt")),
            size=_decided(about.get("size")),
            quality=_decided(about.get("quality")),
            output_format=_decided(about.get("output_format")),
            background=_decided(about.get("background")),
        )
        told: list[ProviderEvent] = [FinalImage(number, picture, effective), *self._substituted(effective)]
        self._here.add(number)
        if len(self._here) > self.expected:
            told.append(Notice(f"{self.expected} pictures were asked for and more came.", parameter="n"))
        elif not self.complete:
            told.append(self._progress(f"picture {len(self._here)} of {self.expected}"))
        return told

    def _substituted(self, effective: Effective) -> list[Notice]:
        """What was made otherwise than asked for; each parameter is mentioned once."""
        notices = []
        for name, asked in list(self._asked.items()):
            made = getattr(effective, name)
            if made is not None and made != asked:
                del self._asked[name]
                notices.append(Notice(f"{name} {asked} was asked for, and the picture has {made}.", parameter=name))
        return notices

    def _progress(self, message: str) -> Progress:
        """Every picture counts as its stages and one more step, every stage alike; the API reports no progress."""
        steps = self._partials + 1
        done = len(self._here) * steps
        done += sum(
            min(len(stages), self._partials) for picture, stages in self._stages.items() if picture not in self._here
        )
        return Progress(min(1, done / (steps * self.expected)), ProgressOrigin.ESTIMATED, message)

    def _usage(self, about: JsonObject) -> list[ProviderEvent]:
        usage = about.get("usage")
        if not isinstance(usage, dict) or not usage:
            return []
        input_, output, total = (_count(usage.get(f"{kind}_tokens")) for kind in ("input", "output", "total"))
        return [Usage(input_, output, total, usage)]

    async def _picture(self, item: JsonObject, *, patient: bool) -> tuple[bytes, Fingerprint]:
        """The file and its fingerprint; a link is tried once, or with patience."""
        text, url = _text(item.get("b64_json")), _text(item.get("url"))
        if text is None and url is not None and url.startswith("data:"):
            text = url
        if text is not None:
            try:
                return await asyncio.to_thread(_decoded, text) if len(text) > LARGE else _decoded(text)
            except CutPictureError as exc:
                raise TruncatedError(
                    f"The answer of {self._speaker.host} holds a picture that is cut off ({exc}). The request may have "
                    "been billed; it was not sent again.",
                    transport=Transport.ACCEPTED,
                    billed=self.billed,
                ) from exc
            except NotAPictureError as exc:
                raise self.bad(f"holds a picture that cannot be read: {exc}") from exc
        if url is not None:
            data = await self._links.fetch(url, patient=patient)
            return data, await asyncio.to_thread(_fingerprint, data)
        raise self.bad("has a place for a picture, and neither b64_json nor url in it")

    def _failure(self, payload: JsonObject) -> ProviderError:
        return failure_in_answer(payload, self._speaker, billed=self.billed)


def _stage_lost(exc: ProviderError) -> Notice:
    return Notice(f"A partial image could not be used: {exc.message}", parameter="partial_images")


def _decoded(text: str) -> tuple[bytes, Fingerprint]:
    data = decode_picture(text)
    return data, _fingerprint(data)


def _fingerprint(data: bytes) -> Fingerprint:
    return len(data), hash(data)


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value else None


def _decided(value: JsonValue) -> str | None:
    """`auto` is what was asked for, not what was made of it."""
    return None if value == "auto" else _text(value)


def _count(value: JsonValue) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None

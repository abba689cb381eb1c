"""Watching one generation until it is over: look, tell what is new, wait a little longer, look again.

Statuses: contract all-images §5. The waits grow from 5 to 15 seconds by default; a hint from a webhook cuts one short.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator

from providers.all_images.answer import Generation, Status
from providers.all_images.api import Api
from providers.all_images.hints import Hints
from providers.all_images.pictures import Pictures
from providers.all_images.request import AllImagesRequest
from providers.all_images.settings import AllImagesSettings
from providers.contract import Progress, ProgressOrigin, ProviderEvent
from providers.errors import (
    BadResponseError,
    ProviderError,
    ResultUnavailableError,
    TimedOutError,
    Transport,
    UnavailableError,
)

EXPECTED = 4
"""Pictures per generation (contract all-images §2.1)."""

_GROWTH = 1.5
_BELIEVED_AFTER = 3
"""An answer that may only be early (an unknown id, an old failure, done without pictures) is believed when it has
been given this many times in a row."""
_CALM_SECONDS = 1.0
"""The least between two looks, however many hints there are; less where polling itself is quicker."""


class Watch:
    """One generation while it is watched."""

    def __init__(
        self,
        generation_id: str,
        request: AllImagesRequest,
        *,
        api: Api,
        pictures: Pictures,
        settings: AllImagesSettings,
        retried: bool = False,
    ) -> None:
        self._id = generation_id
        self._request = request
        self._api = api
        self._pictures = pictures
        self._settings = settings
        self._retried = retried
        self._state = "not seen yet"
        self._doubts = 0
        self._looked = 0.0

    async def events(self, hints: Hints) -> AsyncGenerator[ProviderEvent, None]:
        """What happens until every picture is here; raises what went wrong. The generation exists, so whatever is
        raised says that the vendor has it, and that nobody can tell what it bills.
        """
        loop = asyncio.get_running_loop()
        relaxed = self._request.process_mode == "relax"
        seconds = self._settings.relax_deadline_seconds if relaxed else self._settings.deadline_seconds
        until = loop.time() + seconds
        wait = self._settings.poll_first_seconds
        longest = max(wait, self._settings.poll_longest_seconds)
        while True:
            await self._wait(hints, min(wait * random.uniform(0.8, 1.0), max(0.0, until - loop.time())))
            wait = min(longest, wait * _GROWTH)
            generation = await self._look(until - loop.time())
            if generation is not None:
                for progress in self._progress(generation):
                    yield progress
                for picture in self._pictures.new(generation):
                    event = await self._pictures.event(picture, self._request, generation)
                    if event is not None:
                        for each in event:
                            yield each
            if self._over(generation):
                self._pictures.complain()
                return
            if loop.time() >= until:
                raise self._given_up(seconds)

    async def _wait(self, hints: Hints, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if await hints.wait(seconds):
            calm = min(_CALM_SECONDS, self._settings.poll_first_seconds)
            await asyncio.sleep(max(0.0, self._looked + calm - loop.time()))
        self._looked = loop.time()

    async def _look(self, seconds: float) -> Generation | None:
        try:
            return await self._api.read(self._id, seconds=seconds)
        except ProviderError as exc:
            exc.transport, exc.billed = Transport.ACCEPTED, None
            raise

    def _progress(self, generation: Generation) -> list[Progress]:
        """A new state is the vendor's own word; how much of the work that is, is an estimate by the pictures."""
        told = []
        if generation.state != self._state:
            self._state = generation.state
            told.append(Progress(None, ProgressOrigin.REPORTED, generation.state))
        count = len(generation.pictures)
        if self._pictures.more(count) and count < EXPECTED:
            told.append(
                Progress(count / EXPECTED, ProgressOrigin.ESTIMATED, f"{count} of {EXPECTED} pictures are there")
            )
        return told

    def _over(self, generation: Generation | None) -> bool:
        """Whether everything is here. Raises when there is nothing more to wait for."""
        if generation is None:
            return self._believe(self._gone())
        if generation.status == Status.ERROR:
            if not self._retried:
                raise self._failed()
            return self._believe(self._failed())
        self._retried = False  # it has left the failure it was retried from
        if generation.status != Status.DONE:
            self._doubts = 0
            return False
        if not self._pictures.listed:
            return self._believe(self._empty())
        return not self._pictures.missing or self._doubted()

    def _believe(self, error: ProviderError) -> bool:
        if self._doubted():
            raise error
        return False

    def _doubted(self) -> bool:
        self._doubts += 1
        return self._doubts >= _BELIEVED_AFTER

    def _failed(self) -> ProviderError:
        return UnavailableError(
            f"All-Images.ai reports that generation {self._id} failed, and it never says why. A description its safety "
            "rules refuse is the usual reason: change the prompt, then retry the generation or start a new one. "
            "Whether the failed attempt was billed is not documented.",
            transport=Transport.ACCEPTED,
            vendor_code=str(int(Status.ERROR)),
        )

    def _gone(self) -> ProviderError:
        return ResultUnavailableError(
            f"All-Images.ai does not know generation {self._id} any more: it was probably deleted there.",
            transport=Transport.ACCEPTED,
        )

    def _empty(self) -> ProviderError:
        return BadResponseError(
            f"All-Images.ai says that generation {self._id} is done, but lists no picture of it.",
            transport=Transport.ACCEPTED,
        )

    def _given_up(self, seconds: float) -> ProviderError:
        return TimedOutError(
            f"Generation {self._id} was not done after {seconds:g} seconds (last seen: {self._state}), and is not "
            "watched any more. All-Images.ai may still finish and bill it: look at its own list.",
            transport=Transport.ACCEPTED,
        )

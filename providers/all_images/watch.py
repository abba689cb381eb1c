"""Watching one generation until it is over: look, tell what is new, wait a little longer, look again.

Statuses: contract all-images §5. The waits grow from 5 to 15 seconds by default; a hint from a webhook cuts one short.

The generation is paid for and a look is free, so no failed look ends it before the deadline, not even one that is
refused: a wrong key may be put right meanwhile. Only what the vendor says about the generation itself does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing

from providers.all_images.answer import Generation, Status
from providers.all_images.api import LONGEST_ASKED_SECONDS, Api
from providers.all_images.hints import Hints
from providers.all_images.pictures import Pictures
from providers.all_images.request import AllImagesRequest
from providers.all_images.settings import AllImagesSettings
from providers.contract import Notice, Progress, ProgressOrigin, ProviderEvent
from providers.errors import (
    BadResponseError,
    OutcomeUnknownError,
    ProviderError,
    RateLimitedError,
    ResultUnavailableError,
    TimedOutError,
    Transport,
    UnavailableError,
)

EXPECTED = 4
"""Pictures per generation (contract all-images §2.1)."""

_GROWTH = 1.5
_BELIEVED_AFTER = 3
"""An answer that may only be early or odd (an unknown id, an old failure, done without pictures) is believed when it
has been given this many times in a row; all but the old failure also for `doubt_seconds`, because a vendor that is
just being updated answers oddly for minutes."""
_MOST_NOTICES = 5
_MENDS_BY_ITSELF = (UnavailableError, TimedOutError, RateLimitedError, OutcomeUnknownError)
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
        self._doubted_since = 0.0
        self._looked = 0.0
        self._not_before = 0.0
        self._until = 0.0
        self._problem: ProviderError | None = None
        self._told: set[str] = set()

    async def events(self, hints: Hints) -> AsyncGenerator[ProviderEvent, None]:
        """What happens until every picture is here; raises what went wrong. The generation exists, so whatever is
        raised says that the vendor has it, and that nobody can tell what it bills.
        """
        loop = asyncio.get_running_loop()
        relaxed = self._request.process_mode == "relax"
        seconds = self._settings.relax_deadline_seconds if relaxed else self._settings.deadline_seconds
        self._until = until = loop.time() + seconds
        wait = self._settings.poll_first_seconds
        longest = max(wait, self._settings.poll_longest_seconds)
        while True:
            await self._wait(hints, min(wait * random.uniform(0.8, 1.0), max(0.0, until - loop.time())))
            wait = min(longest, wait * _GROWTH)
            try:
                generation = await self._api.read(self._id, seconds=until - loop.time())
            except ProviderError as exc:
                for notice in self._not_seen(exc):
                    yield notice
            else:
                self._problem = None
                async with aclosing(self._news(generation)) as news:
                    async for event in news:
                        yield event
                if self._over(generation):
                    self._pictures.complain()
                    return
            if loop.time() >= until:
                raise self._given_up(seconds) from self._problem

    async def _wait(self, hints: Hints, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        earliest = min(self._not_before, self._until)
        if await hints.wait(seconds):
            earliest = max(earliest, self._looked + min(_CALM_SECONDS, self._settings.poll_first_seconds))
        await asyncio.sleep(max(0.0, earliest - loop.time()))
        self._looked = loop.time()

    def _not_seen(self, problem: ProviderError) -> list[Notice]:
        """A look that failed: it is taken again later. What somebody may have to mend is told, each thing once."""
        self._problem = problem
        asked = min(problem.retry_after or 0.0, LONGEST_ASKED_SECONDS)
        self._not_before = asyncio.get_running_loop().time() + asked
        known = problem.message in self._told or len(self._told) >= _MOST_NOTICES
        if known or isinstance(problem, _MENDS_BY_ITSELF):
            return []
        self._told.add(problem.message)
        return [
            Notice(
                f"The generation was accepted, but cannot be looked at: {_sentence(problem)} It is looked at again "
                "until its deadline."
            )
        ]

    async def _news(self, generation: Generation | None) -> AsyncGenerator[ProviderEvent, None]:
        """What was not known before this look."""
        if generation is None:
            return
        for progress in self._progress(generation):
            yield progress
        for picture in self._pictures.new(generation):
            for event in await self._pictures.event(picture, self._request, generation) or ():
                yield event

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
            return self._believe(self._failed(), seconds=0)
        self._retried = False  # it has left the failure it was retried from
        if generation.status != Status.DONE:
            self._doubts = 0
            return False
        if not self._pictures.listed:
            return self._believe(self._empty())
        return not self._pictures.missing or self._doubted()

    def _believe(self, error: ProviderError, *, seconds: float | None = None) -> bool:
        if self._doubted(seconds):
            raise error
        self._problem = error
        return False

    def _doubted(self, seconds: float | None = None) -> bool:
        """Whether it has been doubted often, and for `seconds`, or until the deadline."""
        now = asyncio.get_running_loop().time()
        if self._doubts == 0:
            self._doubted_since = now
        self._doubts += 1
        seconds = self._settings.doubt_seconds if seconds is None else seconds
        return self._doubts >= _BELIEVED_AFTER and now >= min(self._doubted_since + seconds, self._until)

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
        problem = self._problem
        why = "" if problem is None else f" The last look at it came to nothing: {_sentence(problem)}"
        return TimedOutError(
            f"Generation {self._id} was not done after {seconds:g} seconds (last seen: {self._state}), and is not "
            f"watched any more.{why} All-Images.ai may still finish and bill it: look at its own list.",
            transport=Transport.ACCEPTED,
            status=None if problem is None else problem.status,
            vendor_message=None if problem is None else problem.vendor_message,
        )


def _sentence(problem: ProviderError) -> str:
    return f"{problem.message.rstrip('.')}."

"""Speaks the All-Images.ai API over httpx: create once, then poll; webhooks only make the next look come sooner.

The creation is sent once, with the task's id in `metaData` and in a tag. When its answer is lost, the generation is
looked for by these before anything else happens, and it is never created again (contract all-images §4).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TypeVar

import httpx
from pydantic import JsonValue
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    retry_if_result,
    stop_before_delay,
    wait_exponential,
)

from providers.all_images.answer import Generation, JsonObject, Status
from providers.all_images.api import Api
from providers.all_images.errors import is_passing
from providers.all_images.hints import Hints, subscribe, unsubscribe
from providers.all_images.pictures import Pictures
from providers.all_images.request import AllImagesRequest
from providers.all_images.rules import reference_tag
from providers.all_images.settings import PREFIX, AllImagesSettings
from providers.all_images.watch import EXPECTED, Watch
from providers.contract import (
    Accepted,
    Callback,
    CancelOutcome,
    Capabilities,
    Credit,
    Health,
    Notice,
    ProviderEvent,
    Submission,
)
from providers.errors import (
    BadResponseError,
    OutcomeUnknownError,
    ProviderError,
    ResultUnavailableError,
    Transport,
    UnavailableError,
)
from providers.http import is_loopback
from providers.links import LinkFetcher, LinkLimits

log = logging.getLogger(__name__)

T = TypeVar("T")

_PAGES = 5
"""How many pages of the vendor's list are searched, should it ignore the filter by tag."""
_HEALTH_SECONDS = 10.0
_CANCEL_SECONDS = 5.0
"""How long somebody who cancels waits to hear whether it was too late."""
_STYLIZE_IN_PROSE = 100


class AllImages:
    """An account at All-Images.ai, or the sandbox. See `providers.contract`: `Provider`, `Purchasing`, `Retrying`
    and `Deleting`.
    """

    capabilities = Capabilities(
        max_images=EXPECTED,
        max_partial_images=0,
        resumable=True,
        findable=True,
        cancellable=False,
        delivers_images=True,
        reports_usage=False,
        reports_cost=False,
    )

    def __init__(self, settings: AllImagesSettings, *, base_url: str, sandbox: bool) -> None:
        self.sandbox = sandbox
        self.limits = settings.limits
        self._settings = settings
        self._api = Api(settings, base_url, sandbox=sandbox)
        self._links = LinkFetcher(
            LinkLimits(max_bytes=settings.link_max_bytes, seconds=settings.link_timeout_seconds),
            allow_private=settings.allow_private_links,
            allow_loopback=sandbox or is_loopback(httpx.URL(base_url).host),
            private_setting=f"{PREFIX}ALLOW_PRIVATE_LINKS",
        )

    async def run(
        self,
        request: AllImagesRequest,
        *,
        reference: str,
        resume: Submission | None = None,
        callback: Callback | None = None,
        known: Mapping[str, int] | None = None,
    ) -> AsyncGenerator[ProviderEvent, None]:
        """Creates the generation once, unless there is one to `resume`, and watches it until its pictures are here."""
        callback = callback if self._settings.webhooks else None
        earlier = None if resume is None else _text(resume.state.get("webhook"))
        # Before the creation, so that its id is part of the submission and survives a crash of this server.
        webhook = await subscribe(self._api, callback) if callback is not None else None
        try:
            submission = resume
            if submission is None:
                submission = await self._create(request, reference, webhook)
                yield Accepted(submission)
                for notice in _notices(request):
                    yield notice
            if submission.id is None:
                raise OutcomeUnknownError(
                    "The id of this generation was never known, so it cannot be watched again.",
                    transport=Transport.ACCEPTED,
                )
            hints = Hints()
            watch = Watch(
                submission.id,
                request,
                api=self._api,
                pictures=Pictures(
                    self._api, self._links, download_seconds=self._settings.download_seconds, known=known or {}
                ),
                settings=self._settings,
                retried=submission.state.get("retried") is True,
            )
            async with (
                hints.listening(callback, submission.id),
                aclosing(watch.events(hints)) as events,
            ):
                async for event in events:
                    yield event
        finally:
            await unsubscribe(self._api, webhook)
            await unsubscribe(self._api, earlier)

    async def find(self, reference: str) -> Submission | None:
        """The generation made for the task `reference`, or None. Looks more than once, because the list may lag.

        Raises OutcomeUnknownError while the vendor cannot be asked.
        """
        try:
            return await self._look_up(reference)
        except ProviderError as exc:
            raise OutcomeUnknownError(
                f"Whether the request arrived could not be found out: {exc.message}",
                transport=Transport.PERHAPS_SENT,
                status=exc.status,
                vendor_message=exc.vendor_message,
            ) from exc

    async def cancel(self, submission: Submission) -> CancelOutcome:
        """The vendor documents no way to stop, so this only looks whether it is over. Nothing is deleted there: that
        would stop no bill, and would lose the pictures it is for.
        """
        if submission.id is None:
            return CancelOutcome.ABANDONED
        try:
            async with asyncio.timeout(_CANCEL_SECONDS):
                generation = await self._api.read(submission.id, seconds=0)
        except (ProviderError, TimeoutError):
            return CancelOutcome.ABANDONED
        over = generation is not None and generation.status in (Status.DONE, Status.ERROR)
        return CancelOutcome.TOO_LATE if over else CancelOutcome.ABANDONED

    async def health(self) -> Health | None:
        """Whether the key is valid, and the credits that are left. Asks nothing else and changes nothing."""
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await self._api.check_key()
                listed = await self._api.credits()
        except ProviderError as exc:
            return Health(usable=False, message=exc.message)
        except TimeoutError:
            host = self._api.speaker.host
            return Health(usable=False, message=f"{host} did not answer within {_HEALTH_SECONDS:g} seconds.")
        credits = tuple(credit for credit in map(_credit, listed) if credit is not None)
        if credits and all(credit.left is not None and credit.left <= 0 for credit in credits):
            return Health(
                True, "The account answers, but has no credits left: pictures come as previews only.", credits
            )
        return Health(True, "The account answers.", credits)

    async def purchase(self, provider_image_id: str) -> bytes:
        """Buy a picture and return its file. Debited once however often it is asked for, so a lost answer is asked
        for again (contract all-images §1).
        """
        try:
            return await self._api.download(provider_image_id, seconds=self._settings.download_seconds)
        except ProviderError as exc:
            if exc.status != self._settings.unknown_id_status:
                raise
            raise ResultUnavailableError(
                f"All-Images.ai does not know picture {provider_image_id} any more: it was probably deleted there.",
                transport=Transport.ACCEPTED,
                billed=False,
                status=exc.status,
                vendor_message=exc.vendor_message,
            ) from exc

    async def retry(self, submission: Submission, request: AllImagesRequest) -> Submission:
        """Change a failed generation to `request` and have the vendor try it again, in place. That may pay, and is
        sent once; the vendor refuses it for a generation that has not failed.
        """
        generation_id = _known(submission)
        await self._api.update(generation_id, request.replacement(_text(submission.state.get("reference"))))
        retried = Submission(submission.id, submission.request_id, {**submission.state, "retried": True})
        try:
            await self._api.retry(generation_id)
        except ProviderError as exc:
            if exc.transport is not Transport.PERHAPS_SENT or not await self._left_its_failure(generation_id):
                raise
        return retried

    async def delete(self, submission: Submission) -> None:
        """Delete a generation and see that it is gone; the vendor's answer to a deletion says nothing."""
        generation_id = _known(submission)
        await self._api.delete(generation_id)

        async def gone() -> bool | None:
            return True if await self._api.read(generation_id, seconds=0) is None else None

        if not await self._repeatedly(gone):
            raise UnavailableError(
                f"All-Images.ai took the deletion of generation {generation_id}, but still has it.",
                transport=Transport.ACCEPTED,
            )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._api.aclose()

    async def _create(self, request: AllImagesRequest, reference: str, webhook: str | None) -> Submission:
        try:
            generation = await self._api.create(request.body(reference))
            if generation.id is None:
                raise BadResponseError(
                    f"The answer of {self._api.speaker.host} has no id, and without one there is nothing to watch.",
                    transport=Transport.ACCEPTED,
                )
        except ProviderError as exc:
            if exc.billed is False:
                raise  # it never arrived, or was refused
            log.warning("the creation for task %s got no clear answer (%s); looking for it", reference, exc.code)
            found = await self._after_a_lost_answer(reference, exc)
        else:
            found = _submission(generation, reference)
        return found if webhook is None else Submission(found.id, None, {**found.state, "webhook": webhook})

    async def _after_a_lost_answer(self, reference: str, lost: ProviderError) -> Submission:
        """The generation whose creation got no answer; `lost` where it cannot be found."""
        try:
            found = await self._look_up(reference)
        except ProviderError as exc:
            log.warning("task %s could not be looked for: %s", reference, exc.message)
            found = None
        if found is None:
            raise lost
        return found

    async def _look_up(self, reference: str) -> Submission | None:
        async def once() -> Submission | None:
            for page in range(_PAGES):
                limit = self._settings.list_limit
                listed = await self._api.tagged(reference_tag(reference), limit=limit, offset=page * limit)
                for generation in listed:
                    if generation.id is not None and generation.is_of(reference):
                        return _submission(generation, reference)
                if len(listed) < limit:
                    return None
            return None

        return await self._repeatedly(once)

    async def _left_its_failure(self, generation_id: str) -> bool:
        async def once() -> bool | None:
            generation = await self._api.read(generation_id, seconds=0)
            return True if generation is not None and generation.status != Status.ERROR else None

        return bool(await self._repeatedly(once))

    async def _repeatedly(self, call: Callable[[], Awaitable[T | None]]) -> T | None:
        """`call` until it has found something, for as long as looking is set to take."""

        def last(state: RetryCallState) -> T | None:
            found: T | None = state.outcome.result() if state.outcome is not None else None
            return found

        retrying = AsyncRetrying(
            retry=retry_if_result(lambda found: found is None) | retry_if_exception(is_passing),
            wait=wait_exponential(multiplier=self._settings.poll_first_seconds / 10, max=2),
            stop=stop_before_delay(self._settings.lookup_seconds),
            retry_error_callback=last,
        )

        async def attempt() -> T | None:
            return await call()

        return await retrying(attempt)


def _submission(generation: Generation, reference: str) -> Submission:
    return Submission(id=generation.id, state={"reference": reference})


def _notices(request: AllImagesRequest) -> list[Notice]:
    if request.stylize is None or request.stylize <= _STYLIZE_IN_PROSE:
        return []
    message = (
        f"stylize is {request.stylize}. All-Images.ai documents 0–{_STYLIZE_IN_PROSE} in its text and 0–1000 in its "
        "code; it was sent as it is."
    )
    return [Notice(message, "stylize")]


def _credit(listed: JsonObject) -> Credit | None:
    """One kind of credit; None for an entry that says nothing."""
    kind = _text(listed.get("type")) or "credits"
    if listed.get("unlimited") is True:
        return Credit(kind, None)
    left = _number(listed.get("credit"))
    return None if left is None else Credit(kind, left, _number(listed.get("creditTotal")))


def _known(submission: Submission) -> str:
    if submission.id is None:
        raise OutcomeUnknownError(
            "The id of this generation at All-Images.ai was never known.", transport=Transport.PERHAPS_SENT
        )
    return submission.id


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: JsonValue) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

"""Speaks Tiny's API: one POST, and the picture is the answer; a DELETE stops it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

import httpx

from providers.contract import (
    Accepted,
    Callback,
    CancelOutcome,
    Capabilities,
    FinalImage,
    Health,
    ProviderEvent,
    Submission,
)
from providers.errors import OutcomeUnknownError, Transport, TruncatedError, UnavailableError
from providers.http import async_client
from tests.providers.tiny.request import TinyRequest
from tests.providers.tiny.settings import TinySettings


class Tiny:
    """One account at Tiny; there are only sandbox accounts."""

    sandbox = True
    capabilities = Capabilities(
        max_images=1,
        max_partial_images=0,
        resumable=False,
        findable=False,
        cancellable=True,
        delivers_images=True,
        reports_usage=False,
        reports_cost=False,
    )

    def __init__(self, base_url: str) -> None:
        self.limits = TinySettings().limits
        self._url = f"{base_url}/paint"
        self._client = async_client(connect_seconds=5, read_seconds=60)

    async def run(
        self,
        request: TinyRequest,
        *,
        reference: str,
        resume: Submission | None = None,
        callback: Callback | None = None,
        known: Mapping[str, int] | None = None,
    ) -> AsyncGenerator[ProviderEvent, None]:
        if resume is not None:
            raise OutcomeUnknownError("Tiny forgets at once.", transport=Transport.ACCEPTED)
        body = {**request.model_dump(mode="json"), "reference": reference}
        transport = Transport.PERHAPS_SENT
        try:
            async with self._client.stream("POST", self._url, json=body) as response:
                if response.status_code != 200:
                    raise UnavailableError("Tiny is not well.", transport=Transport.ACCEPTED, billed=False)
                transport = Transport.ACCEPTED
                yield Accepted(Submission(id=response.headers["X-Painting"]))
                picture = await response.aread()
        except httpx.ConnectError as exc:
            raise UnavailableError("Tiny is not there.", transport=Transport.NOT_SENT, billed=False) from exc
        except httpx.HTTPError as exc:
            raise OutcomeUnknownError("Tiny did not answer.", transport=transport) from exc
        if not picture:
            raise TruncatedError("Tiny was stopped before it was done.", transport=Transport.ACCEPTED)
        yield FinalImage(0, picture)

    async def find(self, reference: str) -> Submission | None:
        return None

    async def cancel(self, submission: Submission) -> CancelOutcome:
        try:
            response = await self._client.delete(f"{self._url}/{submission.id}")
        except httpx.HTTPError:
            return CancelOutcome.ABANDONED
        return CancelOutcome.STOPPED if response.is_success else CancelOutcome.TOO_LATE

    async def health(self) -> Health | None:
        return None

    async def aclose(self) -> None:
        await self._client.aclose()

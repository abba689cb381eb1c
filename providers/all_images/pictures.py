"""Fetching the pictures of a generation: the preview, the picture itself where it is free, or bought.

A picture is bought only where the request says so. If that fails the preview is delivered with a notice, so that
nothing which was made is lost; it can be bought later.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

from providers.all_images.answer import Generation, Picture
from providers.all_images.api import Api
from providers.all_images.request import AllImagesRequest
from providers.contract import Effective, FinalImage, Notice, ProviderEvent
from providers.errors import ProviderError, ResultUnavailableError
from providers.links import LinkFetcher


class Pictures:
    """The pictures of one generation, numbered in the order in which they are first listed.

    `known` are those an earlier run delivered, by their ids, with their numbers: they keep them, however the vendor
    lists them now, and are neither fetched nor bought again.
    """

    def __init__(self, api: Api, links: LinkFetcher, *, download_seconds: float, known: Mapping[str, int]) -> None:
        self._api = api
        self._links = links
        self._download_seconds = download_seconds
        self._numbers: dict[str, int] = dict(known)
        self._here: set[str] = set(known)
        self._listed = False
        self._failures: dict[str, ProviderError] = {}
        self._most = 0

    @property
    def listed(self) -> bool:
        """Whether any picture has been listed."""
        return self._listed

    @property
    def missing(self) -> bool:
        """Whether a picture is known that could not be fetched so far."""
        return len(self._here) < len(self._numbers)

    def more(self, there: int) -> bool:
        """Whether that many pictures are more than there ever were."""
        grown = there > self._most
        self._most = max(self._most, there)
        return grown

    def new(self, generation: Generation) -> list[Picture]:
        """Those that are listed and not here yet."""
        found: dict[str, Picture] = {}
        for picture in generation.pictures:
            if picture.key is not None:
                self._listed = True
                self._give_number(picture.key)
                found.setdefault(picture.key, picture)
        return [picture for key, picture in found.items() if key not in self._here]

    def _give_number(self, key: str) -> None:
        if key not in self._numbers:
            taken = set(self._numbers.values())
            self._numbers[key] = next(number for number in count() if number not in taken)

    async def event(
        self, picture: Picture, request: AllImagesRequest, generation: Generation
    ) -> list[ProviderEvent] | None:
        """The picture, with a notice where it is not what was asked for; None while it cannot be fetched."""
        key = picture.key
        if key is None:
            return None
        told: list[ProviderEvent] = []
        try:
            data, preview = await self._fetched(picture, request, told)
        except ResultUnavailableError as exc:
            self._failures[key] = exc  # there may be another look
            return None
        self._here.add(key)
        self._failures.pop(key, None)
        revised = generation.prompt if generation.prompt != request.prompt else None
        final = FinalImage(
            index=self._numbers[key],
            data=data,
            effective=Effective(revised_prompt=revised),
            preview=preview,
            provider_image_id=picture.id,
        )
        return [*told, final]

    def complain(self) -> None:
        """Raise what kept a picture from being fetched, if one is missing in the end."""
        for failure in self._failures.values():
            raise failure

    async def _fetched(
        self, picture: Picture, request: AllImagesRequest, told: list[ProviderEvent]
    ) -> tuple[bytes, bool]:
        """The file, and whether it is only a preview."""
        if picture.free:
            url = picture.full_url or (self._api.picture_url(picture.id, "full") if picture.id else picture.url)
            return await self._links.fetch(url or ""), False
        if request.purchase and picture.id is not None:
            try:
                return await self._api.download(picture.id, seconds=self._download_seconds), False
            except ProviderError as exc:
                told.append(
                    Notice(
                        f"Picture {picture.id} could not be bought, so this is its preview; you can buy it later. "
                        f"{exc.message}",
                        "purchase",
                    )
                )
        url = picture.url or (self._api.picture_url(picture.id, "preview") if picture.id else None)
        return await self._links.fetch(url or ""), True

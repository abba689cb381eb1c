"""Pictures at the simulated vendor: previews for everybody, the rest for a credit (contract all-images §1, §3.3)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from pydantic import JsonValue
from starlette.responses import Response

from providers.all_images.simulator_life import is_free, iso, moment, stage_at, told
from providers.all_images.simulator_pictures import picture
from providers.all_images.simulator_prints import NAME, Asked, answer, page_of, reference_of
from providers.all_images.simulator_store import Print, Store
from providers.all_images.simulator_validation import Refusal
from providers.sandbox.ledger import Ledger

IMAGE_CREDIT = "f_images"


class Gallery:
    """The endpoints below `/images`."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        *,
        clock: Callable[[], float],
        default_format: str,
        unknown_id_status: int,
        limits: tuple[int, int],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._default_format = default_format
        self._unknown_id_status = unknown_id_status
        self._limits = limits

    async def search(self, asked: Asked) -> Response:
        """Finished pictures whose prompt has the words."""
        page = page_of(asked.body, self._limits)
        words = str(asked.body.get("search") or "").lower().split()
        only_free = asked.body.get("filterFree") is True
        found: list[JsonValue] = []
        for made in await self._store.all():
            prompt = str(made.body["prompt"]).lower()
            images = told(made, moment(made, stage_at(made, self._clock())), asked.home)["images"]
            for image in images if isinstance(images, list) and all(word in prompt for word in words) else []:
                if isinstance(image, dict) and (image["free"] or not only_free):
                    found.append(image)
        return answer({"filteredResults": len(found), "images": found[page]})

    async def buy(self, asked: Asked) -> Response:
        """Public links to a picture, for a credit the first time."""
        made, number = await self._finished(str(asked.body.get("id")))
        await self._debit(made, number)
        at = (await self._store.bought()).get(made.images[number], self._clock())
        return answer(_downloaded(made.images[number], at, asked.home))

    async def download(self, asked: Asked) -> Response:
        """A picture, for a credit the first time."""
        made, number = await self._finished(str(asked.body.get("id")))
        await self._debit(made, number)
        return await self._file(made, number, preview=False)

    async def downloaded(self, asked: Asked) -> Response:
        """What was bought, latest first."""
        page = page_of(asked.body, self._limits)
        after, before = (_time(asked.body, name) for name in ("afterCreatedAt", "beforeCreatedAt"))
        found = [
            _downloaded(image_id, at, asked.home)
            for image_id, at in (await self._store.bought()).items()
            if (after is None or at > after) and (before is None or at < before)
        ]
        return answer({"filteredResults": len(found), "images": found[page]})

    async def file(self, asked: Asked) -> Response:
        """A file by its link: a preview, or the full picture of a free or bought one."""
        if asked.path["format"] not in ("preview", "full"):
            raise Refusal(400, ["format must be one of the following values: preview, full"])
        made, number = await self._finished(asked.path["id"])
        if made.script.expired:
            raise Refusal(404, "Image not found")
        preview = asked.path["format"] == "preview"
        if not preview and not is_free(made, number) and made.images[number] not in await self._store.bought():
            raise Refusal(402, "Not enough credits.")
        return await self._file(made, number, preview=preview)

    async def _finished(self, image_id: str) -> tuple[Print, int]:
        found = await self._store.image(image_id)
        if found is not None:
            made, number = found
            if number < moment(made, stage_at(made, self._clock())).pictures:
                return made, number
        raise Refusal(self._unknown_id_status, "Image not found")

    async def _debit(self, made: Print, number: int) -> None:
        image_id = made.images[number]
        if is_free(made, number):
            return
        first = await self._store.buy(image_id, IMAGE_CREDIT, self._clock())
        if first is None:
            raise Refusal(402, "Not enough credits.")
        if first:
            await self._ledger.charge(
                provider=NAME, reference=reference_of(made), submission=f"image:{image_id}", images=1
            )

    async def _file(self, made: Print, number: int, *, preview: bool) -> Response:
        file = await picture(made, number, preview=preview, default_format=self._default_format)
        if made.script.truncate == number:
            file = file[: len(file) // 2]
        return Response(file, media_type="image/jpeg")


def _downloaded(image_id: str, at: float, home: str) -> JsonValue:
    return {
        "id": image_id,
        "url": f"{home}/images/preview/{image_id}.jpg",
        "urlFull": f"{home}/images/full/{image_id}.jpg",
        "urlUpscale": None,
        "urlUpscaleUHD": None,
        "downloadedAt": iso(at),
    }


def _time(body: dict[str, JsonValue], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError as exc:
        raise Refusal(400, [f"{name} must be a valid ISO 8601 date string"]) from exc

"""Generations at the simulated vendor: created, told, listed, changed, retried and deleted (contract all-images §1)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import orjson
from pydantic import JsonValue
from starlette.responses import Response

from providers.all_images.simulator_life import PICTURES, moment, stage_at, told
from providers.all_images.simulator_store import Print, Store, charged
from providers.all_images.simulator_validation import Refusal, Strictness, complaints
from providers.all_images.simulator_webhooks import Reporter
from providers.sandbox.ledger import Ledger
from providers.sandbox.script import Script

NAME = "all_images"
PRINT_CREDIT = "f_images_print"
_TAG = "darkroom:"
_PENDING, _PROCESSING, _ERROR = 1, 2, 4


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that may be looked at: `home` is the address that links to the vendor begin with."""

    body: dict[str, JsonValue]
    path: Mapping[str, str]
    query: Mapping[str, str]
    home: str
    script: Script
    key: str


def answer(value: JsonValue, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def reference_of(made: Print) -> str | None:
    """The customer's own name for a generation."""
    meta, tags = made.body.get("metaData"), made.body.get("tags")
    found = meta.get("darkroom_reference") if isinstance(meta, dict) else None
    if isinstance(found, str) and found:
        return found
    for tag in tags if isinstance(tags, list) else []:
        if isinstance(tag, str) and tag.startswith(_TAG):
            return tag.removeprefix(_TAG)
    return None


def page_of(numbers: Mapping[str, JsonValue], limits: tuple[int, int]) -> slice:
    """What `limit` and `offset` ask for; `limits` are the default and the most."""
    default, most = limits
    found: dict[str, int] = {}
    wrong = []
    for name, usual, least in (("limit", default, 1), ("offset", 0, 0)):
        text = str(numbers.get(name, usual))
        found[name] = int(text) if text.isdecimal() and len(text) < 10 else -1
        if found[name] < least:
            wrong.append(f"{name} must not be less than {least}")
    if found["limit"] > most:
        wrong.append(f"limit must not be greater than {most}")
    if wrong:
        raise Refusal(400, wrong)
    return slice(found["offset"], found["offset"] + found["limit"])


class Prints:
    """The endpoints below `/image-generations`."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        reporter: Reporter,
        *,
        clock: Callable[[], float],
        step: float,
        rules: Strictness,
        ignore_tags: bool,
        no_credits_status: int,
        unknown_id_status: int,
        wrong_time_status: int,
        limits: tuple[int, int],
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._reporter = reporter
        self._clock = clock
        self._step = step
        self._rules = rules
        self._ignore_tags = ignore_tags
        self._no_credits_status = no_credits_status
        self._unknown_id_status = unknown_id_status
        self._wrong_time_status = wrong_time_status
        self._limits = limits

    async def create(self, asked: Asked) -> Response:
        """A generation: judged, then kept, then charged, then answered."""
        wrong = complaints(asked.body, self._rules)
        if wrong:
            raise Refusal(400, wrong)
        if not await self._store.debit(PRINT_CREDIT):
            raise Refusal(self._no_credits_status, "Not enough credits.")
        now = self._clock()
        meta = asked.body.get("metaData")
        free = str(meta.get("sandbox_free", "")) if isinstance(meta, dict) else ""
        made = Print(
            id=str(uuid.uuid4()),
            created=now,
            started=now,
            step=self._step if asked.script.pause is None else asked.script.pause,
            home=asked.home,
            body=asked.body,
            images=tuple(str(uuid.uuid4()) for _ in range(PICTURES)),
            free=int(free) if free in ("1", "2", "3", "4") else 0,
            script=asked.script,
        )
        await self._store.add(made)
        made = await self._charge(made)
        self._reporter.follow(made)
        return answer(told(made, moment(made, 0), asked.home))

    async def read(self, asked: Asked) -> Response:
        """One generation, as it is now."""
        made = await self._known(asked)
        return answer(self._now(made, asked.home))

    async def list(self, asked: Asked) -> Response:
        """Generations, newest first, by name and tag."""
        page = page_of(asked.query, self._limits)
        name, tag = asked.query.get("name"), asked.query.get("tag")
        found = []
        for made in await self._store.all():
            tags = made.body.get("tags")
            tagged = self._ignore_tags or tag is None or (isinstance(tags, list) and tag in tags)
            if tagged and (name is None or name.lower() in str(made.body["name"]).lower()):
                found.append(made)
        prints: list[JsonValue] = [self._now(made, asked.home) for made in found[page]]
        return answer({"filteredResults": len(found), "prints": prints})

    async def update(self, asked: Asked) -> Response:
        """Change a generation that is not being made."""
        made = await self._known(asked)
        if moment(made, stage_at(made, self._clock())).status in (_PENDING, _PROCESSING):
            raise Refusal(self._wrong_time_status, "This image generation is pending or in progress.")
        body = {**made.body, **asked.body}
        wrong = complaints(body, self._rules)
        if wrong:
            raise Refusal(400, wrong)
        # A script in the new prompt is the next attempt's; the present one stays as it is until then.
        script = asked.script if "prompt" in asked.body else made.next_script

        def changed(now: Print) -> Print:
            return replace(now, body=body, next_script=script)

        found = await self._store.change(made.id, changed)
        return answer(self._now(found or made, asked.home))

    async def retry(self, asked: Asked) -> Response:
        """Begin a failed generation anew; charged unless it was before."""
        made = await self._known(asked)
        now = self._clock()

        def anew(found: Print) -> Print:
            if moment(found, stage_at(found, now)).status != _ERROR:
                return found
            script = found.next_script or found.script
            return replace(
                found, started=now, told=-1, attempt=found.attempt + 1, script=script, next_script=None,
                home=asked.home,
            )  # fmt: skip

        begun = await self._store.change(made.id, anew)
        if begun is None or begun.attempt == made.attempt:
            raise Refusal(self._wrong_time_status, "Only an image generation in error can be retried.")
        begun = await self._charge(begun)
        self._reporter.follow(begun)
        return answer(None)

    async def delete(self, asked: Asked) -> Response:
        """Forget generations. The answer is the same, and empty, whatever was asked for."""
        listed = asked.body.get("printIds")
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            raise Refusal(400, ["each value in printIds must be a string", "printIds must be an array"])
        await self._store.delete([str(each) for each in listed])
        return Response(b"")

    async def _known(self, asked: Asked) -> Print:
        made = await self._store.get(asked.path["id"])
        if made is None:
            raise Refusal(self._unknown_id_status, "Image generation not found")
        self._reporter.follow(made)  # picked up again, should this process be a new one
        return made

    async def _charge(self, made: Print) -> Print:
        """One charge per generation, whatever becomes of it; none while its prompt is refused."""
        if made.charged or made.script.refuse == "input":
            return made
        found = await self._store.change(made.id, charged)
        await self._ledger.charge(provider=NAME, reference=reference_of(made), submission=made.id, images=PICTURES)
        return found or made

    def _now(self, made: Print, home: str) -> JsonValue:
        return told(made, moment(made, stage_at(made, self._clock())), home)

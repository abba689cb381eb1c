"""The simulated vendor's webhooks: real HTTP, unsigned, as each stage of a generation is reached.

Only addresses on this machine are called, because anybody who can reach the sandbox can subscribe. Nobody knows
whether the vendor tries again; here a delivery that fails is lost. A script sends each one twice (`duplicate`), or the
last one first (`final_first`).
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import httpx
import orjson
from pydantic import JsonValue

from providers.all_images.simulator_life import LAST, due, failing_stage, moment, stage_at, told
from providers.all_images.simulator_store import Print, Store, Webhook
from providers.http import IPAddress, async_client

EVENTS = ("test", "print.created", "print.active", "print.progress", "print.failed", "print.completed")
DEFAULT_EVENTS = ("print.failed", "print.completed")
_API_VERSION = 1
_NAP = 0.02
"""How often to look at a clock that is not the world's: nobody tells when it has moved."""


class Reporter:
    """Follows each generation to its end and reports what happens."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._longest_nap = 60.0 if clock is time.time else _NAP
        self._following: dict[str, asyncio.Task[None]] = {}
        self._greeting: set[asyncio.Task[None]] = set()

    def follow(self, made: Print) -> None:
        """Report on a generation from where it was left; nothing happens if that is being done already."""
        if made.id in self._following or made.told >= (failing_stage(made) or LAST):
            return
        task = asyncio.create_task(self._follow(made.id))
        self._following[made.id] = task
        task.add_done_callback(lambda _: self._following.pop(made.id, None))

    def greet(self, webhook: Webhook) -> None:
        """Send the test event, if it was asked for."""
        if "test" not in webhook.events:
            return
        task = asyncio.create_task(self._send([webhook], "test", {"message": "This is a test."}, copies=1))
        self._greeting.add(task)
        task.add_done_callback(self._greeting.discard)

    async def aclose(self) -> None:
        """Stop reporting."""
        tasks = [*self._following.values(), *self._greeting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, generation_id: str) -> None:
        while (made := await self._store.get(generation_id)) is not None:
            end = failing_stage(made) or LAST
            stage = made.told + 1
            if stage > end:
                return
            await self._reach(made, stage)
            if made.script.final_first and stage == 0:
                await self._reach(made, end)
                await self._report(made, end)
            if not (made.script.final_first and stage == end):
                await self._report(made, stage)
            # A retry in between begins anew: what was reported of the old attempt then counts for nothing.
            attempt = made.attempt

            def reported(now: Print, stage: int = stage, attempt: int = attempt) -> Print:
                return replace(now, told=stage) if now.attempt == attempt else now

            await self._store.change(generation_id, reported)

    async def _reach(self, made: Print, stage: int) -> None:
        """Wait until a stage is reached, by a clock that need not be the world's."""
        while stage_at(made, self._clock()) < stage:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(min(self._longest_nap, max(0.001, due(made, stage) - self._clock())))

    async def _report(self, made: Print, stage: int) -> None:
        at = moment(made, stage)
        if at.event is not None:
            copies = 2 if made.script.duplicate else 1
            await self._send(await self._store.webhooks(), at.event, told(made, at, made.home), copies=copies)

    async def _send(self, webhooks: list[Webhook], event: str, data: dict[str, JsonValue], *, copies: int) -> None:
        envelope = {
            "id": str(uuid.uuid4()),
            "api_version": _API_VERSION,
            "created": int(time.time()),
            "type": event,
            "data": data,
        }
        interested = [webhook for webhook in webhooks if event in webhook.events]
        if not interested:
            return
        async with async_client(connect_seconds=2, read_seconds=5, rule=_on_this_machine) as client:
            for webhook in interested:
                for _ in range(copies):
                    with suppress(httpx.HTTPError, httpx.InvalidURL):
                        headers = {"Content-Type": "application/json"}
                        await client.post(webhook.url, content=orjson.dumps(envelope), headers=headers)


def _on_this_machine(address: IPAddress) -> str | None:
    return None if address.is_loopback else "the sandbox reports to addresses on this machine only"

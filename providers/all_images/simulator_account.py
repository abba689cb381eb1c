"""The account at the simulated vendor: its key, its credits and its webhooks (contract all-images §1, §3.5)."""

from __future__ import annotations

import uuid

import httpx
from pydantic import JsonValue
from starlette.responses import Response

from providers.all_images.simulator_prints import Asked, answer
from providers.all_images.simulator_store import Store, Webhook
from providers.all_images.simulator_validation import Refusal
from providers.all_images.simulator_webhooks import DEFAULT_EVENTS, EVENTS, Reporter
from providers.http import is_loopback


class Account:
    """The endpoints below `/credit` and `/api-keys`."""

    def __init__(self, store: Store, reporter: Reporter, *, unknown_id_status: int) -> None:
        self._store = store
        self._reporter = reporter
        self._unknown_id_status = unknown_id_status

    async def credit(self, asked: Asked) -> Response:
        """What is left."""
        listed: list[JsonValue] = [
            {"type": kind, "credit": left, "creditTotal": total} for kind, left, total in await self._store.credits()
        ]
        return answer({"credits": listed})

    async def check(self, asked: Asked) -> Response:
        """Whose key it is."""
        return answer({"email": "someone@sandbox.invalid", "name": "Sandbox"})

    async def subscribe(self, asked: Asked) -> Response:
        """Report to an address from now on."""
        url, events = asked.body.get("url"), asked.body.get("events")
        wrong = [] if _is_address(url) else ["url must be an http or https address on this machine, in the sandbox"]
        if events is None:
            chosen: tuple[str, ...] = DEFAULT_EVENTS
        elif isinstance(events, list) and all(event in EVENTS for event in events):
            chosen = tuple(str(event) for event in events)
        else:
            wrong.append(f"each value in events must be one of the following values: {', '.join(EVENTS)}")
            chosen = ()
        if wrong:
            raise Refusal(400, wrong)
        webhook = Webhook(str(uuid.uuid4()), str(url), chosen)
        await self._store.subscribe(webhook)
        self._reporter.greet(webhook)
        return answer({"webhookId": webhook.id}, 201)

    async def webhook(self, asked: Asked) -> Response:
        """A subscription; the vendor really tells the API key here (contract all-images §1)."""
        for webhook in await self._store.webhooks():
            if webhook.id == asked.path["id"]:
                return answer({"id": webhook.id, "apiKeyId": asked.key, "url": webhook.url})
        raise Refusal(self._unknown_id_status, "Webhook not found")

    async def unsubscribe(self, asked: Asked) -> Response:
        """Report no more."""
        if not await self._store.unsubscribe(asked.path["id"]):
            raise Refusal(self._unknown_id_status, "Webhook not found")
        return Response(b"", 201)


def _is_address(value: JsonValue) -> bool:
    try:
        url = httpx.URL(value if isinstance(value, str) else "")
    except httpx.InvalidURL:
        return False
    return url.scheme in ("http", "https") and is_loopback(url.host)

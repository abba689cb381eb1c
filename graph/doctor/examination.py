"""The order in which the doctor looks, from the outside to the inside."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

import httpx

from graph.doctor.finding import FaultError, Finding, Site, UnseenError
from graph.doctor.live import Socket, Stream
from graph.doctor.plain import PATIENCE, PlainChecks
from graph.doctor.remedies import SILENT

Look = Callable[[], Awaitable[str]]


async def examine(site: Site, seconds: float) -> AsyncGenerator[Finding, None]:
    """Each finding as soon as it is there; connections that stay open are held for `seconds`. What can only be seen
    once something else works is left out as long as it does not. Close it with `aclosing`."""
    context = ssl.create_default_context()
    tls = context if site.tls else None
    async with (
        httpx.AsyncClient(
            base_url=site.url, headers=dict(site.login), verify=context, timeout=PATIENCE, trust_env=False
        ) as client,
        AsyncExitStack() as stack,
    ):
        plain, socket, stream = PlainChecks(site, client, tls), Socket(site, tls, stack), Stream(client, stack)
        for name, look in (("connection", plain.connects), ("Darkroom", plain.is_darkroom)):
            yield (finding := await _find(name, look))
            if not finding.ok:
                return
        yield await _find("latency", plain.is_quick)
        yield await _find("request size", plain.takes_requests)
        yield await _find("report size", plain.takes_reports)
        yield await _find("pictures", plain.shows_pictures)
        yield (opened := await _find("websocket", socket.opens))
        held: list[tuple[str, Look]] = []
        if opened.ok:
            yield (told := await _find("websocket events", socket.tells))
            if told.ok:
                held.append(("websocket stays open", lambda: socket.stays(seconds)))
        yield (told := await _find("event stream", stream.tells))
        if told.ok:
            yield await _find("event stream encoding", stream.is_plain)
            held.append(("event stream stays open", lambda: stream.stays(seconds)))
        for finding in await asyncio.gather(*(_find(*one) for one in held)):
            yield finding


async def _find(name: str, look: Look) -> Finding:
    try:
        return Finding(name, True, await look())
    except FaultError as exc:
        return Finding(name, False, str(exc), exc.remedy)
    except UnseenError as exc:
        return Finding(name, None, str(exc))
    except httpx.TimeoutException:
        return Finding(name, False, f"it did not answer within {PATIENCE:g} s", SILENT)
    except httpx.HTTPError as exc:
        return Finding(
            name, False, f"the request failed: {exc or type(exc).__name__}", "Look into the log of the proxy."
        )

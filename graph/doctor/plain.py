"""What the doctor looks at with plain requests."""

from __future__ import annotations

import asyncio
import socket
import ssl
import statistics
import time
from http import HTTPStatus
from typing import Any

import httpx

from graph.doctor.finding import FaultError, Site, UnseenError, origin, said, unexpected
from graph.doctor.remedies import FORWARDED, LOOP, REFUSED_LOGIN

PATIENCE = 10.0
"""Seconds that any answer may take."""
PROBES = 5
"""How many small requests are timed."""
REQUEST_BYTES = 1024 * 1024
"""The largest request that a Darkroom reads by default."""
REPORT_BYTES = 2 * 1024 * 1024
"""A report with a picture in it: more than many proxies let through by default."""
PICTURES = "{ tasks(first: 20, filter: { status: [SUCCEEDED] }) { nodes { images { url } } } }"


class PlainChecks:
    """Each check returns what it has found, or raises `FaultError` or `UnseenError`."""

    def __init__(self, site: Site, client: httpx.AsyncClient, tls: ssl.SSLContext | None) -> None:
        self._site = site
        self._client = client
        self._tls = tls

    async def connects(self) -> str:
        """The name is known, somebody listens, and the certificate is good."""
        host, port = self._site.parts.host, self._site.port
        try:
            async with asyncio.timeout(PATIENCE):
                _, writer = await asyncio.open_connection(host, port, ssl=self._tls)
        except socket.gaierror as exc:
            raise FaultError(f"the name {host} is not known", "Look for a mistake, or add it to DNS.") from exc
        except ssl.SSLCertVerificationError as exc:
            remedy = "Install a certificate for this name; for an authority of your own, set SSL_CERT_FILE here."
            raise FaultError(f"the certificate is not accepted: {exc.verify_message}", remedy) from exc
        except ssl.SSLError as exc:
            raise FaultError(
                f"port {port} does not speak TLS ({exc.reason})", "Use http://, or mend the port."
            ) from exc
        except TimeoutError as exc:
            raise FaultError(f"port {port} did not answer in {PATIENCE:g} s", "Look for a firewall.") from exc
        except OSError as exc:
            raise FaultError(f"nobody listens on port {port}: {exc}", "Start the proxy, or mend the port.") from exc
        tls: ssl.SSLObject | None = writer.get_extra_info("ssl_object")
        writer.close()
        return f"port {port}, {tls.version() if tls else 'without TLS'}"

    async def is_darkroom(self) -> str:
        """What answers is a Darkroom, which reaches its database."""
        response = await self._client.get("/healthz")
        if response.next_request is not None and response.next_request.url == response.request.url:
            raise FaultError("/healthz leads to itself", LOOP)
        if response.is_redirect:
            raise FaultError(f"/healthz leads to {response.headers.get('location')}", "Use that address.")
        if response.status_code != HTTPStatus.OK or response.content != b'{"status":"ok"}':
            raise self._unexpected("/healthz", response)
        await self._query(PICTURES)
        return "/healthz and /graphql answer"

    async def is_quick(self) -> str:
        """How long a small request takes, there and back."""
        took = []
        for _ in range(PROBES):
            began = time.monotonic()
            await self._query("{ __typename }")
            took.append((time.monotonic() - began) * 1000)
        return f"{statistics.median(took):.0f} ms for a small query, {max(took):.0f} ms at most"

    async def takes_requests(self) -> str:
        """A long request is let through. Most of it is white space."""
        body = b'{"query":"{ __typename }"}'.ljust(REQUEST_BYTES)
        response = await self._client.post("/graphql", content=body, headers={"content-type": "application/json"})
        if response.status_code == HTTPStatus.OK:
            return "1 MiB is let through"
        # Darkroom itself may have been told to read less.
        if (message := said(response.content)) is None:
            raise unexpected("a request of 1 MiB", response.status_code, response.content)
        return message

    async def takes_reports(self) -> str:
        """Providers may deliver pictures to `/callbacks`. Nobody knows this token, so nothing is kept."""
        response = await self._client.post("/callbacks/none", content=b" " * REPORT_BYTES)
        if response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise unexpected("a report of 2 MiB to /callbacks", response.status_code, response.content)
        if said(response.content) is None:
            raise UnseenError(
                f"HTTP {response.status_code} at /callbacks; only providers that report by themselves need it"
            )
        return "2 MiB to /callbacks are let through"

    async def shows_pictures(self) -> str:
        """Links to pictures lead here, and the picture comes whole."""
        nodes = (await self._query(PICTURES))["tasks"]["nodes"]
        url = next((image["url"] for node in nodes for image in node["images"]), None)
        if url is None:
            raise UnseenError("no picture yet; come back after the first one")
        link = httpx.URL(url)
        if origin(link) != origin(self._site.parts):
            message = f"links to pictures begin with {origin(link)}"
            raise FaultError(message, FORWARDED.format(url=self._site.url))
        response = await self._client.get(link)
        if response.status_code != HTTPStatus.OK or not response.headers["content-type"].startswith("image/"):
            raise unexpected(f"GET {link.path}", response.status_code, response.content)
        return f"{origin(link)}{link.path}, {len(response.content):,} bytes"

    def _unexpected(self, what: str, response: httpx.Response) -> FaultError:
        fault = unexpected(what, response.status_code, response.content)
        if response.status_code == HTTPStatus.UNAUTHORIZED and self._site.login:
            return FaultError(str(fault), REFUSED_LOGIN)
        return fault

    async def _query(self, query: str) -> dict[str, Any]:
        response = await self._client.post("/graphql", json={"query": query})
        if response.status_code != HTTPStatus.OK or not response.headers["content-type"].startswith("application/json"):
            raise self._unexpected("/graphql", response)
        if (message := said(response.content)) is not None:
            raise FaultError(f"/graphql says: {message}", "Look into the log of Darkroom.")
        data: dict[str, Any] | None = response.json().get("data")
        if data is None:
            raise unexpected("/graphql", response.status_code, response.content)
        return data

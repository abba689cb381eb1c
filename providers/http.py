"""How adapters make their httpx clients: one place for timeouts, TLS, redirects and the network switch.

Every client made here is stateless and explicit: no redirect is followed, no cookie is kept, nothing is retried,
no connection is reused, and no proxy or certificate is taken from the environment (`HTTP_PROXY`, `SSL_CERT_FILE`,
`.netrc`). A connection is never reused because one that the other side has just closed cannot be told from one
that lost our request: a POST that pays would end as "outcome unknown" for no reason.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
from collections.abc import Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeAlias

import httpx
from pydantic_settings import BaseSettings, SettingsConfigDict

from providers.described import DescribedEnum

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
AddressRule: TypeAlias = Callable[[IPAddress], str | None]
"""Why this server must not connect to an address, or None where it may."""

USER_AGENT = "darkroom"


class Network(DescribedEnum):
    """Where this process may connect to."""

    OPEN = "open", "Anywhere the settings point to."
    LOOPBACK = "loopback", "Only to this machine; every other connection is refused before it is made. For tests."


class NetworkSettings(BaseSettings):
    """The switch that keeps a test run off the network."""

    model_config = SettingsConfigDict(
        env_prefix="DARKROOM_", env_file=".env", extra="ignore", env_ignore_empty=True, use_attribute_docstrings=True
    )

    network: Network = Network.OPEN
    """Where adapters may connect to: `open`, or `loopback` for this machine only."""


class AddressRefusedError(httpx.ConnectError):
    """This server refuses to connect to that address. Nothing was sent."""


def async_client(
    *,
    connect_seconds: float,
    read_seconds: float,
    headers: Mapping[str, str] | None = None,
    rule: AddressRule | None = None,
) -> httpx.AsyncClient:
    """A client as described above. With `rule` every host name is resolved first, each address must pass, and the
    connection goes to the address that was checked (Host header and TLS name stay those of the link).
    """
    rules = [rule] if rule is not None else []
    if NetworkSettings().network is Network.LOOPBACK:
        rules.append(_loopback_only)
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    transport: httpx.AsyncBaseTransport = httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False, limits=limits)
    return httpx.AsyncClient(
        transport=_CheckedTransport(transport, rules) if rules else transport,
        timeout=httpx.Timeout(connect=connect_seconds, read=read_seconds, write=read_seconds, pool=connect_seconds),
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **(headers or {})},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        trust_env=False,
    )


def is_loopback(host: str) -> bool:
    """Whether a host, as written in a URL, is this machine itself."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _loopback_only(address: IPAddress) -> str | None:
    return None if address.is_loopback else "DARKROOM_NETWORK=loopback allows connections to this machine only"


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)  # reads the certificate store: some 20 ms


class _CheckedTransport(httpx.AsyncBaseTransport):
    """Resolves, checks, and connects to an address that passed, so that no second look-up can change it."""

    def __init__(self, inner: httpx.AsyncBaseTransport, rules: list[AddressRule]) -> None:
        self._inner = inner
        self._rules = rules

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        addresses = await _resolve(request)
        for address in addresses:
            for rule in self._rules:
                reason = rule(address)
                if reason is not None:
                    raise AddressRefusedError(
                        f"refused to connect to {request.url.host} ({address}): {reason}", request=request
                    )
        for address in addresses[:-1]:
            try:
                return await self._inner.handle_async_request(_pinned(request, address))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                continue  # nothing was sent; the host has another address
        return await self._inner.handle_async_request(_pinned(request, addresses[-1]))

    async def aclose(self) -> None:
        await self._inner.aclose()


def _pinned(request: httpx.Request, address: IPAddress) -> httpx.Request:
    host = request.url.raw_host.decode("ascii")
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,  # the Host header in them is that of the link
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": host},
    )


async def _resolve(request: httpx.Request) -> list[IPAddress]:
    host = request.url.raw_host.decode("ascii")
    seconds = request.extensions.get("timeout", {}).get("connect")
    try:
        async with asyncio.timeout(seconds):
            found = await asyncio.get_running_loop().getaddrinfo(host, request.url.port or 0, type=socket.SOCK_STREAM)
    except TimeoutError as exc:
        raise httpx.ConnectTimeout(f"could not resolve {host} in {seconds} s", request=request) from exc
    except (OSError, UnicodeError) as exc:
        raise httpx.ConnectError(f"could not resolve {host}", request=request) from exc
    return list(dict.fromkeys(_address(str(entry[4][0])) for entry in found))


def _address(text: str) -> IPAddress:
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address

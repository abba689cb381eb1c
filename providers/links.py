"""Fetching a picture from a link in a provider's answer.

The link is somebody else's text, and this server stands inside somebody's network: it is fetched without our
credentials, within limits of size and time, over http or https only, through at most a few redirects, and by
default never from an address that is not on the public internet (contract openai-images §5: an unsigned GET).
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from providers.errors import ResultUnavailableError, Transport
from providers.http import AddressRefusedError, AddressRule, IPAddress, async_client

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")
)
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_NO_PICTURE = ("text/html", "text/plain", "application/json", "application/xml", "text/xml")


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """What fetching one picture may take."""

    max_bytes: int
    seconds: float
    """For everything together: redirects, attempts and the waits between them."""
    redirects: int = 3
    attempts: int = 3
    first_wait_seconds: float = 0.2
    """Before the second attempt; doubles after that."""


class _TransientError(Exception):
    """Failed in a way that another attempt may mend."""


class _FinalError(Exception):
    """Failed in a way that no attempt will mend."""


@dataclass(frozen=True, slots=True)
class LinkFetcher:
    """Fetches links for one provider. Keeps nothing between calls."""

    limits: LinkLimits
    allow_private: bool = False
    """Whether links may lead to addresses that are not public."""
    allow_loopback: bool = False
    """Whether they may lead to this machine: true where the provider itself runs on it, as the sandbox does."""
    private_setting: str = ""
    """The name of the setting that allows private addresses, for the error message."""

    async def fetch(self, url: str) -> bytes:
        """The file behind `url`. Raises ResultUnavailableError: the picture was made, and billed, all the same."""
        host = _host_of(url)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_TransientError),
            stop=stop_after_attempt(self.limits.attempts),
            wait=wait_exponential(multiplier=self.limits.first_wait_seconds, max=5),
            reraise=True,
        )
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await retrying(self._follow, url)
        except TimeoutError as exc:
            raise self._unavailable(host, f"it took longer than {self.limits.seconds:g} seconds") from exc
        except (_TransientError, _FinalError) as exc:
            raise self._unavailable(host, str(exc)) from exc

    async def _follow(self, url: str) -> bytes:
        rule = None if self.allow_private else _public_rule(self.allow_loopback, self.private_setting)
        async with async_client(connect_seconds=10, read_seconds=self.limits.seconds, rule=rule) as client:
            for _ in range(self.limits.redirects + 1):
                found = await self._get(client, url)
                if isinstance(found, bytes):
                    return found
                url = found
        raise _FinalError(f"it was redirected more than {self.limits.redirects} times")

    async def _get(self, client: httpx.AsyncClient, url: str) -> bytes | str:
        """The file, or the address it is redirected to."""
        try:
            target = httpx.URL(url)
            if target.scheme not in ("http", "https") or not target.host:
                raise _FinalError("it is not an http or https link")
            async with client.stream("GET", target) as response:
                if response.has_redirect_location:
                    return str(target.join(response.headers["Location"]))
                _check(response)
                return await self._read(response)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
            raise _FinalError("it is not a valid http or https link") from exc
        except AddressRefusedError as exc:
            raise _FinalError(str(exc)) from exc
        except httpx.TransportError as exc:
            raise _TransientError(f"the connection failed ({type(exc).__name__})") from exc

    async def _read(self, response: httpx.Response) -> bytes:
        limit = self.limits.max_bytes
        too_large = _FinalError(f"the file is larger than {limit:,} bytes")
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) > limit:
            raise too_large
        chunks: list[bytes] = []
        received = 0
        async for chunk in response.aiter_bytes():
            received += len(chunk)
            if received > limit:
                raise too_large
            chunks.append(chunk)
        if not received:
            raise _TransientError("the file is empty")
        return await asyncio.to_thread(b"".join, chunks)

    def _unavailable(self, host: str, reason: str) -> ResultUnavailableError:
        return ResultUnavailableError(
            f"The picture was made, but its link on {host} could not be fetched: {reason}.",
            transport=Transport.ACCEPTED,
            billed=True,
        )


def _check(response: httpx.Response) -> None:
    if response.status_code in _TRANSIENT:
        raise _TransientError(f"the answer was {response.status_code}")
    if response.status_code != httpx.codes.OK:
        raise _FinalError(f"the answer was {response.status_code}")
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type in _NO_PICTURE:
        raise _FinalError(f"the answer was {media_type}, not a picture")


def _host_of(url: str) -> str:
    """For messages: a link may carry a signature, so the rest of it is not shown."""
    try:
        return httpx.URL(url).host or "an unnamed host"
    except httpx.InvalidURL:
        return "an invalid address"


def _public_rule(allow_loopback: bool, setting: str) -> AddressRule:
    def rule(address: IPAddress) -> str | None:
        if allow_loopback and address.is_loopback:
            return None
        if is_public(address):
            return None
        hint = f"; set {setting}=true if it is meant to" if setting else ""
        return f"the address is not on the public internet{hint}"

    return rule


def is_public(address: IPAddress) -> bool:
    """Whether an address is on the public internet: not private, loopback, link-local, shared, multicast, reserved,
    not a cloud's metadata service, and no IPv6 form that a gateway would translate into one of those.
    """
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if not all(is_public(each) for each in (address.sixtofour, *(address.teredo or ())) if each is not None):
            return False
    return not (address in _METADATA or not address.is_global or address.is_multicast or address.is_reserved)

"""Fetching a picture from a link in a provider's answer.

The link is somebody else's text, and this server stands inside somebody's network: it is fetched without our
credentials, within limits of size and time, over http or https only, through at most a few redirects, and by
default never from an address that is not on the public internet (contract openai-images §5: an unsigned GET).

What is behind it was paid for, so a failure that may pass is waited out for as long as the limits say. An error names
the host only: the rest of a link may be a signature, and whoever has it has the picture.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from providers.errors import ResultUnavailableError, Transport
from providers.http import AddressRefusedError, AddressRule, IPAddress, async_client
from providers.retry_after import retry_after

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_METADATA = frozenset(
    ipaddress.ip_address(address)
    for address in ("169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")
)
_TRANSIENT = frozenset({408, 425, 429})
"""With all of 5xx."""
_PERHAPS_LATER = frozenset({403, 404})
_LONGEST_WAIT = 5.0
"""Between two attempts, in seconds, unless the store asks for more."""
_NO_PICTURE = ("text/html", "text/plain", "application/json", "application/xml", "text/xml")


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """What fetching one picture may take."""

    max_bytes: int
    seconds: float
    """For everything together: redirects, attempts and the waits between them."""
    redirects: int = 3
    first_wait_seconds: float = 0.2
    """Before the second attempt, give or take a fifth; doubles after that, up to 5 seconds."""
    appear_seconds: float = 0
    """For how long 403 and 404 may mean that the file is not there yet, as with a store that copies it to where it is
    fetched from. After that, and with 0, they are final: they also are what an expired link answers."""


class _TransientError(Exception):
    """Failed in a way that another attempt may mend; `wait` is after how many seconds, as the store says."""

    def __init__(self, reason: str, *, wait: float | None = None, missing: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.missing = missing


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
    seconds_setting: str = ""
    """The name of the setting with the limit of time, for the error message."""
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    """Waits that many seconds between two attempts."""

    async def fetch(self, url: str, *, patient: bool = True) -> bytes:
        """The file behind `url`. Raises ResultUnavailableError: the picture was made, and billed, all the same.

        Without patience it makes one attempt, for callers who have something else to do before they try again.
        """
        tries = _Tries(self.limits, patient=patient)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_TransientError),
            wait=tries.wait,
            stop=tries.stop,
            sleep=self.pause,
            reraise=True,
        )
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await retrying(self._follow, url)
        except TimeoutError as exc:
            raise self._unavailable(url, tries.over(), waited=True) from exc
        except (_TransientError, _FinalError) as exc:
            raise self._unavailable(url, f"{exc}{tries.told()}", waited=tries.failed > 1) from exc

    async def _follow(self, url: str) -> bytes:
        rule = None if self.allow_private else _public_rule(self.allow_loopback, self.private_setting)
        silence = self.limits.seconds / 2  # so that a connection that hangs leaves time for another
        async with async_client(connect_seconds=10, read_seconds=silence, rule=rule) as client:
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
        except httpx.DecodingError as exc:
            raise _FinalError("the file is compressed in a way that cannot be read") from exc
        except httpx.TransportError as exc:
            if (refused := _refused_certificate(exc)) is not None:
                raise _FinalError(f"the certificate of the host is not accepted ({refused})") from exc
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

    def _unavailable(self, url: str, reason: str, *, waited: bool) -> ResultUnavailableError:
        advice = "Look for it at the provider before you pay for another one"
        if waited and self.seconds_setting:
            advice += f"; {self.seconds_setting} says for how long a link is tried"
        return ResultUnavailableError(
            f"The picture was made, but its link on {_host_of(url)} could not be fetched: {reason}. {advice}.",
            transport=Transport.ACCEPTED,
            billed=True,
        )


class _Tries:
    """When to try one link again, and what was tried so far."""

    def __init__(self, limits: LinkLimits, *, patient: bool) -> None:
        self._limits = limits
        self._patient = patient
        self._backoff = wait_exponential(multiplier=limits.first_wait_seconds, max=_LONGEST_WAIT)
        self._seconds = 0.0
        self._last = ""
        self.failed = 0
        """How many attempts failed in a way that may pass."""

    def wait(self, state: RetryCallState) -> float:
        """Grows from attempt to attempt, and is not shorter than the store asks for, if there is time for that."""
        error, self._seconds = _failure_of(state), state.seconds_since_start or 0.0
        self.failed, self._last = state.attempt_number, str(error)
        own = self._backoff(state) * random.uniform(0.8, 1.2)
        if error.wait is None or self._seconds + error.wait >= self._limits.seconds:
            return own
        return max(own, error.wait)

    def stop(self, state: RetryCallState) -> bool:
        """Whether there is no time for another attempt."""
        limit = self._limits.appear_seconds if _failure_of(state).missing else self._limits.seconds
        return not self._patient or self._seconds + state.upcoming_sleep >= limit

    def told(self) -> str:
        """What was tried, where that was more than one attempt."""
        return f", after {self.failed} attempts in {self._seconds:.1f} seconds" if self.failed > 1 else ""

    def over(self) -> str:
        """That the time is over, and what was tried in it."""
        over = f"it took longer than {self._limits.seconds:g} seconds"
        if not self.failed:
            return over
        attempts = "1 attempt" if self.failed == 1 else f"{self.failed} attempts"
        return f"{over}; before that {attempts} failed, in the end because {self._last}"


def _failure_of(state: RetryCallState) -> _TransientError:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, _TransientError) else _TransientError("it is not known why")


def _refused_certificate(exc: BaseException | None) -> str | None:
    """Why TLS did not accept the other side, or None where that was not the trouble."""
    while exc is not None:
        if isinstance(exc, ssl.SSLCertVerificationError):
            return exc.verify_message
        exc = exc.__cause__ or exc.__context__
    return None


def _check(response: httpx.Response) -> None:
    status = response.status_code
    if status in _TRANSIENT or status in _PERHAPS_LATER or status >= 500:
        wait = retry_after(response.headers, None)
        raise _TransientError(f"the answer was {status}", wait=wait, missing=status in _PERHAPS_LATER)
    if status != httpx.codes.OK:
        raise _FinalError(f"the answer was {status}")
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

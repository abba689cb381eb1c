"""The global switch: no test reaches anything but this machine."""

from __future__ import annotations

import ipaddress
import socket
import sys
from typing import Any


class NetworkReachedError(RuntimeError):
    """A test tried to reach another machine."""


def refuse_other_machines() -> None:
    """From now on this process can connect only to loopback addresses, whatever library does it; for good."""
    sys.addaudithook(_watch)


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        address = arguments[1]
        wrong = isinstance(address, tuple) and not _is_here(str(address[0]))
    elif event == "socket.getaddrinfo":
        address = arguments[0]
        host = address.decode() if isinstance(address, bytes) else address
        wrong = host is not None and not (_is_number(host) or _is_nowhere(host))
    else:
        return
    if wrong:
        raise NetworkReachedError(f"a test tried to reach {address}")


def _is_here(address: str) -> bool:
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback or found.is_unspecified


def _is_number(host: str) -> bool:
    """Whether a host is an address in any notation: nobody has to be asked for it."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            socket.inet_aton(host)
        except OSError:
            return False
    return True


def _is_nowhere(host: str) -> bool:
    """Names that are reserved never leave this machine (RFC 6761); tests of unreachable hosts use them."""
    return host in ("localhost", "") or host.endswith((".invalid", ".localhost"))

"""The global switch: no test reaches anything but this machine."""

from __future__ import annotations

import ipaddress
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
        host = address[0] if isinstance(address, tuple) else None
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host is not None and not _is_here(host.decode() if isinstance(host, bytes) else str(host)):
        raise NetworkReachedError(f"a test tried to reach {host}")


def _is_here(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        # A reserved name never leads anywhere (RFC 6761); tests of how unreachable hosts are reported use it.
        return host in ("localhost", "") or host.endswith((".invalid", ".localhost"))
    return address.is_loopback or address.is_unspecified

"""The switch that keeps tests off the network works."""

from __future__ import annotations

import socket

import httpx
import pytest

from tests.network import NetworkReachedError


def test_a_connection_to_another_machine_is_refused() -> None:
    with socket.socket() as one, pytest.raises(NetworkReachedError, match=r"192\.0\.2\.1"):
        one.connect(("192.0.2.1", 80))


def test_not_even_a_name_is_looked_up() -> None:
    with pytest.raises(NetworkReachedError, match="example"):
        httpx.get("http://example.com")

"""`darkroom serve` as a process of its own, for tests that kill it."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

COMMAND = (sys.executable, "-m", "graph.cli", "serve")
READY = "Ctrl-C stops the"
SANDBOX_READY = "Simulators on"


@dataclass
class Process:
    """A running server. Leaving the block kills it, if nobody has before."""

    url: str
    home: Path
    popen: subprocess.Popen[str]
    log: list[str]
    reader: threading.Thread

    @property
    def websocket_url(self) -> str:
        """The same for websockets."""
        return self.url.replace("http://", "ws://")

    def kill(self) -> None:
        """`kill -9`: no clean-up of any kind."""
        self.popen.kill()
        self.popen.wait()

    def stop(self) -> int:
        """SIGTERM, as a supervisor does it; the exit code."""
        self.popen.send_signal(signal.SIGTERM)
        return self.popen.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self.popen.poll() is None:
            self.kill()
        self.reader.join()


@contextmanager
def sandbox(home: Path, **environment: str) -> Iterator[Process]:
    """The simulated vendors, which outlive every server that is pointed at them with DARKROOM_SANDBOX_URL."""
    port = free_port()
    command = (sys.executable, "-m", "graph.cli", "sandbox", "--port", str(port))
    with _process(home, command, port, SANDBOX_READY, environment) as process:
        process.url += "/sandbox"
        yield process


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def lasting_port() -> int:
    """A port that nobody listens on, and that nobody gets by chance while a server is started there again: the system
    itself gives out higher ones only."""
    while True:
        try:
            with socket.create_server(("127.0.0.1", random.randrange(20_000, 32_000))) as free:
                return int(free.getsockname()[1])
        except OSError:
            continue


@contextmanager
def serve(home: Path, *, command: Sequence[str] = COMMAND, **environment: str) -> Iterator[Process]:
    """A server with the data in `home`, ready to be asked."""
    port = int(environment.get("DARKROOM_PORT") or free_port())
    with _process(home, command, port, READY, environment) as process:
        yield process


@contextmanager
def _process(
    home: Path, command: Sequence[str], port: int, ready: str, environment: dict[str, str]
) -> Iterator[Process]:
    """A process that says it is ready with the words of `ready` in its log."""
    home.mkdir(parents=True, exist_ok=True)
    variables = os.environ | {"DARKROOM_HOME": str(home), "DARKROOM_PORT": str(port)} | environment
    root = str(Path(__file__).parent.parent)
    popen = subprocess.Popen(command, env=variables | {"PYTHONPATH": root}, cwd=home, stderr=subprocess.PIPE, text=True)
    log: list[str] = []
    started = threading.Event()
    reader = threading.Thread(target=_read, args=(popen, log, ready, started))
    reader.start()
    started.wait()
    if popen.poll() is not None:
        reader.join()
        raise AssertionError("the server did not start:\n" + "".join(log))
    with Process(f"http://127.0.0.1:{port}", home, popen, log, reader) as process:
        yield process


def _read(popen: subprocess.Popen[str], log: list[str], ready: str, started: threading.Event) -> None:
    """Keep the log, and keep the pipe from filling up."""
    assert popen.stderr is not None
    with popen.stderr as lines:
        for line in lines:
            log.append(line)
            if ready in line:
                started.set()
    popen.wait()
    started.set()

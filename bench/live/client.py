"""The load client: thousands of websockets in one loop around `epoll`, with as little Python per message as possible.

    python -m bench.live.client PORT CONTROL_PORT SERVER_PID LOAD

`LOAD` is a `Load` in JSON; an `Outcome` in JSON is printed.
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import sys
import time
from dataclasses import asdict
from pathlib import Path

from bench.checks import WrongError
from bench.figures import percentile
from bench.live.received import Expecting, Received
from bench.live.workloads import HERE, Load, Outcome
from bench.processor import seconds_used
from graph.ids import encode

RECEIVE = 1 << 20
WINDOW = 2
PATIENCE = 60.0
"""Seconds without any message before something is wrong."""


class Watcher(Expecting):
    """One websocket with one subscription."""

    __slots__ = ("socket",)

    def __init__(self, port: int, number: int, task: int) -> None:
        super().__init__(number, task)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(
            b"GET /graphql HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n" % port
        )

    def subscribe(self, document: str, number: int) -> None:
        """After the handshake."""
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(4096)
        if not answer.startswith(b"HTTP/1.1 101"):
            raise WrongError(f"a websocket was refused: {answer[:200]!r}")
        self.say({"type": "connection_init"})
        if (acknowledged := self.socket.recv(4096)) != b'\x81\x19{"type":"connection_ack"}':
            raise WrongError(f"the first message is {acknowledged[:200]!r}")
        variables = {"id": encode("Task", f"{self.task:032x}"), "after": 1}
        self.say({"id": f"w{number}", "type": "subscribe", "payload": {"query": document, "variables": variables}})
        self.socket.setblocking(False)

    def say(self, message: object) -> None:
        """Send a message, masked with zeros."""
        self.frame(0x81, json.dumps(message).encode())

    def pong(self, payload: bytes) -> None:
        """Answer a ping."""
        self.frame(0x8A, payload)

    def frame(self, first: int, payload: bytes) -> None:
        """Send one frame."""
        length = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        self.socket.sendall(bytes((first,)) + length + b"\0\0\0\0" + payload)


class Client:
    """All watchers, and the server they watch."""

    def __init__(self, port: int, control_port: int, pid: int, load: Load) -> None:
        self.load = load
        self.pid = pid
        self.before = self.memory()
        self.connect_cpu = -self.cpu()
        self.control = socket.create_connection(("127.0.0.1", control_port))
        self.control.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.epoll = select.epoll()
        self.by_fd: dict[int, Watcher] = {}
        self.received = Received(load)
        document = (HERE / f"{load.document}.graphql").read_text()
        for start in range(0, load.watchers, 100):
            numbers = range(start, min(start + 100, load.watchers))
            batch = [(number, Watcher(port, number, number % load.tasks)) for number in numbers]
            for number, watcher in batch:
                watcher.subscribe(document, number)
                self.by_fd[watcher.socket.fileno()] = watcher
                self.epoll.register(watcher.socket.fileno(), select.EPOLLIN)
            while self.subscriptions() < len(self.by_fd):
                self.read(0.01)
        self.connect_cpu += self.cpu()

    def cpu(self) -> float:
        """Processor seconds of the server."""
        used = seconds_used(self.pid)
        if used is None:
            raise WrongError("this needs Linux: /proc tells what a server uses")
        return used

    def memory(self) -> int:
        """Resident bytes of the server."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    def subscriptions(self) -> int:
        """How many the server counts."""
        self.control.sendall(b"N\n")
        return int(self.control.recv(100))

    def publish(self, first: int, last: int) -> None:
        """One event for each task of a range."""
        self.control.sendall(b"%b %d %d\n" % (b"I" if self.load.picture else b"P", first, last))

    def read(self, timeout: float) -> None:
        """Take what has arrived."""
        for fd, _ in self.epoll.poll(timeout):
            watcher = self.by_fd[fd]
            try:
                data = watcher.socket.recv(RECEIVE)
            except BlockingIOError:
                continue
            if not data:
                raise WrongError("the server closed a websocket")
            self.received.take(watcher, data)

    def rounds(self, count: int, seconds: float) -> None:
        """Closed loop: so many rounds, or for so many seconds."""
        began, sent, over = time.monotonic(), 0, self.received.rounds
        last = began
        while True:
            more = sent < count if count else time.monotonic() - began < seconds
            while more and sent - (self.received.rounds - over) < WINDOW:
                self.publish(0, self.load.tasks)
                sent += 1
                more = sent < count if count else True
            if not more and self.received.rounds - over == sent:
                return
            before = self.received.messages
            self.read(1)
            now = time.monotonic()
            last = now if self.received.messages > before else last
            if now - last > PATIENCE:
                raise WrongError(
                    f"nothing has arrived for {PATIENCE:.0f} seconds; {self.received.incomplete} rounds are incomplete"
                )

    def paced(self) -> None:
        """Open loop: rounds at a fixed rate, each in steps."""
        load = self.load
        self.received.latencies = []
        period = 1 / (load.paced * load.steps)
        began, over = time.monotonic(), self.received.rounds
        total = int(load.paced * load.paced_seconds) * load.steps
        for step in range(total):
            while (wait := began + step * period - time.monotonic()) > 0:
                self.read(wait)
            first = step % load.steps * load.tasks // load.steps
            self.publish(first, (step % load.steps + 1) * load.tasks // load.steps)
        while self.received.rounds - over < total // load.steps:
            self.read(1)

    def measure(self) -> Outcome:
        """Everything the load asks for."""
        load = self.load
        held = time.monotonic() + load.hold_seconds
        connected = self.memory() - self.before
        while (left := held - time.monotonic()) > 0:
            self.read(left)
        self.rounds(load.warm_up, 0) if load.warm_up else None
        grown, cpu, own = -self.memory(), -self.cpu(), -time.process_time()
        began, delivered = time.monotonic(), self.received.messages
        if load.rounds or load.seconds:
            self.rounds(load.rounds, load.seconds)
        took, delivered = time.monotonic() - began, self.received.messages - delivered
        cpu += self.cpu()
        own += time.process_time()
        grown += self.memory()
        if load.paced:
            self.paced()
        found = self.received.latencies
        return Outcome(
            deliveries=delivered,
            seconds=took,
            server_cpu=cpu,
            client_cpu=own,
            message_bytes=self.received.message_bytes,
            p50=percentile(found, 50) if found else None,
            p99=percentile(found, 99) if found else None,
            memory_connected=connected,
            memory_grown=grown,
            connect_cpu=self.connect_cpu,
        )


def main(arguments: list[str]) -> None:
    """See above."""
    port, control_port, pid = map(int, arguments[:3])
    outcome = Client(port, control_port, pid, Load(**json.loads(arguments[3]))).measure()
    sys.stdout.write(json.dumps(asdict(outcome)) + "\n")
    sys.stdout.flush()
    os._exit(0)  # closing thousands of sockets one by one takes longer


if __name__ == "__main__":
    main(sys.argv[1:])

"""`make bench-live`: Darkroom beside stock Strawberry and Node's graphql-ws, in one run.

Each server is a process of its own on one processor, the load client on another. Node's part is fetched from the
package registry; where that cannot be had, it is left out, and said.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from bench.live.contenders import PACKAGES, Node, NodeMissingError, install_node, put_under, running
from bench.live.report import show
from bench.live.workloads import WORKLOADS, Contender, Outcome, Workload
from bench.machine import OtherWork
from bench.report import WIDTH


def measure(folder: Path, node: Node | None, say: Callable[[str], None]) -> dict[Workload, dict[Contender, Outcome]]:
    """All workloads, one server after the other."""
    outcomes: dict[Workload, dict[Contender, Outcome]] = {}

    def one(workload: Workload, contender: Contender) -> None:
        say(f"{workload.load.name}: {contender.value}")
        home = folder / contender.name / str(WORKLOADS.index(workload))
        with running(contender, home, workload.load.tasks, node) as server:
            outcomes[workload][contender] = put_under(workload.load, server)

    with ThreadPoolExecutor() as beside:
        waiting: list[Future[None]] = []
        for workload in WORKLOADS:
            outcomes[workload] = {}
            for contender in workload.contenders:
                if contender is Contender.NODE and node is None:
                    continue
                if workload.background:
                    waiting.append(beside.submit(one, workload, contender))
                else:
                    one(workload, contender)
        for future in waiting:
            future.result()
    return outcomes


def main() -> None:
    """Measure everything and print it. A missed target is printed as one."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    began, others = time.monotonic(), OtherWork()
    versions = (f"{name} {version(name)}" for name in ("strawberry-graphql", "graphql-core", "uvicorn", "websockets"))
    about = [f"{', '.join(versions)}, Python {platform.python_version()}."]
    with tempfile.TemporaryDirectory(prefix="darkroom-bench-live-") as name:
        folder = Path(name)
        node: Node | None = None
        (folder / "node").mkdir()
        try:
            node = install_node(folder / "node")
            about.append(f"Node.js {node.version}, {', '.join(PACKAGES)}.")
        except NodeMissingError as exc:
            about.append(f"graphql-ws was NOT measured: {exc}")
        outcomes = measure(folder, node, lambda what: console.print(f"[dim]{what}[/dim]"))
    about.append(others.sentence())
    show(console, outcomes, about, time.monotonic() - began)


if __name__ == "__main__":
    main()

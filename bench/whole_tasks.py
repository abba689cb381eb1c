"""Whole tasks per second, through everything there is, and what a node costs when there are none.

Every shape of a Darkroom starts with an empty database, carries what its clients ask for, and is then left alone. It
shares all the cores with its database, the upstream and the clients.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from bench.figures import Capacity, Idle, Throughput
from bench.measurements import connect, lanes, throughput
from bench.plan import IDLE_TARGET_PERCENT, Plan
from bench.processor import seconds_used, since
from bench.setups import Running, Setup, running, settings

Say = Callable[[str], None]


def capacity(setup: Setup, plan: Plan, folder: Path, address: str, say: Say) -> Capacity:
    """Measure one shape; `address` is where the upstream is."""
    say(f"starting {setup.title}")
    with running(setup, folder, **settings(address)) as darkroom:
        try:
            throughputs = asyncio.run(_throughputs(setup, plan, darkroom, address, say))
        except Exception:
            for node in darkroom.nodes:
                say("the last lines of a node's log:\n" + "".join(node.log[-20:]))
            raise
        say(f"{setup.title}: idle")
        time.sleep(plan.settle_seconds)
        return Capacity(darkroom.title, throughputs, _idle(plan, darkroom))


async def _throughputs(setup: Setup, plan: Plan, darkroom: Running, address: str, say: Say) -> list[Throughput]:
    measured = []
    async with lanes(darkroom.nodes, address, max(plan.clients)) as clients:
        await connect(clients, plan)
        for number in plan.clients:
            say(f"{setup.title}: {number} {'client' if number == 1 else 'clients'}")
            measured.append(await throughput(clients, number, plan.throughput_seconds, darkroom))
    return measured


def _idle(plan: Plan, darkroom: Running) -> list[Idle]:
    before = [seconds_used(node.popen.pid) for node in darkroom.nodes]
    began = time.monotonic()
    time.sleep(plan.idle_seconds)
    seconds = time.monotonic() - began
    after = [seconds_used(node.popen.pid) for node in darkroom.nodes]
    title = darkroom.title
    names = [title] if len(before) == 1 else [f"{title}: node {number}" for number in range(1, len(before) + 1)]
    return [
        Idle(name, seconds, since(used, now), IDLE_TARGET_PERCENT)
        for name, used, now in zip(names, before, after, strict=True)
    ]

"""How much time Darkroom adds to a frame and to a mutation, beside the same thing without it.

Three processes: the client (this one), a Darkroom as anybody runs it (SQLite, a folder), and an upstream of our own.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.checks import WrongError
from bench.figures import Section
from bench.measurements import frames, lanes, mutations, warm_up
from bench.plan import Plan
from bench.setups import settings
from tests.process import Process, serve

Say = Callable[[str], None]


def added_time(plan: Plan, folder: Path, address: str, say: Say, *, pin: bool) -> list[Section]:
    """Measure all workloads; `address` is where the upstream is, and the data goes into `folder`."""
    say("starting Darkroom")
    # One core for Darkroom; client and upstream share another, as where the figures of other gateways come from.
    with pinned(0 if pin else None), serve(folder, **settings(address)) as server, pinned(1 if pin else None):
        try:
            return asyncio.run(_measure(plan, server, address, say))
        except (WrongError, TimeoutError, httpx.HTTPError):
            say("the last lines of Darkroom's log:\n" + "".join(server.log[-20:]))
            raise


async def _measure(plan: Plan, server: Process, address: str, say: Say) -> list[Section]:
    async with lanes([server], address, max(workload.streams for workload in plan.workloads)) as clients:
        say("warming up")
        await warm_up(clients, plan)
        sections = []
        for workload in plan.workloads:
            say(f"frames: {workload.title}")
            sections.append(await frames(workload, clients))
        say("mutations")
        sections.append(await mutations(plan.mutations, clients))
        return sections


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run on the n-th core this process may use; what is started meanwhile stays there. None changes nothing."""
    if core is None:
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(cores)[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)

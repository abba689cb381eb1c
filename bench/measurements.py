"""The measurements themselves. Direct and through Darkroom take turns, so that both meet the same machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import cycle, islice

import httpx

from bench.checks import WrongError
from bench.clients import Arrived, Direct, Watcher, watcher
from bench.figures import Comparison, Section, Throughput
from bench.plan import FRAME_TARGET_MS, MUTATION_TARGET_MS, TASKS_TARGET, Plan, Workload
from bench.processor import since
from bench.setups import Running
from bench.upstream import Order
from tests.server import Reachable

_REST_SECONDS = 0.05
"""Between two rounds, so that what one leaves to be done is not paid for by the next."""
SMALL = Order(pictures="small")


@dataclass(frozen=True, slots=True)
class Lanes:
    """Clients of both kinds; number `i` of each belong together."""

    direct: list[Direct]
    watchers: list[Watcher]


@asynccontextmanager
async def lanes(servers: Sequence[Reachable], upstream: str, number: int) -> AsyncIterator[Lanes]:
    """So many clients of each kind, with connections of their own that stay open; spread evenly over the servers."""
    async with AsyncExitStack() as stack:
        opened = Lanes([], [])
        for server in islice(cycle(servers), number):
            # Nothing here is encrypted, and 64 times the certificates of the world take seconds to load.
            http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=60, verify=False))
            opened.direct.append(Direct(upstream, http))
            opened.watchers.append(await stack.enter_async_context(watcher(server, upstream, http)))
        yield opened


async def warm_up(clients: Lanes, plan: Plan) -> None:
    """Let everything be imported, compiled and connected; and look once at every picture that arrives."""
    await _warm(clients, plan.warm_up)
    for workload in {one.pictures: one for one in reversed(plan.workloads)}.values():
        order = workload.order(0).model_copy(update={"images": 1})
        await clients.direct[0].stream(order)
        await clients.watchers[0].stream(order, look=True)


async def connect(clients: Lanes, plan: Plan) -> None:
    """The same for whole tasks: every client has had one, and the first ones many."""
    await _warm(clients, plan.warm_up)
    await asyncio.gather(*(client.ask(SMALL) for client in clients.direct))
    await asyncio.gather(*(client.ask(SMALL) for client in clients.watchers))


async def _warm(clients: Lanes, times: int) -> None:
    for _ in range(times):
        await clients.direct[0].post(SMALL)
        await clients.watchers[0].post(SMALL)


async def frames(workload: Workload, clients: Lanes) -> Section:
    """How long a frame takes from the upstream to a client."""
    direct: list[Arrived] = []
    darkroom: list[Arrived] = []
    began = time.monotonic()
    used = 0.0
    rounds = 0
    while rounds == 0 or used * (rounds + 1) / rounds <= workload.seconds:
        orders = [workload.order(rounds * workload.streams + lane) for lane in range(workload.streams)]
        read = [client.stream(order) for client, order in zip(clients.direct, orders, strict=False)]
        direct += [frame for stream in await asyncio.gather(*read) for frame in stream]
        await asyncio.sleep(_REST_SECONDS)
        watched = [
            client.stream(order, placeholder=workload.placeholder)
            for client, order in zip(clients.watchers, orders, strict=False)
        ]
        darkroom += [frame for stream in await asyncio.gather(*watched) for frame in stream]
        await asyncio.sleep(_REST_SECONDS)
        rounds += 1
        used = time.monotonic() - began
    rows = []
    for what, stages in (("partial", {"partial"}), ("final", {"final"}), ("all frames", {"partial", "final"})):
        without, through = ([one.milliseconds for one in side if one.stage in stages] for side in (direct, darkroom))
        rows.append(Comparison(what, without, through, FRAME_TARGET_MS))
    return Section(workload.title, rows)


async def mutations(number: int, clients: Lanes) -> Section:
    """How long it takes from the client's click until the upstream has the headers of the POST, on an idle server."""
    row = Comparison("until the POST is received", target=MUTATION_TARGET_MS)
    for _ in range(number):
        row.direct.append((await clients.direct[0].post(SMALL)).milliseconds)
        row.darkroom.append((await clients.watchers[0].post(SMALL)).milliseconds)
    return Section("Mutation, idle server", [row])


async def throughput(clients: Lanes, number: int, seconds: float, darkroom: Running) -> Throughput:
    """Small tasks as fast as these clients can ask for them; each waits for one before it starts the next.

    Raises `WrongError` when the upstream was not asked for exactly as many pictures as there were tasks.
    """
    direct_seconds, direct = await _busy([client.ask for client in clients.direct[:number]], seconds / 2)
    billed, nodes, database = await clients.direct[0].billed(), darkroom.node_seconds(), darkroom.database_seconds()
    darkroom_seconds, tasks = await _busy([client.ask for client in clients.watchers[:number]], seconds)
    nodes, database = since(nodes, darkroom.node_seconds()), since(database, darkroom.database_seconds())
    if (paid := await clients.direct[0].billed() - billed) != len(tasks):
        raise WrongError(f"{len(tasks)} tasks of one picture each asked the upstream for {paid} generations.")
    target = TASKS_TARGET if number > 1 else None
    return Throughput(number, darkroom_seconds, tasks, direct_seconds, direct, nodes, database, target)


async def _busy(clients: list[Callable[[Order], Awaitable[object]]], seconds: float) -> tuple[float, list[float]]:
    took: list[float] = []
    began = time.monotonic()

    async def work(ask: Callable[[Order], Awaitable[object]]) -> None:
        more = True
        while more:
            asked = time.monotonic()
            await ask(SMALL)
            took.append((time.monotonic() - asked) * 1e3)
            more = time.monotonic() - began < seconds

    await asyncio.gather(*(work(client) for client in clients))
    return time.monotonic() - began, took

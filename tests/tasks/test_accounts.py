"""What the nodes know about an account, together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from providers.contract import Accepted, FinalImage, ProviderEvent, Submission
from providers.errors import FailureCode, ProviderError, Transport, UnavailableError
from tasks.accounts import Accounts
from tasks.circuit import CircuitStatus
from tasks.database import Database
from tasks.errors import DatabaseUnavailableError, LostTaskError
from tasks.events import NoticeGiven, Succeeded
from tasks.signals import Signals
from tasks.watch import watch
from tests.tasks.conftest import Shelf
from tests.tasks.test_run import Scripted, picture, run, workplace

pytestmark = pytest.mark.anyio

ACCOUNT = "openai_images"
THRESHOLD = 5


def outage() -> ProviderError:
    return UnavailableError("HTTP 503", transport=Transport.PERHAPS_SENT)


async def broken(accounts: Accounts) -> Accounts:
    """Let an account fail until nothing is sent to it."""
    for _ in range(THRESHOLD):
        await accounts.failed(ACCOUNT, outage())
    return accounts


async def test_what_one_node_has_learned_another_one_knows(shelf: Shelf) -> None:
    one, other = (Accounts(shelf.database, shelf.signals, [ACCOUNT]) for _ in range(2))
    await broken(one)
    assert other.admits(ACCOUNT) is None, "nobody has told it yet"
    found = await other.read(ACCOUNT)
    await one.succeeded(ACCOUNT)
    later = Accounts(shelf.database, shelf.signals, [ACCOUNT])
    await later.open()

    assert (found.state, found.last_failure) == (CircuitStatus.OPEN, FailureCode.UNAVAILABLE)
    assert later.state(ACCOUNT) == one.state(ACCOUNT)
    assert later.state(ACCOUNT).state is CircuitStatus.CLOSED


async def test_a_hint_tells_the_other_nodes_at_once(postgres_url: str) -> None:
    nodes: list[tuple[Database, Signals, Accounts]] = []
    for _ in range(2):
        database = Database(postgres_url)
        if not nodes:
            await database.migrate()
        signals = Signals(database)
        nodes.append((database, signals, Accounts(database, signals, [ACCOUNT])))
        await signals.open()
    one, other = (accounts for _, _, accounts in nodes)
    news = other.news(ACCOUNT)
    await one.failed(ACCOUNT, outage())
    async with asyncio.timeout(10):
        await news.wait()
    for database, signals, _ in nodes:
        await signals.close()
        await database.close()

    assert other.state(ACCOUNT).failures == 1


async def test_looking_into_the_table_does_not_undo_what_could_not_be_written_yet(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = Accounts(shelf.database, shelf.signals, [ACCOUNT])
    await accounts.failed(ACCOUNT, outage())

    async def away(_: Any) -> None:
        raise DatabaseUnavailableError("the connection was lost")

    with monkeypatch.context() as patch:
        patch.setattr(shelf.database, "write", away)
        await broken(accounts)
    assert (await accounts.read(ACCOUNT)).state is CircuitStatus.OPEN


async def test_looking_into_the_table_does_not_send_a_second_probe(shelf: Shelf) -> None:
    accounts = await broken(Accounts(shelf.database, shelf.signals, [ACCOUNT]))
    later = datetime.now(UTC) + timedelta(minutes=1)
    accounts._circuits[ACCOUNT]._clock = lambda: later
    assert accounts.admits(ACCOUNT) is None
    assert (await accounts.read(ACCOUNT)).state is CircuitStatus.HALF_OPEN
    assert (accounts.admits(ACCOUNT) or 0) > 1


async def test_whoever_waits_for_an_account_goes_on_as_soon_as_it_works_again(shelf: Shelf) -> None:
    at = workplace(shelf)
    await broken(at.accounts)
    later = datetime.now(UTC) + timedelta(minutes=1)
    at.accounts._circuits[ACCOUNT]._clock = lambda: later
    assert at.accounts.admits(ACCOUNT) is None, "this is the probe"
    at.accounts._circuits[ACCOUNT]._clock = lambda: datetime.now(UTC)
    task = await shelf.claimed()
    provider = Scripted([Accepted(Submission()), FinalImage(0, picture())])
    running = asyncio.create_task(run(shelf, provider, task, at=at))
    async with aclosing(watch(shelf.feed, shelf.history, task.id)) as events:
        async for event in events:
            if isinstance(event.change, NoticeGiven):
                assert "HTTP 503" in event.change.message
                break
    assert provider.posts == 0
    await at.accounts.succeeded(ACCOUNT)

    changes = await asyncio.wait_for(running, 10)
    assert isinstance(changes[-1], Succeeded)


async def test_a_probe_that_is_canceled_before_it_is_sent_lets_the_next_one_go(shelf: Shelf) -> None:
    at = workplace(shelf)
    await broken(at.accounts)
    later = datetime.now(UTC) + timedelta(minutes=1)
    at.accounts._circuits[ACCOUNT]._clock = lambda: later
    lost = await shelf.claimed()
    await shelf.journal.claim(lost.id)
    with pytest.raises(LostTaskError):
        await run(shelf, Scripted([]), lost, at=at)

    assert at.accounts.admits(ACCOUNT) is None


class Silent(Scripted):
    """A provider that has been sent the request and says nothing."""

    def __init__(self) -> None:
        super().__init__([])
        self.sent = asyncio.Event()

    async def run(self, *_: object, **__: object) -> AsyncGenerator[ProviderEvent, None]:
        self.sent.set()
        await asyncio.Event().wait()
        yield Accepted(Submission())


async def test_a_probe_that_is_stopped_after_it_was_sent_lets_the_next_one_go(shelf: Shelf) -> None:
    at = workplace(shelf)
    await broken(at.accounts)
    later = datetime.now(UTC) + timedelta(minutes=1)
    at.accounts._circuits[ACCOUNT]._clock = lambda: later
    provider = Silent()
    running = asyncio.create_task(run(shelf, provider, at=at))
    await asyncio.wait_for(provider.sent.wait(), 10)
    assert at.accounts.admits(ACCOUNT), "it is the probe"
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert at.accounts.admits(ACCOUNT) is None

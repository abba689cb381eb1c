"""What is known about the accounts at the providers, on all nodes together: is it any use to send something now?

Each node has a circuit per account that its own traffic feeds. When one changes, it is written down and the others are
told, so that a node that has sent nothing yet need not find out for itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.exc import SQLAlchemyError

from providers.errors import ProviderError
from tasks.circuit import CIRCUIT_STATE, Circuit, CircuitState
from tasks.database import Database
from tasks.errors import DatabaseUnavailableError
from tasks.records import now
from tasks.signals import Signals
from tasks.tables import ACCOUNTS

log = logging.getLogger(__name__)

CIRCUIT_SIGNAL = "circuit"
"""The hint to other nodes that the circuit of a provider, the text of the hint, has changed."""


class Accounts:
    """The circuits of all accounts."""

    def __init__(self, database: Database, signals: Signals, providers: Iterable[str]) -> None:
        self._database = database
        self._signals = signals
        self._circuits = {name: Circuit() for name in providers}
        self._stored: dict[str, CircuitState] = {}
        """What is written down, as far as this node knows."""
        self._storing = {name: asyncio.Lock() for name in self._circuits}
        self._news = {name: asyncio.Event() for name in self._circuits}
        self._loading: set[asyncio.Task[None]] = set()
        signals.on(CIRCUIT_SIGNAL, self._changed_elsewhere)

    async def open(self) -> None:
        """Begin with what is written down."""
        for provider in self._circuits:
            await self._load(provider)

    def admits(self, provider: str) -> float | None:
        """None when a request may be sent now; otherwise the seconds to wait before asking again."""
        return self._circuits[provider].admits()

    def news(self, provider: str) -> asyncio.Event:
        """Set when the next thing is learned about an account: it may be worth asking `admits` again at once."""
        return self._news[provider]

    def state(self, provider: str) -> CircuitState:
        """What is known about an account."""
        return self._circuits[provider].state

    async def read(self, provider: str) -> CircuitState:
        """What all nodes together know about an account; a node that sends nothing itself may have missed a hint."""
        await self._load(provider)
        return self.state(provider)

    def reason(self, provider: str) -> str:
        """Why nothing is sent to it now, for a person."""
        state = self.state(provider)
        until = f" It is tried again at {_time(state.retry_at)}." if state.retry_at is not None else ""
        return f"{state.last_message or ''}{until}".strip()

    async def succeeded(self, provider: str) -> None:
        """It has accepted a generation."""
        await self._change(provider, None)

    async def failed(self, provider: str, error: ProviderError) -> None:
        """It has refused or failed."""
        await self._change(provider, error)

    def abandoned(self, provider: str) -> None:
        """A request ended without telling anything about the account."""
        self._circuits[provider].abandoned()
        self._tell(provider)

    async def _change(self, provider: str, error: ProviderError | None) -> None:
        circuit = self._circuits[provider]
        before = circuit.state
        if error is None:
            circuit.succeeded()
        else:
            circuit.failed(error)
        after = circuit.state
        if before == after:
            return
        self._tell(provider)
        if before.state is not after.state:
            log.warning("The circuit of %s is %s. %s", provider, after.state.value, self.reason(provider))
        await self._store(provider)

    async def _store(self, provider: str) -> None:
        async with self._storing[provider]:
            state = self.state(provider)
            if state == self._stored.get(provider):
                return
            try:
                await self._database.write(lambda connection: self._save(connection, provider, state))
            except (DatabaseUnavailableError, SQLAlchemyError) as exc:
                log.warning("The other nodes could not be told about the circuit of %s: %s", provider, exc)
            else:
                self._stored[provider] = state

    def _save(self, connection: Connection, provider: str, state: CircuitState) -> None:
        values = {"circuit": CIRCUIT_STATE.dump_python(state, mode="json"), "updated_at": now()}
        change = ACCOUNTS.update().where(ACCOUNTS.c.provider == provider).values(values)
        if connection.execute(change).rowcount == 0:
            connection.execute(ACCOUNTS.insert(), values | {"provider": provider})
        self._signals.send(connection, CIRCUIT_SIGNAL, provider)

    def _changed_elsewhere(self, provider: str) -> None:
        if provider in self._circuits:
            loading = asyncio.create_task(self._load(provider))
            self._loading.add(loading)
            loading.add_done_callback(self._loading.discard)

    async def _load(self, provider: str) -> None:
        """Take over what another node has written; what this node has learned since its own last word stays."""
        async with self._storing[provider]:
            wanted = select(ACCOUNTS.c.circuit).where(ACCOUNTS.c.provider == provider)
            circuit = await self._database.read(lambda connection: connection.execute(wanted).scalar_one_or_none())
            found = None if circuit is None else CIRCUIT_STATE.validate_python(circuit)
            if found is None or found == self._stored.get(provider):
                return
            self._stored[provider] = found
            self._circuits[provider] = Circuit(found)
            self._tell(provider)

    def _tell(self, provider: str) -> None:
        self._news[provider].set()
        self._news[provider] = asyncio.Event()


def _time(at: datetime) -> str:
    return at.strftime("%H:%M:%S UTC")

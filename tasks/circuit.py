"""The circuit of a provider account: whether to send it anything now, judged by real traffic alone.

    CLOSED       everything goes; failures in a row are counted
    OPEN         nothing goes until `retry_at`: too many failures, credentials that do not work, or a pause that the
                 provider asked for
    HALF_OPEN    one generation is on its way to see whether the account works again; the others wait

A pause the provider asked for ends by itself; any other opening ends with a generation that gets through, and each
probe that fails makes the next wait longer. Nothing is ever generated only to find out.

This is logic without a clock or a database of its own: `Circuit(state)` goes on from a stored state, `CIRCUIT_STATE`
turns a state into plain JSON and back, and a state that is equal to the one before need not be stored.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter

from providers.described import DescribedEnum
from providers.errors import FailureCode, ProviderError, Transport

LONGEST_COOLDOWN = 60.0
"""Seconds until the next probe at most, before jitter."""
BLOCKED_COOLDOWN = 30.0
"""The first wait after credentials or a quota were refused: only a person can mend that."""
LONGEST_PAUSE = 120.0
"""Seconds a provider that asks for a pause gets at most; if it still means it, it says so again."""
UNSAID_PAUSE = 5.0
"""Seconds for a provider that is receiving too many requests and does not say when to come back."""
PROBE_SECONDS = 60.0
"""A probe that has said nothing by then may have died with its node: another one may go."""

_JITTER = 0.25
_FRESH = timedelta(seconds=10)
"""How exact `last_success_at` is: a circuit that is fine is not stored anew for every picture."""

_ANSWERED = frozenset({FailureCode.INVALID_REQUEST, FailureCode.REFUSED})
"""Failures of a request, told by a provider that works."""
_BLOCKING = frozenset({FailureCode.UNAUTHORIZED, FailureCode.QUOTA_EXHAUSTED})
"""Nothing else can work either."""
_OUTAGE = frozenset({FailureCode.UNAVAILABLE, FailureCode.TIMED_OUT, FailureCode.OUTCOME_UNKNOWN})
"""Signs of an outage, unless the provider had accepted the generation: what goes wrong then may be its own."""


class CircuitStatus(DescribedEnum):
    """Whether generations are sent to a provider account at the moment."""

    CLOSED = "closed", "Generations are sent as they come."
    OPEN = "open", "Nothing is sent until a set time, because requests failed or the provider asked for a pause."
    HALF_OPEN = "half_open", "One generation has been sent to see whether the account works again; the others wait."


@dataclass(frozen=True, slots=True)
class CircuitState:
    """Everything a circuit knows. Messages are for people, as the adapter wrote them."""

    state: CircuitStatus = CircuitStatus.CLOSED
    failures: int = 0
    """Signs of an outage in a row."""
    openings: int = 0
    """How often it has opened since the account last worked; 0 in a pause that the provider asked for."""
    opened_at: datetime | None = None
    """Since when it has not been closed."""
    retry_at: datetime | None = None
    """When the next generation may go. None while it is closed."""
    last_failure: FailureCode | None = None
    last_message: str | None = None
    """Of the last failure that counted, also when the account has worked since."""
    last_success_at: datetime | None = None
    """When the provider last showed that it works, within ten seconds."""


CIRCUIT_STATE: TypeAdapter[CircuitState] = TypeAdapter(CircuitState)


def _now() -> datetime:
    return datetime.now(UTC)


class Circuit:
    """The circuit of one account. Each generation asks `admits` before it is sent and then tells what came of it:
    `succeeded` as soon as the provider has accepted it, `failed` with what went wrong before or after that, or
    `abandoned`.
    """

    def __init__(
        self,
        state: CircuitState | None = None,
        *,
        threshold: int = 5,
        cooldown: float = 5.0,
        clock: Callable[[], datetime] = _now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`threshold` failures in a row open it, for `cooldown` seconds the first time. `chance` gives 0–1."""
        self._state = state or CircuitState()
        self._threshold = threshold
        self._cooldown = cooldown
        self._clock = clock
        self._chance = chance

    @property
    def state(self) -> CircuitState:
        """What there is to store and to show. A pause that the provider asked for is over when its time is."""
        state = self._state
        over = state.retry_at is not None and state.retry_at <= self._clock()
        if state.state is CircuitStatus.OPEN and state.openings == 0 and over:
            return replace(state, state=CircuitStatus.CLOSED, opened_at=None, retry_at=None)
        return state

    def admits(self) -> float | None:
        """None: send it, now. Otherwise the seconds until it is worth asking again.

        Whoever gets None from a circuit that was open is the probe.
        """
        now = self._clock()
        self._state = state = self.state
        if state.state is CircuitStatus.CLOSED:
            return None
        if state.retry_at is not None and state.retry_at > now:
            return (state.retry_at - now).total_seconds()
        self._state = replace(state, state=CircuitStatus.HALF_OPEN, retry_at=now + timedelta(seconds=PROBE_SECONDS))
        return None

    def succeeded(self) -> None:
        """The provider accepted a generation, or answered in another way that only one that works can."""
        now, state = self._clock(), self._state
        if state.last_success_at is None or now - state.last_success_at >= _FRESH or state.failures or state.openings:
            state = replace(state, last_success_at=now)
        if state.state is CircuitStatus.OPEN and state.openings == 0:
            self._state = replace(state, failures=0)  # it works, and still wants its pause
        else:
            self._state = replace(
                state, state=CircuitStatus.CLOSED, failures=0, openings=0, opened_at=None, retry_at=None
            )

    def failed(self, error: ProviderError) -> None:
        """A generation failed. What that says about the account is decided here; much of it says nothing."""
        if not error.counts_against_account:
            self.abandoned()
        elif error.code in _ANSWERED and error.transport is not Transport.NOT_SENT:
            self.succeeded()
        elif error.code is FailureCode.RATE_LIMITED:
            self._pause(error)
        elif error.code in _BLOCKING:
            self._note(error)
            self._open(BLOCKED_COOLDOWN)
        elif error.code in _OUTAGE and error.transport is not Transport.ACCEPTED:
            self._note(error)
            self._state = state = replace(self._state, failures=self._state.failures + 1)
            if state.state is CircuitStatus.HALF_OPEN or state.failures >= self._threshold:
                self._open(self._cooldown)
        else:
            self.abandoned()

    def abandoned(self) -> None:
        """A generation ended without telling anything about the account, for example because it was canceled. If it
        was the probe, the next one may go at once.
        """
        if self._state.state is CircuitStatus.HALF_OPEN:
            self._state = replace(self._state, retry_at=self._clock())

    def _note(self, error: ProviderError) -> None:
        self._state = replace(self._state, last_failure=error.code, last_message=error.message)

    def _pause(self, error: ProviderError) -> None:
        """Wait as long as the provider asks. It answered, so it is no outage."""
        self._note(error)
        now, state = self._clock(), self._state
        asked = UNSAID_PAUSE * self._jitter() if error.retry_after is None else min(error.retry_after, LONGEST_PAUSE)
        until = now + timedelta(seconds=asked)
        if state.state is CircuitStatus.OPEN and state.openings == 0 and state.retry_at is not None:
            until = max(until, state.retry_at)
        self._state = replace(
            state,
            state=CircuitStatus.OPEN,
            failures=0,
            openings=0,
            opened_at=state.opened_at or now,
            retry_at=until,
        )

    def _open(self, cooldown: float) -> None:
        """Open it, longer each time. One that is open already stays as it is: this was sent before it opened."""
        now, state = self._clock(), self._state
        if state.state is CircuitStatus.OPEN and state.openings:
            return
        wait = min(LONGEST_COOLDOWN, cooldown * 2 ** min(state.openings, 10)) * self._jitter()
        until = now + timedelta(seconds=wait)
        if state.state is CircuitStatus.OPEN and state.retry_at is not None:
            until = max(until, state.retry_at)  # the pause that was asked for still counts
        self._state = replace(
            state,
            state=CircuitStatus.OPEN,
            openings=state.openings + 1,
            opened_at=state.opened_at or now,
            retry_at=until,
        )

    def _jitter(self) -> float:
        return 1 + _JITTER * self._chance()

"""The circuit of an account: what opens it, how long it waits, who may try, and what it is not fooled by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import (
    BadResponseError,
    FailureCode,
    InvalidRequestError,
    OutcomeUnknownError,
    ProviderError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
    ResultUnavailableError,
    TimedOutError,
    Transport,
    TruncatedError,
    UnauthorizedError,
    UnavailableError,
)
from tasks.circuit import CIRCUIT_STATE, PROBE_SECONDS, Circuit, CircuitState, CircuitStatus

DOWN = UnavailableError("api.example is down", transport=Transport.PERHAPS_SENT)
UNREACHABLE = UnavailableError("nobody there", transport=Transport.NOT_SENT, billed=False)
LATE = TimedOutError("api.example took too long", transport=Transport.PERHAPS_SENT, status=504)
LOST = OutcomeUnknownError("no answer", transport=Transport.PERHAPS_SENT)
DENIED = UnauthorizedError("the token is wrong", transport=Transport.ACCEPTED, billed=False)
BROKE = QuotaExhaustedError("no credits left", transport=Transport.ACCEPTED, billed=False)
REFUSED = RefusedError("not this prompt", transport=Transport.ACCEPTED, billed=False)
INVALID = InvalidRequestError("not this size", transport=Transport.ACCEPTED, billed=False)


def limited(seconds: float | None) -> ProviderError:
    return RateLimitedError("too many", transport=Transport.ACCEPTED, billed=False, retry_after=seconds)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 20, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Account:
    """A circuit without jitter, and its clock."""

    def __init__(self, chance: float = 0, threshold: int = 3, cooldown: float = 5) -> None:
        self.clock = Clock()
        self.circuit = Circuit(threshold=threshold, cooldown=cooldown, clock=self.clock, chance=lambda: chance)

    @property
    def state(self) -> CircuitState:
        return self.circuit.state

    def fails(self, error: ProviderError = DOWN, times: int = 1) -> None:
        for _ in range(times):
            self.circuit.failed(error)

    def probe(self) -> None:
        """Wait as long as the circuit says, and be let through."""
        self.clock.wait(self.circuit.admits() or 0)
        assert self.circuit.admits() is None
        assert self.state.state is CircuitStatus.HALF_OPEN


@pytest.mark.parametrize("error", [DOWN, UNREACHABLE, LATE, LOST], ids=lambda error: str(error.code))
def test_it_opens_when_requests_fail_in_a_row(error: ProviderError) -> None:
    account = Account(threshold=3)
    account.fails(error, times=2)
    assert account.circuit.admits() is None
    account.fails(error)

    assert account.circuit.admits() == 5
    account.clock.wait(2)
    assert account.circuit.admits() == 3
    assert (account.state.last_failure, account.state.last_message) == (error.code, str(error))
    assert account.state.failures == 3


def test_failures_that_are_not_in_a_row_open_nothing() -> None:
    account = Account(threshold=3)
    for _ in range(5):
        account.fails(times=2)
        account.circuit.succeeded()

    assert account.circuit.admits() is None
    assert account.state.failures == 0


@pytest.mark.parametrize("error", [REFUSED, INVALID], ids=lambda error: str(error.code))
def test_a_provider_that_refuses_a_request_works(error: ProviderError) -> None:
    account = Account(threshold=3)
    account.fails(times=2)
    account.fails(error)
    assert (account.state.failures, account.state.last_success_at) == (0, account.clock.now)

    account.fails(times=3)
    account.probe()
    account.fails(error)
    assert account.state.state is CircuitStatus.CLOSED


@pytest.mark.parametrize(
    "error",
    [
        TimedOutError("our own clock", transport=Transport.ACCEPTED),
        UnavailableError("this generation failed", transport=Transport.ACCEPTED),
        OutcomeUnknownError("cannot be opened again", transport=Transport.ACCEPTED),
        TruncatedError("cut", transport=Transport.ACCEPTED),
        BadResponseError("odd", transport=Transport.ACCEPTED),
        ResultUnavailableError("a dead link", transport=Transport.ACCEPTED),
        InvalidRequestError("stored by another version", transport=Transport.NOT_SENT),
        UnauthorizedError("not this model", transport=Transport.ACCEPTED, counts_against_account=False),
        UnavailableError("no callback URL", transport=Transport.NOT_SENT, counts_against_account=False),
    ],
    ids=str,
)
def test_what_says_nothing_about_the_account_changes_nothing(error: ProviderError) -> None:
    account = Account(threshold=3)
    account.fails(times=2)
    before = account.state
    account.fails(error, times=9)

    assert account.state == before


@pytest.mark.parametrize("error", [DENIED, BROKE], ids=lambda error: str(error.code))
def test_what_only_a_person_can_mend_opens_it_at_once(error: ProviderError) -> None:
    account = Account(threshold=3)
    account.fails(error)
    assert account.circuit.admits() == 30
    assert account.state.last_failure is error.code

    account.probe()
    account.circuit.succeeded()
    assert account.circuit.admits() is None


def test_one_generation_is_let_through_to_see_and_the_others_wait() -> None:
    account = Account()
    account.fails(times=3)
    account.clock.wait(5)

    assert account.circuit.admits() is None
    assert [account.circuit.admits() for _ in range(3)] == [PROBE_SECONDS] * 3
    account.circuit.succeeded()
    assert [account.circuit.admits() for _ in range(3)] == [None] * 3
    assert account.state == CircuitState(
        last_failure=FailureCode.UNAVAILABLE, last_message=str(DOWN), last_success_at=account.clock.now
    )


def test_the_wait_doubles_while_probes_fail_up_to_a_minute() -> None:
    account = Account(cooldown=5)
    account.fails(times=3)
    since = account.state.opened_at
    waits = []
    for _ in range(6):
        waits.append(account.circuit.admits())
        account.probe()
        account.fails()

    assert waits == [5, 10, 20, 40, 60, 60]
    assert account.state.opened_at == since, "it has been down all the time"
    account.probe()
    account.circuit.succeeded()
    account.fails(times=3)
    assert account.circuit.admits() == 5, "the next outage begins anew"


def test_a_probe_that_fails_opens_it_again_whatever_it_fails_with() -> None:
    account = Account(threshold=3, cooldown=5)
    account.fails(DENIED)
    account.probe()
    account.fails(DOWN)
    assert (account.state.state, account.circuit.admits()) == (CircuitStatus.OPEN, 10)
    account.probe()
    account.fails(DENIED)
    assert (account.state.state, account.circuit.admits()) == (CircuitStatus.OPEN, 60)


def test_accounts_do_not_come_back_in_step() -> None:
    waits = []
    for chance in (0, 0.5, 1):
        account = Account(chance=chance)
        account.fails(times=3)
        waits.append(account.circuit.admits())

    assert waits == [5, 5.625, 6.25]


@pytest.mark.parametrize(("asked", "wait"), [(7, 7), (0.5, 0.5), (3600, 120), (None, 5)])
def test_a_pause_the_provider_asks_for_is_kept_and_no_outage(asked: float | None, wait: float) -> None:
    account = Account(threshold=3)
    account.fails(times=2)
    account.fails(limited(asked))
    assert account.circuit.admits() == wait
    assert (account.state.failures, account.state.last_failure) == (0, FailureCode.RATE_LIMITED)

    account.clock.wait(wait)
    assert [account.circuit.admits() for _ in range(3)] == [None] * 3, "nobody has to try first"
    assert account.state.state is CircuitStatus.CLOSED


def test_what_was_sent_before_the_pause_does_not_end_it() -> None:
    account = Account(threshold=3)
    account.fails(limited(20))
    account.circuit.succeeded()
    account.fails(REFUSED)
    account.fails(limited(3))
    account.fails(times=2)
    assert account.circuit.admits() == 20
    account.fails()
    assert account.circuit.admits() == 20
    account.clock.wait(20)
    assert account.circuit.admits() is None
    assert account.state.state is CircuitStatus.HALF_OPEN, "meanwhile it has become an outage"


def test_a_provider_that_asks_for_a_pause_is_back() -> None:
    account = Account()
    account.fails(times=3)
    account.probe()
    account.fails(limited(9))
    account.clock.wait(9)

    assert account.circuit.admits() is None
    assert account.state.state is CircuitStatus.CLOSED


def test_what_was_sent_before_it_opened_makes_no_difference() -> None:
    account = Account(threshold=3)
    account.fails(times=3)
    account.clock.wait(4)
    account.fails(times=20)
    assert account.circuit.admits() == 1


def test_anything_that_gets_through_closes_it() -> None:
    account = Account()
    account.fails(times=3)
    account.circuit.succeeded()
    assert account.circuit.admits() is None


def test_a_probe_that_tells_nothing_makes_room_for_the_next() -> None:
    account = Account()
    account.fails(times=3)
    account.probe()
    account.circuit.abandoned()
    assert account.circuit.admits() is None
    assert account.circuit.admits() == PROBE_SECONDS


def test_a_probe_that_died_with_its_node_blocks_nobody_for_ever() -> None:
    account = Account()
    account.fails(times=3)
    account.probe()
    account.clock.wait(PROBE_SECONDS)
    assert account.circuit.admits() is None
    assert account.circuit.admits() == PROBE_SECONDS


def test_abandoning_something_else_opens_and_closes_nothing() -> None:
    account = Account()
    account.circuit.abandoned()
    assert account.state == CircuitState()
    account.fails(times=3)
    before = account.state
    account.circuit.abandoned()
    assert account.state == before


def test_a_circuit_that_is_fine_need_not_be_stored_for_every_picture() -> None:
    account = Account()
    account.circuit.succeeded()
    first = account.state
    account.clock.wait(9)
    account.circuit.succeeded()
    assert account.state == first
    account.clock.wait(1)
    account.circuit.succeeded()
    assert account.state.last_success_at == account.clock.now


def test_another_node_goes_on_where_this_one_stopped() -> None:
    account = Account()
    account.fails(DENIED)
    stored = orjson.dumps(CIRCUIT_STATE.dump_python(account.state, mode="json"))
    other = Circuit(CIRCUIT_STATE.validate_python(orjson.loads(stored)), clock=account.clock)

    assert other.state == account.state
    account.clock.wait(10)
    assert other.admits() == 20
    account.clock.wait(20)
    assert other.admits() is None


def test_a_state_stored_by_another_version_is_still_read() -> None:
    assert CIRCUIT_STATE.validate_python({"state": "closed", "surprise": 1}) == CircuitState()


STEPS = st.one_of(
    st.sampled_from([DOWN, LOST, DENIED, BROKE, REFUSED, limited(None), limited(0), limited(9999), None, "abandoned"]),
    st.floats(min_value=0, max_value=90),
)


@given(st.lists(STEPS, max_size=40), st.floats(min_value=0, max_value=1))
def test_whatever_happens_nobody_waits_for_ever_and_probes_go_one_by_one(
    steps: list[ProviderError | str | float | None], chance: float
) -> None:
    account = Account(chance=chance)
    probes: list[datetime] = []
    for step in steps:
        match step:
            case ProviderError():
                account.fails(step)
            case "abandoned":
                account.circuit.abandoned()
            case None:
                account.circuit.succeeded()
            case float():
                account.clock.wait(step)
            case _:
                raise AssertionError(step)
        if not isinstance(step, float):
            probes.clear()  # something came of the last one
        wait = account.circuit.admits()
        assert wait is None or 0 < wait <= 120
        if account.state.state is CircuitStatus.HALF_OPEN and wait is None:
            probes.append(account.clock.now)
        assert all(later - earlier >= timedelta(seconds=PROBE_SECONDS) for earlier, later in pairwise(probes))
        assert (account.state.state is CircuitStatus.CLOSED) == (account.state.retry_at is None)
        stored = CIRCUIT_STATE.validate_json(CIRCUIT_STATE.dump_json(account.state))
        assert stored == account.state

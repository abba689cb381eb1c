"""One suite over all providers: what the rest of Darkroom relies on, whoever draws the picture.

Every adapter talks to its own simulator over a real socket; faults are scripted in the prompt. What a provider
promises beyond this, and every parameter and error of its own, is tested in its own folder.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, ValidationError

from providers.contract import Accepted, CancelOutcome, FinalImage, Provider, ProviderEvent, Submission
from providers.errors import OutcomeUnknownError, ProviderError, RateLimitedError, Transport
from providers.limits import Limits
from providers.registry import PROVIDERS, AnyDefinition
from providers.sandbox.ledger import Ledger
from tasks.imaging import measure
from tests.serving import serving

pytestmark = pytest.mark.anyio

SAMPLES: dict[str, dict[str, Any]] = {
    "openai_images": {"model": "gpt-image-2", "size": "1024x640", "output_format": "jpeg", "partial_images": 1},
    "placewise": {"image_size": "thumbnail"},
    "all_images": {"mode": "simple", "name": "suite"},
}


SEVERAL: dict[str, dict[str, Any]] = {"openai_images": {"n": 4}}
"""How several pictures are asked for, of those providers where that can be chosen."""


@dataclass(frozen=True)
class Account:
    """One provider, connected to its simulator."""

    definition: AnyDefinition
    provider: Provider[BaseModel]
    ledger: Ledger

    def request(self, script: str = "") -> BaseModel:
        prompt = "A quiet lake" + (f" [[sandbox: {script}]]" if script else "")
        return self.definition.request.model_validate({"prompt": prompt, **SAMPLES[self.definition.name]})

    async def charges(self, reference: str) -> int:
        """How often a generation was paid for; bought pictures are charges of their own."""
        return len([one for one in await self.ledger.charges(reference) if not one.submission.startswith("image:")])


@pytest.fixture(params=PROVIDERS, ids=lambda definition: definition.name)
async def account(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Account]:
    definition: AnyDefinition = request.param
    ledger = Ledger(tmp_path / "ledger.db")
    async with serving(definition.simulator(ledger)) as url:
        provider = definition.connect(url)
        yield Account(definition, provider, ledger)
        await provider.aclose()
    ledger.close()


async def run(
    account: Account,
    request: BaseModel,
    reference: str,
    resume: Submission | None = None,
    known: Mapping[str, int] | None = None,
) -> list[ProviderEvent]:
    async with aclosing(account.provider.run(request, reference=reference, resume=resume, known=known)) as events:
        return [event async for event in events]


async def failing(account: Account, script: str, reference: str) -> ProviderError:
    with pytest.raises(ProviderError) as failed:
        await run(account, account.request(script), reference)
    return failed.value


def finals(events: list[ProviderEvent]) -> list[FinalImage]:
    return [event for event in events if isinstance(event, FinalImage)]


async def test_every_provider_has_a_sample_here() -> None:
    assert set(SAMPLES) == {definition.name for definition in PROVIDERS}


async def test_a_generation_is_accepted_delivered_whole_and_paid_once(account: Account) -> None:
    request, reference = account.request(), uuid4().hex
    events = await run(account, request, reference)

    assert isinstance(events[0], Accepted)
    assert sum(isinstance(event, Accepted) for event in events) == 1
    assert sorted(final.index for final in finals(events)) == list(range(account.definition.expected_images(request)))
    assert all(measure(final.data).width > 0 for final in finals(events))
    assert await account.charges(reference) == 1


async def test_what_can_be_resumed_is_never_posted_again(account: Account) -> None:
    request, reference = account.request(), uuid4().hex
    async with aclosing(account.provider.run(request, reference=reference)) as events:
        accepted = await anext(events)
    assert isinstance(accepted, Accepted)
    if account.provider.capabilities.resumable:
        resumed = await run(account, request, reference, accepted.submission)
        assert len(finals(resumed)) == account.definition.expected_images(request)
    else:
        with pytest.raises(OutcomeUnknownError) as unknown:
            await run(account, request, reference, accepted.submission)
        assert unknown.value.transport is Transport.ACCEPTED
    assert await account.charges(reference) == 1


async def test_a_picture_that_is_here_already_is_not_delivered_again_where_it_has_a_name(account: Account) -> None:
    if not account.provider.capabilities.resumable:
        return
    request, reference = account.request(), uuid4().hex
    events = await run(account, request, reference)
    assert isinstance(events[0], Accepted)
    named = [(final.provider_image_id, final.index) for final in finals(events) if final.provider_image_id is not None]
    resumed = await run(account, request, reference, events[0].submission, dict(named[1:]))

    delivered = [(final.provider_image_id, final.index) for final in finals(resumed)]
    assert delivered == (named[:1] if named else [(None, final.index) for final in finals(events)])
    assert await account.charges(reference) == 1


async def test_a_rate_limit_costs_nothing_and_says_that_waiting_helps(account: Account) -> None:
    reference = uuid4().hex
    error = await failing(account, "status=429 retry_after=3", reference)

    assert isinstance(error, RateLimitedError)
    assert (error.retryable, error.billed, error.safe_to_send_again) == (True, False, True)
    assert error.retry_after in (3, None)
    assert await account.charges(reference) == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404])
async def test_a_refusal_is_typed_free_and_final(account: Account, status: int) -> None:
    reference = uuid4().hex
    error = await failing(account, f"status={status}", reference)

    assert (error.retryable, error.billed, error.status) == (False, False, status)
    assert not error.safe_to_send_again
    assert await account.charges(reference) == 0


@pytest.mark.parametrize("status", [500, 502, 503])
async def test_a_failure_on_the_vendors_side_is_never_called_free_of_risk(account: Account, status: int) -> None:
    reference = uuid4().hex
    error = await failing(account, f"status={status}", reference)

    assert error.billed is not True
    assert error.transport is not Transport.NOT_SENT
    assert not error.safe_to_send_again
    assert await account.charges(reference) == 0


async def test_a_request_that_got_lost_is_not_called_unsent(account: Account) -> None:
    reference = uuid4().hex
    error = await failing(account, "lose=request", reference)

    assert isinstance(error, OutcomeUnknownError)
    assert error.transport is Transport.PERHAPS_SENT
    assert error.billed is None
    assert not error.safe_to_send_again


async def test_a_lost_answer_is_never_answered_with_a_second_request(account: Account) -> None:
    request, reference = account.request("lose=response"), uuid4().hex
    if account.provider.capabilities.findable:
        assert len(finals(await run(account, request, reference))) == account.definition.expected_images(request)
    else:
        with pytest.raises(OutcomeUnknownError) as unknown:
            await run(account, request, reference)
        assert unknown.value.transport is Transport.PERHAPS_SENT
    assert await account.charges(reference) == 1


async def test_a_vendor_that_is_not_there_was_sent_nothing(account: Account) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    nobody = account.definition.connect(address)
    with pytest.raises(ProviderError) as failed:
        async with aclosing(nobody.run(account.request(), reference=uuid4().hex)) as events:
            await anext(events)
    await nobody.aclose()

    assert failed.value.transport is Transport.NOT_SENT
    assert (failed.value.retryable, failed.value.billed) == (True, False)
    assert failed.value.safe_to_send_again


async def test_fields_nobody_documented_are_ignored_and_missing_ones_survived(account: Account) -> None:
    for script in ("extra_fields", "omit_fields"):
        request = account.request(script)
        assert len(finals(await run(account, request, uuid4().hex))) == account.definition.expected_images(request)


@pytest.mark.parametrize("definition", PROVIDERS, ids=lambda definition: definition.name)
def test_the_same_request_for_fewer_pictures_is_a_valid_one(definition: AnyDefinition) -> None:
    several = SEVERAL.get(definition.name, {})
    asked = {"prompt": "A quiet lake", **SAMPLES[definition.name], **several}
    request = definition.request.model_validate(asked)
    before = request.model_dump()

    for count in range(1, definition.expected_images(request) + 1):
        fewer = definition.with_images(request, count)
        assert definition.request.model_validate(fewer.model_dump()) == fewer
        assert definition.expected_images(fewer) == (count if several else definition.expected_images(request))
        assert {**fewer.model_dump(), **several} == before, "nothing else changes"
    assert request.model_dump() == before


@pytest.mark.parametrize("definition", PROVIDERS, ids=lambda definition: definition.name)
async def test_every_account_can_be_given_limits(definition: AnyDefinition, monkeypatch: pytest.MonkeyPatch) -> None:
    async def limits() -> Limits:
        provider = definition.connect("http://127.0.0.1:1")
        await provider.aclose()
        return provider.limits

    assert await limits() == Limits(concurrency=None, per_minute=None), "nobody is held back unless somebody says so"
    prefix = f"DARKROOM_{definition.name.upper()}_"
    monkeypatch.setenv(f"{prefix}CONCURRENCY", "3")
    monkeypatch.setenv(f"{prefix}PER_MINUTE", "40")
    assert await limits() == Limits(concurrency=3, per_minute=40)
    monkeypatch.setenv(f"{prefix}CONCURRENCY", "0")
    with pytest.raises(ValidationError):
        await limits()


async def test_what_cannot_be_stopped_is_not_called_stopped_and_still_delivers(account: Account) -> None:
    request, reference = account.request(), uuid4().hex
    async with aclosing(account.provider.run(request, reference=reference)) as events:
        accepted = await anext(events)
        assert isinstance(accepted, Accepted)
        outcome = await account.provider.cancel(accepted.submission)
        rest = [event async for event in events]

    assert not account.provider.capabilities.cancellable
    assert outcome in (CancelOutcome.ABANDONED, CancelOutcome.TOO_LATE)
    assert len(finals(rest)) == account.definition.expected_images(request)
    assert await account.charges(reference) == 1


async def test_asking_never_pays(account: Account) -> None:
    await account.provider.health()
    assert await account.provider.find(uuid4().hex) is None
    await account.provider.cancel(Submission(id="1"))

    assert await account.ledger.charges() == []


async def test_what_was_submitted_can_be_found_by_those_that_say_so(account: Account) -> None:
    request, reference = account.request(), uuid4().hex
    events = await run(account, request, reference)
    found = await account.provider.find(reference)

    assert isinstance(events[0], Accepted)
    assert (found is not None) == account.provider.capabilities.findable
    assert found is None or found.id == events[0].submission.id

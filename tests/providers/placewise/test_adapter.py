"""The life of an accepted task, as the settings describe the way to its result; the vendor is made of bare sockets."""

from __future__ import annotations

import asyncio
import base64
import io
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from PIL import Image
from pydantic import JsonValue

from providers.contract import Accepted, CancelOutcome, FinalImage, Progress, ProgressOrigin, Submission
from providers.errors import (
    BadResponseError,
    InvalidRequestError,
    ProviderError,
    ResultUnavailableError,
    TimedOutError,
    Transport,
    TruncatedError,
    UnavailableError,
)
from tests.providers.placewise.account import (
    CREATED,
    PNG,
    POLL,
    TOKEN,
    Outcome,
    account,
    answered,
    creating,
    job,
    picture,
    posts,
    request,
    run,
)
from tests.providers.upstream import Answer, Heard, http, json_body, kinds, upstream

pytestmark = pytest.mark.anyio

DATA_URI = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"


async def polled(*answers: bytes, **settings: Any) -> Outcome:
    return await answered(creating(*answers), **{**POLL, **settings})


async def test_without_a_result_channel_a_task_ends_with_its_id() -> None:
    async with upstream(creating(b"")) as server:
        outcome = await run(account(server.url))
    assert outcome.error is None
    (accepted,) = outcome.events
    assert isinstance(accepted, Accepted)
    assert accepted.submission.id == "41"
    assert len(server.heard) == 1, "nothing is asked that is not documented"


async def test_what_has_no_effect_is_told_after_acceptance() -> None:
    outcome = await answered(CREATED, request(creativity=3, photorealistic=True, random_seed=2**40))
    assert kinds(outcome.events) == ["Accepted", "Notice", "Notice", "Notice"]
    assert set(outcome.notices) == {"creativity", "photorealistic", "random_seed"}
    assert "model_type large" in outcome.notices["photorealistic"]


async def test_a_task_is_polled_to_its_picture() -> None:
    async with upstream(
        creating(job("waiting"), job("waiting"), job("working", x=[1]), job("ready", image=DATA_URI))
    ) as server:
        outcome = await run(account(server.url, **POLL))
    assert outcome.error is None
    assert kinds(outcome.events) == ["Accepted", "Progress", "Progress", "Progress", "FinalImage"]
    assert outcome.events[1] == Progress(None, ProgressOrigin.REPORTED, "waiting")
    assert outcome.states == ["waiting", "working", "ready"]
    assert outcome.events[-1] == FinalImage(0, PNG)
    assert posts(server.heard) == 1
    asked = server.heard[1]
    assert asked.line == "GET /v1/jobs/41 HTTP/1.1"
    assert asked.headers["x-client-authorization"] == TOKEN
    assert asked.headers["x-loyalty-club-slug"] == "infinity-mall"
    assert len(server.heard) == 5


@pytest.mark.parametrize(
    "last",
    [
        picture(),
        http(PNG, media_type="application/octet-stream"),
        job("finished", image=DATA_URI),
        job("ready", image=base64.b64encode(PNG).decode()),
        job("ready", image=base64.encodebytes(PNG).decode()),
    ],
    ids=["a file", "a file of no type", "a data URI", "base64", "base64 in lines"],
)
async def test_a_picture_may_come_in_any_of_these_forms(last: bytes) -> None:
    outcome = await polled(job("working"), last)
    assert outcome.error is None
    assert outcome.finals == [PNG]


async def test_a_jpeg_in_base64_is_no_path() -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    text = base64.b64encode(file.getvalue()).decode()
    assert text.startswith("/9j/")
    assert (await polled(job("ready", image=text))).finals == [file.getvalue()]


async def test_a_link_is_fetched_without_our_tokens() -> None:
    async with upstream(picture()) as store:
        outcome = await polled(job("ready", image=f"{store.url}/41.png?signature=x"))
    assert outcome.finals == [PNG]
    (heard,) = store.heard
    assert not {"x-client-authorization", "authorization", "x-loyalty-club-slug"} & set(heard.headers)


async def test_a_link_that_is_dead_fails_as_a_picture_that_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    async with upstream(http(b"", status="403 Gone")) as store:
        dead = job("ready", image=f"{store.url}/41.png")
        failure = (await polled(dead)).failure()
        assert isinstance(failure, ResultUnavailableError)
        assert (failure.transport, failure.billed) == (Transport.ACCEPTED, True)
        assert len(store.heard) > 1, "it is not believed at once"
        monkeypatch.setattr("providers.placewise.watching.PATIENT_LOOKS", 1)
        failure = (await polled(dead, doubt_seconds=60, deadline_seconds=0.6)).failure()
        assert isinstance(failure, ResultUnavailableError), "the deadline ends the doubt"


async def test_a_link_that_is_dead_may_be_another_one_in_the_next_report() -> None:
    async with upstream(http(b"", status="403 Expired")) as dead, upstream(picture()) as store:
        outcome = await polled(
            job("ready", image=f"{dead.url}/1.png"), job("ready"), job("ready", image=f"{store.url}/2.png")
        )
    assert outcome.error is None
    assert outcome.finals == [PNG]


async def test_an_address_elsewhere_is_polled_without_our_tokens() -> None:
    async with upstream(job("ready", image=DATA_URI)) as elsewhere:
        outcome = await polled(b"", poll_url_template=f"{elsewhere.url}/files?ids[]={{id}}")
    assert outcome.finals == [PNG]
    (heard,) = elsewhere.heard
    assert heard.line == "GET /files?ids[]=41 HTTP/1.1"
    assert not [name for name in heard.headers if name.startswith("x-") or name == "authorization"]


async def test_without_a_state_the_first_report_with_a_picture_is_the_last() -> None:
    shape: dict[str, object] = {"status_pointer": None, "done_values": (), "failed_values": ()}
    outcome = await polled(job("x"), job("x", image=""), job("x", image=None), job("x", image=DATA_URI), **shape)
    assert outcome.error is None
    assert kinds(outcome.events) == ["Accepted", "FinalImage"]


async def test_a_picture_in_a_report_that_is_not_the_last_is_not_taken_and_hurries_nothing() -> None:
    early = job("working", image="data:image/png;base64,AAAA")
    began = time.monotonic()
    outcome = await polled(early, early, early, job("ready", image=DATA_URI), poll_interval_seconds=0.05)
    assert outcome.finals == [PNG]
    assert time.monotonic() - began >= 0.15


@pytest.mark.parametrize(("state", "done"), [(3, "3"), (True, "true"), (1.5, "1.5")])
async def test_a_state_may_be_a_number_or_a_boolean(state: JsonValue, done: str) -> None:
    assert (await polled(job(0), job(state, image=DATA_URI), done_values=done)).finals == [PNG]


async def test_a_failed_task_is_a_failure_in_the_vendors_words() -> None:
    failure = (await polled(job("working"), job("failed", why=f"no paint {TOKEN}"))).failure()
    assert isinstance(failure, UnavailableError)
    assert (failure.transport, failure.billed, failure.retryable) == (Transport.ACCEPTED, None, False)
    assert "no paint [token]" in failure.message
    assert (failure.vendor_code, failure.vendor_message) == ("failed", "no paint [token]")
    assert "its state is failed" in (await polled(job("failed"))).failure().message


@pytest.mark.parametrize(
    "hiccup",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        http(b"", status="503 Maintenance"),
        http(b"<html>", status="502 Bad Gateway", media_type="text/html"),
        http(b"", status="500 Oops"),
        http(b"", status="520 Unknown"),
        http(b"", status="429 Too Many"),
        http(b"", status="408 Timeout"),
        http(b"", status="404 Not Yet"),
        http(b"", status="400 Bad"),
        json_body({"error": "no"}, status="401 No"),
        json_body({"error": "no"}, status="403 No"),
        http(b"", status="302 Elsewhere", Location="http://x/"),
        http(b"<html>sign in</html>", media_type="text/html"),
        job("ready", image="A" * 5000),
        job("ready"),
        job("ready", image=None),
        job("ready", image=DATA_URI[:-7]),
        job("ready", image="nonsense!"),
    ],
    ids=["no answer", "cut", "503", "502", "500", "520", "429", "408", "404 for now", "400", "401", "403", "302",
         "a page", "too large", "no picture yet", "null for now", "a cut picture", "no picture"],
)  # fmt: skip
async def test_a_question_that_fails_is_asked_again(hiccup: bytes) -> None:
    async with upstream(creating(hiccup, hiccup, job("working"), hiccup, job("ready", image=DATA_URI))) as server:
        outcome = await run(account(server.url, **POLL, link_max_bytes=1000))
    assert outcome.error is None
    assert outcome.finals == [PNG]
    assert len(server.heard) == 6
    assert posts(server.heard) == 1


async def test_the_vendor_decides_how_long_a_pause_is() -> None:
    began = time.monotonic()
    outcome = await polled(http(b"", status="429 Slow", Retry_After="0.3"), job("ready", image=DATA_URI))
    assert outcome.finals == [PNG]
    assert time.monotonic() - began >= 0.3


async def test_a_picture_is_not_given_up_because_the_vendor_asks_for_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("providers.placewise.watching.LONGEST_WAIT", 0.01)
    outcome = await polled(http(b"", status="503 Maintenance", Retry_After="3600"), job("ready", image=DATA_URI))
    assert outcome.finals == [PNG]


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (http(b"", status="404 Nothing"), BadResponseError, "POLL_URL_TEMPLATE"),
        (json_body({"error": "no"}, status="404 Nothing"), InvalidRequestError, "no"),
        (job("ready"), BadResponseError, "IMAGE_POINTER"),
        (job("ready", image="nonsense!"), BadResponseError, "neither a link nor base64"),
        (job("ready", image=DATA_URI[:-7]), TruncatedError, "before its end"),
        (picture(PNG[:-9]), TruncatedError, "before its end"),
    ],
)
async def test_what_stays_so_ends_the_task(answer: bytes, error: type[ProviderError], said: str) -> None:
    outcome = await polled(job("working"), answer)
    failure = outcome.failure()
    assert isinstance(failure, error)
    assert said in failure.message
    assert failure.transport is Transport.ACCEPTED
    assert failure.billed is not False, "the task had been accepted"
    assert not failure.retryable
    assert outcome.finals == []


async def test_a_task_that_is_unknown_while_the_vendor_is_updated_is_not_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("providers.placewise.watching.LONGEST_WAIT", 0.005)
    unknown = [http(b"", status="404 Nothing")] * 20
    outcome = await polled(job("working"), *unknown, job("ready", image=DATA_URI), doubt_seconds=60)
    assert outcome.error is None
    assert outcome.finals == [PNG]


@pytest.mark.parametrize(
    ("answer", "said", "words"),
    [
        (json_body({"error": f"no {TOKEN}"}, status="401 No"), ["CLIENT_TOKEN", "no [token]", "401"], "no [token]"),
        (json_body({"error": "no"}, status="403 No"), ["CLIENT_TOKEN", "permit", "403"], "no"),
        (http(b"", status="400 Bad"), ["POLL_URL_TEMPLATE", "400"], None),
        (http(b"", status="302 Elsewhere", Location="http://x/"), ["POLL_URL_TEMPLATE", "302"], None),
        (http(b"<html>"), ["no JSON"], None),
        (job("ready", image="A" * 5000), ["LINK_MAX_BYTES"], None),
    ],
)
async def test_a_question_that_is_refused_is_told_once_and_asked_until_the_deadline(
    monkeypatch: pytest.MonkeyPatch, answer: bytes, said: list[str], words: str | None
) -> None:
    monkeypatch.setattr("providers.placewise.watching.LONGEST_WAIT", 0.01)
    outcome = await polled(answer, deadline_seconds=0.4, link_max_bytes=1000)
    failure = outcome.failure()
    assert isinstance(failure, TimedOutError)
    assert (failure.transport, failure.billed, failure.vendor_message) == (Transport.ACCEPTED, None, words)
    assert kinds(outcome.events) == ["Accepted", "Notice"]
    for text in (failure.message, *outcome.notices.values()):
        assert all(word in text for word in said), text


async def test_each_new_problem_is_told_once_and_what_passes_is_not_told() -> None:
    first, second = json_body({"error": "a"}, status="401 No"), json_body({"error": "b"}, status="403 No")
    busy = http(b"", status="503 Busy")
    outcome = await polled(first, busy, first, second, first, second, job("ready", image=DATA_URI))
    assert kinds(outcome.events) == ["Accepted", "Notice", "Notice", "Progress", "FinalImage"]


async def test_a_result_that_does_not_come_in_time_times_out() -> None:
    for answer, said in ((job("working"), "working"), (http(b"", status="503 Down"), "503"), (b"", "ReadError")):
        outcome = await polled(answer, deadline_seconds=0.1)
        failure = outcome.failure()
        assert isinstance(failure, TimedOutError)
        assert (failure.transport, failure.billed) == (Transport.ACCEPTED, None)
        assert "DEADLINE_SECONDS" in failure.message
        assert said in failure.message or "RemoteProtocolError" in failure.message


async def test_a_silent_answer_does_not_outlast_the_deadline() -> None:
    async def silent(heard: Heard, writer: asyncio.StreamWriter) -> None:
        if heard.line.startswith("POST"):
            writer.write(CREATED)
        else:
            await asyncio.sleep(5)

    began = time.monotonic()
    failure = (await answered(silent, **{**POLL, "deadline_seconds": 0.1})).failure()
    assert isinstance(failure, TimedOutError)
    assert time.monotonic() - began < 2


def working_then(*answers: bytes) -> Answer:
    return creating(job("working"), *answers)


async def test_a_resumed_task_is_watched_and_never_posted() -> None:
    async with upstream(working_then(job("ready", image=DATA_URI))) as server:
        resumed = Submission("41", None, {"accepted_at": datetime.now(UTC).isoformat()})
        outcome = await run(account(server.url, **POLL), resume=resumed)
    assert outcome.error is None
    assert kinds(outcome.events) == ["Progress", "Progress", "FinalImage"]
    assert posts(server.heard) == 0
    assert {heard.line for heard in server.heard} == {"GET /v1/jobs/41 HTTP/1.1"}


async def test_a_resumed_task_without_a_channel_ends_as_it_would_have() -> None:
    async with upstream(b"") as server:
        outcome = await run(account(server.url), resume=Submission("41"))
    assert (outcome.events, outcome.error, server.heard) == ([], None, [])


@pytest.mark.parametrize(
    "state", [{}, {"accepted_at": "nonsense"}, {"accepted_at": None}, {"accepted_at": "2020-01-01"}]
)
async def test_a_submission_of_any_kind_can_be_resumed(state: dict[str, JsonValue]) -> None:
    async with upstream(working_then(job("ready", image=DATA_URI))) as server:
        assert (await run(account(server.url, **POLL), resume=Submission("41", None, state))).finals == [PNG]


async def test_the_deadline_counts_from_acceptance_but_leaves_time_to_look() -> None:
    long_ago = Submission("41", None, {"accepted_at": (datetime.now(UTC) - timedelta(days=9)).isoformat()})
    async with upstream(working_then(job("ready", image=DATA_URI))) as server:
        assert (await run(account(server.url, **POLL), resume=long_ago)).finals == [PNG]
    async with upstream(creating(job("working"))) as server:
        began = time.monotonic()
        late = account(server.url, **{**POLL, "read_timeout_seconds": 0.1})
        failure = (await run(late, resume=long_ago)).failure()
        assert isinstance(failure, TimedOutError)
        assert time.monotonic() - began < 2


async def test_nobody_can_look_for_a_task_stop_it_or_ask_about_the_account() -> None:
    provider = account("http://127.0.0.1:1")
    assert await provider.find("task-7") is None
    assert await provider.cancel(Submission("41")) is CancelOutcome.ABANDONED
    assert await provider.health() is None
    await provider.aclose()

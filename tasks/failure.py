"""Why a task failed, in the form that is stored and shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from providers.errors import FailureCode, ParameterProblem, ProviderError, Transport
from tasks.records import now
from tasks.status import TaskStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a task failed. `billed` is None where nobody can know; `retry_after` is in seconds."""

    code: FailureCode
    message: str
    retryable: bool
    billed: bool | None
    transport: Transport
    retry_after: float | None = None
    parameter: str | None = None
    vendor_code: str | None = None
    vendor_message: str | None = None
    request_id: str | None = None
    problems: tuple[ParameterProblem, ...] = ()


FAILURE: TypeAdapter[Failure] = TypeAdapter(Failure)


def failure_of(error: ProviderError) -> Failure:
    """What a provider's error says, as a failure."""
    return Failure(
        code=error.code,
        message=error.message,
        retryable=error.retryable,
        billed=error.billed,
        transport=error.transport,
        retry_after=error.retry_after,
        parameter=error.parameter,
        vendor_code=error.vendor_code,
        vendor_message=error.vendor_message,
        request_id=error.request_id,
        problems=error.problems,
    )


def unknown_provider(name: str, transport: Transport) -> Failure:
    """A task whose provider has been taken out of this server."""
    return Failure(
        code=FailureCode.INTERNAL,
        message=f"This version of the server has no provider {name!r}.",
        retryable=False,
        billed=False if transport is Transport.NOT_SENT else None,
        transport=transport,
    )


def other_account(title: str, transport: Transport, *, sandbox: bool) -> Failure:
    """A task of the sandbox where there is an account now, or the other way round."""
    if sandbox:
        was, now_is = "in the sandbox", f"sends to an account at {title}, which costs money"
    else:
        was, now_is = f"for an account at {title}", "has none: its sandbox would answer"
    unsent = transport is Transport.NOT_SENT
    became = (
        "It was not sent, and nothing was billed."
        if unsent
        else "It was sent, and nobody can tell what became of it; look at the provider's usage page."
    )
    return Failure(
        code=FailureCode.UNAVAILABLE if unsent else FailureCode.OUTCOME_UNKNOWN,
        message=f"It was started {was}, and this server now {now_is}. {became} `retryTask` starts it again as this "
        "server is set up then.",
        retryable=unsent,
        billed=False if unsent else None,
        transport=transport,
    )


def failed(failure: Failure) -> dict[str, Any]:
    """What a failure changes in the row of its task."""
    return {
        "status": TaskStatus.FAILED,
        "failure": FAILURE.dump_python(failure, mode="json"),
        "transport": failure.transport.value,
        "finished_at": now(),
    }

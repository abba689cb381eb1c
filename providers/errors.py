"""Everything that can go wrong with a remote image API, as one small tree.

    ProviderError
    ├── InvalidRequestError        the provider refused a parameter; nothing was made
    ├── RefusedError               its safety system refused the prompt or the picture
    ├── UnauthorizedError          the token is missing, wrong or not allowed to do this
    ├── QuotaExhaustedError        the account has no money or quota left
    ├── RateLimitedError           too many requests; `retry_after` says when, if the provider did
    ├── UnavailableError           the provider could not be reached, or failed on its own side
    ├── TimedOutError              it said, or we decided, that it took too long
    ├── TruncatedError             the answer ended before the final picture
    ├── BadResponseError           an answer that does not follow the provider's own contract
    ├── ResultUnavailableError     the picture was made, but its link could not be fetched
    └── OutcomeUnknownError        the request may have been carried out; nobody can tell

Each adapter converts what httpx and the vendor say into this tree once, at its own edge, with
`raise … from exc`. Nobody above `providers/` ever sees an HTTP status code as control flow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from providers.described import DescribedEnum


class FailureCode(DescribedEnum):
    """Why a task failed. Clients branch on it, so members are only ever added."""

    INVALID_REQUEST = "invalid_request", "The provider refused a parameter. Change it and start again."
    REFUSED = "refused", "The provider's safety system refused the prompt or the picture."
    UNAUTHORIZED = "unauthorized", "The provider did not accept this server's credentials."
    QUOTA_EXHAUSTED = "quota_exhausted", "The provider account has no money or quota left."
    RATE_LIMITED = "rate_limited", "The provider is receiving too many requests."
    UNAVAILABLE = "unavailable", "The provider could not be reached, or failed on its own side."
    TIMED_OUT = "timed_out", "The provider took too long."
    TRUNCATED = "truncated", "The provider's answer ended before the final picture."
    BAD_RESPONSE = "bad_response", "The provider's answer does not follow its own contract."
    RESULT_UNAVAILABLE = (
        "result_unavailable",
        "The picture was made, but the link to it could not be fetched.",
    )
    OUTCOME_UNKNOWN = (
        "outcome_unknown",
        "The request may have been carried out and billed, and the provider offers no way to find out. "
        "It is never sent again on its own: look at the provider's own usage page before you start a new task.",
    )
    QUEUE_TIMED_OUT = "queue_timed_out", "It waited in the queue for too long. Nothing was sent or billed."
    GENERATION_TIMED_OUT = (
        "generation_timed_out",
        "The provider had it for longer than this server waits. It may still be billed.",
    )
    TOTAL_TIMED_OUT = "total_timed_out", "It did not end within the time that this server gives a task in all."
    CRASHED_REPEATEDLY = (
        "crashed_repeatedly",
        "This server stopped several times in a row while it worked on this task, and gave it up.",
    )
    STORAGE_FAILED = "storage_failed", "The picture arrived, but could not be written to this server's store."
    INTERNAL = "internal", "A fault of this server. Its log has the details."


class Transport(DescribedEnum):
    """How far the request that pays got. Decides whether it may ever be sent again."""

    NOT_SENT = "not_sent", "It never left this server: sending it again cannot be charged twice."
    PERHAPS_SENT = "perhaps_sent", "It may have reached the provider: sending it again may be charged twice."
    ACCEPTED = "accepted", "The provider has it."


@dataclass(frozen=True, slots=True)
class ParameterProblem:
    """One parameter that the provider refused: where it is in the request, and why, in the provider's words."""

    path: tuple[str, ...]
    message: str


class ProviderError(Exception):
    """A provider did not deliver. The text is for the person who started the task.

    `billed` is None where nobody can know; `retry_after` is in seconds, as the provider gave it;
    `vendor_code`, `vendor_message` and `request_id` are the provider's own words, kept for support.
    `counts_against_account` is False where errors of this kind mostly mean that nothing works at this account, and
    this one concerns a single request, or a setting of this server.
    """

    code: ClassVar[FailureCode] = FailureCode.INTERNAL
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        transport: Transport,
        billed: bool | None = None,
        retry_after: float | None = None,
        status: int | None = None,
        vendor_code: str | None = None,
        vendor_message: str | None = None,
        request_id: str | None = None,
        parameter: str | None = None,
        problems: tuple[ParameterProblem, ...] = (),
        counts_against_account: bool = True,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.transport = transport
        self.billed = billed
        self.retry_after = retry_after
        self.status = status
        self.vendor_code = vendor_code
        self.vendor_message = vendor_message
        self.request_id = request_id
        self.parameter = parameter
        self.problems = problems
        self.counts_against_account = counts_against_account

    @property
    def safe_to_send_again(self) -> bool:
        """Whether the same request may be sent once more without asking anybody, because it cannot be charged twice.

        Either nothing left this server, or the provider answered that it made nothing, as it does with a 429. Whatever
        else is `retryable` may have been billed already, so trying it again is for a person to decide.
        """
        return self.retryable and (self.transport is Transport.NOT_SENT or self.billed is False)


class InvalidRequestError(ProviderError):
    """The provider refused a parameter before it made anything; `parameter` names it, if the provider did."""

    code = FailureCode.INVALID_REQUEST


class RefusedError(ProviderError):
    """The provider's safety system refused the prompt or the picture."""

    code = FailureCode.REFUSED


class UnauthorizedError(ProviderError):
    """The credentials are missing, wrong, or not allowed to do this."""

    code = FailureCode.UNAUTHORIZED


class QuotaExhaustedError(ProviderError):
    """The account has no money or quota left; waiting does not help."""

    code = FailureCode.QUOTA_EXHAUSTED


class RateLimitedError(ProviderError):
    """Too many requests; waiting helps."""

    code = FailureCode.RATE_LIMITED
    retryable = True


class UnavailableError(ProviderError):
    """The provider could not be reached, or failed on its own side."""

    code = FailureCode.UNAVAILABLE
    retryable = True


class TimedOutError(ProviderError):
    """It said, or we decided, that it took too long."""

    code = FailureCode.TIMED_OUT
    retryable = True


class TruncatedError(ProviderError):
    """The answer ended before the final picture. Never a success, and never sent again on its own."""

    code = FailureCode.TRUNCATED


class BadResponseError(ProviderError):
    """The answer does not follow the provider's own contract."""

    code = FailureCode.BAD_RESPONSE


class ResultUnavailableError(ProviderError):
    """The picture was made and billed, but the link to it could not be fetched."""

    code = FailureCode.RESULT_UNAVAILABLE


class OutcomeUnknownError(ProviderError):
    """The request may have been carried out; nobody can tell. Never sent again on its own."""

    code = FailureCode.OUTCOME_UNKNOWN

"""The states a task can be in."""

from __future__ import annotations

from providers.described import DescribedEnum


class TaskStatus(DescribedEnum):
    """Where a task is in its life."""

    QUEUED = (
        "queued",
        "Stored, and waiting for its turn, or for another attempt after the provider turned it away. Nothing has been "
        "made.",
    )
    SUBMITTING = "submitting", "The request that pays is on its way to the provider."
    RUNNING = "running", "The provider has accepted it and is generating."
    SUCCEEDED = "succeeded", "Every picture that was asked for has arrived and is stored."
    FAILED = "failed", "It ended without all its pictures; `failure` says why. Pictures that did arrive are kept."
    CANCELED = "canceled", "It was canceled. Pictures that did arrive are kept."
    HANDED_OFF = "handed_off", "The provider accepted it, but documents no way to fetch the result."

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen."""
        return self in TERMINAL


TERMINAL = frozenset({TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELED, TaskStatus.HANDED_OFF})

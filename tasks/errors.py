"""What can go wrong with a task on our own side.

TaskError
├── AlreadyRunningError        another server works on this database
├── DatabaseUnavailableError   the database cannot be reached, or cannot write just now
├── IdempotencyConflictError   the key was used before, for another request
├── InvalidCursorError         a cursor that this server did not make
├── NotForSaleError            this picture cannot be bought
├── NotRetryableError          this task cannot be started again
├── NewerDatabaseError         a newer version of Darkroom has worked on this database
├── LostTaskError              another worker owns the task now; this one must not write
└── StorageError               the image store refused to read or write
    └── NotAnImageError        the bytes are no picture
"""

from __future__ import annotations

from pathlib import Path


class TaskError(Exception):
    """Something went wrong with a task on our own side."""


class AlreadyRunningError(TaskError):
    """Another server works on this database."""

    def __init__(self, path: Path, owner: str) -> None:
        super().__init__(
            f"Another Darkroom (process {owner or 'unknown'}) is running on {path.with_suffix('')}. Stop it first, or "
            "set DARKROOM_HOME to another folder."
        )


class DatabaseUnavailableError(TaskError):
    """The database cannot be reached, or cannot write just now; the same may succeed later.

    With `perhaps_committed` the contact was lost at the commit, and only the database knows whether it happened: look
    before you repeat it. Without, nothing of it has happened.
    """

    def __init__(self, reason: str, *, perhaps_committed: bool = False) -> None:
        super().__init__(f"{reason} (perhaps committed)" if perhaps_committed else reason)
        self.perhaps_committed = perhaps_committed


class IdempotencyConflictError(TaskError):
    """The idempotency key was used before, for another request."""

    def __init__(self, key: str, task_id: str, number: int) -> None:
        super().__init__(
            f"The idempotency key {key!r} already belongs to task #{number}, which asked for something else. "
            "Send a new key for a new request, or the same request to get that task again."
        )
        self.key = key
        self.task_id = task_id


class InvalidCursorError(TaskError):
    """A cursor that this server did not make. `of` is what it was used for, `right` which one would do, and `without`
    what happens when there is none."""

    def __init__(
        self,
        cursor: str,
        of: str = "this list",
        right: str = "`pageInfo.endCursor` or `edges.cursor` of an earlier answer",
        without: str = "start at the beginning",
    ) -> None:
        super().__init__(f"{cursor!r} is not a cursor of {of}. Pass {right}, unchanged, or leave it out to {without}.")


class LostTaskError(TaskError):
    """Another worker owns the task now; this one must not write."""

    def __init__(self, task_id: str, run: int) -> None:
        super().__init__(f"Run {run} of task {task_id} has been replaced by a later one, or the task has ended.")


class NewerDatabaseError(TaskError):
    """A newer version of Darkroom has worked on this database."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"This database was brought up to date by a newer version of Darkroom ({reason}). Start that version, or "
            "restore a back-up from before the upgrade."
        )


class NotForSaleError(TaskError):
    """This picture cannot be bought."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"This picture cannot be bought. {reason} Only images whose `kind` is PREVIEW are for sale.")


class NotRetryableError(TaskError):
    """This task cannot be started again."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"This task cannot be started again. {reason}")


class StorageError(TaskError):
    """The image store refused to read or write."""


class NotAnImageError(StorageError):
    """The bytes are no picture, or only a part of one."""

"""One server per SQLite database: two would take over each other's running tasks."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from tasks.errors import AlreadyRunningError, DatabaseUnavailableError


class DatabaseLock:
    """Held by the process that works on a SQLite database; gone with it, however it ends."""

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(database.name + ".lock")
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Take it, or raise `AlreadyRunningError`; `DatabaseUnavailableError` where nothing can be written. Taking it
        again changes nothing."""
        if self._file is not None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = self._path.open("a+")
        except OSError as exc:
            raise DatabaseUnavailableError(
                f"The database cannot be kept in {self._path.parent} ({exc.strerror}). Make that folder, and let this "
                "user write there, or set DARKROOM_HOME or DARKROOM_DATABASE_URL to another place."
            ) from exc
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            file.seek(0)
            owner = file.read().strip()
            file.close()
            raise AlreadyRunningError(self._path, owner) from exc
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        """Let go of it."""
        if self._file is not None:
            self._file.close()
            self._file = None

"""The database: what it keeps, and how."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import text
from sqlalchemy.exc import StatementError
from sqlmodel import Session

from tasks.events import NoticeGiven
from tests.tasks.conftest import Shelf

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_sqlite_keeps_what_was_committed_through_a_power_cut(shelf: Shelf) -> None:
    def read(session: Session) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [session.connection().execute(text(f"PRAGMA {name}")).scalar() for name in names]

    assert await shelf.database.write(read) == ["wal", 2, 1]


async def test_times_come_back_aware_and_in_utc(shelf: Shelf) -> None:
    task = await shelf.claimed()
    elsewhere = datetime(2026, 1, 1, 12, tzinfo=timezone(timedelta(hours=5)))
    await shelf.journal.append(task, NoticeGiven("x", None), finished_at=elsewhere)

    found = await shelf.history.task(task.id)
    assert found is not None
    assert found.finished_at == elsewhere
    assert found.finished_at.tzinfo is UTC


async def test_a_time_without_a_zone_is_never_stored(shelf: Shelf) -> None:
    task = await shelf.claimed()
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - that is the mistake
    with pytest.raises(StatementError, match="time zone"):
        await shelf.journal.append(task, NoticeGiven("x", None), finished_at=naive)

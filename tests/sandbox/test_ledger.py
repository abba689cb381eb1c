"""The ledger: what was billed stays billed."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import providers.sandbox.ledger
from providers.sandbox.ledger import Charge, Ledger

pytestmark = pytest.mark.anyio

_CHARGE_AND_WAIT = """
import asyncio, sys, time
from pathlib import Path
from providers.sandbox.ledger import Ledger

async def main() -> None:
    ledger = Ledger(Path(sys.argv[1]))
    for number in range(3):
        await ledger.charge(provider="openai_images", reference="task-1", submission=f"req_{number}", images=2)
        print("charged", flush=True)

asyncio.run(main())
time.sleep(60)
"""


async def test_a_charge_is_read_back_as_it_was_made(ledger: Ledger) -> None:
    before = datetime.now(UTC)
    await ledger.charge(provider="openai_images", reference="task-1", submission="req_1", images=4)
    [charge] = await ledger.charges()
    assert charge == Charge("openai_images", "task-1", "req_1", 4, charge.at)
    assert charge.at.utcoffset() == timedelta(0)
    assert before <= charge.at <= datetime.now(UTC)


async def test_charges_are_listed_oldest_first_and_by_reference(ledger: Ledger) -> None:
    for submission, reference in (("a", "task-1"), ("b", None), ("c", "task-2"), ("d", "task-1")):
        await ledger.charge(provider="p", reference=reference, submission=submission, images=1)
    assert [charge.submission for charge in await ledger.charges()] == ["a", "b", "c", "d"]
    assert [charge.submission for charge in await ledger.charges("task-1")] == ["a", "d"]
    assert await ledger.charges("task-3") == []


async def test_a_charge_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    home = Path(providers.sandbox.ledger.__file__).parents[2]
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHARGE_AND_WAIT, str(path), stdout=asyncio.subprocess.PIPE, cwd=home
    )
    assert victim.stdout is not None
    lines = [await victim.stdout.readline() for _ in range(3)]
    victim.send_signal(signal.SIGKILL)
    assert await victim.wait() == -signal.SIGKILL
    assert lines == [b"charged\n"] * 3
    reopened = Ledger(path)
    try:
        assert [charge.submission for charge in await reopened.charges("task-1")] == ["req_0", "req_1", "req_2"]
    finally:
        reopened.close()


async def test_simultaneous_charges_through_two_open_ledgers_are_all_kept(ledger: Ledger) -> None:
    other = Ledger(ledger.path)
    try:
        await asyncio.gather(
            *(
                book.charge(provider="p", reference="r", submission=f"{name}{number}", images=1)
                for number in range(20)
                for name, book in (("a", ledger), ("b", other))
            )
        )
    finally:
        other.close()
    assert len({charge.submission for charge in await ledger.charges()}) == 40


async def test_nothing_sold_is_no_charge(ledger: Ledger) -> None:
    with pytest.raises(ValueError, match="1 picture or more, not 0"):
        await ledger.charge(provider="p", reference=None, submission="s", images=0)
    assert await ledger.charges() == []


async def test_a_closed_ledger_says_so(ledger: Ledger) -> None:
    ledger.close()
    ledger.close()
    with pytest.raises(ValueError, match="is closed"):
        await ledger.charges()


async def test_a_ledger_makes_its_own_folder(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "not" / "yet" / "ledger.db")
    assert await ledger.charges() == []
    ledger.close()

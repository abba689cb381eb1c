"""What other processes use, as the kernel counts it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.processor import seconds_used, since

pytestmark = pytest.mark.skipif(not Path("/proc/stat").exists(), reason="only Linux tells about other processes")

BUSY = "import time; end = time.process_time() + 0.05\nwhile time.process_time() < end: pass\n"


def test_a_process_counts_with_its_children_those_that_have_ended_and_those_that_live() -> None:
    program = f"""
import subprocess, sys
{BUSY}
subprocess.run([sys.executable, "-c", {BUSY!r}])
with subprocess.Popen([sys.executable, "-c", {BUSY + "print(flush=True); input()"!r}], stdout=subprocess.PIPE) as child:
    child.stdout.readline()
    print(flush=True)
    input()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        used = seconds_used(process.pid)
        process.communicate("\n\n")
    # Three times 0.05 s, and the kernel counts in hundredths of a second.
    assert used is not None
    assert used >= 0.12


def test_what_this_process_has_used_is_known() -> None:
    assert (seconds_used(os.getpid()) or 0) > 0


def test_a_process_that_is_not_there_uses_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert seconds_used(process.pid) == 0


def test_of_two_counts_one_unknown_leaves_nothing_known() -> None:
    assert since(1.0, 1.5) == 0.5
    assert since(None, 1.5) is None
    assert since(1.0, None) is None

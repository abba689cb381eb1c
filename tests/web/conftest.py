"""The page in a real browser that can reach nothing but this machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from graph.http import STATIC
from tests.process import serve
from tests.web.visit import Visit

REQUIRED = "TESTS_REQUIRE_BROWSER"
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = (
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


@pytest.fixture(scope="session")
def server_url(pages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A whole Darkroom, such as `http://127.0.0.1:40123`. It believes to be reached under another name, as behind a
    proxy, so that a page which loads its pictures from there is seen to fail."""
    home = tmp_path_factory.mktemp("darkroom")
    with serve(home, DARKROOM_PUBLIC_URL="http://pictures.invalid", DARKROOM_SANDBOX_PACE="0.3") as server:
        yield server.url


@pytest.fixture(scope="session")
def pages() -> Path:
    """The folder of the built pages."""
    if not (STATIC / "graphiql.html").is_file():
        pytest.fail(f"{STATIC} has no graphiql.html: build the pages first, with python web/hatch_build.py")
    return STATIC


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """The machine's own Chromium, with an empty profile and every host but 127.0.0.1 unreachable.

    Not kept any longer: as long as it is there, playwright's event loop runs, and no other can in this thread.
    """
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if program is None:
        missing = f"NO BROWSER: none of {', '.join(_BROWSERS)} is installed, so the page at /graphql was not tested"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{missing}, and {REQUIRED}=1 forbids that. On Debian: apt-get install chromium")
        pytest.skip(f"{missing}. On Debian: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_FLAGS, chromium_sandbox=False)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, server_url: str) -> Iterator[Visit]:
    """Somebody's first visit to the page. Whatever the test did, the page must have stayed clean and at home."""
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        visit = Visit(context.new_page(), server_url)
        visit.open()
        yield visit
        visit.assert_clean()

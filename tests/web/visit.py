"""What a person does on the page, and what the browser says about it."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Locator, Page, Request, Response, WebSocket


class Visit:
    """One browser tab on the page at `/graphql`."""

    def __init__(self, page: Page, server_url: str) -> None:
        self.page = page
        self.server_url = server_url
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.sockets: list[str] = []
        self.sent: list[dict[str, object]] = []
        self.received: list[dict[str, object]] = []
        page.set_default_timeout(10_000)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", self._on_failure)
        page.on("response", self._on_response)
        page.on("websocket", self._on_socket)

    def open(self) -> None:
        self.page.goto(f"{self.server_url}/graphql")
        self.page.get_by_role("button", name="Execute query").wait_for()
        self.page.wait_for_function("() => globalThis.__MONACO?.editor.getModels().length === 4")

    @property
    def tabs(self) -> list[str]:
        return self.page.get_by_role("tab").all_inner_texts()

    @property
    def panel(self) -> Locator:
        return self.page.get_by_role("region", name="Darkroom")

    def choose_tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).get_by_role("button", name=name).click()

    def editor(self, name: str) -> str:
        """The whole text of an editor: `operation.graphql`, `variables.json` or `response.json`."""
        find = "name => __MONACO.editor.getModels().find(model => model.uri.path.endsWith(name)).getValue()"
        return str(self.page.evaluate(find, name))

    def write(self, name: str, text: str) -> None:
        """Replaces the whole text of an editor."""
        find = "__MONACO.editor.getModels().find(model => model.uri.path.endsWith(name))"
        self.page.evaluate(f"([name, text]) => {find}.setValue(text)", [name, text])

    def wait_until_marked(self, name: str, marked: bool) -> None:
        """Waits until the editor has underlined something, or no longer does."""
        find = "__MONACO.editor.getModelMarkers({}).some(mark => mark.resource.path.endsWith(name))"
        self.page.wait_for_function(f"([name, marked]) => {find} === marked", arg=[name, marked])

    def run(self) -> dict[str, object]:
        """Runs the operation of the open tab; the answer's `data`."""
        self.page.get_by_role("button", name="Execute query").click()
        self.wait_for_answer()
        data = json.loads(self.editor("response.json"))["data"]
        assert isinstance(data, dict)
        return data

    def wait_for_answer(self) -> None:
        find = "__MONACO.editor.getModels().find(model => model.uri.path.endsWith('response.json'))"
        self.page.wait_for_function(f"() => {find}.getValue().trim() !== ''")

    def assert_clean(self) -> None:
        home = urlsplit(self.server_url).netloc
        foreign = [url for url in self.requests + self.sockets if urlsplit(url).netloc not in (home, "")]
        assert foreign == []
        assert self.complaints == []

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"console {message.type}: {message.text}")

    def _on_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # what a page is still loading when somebody leaves it
            self.complaints.append(f"failed: {request.url} {request.failure}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self.complaints.append(f"{response.status} {response.url}")

    def _on_socket(self, socket: WebSocket) -> None:
        self.sockets.append(socket.url)
        socket.on("framesent", lambda frame: self.sent.append(json.loads(frame)))
        socket.on("framereceived", lambda frame: self.received.append(json.loads(frame)))
        socket.on("socketerror", lambda error: self.complaints.append(f"websocket: {error}"))

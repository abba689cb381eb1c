"""The page at /graphql in a real browser: what a newcomer does in the first minute; and no other host is contacted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
from playwright.sync_api import WebSocketRoute, expect

from tests.web.visit import Visit

TABS = Path(__file__).parents[2] / "web" / "src" / "tabs"


def test_the_page_opens_with_ready_operations(visit: Visit) -> None:
    assert visit.page.title() == "Darkroom"
    assert visit.tabs == ["Start", "Watch", "History", "Providers"]
    assert visit.editor("operation.graphql") == (TABS / "start.graphql").read_text()
    assert json.loads(visit.editor("variables.json")) == json.loads((TABS / "start.variables.json").read_text())


def test_the_editors_underline_mistakes_and_find_none_in_the_first_operation(visit: Visit) -> None:
    for file, mistake in (("variables.json", '{"nonsense": 1}'), ("operation.graphql", "{ nonsense }")):
        right = visit.editor(file)
        visit.write(file, mistake)
        visit.wait_until_marked(file, True)
        visit.write(file, right)
        visit.wait_until_marked(file, False)


def test_the_page_is_served_under_a_policy_that_allows_no_foreign_host_and_no_inline_script(server_url: str) -> None:
    answer = httpx.get(f"{server_url}/graphql", headers={"accept": "text/html"})
    assert answer.headers["content-type"].startswith("text/html")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert "'unsafe" not in policy.get("script-src", "")
    assert not any("http" in sources or "*" in sources for sources in policy.values())


def test_the_icon_is_served(server_url: str) -> None:
    page = httpx.get(f"{server_url}/graphql", headers={"accept": "text/html"}).text
    icon = re.search(r'rel="icon" href="([^"]+)"', page)
    assert icon
    assert httpx.get(f"{server_url}{icon[1]}").headers["content-type"].startswith("image/svg")


def test_starting_a_generation_answers_with_a_task_to_watch(visit: Visit) -> None:
    task = started(visit)
    assert task["id"]
    assert visit.sockets == []
    expect(visit.panel.get_by_role("status")).to_contain_text(f"Task {task['number']}")
    expect(visit.panel.get_by_role("button", name="Watch this task")).to_be_visible()


def test_watching_shows_the_picture_develop_over_the_websocket(visit: Visit) -> None:
    task = started(visit)
    watch(visit)
    expect(visit.page.get_by_role("tab", name="Watch")).to_have_attribute("aria-selected", "true")
    assert json.loads(visit.editor("variables.json")) == {"id": task["id"]}

    assert [frame["type"] for frame in visit.sent] == ["connection_init", "subscribe"]
    payload = visit.sent[1]["payload"]
    assert isinstance(payload, dict)
    assert payload["variables"] == {"id": task["id"]}
    types = [frame["type"] for frame in visit.received]
    assert types[0] == "connection_ack"
    assert types[-1] == "complete"
    assert set(types[1:-1]) == {"next"}
    assert len(visit.sockets) == 1

    picture = visit.panel.get_by_role("img", name="Picture 1: Final")
    assert picture.evaluate("image => image.naturalWidth") > 0
    expect(visit.panel.get_by_role("status")).to_contain_text("succeeded")


def test_every_stage_of_the_picture_can_be_looked_at_again(visit: Visit) -> None:
    started(visit)
    watch(visit)
    stages = visit.panel.get_by_role("button", name="Picture 1:")
    names = [str(stage.get_attribute("title")) for stage in stages.all()]
    assert names == [*(f"Partial {number + 1}" for number in range(len(names) - 1)), "Final"]
    assert len(names) >= 2
    stages.first.click()
    expect(visit.panel.get_by_role("img", name="Picture 1: Partial 1")).to_be_visible()
    stages.last.click()
    expect(visit.panel.get_by_role("img", name="Picture 1: Final")).to_be_visible()


def test_a_picture_in_the_history_leads_to_how_it_developed(visit: Visit) -> None:
    task = started(visit)
    watch(visit)
    visit.choose_tab("History")
    history = visit.run()
    assert isinstance(history["tasks"], dict)
    assert history["tasks"]["edges"][0]["node"]["number"] == task["number"]
    card = visit.panel.get_by_role("button", name=f"Watch Task {task['number']}", exact=True)
    expect(card.get_by_role("img")).to_be_visible()
    card.click()
    expect(visit.panel.get_by_role("img", name="Picture 1: Final")).to_be_visible()
    assert json.loads(visit.editor("variables.json")) == {"id": task["id"]}


def test_the_providers_are_listed(visit: Visit) -> None:
    visit.choose_tab("Providers")
    providers = visit.run()["providers"]
    assert isinstance(providers, list)
    assert "openai_images" in [provider["name"] for provider in providers]


def test_a_lost_socket_comes_back_by_itself_and_nothing_is_missing_or_double(visit: Visit) -> None:
    connections: list[list[str]] = []

    def lose_the_first(page_side: WebSocketRoute) -> None:
        server_side = page_side.connect_to_server()
        messages: list[str] = []
        connections.append(messages)
        cut_after = 4 if len(connections) == 1 else None

        def forward(message: str | bytes) -> None:
            if len(messages) == cut_after:
                return
            messages.append(str(message))
            page_side.send(message)
            if len(messages) == cut_after:
                page_side.close(code=1012, reason="restarting")
                server_side.close()

        server_side.on_message(forward)

    visit.page.route_web_socket("**/graphql", lose_the_first)
    visit.open()
    started(visit)
    watch(visit)
    assert len(connections) == 2
    replayed = [message for message in connections[1] if json.loads(message)["type"] == "next"]
    expect(visit.panel.get_by_role("status")).to_contain_text(f"{len(replayed)} events")
    names = [stage.get_attribute("title") for stage in visit.panel.get_by_role("button", name="Picture 1:").all()]
    assert len(names) == len(set(names))


def test_the_panel_says_why_a_task_waits(visit: Visit) -> None:
    refused = sent(visit, "A pier [[sandbox: status=429 retry_after=30]]")
    watch_waiting(visit, refused)
    status = visit.panel.get_by_role("status")
    expect(status).to_contain_text("queued")
    expect(status).to_contain_text(re.compile(r"429\)\. It is sent again at \d\d:\d\d:\d\d \(attempt 2\)\."))

    behind = sent(visit, "A quay")
    watch_waiting(visit, behind)
    expect(status).to_contain_text(re.compile("queued.*Placewise"))
    for task in (refused, behind):
        post(visit, "mutation($id: ID!) { cancelTask(input: { id: $id }) { __typename } }", {"id": task})
        expect(status).not_to_contain_text("It is sent again")
    expect(status).to_contain_text("canceled")
    expect(status).not_to_contain_text("Placewise")


def test_watching_works_when_somebody_has_closed_the_watch_tab(visit: Visit) -> None:
    visit.choose_tab("Watch")
    visit.page.get_by_role("tab", name="Watch").get_by_role("button", name="Close Tab").click()
    visit.choose_tab("Start")
    started(visit)
    watch(visit)
    assert visit.tabs == ["Start", "History", "Providers", "Watch"]


def test_an_unknown_task_is_an_explained_answer(visit: Visit) -> None:
    visit.choose_tab("Watch")
    visit.page.get_by_role("button", name="Execute query").click()
    visit.wait_for_answer()
    assert "errors" in visit.editor("response.json") or "message" in visit.editor("response.json")
    expect(visit.panel.get_by_role("status")).to_contain_text("Ended without an event")


def test_a_reload_before_anything_was_touched_changes_nothing(visit: Visit) -> None:
    visit.page.wait_for_function("() => localStorage.getItem('darkroom:graphiql:tabState') !== null")
    visit.open()
    assert visit.tabs == ["Start", "Watch", "History", "Providers"]
    assert visit.editor("operation.graphql") == (TABS / "start.graphql").read_text()
    assert json.loads(visit.editor("variables.json")) == json.loads((TABS / "start.variables.json").read_text())


def test_a_second_visit_finds_the_tabs_as_they_were_left(visit: Visit) -> None:
    visit.choose_tab("History")
    expect(visit.page.get_by_role("tab", name="History")).to_have_attribute("aria-selected", "true")
    visit.page.wait_for_function(
        "() => JSON.parse(localStorage.getItem('darkroom:graphiql:tabState')).activeTabIndex === 2"
        " && localStorage.getItem('darkroom:graphiql:query').includes('query History')"
    )
    visit.open()
    assert visit.tabs == ["Start", "Watch", "History", "Providers"]
    assert visit.editor("operation.graphql") == (TABS / "history.graphql").read_text()


def post(visit: Visit, query: str, variables: dict[str, object]) -> dict[str, dict[str, dict[str, str]]]:
    """What another client gets, past the page."""
    answer = httpx.post(f"{visit.server_url}/graphql", json={"query": query, "variables": variables}).json()
    data: dict[str, dict[str, dict[str, str]]] = answer["data"]
    return data


def sent(visit: Visit, prompt: str) -> str:
    """The id of a new task for Placewise, which no other test here needs."""
    query = """mutation($prompt: String!) {
      startGeneration(input: { request: { placewise: { prompt: $prompt } } }) {
        ... on StartGenerationSuccess { task { id } }
      }
    }"""
    return post(visit, query, {"prompt": prompt})["startGeneration"]["task"]["id"]


def watch_waiting(visit: Visit, task: str) -> None:
    """Watches a task in the tab for that."""
    visit.choose_tab("Watch")
    if (stop := visit.page.get_by_role("button", name="Stop query")).is_visible():
        stop.click()
    visit.write("variables.json", json.dumps({"id": task}))
    visit.page.get_by_role("button", name="Execute query").click()


def started(visit: Visit) -> dict[str, object]:
    result = visit.run()["startGeneration"]
    assert isinstance(result, dict)
    assert result["__typename"] == "StartGenerationSuccess", result
    task: dict[str, object] = result["task"]
    return task


def watch(visit: Visit) -> None:
    """Presses the one button and waits until the finished picture is on the panel and the subscription has ended."""
    visit.panel.get_by_role("button", name="Watch this task").click()
    expect(visit.panel.get_by_role("img", name="Picture 1: Final")).to_be_visible(timeout=30_000)
    expect(visit.panel.get_by_role("progressbar", include_hidden=True)).to_have_attribute("data-running", "false")

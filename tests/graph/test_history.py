"""`tasks`: a keyset connection, newest first."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients import execute, openai_images, start, watch
from tests.server import LiveServer

pytestmark = pytest.mark.anyio

TASKS = """
query(
  $first: Int, $after: String, $last: Int, $before: String, $filter: TaskFilter, $orderBy: TaskOrder! = NEWEST_FIRST
) {
  tasks(first: $first, after: $after, last: $last, before: $before, filter: $filter, orderBy: $orderBy) {
    totalCount
    edges { cursor node { number status name } }
    nodes { number }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}
"""


async def page(server: LiveServer, **variables: Any) -> dict[str, Any]:
    answer = await execute(server, TASKS, variables)
    assert "errors" not in answer, answer
    found: dict[str, Any] = answer["data"]["tasks"]
    return found


def numbers(page: dict[str, Any]) -> list[int]:
    return [edge["node"]["number"] for edge in page["edges"]]


@pytest.fixture(scope="session")
async def shelf(server: LiveServer) -> list[int]:
    """Five tasks of this file's own, in the order they were started."""
    for index in range(5):
        variables = openai_images(f"Book {index}" + (" [[sandbox: status=500]]" if index == 2 else ""))
        variables["input"]["name"] = f"book-{index}"
        await watch(server, await start(server, variables))
    return sorted(numbers(await page(server, first=5)))


async def test_the_newest_task_comes_first(server: LiveServer, shelf: list[int]) -> None:
    assert numbers(await page(server, first=5)) == sorted(shelf, reverse=True)


async def test_pages_follow_each_other_without_a_gap_while_new_tasks_arrive(
    server: LiveServer, shelf: list[int]
) -> None:
    one = await page(server, first=2)
    await start(server, openai_images("A newcomer"))
    two = await page(server, first=2, after=one["pageInfo"]["endCursor"])

    assert numbers(two) == [numbers(one)[-1] - 1, numbers(one)[-1] - 2]
    assert one["pageInfo"]["hasNextPage"]
    assert two["pageInfo"]["hasPreviousPage"]


async def test_a_page_can_be_turned_back(server: LiveServer, shelf: list[int]) -> None:
    newest = await page(server, first=4)
    back = await page(server, last=2, before=newest["edges"][3]["cursor"])

    assert numbers(back) == numbers(newest)[1:3]
    assert back["pageInfo"]["hasNextPage"]
    assert back["pageInfo"]["hasPreviousPage"]


async def test_the_last_ones_are_the_oldest(server: LiveServer, shelf: list[int]) -> None:
    assert numbers(await page(server, last=3)) == [3, 2, 1]


async def test_oldest_first_is_the_same_list_from_the_other_end(server: LiveServer, shelf: list[int]) -> None:
    oldest = await page(server, first=3, orderBy="OLDEST_FIRST")

    assert numbers(oldest) == [1, 2, 3]
    assert numbers(await page(server, first=2, orderBy="OLDEST_FIRST", after=oldest["pageInfo"]["endCursor"])) == [4, 5]


async def test_a_filter_leaves_only_what_matches(server: LiveServer, shelf: list[int]) -> None:
    failed = await page(server, first=100, filter={"status": ["FAILED"]})

    assert "book-2" in [edge["node"]["name"] for edge in failed["edges"]]
    assert {edge["node"]["status"] for edge in failed["edges"]} == {"FAILED"}
    assert failed["totalCount"] == len(failed["edges"]) < (await page(server, first=1))["totalCount"]
    assert numbers(await page(server, filter={"createdBefore": "1999-01-01T00:00Z"})) == []
    assert numbers(await page(server, filter={"createdAfter": "2999-01-01T00:00:00Z"})) == []


@pytest.mark.parametrize(
    ("variables", "code", "words"),
    [
        ({"first": 0}, "INVALID_PAGE", "between 1 and 100"),
        ({"first": 101}, "INVALID_PAGE", "between 1 and 100"),
        ({"last": -1}, "INVALID_PAGE", "between 1 and 100"),
        ({"first": 1, "last": 1}, "INVALID_PAGE", "not both"),
        ({"after": "nonsense"}, "INVALID_CURSOR", "nonsense"),
        ({"after": "ZmlzaDoxMg=="}, "INVALID_CURSOR", "endCursor"),
        ({"before": ""}, "INVALID_CURSOR", "endCursor"),
        ({"after": "dGFzazo5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk="}, "INVALID_CURSOR", "endCursor"),
        ({"filter": {"createdAfter": "0001-01-01T00:00:00+14:00"}}, "INVALID_TIME", "calendars"),
        ({"filter": {"createdAfter": "2026-01-01T00:00:00"}}, "INVALID_TIME", "time zone"),
    ],
)
async def test_a_page_that_cannot_be_meant_is_explained(
    server: LiveServer, variables: dict[str, Any], code: str, words: str
) -> None:
    answer = await execute(server, TASKS, variables)

    assert answer["errors"][0]["extensions"]["code"] == code
    assert words in answer["errors"][0]["message"]

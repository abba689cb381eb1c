"""A short query that would multiply its answer is refused before anything is read."""

from __future__ import annotations

from contextlib import aclosing

import pytest
from graphql import get_introspection_query

from tests.clients import execute, subscribe
from tests.server import LiveServer

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("query", "twice"),
    [
        ("{ tasks { nodes { events { task { events { id } } } } } }", "Task.events"),
        ("{ tasks { nodes { events { ... on TaskSucceeded { task { ... { events { id } } } } } } } }", "Task.events"),
        (
            "{ tasks { nodes { ...T } } } fragment T on Task { events { task { ...U } } } "
            "fragment U on Task { id events { id } }",
            "Task.events",
        ),
        ("{ __schema { types { fields { type { fields { name } } } } } }", "__Type.fields"),
    ],
)
async def test_a_list_inside_itself_is_refused(server: LiveServer, query: str, twice: str) -> None:
    answer = await execute(server, query)

    (error,) = answer["errors"]
    assert error["extensions"]["code"] == "LIST_INSIDE_ITSELF"
    assert f"(`{twice}`)" in error["message"]


async def test_a_subscription_that_would_multiply_its_events_is_refused(server: LiveServer) -> None:
    query = "subscription { activity { ... on TaskChanged { task { events { task { events { id } } } } } } }"
    async with aclosing(subscribe(server, query, {})) as messages:
        (message,) = [message async for message in messages]

    assert message["type"] == "error"
    assert message["payload"][0]["extensions"]["code"] == "LIST_INSIDE_ITSELF"


async def test_a_fragment_that_contains_itself_gets_an_answer(server: LiveServer) -> None:
    query = "{ tasks { nodes { ...T } } } fragment T on Task { id events { task { ...T } } }"
    answer = await execute(server, query)

    assert any("within itself" in error["message"] for error in answer["errors"])


@pytest.mark.parametrize(
    "query",
    [
        "{ tasks { nodes { events { task { images { id } } } images { id } } edges { node { events { id } } } } }",
        "{ tasks { nodes { ...T } edges { node { ...T } } } } fragment T on Task { events { id } images { id } }",
        get_introspection_query(input_value_deprecation=True, specified_by_url=True),
    ],
)
async def test_what_clients_ask_for_is_answered(server: LiveServer, query: str) -> None:
    assert "errors" not in await execute(server, query)

"""The public contract: what is committed, what it says about itself, and what may not change."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    build_schema,
    find_breaking_changes,
    parse,
    validate,
)

from graph.schema import print_schema

ROOT = Path(__file__).parents[2]
SCHEMA = build_schema(print_schema())
OURS = [
    type for name, type in SCHEMA.type_map.items() if not name.startswith("__") and name not in {"String", "Boolean"}
]
DOCUMENTS = sorted([*(ROOT / "web/src").rglob("*.graphql"), *(ROOT / "bench").rglob("*.graphql")])


def test_the_committed_schema_is_the_schema_of_the_code() -> None:
    assert (ROOT / "schema.graphql").read_text() == print_schema(), "run `make schema` and look at the difference"


def test_clients_of_the_last_release_keep_working() -> None:
    released = build_schema((ROOT / "tests/graph/released.graphql").read_text())
    changelog = (ROOT / "CHANGELOG.md").read_text()
    broken = [change.description for change in find_breaking_changes(released, SCHEMA)]
    assert not [text for text in broken if text not in changelog], "say it word for word in CHANGELOG.md, or do not"


@pytest.mark.parametrize("type", OURS, ids=lambda type: str(type))
def test_everything_a_client_can_see_is_described(type: GraphQLNamedType) -> None:
    missing = [] if type.description else [str(type)]
    if isinstance(type, GraphQLObjectType | GraphQLInterfaceType):
        for name, field in type.fields.items():
            missing += [] if field.description else [f"{type}.{name}"]
            missing += [f"{type}.{name}({a}:)" for a, argument in field.args.items() if not argument.description]
    elif isinstance(type, GraphQLInputObjectType):
        missing += [f"{type}.{name}" for name, field in type.fields.items() if not field.description]
    elif isinstance(type, GraphQLEnumType):
        missing += [f"{type}.{name}" for name, value in type.values.items() if not value.description]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_document_we_ship_fits_the_schema(document: Path) -> None:
    assert validate(SCHEMA, parse(document.read_text())) == []

"""An operation of a client, checked once per document, and executed once per event.

graphql-core's own response stream keeps about 2 KB per event for as long as a subscription lives, and collects the same
fields anew for each event. So a subscription's events are executed one by one here, each an execution of its own on
fields that were collected once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from inspect import isawaitable
from typing import Any

import orjson
from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    GraphQLError,
    OperationDefinitionNode,
    VariableNode,
    Visitor,
    visit,
)
from graphql.execution import create_source_event_stream
from graphql.execution.collect_fields import collect_fields
from graphql.execution.executor import CollectedErrors, Executor
from strawberry.exceptions import MissingQueryError
from strawberry.execution import optimized_is_awaitable
from strawberry.schema.exceptions import CannotGetOperationTypeError
from strawberry.types.graphql import OperationType

from graph.context import Context
from graph.live.source import LiveEvent, Source
from graph.schema import REMEMBERED, Schema, presentable

INLINE_FIELD = "dataUri"
"""The field that puts the bytes of a picture into an answer."""


class RefusedError(Exception):
    """An operation that cannot be begun. `errors` are for the client."""

    def __init__(self, errors: list[GraphQLError]) -> None:
        super().__init__("; ".join(error.message for error in errors))
        self.errors = errors


@dataclass(frozen=True, slots=True)
class OperationRequest:
    """What a client asks for."""

    query: str
    variables: dict[str, Any] | None = None
    operation_name: str | None = None


def request_of(payload: Any) -> OperationRequest | None:
    """What a client asks for; None if it is not a request."""
    if (
        isinstance(payload, dict)
        and isinstance(query := payload.get("query"), str)
        and isinstance(variables := payload.get("variables"), dict | None)
        and isinstance(name := payload.get("operationName"), str | None)
    ):
        return OperationRequest(query, variables, name)
    return None


@dataclass(frozen=True, slots=True)
class Checked:
    """A document that is valid, with the operation that was chosen from it.

    `start_variable` is the variable that does nothing but say where a subscription begins; `inlines` is whether
    pictures can be inside the answers.
    """

    document: DocumentNode
    operation: OperationDefinitionNode
    type: OperationType
    start_variable: str | None
    inlines: bool


@lru_cache(REMEMBERED)
def check(schema: Schema, query: str, operation_name: str | None) -> Checked:
    """Parse and validate a document, with the schema's limits. Raises `RefusedError`."""
    execution = schema._create_execution_context(
        query=query, allowed_operation_types=set(OperationType), operation_name=operation_name
    )
    extensions = schema.get_extensions(sync=True)
    for extension in extensions:
        extension.execution_context = execution
    runner = schema.create_extensions_runner(execution, extensions)
    try:
        with runner.operation():
            refused = schema._prepare_operation_sync(execution, runner)
    except MissingQueryError as exc:
        raise RefusedError([GraphQLError("There is no `query` in the request.")]) from exc
    except GraphQLError as exc:
        raise RefusedError([exc]) from exc
    except CannotGetOperationTypeError as exc:
        raise RefusedError([GraphQLError(exc.as_http_error_reason())]) from exc
    if refused is not None:
        raise RefusedError(refused.errors or [])
    assert execution.graphql_document is not None
    operation = next(
        node
        for node in execution.graphql_document.definitions
        if isinstance(node, OperationDefinitionNode)
        and (operation_name is None or (node.name is not None and node.name.value == operation_name))
    )
    uses = _Uses()
    visit(execution.graphql_document, uses)
    return Checked(
        execution.graphql_document,
        operation,
        execution.operation_type,
        _start_variable(operation, uses.variables),
        INLINE_FIELD in uses.fields,
    )


class _Uses(Visitor):
    """Counts how often a document uses a variable, and names its fields."""

    def __init__(self) -> None:
        super().__init__()
        self.variables: dict[str, int] = {}
        self.fields: set[str] = set()

    def enter_variable(self, node: VariableNode, *_: object) -> None:
        """Its definition counts as one use."""
        self.variables[node.name.value] = self.variables.get(node.name.value, 0) + 1

    def enter_field(self, node: FieldNode, *_: object) -> None:
        """Whatever its alias."""
        self.fields.add(node.name.value)


def _start_variable(operation: OperationDefinitionNode, uses: Mapping[str, int]) -> str | None:
    """The variable that is the root field's `after`, if it is used for nothing else."""
    fields = [node for node in operation.selection_set.selections if isinstance(node, FieldNode)]
    for field in fields:
        for argument in field.arguments or ():
            if argument.name.value == "after" and isinstance(argument.value, VariableNode):
                name = argument.value.name.value
                return name if uses[name] == 2 else None
    return None


class Selection:
    """What the subscribers of a group want to know of each event."""

    __slots__ = ("_fields", "_root", "_template")

    def __init__(self, executor: Executor[Any]) -> None:
        root = executor.schema.subscription_type
        assert root is not None
        self._root = root
        self._template = copy(executor)
        self._template.context_value = None  # was one caller's
        # Lists that stay the same, so that what the executor remembers by them is remembered once.
        self._fields = collect_fields(
            executor.schema, executor.fragments, executor.variable_values, root, executor.operation
        )

    def of(self, event: LiveEvent, context: Context) -> ExecutionResult | Awaitable[ExecutionResult]:
        """Execute it for one event."""
        executor = copy(self._template)
        executor.root_value = event.value
        executor.context_value = context
        executor.collected_errors = CollectedErrors()
        fields, deferred, _ = self._fields
        try:
            data = executor.execute_collected_root_fields(self._root, event.value, fields, False, deferred)
        except GraphQLError as error:
            return _response(executor, None, error)
        return _awaited(executor, data) if isawaitable(data) else _response(executor, data)


async def _awaited(executor: Executor[Any], data: Awaitable[dict[str, Any]]) -> ExecutionResult:
    try:
        return _response(executor, await data)
    except GraphQLError as error:
        return _response(executor, None, error)


def _response(
    executor: Executor[Any], data: dict[str, Any] | None, error: GraphQLError | None = None
) -> ExecutionResult:
    if error is not None:
        executor.collected_errors.add(error, None)
    errors = executor.collected_errors.errors
    return ExecutionResult(data, presentable(errors) if errors else None)


async def subscribe(
    schema: Schema, checked: Checked, variables: dict[str, Any] | None, context: Context
) -> tuple[Source, Executor[Any]]:
    """Begin a subscription: what it watches, and the executor of its document. Raises `RefusedError`."""
    middleware = schema._get_middleware_manager(schema.get_extensions())
    executor = schema.execution_context_class.build(
        schema._schema,
        checked.document,
        context_value=context,
        raw_variable_values=variables,
        operation_name=checked.operation.name.value if checked.operation.name else None,
        middleware=middleware if middleware.middlewares else None,
        is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]
        operation_extensions=None,
    )
    if isinstance(executor, list):
        raise RefusedError(presentable(executor))
    source = create_source_event_stream(executor)
    if isawaitable(source):
        source = await source
    if isinstance(source, ExecutionResult):
        raise RefusedError(presentable(source.errors or []))
    if not isinstance(source, Source):
        raise TypeError(f"a subscription must return a Source, not a {type(source).__name__}")
    return source, executor


def encode(data: object, errors: Sequence[GraphQLError] | None) -> bytes:
    """The JSON of a result, whose errors are fit for the client."""
    payload = {"data": data}
    if errors:
        payload["errors"] = [error.formatted for error in errors]
    return orjson.dumps(payload)

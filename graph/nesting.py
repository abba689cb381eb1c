"""What a document may ask for inside itself.

A list inside itself multiplies the answer at every level: of eight tasks with a dozen events each, the events of the
tasks of the events, four times over, are more than 100,000 events, asked for in less than a hundred bytes.
"""

from __future__ import annotations

from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLCompositeType,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionSetNode,
    ValidationContext,
    ValidationRule,
    get_named_type,
    get_nullable_type,
    is_composite_type,
    is_list_type,
)


class ListInsideItselfRule(ValidationRule):
    """No list is asked for inside itself, also not by way of fragments."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self._fragments = {
            node.name.value: node for node in context.document.definitions if isinstance(node, FragmentDefinitionNode)
        }
        self._seen: set[tuple[str, frozenset[str]]] = set()

    def enter_operation_definition(self, node: OperationDefinitionNode, *_: Any) -> None:
        """Go down all paths of an operation."""
        if (root := self.context.schema.get_root_type(node.operation)) is not None:
            self._look(node.selection_set, root, frozenset())

    def _look(self, selections: SelectionSetNode, parent: GraphQLCompositeType, above: frozenset[str]) -> None:
        for selection in selections.selections:
            match selection:
                case FieldNode():
                    self._field(selection, parent, above)
                case InlineFragmentNode(type_condition=None):
                    self._look(selection.selection_set, parent, above)
                case InlineFragmentNode(type_condition=condition) if condition is not None:
                    self._on(condition.name.value, selection.selection_set, above)
                case FragmentSpreadNode() if (name := selection.name.value, above) not in self._seen:
                    # Each fragment once for every set of lists that it stands in, so also one that contains itself.
                    self._seen.add((name, above))
                    if (fragment := self._fragments.get(name)) is not None:
                        self._on(fragment.type_condition.name.value, fragment.selection_set, above)

    def _on(self, type_name: str, selections: SelectionSetNode, above: frozenset[str]) -> None:
        type_ = self.context.schema.get_type(type_name)
        if is_composite_type(type_):
            self._look(selections, type_, above)

    def _field(self, node: FieldNode, parent: GraphQLCompositeType, above: frozenset[str]) -> None:
        name = node.name.value
        field = self.context.schema.get_field(parent, name)
        if field is None or node.selection_set is None:
            return
        if is_list_type(get_nullable_type(field.type)):
            place = f"{parent.name}.{name}"
            if place in above:
                message = (
                    f"`{name}` is asked for inside `{name}` (`{place}`). Each level would multiply the answer; ask for "
                    "the inner ones in a request of their own."
                )
                self.report_error(GraphQLError(message, node, extensions={"code": "LIST_INSIDE_ITSELF"}))
                return
            above |= {place}
        if is_composite_type(type_ := get_named_type(field.type)):
            self._look(node.selection_set, type_, above)

"""Writes into the documents what the code knows better: the table of settings, and every provider's parameters."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from strawberry.utils.str_converters import to_camel_case

from graph.settings_report import markdown
from providers.parameters import Parameter, ParameterType, parameters_of
from providers.registry import definition

_MARKED = re.compile(
    r"(<!-- (?P<what>settings|parameters)(?: (?P<name>\w+))?: make docs -->\n).*?(<!-- / -->)", re.DOTALL
)


def written(text: str) -> str:
    """A document with its marked tables as the code has them."""

    def table(found: re.Match[str]) -> str:
        body = markdown() if found["what"] == "settings" else parameters(found["name"])
        return f"{found[1]}{body}\n{found[4]}"

    return _MARKED.sub(table, text)


def parameters(name: str) -> str:
    """The table of a provider's parameters: GraphQL name, wire name, domain, default, meaning with its rules."""
    provider = definition(name)
    lines = ["| GraphQL | on the wire | domain | default | what it is, and its rules |", "|---|---|---|---|---|"]
    for one in parameters_of(provider.request):
        default = "required" if one.required else "" if one.default is None else f"`{one.default}`"
        wire = provider.wire_name(one.name)
        meaning = " ".join(one.description.split()).replace("|", "\\|")
        lines.append(f"| `{to_camel_case(one.name)}` | `{wire}` | {_domain(one)} | {default} | {meaning} |")
    return "\n".join(lines)


def _domain(one: Parameter) -> str:
    if one.options:
        domain = ", ".join(f"`{option.name}`" for option in one.options)
    elif one.minimum is not None or one.maximum is not None:
        domain = f"{_number(one.minimum)}–{_number(one.maximum)}"
    elif one.type is ParameterType.STRING and one.max_length is not None:
        domain = f"{one.min_length or 0}–{one.max_length:,} characters"
    else:
        domain = one.type.value
    return f"list of {domain}" if one.many else domain


def _number(value: float | None) -> str:
    return "…" if value is None else f"{value:,}"


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(written(path.read_text()))

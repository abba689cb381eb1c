"""`darkroom settings`: every setting, its value, and where the value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings

from graph.settings import ServerSettings
from providers.http import NetworkSettings
from providers.registry import PROVIDERS
from providers.sandbox.settings import SandboxSettings
from tasks.settings import TaskSettings

SETTINGS: tuple[type[BaseSettings], ...] = (
    ServerSettings,
    TaskSettings,
    NetworkSettings,
    *(settings for one in PROVIDERS for settings in one.settings),
    SandboxSettings,
)
"""Every settings class there is, in the order they are shown."""


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One setting as it is in force."""

    name: str
    value: str
    source: str
    description: str


def report(env_file: Path = Path(".env")) -> list[SettingRow]:
    """All settings in force, secrets masked. Raises pydantic's `ValidationError` when one is not valid."""
    in_file = _set(dotenv_values(env_file)) if env_file.exists() else set[str]()
    in_environment = _set(os.environ)
    rows: list[SettingRow] = []
    for cls in SETTINGS:
        settings = cls()
        for name, variable, description in variables(cls):
            source = (
                "environment" if variable in in_environment else str(env_file) if variable in in_file else "default"
            )
            rows.append(SettingRow(variable, _shown(getattr(settings, name)), source, description))
    return rows


def variables(cls: type[BaseSettings]) -> Iterator[tuple[str, str, str]]:
    """The field, the environment variable and the description of each setting of a class."""
    prefix = cls.model_config.get("env_prefix", "")
    for name, field in cls.model_fields.items():
        yield name, f"{prefix}{name}".upper(), " ".join((field.description or "").split())


def explain(error: ValidationError) -> list[str]:
    """What is wrong with the settings, by the name of the variable; never with its value, which may be a secret."""
    # A part of a class that is listed may be read by itself, too.
    classes = {base.__name__: base for cls in SETTINGS for base in cls.__mro__ if issubclass(base, BaseSettings)}
    prefix = str(classes.get(error.title, BaseSettings).model_config.get("env_prefix", ""))
    return [
        ": ".join(
            [
                *([f"{prefix}{'.'.join(map(str, one['loc']))}".upper()] if one["loc"] else []),
                one["msg"].removeprefix("Value error, "),
            ]
        )
        for one in error.errors(include_url=False, include_input=False)
    ]


def _set(variables: Mapping[str, str | None]) -> set[str]:
    """The names of those that are not empty."""
    return {name.upper() for name, value in variables.items() if value}


def _shown(value: object) -> str:
    if isinstance(value, SecretStr):
        return "********" if value.get_secret_value() else ""
    if value is None:
        return "–"
    # A database URL may carry a password.
    return _without_password(value) if isinstance(value, str) and "://" in value else str(value)


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    credentials, at, host = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}://{user}{':***' if colon else ''}{at}{host}"


def markdown() -> str:
    """The table of all settings in the README: name, default, meaning."""
    lines = ["| setting | default | what it is |", "|---|---|---|"]
    for cls in SETTINGS:
        defaults = cls.model_construct()
        for name, variable, description in variables(cls):
            shown = _shown(getattr(defaults, name, None))
            lines.append(f"| `{variable}` | {f'`{shown}`' if shown not in ('', '–') else ''} | {description} |")
    return "\n".join(lines)

"""TOML into frozen dataclasses: every key must be a field, every value of the field's type, every mistake one line."""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from facellava.errors import FileMissing, UsageError

Settings = TypeVar("Settings")


def shipped(package: str, folder_name: str = "recipes") -> tuple[str, ...]:
    """Names of the recipes in a folder of a package of ours."""
    folder = resources.files(package) / folder_name
    return tuple(sorted(f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")))


def read_recipe(name: str, package: str, folder: str = "recipes") -> tuple[dict[str, Any], Path]:
    """The tables of a recipe, and the folder that its paths are relative to.

    Args:
        name: a path, or the name of a recipe that ships in a folder of ``package`` (relative to the working folder
            then).

    Raises:
        FileMissing: neither. UsageError: no valid TOML.
    """
    path = Path(name)
    if path.is_file():
        data, base = path.read_bytes(), path.resolve().parent
    elif name in shipped(package, folder):
        data, base = (resources.files(package) / folder / f"{name}.toml").read_bytes(), Path.cwd()
    else:
        known = ", ".join(shipped(package, folder))
        raise FileMissing(f"{name} is no file and not among the shipped {folder}: {known}")
    try:
        return tomllib.loads(data.decode()), base
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, or nested without end
        raise UsageError(f"{name} is no valid TOML: {error}") from error


def build(kind: type[Settings], raw: Mapping[str, Any], where: str) -> Settings:
    """A dataclass from a table.

    Args:
        where: names the table in messages.

    Raises:
        UsageError: an unknown or missing key, or a value of another type.
    """
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(typing.cast(Any, kind))
    names = {f.name for f in fields}
    if unknown := raw.keys() - names:
        raise UsageError(f"{where}: unknown key '{min(unknown)}'; known: {', '.join(sorted(names))}")
    values = {key: _value(hints[key], value, f"{where}: {key}") for key, value in raw.items()}
    lacking = [
        f.name
        for f in fields
        if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if lacking:
        raise UsageError(f"{where}: '{lacking[0]}' is missing")
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        # TOML has no null: "none" switches an optional part off
        if value == "none":
            return None
        return _value(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise UsageError(f"{where} must be a list")
        return tuple(_value(arguments[0], item, f"{where}[{n}]") for n, item in enumerate(value))
    if origin is Literal:
        if value not in arguments:
            raise UsageError(f"{where} is {value!r}; known: {', '.join(arguments)}")
        return value
    if dataclasses.is_dataclass(hint) or origin is not None:
        if not isinstance(value, dict):
            raise UsageError(f"{where} must be a table")
        return build(typing.cast(type, hint), value, where) if origin is None else value
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise UsageError(f"{where} is {value!r}, but must be {'a' if hint is not int else 'an'} {hint.__name__}")
    return value


def override(raw: dict[str, Any], assignments: Mapping[str, str]) -> None:
    """Put ``a.b = value`` into nested tables in place; values as TOML reads them, what is no TOML is text.

    Raises:
        UsageError: the way leads through something that is no table.
    """
    for key, text in assignments.items():
        *way, last = key.split(".")
        table: Any = raw
        for part in way:
            table = _step(table, part, key)
        if isinstance(table, list):
            table[_place(table, last, key)] = parse(text)
        else:
            table[last] = parse(text)


def _step(table: Any, part: str, key: str) -> Any:
    if isinstance(table, list):
        return table[_place(table, part, key)]
    found = table.setdefault(part, {})
    if not isinstance(found, (dict, list)):
        raise UsageError(f"--set {key}: '{part}' is a value, not a table")
    return found


def _place(table: list[Any], part: str, key: str) -> int:
    """An item of a list of tables, by its number or by its ``name``."""
    names = [str(item.get("name", "")) if isinstance(item, dict) else "" for item in table]
    if part in names:
        return names.index(part)
    if part.isdigit() and int(part) < len(table):
        return int(part)
    raise UsageError(f"--set {key}: there is no '{part}' among {', '.join(filter(None, names)) or len(table)}")


def parse(text: str) -> Any:
    """One value as TOML reads it; what is no TOML is text."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text

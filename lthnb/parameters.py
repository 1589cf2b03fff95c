"""Typed notebook parameters: what papermill injected, checked against the parameters cell.

A notebook's first code cell, tagged ``parameters``, declares them as annotated assignments, and its
second begins with ``p = parameters(globals())``. papermill's command line passes lists, and values
such as ``true`` and ``1e-3``, as text, and papermill lets unknown names through; here the text
becomes the declared type, and whatever does not fit is refused by name.
"""

from __future__ import annotations

import ast
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from lthnb.config import nearest

INJECTED = "# Parameters"  # the first line of the cell that papermill injects
KINDS = {kind.__name__: kind for kind in (int, float, bool, str)}  # as a cell writes them
KINDS |= {str(kind): kind for kind in (list[int], list[float], list[str])}
RENAMED = {  # what a parameter was called before, and what it is called now
    "source": "dataset",
    "sources": "dataset",
    "train_missing": "profile",
    "backbones": "backbone",
    "rung": "round",
    "user_column": "user",
    "item_column": "item",
    "rating_column": "rating",
    "time_column": "time",
    "protocols": "protocol",
}


class ParameterError(ValueError):
    """A parameter that the notebook does not have, or a value of the wrong type."""


def parameters(namespace: Mapping[str, Any]) -> types.SimpleNamespace:
    """Return the notebook's parameters as ``p.name``, each of its declared type.

    ``namespace`` is the notebook's ``globals()``, which is not changed: a cell can be run again.
    Raises ParameterError naming every parameter that is unknown or has a wrong value.
    """
    declared = {
        name: KINDS.get(kind, kind) if isinstance(kind, str) else kind  # text, by a future import
        for name, kind in namespace.get("__annotations__", {}).items()
        if not name.startswith("_")
    }
    problems = unknown_parameters(_injected_names(namespace), declared)
    values = {}
    for name, kind in declared.items():
        if name not in namespace:
            problems.append(f"{name} has no value: give it a default in the parameters cell")
            continue
        try:
            values[name] = coerce(namespace[name], kind)
        except ParameterError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise ParameterError("; ".join(problems))
    return types.SimpleNamespace(**values)


def unknown_parameters(given: Iterable[str], declared: Iterable[str]) -> list[str]:
    """Say of each given name that is not declared what was probably meant."""
    known = list(declared)
    listed = ", ".join(known) or "none"
    problems = []
    for name in given:
        now = RENAMED.get(name)
        if name not in known and now in known:
            problems.append(f"unknown parameter {name}: it is called {now} now")
        elif name not in known:
            meant = nearest(name, known)
            problems.append(f"unknown parameter {name}.{meant} The notebook has {listed}")
    return problems


def declared_types(source: str) -> dict[str, Any]:
    """Return the types that a parameters cell declares, by name; those of :data:`KINDS`."""
    written = {
        statement.target.id: ast.unparse(statement.annotation)
        for statement in ast.parse(source).body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    }
    return {name: KINDS[kind] for name, kind in written.items() if kind in KINDS}


def wrong_values(given: Mapping[str, Any], declared: Mapping[str, Any]) -> list[str]:
    """Say of each given value that is not of its declared type what was found and expected."""
    problems = []
    for name, value in given.items():
        if name in declared:
            try:
                coerce(value, declared[name])
            except ParameterError as error:
                problems.append(f"{name}: {error}")
    return problems


def coerce(value: Any, kind: Any) -> Any:
    """Return ``value`` as ``kind``: int, float, bool, str, or a list of one of these.

    Text is read as papermill's command line writes it ("true", "[1, 2]", "1e-3"), a number given
    for a str becomes text, and a single value given for a list becomes a list of one.
    Raises ParameterError saying what was found, what was expected and what to write.
    """
    origin, options = typing.get_origin(kind), typing.get_args(kind)
    if origin is list and len(options) == 1:
        return [coerce(item, options[0]) for item in _items(value, kind)]
    if kind is bool:
        # Not by truth value: bool("false") is True.
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in ("true", "false"):
            return value.strip().lower() == "true"
        raise _wrong(value, kind, "write true or false")
    if kind is int:
        number = _number(value)
        if number is None or not float(number).is_integer():  # nor is nan or inf
            raise _wrong(value, kind, "write a whole number")
        return int(number)
    if kind is float:
        number = _number(value)
        if number is None:
            raise _wrong(value, kind, "write a number, as 0.5 or 1e-3")
        return float(number)
    if kind is str:
        if isinstance(value, str):
            return value
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return str(value)  # papermill's command line turns the text 2024 into a number
        raise _wrong(value, kind, "write text")
    raise ParameterError(f"type {_type_name(kind)} is not supported: use one of {', '.join(KINDS)}")


def _number(value: Any) -> int | float | None:
    """Return the number that ``value`` is or spells; None where it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, str):
        for read in (int, float):
            try:
                return read(value.strip())
            except ValueError:
                continue
    return None


def _items(value: Any, kind: Any) -> list:
    """Return the items of a list given as a list, as text ("[1, 2]") or as a single value."""
    if isinstance(value, (list, tuple)):
        return list(value)
    if isinstance(value, str) and value.strip().startswith("["):
        for read in (json.loads, ast.literal_eval, _bare_words):
            try:
                found = read(value.strip())
            except (ValueError, SyntaxError):
                continue
            if isinstance(found, list):
                return found
        raise _wrong(value, kind, "write [1, 2] with a closing bracket")
    if value is None or isinstance(value, dict):
        raise _wrong(value, kind, "write [1, 2] or a single value")
    return [value]


def _bare_words(text: str) -> list[str]:
    """Read ``[gowalla, lastfm]``, which a shell leaves when it takes the quotes away."""
    if not text.endswith("]"):
        raise ValueError(text)
    return [word.strip().strip("'\"") for word in text[1:-1].split(",") if word.strip()]


def _wrong(value: Any, kind: Any, advice: str) -> ParameterError:
    expected = _type_name(kind)
    return ParameterError(
        f"found {value!r} ({type(value).__name__}), expected {expected}; {advice}"
    )


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else str(kind)


def _injected_names(namespace: Mapping[str, Any]) -> list[str]:
    """Return the names that papermill's cell assigned, in order; none outside papermill.

    ``In`` is IPython's list of cells as executed. It grows when cells are run again by hand, so the
    last injected cell is the one that counts.
    """
    cells = [cell for cell in namespace.get("In", []) if str(cell).lstrip().startswith(INJECTED)]
    if not cells:
        return []
    try:
        statements = ast.parse(cells[-1]).body
    except SyntaxError:  # edited by hand, with a magic in it: papermill writes plain assignments
        return []
    return assigned_names(statements)


def assigned_names(statements: Iterable[ast.stmt]) -> list[str]:
    """Return the plain names that top-level assignments bind, in order."""
    names = []
    for statement in statements:
        if isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        elif isinstance(statement, ast.Assign):
            targets = statement.targets
        else:
            targets = []
        names += [target.id for target in targets if isinstance(target, ast.Name)]
    return names

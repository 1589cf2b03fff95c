"""Typed notebook parameters: what papermill injected, checked against the parameters cell.

A notebook's first code cell, tagged ``parameters``, declares them as annotated assignments, and its
second begins with ``p = parameters(globals())``. papermill's command line passes lists, and values
such as ``true`` and ``1e-3``, as text, and papermill lets unknown names through; here the text
becomes the declared type, and whatever does not fit is refused by name.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from lthnb.config import ConfigError, nearest

KINDS = {  # annotation → what checks and converts a value; a number given for text becomes text
    inspect.formatannotation(kind): TypeAdapter(kind, config=ConfigDict(coerce_numbers_to_str=True))
    for kind in (int, float, bool, str, list[int], list[float], list[str])
}


def parameters(namespace: Mapping[str, Any]) -> types.SimpleNamespace:
    """Return the notebook's parameters as ``p.name``, each of its declared type.

    ``namespace`` is the notebook's ``globals()``, which is not changed: a cell can be run again.
    Raises ConfigError naming every parameter that is unknown or has a wrong value.
    """
    declared = {
        name: kind if isinstance(kind, str) else inspect.formatannotation(kind)
        for name, kind in namespace.get("__annotations__", {}).items()
        if not name.startswith("_")
    }
    # `In` is IPython's list of cells as executed. It grows when cells are run again by hand, so the
    # last cell that papermill injected is the one that counts; outside papermill there is none.
    cells = [str(cell) for cell in namespace.get("In", [])]
    injected = [cell for cell in cells if cell.lstrip().startswith("# Parameters")]
    names = re.findall(r"^(\w+) = ", "".join(injected[-1:]), re.MULTILINE)
    given = {name: namespace.get(name) for name in [*names, *declared]}
    return types.SimpleNamespace(**checked(given, declared))


def checked(given: Mapping[str, Any], declared: Mapping[str, str]) -> dict[str, Any]:
    """Return the given values, each of the type that is declared for its name.

    declared: name → annotation, one of :data:`KINDS`. Raises ConfigError with all that is wrong:
    for an unknown name the right one, for a value what was found and what was expected.
    """
    values, problems = {}, []
    for name, value in given.items():
        kind = declared.get(name)
        if kind in KINDS:
            try:
                read = _items(value) if kind.startswith("list") else value
                values[name] = KINDS[kind].validate_python(read)
            except ValidationError:
                problems.append(f"{name}: found {value!r}, expected {kind}")
        elif kind:
            problems.append(f"{name}: found the type {kind}, expected one of {', '.join(KINDS)}")
        else:
            known = ", ".join(declared) or "none"
            problems.append(
                f"unknown parameter {name}.{nearest(name, declared)} The notebook has {known}"
            )
    if problems:
        raise ConfigError("; ".join(problems))
    return values


def _items(value: Any) -> Any:
    """What is given for a list: "[1, 2]" and "[a, b]" as text, a single value, or a list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return yaml.safe_load(value)
        except yaml.YAMLError:  # no closing bracket: text, which is no list
            return value
    return [value] if isinstance(value, (str, int, float)) else value

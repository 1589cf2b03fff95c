"""Typed notebook parameters: what papermill injected, checked against the parameters cell.

A notebook's first code cell, tagged ``parameters``, declares them as annotated assignments, and its
second begins with ``p = parameters(globals())``. papermill's command line passes lists, and values
such as ``true`` and ``1e-3``, as text, and papermill lets unknown names through; here the text
becomes the declared type, and whatever does not fit is refused by name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, get_origin

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from lthnb.config import ConfigError, nearest

NUMBERS_ARE_TEXT = ConfigDict(coerce_numbers_to_str=True)  # where text is declared


def parameters(namespace: Mapping[str, Any]) -> SimpleNamespace:
    """Return the notebook's parameters as ``p.name``, each of its declared type.

    ``namespace`` is the notebook's ``globals()``, which is not changed: a cell can be run again.
    Raises ConfigError with all that is wrong: for an unknown name the right one, for a value what
    was found and what was expected.
    """
    declared = namespace.get("__annotations__", {})
    # `In` is IPython's list of cells as executed. It grows when cells are run again by hand, so the
    # last cell that papermill injected is the one that counts; outside papermill there is none.
    cells = namespace.get("In", [])
    injected = [cell for cell in cells if cell.lstrip().startswith("# Parameters")]
    names = re.findall(r"^(\w+) = ", "".join(injected[-1:]), re.MULTILINE)
    values, problems = {}, []
    for name in dict.fromkeys([*names, *declared]):
        if name not in declared:
            known = ", ".join(declared)
            problems.append(
                f"unknown parameter {name}.{nearest(name, declared)} The notebook has {known}"
            )
            continue
        kind, value = declared[name], namespace.get(name)
        try:
            read = _items(value) if get_origin(kind) is list else value
            values[name] = TypeAdapter(kind, config=NUMBERS_ARE_TEXT).validate_python(read)
        except ValidationError:
            expected = inspect.formatannotation(kind)
            problems.append(f"{name}: found {value!r}, expected {expected}")
    if problems:
        raise ConfigError("; ".join(problems))
    return SimpleNamespace(**values)


def _items(value: Any) -> Any:
    """What is given for a list: "[1, 2]" and "[a, b]" as text, a single value, or a list."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return yaml.safe_load(value)
        except yaml.YAMLError:  # no closing bracket: text, which is no list
            return value
    return [value] if isinstance(value, (str, int, float)) else value

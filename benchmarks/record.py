"""Writing a benchmark record; README.md tells its layout, `lthnb.experiments.measured` reads it."""

from __future__ import annotations

import json
import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plan import ROOT
from lthnb.config import canonical
from lthnb.store.files import StoreError, sha256, write_file
from lthnb.store.records import processor

FORMAT = 1


def short(value: float) -> float:
    """Five significant digits: more would be noise, and the record is committed."""
    return float(f"{value:.5g}")


def slopes(points: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of each measure, over the repeats: the slope of log(measure) against log(at), by least
    squares over two points at least."""
    at = np.log([point["at"] for point in points])
    found = {}
    for name in points[0]["measures"]:
        values = np.log([point["measures"][name] for point in points])  # points × repeats
        fitted = np.polyfit(at, values, 1)[0]
        kinds = {"min": np.min, "median": np.median, "max": np.max}
        found[name] = {kind: short(of(fitted)) for kind, of in kinds.items()}
    return found


def write(path: Path, record: dict[str, Any]) -> None:
    """Seal and write a record, all or nothing. Raises StoreError for one that names a path of this
    machine or its host."""
    rest = {name: value for name, value in record.items() if name != "checksum"}
    sealed = {**rest, "checksum": sha256(canonical(rest).encode())}
    text = json.dumps(sealed, indent=1, ensure_ascii=False) + "\n"
    # One number a line would be most of the file.
    for inner in (r"\[[^\[\]{}\"]*\]", r"\{[^\[\]{}]*\}"):
        text = re.sub(inner, lambda m: re.sub(r"\n\s*", " ", m[0]), text)
    for told in (str(ROOT), str(Path.home()) + os.sep, f'"{platform.node()}"'):
        if told in text:
            raise StoreError(f"{path.name}: would tell {told}, which is this machine's alone.")
    write_file(path, text.encode())


def machine() -> dict[str, Any]:
    """What kind of machine this is; nothing that names it. Linux tells most."""
    caches = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    names = ("level", "type", "size")
    told = [[(folder / name).read_text().strip() for name in names] for folder in caches]
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "caches": [f"L{level} {kind} {size}" for level, kind, size in told],
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def load_average() -> list[float]:
    """Processes that wanted to run in the last 1, 5 and 15 minutes: how busy the machine was."""
    return [short(value) for value in os.getloadavg()]


def without_paths(text: str) -> str:
    """A message whose absolute paths have lost all but their last part."""
    return re.sub(r"(?:/[^/\s'\":,()]+)+/([^/\s'\":,()]+)", r"…/\1", text)

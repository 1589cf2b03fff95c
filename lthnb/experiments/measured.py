"""Records of benchmarks as DataFrames. `benchmarks/` measures and writes them, one JSON file each;
`benchmarks/README.md` tells their layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lthnb.config import canonical, one_of
from lthnb.store.files import DamagedFile, results_folder, sha256


def load(path: Path) -> dict[str, Any]:
    """A record as plain data. Raises DamagedFile where its checksum does not fit."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        rest = dict(record)
        if rest.pop("checksum") == sha256(canonical(rest).encode()):
            return record
    except (OSError, ValueError, LookupError, TypeError):
        pass
    raise DamagedFile(f"{path.name}: no benchmark record, or damaged; take it anew.")


def recorded(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The records in `results/benchmarks`; names: those wanted, all where empty. Raises DamagedFile
    for a damaged one, and ConfigError for one that is not there."""
    there = {path.stem: path for path in sorted((results_folder() / "benchmarks").glob("*.json"))}
    for name in names:
        one_of("benchmark record", name, there)
    return [load(there[name]) for name in names or there]


def frame(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """What was measured, a line a repeat: `record`, `row`, `title`, `unit`, `who`, `measure`, `at`,
    `repeat`, `value`, and `ratio`, the value over ours of the same repeat (nan where either is 0,
    or ours was not measured). Facts that are numbers are measures of one repeat. Rows "scaling
    BACKBONE SETTING" are the sweeps, with the setting's value as `at`; it is nan elsewhere."""
    names = ["record", "row", "title", "unit", "who", "at", "measure", "repeat", "value"]
    lines = []
    for record in records:
        entries = [
            (name, row["title"], row["unit"], who, np.nan, entry)
            for name, row in record["rows"].items()
            for who, entry in row["who"].items()
        ]
        for sweep in record["scaling"] or ():
            about = (f"scaling {sweep['backbone']} {sweep['over']}", "", "seconds a batch", "ours")
            entries += [(*about, point["at"], point) for point in sweep["points"]]
        for *about, entry in entries:
            for measure, values in (entry["facts"] | entry["measures"]).items():
                for repeat, value in enumerate(np.atleast_1d(values)):
                    if isinstance(value, int | float | np.number):
                        lines.append((record["name"], *about, measure, repeat, value))
    table = pd.DataFrame(lines, columns=names)
    same = ["record", "row", "measure", "at", "repeat"]
    ours = table[table["who"] == "ours"].set_index(same)["value"].rename("ours")
    beside = table.join(ours, on=same)["ours"]
    return table.assign(ratio=(table["value"] / beside).where((table["value"] > 0) & (beside > 0)))

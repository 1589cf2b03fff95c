"""The columns of the two tables: `columns.yaml`, read."""

from __future__ import annotations

from pathlib import Path

import yaml

from lthnb.metrics import KS, METRICS

METRIC_NAMES = [f"{metric}@{k}" for k in KS for metric in METRICS]
PACKAGES = ("numpy", "scipy", "numba", "torch")  # whose versions a row has

# Of either table: name → (type, meaning), in order. Types: str, int (may be empty), float.
COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
    table: {name: tuple(about) for name, about in columns.items()}
    for table, columns in yaml.safe_load(
        Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8")
    ).items()
}
RUN_COLUMNS, SEARCH_COLUMNS = COLUMNS["runs"], COLUMNS["searches"]

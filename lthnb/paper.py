"""What the paper says, as data: its tables and claims, from `paper.yaml`, which says what each
entry means.

Wang, Sui, Wang, Liu and He, *Exploring Lottery Ticket Hypothesis in Media Recommender Systems*,
International Journal of Intelligent Systems (2022), arXiv:2108.00944. A test compares the tables
with the paper's text cell by cell, and the quotes word by word.

Two words are never mixed here, though the paper mixes them: *density* is the share of entries
kept, *sparsity* the share pruned. A number of percent says so in its name (`sparsity_percent`).
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

METRICS = ("recall@20", "ndcg@20")
_SAID = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def _entries(kind: str, **defaults: Any) -> tuple[SimpleNamespace, ...]:
    """The entries of one part of the file, with `defaults` where one does not say."""
    return tuple(SimpleNamespace(**{**defaults, **one}) for one in _SAID[kind])


def _cells(kind: str, row: tuple[str, str]) -> tuple[SimpleNamespace, ...]:
    """The cells of Table 2 or 3. row: what the first two entries of a line are called; after them
    come Recall@20 in four columns, then NDCG@20."""
    columns = _SAID[kind]["columns"]
    return tuple(
        SimpleNamespace(**dict(zip(row, names, strict=True)), metric=metric, value=value, **column)
        for *names, recall, ndcg in _SAID[kind]["values"]
        for metric, values in zip(METRICS, (recall, ndcg), strict=True)
        for column, value in zip(columns, values, strict=True)
    )


TABLE1 = _entries("table1")
TABLE2 = _cells("table2", ("dataset", "backbone"))
TABLE3 = _cells("table3", ("dataset", "method"))
CLAIMS = _entries("claims", numbers=(), note="", open=False)
for _claim in CLAIMS:
    _blank = {"dataset": "", "backbone": ""}
    _claim.numbers = tuple(SimpleNamespace(**{**_blank, **number}) for number in _claim.numbers)

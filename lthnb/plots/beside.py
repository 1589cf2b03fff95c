"""The paper's tables beside recorded runs, cell by cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lthnb import paper
from lthnb.plots.style import small_keys, table
from lthnb.store.records import Record


def beside(cell: paper.Cell | paper.CompressionCell, ours: Sequence[Record]) -> dict[str, Any]:
    """The columns that a cell fills: its value, and our runs of its setting; without a run, why."""
    values = [r.metric(cell.metric) for r in ours]
    mean = float(np.mean(values)) if values else None
    return {
        "paper": cell.value,
        "ours": mean,
        "difference": mean - cell.value if values else None,
        "seeds": ", ".join(f"{v:.4f}" for v in values)
        or ("not run" if cell.dataset == "yelp2018" else "no data"),
        "runs": ", ".join(r.key[:8] for r in ours) or None,
    }


def beside_table(rows: Sequence[dict[str, Any]], title: str):
    """Lines that end with what :func:`beside` gave, as a table that says how epochs were chosen."""
    return small_keys(
        table(
            pd.DataFrame(rows),
            title,
            "Epochs chosen on test, as in the authors' code: for comparison with the paper only. "
            "«no data»: the paper's TikTok and Kwai were never released.",
        )
        .fmt_number(["paper", "ours"], decimals=4)
        .fmt_number("difference", decimals=4, force_sign=True)
    )

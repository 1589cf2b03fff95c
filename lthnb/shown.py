"""What people are told of data: counts, what is worth knowing, and a card for JupyterLab."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

FEW = 100  # users tested, below which a mean says little


def card(title: str, rows: Mapping[str, str], remarks: Iterable[str] = ()) -> str:
    """A title, its lines and remarks as HTML, for what JupyterLab shows at the end of a cell."""
    lines = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name.replace('_', ' '))}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in rows.items()
    )
    listed = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks)
    return f"<b>{html.escape(title)}</b><table>{lines}</table><ul>{listed}</ul>"


def statistics(data: Any) -> dict[str, Any]:
    """Counts, density and degrees of a :class:`data.Interactions`, as plain data.

    `density` is interactions / (users · items); degrees are of train, `*_degree` holding minimum,
    quartiles and maximum.
    """
    parts = {part: getattr(data, part).nnz for part in ("train", "valid", "test")}
    total = sum(parts.values())
    quantiles = (0, 0.25, 0.5, 0.75, 1)
    return {
        "users": data.users,
        "items": data.items,
        "interactions": total,
        **parts,
        "density": total / (data.users * data.items),
        "user_degree": [float(q) for q in np.quantile(data.user_degree, quantiles)],
        "item_degree": [float(q) for q in np.quantile(data.item_degree, quantiles)],
        "users_without_train": int((data.user_degree == 0).sum()),
        "users_without_test": int((np.diff(data.test.indptr) == 0).sum()),
        "items_unseen_in_train": int((data.item_degree == 0).sum()),
    }


def described(statistics: Mapping[str, Any]) -> dict[str, str]:
    """Numbers as text; a list is minimum, quartiles and maximum."""
    out = {}
    for name, value in statistics.items():
        if isinstance(value, list):
            low, first, middle, third, high = (f"{v:,.0f}" for v in value)
            out[name] = f"{low} to {high}, quartiles {first}, {middle}, {third}"
        else:
            out[name] = f"{value:,}" if isinstance(value, int) else f"{value:.5f}"
    return out


def worth_knowing(data: Any) -> list[str]:
    """What one should know before believing a number from `data`, a :class:`data.Interactions`: a
    sentence each, those in its `origin` first."""
    counts, notes = data.origin.get("counts", {}), list(data.origin.get("notes", []))
    tested = np.diff(data.test.indptr) > 0
    if tested.sum() < FEW:
        notes.append(f"Users tested: {tested.sum():,}. Below {FEW}, intervals are wide.")
    if lost := [f"{n:,} {what}" for what, n in counts.items() if n and what != "rows"]:
        notes.append(f"Of {counts['rows']:,} rows: {', '.join(lost)}.".replace("_", " "))
    if unseen := (data.item_degree == 0)[data.test.indices].sum():
        notes.append(
            f"Test pairs whose item is in no training pair: {unseen:,} of {data.test.nnz:,}. They "
            "are kept, as all-ranking has it (§4.1), and can be hit by luck alone."
        )
    return notes

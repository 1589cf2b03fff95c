"""A card for JupyterLab."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping


def card(title: str, rows: Mapping[str, str], remarks: Iterable[str] = ()) -> str:
    """A title, its lines and remarks as HTML, for what JupyterLab shows at the end of a cell."""
    lines = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name.replace('_', ' '))}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in rows.items()
    )
    listed = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks)
    return f"<b>{html.escape(title)}</b><table>{lines}</table><ul>{listed}</ul>"

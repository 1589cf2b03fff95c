"""The book's look, for figures and tables.

Figures have an opaque, nearly white ground of their own, so that they read alike on a light and a
dark page.
"""

from __future__ import annotations

import pandas as pd
import seaborn as sns
from great_tables import GT, html

from lthnb.plots.captions import csv_link

INK, PAPER, GREY = "#222222", "#FCFCFA", "#5A5A5A"
# Okabe and Ito's colours, which colour-blind readers tell apart, in a fixed order.
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#6A4C93"]


def use_style() -> None:
    """Set the book's look for the figures that follow."""
    sns.set_theme(
        context="notebook",
        style="whitegrid",
        rc={
            "figure.facecolor": PAPER,
            "axes.facecolor": PAPER,
            "savefig.facecolor": PAPER,
            "text.color": INK,
            "axes.labelcolor": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "grid.color": "#DDDDDD",
            "axes.edgecolor": "#888888",
            "figure.dpi": 110,
            "savefig.dpi": 220,
            "font.size": 12,
        },
    )


def plain_table(frame: pd.DataFrame, title: str, subtitle: str, groups: str | None) -> GT:
    """A table with a ground and ink of its own, legible on light and dark pages; below it its rows
    as CSV."""
    name = "".join(c if c.isalnum() else "-" for c in title.lower())[:40].strip("-")
    return (
        GT(frame, groupname_col=groups if groups in frame else None)
        .tab_header(title=title, subtitle=subtitle or None)
        .sub_missing(missing_text="–")
        .tab_source_note(html(csv_link(frame, name)))
        .tab_options(
            table_background_color=PAPER,
            table_font_color=INK,
            table_font_size="14px",
            data_row_padding="4px",
            container_overflow_x="auto",
        )
        .opt_row_striping()
        .with_id(f"t-{name}")  # random otherwise, and a rebuilt page would differ for no reason
    )

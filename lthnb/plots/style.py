"""The book's look.

Figures have an opaque, nearly white ground of their own, so that they read alike on a light and a
dark page.
"""

from __future__ import annotations

import seaborn as sns

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

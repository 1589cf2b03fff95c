"""The book's look: colours, axes and tables that every figure shares.

Colours are Okabe and Ito's, which colour-blind readers tell apart, and lines differ in marker too.
Figures have an opaque, nearly white ground of their own, so that they read alike on a light and a
dark page, and are sized to be read at 390 px. Legends stand below the axes, never over the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lthnb.standings import METHOD_NAMES

INK, PAPER, GREY = "#222222", "#FCFCFA", "#5A5A5A"


COLOURS = {  # a method or a backbone keeps its colour throughout the book
    "imp": "#0072B2",
    "omp": "#E69F00",
    "rp": "#009E73",
    "rp_x0": "#CC79A7",
    "mf": "#0072B2",
    "lightgcn": "#D55E00",
    "rewind": "#0072B2",  # IMP as it is
    "reinit": "#56B4E9",
    "continue": "#7F5539",
    "late": "#6A4C93",
    "ticket": "#0072B2",  # found by IMP
    "lcm": "#D55E00",
    "small": "#009E73",
}


NAMES = {
    **METHOD_NAMES,
    "rewind": "rewind to X⁰",
    "reinit": "reinit: a new start",
    "continue": "continue: keep the trained",
    "late": "late: rewind to an early epoch",
    "dense": "dense model",
    "ticket": "ticket (IMP)",
    "lcm": "LCM",
    "small": "small dense model",
}


METRIC_NAMES = {"recall": "Recall", "ndcg": "NDCG", "precision": "Precision", "mrr": "MRR"}


MARKERS = {
    **{"imp": "o", "omp": "s", "rp": "^", "rp_x0": "v", "mf": "o", "lightgcn": "s"},
    **{"rewind": "o", "reinit": "s", "continue": "^", "late": "D"},
    **{"ticket": "o", "lcm": "s", "small": "^"},
}


SHAPES = ("o", "s", "^", "D", "v", "P")  # markers of what has an order, such as sizes


STAR = "#C00000"


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
            "svg.fonttype": "none",
        },
    )


def panels(count: int, height: float = 4.2, columns: int = 1):
    """A figure of `count` panels, at least one, below each other or in several columns, and their
    axes, row by row."""
    use_style()
    rows = max(math.ceil(count / columns), 1)
    size = (7.2 * columns, height * rows)
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    return fig, axes.ravel()


def density_axis(ax, densities: Sequence[float]) -> None:
    """A log axis of densities in percent, dense on the left, sparser to the right."""
    ax.set_xscale("log")
    low, high = min(densities), max(densities)
    ax.set_xlim(high * 1.12, low / 1.12)
    ticks = sorted(set(densities), reverse=True)
    # Neighbours closer than a tenth of the axis would print over each other.
    least = max(1.12, (high / low) ** 0.09)
    shown: list[float] = []
    for tick in ticks:
        if not shown or shown[-1] / tick >= least:
            shown.append(tick)
    ax.xaxis.set_major_locator(FixedLocator(shown))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda d, _: f"{d:.0%}" if d >= 0.1 else f"{d:.1%}"))
    ax.set_xlabel("density: share of the table's entries kept (sparser →)")


def say_not_run(ax, name: str) -> None:
    say_instead(ax, f"{name}: not run yet")


def say_instead(ax, text: str) -> None:
    """Words in the place of a panel."""
    ax.text(0.5, 0.5, text, ha="center", transform=ax.transAxes)
    ax.set_axis_off()


def seeds_said(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def table(frame: pd.DataFrame, title: str, subtitle: str = "", groups: str | None = None):
    """A great-tables table with a ground and ink of its own, legible on light and dark pages.

    groups: a column whose values head the lines that share them, instead of standing in each."""
    from great_tables import GT

    return (
        GT(frame, groupname_col=groups if groups in frame else None)
        .tab_header(title=title, subtitle=subtitle or None)
        .sub_missing(missing_text="–")
        .tab_options(
            table_background_color=PAPER,
            table_font_color=INK,
            table_font_size="14px",
            data_row_padding="4px",
            container_overflow_x="auto",
        )
        .opt_row_striping()
        # Ids of tables are random otherwise, and a rebuilt page would differ for no reason.
        .with_id("t" + "".join(c for c in title.lower() if c.isalnum())[:40])
    )


def small_keys(shown):
    """Keys of runs are there to be copied, not read: small, and the last to take up width."""
    from great_tables import loc, style

    return shown.tab_style(
        style.text(font="monospace", size="10px"), loc.body(columns="runs")
    ).cols_width({"runs": "70px"})


def seconds_said(value: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def minutes_said(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{rest:02d}"

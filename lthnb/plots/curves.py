"""Figures and tables of the recorded tables: seaborn on a DataFrame, in the book's look.

A chapter filters rows, works out a difference (:mod:`lthnb.stats`), and hands the frame over; each
column that is drawn is there to be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from great_tables import GT, html
from matplotlib.ticker import FuncFormatter, NullLocator

from lthnb import stats
from lthnb.config import ConfigError
from lthnb.experiments.names import ORDER, batches
from lthnb.plots.captions import csv_link
from lthnb.plots.style import GREY, INK, PALETTE, PAPER, use_style

TITLES = {  # by whether there are rows and columns of panels
    (True, True): "{row_name}, {col_name}",
    (True, False): "{row_name}",
    (False, True): "{col_name}",
    (False, False): "",
}
FORMATS = {  # of numbers in tables; signed is a relative difference
    "percent": partial(GT.fmt_percent, decimals=1),
    "signed": partial(GT.fmt_percent, decimals=1, force_sign=True),
    "decimals": partial(GT.fmt_number, decimals=4),
    "scientific": partial(GT.fmt_scientific, decimals=1),
    "count": GT.fmt_integer,
}
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:g}%".replace("-", "−"))  # of an axis
TICKS = (1.0, 0.5, 0.2, 0.1, 0.05)


def curves(
    frame: pd.DataFrame,
    y: str = "difference",
    *,
    x: str = "density",
    hue: str | None = None,
    col: str | None = "model",
    row: str | None = "data",
    label: str = "Recall@20 beside the dense model",
    x_label: str = "density: share of entries kept",
    **how: Any,
) -> sns.FacetGrid:
    """Lines against density, dense on the left, a mean over seeds with its 95 % interval (from
    three seeds on), in small panels with one legend.

    y, x: a relative difference and the density, or with ``label`` and ``x_label`` other columns.
    how: further words for ``seaborn.relplot``. Raises ConfigError where there are no rows.
    """
    use_style()
    frame = some(frame)
    if "data" in (row, col):  # a panel a data set, whatever its batches, which the title names
        frame = frame.assign(data=frame["data"].str.partition(", batches")[0])
    orders = {
        f"{part}_order": ordered(frame[n])
        for part, n in (("hue", hue), ("col", col), ("row", row))
        if n
    }
    shades = PALETTE[: frame[hue].nunique()] if hue else None
    marked = (
        {"style": hue, "markers": True, "dashes": False}
        if hue
        else {"marker": "o", "color": PALETTE[0]}
    )
    down, across = (frame[part].nunique() if part else 1 for part in (row, col))
    alone = down == across == 1  # one panel
    # All widths come to about the book's column.
    height, aspect = (3.6, 1.9) if alone else (2.5, 2.7) if across == 1 else (2.3, 1.5)
    settings = {
        "height": height,
        "aspect": aspect,
        "kind": "line",
        "errorbar": stats.t95,
    }
    settings |= {"err_style": "bars", "err_kws": {"capsize": 2, "lw": 1}, "palette": shades}
    settings |= {"facet_kws": {"sharey": False}, **marked}
    settings |= orders
    grid = sns.relplot(frame, x=x, y=y, hue=hue, col=col, row=row, **{**settings, **how})
    tidy(grid)
    for ax, (_, part) in zip(grid.axes.flat, grid.facet_data(), strict=True):
        if "batch_size" in part and part["batch_size"].nunique() == 1:
            ax.set_title(ax.get_title() + batches(part["batch_size"]).iloc[0])
    relative = y == "difference"
    for ax in grid.axes.flat:
        if relative:
            ax.axhline(0, color=GREY, lw=1, ls="--", zorder=0)
            ax.yaxis.set_major_formatter(PERCENT)
        if x == "density":
            _density(ax, frame[x])
    together = relative and not alone  # one label for all panels
    grid.set_axis_labels(x_label, "" if together else label)
    if together:
        grid.figure.supylabel(label, fontsize=11, x=0.005)
    grid.tight_layout()
    return grid


def some(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a figure as they are. Raises ConfigError where there are none."""
    if frame.empty:
        raise ConfigError(
            "figure: found no rows of these data and models; -p profile quick trains."
        )
    return frame


def tidy(grid: sns.FacetGrid) -> sns.FacetGrid:
    """Short titles, the legend below, and no empty panels."""
    for (down, across, _), part in grid.facet_data():
        if not len(part):
            grid.axes[down, across].set_visible(False)
            if down:  # the panel above is its column's last
                grid.axes[down - 1, across].tick_params(labelbottom=True)
    grid.set_titles(TITLES[bool(grid.row_names), bool(grid.col_names)])
    if grid.legend is not None:
        wide = max(len(text.get_text()) for text in grid.legend.texts) > 30
        where = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0)}
        sns.move_legend(grid, ncol=2 if wide else 4, title=None, frameon=False, **where)
    return grid


def ordered(values: pd.Series) -> list:
    """The different values: names in the book's order, others by size."""
    places = {name: place for place, name in enumerate(ORDER)}
    return sorted(values.unique(), key=lambda v: (places.get(v, len(places)), v))


def cells(found: pd.DataFrame, by: str | list[str]) -> pd.DataFrame:
    """A line for each of `by`, a column for each data set and model: the interval of each row of a
    :func:`stats.summary`, and * where its corrected p-value is below 5 %."""
    stars = (found["corrected p"] < 0.05).map({True: " *", False: ""}).astype(str)
    said = stats.interval(found) + stars
    wide = found.assign(said=said, cell=found["data"] + ", " + found["model"])
    return wide.pivot(index=by, columns="cell", values="said").fillna("").reset_index()


def _density(ax: plt.Axes, values: pd.Series) -> None:
    """A log axis of densities in percent, dense on the left."""
    ax.set_xscale("log")
    low, high = values.min(), values.max()
    ax.set_xlim(high * 1.12, low / 1.12)
    ax.set_xticks([tick for tick in TICKS if low * 0.95 <= tick <= high * 1.05])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(PERCENT)


def table(
    frame: pd.DataFrame,
    title: str,
    subtitle: str = "",
    *,
    formats: Mapping[str, str] | None = None,
    groups: str | None = None,
    names: Mapping[str, str] | Sequence[str] = (),
    of: pd.DataFrame | None = None,
) -> GT:
    """A table in the book's one style, with a ground and ink of its own, legible on light and dark
    pages; below it its rows as CSV, or those of the frame `of` which it is a part.

    formats: column → one of :data:`FORMATS`. groups: a column whose values head the lines that
    share them. names: column → its heading.
    """
    name = "".join(c if c.isalnum() else "-" for c in title.lower())[:40].strip("-")
    shown = (
        GT(frame, groupname_col=groups if groups in frame else None)
        .tab_header(title=title, subtitle=subtitle or None)
        .sub_missing(missing_text="–")
        .tab_source_note(html(csv_link(frame if of is None else of, name)))
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
    for column, kind in (formats or {}).items():
        shown = FORMATS[kind](shown, column)
    return shown.cols_label(**dict(names))

"""Figures and tables of the recorded tables: seaborn on a DataFrame, in the book's look.

A chapter filters rows, works out a difference (:mod:`lthnb.stats`), and hands the frame over; each
column that is drawn is there to be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from math import ceil
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from great_tables import GT, html
from matplotlib.ticker import FuncFormatter, NullLocator
from pandas.api.types import is_numeric_dtype

from lthnb import stats
from lthnb.config import ConfigError
from lthnb.experiments.names import ORDER, batches
from lthnb.plots.captions import csv_link
from lthnb.plots.style import GREY, INK, PAPER, colours, use_style

FORMATS = {  # of numbers in tables; signed is a relative difference
    "percent": partial(GT.fmt_percent, decimals=1, incl_space=True),
    "signed": partial(GT.fmt_percent, decimals=1, force_sign=True, incl_space=True),
    "decimals": partial(GT.fmt_number, decimals=4),
    "two digits": partial(GT.fmt_number, decimals=2),
    "scientific": partial(GT.fmt_scientific, decimals=1),
    "count": GT.fmt_integer,
}
PERCENT = FuncFormatter(lambda share, _: f"{100 * share:g} %".replace("-", "−"))  # of an axis
TICKS = (1.0, 0.5, 0.2, 0.1, 0.05)
SHARES = {"at": "density", "kept": "pairs kept", "share": "share"}  # columns → their headings
WIDTH = 6.8  # inches, of every figure: the book's column on a screen


def curves(
    frame: pd.DataFrame,
    y: str = "difference",
    *,
    x: str = "density",
    hue: str | None = None,
    col: str | None = "model",
    row: str | None = "data",
    label: str = "Recall@20 relative to the dense model",
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
    shades = colours(orders["hue_order"]) if hue else None
    marked = {"style": hue, "markers": True, "dashes": False} if hue else {"marker": "o"}
    down, across = (frame[part].nunique() if part else 1 for part in (row, col))
    alone = down == across == 1  # one panel
    settings = {"kind": "line", "height": 3.6 if alone else 2.5 if across == 1 else 2.3}
    settings |= {"errorbar": stats.t95, "err_style": "bars", "err_kws": {"capsize": 2, "lw": 1}}
    settings |= {"facet_kws": {"sharey": False, "legend_out": False}, "palette": shades}
    settings |= marked | orders | how
    grid = sns.relplot(frame, x=x, y=y, hue=hue, col=col, row=row, **settings)
    relative = y == "difference"
    for ax in grid.axes.flat:
        if relative:
            ax.axhline(0, color=GREY, lw=1, ls="--", zorder=0)
            ax.yaxis.set_major_formatter(PERCENT)
        if x in ("density", "kept", "share"):
            _density(ax, frame[x])
    together = relative and not alone  # one label for all panels
    grid.set_axis_labels(x_label, "" if together else label)
    if together:
        grid.figure.supylabel(label, fontsize=11, x=0.005)
    return tidy(grid)


def some(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a figure as they are. Raises ConfigError where there are none."""
    if frame.empty:
        raise ConfigError(
            "figure: found no rows of these data and models; -p profile quick trains."
        )
    return frame


def tidy(grid: sns.FacetGrid) -> sns.FacetGrid:
    """The book's width, short titles, no empty panels, and the legend without titles: in a free
    corner, or below."""
    parts = ["{row_name}"] * bool(grid.row_names) + ["{col_name}"] * bool(grid.col_names)
    grid.set_titles(", ".join(parts))
    for ax, ((down, across, _), part) in zip(grid.axes.flat, grid.facet_data(), strict=True):
        if not len(part):
            ax.set_visible(False)
            if down:
                above = grid.axes[down - 1, across]  # its column's last
                above.tick_params(labelbottom=True)
                above.set_xlabel(grid.axes[-1, across].get_xlabel(), visible=True)
        elif "batch_size" in part and part["batch_size"].nunique() == 1:
            ax.set_title(ax.get_title() + batches(part["batch_size"]).iloc[0])
    grid.figure.set_figwidth(WIDTH)
    if grid.legend is not None:
        grid.legend.remove()
    grid.tight_layout(rect=(0, 0, 1, 1))
    if grid.legend is not None:
        boxes = [ax.get_position() for ax in grid.axes.flat if ax.get_visible()]
        x, y = max(box.x0 for box in boxes), min(box.y0 for box in boxes)
        shown = zip(grid.legend.texts, grid.legend.legend_handles, strict=True)
        shown = {text.get_text(): one for text, one in shown if text.get_text() not in grid.data}
        most = int(WIDTH / (0.7 + 0.085 * max(map(len, shown))))  # that stand side by side
        at, across = (0.5, 0), ceil(len(shown) / ceil(len(shown) / max(most, 1)))
        if all((box.x0, box.y0) != (x, y) for box in boxes):
            at, across = (x + boxes[0].width / 2, y + boxes[0].height), 1
        where = {"loc": "upper center", "bbox_to_anchor": at, "ncol": across, "labelspacing": 0.3}
        grid.figure.legend(shown.values(), shown, frameon=False, **where)
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


def compared(
    found: pd.DataFrame,
    by: str | Sequence[str],
    title: str,
    subtitle: str = "Relative difference in Recall@20 on test",
    of: pd.DataFrame | None = None,
) -> GT:
    """A table of a :func:`stats.summary`: a line for each of `by`, the first of several heading
    the lines that share it, and a column for each data set and model (:func:`cells`). of: all rows
    of which `found` is a part, for the CSV."""
    by = [by] if isinstance(by, str) else list(by)
    wide = cells(found, by)
    names = {name: heading for name, heading in SHARES.items() if name in by}
    formats = {name: "percent" for name in names if is_numeric_dtype(wide[name])}
    subtitle += ", 95 % interval over seeds; * p < 0.05, corrected."
    groups, of = by[0] if len(by) > 1 else None, found if of is None else of
    return table(wide, title, subtitle, formats=formats, groups=groups, names=names, of=of)


def _density(ax: plt.Axes, values: pd.Series) -> None:
    """A log axis of densities in percent, dense on the left."""
    ax.set_xscale("log")
    low, high = values.min(), values.max()
    few = sorted(values.round(2).unique())
    ticks = few if len(few) < 6 and all(b > 1.3 * a for a, b in pairwise(few)) else TICKS
    ax.set_xlim(high * 1.12, low / 1.12)
    ax.set_xticks([tick for tick in ticks if low * 0.95 <= tick <= high * 1.05])
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

"""Figures and tables of the recorded tables: seaborn on a DataFrame, in the book's look.

A chapter filters rows, works out a difference (:mod:`lthnb.stats`), and hands the frame over; each
column that is drawn is there to be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from great_tables import GT
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from lthnb import stats
from lthnb.plots import style
from lthnb.plots.style import GREY, use_style

DATA = {  # how data sets are called in titles
    "movielens": "MovieLens",
    "lastfm": "LastFM",
    "tiktok-mmssl": "TikTok (MMSSL subset)",
    "yelp2018": "Yelp2018",
    "gowalla": "Gowalla",
}
MODELS = {"mf": "MF", "lightgcn": "LightGCN"}
METHODS = {
    "dense": "dense model",
    "imp": "IMP",
    "omp": "one-shot (OMP)",
    "random": "random mask",
    "random_x0": "random mask over X⁰",
    "lcm": "LCM",
    "other_start": "another start",
    "other_order": "another order",
}
REWINDS = {
    "rewind": "rewound",
    "late": "rewound to an early epoch",
    "reinit": "re-initialised",
    "continue": "not rewound",
}
# Okabe and Ito's colours, which colour-blind readers tell apart, in a fixed order.
PALETTE = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#6A4C93"]
TICKS = (1.0, 0.5, 0.2, 0.1, 0.05)
ORDER = [*DATA.values(), *MODELS.values(), *METHODS.values(), *REWINDS.values()]


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """With columns of names for people: `data`, `model`, `how` (method), `start` (rewinding)."""
    return frame.assign(
        data=frame["dataset"].map(DATA).fillna(frame["dataset"]),
        model=frame["backbone"].map(MODELS).fillna(frame["backbone"]),
        how=frame["method"].map(METHODS).fillna(frame["method"]),
        start=frame["rewind"].map(REWINDS).fillna("–"),
    )


def curves(
    frame: pd.DataFrame,
    y: str = "difference",
    *,
    x: str = "density",
    hue: str | None = None,
    col: str | None = None,
    row: str | None = None,
    label: str = "Recall@20 beside the dense model",
    **how: Any,
) -> sns.FacetGrid:
    """Lines against density, dense on the left, a mean over seeds with its 95 % interval (from
    three seeds on), in small panels with one legend.

    y: a relative difference, or with ``label`` another column. how: further words for
    ``seaborn.relplot``.
    """
    use_style()
    orders = {
        f"{part}_order": ordered(frame[n])
        for part, n in (("hue", hue), ("col", col), ("row", row))
        if n
    }
    shades = PALETTE[: frame[hue].nunique()] if hue else None
    marked = {"style": hue, "markers": True, "dashes": False} if hue else {"marker": "o"}
    settings = {"height": 2.6, "aspect": 1.25, "kind": "line", "errorbar": stats.t95}
    settings |= {"err_style": "bars", "err_kws": {"capsize": 2, "lw": 1}, "palette": shades}
    settings |= {"facet_kws": {"sharey": False}, **marked}
    settings |= orders
    grid = sns.relplot(frame, x=x, y=y, hue=hue, col=col, row=row, **{**settings, **how})
    for (down, across, _), part in grid.facet_data():
        grid.axes[down, across].set_visible(len(part) > 0)
    grid.set_titles("{row_name}, {col_name}" if row and col else "{col_name}{row_name}")
    relative = y == "difference"
    for ax in grid.axes.flat:
        if relative:
            ax.axhline(0, color=GREY, lw=1, ls="--", zorder=0)
            ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        if x == "density":
            _density(ax, frame[x])
    grid.set_axis_labels("density: share of entries kept", label if not relative else "")
    if relative:
        grid.figure.supylabel(label, fontsize=11, x=0.005)
    if grid.legend is not None:
        sns.move_legend(
            grid, "lower center", ncol=4, title=None, frameon=False, bbox_to_anchor=(0.5, -0.08)
        )
    grid.tight_layout()
    return grid


def ordered(values: pd.Series) -> list:
    """The different values: names in the book's order, others by size."""
    places = {name: place for place, name in enumerate(ORDER)}
    return sorted(values.unique(), key=lambda v: (places.get(v, len(places)), v))


def _density(ax: plt.Axes, values: pd.Series) -> None:
    """A log axis of densities in percent, dense on the left."""
    ax.set_xscale("log")
    low, high = values.min(), values.max()
    ax.set_xlim(high * 1.12, low / 1.12)
    ax.set_xticks([tick for tick in TICKS if low * 0.95 <= tick <= high * 1.05])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda d, _: f"{d:.0%}"))


def interval(frame: pd.DataFrame) -> pd.Series:
    """`mean`, `low` and `high` of a :func:`stats.summary` as one text: +1.2 % (−0.3 to +2.7)."""

    def said(row: Any) -> str:
        mean = f"{row.mean_:+.1%}"
        if pd.isna(row.low):
            return f"{mean}".replace("-", "−").replace("%", " %")
        ends = f"{100 * row.low:+.1f} to {100 * row.high:+.1f}"
        return f"{mean} ({ends})".replace("-", "−").replace("%", " %")

    rows = frame.rename(columns={"mean": "mean_"})[["mean_", "low", "high"]].itertuples()
    return pd.Series([said(row) for row in rows], index=frame.index)


def table(
    frame: pd.DataFrame,
    title: str,
    subtitle: str = "",
    *,
    formats: Mapping[str, str] | None = None,
    groups: str | None = None,
    names: Mapping[str, str] | Sequence[str] = (),
) -> GT:
    """A table in the book's one style.

    formats: column → ``percent``, ``signed`` (a relative difference in percent), ``decimals`` (four
    of them) or ``count``. groups: a column whose values head the lines that share them. names:
    column → its heading.
    """
    shown = style.table(frame, title, subtitle, groups)
    for column, kind in (formats or {}).items():
        if kind == "percent":
            shown = shown.fmt_percent(column, decimals=1)
        elif kind == "signed":
            shown = shown.fmt_percent(column, decimals=1, force_sign=True)
        elif kind == "decimals":
            shown = shown.fmt_number(column, decimals=4)
        else:
            shown = shown.fmt_integer(column)
    return shown.cols_label(**dict(names))

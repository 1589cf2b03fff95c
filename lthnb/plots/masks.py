"""The paper's Figure 7: a dense table beside its ticket, entry by entry."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from lthnb.plots.style import use_style
from lthnb.training import TrainedRun

HEAT = "coolwarm"  # its middle is grey, so that an entry near zero differs from the blank ground
LONGEST = 24  # letters of a row's label


def first_entries(dense: TrainedRun, ticket: TrainedRun, first: int = 10) -> pd.DataFrame:
    """The trained tables of the first users and items (Figure 7): `side`, `table` (dense or
    ticket), `row` (a label), and a column for each dimension; pruned entries are empty."""
    data, parts = ticket.data, []
    labels = {"users": data.user_labels, "items": data.item_info.get("title", data.item_labels)}
    pruned = np.where(ticket.mask.kept, ticket.weights(), np.nan)
    for side, start in (("users", 0), ("items", data.users)):
        for table, values in (("dense", dense.weights()), ("ticket", pruned)):
            part = pd.DataFrame(values[start : start + first])
            names = labels[side][: len(part)].astype(str)
            parts.append(part.assign(side=side, table=table, row=names))
    return pd.concat(parts, ignore_index=True)


def heat_maps(entries: pd.DataFrame, title: str) -> plt.Figure:
    """The dense table above the ticket, users on the left and items on the right; what is pruned is
    blank. Both tables of a side have one colour scale, centred at zero.

    entries: of :func:`first_entries`.
    """
    use_style()
    tables, dimensions = entries["table"].unique(), entries.columns.drop(["side", "table", "row"])
    every = max(len(dimensions) // 4, 1)  # fourth label or so
    shape = {"sharex": True, "sharey": "col", "layout": "constrained", "figsize": (11, 5.4)}
    fig, axes = plt.subplots(2, 2, **shape)
    for column, (side, here) in zip(axes.T, entries.groupby("side", sort=False), strict=True):
        most = float(here[dimensions].abs().max(axis=None))
        for ax, table in zip(column, tables, strict=True):
            rows = here[here["table"] == table]
            values = rows[dimensions].set_axis(rows["row"].map(_short))
            scale = {"cmap": HEAT, "vmin": -most, "vmax": most, "cbar": False}
            sns.heatmap(values, ax=ax, xticklabels=every, yticklabels=True, **scale)
            ax.set(title=f"{table}: first {len(rows)} {side}", xlabel="", ylabel="")
            ax.tick_params(axis="both", labelsize=9, rotation=0)
            ax.grid(False)
        bar = fig.colorbar(column[0].collections[0], ax=list(column), location="bottom")
        bar.set_label("value of the entry; blank: pruned")
        bar.ax.tick_params(labelsize=9)
    for ax in axes[:, 1]:
        ax.yaxis.tick_right()
        ax.tick_params(axis="y", rotation=0)
    fig.suptitle(title)
    return fig


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"

"""The paper's Figure 7: a dense table beside its ticket, by entry; and masks under a slider."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import HTML

from lthnb.kept import TrainedRun
from lthnb.plots.style import PALETTE, PAPER, use_style

HEAT = "coolwarm"  # its middle is grey, so that an entry near zero differs from the blank ground
LONGEST = 24  # letters of a row's label
FIRST, UNDER_SLIDER = 10, 40  # rows of a side that are shown, and of a mask under a slider


def first_entries(dense: TrainedRun, ticket: TrainedRun) -> pd.DataFrame:
    """The trained tables of the first users and items (Figure 7): `side`, `table` (dense or
    ticket), `row` (a label), and a column for each dimension; pruned entries are empty."""
    data, parts = ticket.data, []
    labels = {"users": data.user_labels, "items": data.item_info.get("title", data.item_labels)}
    pruned = np.where(ticket.ensure_mask().kept, ticket.weights(), np.nan)
    for side, start in (("users", 0), ("items", data.users)):
        for table, values in (("dense", dense.weights()), ("ticket", pruned)):
            part = pd.DataFrame(values[start : start + FIRST])
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


SLIDER = """<figure class="numbered" id="slider"><canvas width="{width}" height="{height}"
role="img" aria-label="{alt}" style="max-width: 100%; background: {ground}"></canvas><br/>
<label>density <input type="range" min="0" max="{last}" value="0"/> <output></output></label>
<figcaption>{caption}</figcaption><script>(() => {{
const figure = document.getElementById("slider"), survived = {survived}, densities = {densities};
const paint = figure.querySelector("canvas").getContext("2d");
const slider = figure.querySelector("input"), said = figure.querySelector("output");
const draw = () => {{
  const round = Number(slider.value);
  paint.clearRect(0, 0, {width}, {height});
  paint.fillStyle = "{ink}";
  survived.forEach((row, y) => row.forEach((last, x) => {{
    if (last >= round) paint.fillRect(x * {cell}, y * {cell}, {cell} - 1, {cell} - 1);
  }}));
  said.value = (100 * densities[round]).toFixed(1) + " %";
}};
slider.oninput = draw;
draw();
}})();</script></figure>"""


def slider(masks: Sequence[np.ndarray], caption: str, alt: str) -> HTML:
    """The first rows of nested masks, bool (rows, F), dense first, under a slider that goes through
    them: in plain JavaScript, for the built book as for JupyterLab."""
    # Of each entry, the last round that keeps it.
    survived = np.sum([mask[:UNDER_SLIDER] for mask in masks], axis=0) - 1
    densities = [float(mask.mean()) for mask in masks]
    cell, (rows, size) = 9, survived.shape
    return HTML(
        SLIDER.format(
            **{"width": size * cell, "height": rows * cell, "cell": cell, "last": len(masks) - 1},
            **{"survived": survived.tolist(), "densities": densities, "ink": PALETTE[0]},
            **{"caption": escape(caption), "alt": escape(alt), "ground": PAPER},
        )
    )


def _short(label: str) -> str:
    return label if len(label) <= LONGEST else label[: LONGEST - 1] + "…"

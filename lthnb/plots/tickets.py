"""What is inside a ticket: entries kept, and what it recommends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter

from lthnb.anatomy import rank_correlation
from lthnb.data import Interactions
from lthnb.plots.style import COLOURS, panels, table
from lthnb.standings import BACKBONE_NAMES
from lthnb.training import TrainedRun


def kept_by_degree(kept: np.ndarray, data: Interactions):
    """Entries kept a row against how often the user or item occurs in train.

    kept: a mask's bits, bool (users + items, F).
    """
    fig, axes = panels(2, height=3.6)
    degree = {
        "users": np.diff(data.train.indptr),
        "items": np.bincount(data.train.indices, minlength=data.items),
    }
    rows = {"users": kept[: data.users].sum(1), "items": kept[data.users :].sum(1)}
    for ax, side in zip(axes, ("users", "items"), strict=True):
        ax.plot(degree[side], rows[side], ".", ms=4, alpha=0.3, color=COLOURS["imp"])
        frame = pd.DataFrame({"degree": degree[side], "kept": rows[side]})
        # Rows of equal degree stay together, so there may be fewer than ten groups.
        means = frame.groupby(pd.qcut(frame.degree, 10, labels=False, duplicates="drop")).mean()
        ax.plot(
            means.degree, means.kept, "o-", color=COLOURS["lightgcn"],
            label=f"mean of about a tenth of the {side}",
        )  # fmt: skip
        ax.set_xscale("symlog", linthresh=1)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        ax.set_xlabel(f"training interactions of the {side[:-1]}")
        ax.set_ylabel(f"entries kept of {kept.shape[1]}")
        rho = rank_correlation(degree[side], rows[side])
        stated = "" if np.isnan(rho) else f"; Spearman's rank correlation {rho:+.2f}"
        ax.set_title(f"{side.capitalize()}: one dot each{stated}", loc="left")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), frameon=False)
    return fig


def recommendations_table(dense: TrainedRun, ticket: TrainedRun, user: Any = None, n: int = 10):
    """One user's n best items from the dense model and from a ticket, side by side.

    user: a label, or None for the first user with a test item. An item in the user's test part is
    marked; titles are shown where the data have them.
    """
    data = dense.data
    if user is None or user == "":
        user = data.user_labels[np.flatnonzero(np.diff(data.test.indptr))[0]]
    row = data.user_row(user)
    user, wanted = data.user_labels[row], set(data.test[[row]].indices)
    titles = data.item_info.get("title", data.item_labels)
    columns = {}
    for name, run in (("dense", dense), (f"ticket, density {ticket.record.density:.1%}", ticket)):
        best = run.recommend(user, n)
        columns[name] = [f"{titles[item]}{' ✓' if item in wanted else ''}" for item in best]
    frame = pd.DataFrame(columns)
    frame.insert(0, "rank", range(1, len(frame) + 1))
    return table(
        frame,
        f"Recommendations for user {user}: {BACKBONE_NAMES[dense.spec.model.backbone]}",
        "✓ marks an item that is in the user's test part, which no training has seen.",
    )

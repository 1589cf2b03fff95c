"""Tickets beside LCM and beside small dense models: Table 3 and what it leaves out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from lthnb import paper
from lthnb.compression import METHODS, PAIRS, Compression, verdict
from lthnb.plots.beside import beside, beside_table
from lthnb.plots.style import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    NAMES,
    panels,
    say_not_run,
    seeds_said,
    small_keys,
    table,
)

PLACES = {"ticket": -0.22, "lcm": 0.0, "small": 0.22}  # beside each other at a density


def compression_figure(compressions: Sequence[Compression]):
    """Recall@20 on test at each density, one panel for each data set, backbone and original size.

    Marks are means over seeds with ± one standard deviation, small dots the single seeds; the
    dashed line is the dense model of the original size. Diamonds are the paper's Table 3 where the
    data set is the paper's.
    """
    groups: dict[tuple, list[Compression]] = {}
    for one in compressions:
        groups.setdefault((one.title, one.original_size), []).append(one)
    fig, axes = panels(max(len(groups), 1), height=4.6)
    if not groups:
        say_not_run(axes[0], "compressions")
    for ax, ((title, size), group) in zip(axes, groups.items(), strict=False):
        _panel(ax, f"{title}, F = {size}", group)
    return fig


def _panel(ax, title: str, group: Sequence[Compression]) -> None:
    if all(one.values(method) is None for one in group for method in METHODS):
        say_not_run(ax, title)
        return
    dense = group[0].values("dense")
    if dense is not None:
        ax.axhline(
            dense.mean(), ls="--", lw=1.4, color=GREY,
            label=f"dense model, F = {group[0].original_size}",
        )  # fmt: skip
    for method, shift in PLACES.items():
        at, values = [], []
        for place, one in enumerate(group):
            if one.values(method) is not None:
                at.append(place + shift)
                values.append(one.values(method))
        if not at:
            continue
        spread = [v.std(ddof=1) if len(v) > 1 else 0.0 for v in values]
        ax.errorbar(
            at, [v.mean() for v in values], yerr=spread, fmt=MARKERS[method], ms=9, capsize=4,
            color=COLOURS[method], label=NAMES[method],
        )  # fmt: skip
        for x, row in zip(at, values, strict=True):
            ax.plot(np.full(len(row), x + 0.07), row, ".", ms=4, alpha=0.6, color=COLOURS[method])
    _paper_cells(ax, group)
    ax.set_xticks(
        range(len(group)),
        [
            f"density {one.density:.0%}\n{one.entries('small'):,} entries,\n"
            f"or {one.size} of {one.original_size} columns"
            for one in group
        ],
    )
    ax.set_xlim(-0.5, len(group) - 0.5)
    ax.grid(visible=False, axis="x")
    ax.set_ylabel("Recall@20 on test")
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.set_title(f"{title}\n{seeds_said(len(group[0].seeds))}", loc="left")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.24), ncols=2, frameon=False)


def _paper_cells(ax, group: Sequence[Compression]) -> None:
    """The paper's cells of Table 3, where it has this data set, size and density."""
    points = [
        (place + PLACES[cell.method], cell.value)
        for place, one in enumerate(group)
        for cell in paper.TABLE3
        if cell.metric == "recall@20" and _is_setting(one, cell)
    ]
    if points:
        chosen = " (chosen on test)" * (group[0].spec.training.chosen_on == "valid")
        ax.plot(
            *zip(*points, strict=True), marker="D", ls="", mfc="none", color=INK,
            label="the paper, Table 3" + chosen,
        )  # fmt: skip


def _is_setting(one: Compression, cell: paper.CompressionCell) -> bool:
    """Whether a compression has the data, backbone, size and density of a cell of Table 3."""
    return (one.published, one.spec.model.backbone) == (cell.dataset, "lightgcn") and (
        one.original_size,
        round(100 * one.density, 6),
    ) == (cell.original_size, cell.density_percent)


def compression_table(compressions: Sequence[Compression]):
    """Every method with its entries and its results on test; what was not run has its line."""
    rows = []
    for one in compressions:
        for method in METHODS:
            records = one.records(method)
            row = {
                "data": one.title,
                "density": one.density,
                "method": NAMES[method],
                "columns": one.size if method in ("lcm", "small") else one.original_size,
                "entries": one.entries(method),
                "with its teacher": one.entries_with_teacher if method == "lcm" else None,
                "Recall@20": None,
                "NDCG@20": None,
                "epoch": None,
                "runs": "not run",
            }
            if records is not None:
                row |= {
                    "Recall@20": one.values(method).mean(),
                    "NDCG@20": one.values(method, "ndcg@20").mean(),
                    "epoch": np.mean([r.best_epoch for r in records]),
                    "runs": ", ".join(r.key[:8] for r in records),
                }
            rows.append(row)
    frame = pd.DataFrame(rows)
    return small_keys(
        table(
            *_grouped(frame, "As many entries, three ways: results on test"),
            "Means over seeds. «entries» are those of the table that serving needs; LCM needs "
            "more where its teacher and its two maps are kept in the table's place.",
        )
        .fmt_percent("density", decimals=0)
        .fmt_integer(["entries", "with its teacher"])
        .fmt_number(["Recall@20", "NDCG@20"], decimals=4)
        .fmt_number("epoch", decimals=0)
    )


def compression_differences(compressions: Sequence[Compression]):
    """Who is better than whom: relative differences in Recall@20 on test, with 95 % intervals."""
    rows = []
    for one in compressions:
        for method, to in PAIRS:
            row = {
                "data": one.title,
                "from F": one.original_size,
                "density": one.density,
                "of": NAMES[method],
                "to": NAMES[to],
                "Recall@20": "",
                "95 % interval": "",
                "it is": "not run",
            }
            d = one.difference(method, to)
            if d is not None:
                row |= {"Recall@20": f"{d.mean:+.1%}", "it is": verdict(d)}
                if not np.isnan(d.low):
                    row["95 % interval"] = f"{d.low:+.1%} to {d.high:+.1%} ({d.kind})"
            rows.append(row)
    title = "Differences in Recall@20 on test"
    if not rows:
        return table(pd.DataFrame({"": ["nothing recorded"]}), title)
    frame, title = _grouped(pd.DataFrame(rows), title)
    return table(
        frame,
        title,
        "Relative, paired by seed; with one seed the interval is over users. The paper shows the "
        "first line of each three.",
        groups="data",
    ).fmt_percent("density", decimals=0)


def _grouped(frame: pd.DataFrame, title: str) -> tuple[pd.DataFrame, str]:
    """What all lines are about goes into the title."""
    about = frame["data"].unique()
    if len(about) != 1:
        return frame, title
    return frame.drop(columns="data"), f"{about[0]}: {title[0].lower()}{title[1:]}"


def compression_paper_table(compressions: Sequence[Compression]):
    """The paper's Table 3 beside recorded runs of the same setting; one line a cell and metric.

    compressions: any, as from :func:`compression.recorded`; those under the protocol `paper` are
    shown, all seeds. A cell without a run says so.
    """
    rows = []
    for cell in paper.TABLE3:
        ours = [
            record
            for one in compressions
            if one.spec.training.protocol == "paper" and _is_setting(one, cell)
            for record in one.runs[cell.method]
            if record is not None
        ]
        rows.append(
            {
                "data set": paper.TITLES[cell.dataset],
                "method": paper.TITLES[cell.method],
                "metric": paper.TITLES[cell.metric],
                "from F": cell.original_size,
                "density %": cell.density_percent,
                **beside(cell, ours),
            }
        )
    return beside_table(rows, "Table 3, the paper's and ours")

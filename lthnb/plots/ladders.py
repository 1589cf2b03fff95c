"""Ladders: curves of Recall against density, their rungs as tables, and how they learn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import MaxNLocator

from lthnb import paper
from lthnb.config import Seeded
from lthnb.plots.beside import beside, beside_table
from lthnb.plots.style import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    METRIC_NAMES,
    NAMES,
    STAR,
    density_axis,
    panels,
    say_not_run,
    seeds_said,
    small_keys,
    table,
)
from lthnb.profiles import profile
from lthnb.standings import Field, has_setting
from lthnb.store.records import Record


def ladder_figure(fields: Sequence[Field], metric: str = "recall@20"):
    """Recall@20 (or another metric) against density, one panel a field.

    The line is the mean over seeds on test, the band ± one standard deviation over seeds (Recall@20
    alone has one), the dashed line the dense model. A star marks the sparsest winning ticket,
    chosen on valid; diamonds are the paper's Table 2 where the data set is the paper's.
    """
    name, _, k = metric.partition("@")
    title = f"{METRIC_NAMES.get(name, name)}@{k}"
    fig, axes = panels(len(fields))
    if not fields:
        say_not_run(axes[0], "nothing recorded")
    for ax, field in zip(axes, fields, strict=False):
        backbone = field.spec.model.backbone
        there = [s for s in field.standings if s is not None]
        if not there:
            say_not_run(ax, field.title)
            continue
        density = [s.density for s in there]
        value = np.array([s.results[metric] for s in there])
        colour, marker = COLOURS[backbone], MARKERS[backbone]
        runs = there[0].runs
        label = f"tickets ({NAMES[field.ladder.method]})" + ", mean over seeds" * (runs > 1)
        ax.plot(density, value, marker=marker, color=colour, label=label)
        if metric == "recall@20" and runs > 1:
            spread = np.array([s.spread for s in there])
            ax.fill_between(
                density, value - spread, value + spread, color=colour, alpha=0.18, lw=0,
                label="± one standard deviation over seeds",
            )  # fmt: skip
        ax.axhline(value[0], ls="--", lw=1.4, color=GREY, label="dense model")
        _paper_cells(ax, field, metric)
        star = field.sparsest
        if star is not None:
            ax.plot(
                star.density, star.results[metric], marker="*", ms=20, ls="", color=STAR,
                mec="white", label="sparsest winning ticket", zorder=5,
            )  # fmt: skip
        density_axis(ax, density)
        ax.set_ylabel(f"{title} on test")
        ax.yaxis.set_major_locator(MaxNLocator(6))
        size = field.spec.model.embedding_size
        ax.set_title(f"{field.title}\nF = {size}, {seeds_said(runs)}", loc="left")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False)
    return fig


def _paper_cells(ax, field: Field, metric: str) -> None:
    """The paper's cells of Table 2, where it has this data set and metric at this size. They were
    chosen on test, and say so where the panel's own were not."""
    if field.published not in paper.DATASETS or metric not in paper.METRICS:
        return
    if field.spec.model.backbone not in paper.BACKBONES:
        return
    if field.spec.model.embedding_size != paper.SETTINGS.embedding_size:
        return
    if not field.has_usual_batches:
        return
    cells = paper.cells(field.published, field.spec.model.backbone, metric)
    ax.plot(
        [c.density for c in cells], [c.value for c in cells], marker="D", ls="", mfc="none",
        color=INK, label="the paper, Table 2" + " (chosen on test)" * (field.chosen_on == "valid"),
    )  # fmt: skip


def standings_table(field: Field):
    """Every rung with its results, its difference to dense, and both verdicts.

    A rung that was not run has its line, with the reason.
    """
    star = field.sparsest
    rows = []
    for planned, s in zip(field.rungs[0], field.standings, strict=True):
        if s is None:
            rows.append({"rung": planned.number, "density": planned.density, "claim": "not run"})
            continue
        d = s.difference
        interval = "" if np.isnan(d.low) else f" ({d.low:+.1%} to {d.high:+.1%})"
        dense = s.number == 0
        rows.append(
            {
                "rung": s.number,
                "density": s.density,
                "Recall@20": s.results["recall@20"],
                "NDCG@20": s.results["ndcg@20"],
                "epoch": s.epoch,
                "Recall@20 to dense": "" if dense else f"{d.mean:+.1%}{interval}",
                **({} if field.chosen_on == "test" else {"on valid": _on_valid(s)}),
                "by definition": "" if dense else f"{s.wins} of {s.runs}",
                "claim": "" if dense else CLAIMS[s.claim],
                "runs": ", ".join(key[:8] for key in s.keys),
            }
            | ({"rung": f"{s.number} ★"} if s is star else {})
        )
    frame = pd.DataFrame(rows)
    kinds = {s.difference.kind for s in field.standings if s is not None and s.number}
    seeds = seeds_said(len(field.seeds))
    shown = table(
        frame,
        f"{field.title}: every rung, on test",
        f"Means over {seeds}; intervals are 95 % ({', '.join(sorted(kinds))}). "
        f"★ is the sparsest winning ticket, chosen on {field.chosen_on}: there its interval lies "
        "above −1 %, or with fewer than three seeds its mean is no worse."
        + (f" {field.missing} trainings are not run." if field.missing else ""),
    )
    shown = shown.fmt_percent("density", decimals=1)
    if "Recall@20" in frame:
        shown = shown.fmt_number(["Recall@20", "NDCG@20"], decimals=4)
        shown = shown.fmt_number("epoch", decimals=0)
    return small_keys(shown) if "runs" in frame else shown


def _on_valid(s) -> str:
    """The difference that chooses the ticket; its lower end must be above −1 % to win there."""
    d = s.difference_valid
    if not s.number:
        return ""
    return f"{d.mean:+.1%}" + ("" if np.isnan(d.low) else f" (from {d.low:+.1%})")


CLAIMS = {True: "wins", False: "not shown", None: "too few seeds"}


def is_cell(record: Record, cell: paper.Cell) -> bool:
    """Whether a run has the setting of a cell of Table 2, its seed and its step apart."""
    wanted = profile("paper").spec(cell.backbone, protocol="paper")
    seed = record.spec["training"]["order_seed"]
    return (
        record.data["origin"].get("source") == cell.dataset
        and has_setting(record, wanted)
        and record.init == Seeded(seed).described()
        and abs(record.density - cell.density) < 5e-4
    )


def paper_table(records: Sequence[Record], backbone: str | None = None):
    """The paper's Table 2 beside recorded runs of the same setting; one line a cell and metric.

    records: of ladders by IMP (a run by another method does not say so); those that have the
    paper's settings (§4.1), X⁰ and order of one seed, and the density of a cell (to 0.05 points)
    are shown beside it, all seeds. A cell without a run says so.
    """
    rows = []
    for cell in paper.TABLE2:
        if backbone not in (None, cell.backbone):
            continue
        about = {
            "data set": paper.TITLES[cell.dataset],
            "backbone": paper.TITLES[cell.backbone],
            "metric": paper.TITLES[cell.metric],
            "sparsity %": cell.sparsity_percent,
        }
        if backbone is not None:
            del about["backbone"]
        rows.append({**about, **beside(cell, [r for r in records if is_cell(r, cell)])})
    title = "Table 2, the paper's and ours" + (f": {paper.TITLES[backbone]}" if backbone else "")
    return beside_table(rows, title).fmt_number("sparsity %", decimals=2, drop_trailing_zeros=True)


def learning_curves(field: Field, numbers: Sequence[int] | None = None):
    """Recall@20 on the part that chooses epochs, against the epoch: dense beside some rungs.

    The first seed's runs; a dot marks each run's best epoch.
    """
    fig, (ax,) = panels(1)
    rungs = [r for r in field.rungs[0] if r.record is not None]
    if numbers is not None:
        rungs = [r for r in rungs if r.number in numbers]
    if not rungs:
        say_not_run(ax, field.title)
        return fig
    shades = sns.color_palette("viridis", max(rungs[-1].number, 1))
    for rung in rungs:
        curve = np.array(rung.record.results["evaluations"])
        colour = GREY if rung.number == 0 else shades[rung.number - 1]
        label = "dense" if rung.number == 0 else f"density {rung.density:.1%}"
        ax.plot(
            curve[:, 0], curve[:, 1], color=colour, lw=1.6, ls="--" if rung.number == 0 else "-",
            label=label,
        )  # fmt: skip
        best = curve[curve[:, 0] == rung.record.best_epoch][0]
        ax.plot(best[0], best[1], "o", color=colour)
    ax.set_xlabel("epoch (one epoch is as many triplets as training pairs)")
    ax.set_ylabel(f"Recall@20 on {field.chosen_on}")
    ax.set_title(f"{field.title}, seed {field.seeds[0]}", loc="left")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3, frameon=False)
    return fig

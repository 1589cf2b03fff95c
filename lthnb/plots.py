"""Records to figures and tables: the only importer of matplotlib.

Colours are Okabe and Ito's, which colour-blind readers tell apart, and lines differ in marker too.
Figures have an opaque, nearly white ground of their own, so that they read alike on a light and a
dark page, and are sized to be read at 390 px. Legends stand below the axes, never over the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lthnb import paper
from lthnb.config import Seeded
from lthnb.data import Interactions
from lthnb.profiles import profile
from lthnb.standings import Field
from lthnb.store import Record
from lthnb.training import TrainedRun

INK, PAPER, GREY = "#222222", "#FCFCFA", "#5A5A5A"
COLOURS = {  # a method or a backbone keeps its colour throughout the book
    "imp": "#0072B2",
    "omp": "#E69F00",
    "rp": "#009E73",
    "rp_x0": "#CC79A7",
    "mf": "#0072B2",
    "lightgcn": "#D55E00",
}
METHOD_NAMES = {"imp": "IMP", "omp": "OMP", "rp": "RP", "rp_x0": "RP over X⁰"}
METRIC_NAMES = {"recall": "Recall", "ndcg": "NDCG", "precision": "Precision", "mrr": "MRR"}
MARKERS = {"imp": "o", "omp": "s", "rp": "^", "rp_x0": "v", "mf": "o", "lightgcn": "s"}
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


def _panels(count: int, height: float = 4.2):
    use_style()
    fig, axes = plt.subplots(
        count, 1, figsize=(7.2, height * count), squeeze=False, layout="constrained"
    )
    return fig, axes[:, 0]


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


def ladder_figure(fields: Sequence[Field], metric: str = "recall@20"):
    """Recall@20 (or another metric) against density, one panel a field.

    The line is the mean over seeds on test, the band ± one standard deviation over seeds (Recall@20
    alone has one), the dashed line the dense model. A star marks the sparsest winning ticket,
    chosen on valid; diamonds are the paper's Table 2 where the data set is the paper's.
    """
    name, _, k = metric.partition("@")
    title = f"{METRIC_NAMES.get(name, name)}@{k}"
    fig, axes = _panels(len(fields))
    for ax, field in zip(axes, fields, strict=True):
        backbone = field.spec.model.backbone
        there = [s for s in field.standings if s is not None]
        if not there:
            _say_not_run(ax, field.title)
            continue
        density = [s.density for s in there]
        value = np.array([s.results[metric] for s in there])
        colour, marker = COLOURS[backbone], MARKERS[backbone]
        runs = there[0].runs
        label = f"tickets ({METHOD_NAMES[field.ladder.method]})" + ", mean over seeds" * (runs > 1)
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
        ax.set_title(f"{field.title}\nF = {size}, {_seeds(runs)}", loc="left")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2, frameon=False)
    return fig


def _say_not_run(ax, name: str) -> None:
    ax.text(0.5, 0.5, f"{name}: not run yet", ha="center", transform=ax.transAxes)
    ax.set_axis_off()


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _paper_cells(ax, field: Field, metric: str) -> None:
    """The paper's cells of Table 2, where it has this data set and metric at this size. They were
    chosen on test, and say so where the panel's own were not."""
    if field.published not in paper.DATASETS or metric not in paper.METRICS:
        return
    if field.spec.model.embedding_size != paper.SETTINGS.embedding_size:
        return
    cells = paper.cells(field.published, field.spec.model.backbone, metric)
    ax.plot(
        [c.density for c in cells], [c.value for c in cells], marker="D", ls="", mfc="none",
        color=INK, label="the paper, Table 2" + " (chosen on test)" * (field.chosen_on == "valid"),
    )  # fmt: skip


def _table(frame: pd.DataFrame, title: str, subtitle: str = ""):
    """A great-tables table with a ground and ink of its own, legible on light and dark pages."""
    from great_tables import GT

    return (
        GT(frame)
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
                "by definition": "" if dense else f"{s.wins} of {s.runs}",
                "claim": "" if dense else CLAIMS[s.claim],
                "runs": ", ".join(key[:8] for key in s.keys),
            }
            | ({"rung": f"{s.number} ★"} if s is star else {})
        )
    frame = pd.DataFrame(rows)
    kinds = {s.difference.kind for s in field.standings if s is not None and s.number}
    table = _table(
        frame,
        f"{field.title}: every rung, on test",
        f"Means over {_seeds(len(field.seeds))}; intervals are 95 % ({', '.join(sorted(kinds))}). "
        f"★ is the sparsest winning ticket, chosen on {field.chosen_on}."
        + (f" {field.missing} trainings are not run." if field.missing else ""),
    )
    table = table.fmt_percent("density", decimals=1)
    if "Recall@20" in frame:
        table = table.fmt_number(["Recall@20", "NDCG@20"], decimals=4)
        table = table.fmt_number("epoch", decimals=0)
    return _small_keys(table) if "runs" in frame else table


def _small_keys(table):
    """Keys of runs are there to be copied, not read: small, and the last to take up width."""
    from great_tables import loc, style

    return table.tab_style(
        style.text(font="monospace", size="10px"), loc.body(columns="runs")
    ).cols_width({"runs": "70px"})


CLAIMS = {True: "wins", False: "not shown", None: "too few seeds"}


def _is_cell(record: Record, cell: paper.Cell) -> bool:
    """Whether a run has the setting of a cell of Table 2, its seed and its step apart."""
    wanted = profile("paper").spec(cell.backbone, protocol="paper")
    training = record.spec["training"]
    seed = training["order_seed"]
    same = wanted.with_training(order_seed=seed, step=training["step"]).described()
    return (
        record.data["origin"].get("source") == cell.dataset
        and record.spec == same
        and record.init == Seeded(seed).described()
        and abs(record.density - cell.density) < 5e-4
    )


def paper_table(records: Sequence[Record], backbone: str | None = None):
    """The paper's Table 2 beside recorded runs of the same setting; one line a cell and metric.

    records: any; those that have the paper's settings (§4.1), X⁰ and order of one seed, and the
    density of a cell (to 0.05 points) are shown beside it, all seeds. A cell without a run says so.
    """
    rows = []
    for cell in paper.TABLE2:
        if backbone not in (None, cell.backbone):
            continue
        ours = [r for r in records if _is_cell(r, cell)]
        values = [r.metric(cell.metric) for r in ours]
        rows.append(
            {
                "data set": paper.TITLES[cell.dataset],
                "backbone": paper.TITLES[cell.backbone],
                "metric": paper.TITLES[cell.metric],
                "sparsity %": cell.sparsity_percent,
                "paper": cell.value,
                "ours": float(np.mean(values)) if values else None,
                "difference": float(np.mean(values)) - cell.value if values else None,
                "seeds": ", ".join(f"{v:.4f}" for v in values)
                or ("not run" if cell.dataset == "yelp2018" else "no data"),
                "runs": ", ".join(r.key[:8] for r in ours) or None,
            }
        )
    frame = pd.DataFrame(rows)
    return _small_keys(
        _table(
            frame if backbone is None else frame.drop(columns="backbone"),
            "Table 2, the paper's and ours" + (f": {paper.TITLES[backbone]}" if backbone else ""),
            "Epochs chosen on test, as in the authors' code: for comparison with the paper only. "
            "«no data»: the paper's TikTok and Kwai were never released.",
        )
        .fmt_number(["paper", "ours"], decimals=4)
        .fmt_number("difference", decimals=4, force_sign=True)
        .fmt_number("sparsity %", decimals=2, drop_trailing_zeros=True)
    )


def learning_curves(field: Field, numbers: Sequence[int] | None = None):
    """Recall@20 on the part that chooses epochs, against the epoch: dense beside some rungs.

    The first seed's runs; a dot marks each run's best epoch.
    """
    fig, (ax,) = _panels(1)
    rungs = [r for r in field.rungs[0] if r.record is not None]
    if numbers is not None:
        rungs = [r for r in rungs if r.number in numbers]
    if not rungs:
        _say_not_run(ax, field.title)
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


def kept_by_degree(kept: np.ndarray, data: Interactions):
    """Entries kept a row against how often the user or item occurs in train.

    kept: a mask's bits, bool (users + items, F).
    """
    fig, axes = _panels(2, height=3.6)
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
        ax.set_title(f"{side.capitalize()}: one dot each", loc="left")
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
    return _table(
        frame,
        f"Recommendations for user {user}",
        "✓ marks an item that is in the user's test part, which no training has seen.",
    )


WHO = {
    "ours": "ours",
    "lightgcn-pytorch": "LightGCN-PyTorch",
    "lth-mrs": "LTH-MRS",
    "implicit": "implicit",
    "recbole": "RecBole",
}
# What of a row is compared: with sampling or loading, as a training pays for it.
HEADLINE = {"step": "whole", "epoch": "epoch", "lightgcn": "whole", "ranking": "ranking"}
ROW_NAMES = {
    "step": "MF, a step",
    "epoch": "MF, an epoch",
    "lightgcn": "LightGCN, a step",
    "ranking": "full ranking",
}


def _seconds(value: float) -> str:
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:.3g} {unit}"
    return f"{value * 1e6:.3g} µs"


def speed_figure(measured: Sequence[dict[str, Any]]):
    """How many times as long each peer takes as ours: median, and the range over the repeats.

    measured: records of benchmarks (:mod:`lthnb.measured`); the first that has a row is shown.
    """
    bars = []
    for row, name in ROW_NAMES.items():
        for who, spreads in _row(measured, row).get("ratios", {}).items():
            bars.append((f"{name}: {WHO[who]}", spreads[HEADLINE[row]], row))
    fig, (ax,) = _panels(1, height=1.4 + 0.42 * max(len(bars), 3))
    if not bars:
        _say_not_run(ax, "benchmarks")
        return fig
    shades = dict(zip(ROW_NAMES, sns.color_palette("colorblind", len(ROW_NAMES)), strict=True))
    for at, (_, s, row) in enumerate(bars):
        ax.barh(at, s["median"], color=shades[row], height=0.62)
        ax.plot([s["min"], s["max"]], [at, at], color=INK, lw=1.4)
        ax.text(max(s["max"], s["median"]) * 1.06, at, f"{s['median']:.3g}×", va="center")
    ax.axvline(1, color=INK, lw=1.2, ls="--")
    ax.set_xscale("log")
    ax.set_xlim(right=max(s["max"] for _, s, _ in bars) * 2)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    ax.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    ax.invert_yaxis()
    ax.set_xlabel("time of the peer / time of ours; dashed: as fast as ours")
    return fig


def speed_table(measured: Sequence[dict[str, Any]]):
    """Every row and who took part: median, quartiles, ratio to ours with its range."""
    lines = []
    for row, name in {**ROW_NAMES, "density": "MF, a step"}.items():
        for prefix, what in (("", name), ("memory ", f"{name}: peak memory")):
            found = _row(measured, prefix + row)
            for who, entry in found.get("who", {}).items():
                for measure, s in entry["spread"].items():
                    if prefix and measure != "peak":
                        continue
                    shown = (lambda v: f"{v / 2**20:,.0f} MiB") if prefix else _seconds
                    ratio = found["ratios"].get(who, {}).get(measure)
                    lines.append(
                        {
                            "what": what + ("" if prefix or measure == row else f" ({measure})"),
                            "who": WHO[who],
                            "median": shown(s["median"]),
                            "quartiles": f"{shown(s['q1'])} … {shown(s['q3'])}",
                            "× ours": f"{ratio['median']:.3g}" if ratio else "",
                            "range": f"{ratio['min']:.3g} … {ratio['max']:.3g}" if ratio else "",
                        }
                    )
    settings = measured[0]["settings"] if measured else {}
    return _table(
        pd.DataFrame(lines or [{"what": "not run"}]),
        "Ours and the peers, in one run",
        f"{settings.get('source')}, F = {settings.get('size')}, batches of "
        f"{settings.get('batch')}, {settings.get('threads')} threads; medians of "
        f"{settings.get('repeats')} repeats, taken in turn. Memory is of whole processes.",
    )


def kernels_table(measured: Sequence[dict[str, Any]]):
    """Where the time of a step goes, and how near each kernel comes to the memory's roof.

    A graph product also says at which rate it gathers rows, which the caches answer in part.
    """
    roof = _row(measured, "roof").get("who", {}).get("ours")
    rate = roof["facts"]["bytes copy"] / roof["spread"]["copy"]["median"] if roof else None
    lines = []
    for row, name in (
        ("kernels-mf", "MF"),
        ("kernels-lightgcn", "LightGCN"),
        ("kernels-ranking", "ranking"),
    ):
        entry = _row(measured, row).get("who", {}).get("ours")
        if entry is None:
            continue
        medians = {k: s["median"] for k, s in entry["spread"].items()}
        whole, facts = sum(medians.values()), entry["facts"]
        for kernel, seconds in sorted(medians.items(), key=lambda kv: -kv[1]):
            moved, gathered = (facts.get(f"{k} {kernel}") for k in ("bytes", "gathered"))
            done = facts.get(f"operations {kernel}")
            lines.append(
                {
                    "step": name,
                    "kernel": kernel,
                    "time": _seconds(seconds),
                    "share": f"{seconds / whole:.0%}" if row != "kernels-ranking" else "",
                    "least bytes": f"{moved / seconds / 1e9:.3g} GB/s" if moved else "",
                    "of the roof": f"{moved / seconds / rate:.0%}" if moved and rate else "",
                    "gathered": f"{gathered / seconds / 1e9:.3g} GB/s" if gathered else "",
                    "arithmetic": f"{done / seconds / 1e9:.3g} GFLOP/s" if done else "",
                }
            )
    title = f"the roof, a plain copy, is {rate / 1e9:.3g} GB/s" if rate else "not run"
    return _table(pd.DataFrame(lines or [{"step": "not run"}]), "Kernel by kernel", title)


SWEPT = {
    "interactions": "interactions",
    "users": "users",
    "items": "items",
    "size": "embedding size F",
    "batch": "triplets in a batch",
    "density": "density of the mask",
    "threads": "threads",
}


def scaling_figure(measured: Sequence[dict[str, Any]]):
    """Seconds a batch as one setting moves, both axes logarithmic; the slope stands beside.

    A slope of 1 is linear growth, 0 none. The bar on a point is the range over the repeats.
    """
    sweeps = next((m["scaling"] for m in measured if m["scaling"]), None)
    if sweeps is None:
        fig, (ax,) = _panels(1)
        _say_not_run(ax, "scaling")
        return fig
    use_style()
    overs = [over for over in SWEPT if any(s["over"] == over for s in sweeps)]
    fig, axes = plt.subplots(
        -(-len(overs) // 2), 2, figsize=(7.2, 3.1 * -(-len(overs) // 2)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for ax in axes.flat[len(overs) :]:
        ax.set_axis_off()
    for ax, over in zip(axes.flat, overs, strict=False):
        for sweep in sweeps:
            if sweep["over"] != over:
                continue
            backbone = sweep["backbone"]
            at = [p["at"] for p in sweep["points"]]
            s = [p["spread"]["whole"] for p in sweep["points"]]
            middle = np.array([p["median"] for p in s])
            low, high = ([p[k] for p in s] for k in ("min", "max"))
            slope = sweep["slopes"]["whole"]["median"]
            ax.errorbar(
                at, middle * 1e3, yerr=[(middle - low) * 1e3, (np.array(high) - middle) * 1e3],
                marker=MARKERS[backbone], color=COLOURS[backbone], capsize=2,
                label=f"{paper.TITLES[backbone]}: slope {slope:.2f}",
            )  # fmt: skip
        ax.set_xscale("log")
        ax.set_yscale("log")
        if max(at) / min(at) < 100:  # a decade's ticks alone would say little
            ax.set_xticks(at, [f"{x:g}" for x in at], fontsize=9)
            ax.xaxis.set_minor_locator(NullLocator())
        ax.set_xlabel(SWEPT[over])
        ax.set_ylabel("ms a batch")
        ax.legend(fontsize=9, frameon=False, loc="best")
    return fig


# Of the packages in a peer's environment, those that do the work; the record has them all.
TELLING = ("torch", "numpy", "scipy", "numba", "dgl", "implicit", "recbole")


def measured_on(measured: Sequence[dict[str, Any]]) -> str:
    """The machine and the telling versions behind the figures, as Markdown; a line a record."""
    lines = []
    for m in measured:
        machine = m["machine"]
        versions = {WHO[k]: v for k, v in m["who"].items()}
        said = "; ".join(
            f"{who}" + (f" at {v['commit'][:7]}" if v["commit"] else "")
            + f" ({', '.join(f'{p} {n}' for p, n in v['versions'].items() if p in TELLING)})"
            for who, v in versions.items()
        )  # fmt: skip
        lines.append(
            f"- `{m['name']}`, {m['date'][:10]}, commit {(m['commit'] or 'unknown')[:8]}: "
            f"{machine['processor']}, {machine['cores']} cores, "
            f"{machine['memory'] / 2**30:.0f} GiB, {', '.join(machine['caches'])}, Python "
            f"{machine['python']}; {m['settings']['threads']} threads, load before "
            f"{machine['load_before'][0]}. {said}."
        )
        lines += [
            f"  - not measured: {a['row']}, {WHO.get(a['who'], a['who'])}: {a['reason']}"
            for a in m["absent"]
        ]
    return "\n".join(lines) or "- Nothing was measured yet: `make bench`."


def _row(measured: Sequence[dict[str, Any]], name: str) -> dict[str, Any]:
    """The first record's row of a name; empty where none has it."""
    return next((m["rows"][name] for m in measured if name in m["rows"]), {})


def cost_table(records: Sequence[Record], source: str = "yelp2018", backbone: str = "mf"):
    """What the recorded trainings of a ladder cost: epochs, seconds, and their sums.

    records: any; those of the source and backbone with the longest ladder of one seed are shown.
    """
    by_seed: dict[Any, list[Record]] = {}
    for r in records:
        if r.data["origin"].get("source") == source and r.spec["model"]["backbone"] == backbone:
            by_seed.setdefault(r.spec["training"]["order_seed"], []).append(r)
    runs = max(by_seed.values(), key=len, default=[])
    lines = [
        {
            "density": f"{r.density:.1%}",
            "best epoch": r.best_epoch,
            "epochs": r.epochs,
            "time": _minutes(r.circumstances["seconds"]),
            "an epoch": _seconds(r.circumstances["seconds"] / r.epochs),
            "step": r.spec["training"]["step"],
            "run": r.key[:8],
        }
        for r in sorted(runs, key=lambda r: -r.density)
    ]
    total = {
        "density": f"{len(runs)} trainings",
        "epochs": sum(r.epochs for r in runs),
        "time": _minutes(sum(r.circumstances["seconds"] for r in runs)),
    }
    return _table(
        pd.DataFrame([*lines, total]),
        f"{paper.TITLES.get(source, source)}, {paper.TITLES[backbone]}: what its trainings cost",
        "Every user ranked after every epoch; seconds as recorded, on whatever else was running.",
    )


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes}:{rest:02d}"

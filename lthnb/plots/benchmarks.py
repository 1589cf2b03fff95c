"""How fast the code is: records of benchmarks, and what recorded trainings cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FuncFormatter, NullLocator

from lthnb import paper
from lthnb.plots.style import (
    COLOURS,
    INK,
    MARKERS,
    minutes_said,
    panels,
    say_not_run,
    seconds_said,
    small_keys,
    table,
    use_style,
)
from lthnb.standings import METHOD_NAMES
from lthnb.store.records import Record

WHO = {
    "ours": "ours",
    "lightgcn-pytorch": "LightGCN-PyTorch",
    "lth-mrs": "LTH-MRS",
    "implicit": "implicit",
    "recbole": "RecBole",
    "faiss": "faiss",
}


# What of a row is compared: with sampling or loading, as a training pays for it.
HEADLINE = {"step": "whole", "epoch": "epoch", "lightgcn": "whole", "ranking": "ranking"}


ROW_NAMES = {
    "step": "MF, a step",
    "epoch": "MF, an epoch",
    "lightgcn": "LightGCN, a step",
    "ranking": "full ranking",
}


# Rows beside those, of ours alone.
OWN_ROWS = ("density", "kernels-mf", "kernels-lightgcn", "kernels-ranking", "roof")


def of_training(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records that measure training and ranking, which the figures here are made from."""
    rows = {*ROW_NAMES, *OWN_ROWS}
    return [m for m in measured if rows & set(m["rows"]) or m["scaling"]]


def speed_figure(measured: Sequence[dict[str, Any]]):
    """How many times as long each peer takes as ours: median, and the range over the repeats.

    measured: records of benchmarks (:mod:`lthnb.measured`); the first that has a row is shown.
    """
    bars = []
    for row, name in ROW_NAMES.items():
        for who, spreads in _row(measured, row).get("ratios", {}).items():
            bars.append((f"{name}: {WHO[who]}", spreads[HEADLINE[row]], row))
    fig, (ax,) = panels(1, height=1.4 + 0.42 * max(len(bars), 3))
    if not bars:
        say_not_run(ax, "benchmarks")
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
                    shown = (lambda v: f"{v / 2**20:,.0f} MiB") if prefix else seconds_said
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
    return table(
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
                    "time": seconds_said(seconds),
                    "share": f"{seconds / whole:.0%}" if row != "kernels-ranking" else "",
                    "least bytes": f"{moved / seconds / 1e9:.3g} GB/s" if moved else "",
                    "of the roof": f"{moved / seconds / rate:.0%}" if moved and rate else "",
                    "gathered": f"{gathered / seconds / 1e9:.3g} GB/s" if gathered else "",
                    "arithmetic": f"{done / seconds / 1e9:.3g} GFLOP/s" if done else "",
                }
            )
    title = f"the roof, a plain copy, is {rate / 1e9:.3g} GB/s" if rate else "not run"
    return table(pd.DataFrame(lines or [{"step": "not run"}]), "Kernel by kernel", title)


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
        fig, (ax,) = panels(1)
        say_not_run(ax, "scaling")
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
TELLING = ("torch", "numpy", "scipy", "numba", "dgl", "implicit", "recbole", "faiss-cpu")


def measured_on(measured: Sequence[dict[str, Any]]) -> str:
    """The machine and the telling versions behind the figures, as Markdown; a line a record."""
    lines = []
    for m in measured:
        machine = m["machine"]
        versions = {WHO[k]: v for k, v in m["who"].items() if k in WHO}
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


def agreement_table(measured: Sequence[dict[str, Any]]):
    """Recorded runs, trained again by ours and by the authors' code: how far apart they are after
    the last epoch that was compared.

    LTH-MRS's loss is shown without the L2 term of pruned entries, which ours does not count.
    """
    found = _agreement(measured)
    lines = []
    for training in found.get("agreement", {}).get("trainings", []):
        last = training["epochs"][-1]
        ours, theirs = last["ours"], last["lth-mrs"]
        lines.append(
            {
                "what": _place_said(training),
                "loss, ours": f"{ours['loss']:.6f}",
                "loss, LTH-MRS": f"{theirs['loss'] - theirs['l2 of pruned']:.6f}",
                "Recall@20, ours": f"{ours['recall@20']:.5f}",
                "Recall@20, LTH-MRS": f"{theirs['recall@20']:.5f}",
                "mean entry": f"{last['typical']:.2g}",
                "apart: mean (largest)": _apart_said(last["apart"]),
                "our two steps": _apart_said(last["rounding"]),
                "users apart": f"{last['apart']['users']:,}",
                "by ties": f"{last['apart']['tied']:,}",
                "runs": training["run"][:8],
            }
        )
    if not lines:
        return table(pd.DataFrame([{"what": "not run"}]), "The authors' code on our triplets")
    settings, data = found["settings"], found["data"]
    return small_keys(
        table(
            pd.DataFrame(lines),
            "The authors' code on our triplets",
            f"{paper.TITLES.get(settings['source'], settings['source'])}, MF, F = "
            f"{settings['size']}, after epoch {settings['epochs']}, {data['train']:,} triplets "
            "each. Users apart: whose top 20 hit otherwise; by ties: who have equal scores there.",
        )
    )


def prunings_table(measured: Sequence[dict[str, Any]]):
    """What ours and the authors' code prune from the same trained weights, entry by entry."""
    lines = [
        {
            "to": _place_said(pruned),
            "of": f"{pruned['before']:,}",
            "ours keeps": f"{pruned['kept']['ours']:,}",
            "LTH-MRS keeps": f"{pruned['kept']['lth-mrs']:,}",
            "only ours": pruned["only"]["ours"],
            "only LTH-MRS": pruned["only"]["lth-mrs"],
            "our mask is": "the recorded one" if pruned["as recorded"] else "another than recorded",
            "runs": pruned["run"][:8],
        }
        for pruned in _agreement(measured).get("agreement", {}).get("prunings", [])
    ]
    shown = table(
        pd.DataFrame(lines or [{"to": "not run"}]),
        "Both prune the same weights",
        "Those of each run at its best epoch; entries, counted one by one.",
    )
    return small_keys(shown) if lines else shown


def _agreement(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first record that compares ours with the authors' code; empty where none does."""
    return next((m for m in measured if "agreement" in m), {})


def _apart_said(between: dict[str, float]) -> str:
    return f"{between['mean']:.1e} ({between['largest']:.1e})"


def _place_said(entry: dict[str, Any]) -> str:
    if not entry["prunings"]:
        return "dense model"
    return f"{METHOD_NAMES[entry['method']]}, {entry['density']:.1%}"


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
            "time": minutes_said(r.circumstances["seconds"]),
            "an epoch": seconds_said(r.circumstances["seconds"] / r.epochs),
            "step": r.spec["training"]["step"],
            "run": r.key[:8],
        }
        for r in sorted(runs, key=lambda r: -r.density)
    ]
    total = {
        "density": f"{len(runs)} trainings",
        "epochs": sum(r.epochs for r in runs),
        "time": minutes_said(sum(r.circumstances["seconds"] for r in runs)),
    }
    return table(
        pd.DataFrame([*lines, total]),
        f"{paper.TITLES.get(source, source)}, {paper.TITLES[backbone]}: what its trainings cost",
        "Every user ranked after every epoch; seconds as recorded, on whatever else was running.",
    )

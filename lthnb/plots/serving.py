"""Serving from packed tickets: what the benchmark measured, and what rounding loses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.ticker import FuncFormatter

from lthnb.packing import Weight
from lthnb.plots.style import density_axis, panels, say_not_run, seconds_said, table
from lthnb.serving import Cost

ENGINES = {
    "ours": "ours, from the packed ticket",
    "ours-index": "ours, with an index by column",
    "dense": "dense: BLAS, fused top-K",
    "fused": "dense: our fused ranking",
    "scipy": "scipy CSR",
    "implicit": "implicit",
    "faiss-flat": "faiss, exact",
    "faiss-ivfpq": "faiss, IVF-PQ",
}
CATALOGUES = {
    "serving-yelp2018": "Yelp2018's shape",
    "serving-1m": "1 million items",
    "serving-10m": "10 million items",
}
MEASURES = {"one": "one user", "bulk": "many users at once"}


def _served(measured: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A line for each catalogue, size, density and engine; the first record that has it counts."""
    seen = set()
    for record in measured:
        for name, row in record["rows"].items():
            if "catalogue" not in row or name in seen:
                continue
            seen.add(name)
            catalogue, size, density = name.split()
            for who, entry in row["who"].items():
                yield {
                    "catalogue": catalogue,
                    "size": int(size),
                    "asked": float(density),
                    "density": row["catalogue"]["density"],
                    "who": who,
                    "users": row["catalogue"]["bulk"],
                    "spread": entry["spread"],
                    "facts": entry["facts"],
                    "ratios": row["ratios"].get(who, {}),
                }


def latency_figure(
    measured: Sequence[dict[str, Any]], catalogue: str = "serving-yelp2018", size: int = 64
):
    """Seconds a question against density, for one user and for many: medians and quartiles.

    measured: records of benchmarks (:mod:`lthnb.measured`). What was asked at one density only,
    since it touches every column, is a dashed line.
    """
    lines = [
        line for line in _served(measured) if (line["catalogue"], line["size"]) == (catalogue, size)
    ]
    fig, axes = panels(2 if lines else 1, height=4.4)
    if not lines:
        say_not_run(axes[0], f"{CATALOGUES.get(catalogue, catalogue)}, F = {size}")
        return fig
    shades = dict(zip(ENGINES, sns.color_palette("colorblind", len(ENGINES)), strict=True))
    marks = dict(zip(ENGINES, "osD^v<>P", strict=True))
    densities = sorted({line["density"] for line in lines})
    for ax, (measure, title) in zip(axes, MEASURES.items(), strict=True):
        for who, name in ENGINES.items():
            mine = sorted(
                (one["density"], one["spread"][measure])
                for one in lines
                if one["who"] == who and measure in one["spread"]
            )
            if not mine:
                continue
            at, spreads = zip(*mine, strict=True)
            middle = [s["median"] for s in spreads]
            if len(mine) == 1 and len(densities) > 1:
                ax.axhline(middle[0], color=shades[who], ls="--", lw=1.4, label=name)
                continue
            low = [s["median"] - s["q1"] for s in spreads]
            high = [s["q3"] - s["median"] for s in spreads]
            ax.errorbar(
                at, middle, yerr=[low, high], color=shades[who], marker=marks[who], capsize=2,
                label=name,
            )  # fmt: skip
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: seconds_said(v)))
        density_axis(ax, densities)
        count = f": {lines[0]['users']:,}" if measure == "bulk" else ""
        ax.set_title(f"{CATALOGUES[catalogue]}, F = {size}: {title}{count}", loc="left")
        ax.set_ylabel("time of a question")
    handles = dict(
        pair for ax in axes for pair in zip(*reversed(ax.get_legend_handles_labels()), strict=True)
    )
    axes[-1].legend(
        handles.values(), handles.keys(), ncols=2, frameon=False, fontsize=10,
        loc="upper center", bbox_to_anchor=(0.5, -0.2),
    )  # fmt: skip
    return fig


def latency_table(measured: Sequence[dict[str, Any]], catalogue: str = "serving-yelp2018"):
    """Every size, density and engine of a catalogue: bytes, times with quartiles, ratio to ours."""
    lines = []
    for one in _served(measured):
        if one["catalogue"] != catalogue:
            continue
        facts, line = one["facts"], {"F": one["size"], "density": f"{one['density']:.0%}"}
        line["engine"] = ENGINES[one["who"]]
        for measure, title in MEASURES.items():
            s, ratio = one["spread"].get(measure), one["ratios"].get(measure)
            line[title] = (
                f"{seconds_said(s['median'])} ({seconds_said(s['q1'])} … {seconds_said(s['q3'])})"
                if s
                else None
            )
            line[f"× ours, {title}"] = f"{ratio['median']:.2g}" if ratio else None
        line["file"] = _bytes_said(facts["file"]) if "file" in facts else None
        line["held"], line["peak"] = _bytes_said(facts["held"]), _bytes_said(facts["peak"])
        line["load"] = seconds_said(facts["load"])
        line["build"] = seconds_said(facts["build"]) if "build" in facts else None
        line["agreement"] = f"{facts['agreement']:.3f}"
        lines.append(line)
    return table(
        pd.DataFrame(lines or [{"engine": "not run"}]),
        f"Top 20 from a catalogue of {CATALOGUES.get(catalogue, catalogue)}",
        "Medians (quartiles) of repeats taken in turn, each engine in a process of its own. Held: "
        "bytes of its arrays; peak: of the whole process. Agreement: share of the items found that "
        "belong among the best 20.",
    )


def crossover_table(measured: Sequence[dict[str, Any]]):
    """Up to which of the densities tried a ticket pays beside the dense table: in memory, for one
    user, for many users; by medians, at each catalogue and size."""
    groups: dict[tuple[str, int], dict[float, dict[str, dict]]] = {}
    for one in _served(measured):
        here = groups.setdefault((one["catalogue"], one["size"]), {})
        here.setdefault(one["density"], {})[one["who"]] = one
    lines = []
    for (catalogue, size), at in groups.items():
        line = {"catalogue": CATALOGUES[catalogue], "F": size}
        for title, ours, theirs in (
            ("memory", _held("ours"), _held("dense")),
            ("memory with an index", _held("ours-index"), _held("dense")),
            ("one user", _median("one", "ours"), _median("one", "dense")),
            ("one user with an index", _median("one", "ours-index"), _median("one", "dense")),
            ("many users", _median("bulk", "ours"), _median("bulk", "dense")),
            ("many users, beside the fused", _median("bulk", "ours"), _median("bulk", "fused")),
        ):
            pairs = {d: (ours(who), theirs(who)) for d, who in at.items()}
            known = {d: a <= b for d, (a, b) in pairs.items() if a is not None and b is not None}
            if not known:
                line[title] = None
                continue
            # The largest density from which on, downwards, it pays throughout.
            paying = 0.0
            for density in sorted(known):
                if not known[density]:
                    break
                paying = density
            line[title] = f"≤ {paying:.0%}" if paying else "never"
        lines.append(line)
    return table(
        pd.DataFrame(lines or [{"catalogue": "not run"}]),
        "From which density on a ticket pays",
        "The largest of the densities tried at and below which ours takes no more than the dense "
        "table (BLAS and fused top-K).",
    )


def costs_table(costs: Mapping[str, Sequence[Cost]]):
    """File, memory and Recall@20 of tickets by kind of values. costs: name of a ticket → what
    :func:`lthnb.serving.costs` found, the most exact kind first, beside which the others stand."""
    lines = []
    for name, found in costs.items():
        whole = found[0].metrics["recall@20"]
        for one in found:
            recall = one.metrics["recall@20"]
            lines.append(
                {
                    "ticket": name,
                    "density": f"{one.density:.1%}",
                    "values": one.values,
                    "forms": " / ".join(dict.fromkeys(one.forms)),
                    "file": _bytes_said(one.file),
                    "in memory": _bytes_said(one.resident),
                    "Recall@20": f"{recall:.5f}",
                    "difference": f"{recall / whole - 1:+.2%}" if whole else "",
                }
            )
    return table(
        pd.DataFrame(lines or [{"ticket": "not run"}]),
        "Tickets in the kinds of values",
        "In memory: all that serving holds or maps. The difference is to the first line of a "
        "ticket.",
    )


def forms_table(weights: Mapping[str, Sequence[Weight]]):
    """Bytes of tickets in every form. weights: name of a ticket → what
    :func:`lthnb.packing.weigh` found. A line a form, and for each kind of values its bytes, over
    the bound and as a factor to the dense table."""
    lines = []
    for name, found in weights.items():
        by_form: dict[str, dict[str, Any]] = {}
        for one in found:
            line = by_form.setdefault(one.form, {"ticket": name, "form": one.form})
            line[one.values] = _bytes_said(one.bytes)
            line[f"{one.values}, over the bound"] = f"{one.over_bound - 1:+.0%}"
            line[f"{one.values}, dense is"] = f"{one.smaller:.1f} ×"
        lines += by_form.values()
    return table(
        pd.DataFrame(lines or [{"ticket": "not run"}]),
        "Tickets in every form",
        "Whole files, labels apart. Over the bound: more than the fewest bytes that values and "
        "supports need. Dense: the float32 table, in times of the file.",
    )


def _held(who: str):
    return lambda at: at[who]["facts"]["held"] if who in at else None


def _median(measure: str, who: str):
    def found(at: dict[str, dict]) -> float | None:
        spread = at.get(who, {}).get("spread", {}).get(measure)
        return spread["median"] if spread else None

    return found


def _bytes_said(count: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} B"

"""Serving from packed tickets: what the benchmark measured, and what rounding loses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lthnb.budget import Cost, best_within
from lthnb.packing import Weight
from lthnb.plots.style import density_axis, panels, say_not_run, seconds_said, table
from lthnb.verdicts import Interval

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
NO_SEEDS: Mapping[str, Interval] = {}
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


def of_serving(measured: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records that measure serving, which the figures here are made from."""
    return [m for m in measured if any("catalogue" in row for row in m["rows"].values())]


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
        _log_ticks(ax.yaxis, seconds_said)
        density_axis(ax, densities)
        count = f": {lines[0]['users']:,}" if measure == "bulk" else ""
        ax.set_title(f"{CATALOGUES[catalogue]}, F = {size}: {title}{count}", loc="left")
        ax.set_ylabel("time of a question")
    handles = dict(
        pair for ax in axes for pair in zip(*reversed(ax.get_legend_handles_labels()), strict=True)
    )
    shown = [name for name in ENGINES.values() if name in handles]
    axes[-1].legend(
        [handles[name] for name in shown], shown, ncols=2, frameon=False, fontsize=10,
        loc="upper center", bbox_to_anchor=(0.5, -0.2),
    )  # fmt: skip
    return fig


def latency_table(measured: Sequence[dict[str, Any]], catalogue: str = "serving-yelp2018"):
    """Every size, density and engine of a catalogue: bytes, times with quartiles, ratio to ours."""
    lines = []
    for one in _served(measured):
        if one["catalogue"] != catalogue:
            continue
        facts = one["facts"]
        line = {"at": f"F = {one['size']}, density {one['density']:.0%}"}
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
        groups="at",
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
        "table (BLAS and fused top-K). Ours holds float16 values, the dense table float32: of the "
        "saving in memory that is a factor of two.",
    )


SPARSE = 0.1  # density up to which the findings speak
BESIDE = (
    ("bulk", "many users at once", "ours", ("dense", "fused", "implicit", "faiss-flat", "scipy")),
    ("one", "one user, with an index", "ours-index", ("dense", "implicit", "faiss-flat", "scipy")),
    ("one", "one user, without", "ours", ("dense",)),
)


def latency_findings(measured: Sequence[dict[str, Any]]) -> list[str]:
    """What a ticket of few entries takes beside other engines, in a sentence for each catalogue and
    way of asking: medians of times, over all sizes and all densities up to :data:`SPARSE`."""
    at: dict[str, dict[tuple, dict[str, dict]]] = {}
    for one in _served(measured):
        if one["asked"] <= SPARSE:
            here = at.setdefault(one["catalogue"], {})
            here.setdefault((one["size"], one["asked"]), {})[one["who"]] = one
    found = []
    for catalogue, points in at.items():
        for measure, title, ours, others in BESIDE:
            said = []
            for who in others:
                mine, theirs = _median(measure, ours), _median(measure, who)
                pairs = [(theirs(point), mine(point)) for point in points.values()]
                times = [a / b for a, b in pairs if a is not None and b is not None]
                if times:
                    low, high = (
                        f"{t:.0f}" if t > 9.5 else f"{t:.2g}" for t in (min(times), max(times))
                    )
                    said.append(f"{ENGINES[who]} {low if low == high else f'{low} to {high}'}")
            if said:
                sizes = ", ".join(str(size) for size in sorted({size for size, _ in points}))
                found.append(
                    f"{CATALOGUES[catalogue]}, F = {sizes}, densities of {SPARSE:.0%} and less, "
                    f"{title}: times as long as ours takes {'; '.join(said)}."
                )
    return found


def costs_table(costs: Mapping[str, Sequence[Cost]], seeds: Mapping[str, Interval] = NO_SEEDS):
    """File, memory and Recall@20 of tickets by kind of values. costs: name of a ticket → what
    :func:`lthnb.budget.costs` found on test, the most exact kind first, beside which the others
    stand. seeds: name of a ticket → its Recall@20 over seeds, where several were trained."""
    lines = []
    for name, found in costs.items():
        whole = found[0].metrics["test"]["recall@20"]
        for one in found:
            recall = one.metrics["test"]["recall@20"]
            line = {"ticket": name, **_taken(one), "Recall@20": f"{recall:.5f}"}
            line["difference"] = f"{recall / whole - 1:+.2%}" if whole else ""
            if name in seeds:
                i = seeds[name]
                line["over seeds"] = f"{i.mean:.5f} ({i.low:.5f} … {i.high:.5f}), n = {i.n}"
            lines.append(line)
    return table(
        pd.DataFrame(lines or [{"ticket": "not run"}]),
        "Tickets in the kinds of values",
        "In memory: all that serving holds or maps. The difference is to the first line of a "
        "ticket." + (" Over seeds: mean and 95 % interval, float32." if seeds else ""),
        groups="ticket",
    )


def _taken(one: Cost) -> dict[str, str]:
    return {
        "density": f"{one.density:.1%}",
        "values": one.values,
        "forms": " / ".join(dict.fromkeys(one.forms)),
        "file": _bytes_said(one.file),
        "in memory": _bytes_said(one.resident),
    }


HALVINGS = 6  # budgets: the dense float32 table, half of it, …


def budget_table(title: str, found: Sequence[Cost], part: str):
    """Which ticket, in which form, to take for so many bytes: the one with the best Recall@20 on
    the part that chooses among all rungs and kinds of values that fit, and what it has on test.

    title: of the ladder. found: from :func:`lthnb.budget.costs_of_ladder`.
    """
    lines, dense = [], max(found, key=lambda c: c.file, default=None)
    for halving in range(HALVINGS + 1) if dense else ():
        size = dense.file / 2**halving
        best = best_within(found, size, part)
        line = {"bytes": f"{_bytes_said(size)}, 1/{2**halving}" if halving else _bytes_said(size)}
        if best is None:
            lines.append({**line, "values": "nothing fits"})
            break
        recall, whole = (one.metrics["test"]["recall@20"] for one in (best, dense))
        lines.append(
            {
                **line,
                **_taken(best),
                "Recall@20 on test": f"{recall:.4f}",
                "to dense float32": f"{recall / whole - 1:+.1%}" if whole else "",
            }
        )
    return table(
        pd.DataFrame(lines or [{"bytes": "not run"}]),
        f"{title}: the best for a budget",
        f"A budget is the most bytes of a file; the first is the dense float32 table's. Chosen on "
        f"{part} among all rungs of the first seed, in float32, float16 and int8.",
    )


def budget_figure(ladders: Mapping[str, Sequence[Cost]]):
    """Recall@20 on test against bytes of the file, a line for each kind of values and a mark for
    each rung. ladders: title → as in :func:`budget_table`."""
    fig, axes = panels(max(1, len(ladders)), height=4.2)
    if not ladders:
        say_not_run(axes[0], "tickets by their bytes")
    for ax, (title, found) in zip(axes, ladders.items(), strict=False):
        kinds = dict.fromkeys(one.values for one in found)
        for kind, color, mark in zip(kinds, sns.color_palette("colorblind"), "osD^", strict=False):
            mine = sorted(
                (one.file, one.metrics["test"]["recall@20"]) for one in found if one.values == kind
            )
            ax.plot(*zip(*mine, strict=True), color=color, marker=mark, label=kind)
        ax.set_xscale("log")
        _log_ticks(ax.xaxis, _bytes_said)
        ax.set_xlabel("file")
        ax.set_ylabel("Recall@20 on test")
        ax.set_title(title, loc="left")
    if ladders:
        axes[-1].legend(
            ncols=4, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), title="values"
        )
    return fig


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
        groups="ticket",
    )


def reading_table(measured: Sequence[dict[str, Any]], mask: str = "planted"):
    """Every form's bytes and how fast it is read, from the records that have it (rows with a part
    `packing`): a line a density and form, of the tables under one kind of mask."""
    lines = []
    rows = (row for record in measured for row in record["rows"].values() if "packing" in row)
    for row in rows:
        about, entry = row["packing"], row["who"]["ours"]
        if about["table"] != mask:
            continue
        facts, spread = entry["facts"], entry["spread"]
        forms: dict[str, dict[str, str]] = {}
        for name in (m.removeprefix("whole ") for m in spread if m.startswith("whole ")):
            form, kind = name.split()
            at = f"F = {about['size']}, density {about['density']:.0%}"
            line = forms.setdefault(form, {"density": at, "form": form})
            count, rate = facts[f"bytes {name}"], facts["kept"] / 1e6
            line[kind] = _bytes_said(count)
            line[f"{kind}, over the bound"] = f"{count / facts[f'bound {kind}'] - 1:+.1%}"
            line[f"{kind}, dense is"] = f"{facts['dense'] / count:.1f} ×"
            line[f"{kind}, M entries/s"] = f"{rate / spread[f'whole {name}']['median']:.0f}"
        lines += forms.values()
    return table(
        pd.DataFrame(lines or [{"form": "not run"}]),
        "Forms: bytes, and how fast they are read",
        "Whole files. Over the bound: more than the fewest bytes that values and supports need. "
        "Dense: the float32 table, in times of the file. M entries/s: decoded by one thread, in "
        "millions a second, medians.",
        groups="density",
    )


def _log_ticks(axis, said: Callable[[float], str]) -> None:
    """Ticks at 1, 2 and 5 of each power of ten, in words."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda v, _: said(v)))
    axis.set_minor_locator(NullLocator())


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

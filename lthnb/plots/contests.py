"""Ladders side by side: methods, embedding sizes, pruning rates, rewinding, and training speed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from lthnb import paper
from lthnb.answers import (
    best_against,
    interval_said,
    name_of,
    sparsity_gain,
    stars_at_shared,
)
from lthnb.compression import verdict
from lthnb.draws import CHANGES, Changed
from lthnb.pace import Pace, paces
from lthnb.plots.style import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    NAMES,
    SHAPES,
    density_axis,
    panels,
    say_instead,
    say_not_run,
    seeds_said,
    small_keys,
    table,
)
from lthnb.standings import Field, beside_narrow, difference, grouped
from lthnb.tuning import Tuning, beside_tuned

ALONE_SAYS_NOTHING = ("sizes", "rates", "rewinds")


def _look(fields: Sequence[Field], chapter: str) -> dict[str, tuple]:
    """Name → colour and marker: a method's own, or shades along an order."""
    names = list(dict.fromkeys(name_of(one, chapter) for one in fields))
    if all(name in COLOURS for name in names):
        return {name: (COLOURS[name], MARKERS[name]) for name in names}
    shades = sns.color_palette("viridis", len(names) + 1)
    return {name: (shades[i], SHAPES[i % len(SHAPES)]) for i, name in enumerate(names)}


def _panels(fields: Sequence[Field], chapter: str):
    """A figure with a panel for each group of fields that can be compared, its axes, the groups.

    Of a chapter in which a contestant alone says nothing, groups of one are named below the last
    panel instead of having one each, unless there is no other.
    """
    groups = grouped(fields)
    ran = [sum(one.standings[0] is not None for one in group) for group in groups]
    alone = [count == 1 and chapter in ALONE_SAYS_NOTHING for count in ran]
    shown = [group for group, lone in zip(groups, alone, strict=True) if not lone] or groups
    fig, axes = panels(len(shown), height=4.6)
    if not groups:
        say_not_run(axes[0], "nothing recorded")
    left_out = dict.fromkeys(group[0].title for group in groups if group not in shown)
    if left_out:
        text = f"With one contestant alone, so not shown: {'; '.join(left_out)}."
        fig.supxlabel(textwrap.fill(text, 95), fontsize=9, color=GREY)
    return fig, axes, shown


def contest_figure(fields: Sequence[Field], chapter: str, *, relative: bool = False):
    """Recall@20 on test against density, one panel for each backbone and data set, one curve a
    contestant.

    fields: of one or several groups. chapter: one of `profiles.CONTESTS`, which says what tells
    contestants apart. relative: each curve as a difference to its own dense model, in percent.
    Bands are ± one standard deviation over seeds (of the relative difference: the 95 % interval); a
    star marks each contestant's sparsest winning ticket, chosen on valid.
    """
    fig, axes, groups = _panels(fields, chapter)
    look = _look(fields, chapter)
    for ax, group in zip(axes, groups, strict=False):
        title = group[0].title
        shown = [one for one in group if one.standings[0] is not None]
        if not shown:
            say_not_run(ax, title)
            continue
        if len(shown) == 1 and chapter in ALONE_SAYS_NOTHING:
            alone = f"{name_of(shown[0], chapter)} alone is recorded"
            say_instead(ax, f"{title}:\n{alone}; there is nothing to compare it with yet")
            continue
        densities: set[float] = set()
        for one in shown:
            colour, marker = look[name_of(one, chapter)]
            densities |= _draw(ax, one, colour, marker, chapter, relative)
        if relative:
            ax.axhline(0, ls="--", lw=1.4, color=GREY, label="its own dense model")
            ax.set_ylabel("Recall@20 on test, to dense (%)")
        else:
            dense = shown[0].standings[0].results["recall@20"]
            if chapter != "sizes":
                ax.axhline(dense, ls="--", lw=1.4, color=GREY, label="dense model")
            ax.set_ylabel("Recall@20 on test")
        density_axis(ax, sorted(densities))
        size = "" if chapter == "sizes" else f"F = {shown[0].spec.model.embedding_size}, "
        ax.set_title(f"{title}\n{size}{seeds_said(len(shown[0].seeds))}", loc="left")
        found = any(one.sparsest for one in shown)
        label = "sparsest winning ticket" if found else "no ticket wins beyond doubt"
        marker = "*" if found else "None"
        ax.plot([], [], marker=marker, ls="none", ms=13, color=GREY, mec=INK, label=label)
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, frameon=False)
    return fig


def _draw(ax, one: Field, colour, marker: str, chapter: str, relative: bool) -> set[float]:
    """One contestant's curve; returns its densities."""
    there = [s for s in one.standings if s is not None]
    density = [s.density for s in there]
    if relative:
        value, low, high = (
            np.array([100 * getattr(s.difference, end) for s in there])
            for end in ("mean", "low", "high")
        )
    else:
        value = np.array([s.results["recall@20"] for s in there])
        spread = np.array([s.spread for s in there])
        low, high = value - spread, value + spread
    name = name_of(one, chapter)
    ax.plot(density, value, marker=marker, ms=6, color=colour, label=NAMES.get(name, name))
    if len(one.seeds) > 1:
        ax.fill_between(density, low, high, color=colour, alpha=0.13, lw=0)
    star = one.sparsest
    if star is not None:
        at = 100 * star.difference.mean if relative else star.results["recall@20"]
        ax.plot(star.density, at, "*", ms=17, color=colour, mec=INK, mew=0.9, zorder=5)
    return set(density)


def entries_figure(fields: Sequence[Field]):
    """Recall@20 on test against entries kept, one panel a backbone, one curve an embedding size:
    what a sparse wide table is worth beside a dense narrow one."""
    return _curves(
        fields,
        "sizes",
        lambda one, s: one.rungs[0][s.number].mask.entries,
        "entries kept (dense tables at the right ends)",
    )


def narrow_table(fields: Sequence[Field], tuned: Sequence[Tuning] = ()):
    """A line for each dense table of few columns and each ticket of a wider table that has about as
    many entries (:func:`standings.beside_narrow`); with `tuned`, also beside those of the narrow
    tables whose λ was tuned."""
    found = beside_narrow(fields)
    others = [beside_tuned(one, tuned) for one in found]
    rows = [
        {
            "": f"{one.narrow.title}, {seeds_said(len(one.narrow.seeds))}",
            "dense table": name_of(one.narrow, "sizes"),
            "its Recall@20": one.narrow.standings[0].results["recall@20"],
            "ticket": f"{name_of(one.wide, 'sizes')} at {ticket.density:.1%}",
            "entries": one.more,
            "Recall@20": ticket.results["recall@20"],
            "ticket to dense table": interval_said(one.difference),
            "the ticket is": verdict(one.difference),
            **({"to it with λ tuned": other and interval_said(other)} if tuned else {}),
        }
        for one, other in zip(found, others, strict=True)
        for ticket in [one.wide.standings[one.number]]
    ]
    shown = table(
        pd.DataFrame(rows),
        "A sparse wide table beside a dense narrow one",
        "On test. «entries»: how many more the ticket has. The places of its entries, which must "
        "be kept too, are not counted."
        if rows
        else "Two embedding sizes at least are needed.",
        groups="",
    )
    if not rows:
        return shown
    shown = shown.fmt_percent("entries", decimals=1, force_sign=True)
    return shown.fmt_number(["its Recall@20", "Recall@20"], decimals=4)


def taken_apart_table(found: Sequence[Changed]):
    """A line for each rung whose tickets were trained again with half of their seed changed, and
    what each half does to Recall@20 on test (:mod:`draws`)."""
    rows = [
        {
            "": f"{one.field.title}, {seeds_said(len(one.field.seeds))}",
            "density": one.density,
            "the ticket": one.recall(""),
            **{
                column: value
                for change, name in CHANGES.items()
                for column, value in (
                    (name, one.recall(change)),
                    (f"{name}, to the ticket", interval_said(one.difference(change))),
                )
            },
            "X⁰ to order": interval_said(one.difference("draw", "order")),
        }
        for one in found
    ]
    shown = table(
        pd.DataFrame(rows),
        "One mask, and half of the seed changed",
        "Recall@20 on test, under the ticket's own mask. «another X⁰»: new random values, the same "
        "triplets in the same order; «another order»: the same values, other triplets. "
        "«X⁰ to order»: the one beside the other."
        if rows
        else "Nothing of this is recorded.",
        groups="",
    )
    if not rows:
        return shown
    shown = shown.fmt_percent("density", decimals=1)
    return shown.fmt_number(["the ticket", *CHANGES.values()], decimals=4)


def cost_figure(fields: Sequence[Field], chapter: str):
    """Recall@20 on test against all epochs that must be run from nothing to have a ticket trained,
    the search included; one panel a backbone, one curve a contestant."""
    return _curves(
        fields,
        chapter,
        lambda one, s: cost.epochs if (cost := one.cost(s.number)) else None,
        "epochs from nothing, search included (mean over seeds)",
    )


def _curves(fields: Sequence[Field], chapter: str, along, label: str):
    """Recall@20 against a quantity of each rung, `along` (field, standing), on a log axis; a rung
    of which it is None is left out."""
    fig, axes, groups = _panels([one for one in fields if one.best is not None], chapter)
    look = _look(fields, chapter)
    for ax, group in zip(axes, groups, strict=False):
        title = group[0].title
        for one in group:
            there = [s for s in one.standings if s is not None and along(one, s) is not None]
            name = name_of(one, chapter)
            colour, marker = look[name]
            ax.plot(
                [along(one, s) for s in there], [s.results["recall@20"] for s in there],
                marker=marker, color=colour, label=NAMES.get(name, name),
            )  # fmt: skip
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(label)
        ax.set_ylabel("Recall@20 on test")
        ax.set_title(f"{title}\n{seeds_said(len(group[0].seeds))}", loc="left")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, frameon=False)
    return fig


def against_figure(fields: Sequence[Field], chapter: str):
    """Recall@20 on test of each contestant relative to the first one of its group, rung by rung,
    paired by seed; whiskers are 95 % intervals."""
    fig, axes, groups = _panels([one for one in fields if one.best is not None], chapter)
    look = _look(fields, chapter)
    for ax, (first, *others) in zip(axes, groups, strict=False):
        title = first.title
        densities: set[float] = set()
        for shift, one in enumerate(others):
            pairs = [
                (s.density, difference(one.records(s.number), first.records(s.number)))
                for s in one.standings
                if s is not None and s.number and first.records(s.number)
            ]
            if not pairs:
                continue
            name = name_of(one, chapter)
            colour, marker = look[name]
            density, found = zip(*pairs, strict=True)
            densities |= set(density)
            mean, low, high = (
                100 * np.array([getattr(d, end) for d in found]) for end in ("mean", "low", "high")
            )
            reach = np.nan_to_num([mean - low, high - mean])
            ax.errorbar(
                np.array(density) * 1.02**shift, mean, yerr=reach, color=colour, marker=marker,
                lw=1.6, elinewidth=1.1, capsize=3, label=NAMES.get(name, name),
            )  # fmt: skip
        if not densities:
            say_not_run(ax, title)
            continue
        base = NAMES.get(name_of(first, chapter), name_of(first, chapter))
        ax.axhline(0, ls="--", lw=1.4, color=look[name_of(first, chapter)][0], label=base)
        density_axis(ax, sorted(densities))
        ax.set_ylabel(f"Recall@20 on test, to {base} (%)")
        ax.set_title(f"{title}\n{seeds_said(len(first.seeds))}", loc="left")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, frameon=False)
    return fig


def contest_table(fields: Sequence[Field], chapter: str):
    """A line for each contestant: its dense model, its sparsest winning ticket, its best ticket,
    seeds that win by definition, and what finding the ticket costs.

    The cost is that of the sparsest winning ticket where there is one, else of the best: all
    trainings that the search needs, and its own.
    """
    rows = []
    for one in fields:
        dense, star, best = one.standings[0], one.sparsest, one.best
        row = {
            "": one.title,
            "contestant": NAMES.get(name_of(one, chapter), name_of(one, chapter)),
            "dense": None if dense is None else dense.results["recall@20"],
            "sparsest winning": None if star is None else star.density,
            "there, to dense": "none" if star is None else interval_said(star.difference),
            "best ticket": None if best is None else best.results["recall@20"],
            "at density": None if best is None else best.density,
            "by definition": "not run"
            if one.seeds_that_win is None
            else f"{one.seeds_that_win} of {len(one.seeds)}",
        }
        target = star or best
        cost = one.cost(target.number) if target is not None else None
        if cost is not None:
            row |= {
                "trainings": cost.trainings,
                "epochs": cost.epochs,
                "seconds": cost.seconds,
            }
        rows.append(row)
    frame = pd.DataFrame(rows)
    shown = table(
        frame,
        f"Side by side: {TITLES[chapter]}",
        "Recall@20 on test. Tickets are chosen on valid (under the protocol paper, on test). "
        "Cost: of the sparsest winning ticket, else of the best, from nothing, per seed; "
        "seconds are those of the recorded machine, other work beside it included.",
        groups="",
    )
    shown = shown.fmt_percent(["sparsest winning", "at density"], decimals=1)
    shown = shown.fmt_number(["dense", "best ticket"], decimals=4)
    if "epochs" in frame:
        shown = shown.fmt_number(["trainings", "epochs", "seconds"], decimals=0)
    return shown


TITLES = {
    "baselines": "methods",
    "sizes": "embedding sizes",
    "rates": "pruning rates",
    "rewinds": "ways to go on after pruning",
}


def gains_table(fields: Sequence[Field]):
    """§4.3's relative gains, ours beside the paper's: highest winning sparsity and best Recall@20
    of IMP over OMP, and how far RP stays below both."""
    rows = []
    for group in grouped(fields):
        title = group[0].title
        by = {one.ladder.method: one for one in group if one.best is not None}
        for claim, above, below, sign in (
            ("omp-sparsity", "imp", "omp", 1),
            ("omp-recall", "imp", "omp", 1),
            ("rp-falls", "rp", "imp", -1),
            ("rp-falls", "rp", "omp", -1),
        ):
            for what in ("highest winning sparsity", "best recall@20"):
                if claim.startswith("omp") and claim.endswith("recall") != what.endswith("@20"):
                    continue
                numbers = [n for n in paper.claim(claim).numbers if _fits(n, group, what, below)]
                printed = {paper.TITLES[n.dataset]: sign * n.value for n in numbers}
                ours = "not run"
                if above in by and below in by:
                    ours = _gain(by[above], by[below], what)
                rows.append(
                    {
                        "": title,
                        "quantity": f"{what.replace('recall', 'Recall')}, "
                        f"{NAMES[above]} to {NAMES[below]}",
                        "ours": ours,
                        **{f"paper, {name}": printed.get(name) for name in PAPERS},
                    }
                )
    shown = table(
        pd.DataFrame(rows),
        "What §4.3 states, beside ours",
        "Relative, in percent. Sparsity: of the sparsest winning tickets among the densities that "
        "both were run at. Recall@20: of the best tickets, on test, with a 95 % interval. «–»: the "
        "paper gives no number.",
    )
    columns = [f"paper, {name}" for name in PAPERS]
    return shown.fmt_number(columns, decimals=1, force_sign=True)


PAPERS = [paper.TITLES[name] for name in paper.DATASETS]


def _fits(number: paper.Number, group: Sequence[Field], what: str, below: str) -> bool:
    same = number.backbone == group[0].spec.model.backbone
    return same and number.what.startswith(what) and number.what.endswith(below)


def _gain(above: Field, below: Field, what: str) -> str:
    if what == "best recall@20":
        return interval_said(best_against(above, below))
    stars = stars_at_shared(above, below)
    gain = sparsity_gain(*stars)
    if gain is not None:
        return f"{100 * gain:+.1f} %"
    pairs = zip((above, below), stars, strict=True)
    without = [NAMES[f.ladder.method] for f, star in pairs if star is None]
    return f"{' and '.join(without)}: no winning ticket"


def pace_figure(fields: Sequence[Field]):
    """How much faster tickets train, against density: the paper's ratio of best epochs, and the
    ratio of epochs until the ticket first matches the dense model's best.

    Whiskers are 95 % intervals over seeds. A number beside a hollow marker says in how many of the
    runs the ticket ever gets there, where that is not all; rungs without any are left out.
    """
    fig, axes = panels(len(fields), height=4.6)
    for ax, one in zip(axes, fields, strict=True):
        there = [p for p in paces(one) if p is not None and p.number]
        if not there:
            say_not_run(ax, one.title)
            continue
        colour = COLOURS[one.spec.model.backbone]
        _whiskers(ax, there, [p.by_best for p in there], colour, "o", "best epochs, j / j′")
        matched = [p for p in there if p.by_match is not None]
        _whiskers(
            ax, matched, [p.by_match for p in matched], INK, "D", "until it first matches dense",
            hollow=True,
        )  # fmt: skip
        for p in matched:
            if p.matched < p.runs:
                ax.annotate(
                    f"{p.matched} of {p.runs}", (p.density, p.by_match.mean), (7, 5),
                    textcoords="offset points", fontsize=10, color=INK,
                )  # fmt: skip
        ax.axhline(1, ls="--", lw=1.4, color=GREY, label="as fast as dense")
        ax.set_yscale("log", base=2)
        low, high = ax.get_ylim()
        ax.set_ylim(max(low, 1 / 32), min(high, 32))  # a few wide intervals would squash the rest
        ax.yaxis.set_major_formatter(lambda y, _: f"{y:g}×")
        density_axis(ax, [p.density for p in there])
        ax.set_ylabel("epochs, dense over ticket")
        size = one.spec.model.embedding_size
        ax.set_title(f"{one.title}\nF = {size}, {seeds_said(len(one.seeds))}", loc="left")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, frameon=False)
    return fig


def _whiskers(ax, there: Sequence[Pace], values, colour, marker, label, hollow=False) -> None:
    mean = np.array([v.mean for v in values])
    low, high = (np.nan_to_num([getattr(v, e) for v in values], nan=0.0) for e in ("low", "high"))
    below, above = mean - np.where(low > 0, low, mean), np.where(high > 0, high, mean) - mean
    ax.errorbar(
        [p.density * (1.015 if hollow else 1.0) for p in there], mean, yerr=(below, above),
        color=colour, marker=marker, mfc="none" if hollow else colour, lw=1.6, elinewidth=1.1,
        capsize=3, label=label,
    )  # fmt: skip


def pace_table(field: Field):
    """Every rung: best epochs, epochs to the dense model's best, seconds an epoch; ratios dense
    over ticket."""
    rows = []
    for planned, p in zip(field.rungs[0], paces(field), strict=True):
        row = {"rung": planned.number, "density": planned.density}
        if p is None:
            rows.append(row | {"matches dense": "not run"})
            continue
        rows.append(
            row
            | {
                "best epochs, j / j′": _ratio_said(p.by_best),
                "until it matches": "never" if p.by_match is None else _ratio_said(p.by_match),
                "matches dense": f"{p.matched} of {p.runs}",
                "seconds an epoch": "–" if p.seconds is None else _ratio_said(p.seconds),
                "runs": ", ".join(key[:8] for key in p.keys),
            }
        )
    frame = pd.DataFrame(rows)
    shown = table(
        frame,
        f"{field.title}: training speed, dense over ticket",
        "Above 1 the ticket is faster. In brackets, 95 % intervals over seeds. Seconds are no "
        "measurement of speed: they hold whatever else the machine did meanwhile.",
    ).fmt_percent("density", decimals=1)
    return small_keys(shown) if "runs" in frame else shown


def _ratio_said(d) -> str:
    interval = "" if np.isnan(d.low) else f" ({d.low:.2g} to {d.high:.2g})"
    return f"{d.mean:.2f}{interval}"

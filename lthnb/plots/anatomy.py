"""What a ticket costs and what is inside it: sizes of rows, layers, heat maps, groups, overlaps."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator
from scipy import stats

from lthnb import anatomy
from lthnb.anatomy import SIDES, Opened, Size
from lthnb.plots.style import (
    COLOURS,
    GREY,
    INK,
    MARKERS,
    density_axis,
    panels,
    say_not_run,
    seeds_said,
    small_keys,
    table,
    use_style,
)
from lthnb.standings import Field

HEAT = "coolwarm"  # its middle is grey, so that an entry near zero differs from the blank ground
FIRST = 10  # rows of each side in the heat maps, as in the paper's Figure 7
LONGEST = 22  # letters of a label beside a heat map


def _percent(ax, axis: str = "y") -> None:
    getattr(ax, f"{axis}axis").set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))


def _legend(ax, columns: int = 2, below: float = -0.2) -> None:
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, below), ncols=columns, frameon=False)


def _means_over(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"means over {seeds} seeds"


def _not_run(title: str):
    fig, (ax,) = panels(1, height=1.2)
    say_not_run(ax, title)
    return fig


# --- Complexity ----------------------------------------------------------------------------------


def sizes_figure(fields: Sequence[Field], sizes: Sequence[Sequence[Size | None]]):
    """Entries kept in the fullest and in the mean row against density, one panel a field.

    sizes: :func:`anatomy.sizes` of each field.
    """
    fig, axes = panels(len(fields))
    for ax, field, rungs in zip(axes, fields, sizes, strict=True):
        there = [s for s in rungs if s is not None]
        if not there:
            say_not_run(ax, field.title)
            continue
        density = [s.density for s in there]
        colour, size = COLOURS[field.spec.model.backbone], field.spec.model.embedding_size
        ax.axhline(size, color=GREY, ls="--", lw=1.4, label=f"F = {size}, the dense row")
        for side, marker, ms in (("users", "o", 8), ("items", "s", 5)):
            rows, one = [getattr(s, side) for s in there], side[:-1]
            ax.plot(
                density, [r.fullest for r in rows], "-", marker=marker, ms=ms, color=colour,
                label=f"fullest {one}, $F_{one[0]}^*$",
            )  # fmt: skip
            ax.plot(
                density, [r.mean for r in rows], ":", marker=marker, mfc="none", color=INK,
                label=f"mean {one}",
            )  # fmt: skip
        density_axis(ax, density)
        ax.set_ylim(0, size * 1.08)
        ax.yaxis.set_major_locator(MultipleLocator(max(size // 4, 1)))
        ax.set_ylabel("entries kept in a row")
        ax.set_title(f"{field.title}\n{_means_over(there[0].runs)}", loc="left")
        _legend(ax)
    return fig


def serving_figure(field: Field, rungs: Sequence[Size | None]):
    """Multiply-adds and numbers stored, as shares of the dense model's, against density: the
    paper's formulas beside what is not zero.

    rungs: the field's :func:`anatomy.sizes`.
    """
    there = [s for s in rungs if s is not None]
    if not there:
        return _not_run(field.title)
    density = [s.density for s in there]
    colour = COLOURS[field.spec.model.backbone]
    lines = {
        "Multiply-adds of all scores": [
            ("work_paper", "by the paper's formula", "--", "D", INK),
            ("work_needed", "both factors not zero", "-", "o", colour),
        ],
        "Numbers stored": [
            ("memory_paper", "by the paper's formula", "--", "D", INK),
            ("memory_kept", "the table: entries kept", "-", "o", colour),
        ],
    }
    if anatomy.layers_of(field.spec.model):
        served = ("memory_served", "what is served: after propagation", "-.", "s", GREY)
        lines["Numbers stored"].append(served)
    fig, axes = panels(2)
    for ax, (title, shown) in zip(axes, lines.items(), strict=True):
        for name, label, style, marker, ink in shown:
            value = np.array([getattr(s.costs, name) for s in there])
            if np.isnan(value).all():
                continue
            ax.plot(density, value, style, marker=marker, ms=5, color=ink, label=label)
        density_axis(ax, density)
        ax.set_ylim(0, 1.08)
        _percent(ax)
        ax.set_ylabel("share of the dense model's")
        ax.set_title(f"{title}\n{field.title}", loc="left")
        _legend(ax, below=-0.2)
    return fig


def layers_figure(field: Field, rungs: Sequence[Size | None]):
    """Density of LightGCN's tables after each layer and of their mean, one line a rung.

    rungs: the field's :func:`anatomy.sizes` with data, since a graph is needed.
    """
    there = [s for s in rungs if s is not None and s.layers]
    if not there:
        return _not_run(f"{field.title}: propagation")
    fig, (ax,) = panels(1, height=4.8)
    shades = sns.color_palette("viridis", max(there[-1].number, 1))
    for s in there:
        colour, style = (GREY, "--") if s.number == 0 else (shades[s.number - 1], "-")
        label = "dense" if s.number == 0 else f"table's density {s.density:.1%}"
        ax.plot(range(len(s.layers)), s.layers, style, marker="o", color=colour, label=label)
    names = ["table", *map(str, range(1, len(there[0].layers) - 1)), "served"]
    ax.set_xticks(range(len(names)), names)
    ax.set_xlabel("LightGCN's layer: the table, after each product, their combination")
    ax.set_ylabel("density: share not exactly zero")
    ax.set_ylim(0, 1.05)
    _percent(ax)
    ax.set_title(f"{field.title}\n{_means_over(there[0].runs)}", loc="left")
    _legend(ax, columns=2 if len(there) < 13 else 3)
    return fig


def trained_layers_table(tickets: Sequence[Opened]):
    """How much of the first seed's trained ticket is not exactly zero: of its table, after each
    layer, and of what the model multiplies to score."""
    rows = []
    for ticket in tickets:
        row, model = {"field": ticket.field.title}, ticket.field.spec.model
        if ticket.number is None or not ticket.dense:
            why = "not run" if ticket.number is None else "tables not here"
            rows.append({**row, "seed": why})
            continue
        run = ticket.ticket[0]
        layers = anatomy.layers_of(model)
        by_layer = anatomy.nonzero_by_layer(run.weights(), ticket.data.train, layers)[:-1]
        names = ["table", *(f"layer {k}" for k in range(1, layers + 1))]
        row["seed"] = str(ticket.field.seeds[0])
        row |= {n: layer.mean() for n, layer in zip(names, by_layer, strict=True)}
        row |= {"served": float((run.outputs() != 0).float().mean()), "run": run.key[:8]}
        rows.append(row)
    frame = pd.DataFrame(rows)
    shares = [n for n in frame if n in ("table", "served") or n.startswith("layer")]
    order = ["field", "seed", *sorted(shares, key=lambda n: (n == "served", n != "table", n))]
    frame = frame[[*order, *(n for n in frame if n not in order)]]
    shown = table(
        frame,
        "Entries of the trained ticket that are not exactly zero",
        "As shares of all entries; served: the rows whose inner products are the scores.",
    )
    return shown.fmt_percent(shares, decimals=1) if shares else shown


def sizes_table(field: Field, rungs: Sequence[Size | None]):
    """Every rung's rows and costs; a rung that was not run has its line."""
    rows = []
    for planned, s, standing in zip(field.rungs[0], rungs, field.standings, strict=True):
        if s is None:
            rows.append({"rung": planned.number, "density": planned.density, "runs": "not run"})
            continue
        c = s.costs
        rows.append(
            {
                "rung": s.number,
                "density": s.density,
                "F_u*": s.users.fullest,
                "F_i*": s.items.fullest,
                "mean user": s.users.mean,
                "mean item": s.items.mean,
                "empty users": s.users.empty,
                "empty items": s.items.empty,
                "work, paper": c.work_paper,
                "work, not zero": c.work_needed,
                "numbers, paper": c.memory_paper,
                "numbers, served": c.memory_served,
                "runs": ", ".join(key[:8] for key in standing.keys) if standing else "",
            }
        )
    frame = pd.DataFrame(rows)
    shown = table(
        frame,
        f"{field.title}: sizes of rows, and costs, of every rung",
        f"{_means_over(len(field.seeds)).capitalize()}. F* is the fullest row of "
        f"{field.spec.model.embedding_size} entries. Work: multiply-adds of all scores; numbers: "
        "what is stored; both as shares of the dense model's. – needs a graph that is not here."
        + (f" {field.missing} trainings are not run." if field.missing else ""),
    ).fmt_percent("density", decimals=1)
    if "F_u*" in frame:
        shares = [n for n in frame if n.startswith(("empty", "work", "numbers"))]
        shown = shown.fmt_percent(shares, decimals=1)
        shown = shown.fmt_number(["F_u*", "F_i*", "mean user", "mean item"], decimals=1)
    return small_keys(shown)


# --- Case study ----------------------------------------------------------------------------------


def heat_maps(ticket: Opened):
    """The first ten users and items of the first seed, the dense table above the ticket's, both as
    trained. A pruned entry is blank; the colours of all four are the same, centred at zero."""
    if ticket.number is None or not ticket.dense:
        why = "" if ticket.number is None else ": its tables are not at hand"
        return _not_run(ticket.field.title + why)
    kept, data = ticket.masks[0], ticket.data
    titles = data.item_info.get("title", data.item_labels)
    labels = {"users": data.user_labels[:FIRST], "items": titles[:FIRST]}
    dense, sparse = ticket.dense[0].weights(), ticket.ticket[0].weights()
    parts = [
        (side, name, ticket.side(values, side)[:FIRST])
        for side in SIDES
        for name, values in (
            ("dense", dense),
            (f"ticket, density {ticket.density:.1%}", np.where(kept, sparse, np.nan)),
        )
    ]
    # One colour scale for each side: users' and items' entries need not be of one size.
    reach = {
        side: max(np.nanmax(np.abs(v), initial=1e-12) for s, _, v in parts if s == side)
        for side in SIDES
    }
    use_style()
    fig, axes = plt.subplots(4, 1, figsize=(7.2, 12.4), layout="constrained")
    for ax, (side, name, values) in zip(axes, parts, strict=True):
        image = ax.imshow(
            values, cmap=HEAT, vmin=-reach[side], vmax=reach[side], aspect="auto",
            interpolation="nearest",
        )  # fmt: skip
        ax.grid(False)
        ax.set_yticks(range(len(values)), [_short(label) for label in labels[side]], fontsize=10)
        ax.xaxis.set_major_locator(MultipleLocator(max(values.shape[1] // 8, 1)))
        ax.set_title(f"First {len(values)} {side}: {name}", loc="left")
        fig.colorbar(image, ax=ax, pad=0.02, aspect=12)
    axes[-1].set_xlabel(f"dimension, 0 to {kept.shape[1] - 1}; colour: the entry's value")
    fig.suptitle(f"{ticket.field.title}, seed {ticket.field.seeds[0]}; blank: pruned", x=0.02,
                 ha="left")  # fmt: skip
    return fig


def _short(label: object) -> str:
    text = str(label)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def kept_by_group(tickets: Sequence[Opened]):
    """Mean entries kept a row in groups of about equally many training pairs, over users and over
    items; the band is ± one standard deviation over seeds."""
    there = [t for t in tickets if t.number is not None]
    if not there:
        return _not_run("tickets")
    fig, axes = panels(2)
    for ax, side in zip(axes, SIDES, strict=True):
        for ticket in there:
            name, marker, colour = _look(ticket)
            label = f"{name}, density {ticket.density:.1%}"
            _over_seeds(ax, ticket.kept_by_group(side), label, marker, colour)
            size = ticket.masks[0].shape[1]
            ax.axhline(size * ticket.density, color=colour, ls=":", lw=1.2)
        _group_axis(ax, side)
        ax.set_ylabel(f"entries kept of {size}, mean")
        ax.set_ylim(0, 1.06 * ax.get_ylim()[1])
        ax.set_title(f"{side.capitalize()} (dotted: mean of the whole table)", loc="left")
        _legend(ax, columns=1)
    return fig


def recall_by_group(tickets: Sequence[Opened], side: str):
    """Recall@20 on test by group, dense beside ticket, one panel a ticket; the band is ± one
    standard deviation over seeds. side: `users` or `items`."""
    fig, axes = panels(len(tickets))
    for ax, ticket in zip(axes, tickets, strict=True):
        if ticket.number is None or ("ticket", side) not in ticket.recall:
            why = "" if ticket.number is None else ": its tables are not at hand"
            say_not_run(ax, ticket.field.title + why)
            continue
        _, marker, colour = _look(ticket)
        _over_seeds(ax, ticket.recall["dense", side], "dense model", "D", GREY, "--")
        label = f"ticket, density {ticket.density:.1%}"
        _over_seeds(ax, ticket.recall["ticket", side], label, marker, colour)
        _group_axis(ax, side)
        ax.set_ylim(bottom=0)
        ax.set_ylabel("Recall@20 on test")
        seeds = seeds_said(len(ticket.masks))
        ax.set_title(f"{ticket.field.title}\n{side} by training pairs, {seeds}", loc="left")
        _legend(ax)
    return fig


def _look(ticket: Opened) -> tuple[str, str, str]:
    backbone = ticket.field.spec.model.backbone
    return anatomy.backbone_name(ticket.field), MARKERS[backbone], COLOURS[backbone]


def _over_seeds(ax, values: np.ndarray, label, marker, colour, style="-") -> None:
    """A line of means with its band. values: (seeds, groups)."""
    x, mean = np.arange(values.shape[1]) + 1, values.mean(0)
    ax.plot(x, mean, style, marker=marker, ms=6, color=colour, label=label)
    if len(values) > 1:
        spread = values.std(0, ddof=1)
        ax.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.18, lw=0)


def _group_axis(ax, side: str) -> None:
    words = {"users": ("least active", "most active"), "items": ("rarest", "most popular")}
    ax.xaxis.set_major_locator(MultipleLocator(1))
    first, last = words[side]
    ax.set_xlabel(f"group of {side}, {first} → {last}; each has a tenth of the training pairs")


def groups_table(ticket: Opened, side: str):
    """Each group's rows, entries kept, and Recall@20 of dense and ticket, with the difference
    paired by seed."""
    if ticket.number is None:
        return table(pd.DataFrame({"group": ["not run"]}), f"{ticket.field.title}: {side}")
    degree, groups = anatomy.degrees(ticket.data)[side], ticket.groups[side]
    kept = ticket.kept_by_group(side).mean(0)
    shown_recall = ("ticket", side) in ticket.recall
    rows = []
    for group in range(anatomy.GROUPS):
        members = degree[groups == group]
        row = {"group": group + 1, side: len(members)}
        if not len(members):
            rows.append(row)
            continue
        row |= {"training pairs each": f"{members.min():,} to {members.max():,}"}
        row |= {"kept each": kept[group]}
        if shown_recall:
            d = ticket.recall_difference(side, group)
            row |= {m: ticket.recall[m, side][:, group].mean() for m in ("dense", "ticket")}
            interval = "" if np.isnan(d.low) else f" ({d.low:+.4f} to {d.high:+.4f})"
            row |= {"difference": "not tested" if np.isnan(d.mean) else f"{d.mean:+.4f}{interval}"}
        rows.append(row)
    frame = pd.DataFrame(rows)
    shown = table(
        frame,
        f"{side.capitalize()} in ten groups: {ticket.title}",
        "By training pairs, about equally many in each group, so that few very active or popular "
        f"rows fill the last. Recall@20 on test: {_means_over(len(ticket.masks))}; "
        + (
            "intervals are 95 % (t over seeds)."
            if len(ticket.masks) > 1
            else "one run says nothing about how sure a difference is."
        ),
    ).fmt_number("kept each", decimals=1)
    if shown_recall:
        shown = shown.fmt_number(["dense", "ticket"], decimals=4)
    return shown


def kept_sizes(tickets: Sequence[Opened]):
    """How many rows keep how many entries, beside what as many entries drawn at random would give;
    one panel a ticket, all seeds together."""
    fig, axes = panels(len(tickets))
    for ax, ticket in zip(axes, tickets, strict=True):
        if ticket.number is None:
            say_not_run(ax, ticket.field.title)
            continue
        _, _, colour = _look(ticket)
        size = ticket.masks[0].shape[1]
        x = np.arange(size + 1)
        for side, style, ink in zip(SIDES, ("-", "-."), (colour, INK), strict=True):
            share = np.bincount(ticket.sizes(side).ravel(), minlength=size + 1)
            ax.plot(x, share / share.sum(), style, lw=2, color=ink, label=side)
        random = stats.binom.pmf(x, size, ticket.density)
        ax.plot(x, random, ":", color=GREY, lw=2, label="entries drawn at random")
        ax.set_xlabel(f"entries kept of {size} in a row")
        ax.set_ylabel("share of the rows")
        _percent(ax)
        ax.set_title(f"{ticket.field.title}\ndensity {ticket.density:.1%}", loc="left")
        _legend(ax, columns=3)
    return fig


def columns_figure(tickets: Sequence[Opened]):
    """Share of each column's entries that are kept, first seed, columns in order of it; the band
    holds 95 % of columns where entries are drawn at random."""
    fig, axes = panels(len(tickets))
    for ax, ticket in zip(axes, tickets, strict=True):
        if ticket.number is None:
            say_not_run(ax, ticket.field.title)
            continue
        _, marker, colour = _look(ticket)
        for side, style, ink in zip(SIDES, ("-", "-."), (colour, INK), strict=True):
            kept = ticket.side(ticket.masks[0], side)
            share = np.sort(kept.mean(0))
            x = np.arange(1, len(share) + 1)
            ax.plot(x, share, style, marker=marker, ms=4, color=ink, label=side)
            low, high = stats.binom.interval(0.95, len(kept), kept.mean())
            ax.fill_between(
                x, low / len(kept), high / len(kept), color=ink, alpha=0.18, lw=0,
                label=f"{side}, at random",
            )  # fmt: skip
        ax.set_xlabel("dimension, in order of the share kept (users and items apart)")
        ax.set_ylabel("density of the column")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        ax.set_ylim(bottom=0)
        _percent(ax)
        seed = ticket.field.seeds[0]
        ax.set_title(f"{ticket.field.title}\nseed {seed}, density {ticket.density:.1%}", loc="left")
        _legend(ax)
    return fig


def magnitudes_figure(tickets: Sequence[Opened]):
    """Share of the kept entries among as many of the largest, of the dense table as trained and of
    the start X⁰, against density, beside chance; one panel a ticket's ladder."""
    fig, axes = panels(len(tickets))
    for ax, ticket in zip(axes, tickets, strict=True):
        there = [] if ticket.number is None else anatomy.magnitudes(ticket)
        if not there:
            say_not_run(ax, ticket.field.title)
            continue
        _, marker, colour = _look(ticket)
        density = [k.density for k in there]
        shown = [("start", "largest at the start X⁰", "-.", "s", INK)]
        if there[0].trained.size:
            shown.insert(0, ("trained", "largest in the dense table, trained", "-", marker, colour))
        for name, label, style, mark, ink in shown:
            values = np.stack([getattr(k, name) for k in there], axis=1)
            ax.plot(density, values.mean(0), style, marker=mark, ms=6, color=ink, label=label)
            if len(values) > 1:
                mean, spread = values.mean(0), values.std(0, ddof=1)
                ax.fill_between(
                    density, mean - spread, mean + spread, color=ink, alpha=0.18, lw=0
                )  # fmt: skip
        ax.plot(density, density, "--", color=GREY, lw=1.4, label="chance: the density")
        density_axis(ax, density)
        ax.set_ylim(0, 1.05)
        _percent(ax)
        ax.set_ylabel("share of the kept entries")
        ax.set_title(f"{ticket.field.title}\n{seeds_said(len(ticket.masks))}", loc="left")
        _legend(ax)
    return fig


def removal_table(tickets: Sequence[Opened]):
    """Recall@20 on test of the trained dense models with entries set to zero, nothing trained."""
    rows = []
    for ticket in tickets:
        if ticket.number is None or not ticket.dense:
            why = "not run" if ticket.number is None else "tables not here"
            rows.append({"field": ticket.field.title, "density": why})
            continue
        means = pd.DataFrame(ticket.removals).mean()
        rows.append(
            {
                "field": ticket.field.title,
                "density": f"{ticket.density:.1%}",
                "dense, whole": means["all"],
                "kept entries alone": means["kept alone"],
                "without n kept": means["kept removed"],
                "without n pruned": means["pruned removed"],
            }
        )
    frame = pd.DataFrame(rows)
    shown = table(
        frame,
        "The dense model without some of its entries",
        "Recall@20 on test, means over seeds, nothing trained anew. n is the number of the "
        "ticket's entries, or of the pruned ones where they are fewer.",
    )
    numbers = [n for n in frame if n not in ("field", "density")]
    return shown.fmt_number(numbers, decimals=4) if numbers else shown


def overlap_figure(fields: Sequence[Field]):
    """Entries kept in both of two masks over what is expected, against density: between seeds of a
    field, and between the first two fields seed by seed. Above: expected of independent masks;
    below: of masks whose rows keep as many entries as they do."""
    names = [anatomy.backbone_name(field) for field in fields]
    pairs = [
        (f"{name}: two seeds", field.spec.model.backbone, field, None)
        for name, field in zip(names, fields, strict=True)
    ]
    if len(fields) > 1:
        pairs.append((f"{names[0]} and {names[1]}, same start X⁰", None, *fields[:2]))
    lines = []
    for label, backbone, a, b in pairs:
        found = []
        for number in range(1, len(a.rungs[0])):
            both = (
                anatomy.overlap_between_seeds(a, number)
                if b is None
                else anatomy.overlap_between_fields(a, b, number)
            )
            if both is not None:
                found.append((a.records(number)[0].density, both.chance, both.rows))
        if found:
            lines.append((label, backbone, np.array(found)))
    if not lines:
        return _not_run("two seeds, or two backbones, of one data set")
    fig, axes = panels(2)
    titles = ("… of independent masks", "… of masks with these sizes of rows")
    for at, (ax, title) in enumerate(zip(axes, titles, strict=True), start=1):
        for label, backbone, found in lines:
            colour, marker = COLOURS.get(backbone, INK), MARKERS.get(backbone, "D")
            ax.plot(
                found[:, 0], found[:, at], "-" if backbone else "-.", marker=marker, ms=6,
                color=colour, label=label,
            )  # fmt: skip
        ax.axhline(1, color=GREY, ls="--", lw=1.4, label="no more than expected")
        density_axis(ax, sorted({d for _, _, found in lines for d in found[:, 0]}))
        ax.set_ylim(bottom=0)
        ax.set_ylabel("kept in both over expected")
        ax.set_title(f"Common entries, over those expected\n{title}", loc="left")
        _legend(ax)
    return fig


def inside_table(tickets: Sequence[Opened]):
    """One line a ticket: sizes of rows, their rank correlation with training pairs, columns, and
    overlap between seeds; means over seeds."""
    rows = []
    for ticket in tickets:
        row = {"field": ticket.field.title}
        if ticket.number is None:
            rows.append({**row, "density": "not run"})
            continue
        row |= {"density": f"{ticket.density:.1%}", "seeds": len(ticket.masks)}
        for side in SIDES:
            row[f"kept, {side}"] = ticket.sizes(side).mean()
            row[f"empty, {side}"] = f"{(ticket.sizes(side) == 0).mean():.1%}"
            if ticket.data is not None:
                row[f"Spearman, {side}"] = np.mean(ticket.rank_correlations(side))
        row["uneven columns"] = np.mean([anatomy.scatter(kept) for kept in ticket.masks])
        both = anatomy.overlap_between_seeds(ticket.field, ticket.number)
        if both is not None:
            row |= {"Jaccard": both.jaccard, "to chance": both.chance, "to rows": both.rows}
        rows.append(row)
    frame = pd.DataFrame(rows)
    numbers = [n for n in frame if frame[n].dtype.kind == "f" and n != "seeds"]
    shown = table(
        frame,
        "Inside the tickets",
        "Means over seeds. Kept: entries a row. Spearman: of a row's kept entries with its "
        "training pairs. Uneven columns: variance of their kept counts over a random draw's. "
        "Jaccard, to chance, to rows: entries that two seeds keep in common, over those kept in "
        "either, over those of independent masks, over those of masks with these sizes of rows.",
    )
    return shown.fmt_number(numbers, decimals=2) if numbers else shown


def rows_table(ticket: Opened, n: int = 8):
    """The n items that keep most and the n that keep least, means over seeds, with title and
    genres where the data have them. Of equal ones, those with more training pairs stand here."""
    if ticket.number is None:
        return table(pd.DataFrame({"item": ["not run"]}), f"{ticket.field.title}: items")
    data, kept = ticket.data, ticket.sizes("items").mean(0)
    degree = data.item_degree
    n = min(n, data.items // 2)
    most, least = np.lexsort((-degree, -kept))[:n], np.lexsort((-degree, kept))[:n]
    names = data.item_info.get("title", data.item_labels)
    frame = pd.DataFrame(
        {
            "rows": "largest" if part is most else "smallest",
            "item": str(names[item]),
            **({"genres": str(data.item_info["genres"][item]).replace("|", ", ")}
               if "genres" in data.item_info else {}),
            "training pairs": int(degree[item]),
            "kept": kept[item],
        }
        for part in (most, least)
        for item in part
    )  # fmt: skip
    return table(
        frame,
        f"Items with most and least kept: {ticket.title}",
        f"Entries kept of {ticket.masks[0].shape[1]}, {_means_over(len(ticket.masks))}. "
        "Among equal rows, the items with most training pairs are shown.",
    ).fmt_number("kept", decimals=1)

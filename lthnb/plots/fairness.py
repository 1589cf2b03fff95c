"""Whether the comparison is fair: the dense model over values of a setting, choosing on test, the
noise of seeds, and the causes of a difference to the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lthnb import paper
from lthnb.answers import interval_said
from lthnb.config import Ladder, Spec
from lthnb.plots.style import (
    COLOURS,
    GREY,
    MARKERS,
    STAR,
    density_axis,
    panels,
    say_not_run,
    seeds_said,
    table,
)
from lthnb.selection import Selection, selections
from lthnb.standings import Field, recorded_by_contest
from lthnb.store.runs import Store
from lthnb.tuning import Tuning
from lthnb.verdicts import LEAST_SEEDS

SETTING_NAMES = {"l2": "λ", "learning_rate": "learning rate"}


def tuning_figure(found: Sequence[Tuning]):
    """Recall@20 of the dense model against a setting, on valid and on test, a panel a ladder; a
    star marks the value chosen on valid, the dotted line the ladder's best ticket on test."""
    fig, axes = panels(len(found))
    if not found:
        say_not_run(axes[0], "nothing recorded")
    for ax, one in zip(axes, found, strict=False):
        backbone = one.field.spec.model.backbone
        values = list(one.runs)
        places = range(len(values))  # λ = 0 has no place on a log axis
        for part, style, colour in (("valid", "--", GREY), ("test", "-", COLOURS[backbone])):
            mean = np.array([one.recall(v, part).mean() for v in values])
            ax.plot(
                places, mean, style, marker=MARKERS[backbone], color=colour,
                label=f"dense model on {part}",
            )  # fmt: skip
            if part == "test":
                at = values.index(one.chosen)
                ax.plot(
                    at, mean[at], "*", ms=20, color=STAR, mec="white", zorder=5,
                    label="chosen on valid",
                )  # fmt: skip
        if one.ticket is not None:
            best = one.ticket
            ax.axhline(
                best.results["recall@20"], ls=":", lw=1.8, color=COLOURS[backbone],
                label=f"best ticket on test (density {best.density:.1%})",
            )  # fmt: skip
        names = [f"{v:g}" + "\n(the ladder's)" * (v == one.own) for v in values]
        ax.set_xticks(list(places), names)
        ax.set_xlabel(SETTING_NAMES[one.setting] + " of the dense model")
        ax.set_ylabel("Recall@20")
        ax.set_title(f"{one.field.title}\n{seeds_said(len(one.field.seeds))}", loc="left")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.27), ncols=2, frameon=False)
    return fig


def tuning_table(found: Sequence[Tuning]):
    """A line a ladder: its own dense model, the tuned one, and its best ticket beside both."""
    rows = []
    for one in found:
        values = list(one.runs)
        edge = " (an end of what was tried)" * (one.chosen in (values[0], values[-1]))
        best = one.ticket
        rows.append(
            {
                "model and data": one.field.title,
                "seeds": len(one.field.seeds),
                "its own": one.own,
                "chosen on valid": f"{one.chosen:g}{edge}",
                "tuned to its own": interval_said(one.gain),
                "best ticket": None if best is None else f"{best.density:.1%}",
                "ticket to its own dense": None if best is None else interval_said(best.difference),
                "ticket to tuned dense": None if best is None else interval_said(one.lead),
                "so": one.verdict,
            }
        )
    name = SETTING_NAMES[found[0].setting] if found else "a setting"
    return table(
        pd.DataFrame(rows),
        f"The dense model with {name} tuned on valid",
        "Differences in Recall@20 on test, 95 % intervals over seeds (over users with one seed). "
        "The best ticket and the value are chosen on valid; the ticket keeps the ladder's own.",
    )


def selection_table(ours: Field, found: Sequence[Selection]):
    """A line a density: what is reported when epochs are chosen on test, what the same trainings
    had at the epochs that valid chose, and what a ladder that never looks at test says."""
    rows = [
        {
            "density": one.ours.density,
            "epoch, on test": one.ours.epoch,
            "reported": one.ours.results["recall@20"],
            "epoch, on valid": one.beside.epoch,
            "there": one.at,
            "optimism": one.optimism,
            "to dense, reported": one.ours.difference.mean if one.ours.number else None,
            "to dense, chosen on valid": one.beside.difference.mean if one.ours.number else None,
        }
        for one in found
    ]
    shown = table(
        pd.DataFrame(rows),
        f"{ours.title}: what choosing on test adds",
        f"Recall@20 on test, {seeds_said(len(found[0].ours.records)) if found else 'no run'}. "
        "«there»: the same training at the epoch that valid chose for about the same density, in a "
        "training on seven eighths of its pairs. The last column is that training's own.",
    )
    if not rows:
        return shown
    shown = shown.fmt_percent(["density", "optimism"], decimals=1)
    shown = shown.fmt_percent(
        ["to dense, reported", "to dense, chosen on valid"], decimals=1, force_sign=True
    )
    shown = shown.fmt_number(["epoch, on test", "epoch, on valid"], decimals=0)
    return shown.fmt_number(["reported", "there"], decimals=4)


Causes = Mapping[str, tuple[Ladder, Spec, int]]  # as :func:`profiles.isolating` gives them
CLOSE = 0.001  # a cell of Table 2 is met when we differ by no more


def causes_table(causes: Causes, store: Store):
    """Cells of Table 2 beside the recorded ladder and those that have one thing otherwise: a line a
    cell and metric, a column a cause, with its value and the difference to the paper's."""
    values = _of_causes(causes, store)
    rows = [
        {
            "metric": paper.TITLES[cell.metric],
            "sparsity %": cell.sparsity_percent,
            "paper": cell.value,
            **{cause: _beside(value, cell) for cause, value in of_cell.items()},
        }
        for cell, of_cell in values
    ]
    return table(
        pd.DataFrame(rows),
        "Yelp2018, what could make the difference",
        "Each column has one thing otherwise than the first. In brackets: ours less the paper's.",
    ).fmt_number("paper", decimals=4)


def causes_findings(causes: Causes, store: Store) -> list[str]:
    """Which cells of Table 2 the recorded ladder, the first of the causes, misses by more than
    :data:`CLOSE`, and whether a ladder with one thing otherwise meets them, without missing others;
    then, what such a cell hangs on by the choice of the pruned epoch alone. A sentence each."""
    values = _of_causes(causes, store)
    first, *others = causes
    known = [(c, v) for c, v in values if v[first] is not None]
    off = [(c, v) for c, v in known if abs(v[first] - c.value) > CLOSE]
    if not known:
        return ["The ladder of Table 2 is not recorded."]
    cells = ", ".join(f"{paper.TITLES[c.metric]} at {c.sparsity_percent} %" for c, _ in off)
    found = [f"Of {len(known)} cells, we miss {len(off)} by more than {CLOSE}: {cells or '–'}."]
    for cause in others if off else ():
        there = [(c, v[cause]) for c, v in off if v[cause] is not None]
        if not there:
            found.append(f"{cause.capitalize()}: not run.")
            continue
        said = ", ".join(f"{v - c.value:+.4f}" for c, v in there)
        whole = [v[cause] - c.value for c, v in known if v[cause] is not None]
        missed = sum(abs(difference) > CLOSE for difference in whole)
        found.append(
            f"{cause.capitalize()}: {said}, which {'does not explain' if missed else 'explains'} "
            f"it; it misses {missed} of {len(whole)} cells, by {max(map(abs, whole)):.4f} at most."
        )
    return found + _by_pruned_epoch(causes, off)


def _by_pruned_epoch(
    causes: Causes, cells: Sequence[tuple[paper.Cell, dict[str, float | None]]]
) -> list[str]:
    """What cells come to under the first of the causes and those that prune another epoch's
    weights, and whether the paper's value lies between. A sentence a cell with two such runs."""
    found = []
    first, *others = causes
    pruned = [c for c in others if causes[c][0].prune_from != causes[first][0].prune_from]
    for cell, of_cell in cells:
        there = [of_cell[cause] for cause in (first, *pruned) if of_cell[cause] is not None]
        if len(there) > 1:
            low, high = min(there), max(there)
            where = "within" if low <= cell.value <= high else "outside"
            found.append(
                f"By which epoch's weights are pruned alone, {paper.TITLES[cell.metric]} at "
                f"{cell.sparsity_percent} % comes to {low:.4f} to {high:.4f}: the paper's "
                f"{cell.value:.4f} lies {where}."
            )
    return found


def _of_causes(causes: Causes, store: Store) -> list[tuple[paper.Cell, dict[str, float | None]]]:
    """Each cell of Yelp2018 in Table 2 with its value under each cause, None where not run."""
    found = recorded_by_contest([(ladder, spec) for ladder, spec, _ in causes.values()], store)
    fields = {}
    for cause, (ladder, spec, seed) in causes.items():
        of_seed = (one.with_seeds([seed]) for one in found[ladder, spec] if seed in one.seeds)
        fields[cause] = next(of_seed, None)
    _, spec, _ = next(iter(causes.values()))
    cells = (
        c for c in paper.TABLE2 if (c.dataset, c.backbone) == ("yelp2018", spec.model.backbone)
    )
    return [(c, {cause: _at_cell(one, c) for cause, one in fields.items()}) for c in cells]


def _at_cell(one: Field | None, cell: paper.Cell) -> float | None:
    there = [] if one is None else [s for s in one.standings if s is not None]
    return next(
        (s.results[cell.metric] for s in there if abs(s.density - cell.density) < 5e-4), None
    )


def _beside(value: float | None, cell: paper.Cell) -> str:
    return "not run" if value is None else f"{value:.4f} ({value - cell.value:+.4f})"


def protocols_table(found: Sequence[tuple[Field, Field]]):
    """A line for each ladder run under both protocols: what choosing on test adds to the dense
    model and to tickets, and what each protocol then says of tickets."""
    rows = []
    for ours, beside in found:
        both = selections(ours, beside)
        dense = [one.optimism for one in both if not one.ours.number]
        tickets = [one.optimism for one in both if one.ours.number]
        stars = [one.sparsest for one in (ours, beside)]
        rows.append(
            {
                "model and data": f"{beside.title}, {seeds_said(len(both[0].ours.records))}"
                if both
                else beside.title,
                "optimism, dense": f"{dense[0]:+.1%}" if dense else None,
                "optimism, tickets": f"{np.mean(tickets):+.1%}" if tickets else None,
                "best ticket, on test": _best_said(ours),
                "best ticket, on valid": _best_said(beside),
                "sparsest winner, on test": f"{stars[0].density:.1%}" if stars[0] else "none",
                "sparsest winner, on valid": f"{stars[1].density:.1%}" if stars[1] else "none",
            }
        )
    return table(
        pd.DataFrame(rows),
        "Choosing on test against choosing on valid",
        "Optimism: Recall@20 on test at the epoch chosen on test, over that at the epoch which a "
        "training under `validated` chose for about the same density; tickets: the mean over "
        "rungs. Best ticket: its difference to dense on test.",
    )


def _best_said(one: Field) -> str | None:
    return None if one.best is None else interval_said(one.best.difference)


def effects_table(fields: Sequence[Field]):
    """A line a ladder: how much the dense model differs from seed to seed, and the gain of its best
    ticket beside that."""
    rows = []
    for one in fields:
        dense, best = one.standings[0], one.best
        if dense is None or best is None:
            continue
        noise = dense.spread / dense.results["recall@20"] if dense.runs > 1 else None
        rows.append(
            {
                "model and data": one.title,
                "seeds": dense.runs,
                "dense, Recall@20": dense.results["recall@20"],
                "one seed to another": noise,
                "best ticket": best.density,
                "its gain": interval_said(best.difference),
                "gain over noise": f"{abs(best.difference.mean) / noise:.1f}" if noise else None,
                "sparsest winner": f"{one.sparsest.density:.1%}" if one.sparsest else "none",
            }
        )
    shown = table(
        pd.DataFrame(rows),
        "How large the effects are, beside the noise of seeds",
        "Recall@20 on test. «one seed to another»: standard deviation of the dense model over "
        "seeds, relative to its mean. Tickets by IMP, the best and the sparsest winner chosen on "
        "the part that chose the epochs.",
    )
    if not rows:
        return shown
    shown = shown.fmt_number("dense, Recall@20", decimals=4)
    return shown.fmt_percent(["one seed to another", "best ticket"], decimals=1)


def overview_figure(fields: Sequence[Field], columns: int = 1):
    """Every ladder, a panel a data set, in some columns: Recall@20 on test to its own dense model,
    against density. Bands are 95 % intervals over seeds, where there are three or more."""
    there = [one for one in fields if one.best is not None]
    names = list(dict.fromkeys(one.source for one in there))
    fig, axes = panels(len(names), columns=columns)
    if not there:
        say_not_run(axes[0], "nothing recorded")
    for ax in axes[max(len(names), 1) :]:
        ax.set_visible(False)
    for name, ax in zip(names, axes, strict=False):
        densities: set[float] = set()
        for one in (one for one in there if one.source == name):
            rungs = [s for s in one.standings if s is not None]
            density = [s.density for s in rungs]
            densities |= set(density)
            mean, low, high = (
                np.array([100 * getattr(s.difference, end) for s in rungs])
                for end in ("mean", "low", "high")
            )
            label = f"{one.title.replace(f' on {name}', '', 1)}, {seeds_said(len(one.seeds))}"
            backbone = one.spec.model.backbone
            usual = one.spec.training.protocol == "validated" and one.has_usual_batches
            ax.plot(
                density, mean, color=COLOURS[backbone], marker=MARKERS[backbone], ms=5,
                ls="-" if usual else ":", mfc=None if usual else "none", label=label,
            )  # fmt: skip
            if len(one.seeds) >= LEAST_SEEDS:
                ax.fill_between(density, low, high, color=COLOURS[backbone], alpha=0.12, lw=0)
        ax.axhline(0, ls="--", lw=1.4, color=GREY, label="the dense model of each")
        density_axis(ax, sorted(densities))
        ax.set_ylabel("Recall@20 on test, to dense (%)")
        ax.set_title(name, loc="left")
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), frameon=False)
    return fig

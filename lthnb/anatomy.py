"""What is inside a ticket: where its entries stand, what it costs, and whom it serves.

Everything here is worked out from masks, from trained tables where they are at hand, and from the
training pairs. Nothing is trained; a table that was recorded elsewhere is computed again only where
that is asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from scipy import stats

from lthnb.config import ConfigError, Model
from lthnb.data import GROUPS, Interactions, Shape, popularity_groups, to_csr
from lthnb.evaluation import TOP, Hits, evaluate, rank
from lthnb.models import adjacency
from lthnb.replays import reopen
from lthnb.sampling import initial_table
from lthnb.standings import BACKBONE_NAMES, Field
from lthnb.steps import new_step
from lthnb.stream import stream_bits
from lthnb.training import Control, TrainedRun
from lthnb.verdicts import Interval, t_interval

SIDES = ("users", "items")


# --- Complexity (§3.5) ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """The kept sizes of one side's rows. fullest: F*, the most entries kept in a row (§3.5). mean:
    entries kept a row. empty: share of the rows that keep nothing."""

    fullest: float
    mean: float
    empty: float


def row_sizes(kept: np.ndarray) -> Rows:
    """Of a side's part of a mask, bool (rows, F)."""
    sizes = kept.sum(1)
    return Rows(float(sizes.max()), float(sizes.mean()), float((sizes == 0).mean()))


def nonzero_by_layer(table: np.ndarray, train: sp.csr_matrix, layers: int) -> list[np.ndarray]:
    """Where LightGCN's tables are not exactly zero: layers 0 to K, then their combination, each
    bool (users + items, F).

    table: (users + items, F), a trained table, or a mask, which gives the same where every kept
    entry is a number other than zero. train: users × items.
    """
    a = adjacency(train)
    layer = total = np.asarray(table, np.float64)
    out = [layer != 0]
    for _ in range(layers):
        layer = a @ layer
        total = total + layer
        out.append(layer != 0)
    return [*out, total != 0]


def layers_of(model: Model) -> int:
    """K, the layers through which a backbone spreads its table before it scores.

    Raises ConfigError for a backbone of which that is not known here.
    """
    known = {"mf": 0, "lightgcn": model.layers}
    if model.backbone not in known:
        raise ConfigError(
            f"backbone: found {model.backbone!r}, expected {' or '.join(known)}: what serving "
            "costs is counted layer by layer; add the backbone to anatomy.layers_of."
        )
    return known[model.backbone]


@dataclass(frozen=True)
class Costs:
    """What serving a ticket costs, each as a share of what the dense model costs.

    work_paper: multiply-adds by the formula of §3.5; work_needed: those in which both factors are
    not zero, for all M·N scores and LightGCN's propagation (nan where that needs a graph that is
    not at hand). memory_paper: numbers stored by §3.5's formula; memory_kept: the table's kept
    entries; memory_served: entries, not zero, of the tables whose rows are multiplied (LightGCN's
    are propagated; nan as above).
    """

    work_paper: float
    work_needed: float
    memory_paper: float
    memory_kept: float
    memory_served: float


def costs(
    kept: np.ndarray,
    users: int,
    model: Model,
    pairs: int,
    train: sp.csr_matrix | None = None,
    by_layer: Sequence[np.ndarray] = (),
) -> Costs:
    """The costs of a mask, bool (users + items, F).

    users: M, rows that are users'. pairs: training pairs, so that ‖A‖₀ = 2 · pairs. train: those
    pairs, users × items, or None where they are not at hand. by_layer: the mask's
    :func:`nonzero_by_layer` where it is known already.
    """
    rows, size = kept.shape
    items = rows - users
    fullest = [row_sizes(kept[:users]).fullest, row_sizes(kept[users:]).fullest]
    layers = layers_of(model)
    spread = layers * 2 * pairs
    dense = (spread + users * items) * size
    served, propagation = kept, 0.0
    if layers and train is None:
        needed = memory = float("nan")
    else:
        if layers:
            *before, _, served = by_layer or nonzero_by_layer(kept, train, layers)
            degree = np.concatenate(
                (np.diff(train.indptr), np.bincount(train.indices, minlength=items))
            )
            # Each entry of a layer goes to every neighbour of its row once.
            propagation = float(sum(degree @ layer.sum(1) for layer in before))
        # Σ over pairs of their common dimensions = Σ over dimensions of users' times items' counts.
        common = served[:users].sum(0).astype(float) @ served[users:].sum(0)
        needed = (propagation + float(common)) / dense
        memory = served.sum() / (rows * size)
    return Costs(
        work_paper=(spread + users * items) * min(fullest) / dense,
        work_needed=needed,
        memory_paper=(users * fullest[0] + items * fullest[1]) / (rows * size),
        memory_kept=kept.sum() / (rows * size),
        memory_served=float(memory),
    )


@dataclass(frozen=True)
class Size:
    """One rung's sizes and costs, means over its `runs` seeds. layers: density of LightGCN's
    tables, layers 0 to K and their combination; empty for MF and where there is no graph."""

    number: int
    density: float
    runs: int
    users: Rows
    items: Rows
    costs: Costs
    layers: tuple[float, ...] = ()


def sizes(field: Field, data: Interactions | None = None) -> list[Size | None]:
    """The :class:`Size` of every rung, None where one was not run with every seed.

    data: as the field was climbed on; without it, what LightGCN needs a graph for is left out.
    """
    return [size_of(field, number, data) for number in range(len(field.rungs[0]))]


def size_of(field: Field, number: int, data: Interactions | None = None) -> Size | None:
    """The :class:`Size` of one rung, None where it was not run with every seed."""
    records = field.records(number)
    if records is None:
        return None
    model = field.spec.model
    users, pairs = records[0].data["users"], records[0].data["train"]
    train = None if data is None else data.train
    masks = masks_of(field, number)
    spread: list = [()] * len(masks)
    if layers_of(model) and train is not None:
        spread = [nonzero_by_layer(kept, train, model.layers) for kept in masks]
    layers = zip(*[[layer.mean() for layer in by_layer] for by_layer in spread], strict=True)
    return Size(
        number,
        records[0].density,
        len(records),
        _mean(Rows, [row_sizes(kept[:users]) for kept in masks]),
        _mean(Rows, [row_sizes(kept[users:]) for kept in masks]),
        _mean(
            Costs,
            [costs(m, users, model, pairs, train, s) for m, s in zip(masks, spread, strict=True)],
        ),
        tuple(float(np.mean(of_layer)) for of_layer in layers),
    )


def _mean(kind: type, values: Sequence) -> object:
    """The mean of equal dataclasses of numbers, field by field."""
    names = kind.__dataclass_fields__
    return kind(**{n: float(np.mean([getattr(v, n) for v in values])) for n in names})


def masks_of(field: Field, number: int) -> tuple[np.ndarray, ...]:
    """The masks of a rung, bool (users + items, F), one a seed; they are fetched, not computed."""
    return tuple(rungs[number].mask.kept for rungs in field.rungs)


def cost_finding(field: Field, there: Sequence[Size | None]) -> str:
    """What §3.5 comes to for the ticket to take home, in sentences that name their numbers.

    there: the field's :func:`sizes`.
    """
    if field.standings[0] is None:
        return f"{field.title}: not run yet ({field.missing} trainings missing)."
    size = there[field.to_take_home]
    f, c = field.spec.model.embedding_size, size.costs
    text = (
        f"{field.title}: the ticket that we would take home keeps {size.density:.1%} of the "
        f"entries. Its fullest rows keep {size.users.fullest:.3g} (users) and "
        f"{size.items.fullest:.3g} (items) of {f}, its mean rows {size.users.mean:.1f} and "
        f"{size.items.mean:.1f}; {size.users.empty:.1%} of the users and {size.items.empty:.1%} of "
        f"the items keep nothing. The paper's formulas promise {c.work_paper:.1%} of the dense "
        f"model's multiply-adds and {c.memory_paper:.1%} of its numbers"
    )
    if np.isnan(c.work_needed):
        return text + f"; the table has {c.memory_kept:.1%}."
    text += (
        f"; the multiply-adds whose factors are not zero are {c.work_needed:.1%}"
        + (", more than the formula allows" if c.work_needed > c.work_paper else "")
        + f", and the table has {c.memory_kept:.1%} of the numbers."
    )
    if size.layers:
        text += (
            f" After its first layer {size.layers[1]:.1%} of LightGCN's table are not zero, and "
            f"{c.memory_served:.1%} of the one that is served."
        )
    return text


# --- A rung, opened ------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Opened:
    """One rung of a field, opened: its masks, and where they are at hand, its runs.

    number: of the rung, None where it was not run with every seed. masks: bool (users + items, F),
    one a seed. data: None where only masks are looked at. dense, ticket: runs whose tables are at
    hand, one a seed; empty where they are not.
    """

    field: Field
    number: int | None
    masks: tuple[np.ndarray, ...] = ()
    data: Interactions | None = None
    dense: tuple[TrainedRun, ...] = ()
    ticket: tuple[TrainedRun, ...] = ()

    @property
    def density(self) -> float:
        """Share of the entries kept."""
        return float(self.masks[0].mean())

    @cached_property
    def users(self) -> int:
        """Rows of the table that are users'."""
        return Shape.of(self.field.rungs[0][0].record.data).users

    @property
    def title(self) -> str:
        """Backbone, data and density."""
        return f"{self.field.title}, density {self.density:.1%}"

    def side(self, kept: np.ndarray, side: str) -> np.ndarray:
        """The users' or the items' rows of a table or mask."""
        return kept[: self.users] if side == "users" else kept[self.users :]

    def sizes(self, side: str) -> np.ndarray:
        """Entries kept in each row, (seeds, rows of the side)."""
        return np.stack([self.side(kept, side).sum(1) for kept in self.masks])

    @cached_property
    def groups(self) -> dict[str, np.ndarray]:
        """Side → the group of each row by its training pairs, 0 for the rarest."""
        return {side: popularity_groups(degree) for side, degree in degrees(self.data).items()}

    def kept_by_group(self, side: str) -> np.ndarray:
        """Mean entries kept a row, (seeds, groups); nan for a group without a row."""
        return np.stack([group_means(row, self.groups[side]) for row in self.sizes(side)])

    @cached_property
    def recall(self) -> dict[tuple[str, str], np.ndarray]:
        """(model, side) → Recall@20 on test by group, (seeds, groups), where model is `dense` or
        `ticket`.

        Over users, the mean of the users' own; over items, hits on test pairs with an item of the
        group over all such test pairs. Where the tables are not at hand there is none over items.
        """
        out = {}
        for model, number in (("dense", 0), ("ticket", self.number)):
            hits = [record.hits() for record in self.field.records(number)]
            groups = self.groups["users"]
            out[model, "users"] = np.stack([recall_by_user_group(h, groups) for h in hits])
            runs = getattr(self, model)
            if runs:
                groups = self.groups["items"]
                out[model, "items"] = np.stack([recall_by_item_group(r, groups) for r in runs])
        return out

    def recall_difference(self, side: str, group: int) -> Interval:
        """Ticket less dense in a group's Recall@20, paired by seed.

        Not relative, as elsewhere: where hardly anything is hit, a ratio says nothing.
        """
        pairs = self.recall["ticket", side] - self.recall["dense", side]
        return t_interval(pairs[:, group])

    def rank_correlations(self, side: str) -> np.ndarray:
        """Spearman's correlation of a row's kept entries with its training pairs, (seeds,)."""
        degree = degrees(self.data)[side]
        return np.array([rank_correlation(row, degree) for row in self.sizes(side)])

    @cached_property
    def removals(self) -> list[dict[str, float]]:
        """:func:`without` of each seed's dense model and mask."""
        pairs = zip(self.dense, self.masks, self.field.seeds, strict=True)
        return [without(run, kept, seed) for run, kept, seed in pairs]


def opened(
    field: Field,
    data: Interactions | None = None,
    control: Control | None = None,
    *,
    rung: int = -1,
    replay: bool = True,
) -> Opened:
    """Open a rung of a field, or say by its `number` of None that it was not run.

    data: as the field was climbed on; None for what masks alone tell. control: where the tables
    are. rung: −1 for the ticket to take home. replay: whether a table that is not in the store is
    computed again. Raises ConfigError for a rung that the ladder does not have.
    """
    last = len(field.rungs[0]) - 1
    if not -1 <= rung <= last:
        raise ConfigError(
            f"rung: found {rung}, expected −1 (the ticket to take home) or 0 … {last}, the rungs "
            f"of {field.title}."
        )
    number = rung
    if rung < 0 and field.standings[0] is not None:
        number = field.to_take_home
    if field.standings[0] is None or field.standings[number] is None:
        return Opened(field, None, data=data)
    masks = masks_of(field, number)
    dense, ticket = (), ()
    if data is not None and control is not None:
        runs = [
            tuple(reopen(row[n].record, data, control) for n in (0, number)) for row in field.rungs
        ]
        find = control.store.find_weights
        for run in itertools.chain(*runs) if replay else ():
            run.ensure_weights()
        if all(find(r.key, "best") is not None for r in itertools.chain(*runs)):
            dense, ticket = zip(*runs, strict=True)
    return Opened(field, number, masks, data, dense, ticket)


# --- Groups of users and items -------------------------------------------------------------------


def degrees(data: Interactions) -> dict[str, np.ndarray]:
    """Side → training pairs of each row."""
    return {"users": data.user_degree, "items": data.item_degree}


def group_means(values: np.ndarray, groups: np.ndarray, count: int = GROUPS) -> np.ndarray:
    """The mean of each group, (count,); nan where a group is empty.

    values: one a row; groups: the group of each row, 0 … count − 1.
    """
    rows = np.bincount(groups, minlength=count)
    total = np.bincount(groups, weights=values, minlength=count)
    return np.divide(total, rows, out=np.full(count, np.nan), where=rows > 0)


def recall_by_user_group(hits: Hits, groups: np.ndarray, k: int = TOP) -> np.ndarray:
    """Recall@k, the mean over the tested users of each group, (groups,).

    groups: the group of every user, tested or not.
    """
    return group_means(hits.per_user("recall", k), groups[hits.users])


def recall_by_item_group(run: TrainedRun, groups: np.ndarray, k: int = TOP) -> np.ndarray:
    """Test pairs with an item of a group that are among their user's k best, over all test pairs
    with such an item, (groups,); nan where there is none.

    groups: the group of every item.
    """
    data, outputs = run.data, run.outputs()
    best = rank(outputs[: data.users], outputs[data.users :], data.known, k)
    return hit_share(best, data.test, groups)


def hit_share(
    best: np.ndarray, test: sp.csr_matrix, groups: np.ndarray, count: int = GROUPS
) -> np.ndarray:
    """As :func:`recall_by_item_group`, of recommended items, int (users, k), −1 for none."""
    user, place = np.nonzero(best >= 0)
    hit = to_csr(user, best[user, place], test.shape).multiply(test).tocsr().indices
    found = np.bincount(groups[hit], minlength=count)
    there = np.bincount(groups[test.indices], minlength=count)
    return np.divide(found, there, out=np.full(count, np.nan), where=there > 0)


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's; nan where one of the two is the same everywhere."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(stats.spearmanr(a, b).statistic)


# --- Which entries -------------------------------------------------------------------------------


def scatter(kept: np.ndarray) -> float:
    """How unevenly the columns are kept: the variance of their kept counts over that of a binomial
    draw with the mask's density. About 1 where columns do not matter; nan for a mask of all or
    nothing, and for a single column.

    kept: bool (rows, F).
    """
    p = kept.mean()
    if p in (0, 1) or kept.shape[1] < 2:
        return float("nan")
    return float(kept.sum(0).var(ddof=1) / (len(kept) * p * (1 - p)))


def among_largest(kept: np.ndarray, table: np.ndarray) -> float:
    """Share of the kept entries that are among the table's largest in magnitude, of which as many
    are taken as are kept. By chance it is the mask's density.

    kept: bool (rows, F), table: (rows, F).
    """
    count = int(kept.sum())
    if count == 0:
        return float("nan")
    largest = np.argpartition(-np.abs(table).reshape(-1), count - 1)[:count]
    return float(kept.reshape(-1)[largest].mean())


@dataclass(frozen=True)
class Overlap:
    """How far two masks keep the same entries.

    jaccard: kept in both over kept in either. chance: kept in both, over what is expected of two
    independent masks of these densities; rows: over what is expected where each row keeps as many
    entries as it does, in columns drawn at random. 1 is no more than that.
    """

    jaccard: float
    chance: float
    rows: float


def overlap(a: np.ndarray, b: np.ndarray) -> Overlap:
    """Of two masks, bool (rows, F); nan where nothing is expected in both."""
    both = float((a & b).sum())
    by_rows = float(a.sum(1).astype(float) @ b.sum(1) / a.shape[1])
    by_chance = float(a.sum()) * float(b.sum()) / a.size
    either = float((a | b).sum())

    def over(expected: float) -> float:
        return both / expected if expected else float("nan")

    return Overlap(over(either), over(by_chance), over(by_rows))


def mean_overlap(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Overlap | None:
    """The mean :class:`Overlap` of pairs of masks, None where there is no pair."""
    return _mean(Overlap, [overlap(a, b) for a, b in pairs]) if pairs else None


def overlap_between_seeds(field: Field, number: int) -> Overlap | None:
    """Of every two seeds of a rung; None with one seed, or where it was not run."""
    if field.records(number) is None:
        return None
    return mean_overlap(list(itertools.combinations(masks_of(field, number), 2)))


def overlap_between_fields(a: Field, b: Field, number: int) -> Overlap | None:
    """Of one rung of two fields, such as two backbones, seed by seed; None where it was not run in
    both, or their tables differ in size."""
    if number >= min(len(a.rungs[0]), len(b.rungs[0])) or a.seeds != b.seeds:
        return None
    if a.records(number) is None or b.records(number) is None:
        return None
    pairs = list(zip(masks_of(a, number), masks_of(b, number), strict=True))
    return mean_overlap(pairs) if pairs[0][0].shape == pairs[0][1].shape else None


@dataclass(frozen=True)
class Kept:
    """Where a rung's kept entries come from, (seeds,) each: their share among the largest of X⁰
    (`start`), and of the dense model as trained (`trained`; empty where its table is not at hand).
    """

    number: int
    density: float
    start: np.ndarray
    trained: np.ndarray


def magnitudes(ticket: Opened, numbers: Sequence[int] | None = None) -> list[Kept]:
    """:class:`Kept` of every rung that was run, or of some; rung 0 is left out."""
    field, out = ticket.field, []
    trained = [run.weights() for run in ticket.dense]
    starts = []
    for number in range(1, len(field.rungs[0])) if numbers is None else numbers:
        records = field.records(number) if number else None
        if records is None:
            continue
        masks = masks_of(field, number)
        starts = starts or [initial_table(s, *masks[0].shape) for s in field.seeds]
        shares = [
            np.array([among_largest(k, t) for k, t in zip(masks, tables, strict=False)])
            for tables in (starts, trained)
        ]
        out.append(Kept(number, records[0].density, *shares))
    return out


def without(dense: TrainedRun, kept: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Recall@20 on test of a dense model as trained, and with entries set to zero, nothing trained.

    kept: a ticket's mask, bool (rows, F). `all`: the model as it is. `kept alone`: the ticket's
    entries alone. `kept removed` and `pruned removed`: without n of the kept, and without n of the
    pruned entries, drawn at random by `seed`; n is the smaller of the two numbers.
    """
    order = np.argsort(stream_bits(seed, "removed", np.arange(kept.size)))
    flat = kept.reshape(-1)[order]
    count = min(int(flat.sum()), int((~flat).sum()))
    out = {"all": np.ones(kept.size, bool), "kept alone": kept.reshape(-1)}
    for name, of in (("kept removed", flat), ("pruned removed", ~flat)):
        left = np.ones(kept.size, bool)
        left[order[of][:count]] = False
        out[name] = left
    return {name: _recall(dense, left.reshape(kept.shape)) for name, left in out.items()}


def _recall(run: TrainedRun, left: np.ndarray) -> float:
    step = new_step(run.spec, run.data, run.weights() * left, left, run.control.device)
    return evaluate(step.outputs(), run.data, "test").means()["recall@20"]


# --- In words ------------------------------------------------------------------------------------


def finding(ticket: Opened) -> str:
    """What a ticket shows when it is opened, in sentences that name their numbers: a Markdown line,
    and under it a list, one entry a sentence."""
    field = ticket.field
    if ticket.number is None:
        return f"{field.title}: not run yet ({field.missing} trainings missing)."
    seeds = len(ticket.masks)
    said = [f"{ticket.title} ({'one seed' if seeds == 1 else f'{seeds} seeds'}):"]
    users, items = (ticket.sizes(side) for side in SIDES)
    said.append(
        f"A user keeps {users.mean():.1f} entries of {ticket.masks[0].shape[1]} on the average, an "
        f"item {items.mean():.1f}; {(users == 0).mean():.1%} of the users and "
        f"{(items == 0).mean():.1%} of the items keep none."
    )
    uneven = np.mean([scatter(kept) for kept in ticket.masks])
    if not np.isnan(uneven):
        columns = ticket.masks[0].mean(0)
        said.append(
            f"A column keeps between {columns.min():.1%} and {columns.max():.1%} of its entries "
            f"(seed {field.seeds[0]}); the columns' counts have {uneven:.3g} times the variance of "
            "a random draw's."
        )
    for here in magnitudes(ticket, [ticket.number]):
        said.append(
            f"{np.mean(here.start):.1%} of the kept entries are among as many of the largest of "
            f"their own start X⁰, where chance gives {here.density:.1%}"
            + (
                f", and {np.mean(here.trained):.1%} among the largest of the dense model as trained"
                if here.trained.size
                else ""
            )
            + "."
        )
    if ticket.data is not None:
        said += _by_popularity(ticket)
    if ticket.dense and ticket.number:
        said.append(_removal_said(ticket))
    both = overlap_between_seeds(field, ticket.number)
    if both is not None and ticket.number:
        said.append(
            f"Two seeds keep {both.chance:.2f} times as many entries in common as chance gives, "
            f"and {both.rows:.2f} times as many as the sizes of the rows alone do."
        )
    return "\n  - ".join(said)


def _by_popularity(ticket: Opened) -> list[str]:
    said = []
    words = (("users", "most active", "least active"), ("items", "most popular", "rarest"))
    for side, most, least in words:
        kept = ticket.kept_by_group(side).mean(0)
        there = np.flatnonzero(~np.isnan(kept))
        rho = np.mean(ticket.rank_correlations(side))
        ranks = "" if np.isnan(rho) else f" (Spearman {rho:+.2f} over all)"
        said.append(
            f"The {most} {side} keep {kept[there[-1]]:.1f} entries each, the {least} "
            f"{kept[there[0]]:.1f}{ranks}."
        )
        if ticket.number and ("ticket", side) in ticket.recall:
            ends = [_recall_said(ticket, side, group) for group in (there[-1], there[0])]
            said.append(
                f"Recall@20 of the {most} {side} is {ends[0]}; of the {least} it is {ends[1]}."
            )
    return said


def _recall_said(ticket: Opened, side: str, group: int) -> str:
    d = ticket.recall_difference(side, group)
    if np.isnan(d.mean):
        return "not known, as none is tested"
    dense, here = (ticket.recall[model, side][:, group].mean() for model in ("dense", "ticket"))
    interval = "" if np.isnan(d.low) else f"; 95 % interval {d.low:+.4f} to {d.high:+.4f}"
    return f"{here:.4f} against {dense:.4f} dense ({d.mean:+.4f}{interval})"


def _removal_said(ticket: Opened) -> str:
    mean = {name: np.mean([r[name] for r in ticket.removals]) for name in ticket.removals[0]}
    more = "more" if mean["kept removed"] < mean["pruned removed"] else "no more"
    return (
        f"Set to zero in the trained dense model, kept entries cost {more} than as many pruned "
        f"ones: of a Recall@20 of {mean['all']:.4f}, {mean['kept removed']:.4f} is left without "
        f"the one and {mean['pruned removed']:.4f} without the other."
    )


def shared_finding(a: Opened, b: Opened) -> str:
    """What two backbones' tickets of one rung have in common, in a sentence; empty where there is
    no such rung."""
    if a.number is None or a.number != b.number or not a.number:
        return ""
    both = overlap_between_fields(a.field, b.field, a.number)
    if both is None:
        return ""
    return (
        f"{backbone_name(a.field)} and {backbone_name(b.field)}, started from the same X⁰, keep "
        f"{both.chance:.2f} times as many entries in common as chance gives at density "
        f"{a.density:.1%}, and {both.rows:.2f} times as many as the sizes of the rows alone do."
    )


def backbone_name(field: Field) -> str:
    """The backbone's name, to label a line."""
    return BACKBONE_NAMES[field.spec.model.backbone]

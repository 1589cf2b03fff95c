"""What a mask keeps, what serving it costs, and whom a ticket serves: plain functions of masks,
trained tables and hits. Nothing is trained here."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from lthnb import stats
from lthnb.config import PROPAGATING, ConfigError, Model
from lthnb.data import DataError, popularity_groups, to_csr
from lthnb.experiments import running, selection
from lthnb.kept import TrainedRun
from lthnb.kernels import new_step
from lthnb.kernels.ranking import evaluate, rank
from lthnb.metrics import TOP
from lthnb.models import adjacency
from lthnb.rng import stream_bits
from lthnb.sampling import initial_table
from lthnb.store.files import say
from lthnb.store.runs import Store


def row_sizes(kept: np.ndarray) -> dict[str, float]:
    """Of the users' or the items' part of a mask, bool (rows, F): `fullest`, F*, the most entries
    kept in a row (§3.5); their `mean`; and the share of the rows that keep none (`empty`)."""
    sizes = kept.sum(1)
    found = {"fullest": sizes.max(), "mean": sizes.mean(), "empty": (sizes == 0).mean()}
    return {name: float(value) for name, value in found.items()}


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


def costs(
    kept: np.ndarray,
    users: int,
    model: Model,
    pairs: int,
    train: sp.csr_matrix | None = None,
) -> dict[str, float]:
    """What serving a ticket costs, each as a share of what the dense model costs. `work_paper`:
    multiply-adds by the formula of §3.5; `work_needed`: those in which both factors are not zero,
    for all M·N scores and LightGCN's propagation (nan where that needs a graph that is not at
    hand). `memory_paper`: numbers stored by §3.5's formula; `memory_kept`: the table's kept
    entries; `memory_served`: entries, not zero, of the tables whose rows are multiplied
    (LightGCN's are propagated; nan as above).

    kept: a mask, bool (users + items, F). users: M, rows that are users'. pairs: training pairs, so
    that ‖A‖₀ = 2 · pairs. train: those pairs, users × items, or None where they are not at hand.
    """
    rows, size = kept.shape
    items = rows - users
    fullest = [row_sizes(side)["fullest"] for side in (kept[:users], kept[users:])]
    layers = model.layers if model.backbone in PROPAGATING else 0
    graph = layers * 2 * pairs
    dense = (graph + users * items) * size
    served, propagation = kept, 0.0
    if layers and train is None:
        needed = memory = float("nan")
    else:
        if layers:
            *before, _, served = nonzero_by_layer(kept, train, layers)
            degree = np.concatenate(
                (np.diff(train.indptr), np.bincount(train.indices, minlength=items))
            )
            # Each entry of a layer goes to every neighbour of its row once.
            propagation = float(sum(degree @ layer.sum(1) for layer in before))
        # Σ over pairs of their common dimensions = Σ over dimensions of users' times items' counts.
        common = served[:users].sum(0).astype(float) @ served[users:].sum(0)
        needed = (propagation + float(common)) / dense
        memory = served.sum() / (rows * size)
    return {
        "work_paper": (graph + users * items) * min(fullest) / dense,
        "work_needed": needed,
        "memory_paper": (users * fullest[0] + items * fullest[1]) / (rows * size),
        "memory_kept": kept.sum() / (rows * size),
        "memory_served": float(memory),
    }


ORDER, UP = ["dataset", "backbone", "seed"], [True, False, True]  # MF before LightGCN


def opened(rows: pd.DataFrame, number: int = -1) -> pd.DataFrame:
    """The rows of one pruning round, with `difference`, relative to the dense model; −1 for the
    selected tickets (:func:`selection.selected`). Raises ConfigError for an unknown round."""
    known = sorted(set(rows["round"]) - {0})
    if not known or (number != -1 and number not in known):
        there = f"1 … {known[-1]}" if known else "nothing else, as no ticket is here"
        raise ConfigError(f"round: found {number}, expected −1 (the selected ticket) or {there}.")
    if number == -1:
        return selection.selected(rows).sort_values(ORDER, ascending=UP)
    found = rows.assign(difference=stats.to_dense(rows))[rows["round"] == number]
    return found.sort_values(ORDER, ascending=UP)


def with_tables(rows: pd.DataFrame, tickets: pd.DataFrame) -> pd.DataFrame:
    """Of each search the ticket whose trained table is kept: the opened round's, else the nearest;
    `dense` is the key of its dense run, kept too. Recorded tables are few, one's own all kept."""
    find = Store().find_weights
    kept = rows[[find(key, "best") is not None for key in rows["key"]]]
    dense = kept[kept["round"] == 0].set_index("search")["key"]
    opened_at = tickets.set_index("search")["round"]
    far = (kept["round"] - kept["search"].map(opened_at).astype(float)).abs()
    kept = kept.assign(dense=kept["search"].map(dense), far=far)[kept["round"] > 0]
    near = kept.dropna(subset=["dense", "far"]).sort_values("far").drop_duplicates("search")
    say(f"trained tables are kept of {len(near)} of {len(tickets)} searches.")
    return near.sort_values(ORDER, ascending=UP)


def runs_of(rows: pd.DataFrame, p: Any) -> dict[str, TrainedRun]:
    """Key → run, of the rows whose data are at hand; a line says which are not. p: a notebook's
    parameters."""
    found: dict[str, TrainedRun] = {}
    for _, some in rows.drop_duplicates("key").groupby("data_digest"):
        try:
            found |= {run.key: run for run in running.reopened(some, p)}
        except (DataError, OSError) as error:
            say(f"{some['dataset'].iloc[0]}: left out where its data are needed. {error}")
    return found


def _has_table(run: TrainedRun | None) -> bool:
    return run is not None and run.control.store.find_weights(run.key, "best") is not None


LINE = ("side", "pairs", "share", "found", "wanted", "group")


def by_row(rows: pd.DataFrame, runs: Mapping[str, TrainedRun]) -> pd.DataFrame:
    """A line for each user and item of each run, with the run's columns, and:

    `side`; `pairs` of training; `group`, 1 (fewest pairs) to 10, each with about a tenth of all
    pairs; `share` of the row's entries kept; `found` and `wanted`, whose sums over a group divide
    to its Recall@20 on test: of a tested user the Recall and 1, of an item its test pairs among
    their user's first 20 and all of them. What needs a mask or table that is not kept is empty.
    """
    parts = []
    for row in rows[rows["key"].isin(runs)].to_dict("records"):
        run = runs[row["key"]]
        data, hits = run.data, run.record.hits()
        mask = run.control.store.find_mask(run.record.pruning, run.record.shape)
        recall = np.zeros((2, data.users))
        recall[:, hits.users] = hits.per_user("recall", TOP), np.ones(len(hits.users))
        share = np.full(data.rows, np.nan) if mask is None else mask.kept.mean(1)
        of_items = (np.nan, np.nan)
        if mask is not None and _has_table(run):
            of_items = found_items(run)
        users = ("users", data.user_degree, share[: data.users], *recall)
        for values in (users, ("items", data.item_degree, share[data.users :], *of_items)):
            line = pd.DataFrame(row | dict(zip(LINE, values, strict=False)))
            parts.append(line.assign(group=popularity_groups(values[1]) + 1))
    return pd.concat([pd.DataFrame(columns=[*rows, *LINE]), *parts], ignore_index=True)


def found_items(run: TrainedRun) -> tuple[np.ndarray, np.ndarray]:
    """Of each item, its test pairs that are among their user's 20 best, and all of them."""
    data, outputs = run.data, run.outputs()
    best = rank(outputs[: data.users], outputs[data.users :], data.known, TOP)
    user, place = np.nonzero(best >= 0)
    hits = to_csr(user, best[user, place], data.test.shape).multiply(data.test).tocsr()
    hit, wanted = (np.bincount(m.indices, minlength=data.items) for m in (hits, data.test))
    return hit, wanted


def among_largest(kept: np.ndarray, table: np.ndarray) -> float:
    """Share of the kept entries that are among the table's largest in magnitude, of which as many
    are taken as are kept: by chance the mask's density. Both (rows, F); nan where none is kept."""
    count = int(kept.sum())
    if count == 0:
        return float("nan")
    largest = np.argpartition(-np.abs(table).reshape(-1), count - 1)[:count]
    return float(kept.reshape(-1)[largest].mean())


def without(dense: TrainedRun, kept: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Recall@20 on test of a dense model as trained, and with entries set to zero, nothing trained.

    kept: a ticket's mask, bool (rows, F). `all`: the model as it is. `kept alone`: the ticket's
    entries alone. `kept removed` and `pruned removed`: without n of the kept, and without n of the
    pruned entries, drawn at random by `seed`; n is the smaller of the two numbers.
    """
    order = np.argsort(stream_bits(seed, "removed", np.arange(kept.size)))
    flat = kept.reshape(-1)[order]
    count = min(int(flat.sum()), int((~flat).sum()))
    left = {"all": np.ones(kept.size, bool), "kept alone": kept.reshape(-1)}
    for name, of in (("kept removed", flat), ("pruned removed", ~flat)):
        left[name] = np.ones(kept.size, bool)
        left[name][order[of][:count]] = False
    return {name: _recall(dense, one.reshape(kept.shape)) for name, one in left.items()}


def _recall(run: TrainedRun, left: np.ndarray) -> float:
    step = new_step(run.spec, run.data, run.weights() * left, left, run.control.device)
    return evaluate(step.outputs(), run.data, "test").means()["recall@20"]


def magnitudes(
    rows: pd.DataFrame, tickets: pd.DataFrame, runs: Mapping[str, TrainedRun]
) -> pd.DataFrame:
    """Of each ticket whose mask is kept: the share of its entries among the largest of the initial
    table (`initial`); and where the trained dense table is kept, among its largest (`trained`), and
    :func:`without`."""
    dense, kept = rows[rows["round"] == 0].set_index("search")["key"], running.masks_of(tickets)
    found = []
    for row in tickets[tickets["key"].isin(kept)].to_dict("records"):
        mask, run = kept[row["key"]], runs.get(dense[row["search"]])
        row["initial"] = among_largest(mask, initial_table(row["seed"], *mask.shape))
        row["trained"] = among_largest(mask, run.weights()) if _has_table(run) else np.nan
        found.append(row | (without(run, mask, row["seed"]) if _has_table(run) else {}))
    return pd.DataFrame(found)


def overlap(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Entries that two masks, bool (rows, F), both keep: over what independent masks of these
    densities share (`chance`), and over what masks share whose rows keep as many entries as these,
    in random columns (`rows`); nan where that is nothing."""
    both = float((a & b).sum())
    by_rows = float(a.sum(1).astype(float) @ b.sum(1) / a.shape[1])
    by_chance = float(a.sum()) * float(b.sum()) / a.size
    expected = {"chance": by_chance, "rows": by_rows}
    return {name: both / one if one else float("nan") for name, one in expected.items()}


def overlaps(rows: pd.DataFrame) -> pd.DataFrame:
    """:func:`overlap` of every two tickets of one data set and round whose masks are kept: of two
    seeds and one backbone, or the reverse. With the first one's columns and `pair`, in words.
    rows: with `model`, as :func:`plots.named` gives it."""
    kept, found = running.masks_of(rows[rows["round"] > 0]), []
    rows = rows[rows["key"].isin(kept)].sort_values(ORDER, ascending=UP)
    for _, some in rows.groupby(["data_digest", "round"]):
        for a, b in itertools.combinations(some.to_dict("records"), 2):
            same = a["backbone"] == b["backbone"]
            masks = kept[a["key"]], kept[b["key"]]
            if same != (a["seed"] == b["seed"]) and masks[0].shape == masks[1].shape:
                one, other = a["model"], b["model"]
                pair = f"{one}, two seeds" if same else f"{one} and {other}, same seed"
                found.append(a | {"pair": pair} | overlap(*masks))
    return pd.DataFrame(found)

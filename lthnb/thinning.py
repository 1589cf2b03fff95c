"""Tickets of the training pairs: which of them does a model need?

The search is that of the table (:func:`lottery.descend`): train, score every pair, drop those that
score highest (:mod:`finders.pairs`), start again from X⁰ on what is left. What is dropped is not
recommended, and no negative unless the search says so, as a control. Each round's data name the
pairs that they keep, so that a run is keyed by them, and they are made again from its record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lthnb.config import ConfigError, Init, Seeded, canonical, one_of
from lthnb.control import Control
from lthnb.data import DataError, Interactions
from lthnb.datasets.sources import load
from lthnb.finders import pairs
from lthnb.kept import TrainedRun, again, at_its_start, outputs_of
from lthnb.lottery import Round, descend
from lthnb.pruning import Mask
from lthnb.store.files import StoreError
from lthnb.store.records import FOUND, Pruning, Record, pruning_key, search_tags
from lthnb.training import train

SIBLINGS = 2  # further seeds that `agreement` asks
EVERY = 5  # of how many epochs `learning` looks at one


def loss(run: TrainedRun, seed: int) -> np.ndarray:
    """The mean BPR loss of the trained model: what it finds hard goes first."""
    return pairs.losses(run.data, run.outputs().cpu().numpy(), seed)


def user_loss(run: TrainedRun, seed: int) -> np.ndarray:
    """The same, as a place among the user's own pairs: losses of noisy pairs and others overlap,
    and separate within a user (Zhang et al. 2025)."""
    return pairs.in_user(run.data, loss(run, seed))


def agreement(run: TrainedRun, seed: int) -> np.ndarray:
    """The mean of :func:`user_loss` over this run and those of further seeds on the same pairs."""
    specs = {n: run.spec.with_training(order_seed=n) for n in range(seed + 1, seed + 1 + SIBLINGS)}
    others = (
        train(spec, run.data, Seeded(other), run.record.pruning, run.control, other)
        for other, spec in specs.items()
    )
    return np.mean([user_loss(one, seed) for one in (run, *others)], axis=0)


def learning(run: TrainedRun, seed: int) -> np.ndarray:
    """The loss averaged over the epochs up to the best one, as a place among the user's pairs: what
    is learnt late goes first."""
    found, count, at = np.zeros(run.data.train.nnz), 0, at_its_start(run)
    for number in again(run, at, run.record.best_epoch):
        if number % EVERY == 0 or number == run.record.best_epoch:
            outputs = outputs_of(run.spec, run.data, at.step.weights(), at.kept, run.control)
            losses = pairs.losses(run.data, outputs.cpu().numpy(), seed)
            found, count = found + losses, count + 1
    return pairs.in_user(run.data, found / count)


CRITERIA: dict[str, Callable[[TrainedRun, int], np.ndarray]] = {
    "random": lambda run, seed: pairs.chance(run.data, seed),
    "rare": lambda run, seed: pairs.rarity(run.data),
    "loss": loss,
    "user-loss": user_loss,
    "agreement": agreement,
    "learning": learning,
}


def thinned_search(
    dense: TrainedRun,
    criterion: str,
    shares: Sequence[float],
    seed: int,
    policy: Mapping[str, Any] | None = None,
) -> Iterator[Round]:
    """Rounds that train on fewer and fewer of a run's pairs, dense (all of them) first.

    dense: on all pairs; its mask is kept throughout. criterion: of :data:`CRITERIA`. shares: of the
    pairs that are kept at each round, falling. policy: what is recorded beside: of a run that is a
    ticket its `rate` and `round`; `negatives` where what is dropped may be drawn as a negative.
    Raises ConfigError for an unknown criterion or shares that do not fall, DataError where a user
    would lose all pairs, and what :func:`training.train` raises.
    """
    one_of("criterion", criterion, CRITERIA)
    if [*shares] != sorted({*shares}, reverse=True) or not all(0 < s < 1 for s in shares):
        raise ConfigError(f"shares: found {shares!r}, expected falling numbers, each > 0 and < 1.")
    if dense.data.dropped is not None:
        raise ConfigError(
            f"{dense.data.name}: found {dense.data.dropped.nnz:,} pairs dropped before, expected "
            "none: prune the whole data once, to the smaller share."
        )
    policy = dict(policy or {})
    named = {"criterion": criterion, "densities": tuple(shares)}
    tags = search_tags("pairs", seed, policy=canonical(policy) if policy else None, **named)

    def shrink(number: int, last: TrainedRun) -> tuple[Interactions, Pruning, Init]:
        keep = round(shares[number - 1] * dense.data.train.nnz)
        about = {"pairs": criterion, "run": last.key, "seed": seed, "keep": [keep]}
        about |= {"data": dense.data.digest}
        about |= {"negatives": True} if policy.get("negatives") else {}
        return thinned(dense.data, about, dense.control), dense.record.pruning, dense.init

    yield from descend(dense, tags, len(shares), shrink)


def thinned(base: Interactions, about: dict[str, Any], control: Control) -> Interactions:
    """The data of a round, from all pairs. about: how they were pruned: the digest of all pairs,
    the criterion, the run that was asked, on these or fewer of them, its seed, and how many stay.
    Which those are is kept in the store as a mask, (1, train pairs), or found again from the run.
    Raises DataError for other data, StoreError where the run is not recorded."""
    if about["data"] != base.digest:
        found = f"{base.name}: found the data {base.digest[:8]}"
        raise DataError(f"{found}, expected {about['data'][:8]}, of which pairs were dropped.")
    store, shape = control.store, (1, base.train.nnz)
    known = store.find_pruning(pruning_key(about))
    mask = store.find_mask(known, shape) if known else None
    if mask is not None:
        about = about | {name: known[name] for name in FOUND if name in known}
    else:
        record = store.find(about["run"])
        if record is None:
            raise StoreError(f"run {about['run'][:8]}: not recorded; its pairs cannot be scored.")
        before = record.origin.get("pairs")
        data = thinned(base, before, control) if before else base
        scores = CRITERIA[about["pairs"]](TrainedRun(record, data, control), about["seed"])
        less = pairs.without(data, scores, data.train.nnz - about["keep"][0])
        mask = Mask(pairs.among(base, less.train)[None])
        about = {**about, **pairs.found(data, scores, ~pairs.among(data, less.train))}
        store.put_mask(mask, about)
    found = pairs.dropping(base, ~mask.kept[0])
    negatives = about.get("negatives", False)
    return replace(found, negatives=negatives, origin={**base.origin, "pairs": about})


def data_again(record: Record, control: Control, source: str | None = None) -> Interactions:
    """The data of a record, loaded and split as its row says, then :func:`derived`.

    source: where a table of one's own lies, which no record says. Raises DataError where that is
    needed, and what :func:`sources.load` raises; the digest is for the caller to compare.
    """
    origin, dataset = record.origin, record.row["dataset"]
    split, name = origin.get("split", {}), origin.get("source", "table")
    if name == "table" and source is None:
        raise DataError(f"{dataset}: a table of one's own; say where: `--source PATH`.")
    way = split.get("way", "random")
    base = load(
        source or name,
        protocol=record.row["protocol"],
        split="random" if way == "published" else way,
        split_seed=split.get("seed", 0),
        progress=control.progress,
        **origin.get("options", {}),
    )
    return derived(base, record, control)


def derived(base: Interactions, record: Record, control: Control) -> Interactions:
    """The data of a record from those that were loaded: with its noise, and without the pairs that
    were dropped. Raises what :func:`thinned` does."""
    origin = record.origin
    data, about = pairs.noisy(base, origin.get("noise", "")), origin.get("pairs")
    return thinned(data, about, control) if about else data

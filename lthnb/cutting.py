"""From one dense training to sparse tables of any density, in axes of one's choice.

A table X is turned by a basis (:mod:`finders.bases`), and the smallest entries of XQ are pruned.
What is left is scored as it is (``cut``), trained on from its trained values (``finetune``), or
from the initial ones in the same axes, X⁰Q (``omp``). :func:`turning_search` does so round by
round. All of it is runs of the one training loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lthnb.config import (
    DENSE,
    Dynamic,
    Init,
    Rotated,
    Schedule,
    Seeded,
    Snapshot,
    Spec,
    canonical,
    one_of,
)
from lthnb.data import Interactions
from lthnb.finders.bases import aligned, rotation
from lthnb.finders.interactions import UNTRAINED
from lthnb.kept import TrainedRun, again, at_its_start, pruned_mask
from lthnb.kernels import resolve
from lthnb.lottery import Round, descend, mask_of, pruning_of
from lthnb.pruning import CRITERIA, Mask, pruned_by, targets_by_rate
from lthnb.store.records import Pruning, pruning_key, search_row, search_tags
from lthnb.training import train

METHODS = ("cut", "finetune", "omp")
EARLIER, SHARE = 4, 0.1  # masks that one is compared with, and of its entries may not be in them


def cuts(
    dense: TrainedRun,
    method: str,
    densities: Sequence[float],
    seed: int,
    basis: str = "",
    criterion: str = "magnitude",
) -> Iterator[TrainedRun]:
    """A dense run pruned once to each density, which 1 may be; its rows of a search are kept.

    method: of :data:`METHODS`. basis: of :data:`bases.BASES`, or empty for the table's own axes.
    seed: of X⁰. criterion: of :data:`pruning.CRITERIA`, or of :data:`interactions.UNTRAINED`, whose
    masks are of the data alone. Raises ConfigError for what is none of these, and what
    :func:`training.train` raises.
    """
    one_of("method", method, METHODS)
    one_of("criterion", criterion, [*CRITERIA, *UNTRAINED])
    tags = search_tags(method, seed, criterion=criterion, basis=basis or None)
    spec = dense.spec.with_training(epochs=0) if method == "cut" else dense.spec
    start: Init = Seeded(seed) if method == "omp" else Snapshot(dense.key)
    turn = _turn(dense, basis)
    init = Rotated(start, turn) if turn else start

    def mask(density: float) -> Pruning:
        return _mask(dense, density, criterion, basis, turn)

    yield from _each(dense, tags, densities, mask, init, spec)


def turning_search(
    dense: TrainedRun, rate: float, rounds: int, seed: int, basis: str
) -> Iterator[Round]:
    """IMP in new axes at every round: the last round's table is turned by a basis of its own, so
    that pruned entries come back and as many others go, and X⁰ is turned with it."""
    tags, whole = search_tags("imp", seed, rate=rate, basis=basis), dense.record.entries
    left = [keep for (keep,) in targets_by_rate((whole,), rate, rounds)]

    def shrink(number: int, last: TrainedRun) -> tuple[Interactions, Pruning, Init]:
        turn = _turn(last, basis)
        mask = _mask(last, left[number - 1] / whole, "magnitude", basis, turn)
        return dense.data, mask, Rotated(Seeded(seed) if last is dense else last.init, turn)

    yield from descend(dense, tags, rounds, shrink)


def dynamic(
    dense: TrainedRun, densities: Sequence[float], seed: int, policy: Dynamic
) -> Iterator[TrainedRun]:
    """Dynamic sparse training at each density, from X⁰ under a random mask. dense: the dense run
    that it is compared with, which gives spec and data."""
    tags = search_tags("dynamic", seed, policy=canonical(policy.described()))
    schedule, spec = Schedule("rp_x0", seed=seed), replace(dense.spec, policy=policy)

    def mask(density: float) -> Pruning:
        return mask_of(schedule, dense, (round(density * dense.record.entries),))

    yield from _each(dense, tags, densities, mask, Seeded(seed), spec)


def learned(dense: TrainedRun, densities: Sequence[float], seed: int) -> Iterator[TrainedRun]:
    """PEP: a training with learnt thresholds down to each density, and a ticket from X⁰ under the
    mask that it ends with; where its epochs end before it is as sparse, of the largest entries that
    it left. Both have rows of searches: `thresholds`, with the density that was left, and `pep`."""
    store, shape, spec = dense.control.store, dense.record.shape, dense.spec
    whole, patience = dense.record.entries, spec.training.epochs
    control, tags = replace(dense.control, keep=("last",)), search_tags("thresholds", seed)

    def mask(density: float) -> Pruning:
        finder = spec.with_model(compression="threshold", target_density=density)
        finder = resolve(finder.with_training(patience=patience, step="auto"))
        found = train(finder, dense.data, Seeded(seed), None, control, seed)
        left = int(np.count_nonzero(found.ensure_weights("last")))
        keep = (min(left, round(density * whole)),)
        schedule = Schedule("omp", prune_from="last")
        about = pruning_of(schedule, dense.data, shape[1], found.key, DENSE, keep)
        ticket = pruned_mask(found, about)
        store.put_search(search_row(tags, dense.key, 0, 1.0, dense.key))
        store.put_search(search_row(tags, dense.key, 1, left / whole, found.key))
        return ticket

    yield from _each(dense, search_tags("pep", seed), densities, mask, Seeded(seed))


def early(dense: TrainedRun, densities: Sequence[float], seed: int) -> Iterator[TrainedRun]:
    """Early-bird tickets (You et al., ICLR 2020): X⁰ under the mask of the dense training's epoch
    at which that mask has settled."""
    store, whole = dense.control.store, dense.ensure_mask()

    def mask(density: float) -> Pruning:
        keep = (round(density * whole.entries),)
        about = pruning_of(Schedule("omp"), dense.data, whole.shape[1], dense.key, DENSE, keep)
        # Under which epoch it is kept is not known beforehand; nothing else has a number there.
        epochs = ({**about, "weights": n} for n in range(1, dense.record.epochs + 1))
        known = next(filter(None, (store.find_pruning(pruning_key(one)) for one in epochs)), None)
        if known is None:
            at = at_its_start(dense)
            tables = (at.step.weights() for _ in again(dense, at, dense.record.epochs))
            epoch, kept = settled(pruned_by(about, whole, np.abs(t)).kept for t in tables)
            known = store.put_mask(Mask(kept), {**about, "weights": epoch})
        return known

    yield from _each(dense, search_tags("early", seed), densities, mask, Seeded(seed))


def settled(masks: Iterable[np.ndarray]) -> tuple[int, np.ndarray]:
    """The first of some masks, bool (rows, F) and one an epoch, of whose entries each of the four
    before has nine tenths, and its number from 1; the last mask where none is so. You et al. allow
    a tenth of all entries, which is the same at a density of one half and always met at 5 %."""
    last: deque[np.ndarray] = deque(maxlen=EARLIER)
    found = 0, np.zeros((0, 0), bool)
    for found in enumerate(masks, start=1):
        mask = found[1]
        if len(last) == EARLIER and all((mask & ~m).sum() <= SHARE * mask.sum() for m in last):
            break
        last.append(mask)
    return found


def carried(
    dense: TrainedRun, other: TrainedRun, densities: Sequence[float], seed: int, basis: str = ""
) -> Iterator[TrainedRun]:
    """One seed's X⁰ under the masks of another seed's dense run. dense: the run of the seed. basis:
    empty; ``aligned``, in which X⁰ is turned as the one trained table has to be to come nearest to
    the other; or one of :data:`bases.BASES`, in which both are turned, each by its own."""
    store, start, own = dense.control.store, Seeded(seed), "" if basis == "aligned" else basis
    turn = _turn(dense, own)
    if basis == "aligned":
        turn = store.put_array(aligned(dense.ensure_weights(), other.ensure_weights()))
    tags, there = search_tags("carried", seed, basis=basis or None), _turn(other, own)
    init = Rotated(start, turn) if turn else start

    def mask(density: float) -> Pruning:
        return _mask(other, density, "magnitude", own, there)

    yield from _each(dense, tags, densities, mask, init)


def _each(
    dense: TrainedRun,
    tags: dict[str, Any],
    densities: Sequence[float],
    mask: Callable[[float], Pruning],
    init: Init,
    spec: Spec | None = None,
) -> Iterator[TrainedRun]:
    """The trainings of a search whose masks do not depend on each other, all from one start."""

    def shrink(number: int, last: TrainedRun) -> tuple[Interactions, Pruning, Init]:
        return dense.data, mask(densities[number - 1]), init

    rounds = descend(dense, tags, len(densities), shrink, spec)
    yield from (one.run for one in rounds if one.number)


def _turn(run: TrainedRun, basis: str) -> str:
    """Digest of the rotation into a basis, read from a run's table; empty for its own axes."""
    if not basis:
        return ""
    return run.control.store.put_array(rotation(basis, run.ensure_weights(), run.data))


def _mask(run: TrainedRun, density: float, criterion: str, basis: str, turn: str) -> Pruning:
    """The mask of a density over all entries of a run's table in some axes, from the store where
    it is known."""
    data, (rows, size) = run.data, run.record.shape
    if density == 1:
        return None
    keep = (round(density * rows * size),)
    about = pruning_of(Schedule("omp"), data, size, run.key, DENSE, keep)
    about["criterion"] = criterion
    if criterion in UNTRAINED:
        del about["run"], about["weights"], about["mask"]
        about["data"] = data.digest
    if turn:
        about |= {"basis": basis, "rotation": turn}
    return pruned_mask(run, about)

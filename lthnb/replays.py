"""A record, trained again from what it says of itself, and compared with what it says came out.

On the same kind of machine the results are the same bits. Elsewhere processors round otherwise, and
a replay is judged by the tolerances here.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace

import numpy as np

from lthnb.config import (
    DENSE,
    Compressed,
    Init,
    Rotated,
    Signs,
    Snapshot,
    init_from,
    run_key,
    spec_from,
)
from lthnb.data import DataError, Interactions
from lthnb.pruning import Mask, pruned
from lthnb.store import Record, Store, StoreError
from lthnb.training import REPLAY_TOLERANCE, Control, TrainedRun, train

RECALL_TOLERANCE = 0.01  # relative, on test: about what another order of rounding can do


@dataclass(frozen=True)
class Replay:
    """How a replay compares with its record.

    same_bits: results are equal, bit for bit. loss: the largest relative difference of an epoch's
    mean loss, over the epochs that both ran. recall: relative difference of Recall@20 on test.
    users: test users whose top 20 hit otherwise. best_epoch: recorded and replayed.
    """

    key: str
    same_bits: bool
    loss: float
    recall: float
    users: int
    best_epoch: tuple[int, int]
    seconds: float

    @property
    def agrees(self) -> bool:
        """The same bits, or within :data:`training.REPLAY_TOLERANCE` in every epoch's loss and
        :data:`RECALL_TOLERANCE` in Recall@20 on test."""
        close = self.loss <= REPLAY_TOLERANCE and abs(self.recall) <= RECALL_TOLERANCE
        return self.same_bits or close

    def __str__(self) -> str:
        if self.same_bits:
            return f"run {self.key[:8]}: the same bits, in {self.seconds:.1f} s"
        judged = "within the tolerances" if self.agrees else "NOT within the tolerances"
        there, here = self.best_epoch
        return (
            f"run {self.key[:8]}: other bits, {judged}: losses differ by up to {self.loss:.2g} "
            f"(at most {REPLAY_TOLERANCE:g}), Recall@20 on test by {self.recall:+.2%} (at most "
            f"{RECALL_TOLERANCE:.0%}), the top 20 of {self.users} users hit otherwise, best epoch "
            f"{here} instead of {there}; in {self.seconds:.1f} s"
        )


def replay(record: Record, data: Interactions, control: Control) -> Replay:
    """Train a record's run again, from nothing and in a store of its own, and compare.

    data: as the record's were split. control: its store has the records. A mask that is not kept
    there is pruned again, from weights that are trained again where they are not kept either, and
    so are weights that the run started from. Raises DataError where the data are others, StoreError
    where a record or a pruning of those is missing, or a mask comes out otherwise, and what
    :func:`training.train` raises.
    """
    _check_data(record, data)
    spec, init = spec_from(record.spec), init_from(record.init)
    key = run_key(spec, data.digest, init, record.mask["digest"])
    if key != record.key:
        raise StoreError(
            f"run {record.key[:8]}: from what its record says the key is {key[:8]} now: components "
            "compute otherwise since then (`numerics`), so there is nothing to compare."
        )
    with tempfile.TemporaryDirectory() as folder:
        apart = replace(control, store=Store(folder, results=None))
        run = _Again(data, control.store, apart).run(record)
        again = train(spec, data, init, run.mask, apart).record
    return compare(record, again)


def reopen(
    record: Record, data: Interactions, control: Control, mask: Mask | None = None
) -> TrainedRun:
    """The finished run of a record, with its mask, and on demand its weights.

    data: as the record's were split. control: its store has the weights unless they are to be
    trained again, and the mask where none is given. Raises DataError where the data are others,
    and StoreError where the mask is missing.
    """
    _check_data(record, data)
    spec, init = spec_from(record.spec), init_from(record.init)
    mask = mask or mask_of(record, control.store)
    return TrainedRun(record, spec, data, init, mask, control)


def _check_data(record: Record, data: Interactions) -> None:
    if data.digest != record.data["digest"]:
        raise DataError(
            f"run {record.key[:8]}: the data here are {data.digest[:8]}, those of the record "
            f"{record.data['digest'][:8]}; another version, another split, or other options."
        )


def compare(record: Record, again: Record) -> Replay:
    """Two records of one key: the one that was kept, and one trained again."""
    pairs = zip(record.results["losses"], again.results["losses"], strict=False)
    hits = [r.hits().hits for r in (record, again)]
    recall = [r.metric("recall@20") for r in (record, again)]
    return Replay(
        record.key,
        record.results_digest == again.results_digest,
        max((abs(b - a) / abs(a) if a else math.inf for a, b in pairs), default=math.inf),
        recall[1] / recall[0] - 1 if recall[0] else float(recall[1] != 0),
        int((hits[0] != hits[1]).any(1).sum()) if hits[0].shape == hits[1].shape else len(hits[0]),
        (record.best_epoch, again.best_epoch),
        again.seconds,
    )


def mask_of(record: Record, store: Store) -> Mask:
    """The mask of a record. Raises StoreError where its bits are not kept."""
    mask = _kept(record.mask["digest"], _shape(record), store)
    if mask is None:
        raise StoreError(
            f"run {record.key[:8]}: its mask {record.mask['digest'][:8]} is neither in the store "
            "nor in results/; climb its ladder again, or import the mask (`runs export`)."
        )
    return mask


def _shape(record: Record) -> tuple[int, int]:
    """Of a record's table: (users + items, F)."""
    return record.data["users"] + record.data["items"], record.spec["model"]["embedding_size"]


def _kept(digest: str, shape: tuple[int, int], store: Store) -> Mask | None:
    if digest == DENSE:
        return Mask.dense(*shape)
    bits = store.find_mask(digest)
    return None if bits is None else Mask(np.asarray(bits))


@dataclass(frozen=True)
class _Again:
    """Runs of one split, made again from their records, each with all that it came of.

    store: has the records. apart: its store takes what is made here, so that each is made once.
    """

    data: Interactions
    store: Store
    apart: Control

    def run(self, record: Record) -> TrainedRun:
        """A record's run with its mask, and with what it starts from in the store apart."""
        mask = self._mask(record.mask["digest"], _shape(record))
        run = reopen(record, self.data, self.apart, mask)
        self._bring(run.init)
        return run

    def _bring(self, init: Init) -> None:
        match init:
            case Signs() | Rotated():
                if isinstance(init, Rotated):
                    self.apart.store.put_array(self.store.get_array(init.rotation))
                self._bring(init.base)
            case Snapshot(run=key, epoch=epoch):
                self.apart.store.put_weights(key, epoch, self._weights(key, epoch))
            case Compressed(teacher=key):
                self.apart.store.put_weights(key, "best", self._weights(key, "best"))

    def _weights(self, key: str, epoch: int | str) -> np.ndarray:
        table = self.store.find_weights(key, epoch)
        if table is not None:
            return table
        record = self.store.find(key)
        if record is None:
            raise StoreError(
                f"run {key[:8]}: neither its weights of epoch {epoch!r} are in the store, of which "
                "another run comes, nor its record, to train them again; climb the ladder again, "
                "or import them (`runs export`)."
            )
        return self.run(record).weights(epoch)

    def _mask(self, digest: str, shape: tuple[int, int]) -> Mask:
        for store in (self.apart.store, self.store):
            if (mask := _kept(digest, shape, store)) is not None:
                return mask
        key, about = next(self.store.find_prunings(digest), ("", {}))
        if "run" not in about:
            raise StoreError(
                f"mask {digest[:8]}: neither its bits nor how it was pruned are in the store or in "
                "results/; climb its ladder again, or import it (`runs export`)."
            )
        before = self._mask(about["mask"], shape)
        mask = pruned(about, before, self._weights(about["run"], about["weights"]))
        if mask.digest != digest:
            raise StoreError(
                f"mask {digest[:8]}: pruned again from run {about['run'][:8]} it is "
                f"{mask.digest[:8]}, since weights come out in other bits here, as on another kind "
                "of processor; replay a run whose mask is kept in results/."
            )
        self.apart.store.put_mask(key, mask.kept, about)
        return mask

"""A record, trained again from what it says of itself, and compared with what it says came out.

On the same kind of machine the results are the same bits. Elsewhere processors round otherwise, and
a replay is judged by the tolerances here.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace

import numpy as np

from lthnb.config import Compressed, Init, Rotated, Signs, Snapshot, init_from, run_key, spec_from
from lthnb.data import DataError, Interactions
from lthnb.pruning import Mask
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

    data: as the record's were split. control: its store has the mask, and the weights that the run
    started from where it did not start from a seed. Raises DataError where the data are others,
    StoreError where mask or weights are missing, and what :func:`training.train` raises.
    """
    run = reopen(record, data, control)
    key = run_key(run.spec, data.digest, run.init, run.mask.digest)
    if key != record.key:
        raise StoreError(
            f"run {record.key[:8]}: from what its record says the key is {key[:8]} now: components "
            "compute otherwise since then (`numerics`), so there is nothing to compare."
        )
    with tempfile.TemporaryDirectory() as folder:
        apart = Store(folder, results=None)
        _bring(run.init, control.store, apart)
        again = train(run.spec, data, run.init, run.mask, replace(control, store=apart)).record
    return compare(record, again)


def reopen(
    record: Record, data: Interactions, control: Control, mask: Mask | None = None
) -> TrainedRun:
    """The finished run of a record, with its mask, and on demand its weights.

    data: as the record's were split. control: its store has the weights unless they are to be
    trained again, and the mask where none is given. Raises DataError where the data are others,
    and StoreError where the mask is missing.
    """
    if data.digest != record.data["digest"]:
        raise DataError(
            f"run {record.key[:8]}: the data here are {data.digest[:8]}, those of the record "
            f"{record.data['digest'][:8]}; another version, another split, or other options."
        )
    spec, init = spec_from(record.spec), init_from(record.init)
    mask = mask or mask_of(record, control.store)
    return TrainedRun(record, spec, data, init, mask, control)


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
    shape = record.data["users"] + record.data["items"], record.spec["model"]["embedding_size"]
    if record.mask["digest"] == "dense":
        return Mask.dense(*shape)
    bits = store.find_mask(record.mask["digest"])
    if bits is None:
        raise StoreError(
            f"run {record.key[:8]}: its mask {record.mask['digest'][:8]} is neither in the store "
            "nor in results/; climb its ladder again, or import the mask (`runs export`)."
        )
    return Mask(np.asarray(bits))


def _bring(init: Init, here: Store, there: Store) -> None:
    """What a start needs, from one store into another."""
    match init:
        case Signs() | Rotated():
            if isinstance(init, Rotated):
                there.put_array(here.get_array(init.rotation))
            _bring(init.base, here, there)
        case Snapshot() | Compressed():
            if isinstance(init, Snapshot):
                key, epoch, how = init.run, init.epoch, "climb the ladder again, rewound as it was"
            else:
                key, epoch, how = init.teacher, "best", "run the chapter on LCM, which makes them"
            table = here.find_weights(key, epoch)
            if table is None:
                raise StoreError(
                    f"run {key[:8]}: its weights of epoch {epoch!r}, from which this one starts, "
                    f"are not in the store; {how}."
                )
            there.put_weights(key, epoch, table)

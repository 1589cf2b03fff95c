"""A record, trained again from what it says of itself, and compared with what it says came out.

On the same kind of machine the results are the same bits. Elsewhere processors round otherwise, and
a replay is judged by the tolerances here.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace

from lthnb.config import digest_text, run_text
from lthnb.control import Control
from lthnb.data import Interactions
from lthnb.kept import REPLAY_TOLERANCE, TrainedRun, initialise
from lthnb.kernels import device_of
from lthnb.store.files import StoreError
from lthnb.store.records import Record
from lthnb.store.runs import Store
from lthnb.training import Task, compute

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
        """The same bits, or within :data:`kept.REPLAY_TOLERANCE` in every epoch's loss and
        :data:`RECALL_TOLERANCE` in Recall@20 on test."""
        close = self.loss <= REPLAY_TOLERANCE and abs(self.recall) <= RECALL_TOLERANCE
        return self.same_bits or close

    def __str__(self) -> str:
        if self.same_bits:
            return f"run {self.key[:8]}: the same bits, in {self.seconds:.1f} s"
        judged = "within the tolerances" if self.agrees else "NOT within the tolerances"
        there, here = self.best_epoch
        return (
            f"run {self.key[:8]}: other bits, {judged}: losses differ by up to {self.loss:.2g}, "
            f"Recall@20 on test by {self.recall:+.2%}, the top 20 of {self.users} users hit "
            f"otherwise, best epoch {here} instead of {there}; in {self.seconds:.1f} s"
        )


def replay(record: Record, data: Interactions, control: Control) -> Replay:
    """Train a record's run again, from nothing and in a store of its own, and compare.

    data: as the record's were split. control: its store has the records. A mask or a start that is
    not kept there is made again first, and kept there; so are the run's own weights where the bits
    are the same. Raises DataError where the data are others, StoreError where a record or a pruning
    of those is missing, or a mask comes out otherwise, and what :func:`training.train` raises.
    """
    run = TrainedRun(record, data, control)
    device = device_of(run.spec.training.step, control.device)
    text = run_text(run.spec, data.digest, run.init, record.row["mask_digest"], device)
    if digest_text(text) != record.key:
        raise StoreError(
            f"run {record.key[:8]}: its record gives the key {digest_text(text)[:8]} now, since "
            "components compute otherwise or the device is another; there is nothing to compare."
        )
    mask, start = run.ensure_mask(), initialise(run.init, data, record.shape[1], control)
    task = Task(text, run.spec, data, start, mask, record.pruning, record.row["seed"])
    with tempfile.TemporaryDirectory() as folder:
        apart = replace(control, store=Store(folder, results=None))
        again = compute(task, apart)
        found = compare(record, again)
        if found.same_bits:
            control.store.put_weights(
                record.key, "best", apart.store.get_weights(record.key, "best")
            )
        return found


def compare(record: Record, again: Record) -> Replay:
    """Two records of one key: the one that was kept, and one trained again."""
    pairs = zip(record.nested["losses"], again.nested["losses"], strict=False)
    hits = [r.hits().hits for r in (record, again)]
    recall = [r.row["recall@20"] for r in (record, again)]
    rounded = {r.row["int8_recall@20"] for r in (record, again)} - {None}  # older rows have none
    return Replay(
        record.key,
        record.results_digest == again.results_digest and len(rounded) < 2,
        max((abs(b - a) / abs(a) if a else math.inf for a, b in pairs), default=math.inf),
        recall[1] / recall[0] - 1 if recall[0] else float(recall[1] != 0),
        int((hits[0] != hits[1]).any(1).sum()),
        (record.best_epoch, again.best_epoch),
        again.seconds,
    )

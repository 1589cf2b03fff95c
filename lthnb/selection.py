"""What it does to choose epochs on test: the same curves, read where valid would have stopped.

Under the protocol `paper` the epoch with the best Recall@20 on test is reported, and its weights
are pruned. Every evaluation is in the record, so it can be asked what the same training had on test
at another epoch: at the one that a run under `validated`, which never looks at test, chose for a
table of about the same density.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lthnb.standings import Field, Standing
from lthnb.store.records import Record

NEAR = 1.06  # densities of two ladders that count as the same, as a ratio


@dataclass(frozen=True)
class Selection:
    """A rung of a ladder under `paper`, and the rung of one under `validated` beside it.

    ours, beside: their standings. at: Recall@20 on test that the trainings under `paper` had at the
    epochs that those under `validated` chose, mean over seeds.
    """

    ours: Standing
    beside: Standing
    at: float

    @property
    def optimism(self) -> float:
        """What is reported, over what the other epochs give, − 1."""
        return self.ours.results["recall@20"] / self.at - 1


def selections(ours: Field, beside: Field) -> list[Selection]:
    """Rungs of two ladders, under `paper` and under `validated`, that have about the same density,
    with the seeds that both have; each rung at most once.

    Raises ValueError where the fields are not of these protocols, or have no seed in common.
    """
    if (ours.chosen_on, beside.chosen_on) != ("test", "valid"):
        raise ValueError(
            f"selections: found fields chosen on {ours.chosen_on} and {beside.chosen_on}, expected "
            "one under `paper` (test) and one under `validated` (valid)."
        )
    seeds = [s for s in ours.seeds if s in beside.seeds]
    if not seeds:
        raise ValueError(
            f"selections: found seeds {list(ours.seeds)} and {list(beside.seeds)}, expected some "
            "that both have."
        )
    one, other = ours.with_seeds(seeds), beside.with_seeds(seeds)
    there = [s for s in one.standings if s is not None]
    found = []
    for standing in (s for s in other.standings if s is not None):
        near = min(there, key=lambda s: abs(np.log(s.density / standing.density)))
        ratio = near.density / standing.density
        if 1 / NEAR <= ratio <= NEAR and all(near is not f.ours for f in found):
            at = [_at(a, b.best_epoch) for a, b in zip(near.records, standing.records, strict=True)]
            found.append(Selection(near, standing, float(np.mean(at))))
    return found


def _at(record: Record, epoch: int) -> float:
    """Recall@20 on the part that chose the epochs, at the last evaluation up to an epoch, or at
    the first of all."""
    first, *later = record.results["evaluations"]
    return [first[1], *(value for e, value, _ in later if e <= epoch)][-1]


def pairs(fields: Sequence[Field]) -> list[tuple[Field, Field]]:
    """Ladders under `paper`, each with the one under `validated` of the same source, backbone,
    size, batches, method and rewinding."""

    def same(a: Field, b: Field) -> bool:
        batches = a.spec.training.batch_size == b.spec.training.batch_size
        return batches and (a.published, a.spec.model, a.ladder.method, a.ladder.rewind) == (
            b.published,
            b.spec.model,
            b.ladder.method,
            b.ladder.rewind,
        )

    return [
        (a, b)
        for a in fields
        for b in fields
        if (a.chosen_on, b.chosen_on) == ("test", "valid")
        and same(a, b)
        and set(a.seeds) & set(b.seeds)
    ]

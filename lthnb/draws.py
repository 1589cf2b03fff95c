"""What of a seed does a ticket go with: the draw of X⁰, or the order of the triplets?

One seed sets both, and rewinding (§4.5) repeats both. Here tickets are trained again under their
own masks with one of the two changed and the other as it was: two factors taken apart, which the
paper leaves together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from lthnb.config import Init, Ladder, Seeded, Spec, run_key
from lthnb.data import Interactions
from lthnb.lottery import RANDOM, Planned, climb, derived_seed, start_of
from lthnb.standings import Field, difference, seeded, side_by_side
from lthnb.steps import resolve
from lthnb.store import Record, Store
from lthnb.training import Control, train
from lthnb.verdicts import Interval

CHANGES = {"draw": "another X⁰", "order": "another order"}


@dataclass(frozen=True, eq=False)
class Changed:
    """The tickets of one rung, trained again with half of their seed changed.

    field: of the ladder that found them, with the seeds of which all is there. number: of the rung.
    runs: change (:data:`CHANGES`) → the records, one a seed.
    """

    field: Field
    number: int
    runs: dict[str, tuple[Record, ...]]

    @property
    def density(self) -> float:
        """Share of the entries that live."""
        return self.field.rungs[0][self.number].density

    def recall(self, change: str) -> float:
        """Mean Recall@20 on test after a change; for ``""`` that of the tickets themselves."""
        records = self.runs[change] if change else self.field.records(self.number)
        return float(np.mean([r.metric("recall@20") for r in records]))

    def difference(self, change: str) -> Interval:
        """What a change alone does to Recall@20 on test, relative to the tickets, paired by seed
        (over users where there is one)."""
        return difference(self.runs[change], self.field.records(self.number))


def changed(ladder: Ladder, spec: Spec, number: int, change: str) -> tuple[Spec, Init]:
    """Spec and start of a rung's training with one half of its seed changed.

    The other draw is the one that `reinit` has at this rung, so that at the first rung, where both
    prune the same dense model, this is a training of that ladder.
    """
    if change == "draw":
        return spec, start_of(replace(ladder, rewind="reinit"), number, "", "")
    other = derived_seed(ladder.seed, "another order")
    return spec.with_training(order_seed=other), Seeded(ladder.seed)


def changed_of(
    fields: Sequence[Field],
    numbers: Collection[int],
    data: Interactions,
    control: Control,
    *,
    train_missing: bool = True,
    workers: int = 1,
) -> list[Changed]:
    """Train the tickets of some rungs again with each of :data:`CHANGES`, or look up what is
    recorded of it: see :func:`looked_up`.

    fields: those that go back to X⁰ are taken. `train_missing` and `workers` are those of
    :func:`standings.fields_of`.
    """
    if train_missing:
        todo = [
            partial(_train_changed, *seeded(one.ladder, one.spec, seed), data, tuple(numbers))
            for one in fields
            if _goes_back(one)
            for seed in one.seeds
        ]
        side_by_side(todo, control, workers, "ladder")
    return looked_up(fields, numbers, control.store, control.device)


def looked_up(
    fields: Sequence[Field], numbers: Collection[int], store: Store, device: str = "auto"
) -> list[Changed]:
    """What is recorded of the tickets of some fields that go back to X⁰: one for each rung of which
    all changes are there with some seed. Nothing is trained, and no data are read."""
    found = (
        _look_up(one, number, store, device)
        for one in fields
        if _goes_back(one)
        for number in sorted(set(numbers) & set(range(1, len(one.rungs[0]))))
    )
    return [one for one in found if one is not None]


def _goes_back(field: Field) -> bool:
    return field.ladder.rewind == "rewind" and field.ladder.method not in RANDOM


def again(
    ladder: Ladder, spec: Spec, rung: Planned, store: Store, device: str = "auto"
) -> list[Record | None]:
    """The records of one rung of one seed's ladder after each of :data:`CHANGES`, None where one is
    missing."""
    found: list[Record | None] = []
    for change in CHANGES:
        other, init = changed(ladder, spec, rung.number, change)
        if rung.record is None:
            found.append(None)
        else:
            data = rung.record.data["digest"]
            key = run_key(resolve(other, device), data, init, rung.mask.digest)
            found.append(store.find(key))
    return found


def _look_up(field: Field, number: int, store: Store, device: str) -> Changed | None:
    runs = {
        seed: again(*seeded(field.ladder, field.spec, seed), row[number], store, device)
        for seed, row in zip(field.seeds, field.rungs, strict=True)
    }
    there = [seed for seed, row in runs.items() if None not in row]
    if not there:
        return None
    columns = zip(*(runs[seed] for seed in there), strict=True)
    return Changed(field.with_seeds(there), number, dict(zip(CHANGES, columns, strict=True)))


def _train_changed(
    ladder: Ladder, spec: Spec, data: Interactions, numbers: Sequence[int], control: Control
) -> None:
    # Climbing finds the masks, also where a record's own bits were not kept; rungs that are
    # recorded are not trained again.
    for rung in climb(ladder, spec, data, control):
        for change in CHANGES if rung.number in numbers else ():
            other, init = changed(ladder, spec, rung.number, change)
            train(other, data, init, rung.mask, control)
        if rung.number >= max(numbers):
            return

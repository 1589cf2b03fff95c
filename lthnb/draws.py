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
from lthnb.lottery import RANDOM, Planned, climb, derived_seed, start_of, tags_of
from lthnb.standings import Field, difference, fields_of, seeded, side_by_side
from lthnb.steps import resolve
from lthnb.store.records import Record, search_row
from lthnb.store.runs import Store
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

    def records(self, change: str) -> Sequence[Record]:
        """The runs after a change, one a seed; for ``""`` the tickets themselves."""
        return self.runs[change] if change else self.field.records(self.number)

    def recall(self, change: str) -> float:
        """Their mean Recall@20 on test."""
        return float(np.mean([r.metric("recall@20") for r in self.records(change)]))

    def difference(self, change: str, to: str = "") -> Interval:
        """Relative difference in Recall@20 on test of a change to another, or to the tickets,
        paired by seed (over users where there is one)."""
        return difference(self.records(change), self.records(to))


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
    contests: Sequence[tuple[Ladder, Spec]],
    numbers: Collection[int],
    data: Interactions,
    seeds: Sequence[int],
    control: Control,
    *,
    train_missing: bool = True,
    workers: int = 1,
) -> list[Changed]:
    """Train the tickets of some rungs again with each of :data:`CHANGES`, after the ladders that
    find them, or look up what is recorded of it: see :func:`looked_up`.

    contests: ladder and spec of each field, of which those that go back to X⁰ are taken. seeds,
    `train_missing` and `workers` are those of :func:`standings.fields_of`. A mask whose bits were
    not kept is pruned once more, for which the training above is replayed.
    """
    back = [(ladder, spec) for ladder, spec in contests if _goes_back(ladder)]
    fields = fields_of(back, data, seeds, control, train_missing=train_missing, workers=workers)
    todo = []
    for one in fields if train_missing else ():
        for seed, row in zip(one.seeds, one.rungs, strict=True):
            pair = seeded(one.ladder, one.spec, seed)
            missing = [
                rung.number
                for rung in _those(row, numbers)
                if None in again(*pair, rung, control.store, control.device)
            ]
            if missing:
                todo.append(partial(_train_changed, *pair, data, missing))
    side_by_side(todo, control, workers, "ladder")
    return looked_up(fields, numbers, control.store, control.device)


def looked_up(
    fields: Sequence[Field], numbers: Collection[int], store: Store, device: str = "auto"
) -> list[Changed]:
    """What is recorded of the tickets of some fields that go back to X⁰: one for each rung of which
    all changes are there with some seed. Nothing is trained, and no data are read."""
    found = (
        _look_up(one, rung.number, store, device)
        for one in fields
        if _goes_back(one.ladder)
        for rung in _those(one.rungs[0], numbers)
    )
    return [one for one in found if one is not None]


def _goes_back(ladder: Ladder) -> bool:
    return ladder.rewind == "rewind" and ladder.method not in RANDOM


def _those(row: Sequence[Planned], numbers: Collection[int]) -> list[Planned]:
    """The tickets among the rungs with some numbers."""
    return [rung for rung in row if rung.number and rung.number in numbers]


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
    # Climbing trains no rung again that is recorded, and finds masks also where their bits were not
    # kept, which takes a replay of the rung above.
    methods = {"draw": "other_start", "order": "other_order"}
    dense = ""
    for rung in climb(ladder, spec, data, control):
        dense = dense or rung.run.key
        for change in CHANGES if rung.number in numbers else ():
            other, init = changed(ladder, spec, rung.number, change)
            run = train(other, data, init, rung.mask, control, ladder.seed)
            tags = {**tags_of(ladder), "method": methods[change]}
            for number, density, key in ((0, 1.0, dense), (rung.number, rung.density, run.key)):
                control.store.put_search(search_row(tags, dense, number, density, key))
        if rung.number >= max(numbers):
            return

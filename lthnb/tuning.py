"""The dense model with a setting tuned on valid, and what a ticket's lead is worth beside it.

Tickets are compared with the dense model at the paper's λ. But pruning regularises too, so that a
part of a ticket's gain may be what the dense model would have had from another λ. The same is asked
of the learning rate where it is not the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lthnb.standings import Field, Narrow, Standing, difference
from lthnb.store.records import Record
from lthnb.verdicts import Interval, sign


@dataclass(frozen=True, eq=False)
class Tuning:
    """The dense model of a ladder with several values of one setting, all with the same seeds.

    setting: a name of `config.Training`. field: the ladder, with those seeds; its own value of the
    setting is among the values. runs: value, rising → its records, one a seed.
    """

    setting: str
    field: Field
    runs: dict[float, list[Record]]

    @property
    def own(self) -> float:
        """The value that the ladder has."""
        return getattr(self.field.spec.training, self.setting)

    def recall(self, value: float, part: str = "test") -> np.ndarray:
        """Recall@20 of the dense model with a value, one a seed."""
        return np.array([r.metric("recall@20", part) for r in self.runs[value]])

    @property
    def chosen(self) -> float:
        """The value with the best mean Recall@20 on valid."""
        return max(self.runs, key=lambda value: self.recall(value, "valid").mean())

    @property
    def gain(self) -> Interval:
        """The tuned dense model to the ladder's own, in Recall@20 on test."""
        return difference(self.runs[self.chosen], self.runs[self.own])

    @property
    def ticket(self) -> Standing | None:
        """The ladder's best ticket, chosen on valid."""
        return self.field.best

    @property
    def lead(self) -> Interval | None:
        """That ticket to the tuned dense model, in Recall@20 on test; None without a ticket."""
        if self.ticket is None:
            return None
        return difference(self.field.records(self.ticket.number), self.runs[self.chosen])

    @property
    def verdict(self) -> str:
        """What becomes of the ticket's lead, in a few words."""
        if self.ticket is None:
            return "no ticket was run"
        before, after = sign(self.ticket.difference), sign(self.lead)
        if after > 0:
            return "the lead stays"
        if after < 0:
            return "tuned, the dense model is better"
        return "the lead is no longer shown" if before > 0 else "not decided"


def tunings(setting: str, fields: Sequence[Field], dense: Sequence[Field]) -> list[Tuning]:
    """Each ladder beside the dense models that differ from its own in one setting alone.

    fields: ladders. dense: fields of the dense model alone, with values of the setting; the
    ladder's own is its rung 0. A ladder without another value is left out. Values count that were
    run with the most of its seeds, and seeds that all of these have.
    """
    found = []
    for one in fields:
        if one.records(0) is None:
            continue
        beside = [d for d in dense if _is_other(setting, d, one)]
        shares = [len(set(d.seeds) & set(one.seeds)) for d in beside]
        beside = [d for d, share in zip(beside, shares, strict=True) if share == max(shares)]
        seeds = [s for s in one.seeds if all(s in d.seeds for d in beside)]
        if not beside or not seeds:
            continue
        shared = one.with_seeds(seeds)
        runs = {getattr(d.spec.training, setting): d.with_seeds(seeds).records(0) for d in beside}
        runs[getattr(one.spec.training, setting)] = shared.records(0)
        found.append(Tuning(setting, shared, dict(sorted(runs.items()))))
    return found


def beside_tuned(one: Narrow, found: Sequence[Tuning]) -> Interval | None:
    """The ticket of a wide table beside the narrow dense one with its setting tuned, instead of as
    it is: the relative difference in Recall@20 on test, over the seeds that both have; None where
    the narrow table was not tuned."""
    for tuned in found:
        if tuned.field.kind == one.narrow.kind and tuned.field.spec == one.narrow.spec:
            seeds = [s for s in tuned.field.seeds if s in one.wide.seeds]
            dense = [tuned.runs[tuned.chosen][tuned.field.seeds.index(s)] for s in seeds]
            return difference(one.wide.with_seeds(seeds).records(one.number), dense)
    return None


def _is_other(setting: str, dense: Field, one: Field) -> bool:
    value = getattr(dense.spec.training, setting)
    if value == getattr(one.spec.training, setting) or dense.records(0) is None:
        return False
    same = one.spec.with_training(**{setting: value}) == dense.spec
    return same and dense.kind[1:] == one.kind[1:]


def batches(fields: Sequence[Field]) -> list[Field]:
    """The ladders of which there are others of the same model, data, protocol and pruning with
    batches of another size, those beside each other, small batches first."""

    def kind(one: Field) -> tuple:
        return one.published, one.spec.model, one.spec.training.protocol, one.ladder

    def size(one: Field) -> int:
        return one.spec.training.batch_size

    groups: dict[tuple, list[Field]] = {}
    for one in fields:
        groups.setdefault(kind(one), []).append(one)
    return [
        one
        for group in groups.values()
        if len({size(other) for other in group}) > 1
        for one in sorted(group, key=size)
    ]

"""How fast tickets train: best epochs, epochs to the dense model's quality, and seconds (§4.6).

The paper's measure is j/j′, the dense model's best epoch over the ticket's. A best epoch is where a
flat, noisy curve happens to be highest, so a second measure stands beside it: the epoch at which
the ticket first reaches what the dense model of its seed reaches at its best. Runs that never do
are counted, not left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lthnb.standings import Field
from lthnb.store.records import Record
from lthnb.verdicts import Interval, ratio_interval


@dataclass(frozen=True)
class Pace:
    """The training speed of one rung, beside the dense model of the same seed.

    Ratios are geometric means over seeds. by_best: j/j′. by_match: j over the epoch at which the
    ticket first matches the dense model's best, over the seeds that do; None where none does.
    matched, runs: how many of how many do. seconds: of an epoch, evaluation included, as a ratio
    dense over ticket; None where a run took no measurable time. keys: the runs.
    """

    number: int
    density: float
    by_best: Interval
    by_match: Interval | None
    matched: int
    runs: int
    seconds: Interval | None
    keys: tuple[str, ...]


def first_match(ticket: Record, dense: Record) -> int | None:
    """The first epoch at which the ticket is at least as good as the dense model at its best, on
    the part that chooses epochs; None where it never is."""
    best = max(value for _, value, _ in dense.results["evaluations"])
    for epoch, value, _ in ticket.results["evaluations"]:
        if value >= best:
            return int(epoch)
    return None


def pace(number: int, tickets: Sequence[Record], dense: Sequence[Record]) -> Pace:
    """The speed of a rung; tickets, dense: records, one a seed, in the same order."""
    pairs = list(zip(tickets, dense, strict=True))
    matches = [(d.best_epoch, first_match(t, d)) for t, d in pairs]
    ratios = [j / first for j, first in matches if first is not None]
    took = [(t.seconds / t.epochs, d.seconds / d.epochs) for t, d in pairs]
    return Pace(
        number,
        tickets[0].density,
        ratio_interval([d.best_epoch / t.best_epoch for t, d in pairs]),
        ratio_interval(ratios) if ratios else None,
        len(ratios),
        len(pairs),
        ratio_interval([b / a for a, b in took]) if all(a > 0 for a, _ in took) else None,
        tuple(t.key for t in tickets),
    )


def paces(field: Field) -> list[Pace | None]:
    """One :class:`Pace` a rung, None where a training of it, or of the dense model, is missing."""
    dense = field.records(0)
    found = [field.records(number) for number in range(len(field.rungs[0]))]
    return [
        None if dense is None or records is None else pace(number, records, dense)
        for number, records in enumerate(found)
    ]

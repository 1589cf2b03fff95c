"""Every form beside every other, on one ticket: bytes of the file against the bound, and how fast
it is read."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lthnb.packing.forms import FORMS
from lthnb.packing.tickets import AT_ONCE, Packed, Ticket, load, pack
from lthnb.packing.values import VALUES

SINGLE_ROWS = 200


@dataclass(frozen=True)
class Weight:
    """What a ticket weighs in a form and a kind of values.

    bytes: of the file, headers included, labels apart. bound: bytes (:meth:`Ticket.bound`). dense:
    bytes of the float32 table.
    """

    form: str
    values: str
    bytes: int
    bound: float
    dense: int

    @property
    def over_bound(self) -> float:
        """Bytes / bound."""
        return self.bytes / self.bound

    @property
    def smaller(self) -> float:
        """How many times smaller than the dense float32 table."""
        return self.dense / self.bytes


@dataclass(frozen=True)
class Comparison(Weight):
    """The same, and how fast it is read.

    kept: entries. rows: users and items. whole: seconds to decode all rows, one a repeat; of this
    thread's processor time, which other processes add little to. single: seconds to decode one row
    at random, likewise.
    """

    kept: int
    rows: int
    whole: tuple[float, ...]
    single: tuple[float, ...]


def weigh(
    ticket: Ticket,
    values: Sequence[str] = ("float32", "float16", "int8"),
    names: Sequence[str] = tuple(FORMS),
) -> list[Weight]:
    """A ticket packed in every way, without its labels: bytes alone."""
    ticket = replace(ticket, user_labels=None, item_labels=None)
    with tempfile.TemporaryDirectory() as folder:
        return [
            Weight(name, kind, path.stat().st_size, *beside)
            for kind in values
            for beside in [_beside(ticket, kind)]
            for name in names
            for path in [pack(ticket, name, kind).save(Path(folder) / f"{name}-{kind}")]
        ]


def _beside(ticket: Ticket, kind: str) -> tuple[float, int]:
    return ticket.bound(VALUES[kind].bits), 4 * ticket.kept.size


def compare(
    ticket: Ticket,
    values: Sequence[str] = ("float16", "int8"),
    names: Sequence[str] = tuple(FORMS),
    repeats: int = 5,
) -> list[Comparison]:
    """Pack a ticket in every way, write it, map it again, and read it: all ways in turn, so that a
    busy moment hits all alike. Without its labels; one more round, the first, is not counted."""
    ticket = replace(ticket, user_labels=None, item_labels=None)
    rng = np.random.default_rng(0)
    picks = rng.integers(0, max(1, ticket.users), SINGLE_ROWS)
    with tempfile.TemporaryDirectory() as folder:
        found, beside = {}, {}
        for kind in values:
            beside[kind] = _beside(ticket, kind)
            for name in names:
                path = Path(folder) / f"{name}-{kind}.safetensors"
                pack(ticket, name, kind).save(path)
                found[name, kind] = path.stat().st_size, load(path), [], []
        for _ in range(repeats + 1):
            for _, packed, whole, single in found.values():
                whole.append(_seconds_to_read(packed))
                single.append(_seconds_to_pick(packed, picks))
    return [
        Comparison(
            name,
            kind,
            size,
            *beside[kind],
            int(np.count_nonzero(ticket.kept)),
            len(ticket.kept),
            tuple(whole[1:]),
            tuple(single[1:]),
        )
        for (name, kind), (size, _, whole, single) in found.items()
    ]


def _seconds_to_read(packed: Packed) -> float:
    began = time.thread_time()
    for side in (packed.users, packed.items):
        for start in range(0, side.rows, AT_ONCE):
            side.block(start, min(start + AT_ONCE, side.rows))
    return time.thread_time() - began


def _seconds_to_pick(packed: Packed, picks: np.ndarray) -> float:
    if not packed.users.rows:
        return float("nan")
    began = time.thread_time()
    for row in picks.tolist():
        packed.users.block(row, row + 1)
    return (time.thread_time() - began) / len(picks)

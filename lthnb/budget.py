"""What tickets take and give in bytes and Recall, and the best of them that fits into a budget."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lthnb.data import Interactions
from lthnb.evaluation import TOP
from lthnb.packing import Ticket, load, pack
from lthnb.packing.tickets import SCORES
from lthnb.replays import reopen
from lthnb.serving import TicketRecommender, evaluate, propagated
from lthnb.standings import Field
from lthnb.training import Control


@dataclass(frozen=True)
class Cost:
    """What a ticket takes and gives in one kind of values.

    run: key of the training, where the ticket says so. file: bytes of the file. resident: bytes
    that serving holds or maps, of LightGCN those of the spread table. metrics: part → as
    :meth:`lthnb.evaluation.Hits.means` has them, of what is served.
    """

    run: str
    values: str
    forms: tuple[str, str]
    density: float
    file: int
    resident: int
    metrics: dict[str, dict[str, float]]


def costs(
    ticket: Ticket,
    data: Interactions,
    parts: Sequence[str] = ("test",),
    kinds: Sequence[str] = ("float32", "float16", "int8"),
    form: str = "auto",
) -> list[Cost]:
    """Bytes of the file, bytes in memory, and Recall and its like, for each kind of values.

    Each is written, loaded again, and asked for every user with something in a part; a LightGCN
    ticket, which is its layer 0, is spread when it is loaded (:func:`lthnb.serving.propagated`).
    """
    found = []
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            path = pack(ticket, form, kind).save(Path(folder) / "ticket.safetensors")
            packed = load(path)
            layers = packed.about.get("scores") == SCORES["layers"]
            server = TicketRecommender(propagated(packed, data) if layers else packed)
            sides = packed.users, packed.items
            kept = sum(side.kept for side in sides)
            found.append(
                Cost(
                    ticket.about.get("run", ""),
                    kind,
                    tuple(side.form for side in sides),
                    kept / ticket.kept.size,
                    os.path.getsize(path),
                    server.nbytes,
                    {part: evaluate(server, data, part).means((TOP,)) for part in parts},
                )
            )
    return found


def costs_of_ladder(
    field: Field, data: Interactions, control: Control, *, replay: bool = True
) -> list[Cost]:
    """:func:`costs` of every rung that was run with the first seed, dense first, labels left out:
    on the part that chooses, and on test.

    data: as the field was climbed on. replay: whether a table that the store lacks is trained
    again; else its rung is left out.
    """
    parts = tuple(dict.fromkeys((field.chosen_on, "test")))
    found = []
    for rung in field.rungs[0]:
        key = rung.record and rung.record.key
        if key and (replay or control.store.find_weights(key, "best") is not None):
            ticket = Ticket.of(reopen(rung.record, data, control))
            found += costs(replace(ticket, user_labels=None, item_labels=None), data, parts)
    return found


def best_within(found: Sequence[Cost], size: float, part: str) -> Cost | None:
    """Of those whose file is no larger than so many bytes, the one with the best Recall@20 on a
    part, and of equal ones the smallest; None where nothing fits."""
    fitting = [one for one in found if one.file <= size]
    return max(fitting, key=lambda c: (c.metrics[part]["recall@20"], -c.file), default=None)


def measured_costs(measured: Sequence[dict[str, Any]]) -> dict[str, list[Cost]]:
    """Title of a ladder → its costs, of the records that have them (:mod:`lthnb.measured`)."""
    return {
        record["costs"]["title"]: [
            Cost(**{**one, "forms": tuple(one["forms"])}) for one in record["costs"]["tickets"]
        ]
        for record in measured
        if "costs" in record
    }

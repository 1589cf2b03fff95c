"""The recorded runs: what they took, and what is still wanted."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lthnb.plots.style import minutes_said, table
from lthnb.standings import BACKBONE_NAMES
from lthnb.store.records import Record
from lthnb.store.runs import Store
from lthnb.wanted import Line, model_said, rest, there


def evidence_table(wanted: Sequence[Line], store: Store):
    """A line for each of what the book wants, by data and protocol: how much of it is
    recorded, what that took, and about what the rest will take (:func:`wanted.rest`). A run that
    lines share is in each.
    """
    records = store.recorded()
    rows = []
    for one in wanted:
        ran = there(one, records, store)
        rows.append(
            {
                "data": f"{one.source}, {one.spec.training.protocol}",
                "model": model_said(one),
                "ladder": one.said,
                "for": one.what_for,
                "seeds": len(one.seeds),
                "recorded": f"{len(ran)} of {one.trainings}",
                "epochs": sum(r.epochs for r in ran) or None,
                "took": minutes_said(sum(r.seconds for r in ran)) if ran else None,
                "the rest, about": _left(one, len(ran), records),
            }
        )
    return table(
        pd.DataFrame(rows),
        "Ladders that the book wants, and what is recorded of them",
        "Times are of the recorded machine, other work beside it included. «≈»: nothing like it is "
        "recorded yet, and runs of other sizes or other data were scaled up or down, which was "
        "wrong by up to a factor of six where that was checked; `python -m lthnb ladder --plan` "
        "measures it.",
        groups="data",
    ).fmt_number("epochs", decimals=0)


def _left(one: Line, ran: int, records: Sequence[Record]) -> str | None:
    missing = one.trainings - ran
    return rest(missing, one, records).said(minutes_said) if missing else None


def compute_table(records: Sequence[Record]):
    """What the recorded runs took, each counted once: by data, protocol, model and step, and in
    all."""
    rows: dict[tuple, list[Record]] = {}
    for r in records:
        model, t = r.spec["model"], r.spec["training"]
        name = f"{BACKBONE_NAMES.get(model['backbone'], model['backbone'])}, "
        name += f"F = {model['embedding_size']}"
        rows.setdefault((r.data["name"], t["protocol"], name, t["step"]), []).append(r)
    lines = [
        dict(zip(("data", "protocol", "model", "step"), group, strict=True)) | _sum(found)
        for group, found in sorted(rows.items())
    ]
    lines.append({"data": "in all", "protocol": "", "model": "", "step": ""} | _sum(records))
    return table(
        pd.DataFrame(lines),
        "What the recorded runs took",
        "Wall time of the trainings, evaluations included, on the machines of the records, other "
        "work beside them included.",
    ).fmt_number(["trainings", "epochs"], decimals=0)


def _sum(records: Sequence[Record]) -> dict[str, object]:
    return {
        "trainings": len(records),
        "epochs": sum(r.epochs for r in records),
        "took": minutes_said(sum(r.seconds for r in records)),
    }

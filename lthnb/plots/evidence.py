"""The recorded runs: what they took, and what is still wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lthnb.data import Shape
from lthnb.lottery import Planned, plan
from lthnb.plots.style import NAMES, minutes_said, table
from lthnb.profiles import RECORDED, Wanted
from lthnb.standings import BACKBONE_NAMES, otherwise, seeded
from lthnb.store import Record, Store


def evidence_table(wanted: Sequence[Wanted], store: Store):
    """A line for each ladder that the book wants: how much of it is recorded, what that took, and
    about what the rest will take.

    The estimate is the mean time of the recorded trainings of the same data, backbone and size; a
    ladder of which nothing like it is recorded has none. A run that ladders share is in the line of
    each.
    """
    records = store.recorded()
    rows = []
    for one in wanted:
        rungs = _rungs(one, records, store)
        there = [r.record for r in rungs if r.record is not None]
        like = [r.seconds for r in records if _alike(r, one)]
        missing = len(one.seeds) * one.ladder.trainings - len(there)
        rows.append(
            {
                "data": one.source,
                "protocol": one.spec.training.protocol,
                "model": f"{BACKBONE_NAMES[one.spec.model.backbone]}, "
                f"F = {one.spec.model.embedding_size}",
                "ladder": _said(one),
                "for": one.what_for,
                "seeds": len(one.seeds),
                "recorded": f"{len(there)} of {len(there) + missing}",
                "epochs": sum(r.epochs for r in there) or None,
                "took": minutes_said(sum(r.seconds for r in there)) if there else None,
                "the rest, about": _rest(missing, like),
            }
        )
    return table(
        pd.DataFrame(rows),
        "Ladders that the book wants, and what is recorded of them",
        "Times are of the recorded machine, other work beside it included. «unknown»: nothing like "
        "it is recorded yet; `python -m lthnb ladder --plan` measures it.",
    ).fmt_number("epochs", decimals=0)


def _rungs(one: Wanted, records: Sequence[Record], store: Store) -> list[Planned]:
    """What is recorded of a ladder, on whichever split and step of its source has most of it."""
    shapes = {
        r.data["digest"]: Shape.of(r.data)
        for r in records
        if r.data["origin"].get("source") == one.source
    }
    best: list[Planned] = []
    for shape in shapes.values():
        for step in ("cpu", "cuda"):
            spec = one.spec.with_training(step=step)
            found = [r for s in one.seeds for r in plan(*seeded(one.ladder, spec, s), shape, store)]
            best = max(best, found, key=lambda rungs: sum(r.record is not None for r in rungs))
    return best


def _alike(record: Record, one: Wanted) -> bool:
    model = record.spec["model"]
    return (
        record.data["origin"].get("source") == one.source
        and model["backbone"] == one.spec.model.backbone
        and model["embedding_size"] == one.spec.model.embedding_size
        and record.spec["training"]["step"] != "reference"
    )


def _rest(missing: int, like: Sequence[float]) -> str | None:
    if not missing:
        return None
    return minutes_said(missing * float(np.mean(like))) if like else "unknown"


def _said(one: Wanted) -> str:
    """A ladder in a few words, and what it has otherwise than the other recorded ladders."""
    ladder, training = one.ladder, one.spec.training
    usual = RECORDED[training.protocol].base.spec(one.spec.model.backbone).training
    names = ("l2", "learning_rate", "patience", "evaluate_every")
    other = otherwise(training, usual, names)
    if not ladder.rungs and not ladder.densities:
        return ", ".join(["dense", *other])
    how = NAMES[ladder.method]
    steps = f"{ladder.pruning_rate:.0%} × {ladder.rungs}"
    if ladder.densities:
        steps = f"{len(ladder.densities)} densities"
    way = [] if ladder.rewind == "rewind" else [ladder.rewind]
    cut = [] if ladder.prune_from == "best" else [f"pruned after the {ladder.prune_from} epoch"]
    return ", ".join([how, *way, steps, *cut, *other])


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

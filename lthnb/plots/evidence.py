"""The recorded runs: what they took, and what is still wanted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from lthnb.compression import compressions_of
from lthnb.data import Shape
from lthnb.lottery import plan
from lthnb.plots.style import NAMES, minutes_said, table
from lthnb.profiles import RECORDED, Wanted, WantedMatch
from lthnb.sources import SOURCES
from lthnb.standings import BACKBONE_NAMES, otherwise, seeded
from lthnb.store import Record, Store
from lthnb.training import Control


def evidence_table(wanted: Sequence[Wanted | WantedMatch], store: Store):
    """A line for each ladder or match that the book wants, by data and protocol: how much of it is
    recorded, what that took, and about what the rest will take (:func:`_rest`). A run that lines
    share is in each.
    """
    records = store.recorded()
    rows = []
    for one in wanted:
        there = _there(one, records, store)
        model = one.spec.model
        rows.append(
            {
                "data": f"{one.source}, {one.spec.training.protocol}",
                "model": f"{BACKBONE_NAMES[model.backbone]}, F = {model.embedding_size}",
                "ladder": _said(one),
                "for": one.what_for,
                "seeds": len(one.seeds),
                "recorded": f"{len(there)} of {one.trainings}",
                "epochs": sum(r.epochs for r in there) or None,
                "took": minutes_said(sum(r.seconds for r in there)) if there else None,
                "the rest, about": _rest(one.trainings - len(there), one, records),
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


def _there(one: Wanted | WantedMatch, records: Sequence[Record], store: Store) -> list[Record]:
    """The records of what is wanted, on whichever split and step of its source has most of it."""
    of_source = [r for r in records if r.data["origin"].get("source") == one.source]
    shapes = {r.data["digest"]: Shape.of(r.data) for r in of_source}
    best: list[Record] = []
    for shape in shapes.values():
        for device in ("cpu", "cuda"):
            found = _looked_up(one, shape, store, device)
            best = max(best, list({r.key: r for r in found}.values()), key=len)
    return best


def _looked_up(
    one: Wanted | WantedMatch, shape: Shape, store: Store, device: str
) -> Iterator[Record]:
    """The records on one split, by the step that `auto` means on a device."""
    for seed in one.seeds:
        for rung in plan(*seeded(one.ladder, one.spec, seed), shape, store, device):
            if rung.record is not None:
                yield rung.record
    if isinstance(one, WantedMatch):
        control = Control(store, device=device)
        for beside in compressions_of([one.match], shape, one.seeds, control, train_missing=False):
            yield from (r for m in ("lcm", "small") for r in beside.runs[m] if r is not None)


def _rest(missing: int, one: Wanted | WantedMatch, records: Sequence[Record]) -> str | None:
    """About how long `missing` trainings take: each the mean time of the recorded ones of the same
    data, backbone, size and batch size, whatever their other settings; where there are none, of
    those of the same backbone, scaled, and of the same data if there are any. A training that is
    told to run all its epochs takes all of them."""
    if not missing:
        return None
    # What LCM takes is most of what a match takes, and it is trained by `reference` alone.
    usable = [
        r
        for r in records
        if r.spec["model"]["backbone"] == one.spec.model.backbone
        and (isinstance(one, WantedMatch) or r.spec["training"]["step"] != "reference")
    ]
    same_data = [r for r in usable if r.data["origin"].get("source") == one.source]
    model, training = one.spec.model, one.spec.training
    setting = model.embedding_size, training.batch_size
    like = [r for r in same_data if _setting(r) == setting]
    pairs = _pairs(one.source, records)
    of = like or same_data or usable
    if not of or pairs is None:
        return "unknown"
    work = _work(model.backbone, pairs, *setting)
    seconds = [
        r.seconds
        * (1.0 if like else work / _work(model.backbone, r.data["train"], *_setting(r)))
        * (training.epochs / r.epochs if training.patience >= training.epochs else 1.0)
        for r in of
    ]
    return ("" if like else "≈ ") + minutes_said(missing * float(np.mean(seconds)))


def _setting(r: Record) -> tuple[int, int]:
    """What a training's time hangs on beside data and backbone: embedding size and batch size."""
    return r.spec["model"]["embedding_size"], r.spec["training"]["batch_size"]


def _pairs(source: str, records: Sequence[Record]) -> int | None:
    """Training pairs of a source: of its records, else as it should have them."""
    there = (r.data["train"] for r in records if r.data["origin"].get("source") == source)
    return next(there, SOURCES[source].expected.get("train"))


def _work(backbone: str, pairs: int, size: int, batch: int) -> float:
    """What an epoch costs, up to a factor: MF touches the rows of its pairs once, LightGCN sends
    the whole table over all pairs once a batch."""
    return float(pairs) * size * (pairs / batch if backbone == "lightgcn" else 1.0)


def _said(one: Wanted | WantedMatch) -> str:
    """What is wanted in a few words, and what it has otherwise than the other recorded ladders."""
    if isinstance(one, WantedMatch):
        densities = " and ".join(f"{p:.0%}" for p in one.match.densities)
        return f"tickets, LCM and small dense models at {densities}"
    ladder, training = one.ladder, one.spec.training
    usual = RECORDED[training.protocol].base.spec(one.spec.model.backbone).training
    names = ("l2", "learning_rate", "batch_size", "patience", "evaluate_every")
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

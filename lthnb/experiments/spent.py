"""What a ticket costs: epochs of its own training and of all that it comes from."""

from __future__ import annotations

import pandas as pd

from lthnb.store.files import StoreError
from lthnb.store.runs import Store


def epochs_spent(rows: pd.DataFrame) -> pd.Series:
    """By the index of some rows, the epochs of each run and of the runs that gave its mask, its
    start, its teacher or its pairs, and theirs, each run once: a whole run where its best epoch was
    asked for, else as far as it was needed. Choosing λ and the learning rate is not among them, nor
    are further seeds that were asked, or a run that only turned the start of a mask carried over.

    Raises StoreError where such a run is not recorded.
    """
    store, known = Store(), {}
    for key in dict.fromkeys(rows["key"]):
        needed: dict[str, int] = {}
        _add(store, key, None, needed)
        known[key] = sum(needed.values())
    return rows["key"].map(known)


def _add(store: Store, key: str, until: int | None, needed: dict[str, int]) -> None:
    """Put a run's epochs, all of them or as many as are asked for, and those of the runs that it
    comes from, among those that are needed."""
    record = store.find(key)
    if record is None:
        raise StoreError(f"run {key[:8]}: not recorded, so that its epochs are not known.")
    epochs = record.epochs if until is None else until
    if epochs > needed.get(key, -1):
        needed[key] = epochs
        row, asked = record.row, record.origin.get("pairs", {}).get("run")
        mask = (row["mask_from"], (record.pruning or {}).get("weights"))
        start = (row["start_from"], row["start_epoch"])
        for other, epoch in (mask, start, (row["teacher"], None), (asked, None)):
            if other:
                _add(store, other, int(epoch) if str(epoch).isdigit() else None, needed)

"""Kept values in fewer bits: float32, float16, or int8 with a scale for each row."""

from __future__ import annotations

import numpy as np

from lthnb.config import one_of

VALUES = ("float32", "float16", "int8")


def encode(table: np.ndarray, kept: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    """The kept values of a table (rows, F) as tensors: `values` (n,), and for int8, which is
    rounded to 127 steps of the row's largest, `scales` (rows,). kept: bool (rows, F), the mask.
    kind: of :data:`VALUES`; raises ConfigError for another."""
    one_of("values", kind, VALUES)
    values = table[kept]
    if kind != "int8":
        return {"values": values.astype(kind)}
    largest = np.abs(table).max(1, where=kept, initial=0).astype(np.float32)
    scales = np.where(largest > 0, largest / np.float32(127), np.float32(1))
    rows = np.nonzero(kept)[0]
    return {"values": np.rint(values / scales[rows]).astype(np.int8), "scales": scales}


def decode(tensors: dict[str, np.ndarray], kept: np.ndarray) -> np.ndarray:
    """The table, float32 (rows, F), whose kept values :func:`encode` made tensors of."""
    table, values = np.zeros(kept.shape, np.float32), tensors["values"].astype(np.float32)
    if "scales" in tensors:
        values *= np.repeat(tensors["scales"], kept.sum(1))
    table[kept] = values
    return table

"""Masks, and how they shrink: criteria, scopes, and the one function that prunes.

A criterion gives every entry a score; :func:`prune` removes the lowest among those that are kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lthnb.config import DENSE, ConfigError
from lthnb.rng import stream_bits

Score = Callable[[np.ndarray, int], np.ndarray]  # weights (rows, F) and a seed → scores (rows, F)
DIVERGED = "the training diverged. Lower the learning rate."


@dataclass(frozen=True, eq=False)
class Mask:
    """Which entries of the table are kept: bool, (rows, size), never changed in place. Refuses all
    but booleans, so that no mask scales a table."""

    kept: np.ndarray

    def __post_init__(self) -> None:
        kept = np.asarray(self.kept)
        if kept.ndim != 2 or kept.dtype != np.bool_:
            found = f"{kept.dtype} of {kept.ndim} dimensions"
            raise ConfigError(f"mask: found {found}, expected bool of 2 (rows × size).")
        kept = kept.copy() if kept.flags.writeable else kept
        kept.flags.writeable = False
        object.__setattr__(self, "kept", kept)

    @classmethod
    def dense(cls, rows: int, size: int) -> Mask:
        """The mask of the dense model: all entries are kept."""
        return cls(np.ones((rows, size), bool))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, F)."""
        return self.kept.shape

    @property
    def entries(self) -> int:
        """Entries that are kept, ‖M‖₀."""
        return int(np.count_nonzero(self.kept))

    @property
    def density(self) -> float:
        """Share of the entries that are kept; sparsity is one minus this."""
        return self.entries / self.kept.size

    @cached_property
    def digest(self) -> str:
        """`dense` where all entries are kept, else SHA-256 over shape and bits, first 128 bits."""
        if self.kept.all():
            return DENSE
        h = hashlib.sha256(np.array(self.kept.shape, "<i8").tobytes())
        h.update(np.packbits(self.kept).tobytes())
        return h.hexdigest()[:32]


def magnitude(weights: np.ndarray, seed: int) -> np.ndarray:
    """|w|: the criterion of Algorithm 1, of the shape of `weights`."""
    return np.abs(weights)


def row_rank(weights: np.ndarray, seed: int) -> np.ndarray:
    """Place of each entry in its own row, by magnitude: 0 for the smallest, F − 1 for the largest.

    Whatever is pruned, rows then differ by one entry at most. int64, the shape of `weights`; of
    equal magnitudes the one in the lower column comes first. Not-a-number is refused.
    """
    if np.isnan(weights).any():
        raise ConfigError("weights: found not-a-number; " + DIVERGED)
    order = np.argsort(np.abs(weights), axis=1, kind="stable")
    return np.argsort(order, axis=1, kind="stable")


def row_floor(weights: np.ndarray, seed: int) -> np.ndarray:
    """|w|, and infinity for the largest entry of each row, so that none is emptied while there are
    as many entries as rows; the shape of `weights`. Of equal ones the first column has it."""
    if np.isnan(weights).any():
        raise ConfigError("weights: found not-a-number; " + DIVERGED)
    scores = np.abs(weights)
    first = scores.argmax(axis=1)[:, None]
    np.put_along_axis(scores, first, np.inf, axis=1)
    return scores


def columns(weights: np.ndarray, seed: int) -> np.ndarray:
    """Place of each entry's column from the right, so that the last columns go first. In principal
    axes this leaves the best approximation of XXᵀ by so many columns (Eckart–Young)."""
    size = weights.shape[1]
    return np.broadcast_to(np.arange(size)[::-1], weights.shape)


CRITERIA: dict[str, Score] = {
    "magnitude": magnitude,
    "row_rank": row_rank,
    "row_floor": row_floor,
    "columns": columns,
}

# Scope → the row ranges that are pruned, each with a threshold of its own.
SCOPES: dict[str, Callable[[int, int], list[tuple[int, int]]]] = {
    "join": lambda users, rows: [(0, rows)],
    "user": lambda users, rows: [(0, users)],
    "item": lambda users, rows: [(users, rows)],
    "user_item": lambda users, rows: [(0, users), (users, rows)],
}


def targets_by_rate(sizes: tuple[int, ...], rate: float, rounds: int) -> list[tuple[int, ...]]:
    """Entries to keep at rounds 1 … I, in each row range of the scope, whose entries `sizes` gives:
    each round prunes exactly ``round(rate · surviving)``, halves to even."""
    out, left = [], tuple(sizes)
    for _ in range(rounds):
        left = tuple(n - round(rate * n) for n in left)
        out.append(left)
    return out


def prune(
    mask: Mask, scores: np.ndarray, keep: tuple[int, ...], *, users: int, scope: str = "join"
) -> Mask:
    """Line 5 of Algorithm 1: of the kept entries, those with the lowest scores are pruned.

    scores: of the mask's shape. keep: entries to keep, one number for each row range of the scope;
    a range that has no more is left alone. users: how many of the rows are users. Of entries with
    equal scores, those with the lower flat index (row-major) go first. Raises ConfigError on a
    wrong shape, and a score that is not a number.
    """
    if scores.shape != mask.shape:
        raise ConfigError(f"scores: found shape {scores.shape}, expected {mask.shape}.")
    kept = mask.kept.copy()
    for (first, last), wanted in zip(SCOPES[scope](users, mask.shape[0]), keep, strict=True):
        part = kept[first:last].reshape(-1)  # a view: whole rows lie side by side
        alive = np.flatnonzero(part)
        score = scores[first:last].reshape(-1)[alive]
        if score.dtype.kind == "f" and np.isnan(score).any():
            raise ConfigError(
                "scores: found not-a-number among kept entries; if no criterion of your own gave "
                f"it, {DIVERGED}"
            )
        count = alive.size - wanted
        if count <= 0:
            continue
        threshold = np.partition(score, count - 1)[count - 1]
        below = score < threshold
        ties = np.flatnonzero(score == threshold)[: count - np.count_nonzero(below)]
        part[alive[below]] = False
        part[alive[ties]] = False
    return Mask(kept)


def drawn(about: Mapping[str, Any]) -> Mask:
    """A random mask, by what its pruning depends on: `seed`, `shape`, `users`, `scope`, `keep`. Its
    scores are bits of the stream "prune"."""
    shape = tuple(about["shape"])
    scores = stream_bits(about["seed"], "prune", np.arange(math.prod(shape))).reshape(shape)
    return pruned_by(about, Mask.dense(*shape), scores)


def pruned_by(about: Mapping[str, Any], before: Mask, scores: np.ndarray) -> Mask:
    """:func:`prune`, with what the pruning depends on as plain data."""
    keep = tuple(about["keep"])
    return prune(before, scores, keep, users=about["users"], scope=about["scope"])

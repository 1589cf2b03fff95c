"""Masks before any training: scores for every entry from the interactions alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse.linalg import svds

from lthnb.data import Interactions


def svd(data: Interactions, size: int) -> np.ndarray:
    """Entries of the truncated singular value decomposition of the train pairs, the largest value
    first; (rows, F). Its square root goes to either side, as users and items of a table have it.
    """
    start = np.ones(min(data.train.shape))  # ARPACK's, else a random one
    count = min(size, len(start) - 1)  # ARPACK finds no more; further columns stay empty
    left, values, right = svds(data.train.astype(np.float64), k=count, v0=start)
    both = np.abs(np.concatenate([left, right.T]) * np.sqrt(values))[:, ::-1]
    return np.pad(both, ((0, 0), (0, size - count)))


def degree(data: Interactions, size: int) -> np.ndarray:
    """Row budgets that grow with the square root of how many train pairs a row has (dimensions by
    popularity: Ginart et al. 2021); of a row the first columns are kept. (rows, F)."""
    pairs = np.concatenate([data.user_degree, data.item_degree])
    return np.sqrt(pairs)[:, None] / np.arange(1, size + 1)


UNTRAINED: dict[str, Callable[[Interactions, int], np.ndarray]] = {"svd": svd, "degree": degree}

"""Axes in which a table is pruned: an orthogonal matrix Q, F × F, for a trained table X.

Scores are inner products of rows, and the L2 term is a sum of squares, so neither changes when X
becomes XQ; LightGCN's propagation acts from the left, (ÂX)Q = Â(XQ). Which entries are small
changes. A basis is read from the trained table, and X⁰Q is the start in its axes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from lthnb.config import ConfigError, one_of
from lthnb.data import Interactions
from lthnb.rng import stream_start

VARIMAX_STEPS, VARIMAX_GAIN = 200, 1e-7  # at most so many, and until a step gains less than this


def scored(data: Interactions) -> np.ndarray:
    """How often training scores a row, relative to a user; float64 (users + items,). A triplet has
    a user, all alike; one of the user's items; and one of the others (:mod:`sampling`)."""
    share = sp.diags_array(1 / np.maximum(data.user_degree, 1)) @ data.train
    free = 1 / np.maximum(data.items - np.diff(data.taken.indptr), 1)
    negative = free.sum() - sp.diags_array(free).dot(data.taken).sum(0)
    items = np.asarray(share.sum(0)).ravel() + np.asarray(negative).ravel()
    return np.concatenate([np.full(data.users, 2.0), items])


def principal(table: np.ndarray, weight: np.ndarray | float = 1.0) -> np.ndarray:
    """Eigenvectors of XᵀWX, the largest eigenvalue first; signs such that the largest component of
    each is positive. table: X, (users + items, F). weight: of each row, the diagonal of W."""
    x = np.asarray(table, np.float64)
    vectors = scipy.linalg.eigh(x.T @ (x * np.reshape(weight, (-1, 1))))[1][:, ::-1]
    largest = vectors[np.abs(vectors).argmax(0), np.arange(len(vectors))]
    return vectors * np.sign(largest)


def varimax(table: np.ndarray, data: Interactions) -> np.ndarray:
    """From the principal axes to those in which the variance of the squares of each column is
    largest (Kaiser 1958), by the usual iteration over singular values."""
    first = principal(table)
    x = np.asarray(table, np.float64) @ first
    turn, before = np.eye(x.shape[1]), 0.0
    for _ in range(VARIMAX_STEPS):
        y = x @ turn
        left, values, right = np.linalg.svd(x.T @ (y**3 - y * (y**2).mean(0)))
        turn = left @ right
        if values.sum() <= before * (1 + VARIMAX_GAIN):
            break
        before = values.sum()
    return first @ turn


def hadamard(table: np.ndarray, data: Interactions) -> np.ndarray:
    """Principal axes spread evenly over all columns: bad to prune in, good to round in. Raises
    ConfigError unless F is a power of two."""
    size = table.shape[1]
    if size & (size - 1):
        raise ConfigError(f"basis 'hadamard': found {size} dimensions, expected a power of two.")
    return principal(table) @ (scipy.linalg.hadamard(size) / np.sqrt(size))


def random(table: np.ndarray, data: Interactions) -> np.ndarray:
    """One that is drawn uniformly among the orthogonal matrices of this size, always the same."""
    size = table.shape[1]
    normal = np.random.default_rng(stream_start(0, "basis")).normal(size=(size, size))
    q, r = np.linalg.qr(normal)
    return q * np.sign(np.diag(r))


BASES: dict[str, Callable[[np.ndarray, Interactions], np.ndarray]] = {
    "pca": lambda table, data: principal(table),
    "pca-users": lambda table, data: principal(table, np.arange(data.rows) < data.users),
    "pca-items": lambda table, data: principal(table, np.arange(data.rows) >= data.users),
    "pca-scored": lambda table, data: principal(table, scored(data)),
    "varimax": varimax,
    "hadamard": hadamard,
    "random": random,
}


def rotation(basis: str, table: np.ndarray, data: Interactions) -> np.ndarray:
    """Q of a basis, float64 (F, F), read from a trained table (users + items, F). Raises
    ConfigError for a basis that there is not."""
    one_of("basis", basis, BASES)
    return BASES[basis](table, data)


def aligned(table: np.ndarray, to: np.ndarray) -> np.ndarray:
    """The orthogonal Q, float64 (F, F), that brings a table nearest to another one, both (rows, F):
    ‖XQ − Y‖ is least (Procrustes; Schönemann 1966)."""
    return scipy.linalg.orthogonal_procrustes(np.asarray(table, np.float64), to)[0]

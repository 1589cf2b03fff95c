"""Starts and the triplet stream: X⁰, LCM's maps; (seed, position) → users, positives, negatives.

Position t of the stream draws its user from counter t, its positive from counter t + 2⁴⁰ and its
negatives, until one is free, from t + 2·2⁴⁰, t + 3·2⁴⁰ …: each triplet is a function of (seed, t)
alone, on every backend. As in the authors' code, the user is uniform with replacement (so that an
epoch is |train| triplets, not one pass over the pairs), the positive is uniform among the user's
training items, and the negative is uniform among the items that are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import scipy.sparse as sp

from lthnb.data import DataError
from lthnb.rng import below, bits_at, stream_start, stream_uniform

LANE = 1 << 40  # distance between the counters of one triplet's draws; positions stay below it


def initial_table(seed: int, rows: int, size: int) -> np.ndarray:
    """X⁰ (Eq. 1): float64, shape (rows, size), uniform in ±√(6 / (rows + size)).

    That is Xavier-uniform (Glorot and Bengio 2010) over the joint table of users and items, as
    the authors initialise it. Entry (r, c) is element r · size + c of the stream.
    """
    uniform = stream_uniform(seed, "init", np.arange(rows * size, dtype=np.int64))
    return ((2.0 * uniform - 1.0) * np.sqrt(6.0 / (rows + size))).reshape(rows, size)


def initial_maps(seed: int, teacher_size: int, size: int) -> np.ndarray:
    """LCM's maps at their start: float64, shape (2, teacher_size + 1, size), for users and items.

    Rows 0 … teacher_size − 1 are a map's weights, the last one is its bias; all are uniform in
    ±1/√teacher_size, as torch's ``Linear`` begins. Entries are counted in the array's order.
    """
    shape = (2, teacher_size + 1, size)
    uniform = stream_uniform(seed, "maps", np.arange(np.prod(shape), dtype=np.int64))
    return ((2.0 * uniform - 1.0) / np.sqrt(teacher_size)).reshape(shape)


@dataclass(frozen=True)
class Sampler:
    """The triplet stream of one training set.

    start: the 64-bit state of the stream. users: int64 ids that can be drawn, those with a
    training item and an item left to be a negative. indptr, indices: the training CSR (indices
    sorted). taken: indptr and indices of what is no negative: the same, or more.
    """

    start: int
    users: np.ndarray
    indptr: np.ndarray
    indices: np.ndarray
    items: int
    taken: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, train: sp.csr_matrix, seed: int, taken: sp.csr_matrix | None = None) -> Sampler:
        """The stream over `train` (users × items, sorted indices) for an order seed. taken: see
        :attr:`Interactions.positives`; None: `train` itself.

        Raises DataError where no user has both a training item and an item left to be a negative.
        """
        parts = [train] if taken is None or taken is train else [train, taken]
        both = [(part.indptr.astype(np.int64), part.indices.astype(np.int64)) for part in parts]
        pairs, gone = both[0], both[-1]
        users = np.flatnonzero((np.diff(pairs[0]) > 0) & (np.diff(gone[0]) < train.shape[1]))
        if users.size == 0:
            raise DataError(
                "sampling: no user has both a training item and an item that is none; "
                "there is no triplet to draw."
            )
        start = stream_start(seed, "order")
        return cls(start, users.astype(np.int64), *pairs, train.shape[1], gone)

    def draw(self, first: int, count: int) -> np.ndarray:
        """Triplets first … first + count − 1: int64, shape (3, count): users, positives,
        negatives, items counted from 0."""
        out = np.empty((3, count), np.int64)
        pairs = self.indptr, self.indices, *self.taken
        _draw(np.uint64(self.start), first, self.users, *pairs, self.items, out)
        return out


@nb.njit(cache=True, inline="never")
def is_positive(indptr, indices, user, item):
    """Whether `item` stands in the sorted row `user`."""
    low, high = indptr[user], indptr[user + 1]
    while low < high:
        middle = (low + high) >> 1
        if indices[middle] < item:
            low = middle + 1
        else:
            high = middle
    return low < indptr[user + 1] and indices[low] == item


@nb.njit(cache=True)
def user_of(start, t, users):
    """The user of triplet t of the stream."""
    return users[below(bits_at(start, np.uint64(t)), users.size)]


@nb.njit(cache=True)
def draw_one(start, t, users, indptr, indices, taken, taken_items, items):
    """Triplet t of the stream: (user, positive, negative)."""
    lane = np.uint64(LANE)
    user = user_of(start, t, users)
    t = np.uint64(t)
    row = indptr[user]
    positive = indices[row + below(bits_at(start, t + lane), indptr[user + 1] - row)]
    counter = t + lane + lane
    negative = below(bits_at(start, counter), items)
    while is_positive(taken, taken_items, user, negative):
        counter += lane
        negative = below(bits_at(start, counter), items)
    return user, positive, negative


@nb.njit(cache=True, parallel=True)
def _draw(start, first, users, indptr, indices, taken, taken_items, items, out):
    for k in nb.prange(out.shape[1]):
        out[0, k], out[1, k], out[2, k] = draw_one(
            start, first + k, users, indptr, indices, taken, taken_items, items
        )

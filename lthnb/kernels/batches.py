"""Batches for the CPU steps: triplets, their distinct rows, and who uses which.

Each distinct row of a batch has a *slot*; users come first, then items. Whoever updates a slot
walks its *uses* in the order of the batch, so a gradient is summed by one owner in one order.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np

from lthnb.kernels.simd import aligned, fma, load, prefetch, splat, total, zeros
from lthnb.sampling import Sampler, draw_one, user_of

AT_ONCE = 4  # batches prepared together, one for a thread
BLOCK = 128  # slots or triplets a thread takes at once; losses are summed block by block
SOON = 16  # triplets between asking for a user's items and drawing from them
LANES = 8  # columns in a vector


class Stream(NamedTuple):
    """A :class:`Sampler` as numba sees it; `place` is the row of each user and item."""

    start: np.uint64
    users: np.ndarray
    indptr: np.ndarray
    indices: np.ndarray
    taken: np.ndarray
    taken_items: np.ndarray
    items: int
    place: np.ndarray

    @classmethod
    def of(cls, sampler: Sampler, place: np.ndarray) -> Stream:
        start, (taken, taken_items) = np.uint64(sampler.start), sampler.taken
        indices = aligned(sampler.indices, np.int32)
        same = taken_items is sampler.indices  # then one copy serves both, and stays in the cache
        gone = taken, indices if same else aligned(taken_items, np.int32)
        return cls(start, sampler.users, sampler.indptr, indices, *gone, sampler.items, place)


class Batches(NamedTuple):
    """Room for AT_ONCE batches, and for what a step makes of one.

    slots: int32 (AT_ONCE, 3, B), of users, positives, negatives. rows: int32 (AT_ONCE, 3·B), of
    each slot. counts: int64 (AT_ONCE, 2), slots of users and of all. first_use: int32
    (AT_ONCE, 3·B + 1) and uses: int32 (AT_ONCE, 3·B): 2·b + 1 for the negative of triplet b, and
    2·b for its user or positive. seen: int32 (AT_ONCE, rows), −1 between calls. vectors: (3·B, F),
    the outputs of each slot's row; norms: (3·B,), its squared norm in the table. pull: (B,), the
    derivative of the loss by s_uj − s_ui. losses: float64, one for each block.
    """

    slots: np.ndarray
    rows: np.ndarray
    counts: np.ndarray
    first_use: np.ndarray
    uses: np.ndarray
    seen: np.ndarray
    vectors: np.ndarray
    norms: np.ndarray
    pull: np.ndarray
    losses: np.ndarray

    @classmethod
    def room(cls, batch: int, rows: int, width: int, dtype) -> Batches:
        n = 3 * batch
        return cls(
            zeros((AT_ONCE, 3, batch), np.int32),
            zeros((AT_ONCE, n), np.int32),
            np.zeros((AT_ONCE, 2), np.int64),
            zeros((AT_ONCE, n + 1), np.int32),
            zeros((AT_ONCE, n), np.int32),
            aligned(np.full((AT_ONCE, rows), -1, np.int32)),
            zeros((n, width), dtype),
            zeros(n, dtype),
            zeros(batch, dtype),
            np.zeros(-(-batch // BLOCK)),
        )


@nb.njit(cache=True, parallel=True)
def prepare(stream, batches, first, end, batch, steps):
    """Fill `batches` with `steps` batches, from triplet `first` on; the last ends at `end`."""
    start, users, indptr, indices, taken, taken_items, items, place = stream
    slots, rows, counts, first_use, uses, seen = batches[:6]
    people = indptr.size - 1
    for g in nb.prange(steps):
        at = first + g * batch
        size = min(batch, end - at)
        slot, row, begin, use, mark = slots[g], rows[g], first_use[g], uses[g], seen[g]
        for b in range(size):
            soon = user_of(start, at + b + SOON, users)
            prefetch(indptr, soon)
            soon = user_of(start, at + b + SOON // 2, users)
            for k in range(indptr[soon], indptr[soon + 1], 16):
                prefetch(indices, k)
            user, positive, negative = draw_one(
                start, at + b, users, indptr, indices, taken, taken_items, items
            )
            slot[0, b] = place[user]
            slot[1, b] = place[people + positive]
            slot[2, b] = place[people + negative]
        found = 0
        for side in range(3):
            for b in range(size):
                r = slot[side, b]
                k = mark[r]
                if k < 0:
                    k = found
                    mark[r] = k
                    row[k] = r
                    begin[k] = 0
                    found += 1
                slot[side, b] = k
                begin[k] += 1
            if side == 0:
                counts[g, 0] = found
        counts[g, 1] = found
        ends = 0
        for k in range(found):
            mark[row[k]] = -1
            ends += begin[k]
            begin[k] = ends
        begin[found] = ends
        for side in range(2, -1, -1):  # backwards, so that uses stand in the order of the batch
            for b in range(size - 1, -1, -1):
                k = slot[side, b]
                begin[k] -= 1
                use[begin[k]] = 2 * b + (side == 2)


@nb.njit(cache=True, parallel=True)
def score(batches, g, size, l2):
    """Fill `pull` for batch g and return its summed loss (Eqs. 4 and 7, L2 over its rows)."""
    slots, pull, losses, norms = batches.slots[g], batches.pull, batches.losses, batches.norms
    flat, width = batches.vectors.reshape(-1), batches.vectors.shape[1]
    blocks = (size + BLOCK - 1) // BLOCK
    for block in nb.prange(blocks):
        loss = 0.0
        product = 1.0
        for b in range(block * BLOCK, min(size, (block + 1) * BLOCK)):
            u, i, j = slots[0, b], slots[1, b], slots[2, b]
            acc = splat(flat, 0.0, LANES)
            for c in range(0, width, LANES):
                apart = load(flat, j * width + c, LANES) - load(flat, i * width + c, LANES)
                acc = fma(load(flat, u * width + c, LANES), apart, acc)
            x = nb.float64(total(acc))
            small = math.exp(-abs(x))
            if x > 0:
                loss += x
                pull[b] = 1.0 / ((1.0 + small) * size)
            else:
                pull[b] = small / ((1.0 + small) * size)
            loss += 0.5 * l2 * (nb.float64(norms[u]) + nb.float64(norms[i]) + nb.float64(norms[j]))
            # log(1 + e₁) + … + log(1 + e₁₆) as one logarithm: the product stays below 2¹⁶.
            product *= 1.0 + small
            if b % 16 == 15:
                loss += math.log(product)
                product = 1.0
        losses[block] = loss + math.log(product)
    summed = 0.0
    for block in range(blocks):
        summed += losses[block]
    return summed


@nb.njit(inline="always")
def slot_gradient(slots, uses, begin, end, is_user, pull, flat, width, column, acc):
    """`acc` plus the gradient of a batch's score terms by 8 columns of one slot's output row.

    slots: (3, B). uses: those of the slot are begin … end − 1. flat: the slots' vectors.
    """
    for k in range(begin, end):
        use = uses[k]
        b = use >> 1
        if is_user:
            i, j = slots[1, b] * width + column, slots[2, b] * width + column
            acc = fma(splat(flat, pull[b], LANES), load(flat, j, LANES) - load(flat, i, LANES), acc)
        else:
            weight = pull[b] if use & 1 else -pull[b]
            user = load(flat, slots[0, b] * width + column, LANES)
            acc = fma(splat(flat, weight, LANES), user, acc)
    return acc

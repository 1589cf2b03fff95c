"""MF on the CPU: one pass over a batch's rows, with dense Adam made up for when a row is next read.

Adam moves every entry at every step, also those without a gradient, since its moments decay and go
on pushing (Kingma and Ba 2015, Algorithm 1). For a row last used at step s and read at step e > s,
those pushes are known in advance:

    x ← x − Σ_{k=0}^{e−s−1}  α_{s+k} β₁ᵏ m / (√v · β₂^{k/2} ρ_{s+k} + ε),
    α_t = lr / (1 − β₁ᵗ),   ρ_t = 1 / √(1 − β₂ᵗ),

m and v being the moments after step s. So a row is left alone until it is read, or the epoch ends.
In float64, and for the first :data:`STEPWISE` steps, the sum is taken term by term, up to the 400th
(the rest is less than 10⁻¹⁸ of the first). Afterwards β₂^{k/2} ρ_{s+k} hardly changes while β₁ᵏ
lasts, and the fraction is expanded about its mean under the weights α_{s+k} β₁ᵏ: five sums that are
the same for all entries, one root and one division. What is cut off is below 4·10⁻⁸ of the push,
less than float32 rounds (`tests/test_kernels.py` holds it to that).

Eight columns of a row whose entries are all pruned are not stored; the others lie together as
value, first and second moment.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba as nb
import numpy as np
import torch

from lthnb.config import Spec
from lthnb.data import Interactions
from lthnb.kernels.batches import AT_ONCE, BLOCK, LANES, Batches, prepare, score, slot_gradient
from lthnb.kernels.cpu import PARTS, CpuStep
from lthnb.kernels.simd import fma, keep, load, prefetch, root, splat, store, total, zeros

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # torch's defaults
STEPWISE = 400  # steps from the start during which the bias correction still changes quickly
LONGEST = 400  # terms after which nothing of β₁ᵏ is left
NEAR = 64  # gaps whose sums are shared by all rows of a batch; longer ones are rare
RECORD = 3 * LANES  # numbers in a piece: values, first moments, second moments
AHEAD = 8  # rows between asking for one and using it


class Pieces(NamedTuple):
    """The kept parts of a table, eight columns each.

    values: (pieces, 3, 8), value and moments. where: int64 (pieces,), 256 times its first column
    plus the bits of its kept entries. of_row: int32 (rows, 4): first piece, past the last piece,
    the step of the epoch (from 0) at which the moments stand, and nothing.
    """

    values: np.ndarray
    where: np.ndarray
    of_row: np.ndarray


class Decay(NamedTuple):
    """What Adam does without a gradient, for the steps t₀ + 1 … t₀ + n of an epoch.

    rate: α (n + 1,). bias: ρ (n + 1,). sums: (n + 1, 5), for each step s the sums
    Σ_k α_{s+k} β₁ᵏ (β₂^{k/2} ρ_{s+k})ʲ to the end of the epoch, j = 0 … 4. powers: (n + 2, 5),
    (β₁ β₂^{j/2})ⁿ. kept: (n + 2, 2), β₁ⁿ and β₂ⁿ. stepwise: the step from which the series holds.
    """

    rate: np.ndarray
    bias: np.ndarray
    sums: np.ndarray
    powers: np.ndarray
    kept: np.ndarray
    stepwise: int

    @classmethod
    def of(cls, done: int, steps: int, learning_rate: float, dtype) -> Decay:
        t = done + 1 + np.arange(steps + 1)
        rate, bias = learning_rate / (1 - BETA_1**t), 1 / np.sqrt(1 - BETA_2**t)
        factors = BETA_1 * BETA_2 ** (np.arange(5) / 2)
        gaps = np.arange(steps + 2)[:, None]
        sums = rate[:, None] * bias[:, None] ** np.arange(5)
        sums[steps] = 0.0
        for s in range(steps - 1, -1, -1):
            sums[s] += factors * sums[s + 1]
        exact = np.dtype(dtype) == np.float64
        kept = np.array([BETA_1, BETA_2]) ** gaps
        stepwise = steps + 1 if exact else max(0, STEPWISE - done)
        return cls(rate, bias, sums, factors**gaps, kept, stepwise)


class MFStep(CpuStep):
    """MF's table. table: a start, (rows, F); mask: bool (rows, F)."""

    def __init__(
        self, spec: Spec, data: Interactions, table: np.ndarray, mask: np.ndarray, device="cpu"
    ) -> None:
        super().__init__(spec.training, data, np.arange(data.rows, dtype=np.int32))
        rows, self.size = table.shape
        width = -(-self.size // LANES) * LANES
        self.shape = (rows, width // LANES, LANES)
        bits = np.zeros(self.shape, bool)
        bits.reshape(rows, width)[:, : self.size] = mask
        self.live = bits.any(2)
        ends = np.cumsum(self.live.sum(1))
        of_row = zeros((rows, 4), np.int32)
        of_row[:, 0], of_row[:, 1] = np.concatenate(([0], ends[:-1])), ends
        row, column = np.nonzero(self.live)
        packed = np.packbits(bits[row, column], axis=1, bitorder="little")[:, 0]
        where = column.astype(np.int64) * LANES * 256 + packed
        values = zeros((max(1, len(where)), 3, LANES), self.dtype)
        self.pieces = Pieces(values, where, of_row)
        self.batches = Batches.room(self.training.batch_size, rows, width, self.dtype)
        self._put("table", np.where(mask, table, 0.0))

    def _put(self, part: str, full: np.ndarray) -> None:
        room, count = np.zeros((self.shape[0], self.shape[1] * LANES)), len(self.pieces.where)
        room[:, : self.size] = full
        self.pieces.values[:count, PARTS.index(part)] = room.reshape(self.shape)[self.live]

    def _get(self, part: str) -> np.ndarray:
        room, count = np.zeros(self.shape, self.dtype), len(self.pieces.where)
        room[self.live] = self.pieces.values[:count, PARTS.index(part)]
        return room.reshape(self.shape[0], -1)[:, : self.size].copy()

    def run(self, first: int, end: int) -> float:
        """See :class:`CpuStep`."""
        t = self.training
        steps = -(-(end - first) // t.batch_size)
        decay = Decay.of(self.steps, steps, t.learning_rate, self.dtype)
        _begin(self.pieces)
        loss = _train(self.stream, self.batches, self.pieces, decay, first, end, t.batch_size, t.l2)
        _catch_up_all(self.pieces, decay, steps)
        self.steps += steps
        return loss

    def outputs(self) -> torch.Tensor:
        """Rows to score with, (rows, F), users first: the table itself."""
        return torch.from_numpy(self.weights())


@nb.njit(cache=True, parallel=True)
def _begin(pieces):
    """Moments as they stand at the epoch's first step, before its gradient."""
    flat, of_row = pieces.values.reshape(-1), pieces.of_row
    one, two = splat(flat, BETA_1, LANES), splat(flat, BETA_2, LANES)
    for k in nb.prange(pieces.values.shape[0]):
        m, v = k * RECORD + LANES, k * RECORD + 2 * LANES
        store(flat, m, load(flat, m, LANES) * one)
        store(flat, v, load(flat, v, LANES) * two)
    for row in range(of_row.shape[0]):
        of_row[row, 2] = 0


@nb.njit(cache=True)
def _series(sums, powers, s, e, out):
    """The five numbers of the expansion for a row whose moments stand at step s, read at e:
    Σ α β₁ᵏ, and the mean, second, third (negative) and fourth central moment of the divisors."""
    n = e - s
    whole = sums[s, 0] - powers[n, 0] * sums[e, 0]
    m1 = (sums[s, 1] - powers[n, 1] * sums[e, 1]) / whole
    m2 = (sums[s, 2] - powers[n, 2] * sums[e, 2]) / whole
    m3 = (sums[s, 3] - powers[n, 3] * sums[e, 3]) / whole
    m4 = (sums[s, 4] - powers[n, 4] * sums[e, 4]) / whole
    square = m1 * m1
    out[0] = whole
    out[1] = m1
    out[2] = m2 - square
    out[3] = 3.0 * m1 * m2 - m3 - 2.0 * square * m1
    out[4] = m4 - 4.0 * m1 * m3 + 6.0 * square * m2 - 3.0 * square * square


@nb.njit(inline="always")
def _push_at_once(flat, begin, end, sums):
    """Take all pushes on the pieces begin … end − 1 together, by the expansion."""
    whole, mean = splat(flat, sums[0], LANES), splat(flat, sums[1], LANES)
    second, third = splat(flat, sums[2], LANES), splat(flat, sums[3], LANES)
    fourth, one = splat(flat, sums[4], LANES), splat(flat, 1.0, LANES)
    epsilon = splat(flat, EPSILON, LANES)
    for k in range(begin, end):
        v = root(load(flat, k * RECORD + 2 * LANES, LANES))
        inverse = one / fma(v, mean, epsilon)
        q = v * inverse
        more = fma(q * q, fma(q, fma(q, fourth, third), second), one)
        push = whole * load(flat, k * RECORD + LANES, LANES) * inverse * more
        store(flat, k * RECORD, load(flat, k * RECORD, LANES) - push)


@nb.njit(cache=True)
def _push_stepwise(flat, begin, end, rate, bias, s, e):
    """Take the pushes of steps s … e − 1 on the pieces begin … end − 1 one after another."""
    last = min(e, s + LONGEST)
    epsilon = splat(flat, EPSILON, LANES)
    one, two = splat(flat, BETA_1, LANES), splat(flat, math.sqrt(BETA_2), LANES)
    for k in range(begin, end):
        x, m = load(flat, k * RECORD, LANES), load(flat, k * RECORD + LANES, LANES)
        v = root(load(flat, k * RECORD + 2 * LANES, LANES))
        for t in range(s, last):
            divisor = fma(v, splat(flat, bias[t], LANES), epsilon)
            x = x - splat(flat, rate[t], LANES) * m / divisor
            m = m * one
            v = v * two
        store(flat, k * RECORD, x)


@nb.njit(cache=True, parallel=True)
def _catch_up_all(pieces, decay, e):
    """Bring all rows to the end of the epoch's step e − 1: values and moments."""
    flat, of_row = pieces.values.reshape(-1), pieces.of_row
    rate, bias, sums, powers, kept, stepwise = decay
    for block in nb.prange((of_row.shape[0] + BLOCK - 1) // BLOCK):
        room = np.empty(5)
        for row in range(block * BLOCK, min(of_row.shape[0], (block + 1) * BLOCK)):
            begin, end, s = of_row[row, 0], of_row[row, 1], of_row[row, 2]
            if s < stepwise:
                _push_stepwise(flat, begin, end, rate, bias, s, e)
            else:
                _series(sums, powers, s, e, room)
                _push_at_once(flat, begin, end, room)
            gap = e - 1 - s
            one, two = splat(flat, kept[gap, 0], LANES), splat(flat, kept[gap, 1], LANES)
            for k in range(begin, end):
                m, v = k * RECORD + LANES, k * RECORD + 2 * LANES
                store(flat, m, load(flat, m, LANES) * one)
                store(flat, v, load(flat, v, LANES) * two)


@nb.njit(cache=True, parallel=True)
def _read(batches, g, pieces, decay, near, e):
    """Bring the batch's rows up to date and lay them out by slot, with their squared norms."""
    rows, n, norms = batches.rows[g], batches.counts[g, 1], batches.norms
    out, width = batches.vectors.reshape(-1), batches.vectors.shape[1]
    flat, where, of_row = pieces.values.reshape(-1), pieces.where, pieces.of_row
    info = of_row.reshape(-1)
    rate, bias, sums, powers, _, stepwise = decay
    for block in nb.prange((n + BLOCK - 1) // BLOCK):
        room = np.empty(5)
        for slot in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            prefetch(info, 4 * rows[min(slot + 2 * AHEAD, n - 1)])
            soon = rows[min(slot + AHEAD, n - 1)]
            for at in range(of_row[soon, 0] * RECORD, of_row[soon, 1] * RECORD, 16):
                prefetch(flat, at)
            row = rows[slot]
            begin, end, s = of_row[row, 0], of_row[row, 1], of_row[row, 2]
            if s < stepwise:
                _push_stepwise(flat, begin, end, rate, bias, s, e)
            elif e - s < near.shape[0]:
                if s < e:
                    _push_at_once(flat, begin, end, near[e - s])
            else:
                _series(sums, powers, s, e, room)
                _push_at_once(flat, begin, end, room)
            acc = splat(flat, 0.0, LANES)
            if (end - begin) * LANES < width:
                for c in range(0, width, LANES):
                    store(out, slot * width + c, acc)
            for k in range(begin, end):
                x = load(flat, k * RECORD, LANES)
                store(out, slot * width + (where[k] >> 8), x)
                acc = fma(x, x, acc)
            norms[slot] = total(acc)


@nb.njit(cache=True, parallel=True)
def _write(batches, g, pieces, decay, e, size, l2):
    """Take the batch's gradient into the moments of its rows; their values wait."""
    rows, people, n = batches.rows[g], batches.counts[g, 0], batches.counts[g, 1]
    slots, first_use, uses, pull = (
        batches.slots[g],
        batches.first_use[g],
        batches.uses[g],
        batches.pull,
    )
    out, width = batches.vectors.reshape(-1), batches.vectors.shape[1]
    flat, where, of_row = pieces.values.reshape(-1), pieces.where, pieces.of_row
    kept = decay.kept
    for block in nb.prange((n + BLOCK - 1) // BLOCK):
        for slot in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            soon = rows[min(slot + AHEAD, n - 1)]
            for at in range(of_row[soon, 0] * RECORD + LANES, of_row[soon, 1] * RECORD, 16):
                prefetch(flat, at)
            row = rows[slot]
            gap = e - of_row[row, 2]
            of_row[row, 2] = e
            one, two = splat(flat, kept[gap, 0], LANES), splat(flat, kept[gap, 1], LANES)
            rest_1, rest_2 = splat(flat, 1.0 - BETA_1, LANES), splat(flat, 1.0 - BETA_2, LANES)
            first, last = first_use[slot], first_use[slot + 1]
            shrink = splat(flat, l2 * (last - first) / size, LANES)
            for k in range(of_row[row, 0], of_row[row, 1]):
                column = where[k] >> 8
                gradient = shrink * load(out, slot * width + column, LANES)
                gradient = slot_gradient(
                    slots, uses, first, last, slot < people, pull, out, width, column, gradient
                )
                gradient = keep(where[k], gradient)
                m, v = k * RECORD + LANES, k * RECORD + 2 * LANES
                store(flat, m, fma(rest_1, gradient, one * load(flat, m, LANES)))
                store(flat, v, fma(rest_2 * gradient, gradient, two * load(flat, v, LANES)))


@nb.njit(cache=True)
def _train(stream, batches, pieces, decay, first, end, batch, l2):
    steps = (end - first + batch - 1) // batch
    near = np.zeros((NEAR + 1, 5))
    summed = 0.0
    for e in range(steps):
        g = e % AT_ONCE
        at = first + e * batch
        if g == 0:
            prepare(stream, batches, at, end, batch, min(AT_ONCE, steps - e))
        size = min(batch, end - at)
        for gap in range(1, min(NEAR, e) + 1):
            _series(decay.sums, decay.powers, e - gap, e, near[gap])
        _read(batches, g, pieces, decay, near, e)
        summed += score(batches, g, size, l2)
        _write(batches, g, pieces, decay, e, size, l2)
    return summed

"""LightGCN on the CPU: dense gradients, dense Adam.

With P the 0/1 graph, D its degrees and M = D⁻¹P, a layer is Aᵏ X = D^½ Mᵏ D^-½ X (Eq. 5). So the
kernels hold Y = D^-½ X and only ever take means of neighbours' rows. A step

- spreads K − 1 layers over all nodes, and the last one over the batch's rows alone;
- goes back by Horner's rule, w(G + A(G + A(G + AG))) for K = 3; G is zero but on the batch's rows,
  so the first product walks only their neighbours;
- takes Adam's step for a row as soon as the last product has its gradient.

Nodes are ordered by degree, so that what most neighbours share stays in the cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numba as nb
import numpy as np
import scipy.sparse as sp
import torch

from lthnb.config import Spec
from lthnb.data import Interactions
from lthnb.kernels.batches import AT_ONCE, BLOCK, LANES, Batches, prepare, score, slot_gradient
from lthnb.kernels.cpu import CpuStep
from lthnb.kernels.mf import BETA_1, BETA_2, EPSILON
from lthnb.kernels.simd import aligned, fma, keep, load, root, splat, store, total, zeros

WIDE = 16  # columns in a vector of the products, two of which are in work at once
PAIR = 2 * WIDE
SHARES = 64  # parts of the graph with equally many edges
TARGETS = 16  # parts of the rows that the first backward product is scattered into


class Graph(NamedTuple):
    """The training graph, both directions: node → neighbours.

    indptr: int64 (rows + 1,), indices: int32. shares: int64 (SHARES + 1,), borders of row ranges
    with equally many edges. targets: int64 (TARGETS + 1,), borders of row ranges, and cuts: int64
    (rows, TARGETS + 1), where in `indices` a node's neighbours pass from one range to the next.
    up: √degree, down: 1/√degree, mean: 1/degree; zero for a node without neighbours.
    """

    indptr: np.ndarray
    indices: np.ndarray
    shares: np.ndarray
    targets: np.ndarray
    cuts: np.ndarray
    up: np.ndarray
    down: np.ndarray
    mean: np.ndarray

    @classmethod
    def of(cls, train: sp.csr_matrix, place: np.ndarray, dtype) -> Graph:
        """place: the row of each user and item, (users + items,)."""
        users, rows = train.shape[0], sum(train.shape)
        user = np.repeat(place[:users], np.diff(train.indptr))
        item = place[users:][train.indices]
        one = np.ones(2 * len(user), np.int8)
        ends = np.concatenate((user, item)), np.concatenate((item, user))
        p = sp.csr_matrix((one, ends), (rows, rows))
        p.sort_indices()
        indptr, indices = aligned(p.indptr, np.int64), aligned(p.indices, np.int32)
        degree = np.diff(indptr).astype(np.float64)
        some = np.maximum(degree, 1)
        marks = np.linspace(0, indptr[-1], SHARES + 1)
        shares = np.searchsorted(indptr, marks).clip(0, rows).astype(np.int64)
        shares[0], shares[-1] = 0, rows
        targets = np.linspace(0, rows, TARGETS + 1).astype(np.int64)
        cuts = np.empty((rows, TARGETS + 1), np.int64)
        _cut(indptr, indices, targets, cuts)
        scales = np.sqrt(degree), (degree > 0) / np.sqrt(some), (degree > 0) / some
        scales = (scale.astype(dtype) for scale in scales)
        return cls(indptr, indices, shares, targets, cuts, *scales)


def by_degree(train: sp.csr_matrix) -> np.ndarray:
    """The row of each user and item, either side ordered by falling degree: int32 (rows,)."""
    users, items = train.shape
    degrees = np.diff(train.indptr), np.bincount(train.indices, minlength=items)
    place = np.empty(users + items, np.int32)
    for first, degree in zip((0, users), degrees, strict=True):
        order = np.argsort(-degree, kind="stable")
        place[first + order] = first + np.arange(len(order))
    return place


class Dense(NamedTuple):
    """Arrays of a step, F padded to a multiple of 16, rows in the graph's order.

    table, first, second: (rows, F), values and moments. bits: int32 (rows, F / 16), of the entries
    that are kept. layer: (≥ 2, rows, F). back: (3·B, F), the gradient by each slot's output
    row times a layer's share. slot_of: int32 (rows,), −1 for a row that is not in the batch.
    """

    table: np.ndarray
    first: np.ndarray
    second: np.ndarray
    bits: np.ndarray
    layer: np.ndarray
    back: np.ndarray
    slot_of: np.ndarray


class LightGCNStep(CpuStep):
    """LightGCN's table. table: a start, (rows, F); mask: bool (rows, F)."""

    def __init__(
        self, spec: Spec, data: Interactions, table: np.ndarray, mask: np.ndarray, device="cpu"
    ) -> None:
        super().__init__(spec.training, data, by_degree(data.train))
        rows, self.size = table.shape
        self.width = -(-self.size // WIDE) * WIDE
        batch, dtype, self.layers = self.training.batch_size, self.dtype, spec.model.layers
        # What a layer counts for in the outputs.
        self.share = 1.0 if spec.model.layer_combination == "sum" else 1.0 / (self.layers + 1)
        self.graph = Graph.of(data.train, self.stream.place, dtype)
        self.batches = Batches.room(batch, rows, self.width, dtype)
        # Scaled layers on the way forth, gradients on the way back; the first is D^-½ X throughout.
        layer = zeros((max(2, self.layers), rows, self.width), dtype)
        bits = np.packbits(self._ordered(mask), axis=1, bitorder="little")
        self.dense = Dense(
            aligned(self._ordered(np.where(mask, table, 0.0)), dtype),
            *(zeros((rows, self.width), dtype) for _ in range(2)),
            aligned(np.ascontiguousarray(bits).view("<u2"), np.int32),
            layer,
            zeros((3 * batch, self.width), dtype),
            aligned(np.full(rows, -1, np.int32)),
        )

    def _ordered(self, full: np.ndarray) -> np.ndarray:
        room = np.zeros((len(full), self.width), full.dtype)
        room[self.stream.place, : self.size] = full
        return room

    def _full(self, ordered: np.ndarray) -> np.ndarray:
        return ordered[self.stream.place, : self.size]

    def _put(self, part: str, full: np.ndarray) -> None:
        getattr(self.dense, part)[:] = self._ordered(full)

    def _get(self, part: str) -> np.ndarray:
        return self._full(getattr(self.dense, part))

    def run(self, first: int, end: int) -> float:
        """See :class:`CpuStep`."""
        t, summed = self.training, 0.0
        steps = -(-(end - first) // t.batch_size)
        _scale(self.dense.table, self.graph.down, self.dense.layer[0])
        for e in range(steps):
            g, at = e % AT_ONCE, first + e * t.batch_size
            if g == 0:
                some = min(AT_ONCE, steps - e)
                prepare(self.stream, self.batches, at, end, t.batch_size, some)
            size = min(t.batch_size, end - at)
            self.steps += 1
            rate = t.learning_rate / (1 - BETA_1**self.steps)
            bias = 1.0 / np.sqrt(1 - BETA_2**self.steps)
            about = self.graph, self.dense, self.layers, self.share, t.l2, rate, bias
            summed += _step(self.batches, g, size, *about)
        return summed

    def outputs(self) -> torch.Tensor:
        """Rows to score with, (rows, F), users first: Eqs. 5 and 6."""
        d = self.dense
        layer, spare, sums = (zeros(d.table.shape, d.table.dtype) for _ in range(3))
        _scale(d.table, self.graph.down, layer)
        for _ in range(self.layers):
            _spread(self.graph, layer, d.back, d.slot_of, False, spare)
            layer, spare = spare, layer
            sums += layer
        _scale(sums, self.graph.up, sums)
        sums += d.table
        sums *= sums.dtype.type(self.share)
        return torch.from_numpy(self._full(sums))


@nb.njit(cache=True, parallel=True)
def _cut(indptr, indices, targets, cuts):
    for row in nb.prange(cuts.shape[0]):
        begin, end = indptr[row], indptr[row + 1]
        for k in range(targets.size):
            cuts[row, k] = begin + np.searchsorted(indices[begin:end], targets[k])


@nb.njit(cache=True, parallel=True)
def _scale(x, by, out):
    for row in nb.prange(x.shape[0]):
        for c in range(x.shape[1]):
            out[row, c] = x[row, c] * by[row]


@nb.njit(inline="always")
def _gather(indices, begin, end, flat, width, room, at):
    """Write the sum of the neighbours' rows to room[at : at + width]."""
    column = 0
    while column + PAIR <= width:
        low = splat(flat, 0.0, WIDE)
        high = low
        for k in range(begin, end):
            source = nb.int64(indices[k]) * width + column
            low = low + load(flat, source, WIDE)
            high = high + load(flat, source + WIDE, WIDE)
        store(room, at + column, low)
        store(room, at + column + WIDE, high)
        column += PAIR
    if column < width:
        low = splat(flat, 0.0, WIDE)
        for k in range(begin, end):
            low = low + load(flat, nb.int64(indices[k]) * width + column, WIDE)
        store(room, at + column, low)


@nb.njit(cache=True, parallel=True)
def _spread(graph, x, back, slot_of, add, out):
    """out = M x, plus D^-½ `back` on the batch's rows where `add`."""
    indptr, indices, shares = graph.indptr, graph.indices, graph.shares
    mean, down, width = graph.mean, graph.down, x.shape[1]
    flat, to, backs = x.reshape(-1), out.reshape(-1), back.reshape(-1)
    for share in nb.prange(shares.size - 1):
        for row in range(shares[share], shares[share + 1]):
            at = row * width
            _gather(indices, indptr[row], indptr[row + 1], flat, width, to, at)
            by, down_by = splat(flat, mean[row], WIDE), splat(flat, down[row], WIDE)
            slot = nb.int64(slot_of[row]) if add else -1
            for c in range(0, width, WIDE):
                value = by * load(to, at + c, WIDE)
                if slot >= 0:
                    value = fma(down_by, load(backs, slot * width + c, WIDE), value)
                store(to, at + c, value)


@nb.njit(cache=True, parallel=True)
def _outputs(batches, g, graph, table, layer, layers, share):
    """The output rows of the batch's slots, by slot; the last layer is spread to them alone."""
    rows, n, norms = batches.rows[g], batches.counts[g, 1], batches.norms
    indptr, indices, up, mean = graph.indptr, graph.indices, graph.up, graph.mean
    to, width, flat, each = (
        batches.vectors.reshape(-1),
        table.shape[1],
        table.reshape(-1),
        layer.reshape(-1),
    )
    last = layer[layers - 1].reshape(-1)
    for block in nb.prange((n + BLOCK - 1) // BLOCK):
        for slot in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            row, at = nb.int64(rows[slot]), slot * width
            norm = 0.0
            _gather(indices, indptr[row], indptr[row + 1], last, width, to, at)
            by, up_by = splat(flat, mean[row], WIDE), splat(flat, up[row], WIDE)
            for c in range(0, width, WIDE):
                x = load(flat, row * width + c, WIDE)
                norm += total(x * x)
                spread = by * load(to, at + c, WIDE)
                for k in range(1, layers):
                    here = (k * table.shape[0] + row) * width + c
                    spread = spread + load(each, here, WIDE)
                store(to, at + c, fma(up_by, spread, x) * splat(flat, share, WIDE))
            norms[slot] = norm


@nb.njit(cache=True, parallel=True)
def _gradient(batches, g, back, share, slot_of):
    """`back`: share · the gradient by the output rows of the batch's slots. Marks `slot_of`."""
    rows, people, n = batches.rows[g], batches.counts[g, 0], batches.counts[g, 1]
    slots, first_use, uses = batches.slots[g], batches.first_use[g], batches.uses[g]
    vectors, width, pull = batches.vectors.reshape(-1), back.shape[1], batches.pull
    flat = back.reshape(-1)
    for block in nb.prange((n + BLOCK - 1) // BLOCK):
        for slot in range(block * BLOCK, min(n, (block + 1) * BLOCK)):
            slot_of[rows[slot]] = slot
            begin, end = first_use[slot], first_use[slot + 1]
            for c in range(0, width, LANES):
                none = splat(flat, 0.0, LANES)
                acc = slot_gradient(
                    slots, uses, begin, end, slot < people, pull, vectors, width, c, none
                )
                store(flat, slot * width + c, acc * splat(flat, share, LANES))


@nb.njit(cache=True, parallel=True)
def _first_back(batches, g, graph, back, spread, out):
    """out = D^-½ `back`, plus M times it where `spread`; `back` is zero off the batch's rows. Each
    range of rows has one owner, who adds to those neighbours that lie in it."""
    rows, n = batches.rows[g], batches.counts[g, 1]
    indices, targets, cuts = graph.indices, graph.targets, graph.cuts
    mean, down = graph.mean, graph.down
    flat, width, to = back.reshape(-1), back.shape[1], out.reshape(-1)
    for target in nb.prange(targets.size - 1):
        first, last = targets[target], targets[target + 1]
        for at in range(first * width, last * width, WIDE):
            store(to, at, splat(flat, 0.0, WIDE))
        if spread:
            for slot in range(n):
                row = rows[slot]
                begin, end = cuts[row, target], cuts[row, target + 1]
                if begin == end:
                    continue
                by = splat(flat, down[row], WIDE)
                for c in range(0, width, WIDE):
                    x = by * load(flat, slot * width + c, WIDE)
                    for k in range(begin, end):
                        at = nb.int64(indices[k]) * width + c
                        store(to, at, load(to, at, WIDE) + x)
            for row in range(first, last):
                by = splat(flat, mean[row], WIDE)
                for at in range(row * width, (row + 1) * width, WIDE):
                    store(to, at, load(to, at, WIDE) * by)
        for slot in range(n):
            row = nb.int64(rows[slot])
            if first <= row < last:
                by = splat(flat, down[row], WIDE)
                for c in range(0, width, WIDE):
                    at = row * width + c
                    store(to, at, fma(by, load(flat, slot * width + c, WIDE), load(to, at, WIDE)))


@nb.njit(cache=True, parallel=True)
def _finish(batches, g, graph, dense, x, l2, rate, bias):
    """The gradient of every row, and Adam's step with it.

    x: what has come back, one product short. l2: weight of a use of a row. Leaves D^-½ times the
    new table in the first layer, and no row marked.
    """
    indptr, indices, shares, down = graph.indptr, graph.indices, graph.shares, graph.down
    first_use, slot_of, bits = batches.first_use[g], dense.slot_of, dense.bits.reshape(-1)
    table, width, xs = dense.table.reshape(-1), dense.table.shape[1], x.reshape(-1)
    back, scaled = dense.back.reshape(-1), dense.layer[0].reshape(-1)
    moments_1, moments_2 = dense.first.reshape(-1), dense.second.reshape(-1)
    for share in nb.prange(shares.size - 1):
        room = np.empty(width, table.dtype)
        epsilon = splat(table, EPSILON, WIDE)
        one, two = splat(table, BETA_1, WIDE), splat(table, BETA_2, WIDE)
        rest_1, rest_2 = splat(table, 1.0 - BETA_1, WIDE), splat(table, 1.0 - BETA_2, WIDE)
        step, unbias = splat(table, rate, WIDE), splat(table, bias, WIDE)
        for row in range(shares[share], shares[share + 1]):
            slot = nb.int64(slot_of[row])
            slot_of[row] = -1
            shrink = 0.0
            if slot >= 0:
                shrink = l2 * (first_use[slot + 1] - first_use[slot])
            _gather(indices, indptr[row], indptr[row + 1], xs, width, room, 0)
            by = splat(table, down[row], WIDE)  # D^½ D⁻¹
            for c in range(0, width, WIDE):
                at = row * width + c
                value = load(table, at, WIDE)
                gradient = splat(table, shrink, WIDE) * value
                gradient = fma(by, load(room, c, WIDE), gradient)
                if slot >= 0:
                    gradient = gradient + load(back, slot * width + c, WIDE)
                gradient = keep(bits[at // WIDE], gradient)
                m = fma(rest_1, gradient, one * load(moments_1, at, WIDE))
                v = fma(rest_2 * gradient, gradient, two * load(moments_2, at, WIDE))
                value = value - step * m / fma(root(v), unbias, epsilon)
                store(moments_1, at, m)
                store(moments_2, at, v)
                store(table, at, value)
                store(scaled, at, value * by)


@nb.njit(cache=True)
def _step(batches, g, size, graph, dense, layers, share, l2, rate, bias):
    """One step; returns the summed loss. l2: weight of the L2 term. rate, bias: α and ρ of
    :mod:`lthnb.kernels.mf`."""
    layer, back, slot_of = dense.layer, dense.back, dense.slot_of
    for k in range(1, layers):
        _spread(graph, layer[k - 1], back, slot_of, False, layer[k])
    _outputs(batches, g, graph, dense.table, layer, layers, share)
    loss = score(batches, g, size, l2)
    _gradient(batches, g, back, share, slot_of)
    come = 1
    _first_back(batches, g, graph, back, layers > 1, layer[1])
    for _ in range(layers - 2):
        _spread(graph, layer[come], back, slot_of, True, layer[3 - come])
        come = 3 - come
    _finish(batches, g, graph, dense, layer[come], l2 / size, rate, bias)
    return loss

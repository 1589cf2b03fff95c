"""Where a step's time goes: each kernel of our steps in the order in which a step calls them.

A kernel is timed among the others, so that it finds in the cache what it finds there in training.
`bytes` are the least that it must move if nothing is read twice: arrays streamed once, and a
batch's rows once each. `gathered` counts what a graph product asks for, a row for each edge, most
of which a cache should answer. The roof is what a plain copy reaches over arrays far beyond any
cache.
"""

from __future__ import annotations

import time
from collections import defaultdict

import numba as nb
import numpy as np
import torch

from lthnb.kernels import batches, lightgcn, mf
from lthnb.kernels.ranking import rank
from lthnb.sampling import Sampler, initial_table

COPIED = 1 << 26  # numbers in an array of the roof: 256 MiB


class Clock:
    """Seconds by name: the mean over the calls of a repeat."""

    def __init__(self) -> None:
        self.spent = defaultdict(list)

    def __call__(self, name, function, *arguments):
        began = time.perf_counter()
        found = function(*arguments)
        self.spent[name].append(time.perf_counter() - began)
        return found

    def means(self, over: int) -> dict[str, float]:
        means = {name: sum(spent) / over for name, spent in self.spent.items()}
        self.spent.clear()
        return means


@nb.njit(parallel=True)
def _copy(a, b):
    for k in nb.prange(a.size):
        b[k] = a[k]


def roof(job):
    a = np.ones(COPIED, np.float32)
    b = np.empty_like(a)
    _copy(a, b)

    def repeat():
        clock = Clock()
        clock("copy", _copy, a, b)
        return clock.means(1)

    return {"bytes copy": 8 * COPIED}, repeat


def mf_kernels(job, data, training):
    """`job.batches` steps of MF, kernel by kernel, and the end of an epoch after them."""
    rows, dtype = data.rows, np.dtype(training.dtype)
    table, mask = initial_table(0, rows, job.size), np.ones((rows, job.size), bool)
    stream = batches.Stream.of(Sampler.of(data.train, 0), np.arange(rows, dtype=np.int32))
    t = mf.LazyTable(stream, table, mask, training, dtype)
    t.run(0, data.train.nnz)  # past the steps that are taken one by one
    clock, near = Clock(), np.zeros((mf.NEAR + 1, 5))
    found = []

    def repeat():
        first, size, count = data.train.nnz, job.batch, job.batches
        decay = mf.Decay.of(t.done, count, training.learning_rate, dtype)
        clock("begin an epoch", mf._begin, t.pieces)
        for e in range(count):
            g = e % batches.AT_ONCE
            if g == 0:
                some = min(batches.AT_ONCE, count - e)
                at = first + e * size
                clock("draw and group", batches.prepare, stream, t.batches, at, 1 << 62, size, some)
            for gap in range(1, min(mf.NEAR, e) + 1):
                mf._series(decay.sums, decay.powers, e - gap, e, near[gap])
            clock("catch up and read", mf._read, t.batches, g, t.pieces, decay, near, e)
            clock("score", batches.score, t.batches, g, size, training.l2)
            clock("write", mf._write, t.batches, g, t.pieces, decay, e, size, training.l2)
            found.append(int(t.batches.counts[g, 1]))
        clock("end an epoch", mf._catch_up_all, t.pieces, decay, count)
        t.done += count
        return clock.means(count)

    repeat()
    row = 4 * t.batches.vectors.shape[1]
    touched = float(np.mean(found))
    facts = {
        "bytes catch up and read": touched * row * 5,  # value and moments in; value and slot out
        "bytes score": touched * row,
        "bytes write": touched * row * 5,  # moments in and out; slot in
    }
    return facts, repeat


def lightgcn_kernels(job, data, training):
    """`job.batches` steps of LightGCN, kernel by kernel."""
    table, mask = initial_table(0, data.rows, job.size), np.ones((data.rows, job.size), bool)
    stream = batches.Stream.of(Sampler.of(data.train, 0), lightgcn.by_degree(data.train))
    k, share = job.layers, 1.0 / (job.layers + 1)
    t = lightgcn.SpreadTable(
        stream, data.train, table, mask, training, np.dtype(training.dtype), k, share
    )
    d, graph, b, clock = t.dense, t.graph, t.batches, Clock()
    lightgcn._scale(d.table, graph.down, d.layer[0])

    def product(name, x, add, out):
        clock(name, lightgcn._spread, graph, x, d.back, d.slot_of, add, out)

    def repeat():
        for e in range(job.batches):
            g = e % batches.AT_ONCE
            if g == 0:
                some, at = min(batches.AT_ONCE, job.batches - e), e * job.batch
                clock("draw and group", batches.prepare, stream, b, at, 1 << 62, job.batch, some)
            for layer in range(1, k):
                product("spread", d.layer[layer - 1], False, d.layer[layer])
            out = (b, g, graph, d.table, d.layer, k, share)
            clock("last layer, batch only", lightgcn._outputs, *out)
            clock("score", batches.score, b, g, job.batch, training.l2)
            clock("score", lightgcn._gradient, b, g, d.back, share, d.slot_of)
            back = (b, g, graph, d.back, k > 1, d.layer[1])
            clock("first back, batch only", lightgcn._first_back, *back)
            come = 1
            for _ in range(k - 2):
                product("spread back", d.layer[come], True, d.layer[3 - come])
                come = 3 - come
            t.done += 1
            rate = training.learning_rate / (1 - mf.BETA_1**t.done)
            bias = 1.0 / np.sqrt(1 - mf.BETA_2**t.done)
            last = (b, g, graph, d, d.layer[come], training.l2 / job.batch, rate, bias)
            clock("last product and Adam", lightgcn._finish, *last)
        return clock.means(job.batches)

    repeat()
    whole, edges = 4.0 * d.table.size, 4.0 * len(graph.indices)
    facts = {
        "bytes spread": (k - 1) * (2 * whole + edges),
        "bytes spread back": (k - 2) * (2 * whole + edges),
        "bytes last product and Adam": 8 * whole + edges,  # product, table, moments; layer 0 out
        "gathered spread": (k - 1) * edges * d.table.shape[1],
        "gathered spread back": (k - 2) * edges * d.table.shape[1],
        "gathered last product and Adam": edges * d.table.shape[1],
    }
    return facts, repeat


def ranking(job, data):
    """The same table as the row `ranking` has; and its product alone, by torch, into one block."""
    table = torch.from_numpy(job.load("table"))
    users, items = table[: data.users], table[data.users :]
    columns, room = items.T.contiguous(), torch.empty(128, data.items)
    clock = Clock()

    def product():
        for first in range(0, data.users, 128):
            block = users[first : first + 128]
            torch.mm(block, columns, out=room[: len(block)])

    def repeat():
        clock("ranking", rank, users, items, data.train, 20)
        clock("the product alone (torch)", product)
        return clock.means(1)

    flops = 2.0 * data.users * data.items * job.size
    return {"operations ranking": flops, "operations the product alone (torch)": flops}, repeat

"""faiss (PyPI): exact search by inner product, and IVF with product quantisation.

faiss leaves nothing out, so it is asked for as many more items as the user with the most has, and
these are taken out afterwards.
"""

from __future__ import annotations

import faiss
import numpy as np
from worker import served

SHIMS = ["faiss cannot leave out what a user has; more is asked for, and that is taken out"]
TRAINED = 100_000  # items that IVF-PQ learns its cells and codes from
ADDED = 1 << 18  # at once


def _search(job, catalogue, index):
    users = catalogue.table("users")

    def ask(asked):
        liked = catalogue.liked(asked)
        more = int(np.diff(liked.indptr).max(initial=0))
        _, ids = index.search(np.ascontiguousarray(users[asked]), job.k + more)
        found = np.full((len(asked), job.k), -1, np.int64)
        for n, mine in enumerate(ids):
            its = liked.indices[liked.indptr[n] : liked.indptr[n + 1]]
            free = mine[~np.isin(mine, its)][: job.k]
            found[n, : len(free)] = free
        return found

    return ask


def _add(index, items):
    for first in range(0, len(items), ADDED):
        index.add(np.ascontiguousarray(items[first : first + ADDED]))


def _flat(job, catalogue):
    faiss.omp_set_num_threads(job.threads)
    items = catalogue.table("items")
    index = faiss.IndexFlatIP(job.size)
    _add(index, items)
    return _search(job, catalogue, index), {"held": items.size * 4}


def _ivfpq(job, catalogue):
    """√items cells, of which a sixteenth is searched; a byte for every four columns."""
    faiss.omp_set_num_threads(job.threads)
    items = catalogue.table("items")
    cells = int(2 ** round(np.log2(len(items)) / 2))
    coarse = faiss.IndexFlatIP(job.size)
    parts = job.size // 4
    index = faiss.IndexIVFPQ(coarse, job.size, cells, parts, 8, faiss.METRIC_INNER_PRODUCT)
    some = np.random.default_rng(0).choice(len(items), min(TRAINED, len(items)), replace=False)
    index.train(np.ascontiguousarray(items[np.sort(some)]))
    _add(index, items)
    index.nprobe = max(1, cells // 16)
    held = len(items) * (parts + 8)
    return _search(job, catalogue, index), {"held": held, "cells": cells, "nprobe": index.nprobe}


TASKS = {"faiss-flat": served(_flat), "faiss-ivfpq": served(_ivfpq)}

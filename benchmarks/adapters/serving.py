"""Serving in our own environment: ours, and the engines that numpy, scipy and lthnb make up.

`hand over` writes a catalogue that all engines read, block by block, so that a large one never
lies in memory whole. What an engine is: the docstring of its function.
"""

from __future__ import annotations

import json
import time

import numba as nb
import numpy as np
import scipy.sparse as sp
import torch
from worker import Catalogue, served

from lthnb import packing
from lthnb.evaluation import enter, rank
from lthnb.lanes import load, reaching, splat
from lthnb.serving import TicketRecommender

ROWS = 1 << 16  # of the table, drawn at once
# A row's scale: its median, and the spread of its logarithm, so that as many entries are left to
# users and items as in trained tickets.
SCALES = {"users": (1.3, 0.1), "items": (1.0, 0.4)}
LIKED = 30  # items that a user has, on average
SCORED = 128, 1 << 14  # users and items whose scores are in memory at once: 8 MB stay in a cache


def _drawn(side: str, number: int, job) -> np.ndarray:
    """Some rows of the table before it is pruned, float32, from a stream of their own."""
    rng = np.random.default_rng((ord(side[0]), number, job.size))
    rows = min(ROWS, getattr(job, side) - number * ROWS)
    median, spread = SCALES[side]
    scale = (median * rng.lognormal(0, spread, (rows, 1))).astype(np.float32)
    return rng.standard_normal((rows, job.size), np.float32) * scale


def _threshold(job) -> float:
    """The magnitude below which entries are pruned, over users and items together."""
    if job.density >= 1:
        return 0.0
    some = [np.abs(_drawn(side, 0, job)).ravel() for side in SCALES]
    weights = [getattr(job, side) / len(one) for side, one in zip(SCALES, some, strict=True)]
    values, weights = np.concatenate(some), np.repeat(weights, [len(one) for one in some])
    order = np.argsort(values)
    share = np.cumsum(weights[order]) / weights.sum()
    return float(values[order][np.searchsorted(share, 1 - job.density)])


def hand_over(job):
    """Write users.npy, items.npy (float32, such values as float16 has: rounding loses nothing in
    any engine), liked.npz, and the packed ticket; facts say how long packing took."""
    job.folder.mkdir(parents=True, exist_ok=True)
    facts = job.folder / "facts.json"
    if not facts.exists():
        least = _threshold(job)
        for side in SCALES:
            shape = getattr(job, side), job.size
            out = np.lib.format.open_memmap(
                job.folder / f"{side}.npy", "w+", dtype=np.float32, shape=shape
            )
            for number in range(-(-shape[0] // ROWS)):
                rows = _drawn(side, number, job).astype(np.float16).astype(np.float32)
                rows[np.abs(rows) < least] = 0
                out[number * ROWS : number * ROWS + len(rows)] = rows
            out.flush()
            del out
        rng = np.random.default_rng(job.items)
        pairs = rng.integers(0, job.items, (job.users, LIKED))
        ones = np.ones(pairs.size, np.float32)
        rows = np.repeat(np.arange(job.users), LIKED)
        liked = sp.csr_matrix((ones, (rows, pairs.ravel())), (job.users, job.items))
        liked.sum_duplicates()
        np.savez(job.folder / "liked.npz", indptr=liked.indptr, indices=liked.indices)
        values = np.concatenate([np.load(job.folder / f"{s}.npy", mmap_mode="r") for s in SCALES])
        ticket = packing.Ticket(values != 0, values, job.users, job.items)
        start = time.perf_counter()
        packed = packing.pack(ticket, values="float16", budget=job.budget)
        path = packed.save(job.folder / "ticket.safetensors")
        seconds = time.perf_counter() - start
        found = {
            "density": float(np.mean(ticket.kept)),
            "build": seconds,
            "file": path.stat().st_size,
            "forms": [packed.users.form, packed.items.form],
            "bound": ticket.bound(16),
        }
        for kind in job.kinds:
            found[f"file {kind}"] = packing.pack(ticket, values=kind).nbytes
        facts.write_text(json.dumps(found))
    if not (job.folder / "least.npy").exists():
        np.save(job.folder / "least.npy", _least(job))
    return json.loads(facts.read_text()), dict


def _least(job) -> np.ndarray:
    """The k-th best score, in float64, of the users whose answers are checked."""
    catalogue = Catalogue(job)
    users = catalogue.singles()[: job.checked]
    queries, liked = catalogue.table("users")[users].astype(float), catalogue.liked(users)
    best = np.full((len(users), job.k), -np.inf)
    items = catalogue.table("items")
    for first in range(0, len(items), ROWS):
        scores = queries @ items[first : first + ROWS].T.astype(float)
        mine = liked[:, first : first + ROWS].tocoo()
        scores[mine.row, mine.col] = -np.inf
        both = np.concatenate((best, scores), 1)
        best = -np.partition(-both, job.k - 1, 1)[:, : job.k]
    return best.min(1)


def _ours(index: bool):
    def build(job, catalogue):
        """lthnb.serving, from the packed file."""
        packed = packing.load(job.folder / "ticket.safetensors")
        server = TicketRecommender(packed, index=index, threads=job.threads)

        def ask(users):
            one = len(users) == 1
            ids, _ = server.recommend(users[0] if one else users, catalogue.liked(users), job.k)
            return ids

        return ask, {"held": server.nbytes, "forms": [packed.users.form, packed.items.form]}

    return served(build)


def _dense(job, catalogue):
    """BLAS, and our own selection of the best from its scores."""
    torch.set_num_threads(job.threads)
    nb.set_num_threads(job.threads)

    @nb.njit(parallel=True)
    def best(scores, indptr, liked, places, top, ids):
        for row in nb.prange(scores.shape[0]):
            lowest = max(top[row, -1], np.finfo(np.float32).min)
            flat = scores[row]
            for at in range(0, flat.size, 16):
                here = min(16, flat.size - at)
                if here < 16 or reaching(load(flat, at, 16), splat(flat, lowest, 16)) != 0:
                    known = liked[indptr[row] : indptr[row + 1]]
                    some = flat[at : at + 16], here, places[at : at + 16]
                    lowest = enter(*some, known, top[row], ids[row], lowest)

    users, items = (torch.from_numpy(catalogue.table(side)) for side in ("users", "items"))
    places, room = np.arange(len(items)), torch.empty(SCORED[0] * SCORED[1])

    def ask(asked):
        found = np.full((len(asked), job.k), -1, np.int64)
        top = np.full((len(asked), job.k), -np.inf, np.float32)
        liked = catalogue.liked(asked)
        for first in range(0, len(asked), SCORED[0]):
            rows = slice(first, min(first + SCORED[0], len(asked)))
            vectors, indptr = users[asked[rows]], liked.indptr[first : rows.stop + 1]
            for begin in range(0, len(items), SCORED[1]):
                some = items[begin : begin + SCORED[1]]
                scores = room[: len(vectors) * len(some)].view(len(vectors), len(some))
                torch.mm(vectors, some.T, out=scores)
                mine = places[begin : begin + len(some)]
                best(scores.numpy(), indptr, liked.indices, mine, top[rows], found[rows])
        return found

    return ask, {"held": (users.numel() + items.numel()) * 4}


def _fused(job, catalogue):
    """lthnb.evaluation.rank, which lays the items out anew at each call: for many users at once."""
    nb.set_num_threads(job.threads)
    users, items = (torch.from_numpy(catalogue.table(side)) for side in ("users", "items"))

    def ask(asked):
        return rank(users[asked], items, catalogue.liked(asked), job.k)

    return ask, {"held": (users.numel() + items.numel()) * 4}


def _scipy(job, catalogue):
    """A product of two CSR matrices, and a partial sort of what is not 0 in each row."""
    users, items = catalogue.sparse("users"), catalogue.sparse("items").T.tocsr()

    def ask(asked):
        found = np.full((len(asked), job.k), -1, np.int64)
        for first in range(0, len(asked), SCORED[0]):
            rows = asked[first : first + SCORED[0]]
            scores = users[rows] @ items
            liked = catalogue.liked(rows)
            for n in range(len(rows)):
                mine = slice(scores.indptr[n], scores.indptr[n + 1])
                ids, its = scores.indices[mine], scores.data[mine]
                its[np.isin(ids, liked.indices[liked.indptr[n] : liked.indptr[n + 1]])] = -np.inf
                count = min(job.k, len(its))
                if count:
                    few = np.argpartition(-its, count - 1)[:count]
                    found[first + n, :count] = ids[few[np.argsort(-its[few], kind="stable")]]
        return found

    held = (users, items)
    return ask, {"held": sum(m.data.nbytes + m.indices.nbytes + m.indptr.nbytes for m in held)}


SHIMS: list[str] = []
TASKS = {
    "hand over": hand_over,
    "ours": _ours(index=False),
    "ours-index": _ours(index=True),
    "dense": served(_dense),
    "fused": served(_fused),
    "scipy": served(_scipy),
}

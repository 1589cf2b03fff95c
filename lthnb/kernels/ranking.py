"""Full ranking: every user against every item that is not known already, and what follows from it.

Every metric at every k ≤ K follows from which of the top K places are hits.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import scipy.sparse as sp
import torch

from lthnb.data import Interactions
from lthnb.kernels.simd import fma, load, reaching, splat, store
from lthnb.metrics import TOP, Hits

GROUP = 6  # users scored together: 6 × 16 sums fit in the registers
TILE = 16  # items scored together, as two vectors of
HALF = 8
USERS_AT_ONCE = 8 * GROUP  # of a thread
TILES_AT_ONCE = 64  # 1024 items, which stay in the cache while they meet those users


def rank(
    user_vectors: torch.Tensor, item_vectors: torch.Tensor, known: sp.csr_matrix, k: int
) -> np.ndarray:
    """The k best items of each user that are not in `known`: int64, shape (users, k).

    user_vectors: (users, F), item_vectors: (items, F), of one dtype; known: CSR (users, items),
    sorted indices. Equal scores rank by the lower item id; where candidates are fewer, −1.

    It is done on the CPU. Items are met by falling norm, and a user is done with them when by
    Cauchy and Schwarz none that is left can reach the k-th best score so far.
    """
    best = np.full((user_vectors.shape[0], k), -1, np.int64)
    indptr = known.indptr.astype(np.int64)
    users, items = (np.ascontiguousarray(v.cpu().numpy()) for v in (user_vectors, item_vectors))
    norms = [np.sqrt(np.einsum("rf,rf->r", v, v, dtype=np.float64)) for v in (users, items)]
    order = np.argsort(-norms[1], kind="stable")
    # A computed score is at most F + 1 roundings above the product of the norms.
    slack = 1 + (users.shape[1] + 8) * np.finfo(users.dtype).eps
    tiles, taken = (_tiles(items, order), norms[1][order[::TILE]]), (indptr, known.indices, best)
    _best(users, norms[0] * slack, *tiles, order, *taken)
    first_free(np.arange(len(items)), np.flatnonzero(norms[0] == 0), *taken)
    return best


@nb.njit(cache=True, parallel=True)
def _tiles(items, order):
    """Items in an order, as (tiles, F, 16); the last tile is filled up with zeros."""
    tiles = np.zeros(((order.size + TILE - 1) // TILE, items.shape[1], TILE), items.dtype)
    for tile in nb.prange(tiles.shape[0]):
        for lane in range(min(TILE, order.size - tile * TILE)):
            for f in range(items.shape[1]):
                tiles[tile, f, lane] = items[order[tile * TILE + lane], f]
    return tiles


@nb.njit(cache=True)
def enter(scores, lanes, places, known, top, ids, lowest):
    """Let the items that reach `lowest` into a user's list; returns the new `lowest`.

    scores: of the items `places`, of which `lanes` exist. known: the user's, sorted. top, ids: the
    list so far, best first.
    """
    k = top.size
    for lane in range(lanes):
        value, item = scores[lane], places[lane]
        if value < lowest or (value == top[k - 1] and item > ids[k - 1]):
            continue
        at = np.searchsorted(known, item)
        if at < known.size and known[at] == item:
            continue
        place = k - 1
        while place > 0 and (
            value > top[place - 1] or (value == top[place - 1] and item < ids[place - 1])
        ):
            top[place], ids[place] = top[place - 1], ids[place - 1]
            place -= 1
        top[place], ids[place] = value, item
        lowest = max(lowest, top[k - 1])
    return lowest


@nb.njit(cache=True, nogil=True)
def first_free(candidates, rows, indptr, known, best):
    """The lists of users who score 0 with all: the first candidates that are not known."""
    for row in rows:
        at, end = indptr[row], indptr[row + 1]
        place = 0
        for item in candidates:
            if place == best.shape[1]:
                break
            while at < end and known[at] < item:
                at += 1
            if at == end or known[at] != item:
                best[row, place] = item
                place += 1


@nb.njit(cache=True, parallel=True)
def _best(users, user_norms, tiles, tile_norms, order, indptr, known, best):
    """Fill best (users, k). tile_norms: the largest norm in each tile, falling."""
    people, size, k = users.shape[0], users.shape[1], best.shape[1]
    flat = tiles.reshape(-1)
    never = np.finfo(users.dtype).min
    for block in nb.prange((people + USERS_AT_ONCE - 1) // USERS_AT_ONCE):
        first = block * USERS_AT_ONCE
        here = min(USERS_AT_ONCE, people - first)
        top = np.full((USERS_AT_ONCE, k), -np.inf, users.dtype)
        ids = np.full((USERS_AT_ONCE, k), -1, np.int64)
        lowest = np.full(USERS_AT_ONCE, np.inf, users.dtype)  # nobody is never reached
        for n in range(here):
            if user_norms[first + n] != 0:  # who scores 0 with all would be done with no item
                lowest[n] = never
        vectors = np.zeros((USERS_AT_ONCE // GROUP, size, GROUP), users.dtype)
        for n in range(here):
            for f in range(size):
                vectors[n // GROUP, f, n % GROUP] = users[first + n, f]
        scores = np.empty((GROUP, TILE), users.dtype)
        out = scores.reshape(-1)
        for stretch in range(0, tiles.shape[0], TILES_AT_ONCE):
            going = False
            for group in range((here + GROUP - 1) // GROUP):
                base = group * GROUP
                can = False
                for n in range(base, min(base + GROUP, here)):
                    can |= user_norms[first + n] * tile_norms[stretch] >= lowest[n]
                if not can:
                    continue
                going = True
                u = vectors[group]
                for tile in range(stretch, min(stretch + TILES_AT_ONCE, tiles.shape[0])):
                    at = tile * size * TILE
                    a0 = a1 = a2 = a3 = a4 = a5 = splat(flat, 0.0, HALF)
                    b0 = b1 = b2 = b3 = b4 = b5 = a0
                    for f in range(size):
                        low, high = load(flat, at, HALF), load(flat, at + HALF, HALF)
                        at += TILE
                        x = splat(flat, u[f, 0], HALF)
                        a0, b0 = fma(x, low, a0), fma(x, high, b0)
                        x = splat(flat, u[f, 1], HALF)
                        a1, b1 = fma(x, low, a1), fma(x, high, b1)
                        x = splat(flat, u[f, 2], HALF)
                        a2, b2 = fma(x, low, a2), fma(x, high, b2)
                        x = splat(flat, u[f, 3], HALF)
                        a3, b3 = fma(x, low, a3), fma(x, high, b3)
                        x = splat(flat, u[f, 4], HALF)
                        a4, b4 = fma(x, low, a4), fma(x, high, b4)
                        x = splat(flat, u[f, 5], HALF)
                        a5, b5 = fma(x, low, a5), fma(x, high, b5)
                    h0 = _reach(flat, a0, b0, lowest[base])
                    h1 = _reach(flat, a1, b1, lowest[base + 1])
                    h2 = _reach(flat, a2, b2, lowest[base + 2])
                    h3 = _reach(flat, a3, b3, lowest[base + 3])
                    h4 = _reach(flat, a4, b4, lowest[base + 4])
                    h5 = _reach(flat, a5, b5, lowest[base + 5])
                    if (h0 | h1 | h2 | h3 | h4 | h5) == 0:
                        continue
                    _put(out, 0, a0, b0)
                    _put(out, 1, a1, b1)
                    _put(out, 2, a2, b2)
                    _put(out, 3, a3, b3)
                    _put(out, 4, a4, b4)
                    _put(out, 5, a5, b5)
                    places = order[tile * TILE : (tile + 1) * TILE]
                    reached = (h0, h1, h2, h3, h4, h5)
                    for n in range(GROUP):
                        if reached[n]:
                            who = base + n
                            row = first + who
                            lowest[who] = enter(
                                scores[n],
                                places.size,
                                places,
                                known[indptr[row] : indptr[row + 1]],
                                top[who],
                                ids[who],
                                lowest[who],
                            )
            if not going:
                break
        for n in range(here):
            best[first + n] = ids[n]


@nb.njit(cache=True)
def _reach(flat, a, b, lowest):
    """Not zero where one of 16 scores reaches `lowest`."""
    least = splat(flat, lowest, HALF)
    return reaching(a, least) | reaching(b, least)


@nb.njit(cache=True)
def _put(out, row, a, b):
    store(out, row * TILE, a)
    store(out, row * TILE + HALF, b)


def evaluate(outputs: torch.Tensor, data: Interactions, part: str) -> Hits:
    """Rank all items for every user and compare with a part.

    outputs: (rows, F), users first. part: `valid` (train is masked out) or `test` (train and valid
    are). Users whose part is empty are left out; :attr:`Hits.users` says who is in.
    """
    target, known = getattr(data, part), data.taken if part == "valid" else data.known
    wanted = np.diff(target.indptr)
    users, vectors = np.flatnonzero(wanted), outputs[: data.users]
    if users.size < data.users:
        vectors, known = vectors[users], known[users]
    best = rank(vectors, outputs[data.users :], known, TOP)
    hits = np.zeros(best.shape, bool)
    _mark_hits(best, users, target.indptr, target.indices, hits)
    return Hits(users, hits, wanted[users].astype(np.int64))


def evaluate_popularity(data: Interactions, part: str) -> Hits:
    """As :func:`evaluate`, of recommending to everyone what most users have in train."""
    outputs = torch.ones(data.rows, 1)
    outputs[data.users :, 0] = torch.from_numpy(data.item_degree.astype(np.float32))
    return evaluate(outputs, data, part)


@nb.njit(cache=True)
def _mark_hits(best, users, indptr, indices, hits):
    for row in range(best.shape[0]):
        target = indices[indptr[users[row]] : indptr[users[row] + 1]]
        for place in range(best.shape[1]):
            spot = np.searchsorted(target, best[row, place])
            hits[row, place] = spot < target.size and target[spot] == best[row, place]

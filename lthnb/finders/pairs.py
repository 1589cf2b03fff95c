"""Which training pairs a model could do without: scores of pairs, and data without some of them.

A score says how dispensable a pair is; those with the highest go first. Scores are float64
(train.nnz,), in the order of the train matrix.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from scipy.stats import rankdata

from lthnb.config import one_of
from lthnb.data import DataError, Interactions, places, to_csr, users_of
from lthnb.rng import stream_bits, stream_start

NEGATIVES = 64  # items of a user with which each of the user's pairs is compared
AT_ONCE = 1 << 17  # pairs: what bounds the memory
WAYS = ("uniform", "popularity")


def chance(data: Interactions, seed: int) -> np.ndarray:
    """Bits of the stream "pairs", by user and item."""
    pair = users_of(data.train) * np.int64(data.items) + data.train.indices
    return stream_bits(seed, "pairs", pair) / 2.0**64


def rarity(data: Interactions) -> np.ndarray:
    """Minus the training pairs of the pair's item: pairs of rare items go first."""
    return -data.item_degree[data.train.indices].astype(np.float64)


def losses(data: Interactions, outputs: np.ndarray, seed: int = 0) -> np.ndarray:
    """The mean BPR loss (Eq. 4) of each pair beside :data:`NEGATIVES` items that the user does not
    have, the same for all of a user's pairs. outputs: (rows, F), what is scored with. A user who
    has everything has a loss of 0."""
    users, items = users_of(data.train), data.train.indices
    place = np.arange(data.users * NEGATIVES).reshape(data.users, NEGATIVES)
    drawn = (stream_bits(seed, "negatives", place) % np.uint64(data.items)).astype(np.int64)
    rows = np.repeat(np.arange(data.users), NEGATIVES)
    free = ~np.asarray(data.taken[rows, drawn.ravel()]).ravel().astype(bool).reshape(drawn.shape)
    left, right = (np.asarray(o, np.float32) for o in np.split(outputs, [data.users]))
    found = np.zeros(len(users))
    for at in range(0, len(users), AT_ONCE):
        u, i = users[at : at + AT_ONCE], items[at : at + AT_ONCE]
        ours = np.einsum("bf,bf->b", left[u], right[i])
        others = np.einsum("uf,unf->un", left[u[0] : u[-1] + 1], right[drawn[u[0] : u[-1] + 1]])
        loss = np.logaddexp(0, others[u - u[0]] - ours[:, None])
        found[at : at + AT_ONCE] = (loss * free[u]).sum(1) / np.maximum(free[u].sum(1), 1)
    return found


def in_user(data: Interactions, scores: np.ndarray) -> np.ndarray:
    """Of each pair the share of its user's pairs that score lower, so that users lose alike. Of
    equal scores the first item's counts as lower."""
    return places(data.train, scores) / data.user_degree[users_of(data.train)]


def without(data: Interactions, scores: np.ndarray, count: int) -> Interactions:
    """The data without the `count` pairs that score highest; of equal scores the later ones go.
    Each user keeps the pair that scores lowest. Raises DataError where so many cannot go."""
    free = places(data.train, scores) > 0
    if not 0 <= count <= free.sum():
        raise DataError(
            f"{data.name}: found {count:,} training pairs to drop, expected at most "
            f"{free.sum():,}: each of {data.users:,} users keeps one."
        )
    gone = np.zeros(len(scores), bool)
    gone[np.flatnonzero(free)[np.argsort(scores[free], kind="stable")[free.sum() - count :]]] = True
    return dropping(data, gone)


def dropping(data: Interactions, gone: np.ndarray) -> Interactions:
    """The data without some training pairs: bool (train.nnz,), which."""
    if not gone.any():
        return data
    users, items, shape = users_of(data.train), data.train.indices, data.train.shape
    kept, dropped = (to_csr(users[part], items[part], shape) for part in (~gone, gone))
    before = dropped if data.dropped is None else data.dropped + dropped
    return replace(data, train=kept, dropped=before)


def noisy(data: Interactions, noise: str) -> Interactions:
    """The data with noise among the training pairs, `data.planted`; as they are without one.

    noise: as the column `noise` of a record has it: way, share and seed, such as ``uniform-0.1-0``.
    The share is of as many pairs as there are training pairs. Users are drawn as often as they have
    training pairs, items by the way: ``uniform``, or by ``popularity`` in train. No pair is planted
    that stands in any part. Raises DataError where there is no room for so many, ConfigError for
    another way.
    """
    if not noise:
        return data
    way, share, seed = noise.split("-")
    one_of("way", way, WAYS)
    wanted = round(float(share) * data.train.nnz)
    rng = np.random.default_rng(stream_start(int(seed), f"planted {way}"))
    users, items, shape = users_of(data.train), data.train.indices, data.train.shape
    known = data.known + data.test
    fresh = sp.csr_matrix(shape, dtype=np.int8)
    for _ in range(100):
        left = wanted - fresh.nnz
        if not left:
            break
        u = users[rng.integers(len(users), size=left)]
        i = rng.integers(data.items, size=left)
        if way == "popularity":
            i = items[rng.integers(len(items), size=left)]
        more = to_csr(u, i, shape)
        fresh = fresh + more - more.multiply(known + fresh)
        fresh.eliminate_zeros()
    if fresh.nnz < wanted:
        raise DataError(f"{data.name}: no room for {wanted:,} planted pairs, {fresh.nnz:,} fitted.")
    both = to_csr(*(data.train + fresh).nonzero(), shape)
    return replace(data, train=both, planted=fresh, origin={**data.origin, "noise": noise})


def among(data: Interactions, pairs: sp.csr_matrix) -> np.ndarray:
    """Which training pairs are among some: bool (train.nnz,)."""
    return np.asarray(pairs[users_of(data.train), data.train.indices]).ravel() > 0


def found(data: Interactions, scores: np.ndarray, gone: np.ndarray) -> dict[str, float]:
    """How well scores find what is planted: the share of the pairs gone, bool (train.nnz,), that is
    (`noise_share`), and how often a planted pair scores higher than another (`noise_auc`); nothing
    where no pair of train is known to be planted, or all are."""
    noise = np.zeros(len(gone), bool) if data.planted is None else among(data, data.planted)
    if not 0 < noise.sum() < len(noise):
        return {}
    above = rankdata(scores)[noise].sum() - noise.sum() * (noise.sum() + 1) / 2
    auc = above / (noise.sum() * (~noise).sum())
    return {"noise_share": float(noise[gone].mean()), "noise_auc": float(auc)}

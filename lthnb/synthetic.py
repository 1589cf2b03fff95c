"""Planted interactions: a set of any size whose true taste is known.

Item popularity and user activity follow power laws. A share of the users and of the items is
*informative*: these have a random direction of length one in a space of `rank` dimensions, and such
a user prefers the items that point the same way. All others have zero factors: their interactions
follow popularity alone. A user's items are drawn one after another, without replacement, with
chances proportional to popularity · exp(taste · ⟨user, item⟩), exactly.

Everything comes from the counter stream of the seed: a draw depends on (seed, user) alone, never on
the number of threads or on the order of the users.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numba as nb
import numpy as np

from lthnb.config import Between, ConfigError, _Checked, setting
from lthnb.stream import below, bits_at, stream_bits, stream_start, stream_uniform

SEEDS = Between(0, 2**63 - 1)
BLOCKS = 64  # of users, whatever the number of threads
LANE = 1 << 32  # counters that one user may draw from


@dataclass(frozen=True)
class Planted(_Checked):
    """The options of a planted set."""

    users: int = setting(1000, Between(1, 2**31 - 1), "users", unit="rows")
    items: int = setting(500, Between(2, 2**31 - 1), "items", unit="rows")
    interactions: int = setting(20_000, Between(1, 2**31 - 1), "pairs in all", unit="pairs")
    rank: int = setting(8, Between(1), "dimensions of the planted taste")
    popularity: float = setting(
        1.0, Between(0, 10), "exponent of the items' power law; 0 makes all items equally popular"
    )
    activity: float = setting(
        0.5, Between(0, 10), "exponent of the users' power law; 0 gives all users as many pairs"
    )
    least: int = setting(
        5, Between(1), "fewest pairs of a user; from 5 on each has a valid and a test pair"
    )
    taste: float = setting(
        3.0, Between(0), "how much taste counts: an item's odds rise by exp(taste · cosine)"
    )
    informative: float = setting(
        1.0, Between(0, 1), "share of the users, and of the items, that have a taste at all"
    )
    noise: float = setting(
        0.0, Between(0, 1), "share of each user's pairs drawn uniformly among the items left"
    )
    seed: int = setting(0, SEEDS, "seed of the set, apart from that of its split")

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.users * self.least, self.users * (self.items // 2)
        if not low <= self.interactions <= high:
            raise ConfigError(
                f"Planted.interactions: found {self.interactions}, expected {low} to {high}: each "
                f"of {self.users} users has at least `least` = {self.least} pairs, and at most "
                f"half of the {self.items} items."
            )


@dataclass(frozen=True, eq=False)
class Truth:
    """What was planted.

    user_factors, item_factors: float64, (users, rank) and (items, rank); rows of length one, or
    zeros where a row is not informative.
    item_popularity: float64, (items,), sums to one. user_degree: int64, (users,), pairs of each.
    informative_users, informative_items: bool, (users,) and (items,).
    """

    user_factors: np.ndarray
    item_factors: np.ndarray
    item_popularity: np.ndarray
    user_degree: np.ndarray
    informative_users: np.ndarray
    informative_items: np.ndarray


def synthetic_truth(**options: Any) -> Truth:
    """The factors that the same options plant in :func:`synthetic_pairs`; see :class:`Planted`.

    Raises ConfigError, naming the option, where one cannot be.
    """
    o = Planted(**options)
    user_mask = _chosen(o.seed, "users", o.users, o.informative)
    item_mask = _chosen(o.seed, "items", o.items, o.informative)
    weight = np.arange(1, o.items + 1, dtype=np.float64) ** -o.popularity
    popularity = np.empty(o.items)
    popularity[_shuffled(o.seed, "popularity", o.items)] = weight / weight.sum()
    return Truth(
        user_factors=_directions(o.seed, "user factors", o.users, o.rank) * user_mask[:, None],
        item_factors=_directions(o.seed, "item factors", o.items, o.rank) * item_mask[:, None],
        item_popularity=popularity,
        user_degree=_degrees(o),
        informative_users=user_mask,
        informative_items=item_mask,
    )


def synthetic_pairs(**options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of the planted pairs, int64 and int32, sorted by user; no pair twice."""
    o = Planted(**options)
    truth = synthetic_truth(**options)
    users = np.arange(o.users)
    offsets = np.concatenate(([0], np.cumsum(truth.user_degree)))
    # Rounded at random, so that the share is right on average for users with few pairs too.
    coin = stream_uniform(o.seed, "synthetic noise", users)
    noisy = np.floor(truth.user_degree * o.noise + coin).astype(np.int64)
    noisy = np.minimum(noisy, truth.user_degree)
    items = np.empty(offsets[-1], np.int32)
    _draw(
        np.uint64(stream_start(o.seed, "synthetic pairs")),
        np.uint64(stream_start(o.seed, "synthetic rest")),
        offsets,
        truth.user_degree - noisy,
        *_alias_table(truth.item_popularity),
        truth.item_popularity,
        truth.user_factors,
        truth.item_factors,
        truth.informative_users,
        o.taste,
        items,
    )
    return np.repeat(users, truth.user_degree), items


def _shuffled(seed: int, purpose: str, n: int) -> np.ndarray:
    """A random order of 0 … n − 1."""
    return np.argsort(stream_bits(seed, f"synthetic {purpose}", np.arange(n)), kind="stable")


def _chosen(seed: int, purpose: str, n: int, share: float) -> np.ndarray:
    """bool, (n,): ⌊share · n + ½⌋ of them at random."""
    mask = np.zeros(n, bool)
    mask[_shuffled(seed, f"informative {purpose}", n)[: math.floor(share * n + 0.5)]] = True
    return mask


def _directions(seed: int, purpose: str, n: int, rank: int) -> np.ndarray:
    """float64, (n, rank): random rows of length one.

    A sum of four uniforms is close enough to a normal to point evenly in all directions, and is
    the same bits on every processor, which a logarithm is not.
    """
    uniform = stream_uniform(seed, f"synthetic {purpose}", np.arange(4 * n * rank))
    x = uniform.reshape(4, n, rank).sum(axis=0) - 2.0
    square = np.zeros(n)
    for column in range(rank):
        square += x[:, column] * x[:, column]
    return x / np.sqrt(np.maximum(square, 1e-300))[:, None]


def _degrees(o: Planted) -> np.ndarray:
    """int64, (users,): pairs of each user, a clipped power law that sums to `interactions`."""
    law = np.arange(1, o.users + 1, dtype=np.float64) ** -o.activity
    most = o.items // 2
    low, high = 0.0, most / law[-1]
    for _ in range(100):  # bisection on the factor that makes the clipped law sum to the total
        factor = (low + high) / 2
        if np.clip(factor * law, o.least, most).sum() < o.interactions:
            low = factor
        else:
            high = factor
    exact = np.clip(high * law, o.least, most)
    degree = np.floor(exact).astype(np.int64)
    # What rounding down has lost goes to the largest remainders, or comes off the smallest.
    lacking = o.interactions - int(degree.sum())
    by_remainder = np.argsort(degree - exact, kind="stable")
    room = by_remainder[degree[by_remainder] < most]
    degree[room[:lacking]] += 1
    out = np.empty_like(degree)
    out[_shuffled(o.seed, "activity", o.users)] = degree
    return out


@nb.njit(cache=True)
def _alias_table(chance):
    """Walker's alias table of chances that sum to one: float64 `stay` and int32 `other`, (n,).

    One random number then draws from the law in constant time (Vose 1991).
    """
    n = len(chance)
    stay = np.ones(n)
    other = np.arange(n).astype(np.int32)
    left = chance * n
    small = np.empty(n, np.int64)
    large = np.empty(n, np.int64)
    smalls = larges = 0
    for i in range(n):
        if left[i] < 1.0:
            small[smalls] = i
            smalls += 1
        else:
            large[larges] = i
            larges += 1
    while smalls > 0 and larges > 0:
        smalls -= 1
        s = small[smalls]
        g = large[larges - 1]
        stay[s] = left[s]
        other[s] = g
        left[g] -= 1.0 - left[s]
        if left[g] < 1.0:
            larges -= 1
            small[smalls] = g
            smalls += 1
    return stay, other


@nb.njit(inline="always")
def _unit(bits):
    """64 random bits to float64 in (0, 1): its logarithm is finite."""
    return (np.float64(bits >> np.uint64(11)) + 0.5) * 2.0**-53


@nb.njit(cache=True, parallel=True)
def _draw(
    start,
    start_rest,
    offsets,
    by_taste,
    stay,
    other,
    popularity,
    user_factors,
    item_factors,
    informative,
    taste,
    out,
):
    """Fill `out`[offsets[u]:offsets[u + 1]] with the items of user u.

    The first `by_taste`[u] by popularity · exp(taste · ⟨u, i⟩), the others uniformly. A proposal
    from popularity is kept with chance exp(taste · (⟨u, i⟩ − 1)) ≤ 1, and dropped where the item
    is taken: that is drawing without replacement. After twenty proposals for each item that
    there is, the rest is had by exponential races, which need no luck; the law of what is still to
    come does not depend on how many proposals failed, so the change is exact.
    """
    users, items, rank = len(by_taste), len(stay), item_factors.shape[1]
    a_block = (users + BLOCKS - 1) // BLOCKS
    for block in nb.prange(BLOCKS):
        taken_by = np.full(items, -1, np.int64)
        for u in range(block * a_block, min(users, (block + 1) * a_block)):
            at, end_taste, end = offsets[u], offsets[u] + by_taste[u], offsets[u + 1]
            counter = np.uint64(u) * np.uint64(LANE)
            tries = 0
            while at < end_taste and tries < 20 * items:
                tries += 1
                bits = bits_at(start, counter)
                coin = _unit(bits_at(start, counter + np.uint64(1)))
                counter += np.uint64(2)
                i = below(bits, items)
                # The low half of bits · items is what is left of these bits once i is known.
                if _unit(bits * np.uint64(items)) >= stay[i]:
                    i = np.int64(other[i])
                if informative[u]:
                    cosine = 0.0
                    for f in range(rank):
                        cosine += user_factors[u, f] * item_factors[i, f]
                    if coin >= math.exp(taste * (cosine - 1.0)):
                        continue
                if taken_by[i] != u:
                    taken_by[i] = u
                    out[at] = i
                    at += 1
            if at < end_taste:
                arrival = np.full(items, np.inf)
                for i in range(items):
                    if taken_by[i] == u:
                        continue
                    cosine = 0.0
                    for f in range(rank):
                        cosine += user_factors[u, f] * item_factors[i, f]
                    unit = _unit(bits_at(start, counter + np.uint64(i)))
                    # In logarithms: a weight may be too small for a float64.
                    arrival[i] = math.log(-math.log(unit)) - (
                        math.log(popularity[i]) + taste * cosine
                    )
                while at < end_taste:  # few are left: a scan for each is cheap, a sort is not
                    i = arrival.argmin()
                    arrival[i] = np.inf
                    taken_by[i] = u
                    out[at] = i
                    at += 1
            counter = np.uint64(u) * np.uint64(LANE)
            while at < end:  # at most half of the items are taken, so every other try succeeds
                i = below(bits_at(start_rest, counter), items)
                counter += np.uint64(1)
                if taken_by[i] != u:
                    taken_by[i] = u
                    out[at] = i
                    at += 1

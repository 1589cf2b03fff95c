"""Planted interactions: a set of any size whose true taste is known.

Item popularity and user activity follow power laws. A share of the users and of the items is
*informative*: these have a random direction of length one in a space of `rank` dimensions, and such
a user prefers the items that point the same way. All others have zero factors: their interactions
follow popularity alone. A user's items are drawn one after another, without replacement, with
chances proportional to popularity · exp(taste · ⟨user, item⟩).

Everything comes from the counter stream of the seed: a draw depends on (seed, user, item) alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from lthnb.datasets.options import Options, checked
from lthnb.rng import stream_bits, stream_uniform

CELLS = 1 << 22  # of users × items, drawn at once: what bounds the memory


class Planted(Options):
    """The options of a planted set."""

    users: int = Field(1000, ge=1, lt=2**31, description="users")
    items: int = Field(500, ge=2, lt=2**31, description="items")
    interactions: int = Field(20_000, ge=1, lt=2**31, description="pairs in all")
    rank: int = Field(8, ge=1, description="dimensions of the planted taste")
    popularity: float = Field(1.0, ge=0, le=10, description="exponent of the items' power law")
    activity: float = Field(0.5, ge=0, le=10, description="exponent of the users' power law")
    least: int = Field(
        5, ge=1, description="fewest pairs of a user; from 5 on each has a valid and a test pair"
    )
    taste: float = Field(
        3.0, ge=0, description="how much taste counts: odds rise by exp(taste · cosine)"
    )
    informative: float = Field(
        1.0, ge=0, le=1, description="share of the users, and of the items, that have a taste"
    )
    noise: float = Field(
        0.0, ge=0, le=1, description="share of each user's pairs drawn uniformly among items left"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the set, apart from its split's")

    @model_validator(mode="after")
    def _pairs_fit(self) -> Planted:
        low, high = self.users * self.least, self.users * (self.items // 2)
        if not low <= self.interactions <= high:
            raise ValueError(
                f"interactions: found {self.interactions}, expected {low} to {high}: each of "
                f"{self.users} users has at least `least` = {self.least} pairs, and at most half "
                f"of the {self.items} items."
            )
        return self


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
    o = checked(Planted, options, "Planted")
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
    """Users and items of the planted pairs, int64, sorted by user; no pair twice.

    The items of the largest log(weight) + Gumbel noise, the largest first, are draws by weight
    without replacement (Vieira 2014; Kool et al. 2019).
    """
    o = checked(Planted, options, "Planted")
    truth = synthetic_truth(**options)
    # Rounded at random, so that the share is right on average for users with few pairs too.
    coin = stream_uniform(o.seed, "synthetic noise", np.arange(o.users))
    noisy = np.floor(truth.user_degree * o.noise + coin).astype(np.int64)
    by_taste = truth.user_degree - np.minimum(noisy, truth.user_degree)
    items, most = [], int(truth.user_degree.max())
    step = max(1, CELLS // o.items)
    for begin in range(0, o.users, step):
        users = np.arange(begin, min(begin + step, o.users))
        cells = users[:, None] * o.items + np.arange(o.items)
        taste = o.taste * truth.user_factors[users] @ truth.item_factors.T
        chosen = _largest(np.log(truth.item_popularity) + taste + _gumbel(o.seed, cells), most)
        rest = chosen
        if o.noise:
            key = stream_uniform(o.seed, "synthetic rest", cells)
            taken = np.arange(most) < by_taste[users, None]
            left = np.where(taken, -1.0, np.take_along_axis(key, chosen, axis=1))
            np.put_along_axis(key, chosen, left, axis=1)
            rest = _largest(key, most)
        for row, other, ours, all_ in zip(
            chosen, rest, by_taste[users], truth.user_degree[users], strict=True
        ):
            items += [row[:ours], other[: all_ - ours]]
    return np.repeat(np.arange(o.users), truth.user_degree), np.concatenate(items)


def _largest(key: np.ndarray, most: int) -> np.ndarray:
    """The columns of the `most` largest values of each row, the largest first: (rows, most)."""
    columns = np.argpartition(-key, most, axis=1)[:, :most]
    order = np.argsort(-np.take_along_axis(key, columns, axis=1), axis=1)
    return np.take_along_axis(columns, order, axis=1)


def _gumbel(seed: int, counters: np.ndarray) -> np.ndarray:
    """Standard Gumbel noise, float64, of the shape of `counters`."""
    uniform = np.maximum(stream_uniform(seed, "synthetic pairs", counters), 2.0**-54)
    return -np.log(-np.log(uniform))


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

    A sum of four uniforms is close enough to a normal to point evenly in all directions.
    """
    uniform = stream_uniform(seed, f"synthetic {purpose}", np.arange(4 * n * rank))
    x = uniform.reshape(4, n, rank).sum(axis=0) - 2.0
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-150)


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

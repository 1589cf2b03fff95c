"""Planted interactions: a set of any size in which a known taste decides.

Item popularity and user activity follow power laws. Users and items have random directions in a
space of `rank` dimensions, and a user prefers the items that point the same way: a user's items are
drawn one after another, without replacement, with chances proportional to
popularity · exp(taste · cosine of the directions).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field, model_validator

from lthnb.datasets.options import Options

LEAST = 5  # pairs of a user at least: with five, one has a validation and a test pair
CELLS = 1 << 22  # of users × items, drawn at once: what bounds the memory


class Planted(Options):
    """The options of a planted set."""

    users: int = Field(1000, ge=1, lt=2**31, description="users")
    items: int = Field(500, ge=2, lt=2**31, description="items")
    interactions: int = Field(20_000, ge=1, lt=2**31, description="pairs in all")
    rank: int = Field(8, ge=1, description="dimensions of the planted taste")
    popularity: float = Field(1.0, ge=0, le=10, description="exponent of the items' power law")
    activity: float = Field(0.5, ge=0, le=10, description="exponent of the users' power law")
    taste: float = Field(
        3.0, ge=0, description="how much taste counts: odds rise by exp(taste · cosine)"
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the set, apart from its split's")

    @model_validator(mode="after")
    def _pairs_fit(self) -> Planted:
        low, high = self.users * LEAST, self.users * (self.items // 2)
        if not low <= self.interactions <= high:
            raise ValueError(
                f"interactions: found {self.interactions}, expected {low} to {high}: each of "
                f"{self.users} users has at least {LEAST} pairs, and at most half of the "
                f"{self.items} items."
            )
        return self


def planted_pairs(o: Planted) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of the planted pairs, int64, sorted by user; no pair twice.

    The items of the largest log(weight) + Gumbel noise are draws by weight without replacement
    (Vieira 2014; Kool et al. 2019).
    """
    rng = np.random.default_rng(o.seed)
    log_popularity = -o.popularity * np.log(rng.permutation(o.items) + 1, dtype=np.float32)
    users, items = _directions(rng, o.users, o.rank), _directions(rng, o.items, o.rank)
    degree = _degrees(rng, o)
    chosen, step = [], max(1, CELLS // o.items)
    for begin in range(0, o.users, step):
        taste = o.taste * users[begin : begin + step] @ items.T
        exponential = np.maximum(rng.standard_exponential(taste.shape, np.float32), 1e-30)
        score = log_popularity + taste - np.log(exponential)
        for row, count in zip(score, degree[begin : begin + step], strict=True):
            chosen.append(np.argpartition(row, -count)[-count:])
    return np.repeat(np.arange(o.users), degree), np.concatenate(chosen)


def _directions(rng: np.random.Generator, n: int, rank: int) -> np.ndarray:
    """float32, (n, rank): random rows of length one."""
    x = rng.standard_normal((n, rank), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _degrees(rng: np.random.Generator, o: Planted) -> np.ndarray:
    """int64, (users,): the least of each, and the rest at random by a power law, clipped."""
    law = rng.permutation(np.arange(1, o.users + 1, dtype=np.float64) ** -o.activity)
    degree, most = np.full(o.users, LEAST), o.items // 2
    while lacking := o.interactions - int(degree.sum()):
        share = np.where(degree < most, law, 0)
        degree = np.minimum(degree + rng.multinomial(lacking, share / share.sum()), most)
    return degree

"""Interactions: who interacted with what, split into train, valid and test.

One type crosses module borders: :class:`Interactions`, three CSR matrices of users × items with
sorted indices, and labels. Everything random here (a split, a carved validation set) comes from
the counter stream of a pair's own ids, so the order of rows in a file never matters.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from lthnb.config import PROTOCOLS, nearest
from lthnb.stream import stream_bits

PARTS = ("train", "valid", "test")
VALID_SHARE_OF_TRAIN = 1 / 8  # of a published train part, so that 8:2 becomes 7:1:2 (§4.1)
RAW_SHARES = (0.1, 0.2)  # valid and test of each user's items, where nothing is published (§4.1)


class DataError(ValueError):
    """Data that cannot be used: says where, what was found, what was expected, what to do."""


@dataclass(frozen=True, eq=False)
class Interactions:
    """Users × items, in three parts.

    train, valid, test: CSR, shape (users, items), int8 ones, sorted int32 indices; disjoint.
    user_labels, item_labels: arrays of length users and items; what the ids are called outside.
    item_info: columns of length items, such as titles and genres, to show beside an item.
    origin: plain data that says where this came from (source, options, counts of what was merged);
    written into every record.
    """

    name: str
    train: sp.csr_matrix
    valid: sp.csr_matrix
    test: sp.csr_matrix
    user_labels: np.ndarray
    item_labels: np.ndarray
    item_info: dict[str, np.ndarray] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.train.shape
        for part in PARTS:
            matrix = getattr(self, part)
            if matrix.shape != shape:
                raise DataError(
                    f"{self.name}: part {part!r} has shape {matrix.shape}, expected {shape}, "
                    "the shape of train; give all parts the same users and items."
                )
            if not sp.issparse(matrix) or matrix.format != "csr":
                raise DataError(f"{self.name}: part {part!r} must be a scipy CSR matrix.")
            if not matrix.has_canonical_format or not (matrix.data == 1).all():
                raise DataError(
                    f"{self.name}: part {part!r} must hold ones, sorted within rows, each pair "
                    "once; data.to_csr(users, items, shape) makes it so."
                )
        if self.train.nnz == 0:
            raise DataError(f"{self.name}: no training pair is left; nothing can be trained.")
        for labels, size, what in (
            (self.user_labels, shape[0], "user_labels"),
            (self.item_labels, shape[1], "item_labels"),
        ):
            if len(labels) != size:
                raise DataError(f"{self.name}: {len(labels)} {what}, expected {size}, one a row.")
        for a, b in (("train", "valid"), ("train", "test"), ("valid", "test")):
            common = getattr(self, a).multiply(getattr(self, b)).nnz
            if common:
                raise DataError(
                    f"{self.name}: {common} pairs stand both in {a} and in {b}; a pair belongs to "
                    "one part. Remove them from one of the two."
                )

    @property
    def users(self) -> int:
        return self.train.shape[0]

    @property
    def items(self) -> int:
        return self.train.shape[1]

    @property
    def rows(self) -> int:
        """Rows of the joint table: users first, then items (Eq. 1)."""
        return self.users + self.items

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shape and the three parts, first 128 bits: what a run's key takes."""
        h = hashlib.sha256()
        h.update(np.array(self.train.shape, "<i8").tobytes())
        for part in PARTS:
            matrix = getattr(self, part)
            h.update(np.ascontiguousarray(matrix.indptr, "<i8").tobytes())
            h.update(np.ascontiguousarray(matrix.indices, "<i8").tobytes())
        return h.hexdigest()[:32]

    def for_protocol(self, protocol: str) -> Interactions:
        """As a protocol wants it: `validated` as it is, `paper` with valid joined into train.

        Raises DataError where `validated` is asked for and there is no validation pair, and where
        the protocol is neither.
        """
        if protocol not in PROTOCOLS:
            raise DataError(
                f"protocol: found {protocol!r}, expected {' or '.join(PROTOCOLS)}."
                + nearest(protocol, PROTOCOLS)
            )
        if protocol == "paper":
            joined = (self.train + self.valid).tocsr()
            joined.sort_indices()
            return replace(self, train=joined, valid=sp.csr_matrix(self.train.shape, dtype=np.int8))
        if self.valid.nnz == 0:
            raise DataError(
                f"{self.name}: the protocol 'validated' chooses epochs on valid, and valid is "
                "empty. Where nothing is published, a user needs five items to have one in valid; "
                "bring such users, give a validation part, or use protocol 'paper'."
            )
        return self

    def statistics(self) -> dict[str, Any]:
        """Counts, density and degrees, as plain data.

        `density` is interactions / (users · items); degrees are of train, `*_degree` holding
        minimum, quartiles and maximum.
        """
        total = sum(getattr(self, part).nnz for part in PARTS)
        user_degree = np.diff(self.train.indptr)
        item_degree = np.bincount(self.train.indices, minlength=self.items)
        quantiles = (0, 0.25, 0.5, 0.75, 1)
        return {
            "users": self.users,
            "items": self.items,
            "interactions": total,
            **{part: getattr(self, part).nnz for part in PARTS},
            "density": total / (self.users * self.items),
            "user_degree": [float(q) for q in np.quantile(user_degree, quantiles)],
            "item_degree": [float(q) for q in np.quantile(item_degree, quantiles)],
            "users_without_train": int((user_degree == 0).sum()),
            "users_without_test": int((np.diff(self.test.indptr) == 0).sum()),
            "items_unseen_in_train": int((item_degree == 0).sum()),
        }

    def summary(self) -> dict[str, Any]:
        """What a record says of its data: name, digest, counts, origin."""
        counts = {part: int(getattr(self, part).nnz) for part in PARTS}
        return {
            "name": self.name,
            "digest": self.digest,
            "users": self.users,
            "items": self.items,
            **counts,
            "origin": self.origin,
        }

    def _repr_html_(self) -> str:
        cells = "".join(
            f"<tr><th style='text-align:left'>{name.replace('_', ' ')}</th><td>{shown}</td></tr>"
            for name, shown in self.described().items()
        )
        return f"<b>{self.name}</b><table>{cells}</table>"

    def described(self) -> dict[str, str]:
        """:meth:`statistics` as text for people."""
        out = {}
        for name, value in self.statistics().items():
            if isinstance(value, list):
                low, first, middle, third, high = (f"{v:,.0f}" for v in value)
                out[name] = f"{low} to {high}, quartiles {first}, {middle}, {third}"
            else:
                out[name] = f"{value:,}" if isinstance(value, int) else f"{value:.5f}"
        return out

    def __repr__(self) -> str:
        s = self.statistics()
        return (
            f"Interactions({self.name!r}, users={s['users']:,}, items={s['items']:,}, "
            f"train={s['train']:,}, valid={s['valid']:,}, test={s['test']:,})"
        )


def to_csr(users: np.ndarray, items: np.ndarray, shape: tuple[int, int]) -> sp.csr_matrix:
    """Pairs of ids as CSR of int8 ones with sorted int32 indices; a pair given twice counts once.

    users, items: integer arrays of one length, ids from 0 and below `shape`.
    """
    matrix = sp.csr_matrix(
        (np.ones(len(users), np.int8), (np.asarray(users), np.asarray(items))), shape=shape
    )
    matrix.sum_duplicates()
    matrix.sort_indices()
    matrix.data = np.ones(matrix.nnz, np.int8)  # a pair many times over must not wrap around
    return matrix


def pick_per_user(matrix: sp.csr_matrix, seed: int, *shares: float) -> list[sp.csr_matrix]:
    """Split each user's items at random into ``len(shares) + 1`` parts: the rest, then the shares.

    Of a user with n items, share s gets ⌊n·s + ½⌋ of them; where that would leave the rest empty,
    the user's items stay in the rest, so that a user with one interaction is kept for training.
    The order is that of a hash of (seed, user, item): it does not depend on the order of the file.
    """
    users = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    pair = users.astype(np.int64) * matrix.shape[1] + matrix.indices
    order = np.lexsort((stream_bits(seed, "split", pair), users))
    count = np.diff(matrix.indptr)
    rank = np.empty(len(users), np.int64)
    rank[order] = np.arange(len(users)) - np.repeat(matrix.indptr[:-1], count)[order]
    sizes = [np.floor(count * share + 0.5).astype(np.int64) for share in shares]
    too_few = count - sum(sizes) < 1
    label = np.zeros(len(users), np.int64)
    start = np.zeros_like(count)
    for number, size in enumerate(sizes, start=1):
        size = np.where(too_few, 0, size)
        inside = (rank >= start[users]) & (rank < (start + size)[users])
        label[inside] = number
        start = start + size
    return [
        to_csr(users[label == k], matrix.indices[label == k], matrix.shape)
        for k in range(len(shares) + 1)
    ]

"""Interactions: who interacted with what, split into train, valid and test.

One type crosses module borders: :class:`Interactions`, three CSR matrices of users × items with
sorted indices, and labels. Everything random here (a split, a carved validation set, the order of
what happened at one time) comes from the counter stream of a pair's own ids, so the order of rows
in a file never matters. Reading data is in :mod:`lthnb.datasets`.
"""

from __future__ import annotations

import hashlib
import html
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from lthnb.config import PROTOCOLS, LthnbError, nearest, one_of

PARTS = ("train", "valid", "test")
FEW = 100  # users tested, below which a mean says little
GROUPS = 10  # of rows with about equally many interactions, as in the authors' code


class DataError(LthnbError, ValueError):
    """Data that cannot be used: says where, what was found, what was expected, what to do."""


@dataclass(frozen=True, eq=False)
class Interactions:
    """Users × items, in three parts.

    train, valid, test: CSR, shape (users, items), int8 ones, sorted int32 indices; disjoint.
    dropped: pairs of the same kind that are known and not trained on. negatives: whether these may
    be drawn as negatives, as a control; else they are not.
    planted: those of train and dropped that are noise, where that is known.
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
    dropped: sp.csr_matrix | None = None
    planted: sp.csr_matrix | None = None
    negatives: bool = False

    def __post_init__(self) -> None:
        shape, parts = self.train.shape, self._parts()
        for part, matrix in parts.items():
            if matrix.shape != shape:
                raise DataError(
                    f"{self.name}: part {part!r} has shape {matrix.shape}, expected {shape}, "
                    "the shape of train; give all parts the same users and items."
                )
            csr = matrix.format == "csr" and matrix.has_canonical_format
            if not csr or not (matrix.data == 1).all():
                raise DataError(
                    f"{self.name}: part {part!r} must be CSR of ones, sorted within rows, each "
                    "pair once; data.to_csr(users, items, shape) makes it so."
                )
        if self.train.nnz == 0:
            raise DataError(f"{self.name}: no training pair is left; nothing can be trained.")
        for what, size in zip(("user_labels", "item_labels"), shape, strict=True):
            if (found := len(getattr(self, what))) != size:
                raise DataError(f"{self.name}: {found} {what}, expected {size}, one a row.")
        for a, b in itertools.combinations(parts, 2):
            if common := parts[a].multiply(parts[b]).nnz:
                raise DataError(f"{self.name}: {common} pairs stand both in {a} and in {b}.")

    def _parts(self) -> dict[str, sp.csr_matrix]:
        parts = {part: getattr(self, part) for part in PARTS}
        return parts if self.dropped is None else {**parts, "dropped": self.dropped}

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
    def known(self) -> sp.csr_matrix:
        """What is known of a user, and therefore not recommended: train, valid and what was
        dropped; CSR, sorted."""
        return self.taken + self.valid

    @cached_property
    def taken(self) -> sp.csr_matrix:
        """Train and what was dropped: no part of what valid is ranked against; CSR, sorted."""
        return self.train if self.dropped is None else self.train + self.dropped

    @property
    def positives(self) -> sp.csr_matrix:
        """What is never drawn as a negative in training; CSR, sorted."""
        return self.train if self.negatives else self.taken

    @property
    def whole(self) -> Interactions:
        """With what was dropped trained on again."""
        return replace(self, train=self.taken, dropped=None, negatives=False)

    @property
    def dropped_pairs(self) -> pd.DataFrame:
        """The pairs that were dropped, by label: `user` and `item`."""
        none = sp.csr_matrix(self.train.shape, dtype=np.int8)
        users, items = (none if self.dropped is None else self.dropped).nonzero()
        return pd.DataFrame({"user": self.user_labels[users], "item": self.item_labels[items]})

    @property
    def user_degree(self) -> np.ndarray:
        """Training pairs of each user, (users,)."""
        return np.diff(self.train.indptr)

    @property
    def item_degree(self) -> np.ndarray:
        """Training pairs of each item, (items,)."""
        return np.bincount(self.train.indices, minlength=self.items)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over shape and all parts, first 128 bits: what a run's key takes."""
        h = hashlib.sha256()
        h.update(np.array(self.train.shape, "<i8").tobytes())
        for matrix in self._parts().values():
            h.update(np.ascontiguousarray(matrix.indptr, "<i8").tobytes())
            h.update(np.ascontiguousarray(matrix.indices, "<i8").tobytes())
        if self.negatives:
            h.update(b"negatives")
        return h.hexdigest()[:32]

    def for_protocol(self, protocol: str) -> Interactions:
        """As a protocol wants it: `validated` as it is, `paper` with valid joined into train.

        Raises DataError where `validated` is asked for and there is no validation pair, and
        ConfigError where the protocol is neither.
        """
        one_of("protocol", protocol, PROTOCOLS)
        if protocol == "paper":
            none = sp.csr_matrix(self.train.shape, dtype=np.int8)
            split = {**self.origin.get("split", {}), "valid": "joined into train"}
            origin = {**self.origin, "split": split}
            return replace(self, train=self.train + self.valid, valid=none, origin=origin)
        if self.valid.nnz == 0:
            raise DataError(
                f"{self.name}: the protocol 'validated' chooses epochs on valid, and valid is "
                "empty. Split at random, a user needs five items to have one in valid; bring such "
                "users, give a validation part, or use protocol 'paper'."
            )
        return self

    def user_row(self, label: Any) -> int:
        """The row of a user: by its label, which may be given as text where labels are numbers.

        Raises DataError, naming the nearest label, where there is no such user.
        """
        rows = np.flatnonzero(self.user_labels.astype(str) == str(label))
        if rows.size:
            return int(rows[0])
        raise DataError(
            f"{self.name}: no user {label!r}, expected a label such as "
            f"{self.user_labels.tolist()[0]!r} (as a papermill parameter with -r, which keeps 007)."
            + nearest(label, self.user_labels[:10000])
        )

    def warnings(self) -> list[str]:
        """What one should know before believing a number from these data: a sentence each, those
        in its `origin` first."""
        counts, notes = self.origin.get("counts", {}), list(self.origin.get("notes", []))
        tested = np.count_nonzero(np.diff(self.test.indptr))
        if tested < FEW:
            notes.append(f"Users tested: {tested:,}. Below {FEW}, intervals are wide.")
        if lost := [f"{n:,} {what}" for what, n in counts.items() if n and what != "rows"]:
            notes.append(f"Of {counts['rows']:,} rows: {', '.join(lost)}.".replace("_", " "))
        if unseen := (self.item_degree == 0)[self.test.indices].sum():
            notes.append(
                f"Test pairs whose item is in no training pair: {unseen:,} of {self.test.nnz:,}. "
                "They are kept, as all-ranking has it (§4.1), and can be hit by luck alone."
            )
        return notes

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

    def described(self) -> dict[str, str]:
        """Counts and degrees as text for people. What is filled is interactions / (users · items);
        degrees are of train."""
        parts = {name: part.nnz for name, part in self._parts().items()}
        total = sum(parts.values())
        counts = {"users": self.users, "items": self.items, "interactions": total, **parts}
        out = {name: f"{count:,}" for name, count in counts.items()}
        out["filled"] = f"{total / (self.users * self.items):.5f}"
        for name in ("user_degree", "item_degree"):
            values = np.quantile(getattr(self, name), (0, 0.25, 0.5, 0.75, 1))
            low, first, middle, third, high = (f"{value:,.0f}" for value in values)
            out[name] = f"{low} to {high}, quartiles {first}, {middle}, {third}"
        without = {
            "users_without_train": self.user_degree,
            "users_without_test": np.diff(self.test.indptr),
            "items_unseen_in_train": self.item_degree,
        }
        return out | {name: f"{(degree == 0).sum():,}" for name, degree in without.items()}

    def _repr_html_(self) -> str:
        return card(self.name, self.described(), self.warnings())

    def __repr__(self) -> str:
        sizes = "".join(f", {name}={part.nnz:,}" for name, part in self._parts().items())
        return f"Interactions({self.name!r}, users={self.users:,}, items={self.items:,}{sizes})"


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


def users_of(matrix: sp.csr_matrix) -> np.ndarray:
    """The row of each entry, int64."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def places(matrix: sp.csr_matrix, *keys: np.ndarray) -> np.ndarray:
    """The place of each entry among those of its user, from 0, by keys of which the last counts
    first; of equal ones the first entry comes first."""
    users = users_of(matrix)
    order = np.lexsort((*keys, users))
    place = np.empty(len(users), np.int64)
    place[order] = np.arange(len(users)) - matrix.indptr[:-1].astype(np.int64)[users]
    return place


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Which pairs are left when users and items with fewer than k partners are taken away, again
    and again until none is left that has fewer: bool, one a pair.

    users, items: codes from 0, of one length; a pair that stands twice is one partner.
    """
    shape = (users.max(initial=0) + 1, items.max(initial=0) + 1)
    kept, before = np.ones(len(users), bool), None
    while kept.sum() != before:
        before, left = kept.sum(), to_csr(users[kept], items[kept], shape)
        of_users, of_items = np.diff(left.indptr), np.bincount(left.indices, minlength=shape[1])
        kept &= (of_users[users] >= k) & (of_items[items] >= k)
    return kept


def popularity_groups(degree: np.ndarray) -> np.ndarray:
    """The group of each row, 0 … GROUPS − 1, such that groups have about equally many interactions,
    the rarest rows in group 0 (as the authors' code groups users and items).

    degree: interactions of each row, int. A row goes where the middle of its interactions falls, so
    one that has more than its group's share leaves a group smaller, or empty.
    """
    order = np.argsort(degree, kind="stable")
    upto = np.cumsum(degree[order])
    middle = upto - degree[order] / 2
    group = np.empty(len(degree), np.int64)
    group[order] = np.minimum(middle * GROUPS // max(upto[-1], 1), GROUPS - 1)
    return group


def card(title: str, rows: Mapping[str, str], remarks: Iterable[str] = ()) -> str:
    """A title, its lines and remarks as HTML, for what JupyterLab shows at the end of a cell."""
    lines = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name.replace('_', ' '))}</th>"
        f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
        for name, text in rows.items()
    )
    listed = "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks)
    return f"<b>{html.escape(title)}</b><table>{lines}</table><ul>{listed}</ul>"

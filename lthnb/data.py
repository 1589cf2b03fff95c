"""Interactions: who interacted with what, split into train, valid and test.

One type crosses module borders: :class:`Interactions`, three CSR matrices of users × items with
sorted indices, and labels. A parser hands over a :class:`Raw`, and :func:`assemble` merges, filters
and splits it. Everything random here (a split, a carved validation set, the order of what happened
at one time) comes from the counter stream of a pair's own ids, so the order of rows in a file never
matters.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numba as nb
import numpy as np
import scipy.sparse as sp

from lthnb.config import (
    PROTOCOLS,
    SELECTION_K,
    Between,
    ConfigError,
    LthnbError,
    _Checked,
    nearest,
    setting,
)
from lthnb.stream import stream_bits

PARTS = ("train", "valid", "test")
VALID_SHARE_OF_TRAIN = 1 / 8  # of a published train part, so that 8:2 becomes 7:1:2 (§4.1)
RAW_SHARES = (0.1, 0.2)  # valid and test of each user's items, where nothing is published (§4.1)
GROUPS = 10  # of rows with about equally many interactions, as in the authors' code
FEW = 100  # users tested, below which a mean says little


class DataError(LthnbError, ValueError):
    """Data that cannot be used: says where, what was found, what was expected, what to do."""


@dataclass(frozen=True)
class Shape:
    """What a record says of its data: enough to look a ladder up without a single pair.

    origin: as in :class:`Interactions`.
    """

    name: str
    digest: str
    users: int
    items: int
    origin: dict[str, Any]

    @classmethod
    def of(cls, summary: dict[str, Any]) -> Shape:
        """From what :meth:`Interactions.summary` gave."""
        return cls(**{f.name: summary[f.name] for f in fields(cls)})

    @property
    def rows(self) -> int:
        """Rows of the table: users, then items."""
        return self.users + self.items


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
    def known(self) -> sp.csr_matrix:
        """What a user has in train or valid, and is therefore not recommended: CSR, sorted."""
        known = (self.train + self.valid).tocsr()
        known.sort_indices()
        return known

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
            none = sp.csr_matrix(self.train.shape, dtype=np.int8)
            origin = dict(self.origin)
            if "split" in origin:
                origin["split"] = {**origin["split"], "valid": "joined into train"}
            return replace(self, train=self.known, valid=none, origin=origin)
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
        rows = np.flatnonzero(self.user_labels == label)
        if not rows.size:
            rows = np.flatnonzero(self.user_labels.astype(str) == str(label))
        if rows.size:
            return int(rows[0])
        number = str(label).isdigit() and self.user_labels.dtype.kind == "U"
        raise DataError(
            f"{self.name}: no user {label!r}, expected a label such as "
            f"{self.user_labels.tolist()[0]!r}."
            + nearest(label, self.user_labels[:10000])
            + " With papermill, -r keeps a text such as 007 as it is." * number
        )

    def statistics(self) -> dict[str, Any]:
        """Counts, density and degrees, as plain data.

        `density` is interactions / (users · items); degrees are of train, `*_degree` holding
        minimum, quartiles and maximum.
        """
        total = sum(getattr(self, part).nnz for part in PARTS)
        user_degree, item_degree = self.user_degree, self.item_degree
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

    def warnings(self) -> list[str]:
        """What one should know before believing a number from these data, a sentence each."""
        user_degree, item_degree = self.user_degree, self.item_degree
        tested = np.diff(self.test.indptr) > 0
        whole = user_degree + np.diff(self.valid.indptr) + np.diff(self.test.indptr)
        counts = self.origin.get("counts", {})
        unseen = int((item_degree[self.test.indices] == 0).sum())
        cold = int((tested & (user_degree == 0)).sum())
        said = [
            (
                self.items <= SELECTION_K,
                f"The catalogue has {self.items} items, so Recall@{SELECTION_K} cannot tell models "
                f"apart; training needs more than {SELECTION_K}.",
            ),
            (
                tested.sum() < FEW,
                f"Users tested: {tested.sum():,}. Below {FEW}, intervals are wide.",
            ),
            (
                (n := int(((whole == 1) & (user_degree == 1)).sum())) > 0,
                f"Users with one interaction: {n:,}. It is kept in train, so they are not tested.",
            ),
            (
                (n := int((~tested).sum())) > 0,
                f"Users without a test item: {n:,} of {self.users:,}. They count in no average.",
            ),
            (
                cold > 0,
                f"Users who are tested and have no training pair: {cold:,}. Nothing can be learnt "
                "about them, and they lower every model's Recall alike.",
            ),
            (
                unseen > 0,
                f"Test pairs whose item is in no training pair: {unseen:,} of {self.test.nnz:,}. "
                "They are kept, as all-ranking has it (§4.1), and can be hit by luck alone.",
            ),
            (
                (n := counts.get("duplicates_merged", 0)) > 0,
                f"Rows that repeat a pair: {n:,}. Each pair counts once.",
            ),
            (
                (n := counts.get("pairs_in_two_parts", 0)) > 0,
                f"Pairs in two parts: {n:,}. Each stays in the first of train, valid, test.",
            ),
            (
                (n := int((user_degree == self.items).sum())) > 0,
                f"Users with every item in train: {n:,}. There is no negative to draw for them, so "
                "no triplet of theirs is trained.",
            ),
        ]
        return [*self.origin.get("notes", []), *(text for holds, text in said if holds)]

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
        said = "".join(f"<li>{html.escape(warning)}</li>" for warning in self.warnings())
        return card(self.name, self.described()) + f"<ul>{said}</ul>"

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


def card(title: str, rows: Mapping[str, str]) -> str:
    """A title and its lines as HTML, for what JupyterLab shows at the end of a cell."""
    lines = "".join(
        f"<tr><th style='text-align:left'>{html.escape(name.replace('_', ' '))}</th>"
        f"<td style='text-align:left'>{html.escape(shown)}</td></tr>"
        for name, shown in rows.items()
    )
    return f"<b>{html.escape(title)}</b><table>{lines}</table>"


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


@dataclass(frozen=True, eq=False)
class Raw:
    """What a parser hands over: pairs as they stand in the source, not yet split or merged.

    parts: name of a published part, or ``"all"`` where the source is not split → (users, items),
    integer codes of one length. user_labels, item_labels: what the codes stand for. counts: what
    was left out and why, and notes: sentences about what was found, both for `origin`. item_info:
    columns of the length of item_labels. times: of the pairs of ``"all"``, float64, or None; dated:
    whether they are seconds since 1970, and not only an order.
    """

    parts: dict[str, tuple[np.ndarray, np.ndarray]]
    user_labels: np.ndarray
    item_labels: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)
    item_info: dict[str, np.ndarray] = field(default_factory=dict)
    times: np.ndarray | None = None
    dated: bool = False
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Split(_Checked):
    """How pairs that are not published in parts become train, valid and test."""

    how: str = setting(
        "random",
        ("random", "last", "time"),
        "random: 7:1:2 of each user's items; last: the last items of each user to test, those "
        "before to valid; time: one moment for all users, so that the parts are about 7:1:2. "
        "The latter two need times",
        source="§4.1 for random",
    )
    leave: int = setting(
        1, Between(1), "how many items of each user `last` leaves to test, and to valid"
    )
    seed: int = setting(0, Between(0, 2**63 - 1), "chooses the pairs, and the order of equal times")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.leave != 1 and self.how != "last":
            raise ConfigError(
                f"Split.leave: found {self.leave} with split {self.how!r}, expected split 'last': "
                "no other leaves items by number."
            )


def assemble(
    name: str, raw: Raw, split: Split, origin: dict[str, Any], where: str = ""
) -> Interactions:
    """Merge duplicates, split what is not published, and count everything that was changed.

    where: what to call the source in a message (default: its name). A pair that stands twice
    happened when it happened first. Raises DataError where a part that must be is left empty, or
    the split needs times that are not there.
    """
    where = where or name
    shape = (len(raw.user_labels), len(raw.item_labels))
    for size, what in zip(shape, ("user", "item"), strict=True):
        if size < 2:
            raise DataError(
                f"{where}: found {size} {what}, expected at least 2: with one there is no taste to "
                "tell from another; look for a wrong column or too strict a filter."
            )
    for side, what in ((0, "user"), (1, "item")):
        ids = np.concatenate([pairs[side] for pairs in raw.parts.values()])
        if np.bincount(ids).max() == 1:
            raise DataError(
                f"{where}: each {what} occurs once, expected some that occur again: nothing can be "
                f"learnt about one {what} from others. Is the column of the {what}s a row number?"
            )
    matrices, counts = {}, dict(raw.counts)
    counts["duplicates_merged"] = 0
    for part, (users, items) in raw.parts.items():
        matrices[part] = to_csr(users, items, shape)
        counts["duplicates_merged"] += len(users) - matrices[part].nnz
    empty = to_csr(np.empty(0, np.int64), np.empty(0, np.int64), shape)
    if "all" in matrices:
        times = None if split.how == "random" else _times(where, raw, matrices["all"], split)
        train, valid, test = {
            "random": lambda m: pick_per_user(m, split.seed, *RAW_SHARES),
            "last": lambda m: last_per_user(m, times, split.leave, split.seed),
            "time": lambda m: by_time(where, m, times),
        }[split.how](matrices["all"])
        described: dict[str, Any] = {
            "random": {"how": "7:1:2 of each user's items", "seed": split.seed},
            "last": {"how": "each user's last items", "leave": split.leave, "seed": split.seed},
            "time": {"how": "7:1:2 by time"},
        }[split.how] | {"way": split.how}
        if split.how == "time":
            cuts = zip(("valid_from", "test_from"), time_cuts(times), strict=True)
            described |= {name: moment(cut, raw.dated) for name, cut in cuts}
    else:
        if split.how != "random":
            raise DataError(
                f"{where}: found split={split.how!r} for parts that are given, expected none: a "
                "published split is taken as it is. Leave `split` out."
            )
        # A pair in two published parts stays in the first: train items are never ranked, so a copy
        # in valid or test could not be hit. None of the registered sets has such a pair.
        train = matrices["train"]
        valid = _without(matrices.get("valid", empty), train)
        test = _without(_without(matrices["test"], train), valid)
        counts["pairs_in_two_parts"] = (
            sum(m.nnz for m in matrices.values()) - train.nnz - valid.nnz - test.nnz
        )
        described = {"how": "published", "way": "published"}
        if "valid" not in matrices:
            train, valid = pick_per_user(train, split.seed, VALID_SHARE_OF_TRAIN)
            described = {
                "how": "published; valid is 1/8 of each user's train",
                "way": "published",
                "seed": split.seed,
            }
    if test.nnz == 0 and "all" not in matrices:
        raise DataError(
            f"{where}: no pair is left for test, so nothing could be judged: each of its "
            f"{matrices['test'].nnz:,} pairs stands in train or valid, too. Take them out there."
        )
    if test.nnz == 0:
        raise DataError(
            f"{where}: no pair is left for test, so nothing could be judged. Split at random, a "
            "user needs three items to have one in test; bring such users, or give the parts."
        )
    if raw.times is not None:
        described["times"] = [moment(t, raw.dated) for t in (raw.times.min(), raw.times.max())]
    return Interactions(
        name=name,
        train=train,
        valid=valid,
        test=test,
        user_labels=raw.user_labels,
        item_labels=raw.item_labels,
        item_info=raw.item_info,
        origin={
            **origin,
            "split": described,
            "counts": {k: int(v) for k, v in counts.items()},
            **({"notes": raw.notes} if raw.notes else {}),
        },
    )


def moment(time: float, dated: bool) -> str:
    """A time for people: a date where it is seconds since 1970."""
    if not dated or not abs(time) < 1e11:
        return f"{time:.15g}"
    return str(np.datetime64(round(time * 1e6), "us").astype("datetime64[s]"))


def _times(where: str, raw: Raw, matrix: sp.csr_matrix, split: Split) -> np.ndarray:
    """When each pair happened first, in the order of the matrix's entries."""
    if raw.times is None:
        raise DataError(
            f"{where}: found split={split.how!r} and no times, expected a time for each pair; name "
            "the column with time=…, or split at random."
        )
    users, items = raw.parts["all"]
    key = users.astype(np.int64) * matrix.shape[1] + items
    order = np.argsort(key)
    key = key[order]
    return np.minimum.reduceat(raw.times[order], np.flatnonzero(np.diff(key, prepend=-1)))


def _without(matrix, other):
    """The pairs of `matrix` that `other` lacks, as CSR."""
    common = matrix.multiply(other)
    if common.nnz == 0:
        return matrix
    left = (matrix - common).tocoo()
    kept = left.data != 0
    return to_csr(left.row[kept], left.col[kept], matrix.shape)


def _in_parts(matrix: sp.csr_matrix, part: np.ndarray, parts: int) -> list[sp.csr_matrix]:
    """The entries of a matrix in several, by a number for each."""
    users = _users_of(matrix)
    return [to_csr(users[part == k], matrix.indices[part == k], matrix.shape) for k in range(parts)]


def _users_of(matrix: sp.csr_matrix) -> np.ndarray:
    """The row of each entry, int64."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def _places(matrix: sp.csr_matrix, seed: int, times: np.ndarray | None = None) -> np.ndarray:
    """The place of each entry among those of its user, from 0: by time where there is one, else by
    the hash of (seed, user, item), which does not depend on the order of the file."""
    users = _users_of(matrix)
    pair = users.astype(np.int64) * matrix.shape[1] + matrix.indices
    order = np.argsort(stream_bits(seed, "split", pair))
    if times is not None:
        order = order[np.argsort(times[order], kind="stable")]
    # Into a matrix of users × places in the order: a counting sort, faster than one by comparison.
    shape = (matrix.shape[0], len(order))
    order = sp.coo_matrix((order, (users[order], np.arange(len(order)))), shape=shape).tocsr().data
    place = np.empty(len(users), np.int64)
    place[order] = np.arange(len(users)) - matrix.indptr[:-1].astype(np.int64)[users]
    return place


def pick_per_user(matrix: sp.csr_matrix, seed: int, *shares: float) -> list[sp.csr_matrix]:
    """Split each user's items at random into ``len(shares) + 1`` parts: the rest, then the shares.

    Of a user with n items, share s gets ⌊n·s + ½⌋ of them; where that would leave the rest empty,
    the user's items stay in the rest, so that a user with one interaction is kept for training.
    """
    users, place, count = _users_of(matrix), _places(matrix, seed), np.diff(matrix.indptr)
    sizes = [np.floor(count * share + 0.5).astype(np.int64) for share in shares]
    too_few = count - sum(sizes) < 1
    part = np.zeros(len(users), np.int64)
    start = np.zeros_like(count)
    for number, size in enumerate(sizes, start=1):
        size = np.where(too_few, 0, size)
        part[(place >= start[users]) & (place < (start + size)[users])] = number
        start = start + size
    return _in_parts(matrix, part, len(shares) + 1)


def last_per_user(
    matrix: sp.csr_matrix, times: np.ndarray, leave: int, seed: int = 0
) -> list[sp.csr_matrix]:
    """Each user's last `leave` items as test, the `leave` before as valid, the rest as train.

    times: float64, one an entry of the matrix, in its order. Equal times are put in order by a hash
    of (seed, user, item). A user with 2 · `leave` items or fewer is kept for training alone.
    """
    users, count = _users_of(matrix), np.diff(matrix.indptr)
    from_end = count[users] - 1 - _places(matrix, seed, times)
    part = np.where(from_end < leave, 2, np.where(from_end < 2 * leave, 1, 0))
    part[(count <= 2 * leave)[users]] = 0
    return _in_parts(matrix, part, 3)


def time_cuts(times: np.ndarray) -> tuple[float, float]:
    """The moments from which pairs go to valid and to test, so that the parts are about 7:1:2."""
    valid, test = RAW_SHARES
    n = len(times)
    places = [min(round(n * share), n - 1) for share in (1 - valid - test, 1 - test)]
    first, second = np.partition(times, places)[places]
    return float(first), float(second)


def by_time(where: str, matrix: sp.csr_matrix, times: np.ndarray) -> list[sp.csr_matrix]:
    """What happened before one moment as train, before another as valid, the rest as test: about
    7:1:2 of all pairs; what happened at one time stays together.

    times: float64, one an entry of the matrix, in its order. Raises DataError where so much
    happened at one time that a part would be empty.
    """
    n = len(times)
    valid_from, test_from = time_cuts(times)
    part = (times >= valid_from).astype(np.int64) + (times >= test_from)
    sizes = np.bincount(part, minlength=3)
    if not sizes.all():
        raise DataError(
            f"{where}: split by time, the parts have {', '.join(map(str, sizes))} pairs, expected "
            f"some in each; too many of the {n:,} pairs share one moment. Split at random, or "
            "bring finer times."
        )
    return _in_parts(matrix, part, 3)


def k_core(users: np.ndarray, items: np.ndarray, k: int) -> np.ndarray:
    """Which pairs are left when users and items with fewer than k partners are taken away, again
    and again until none is left that has fewer: bool, one a pair.

    users, items: codes from 0, of one length; a pair that stands twice is one partner.
    """
    if len(users) == 0:
        return np.zeros(0, bool)
    rows = to_csr(users, items, (int(users.max()) + 1, int(items.max()) + 1))
    columns = rows.tocsc()
    users_left, items_left = _peel(rows.indptr, rows.indices, columns.indptr, columns.indices, k)
    return users_left[users] & items_left[items]


def largest_core(users: np.ndarray, items: np.ndarray) -> int:
    """The largest k whose :func:`k_core` is not empty; 0 without pairs."""
    low, high = 0, len(users) + 1
    while high - low > 1:
        middle = (low + high) // 2
        if k_core(users, items, middle).any():
            low = middle
        else:
            high = middle
    return low


@nb.njit(cache=True)
def _peel(user_start, items_of, item_start, users_of, k):
    """Which users and which items have k partners among those that are left."""
    users, items = user_start.size - 1, item_start.size - 1
    partners = np.empty(users + items, np.int64)
    partners[:users] = user_start[1:] - user_start[:-1]
    partners[users:] = item_start[1:] - item_start[:-1]
    left = partners >= k
    gone = np.empty(users + items, np.int64)  # a stack of those whose partners were not told yet
    top = 0
    for node in range(users + items):
        if not left[node]:
            gone[top] = node
            top += 1
    while top:
        top -= 1
        node = gone[top]
        if node < users:
            begin, end, other, shift = user_start[node], user_start[node + 1], items_of, users
        else:
            row = node - users
            begin, end, other, shift = item_start[row], item_start[row + 1], users_of, 0
        for entry in range(begin, end):
            partner = other[entry] + shift
            if left[partner]:
                partners[partner] -= 1
                if partners[partner] < k:
                    left[partner] = False
                    gone[top] = partner
                    top += 1
    return left[:users], left[users:]


def popularity_groups(degree: np.ndarray, count: int = GROUPS) -> np.ndarray:
    """The group of each row, 0 … count − 1, such that groups have about equally many interactions,
    the rarest rows in group 0 (as the authors' code groups users and items).

    degree: interactions of each row, int. A row goes where the middle of its interactions falls, so
    one that has more than its group's share leaves a group smaller, or empty.
    """
    order = np.argsort(degree, kind="stable")
    upto = np.cumsum(degree[order])
    middle = upto - degree[order] / 2
    group = np.empty(len(degree), np.int64)
    group[order] = np.minimum(middle * count // max(upto[-1], 1), count - 1)
    return group

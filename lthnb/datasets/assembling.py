"""From pairs as a source has them to :class:`Interactions`: merged, split, counted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from lthnb.data import DataError, Interactions, places, to_csr, users_of
from lthnb.datasets.options import Options
from lthnb.rng import stream_bits

Pairs = tuple[np.ndarray, np.ndarray]
VALID_SHARE_OF_TRAIN = 1 / 8  # of a published train part, so that 8:2 becomes 7:1:2 (§4.1)
RAW_SHARES = (0.1, 0.2)  # valid and test of each user's items, where nothing is published (§4.1)


@dataclass(frozen=True, eq=False)
class Raw:
    """Pairs as they stand in a source, not yet split or merged.

    parts: name of a published part, or ``"all"`` where the source is not split → (users, items),
    integer codes of one length. user_labels, item_labels: what the codes stand for. counts: rows
    that were read and left out, and notes: sentences about what was found, both for `origin`.
    item_info: columns of the length of item_labels. times: of the pairs of ``"all"``, float64, in
    seconds since 1970 or in what says only what came first; or None.
    """

    parts: dict[str, Pairs]
    user_labels: np.ndarray
    item_labels: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)
    item_info: dict[str, np.ndarray] = field(default_factory=dict)
    times: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)


class Split(Options, title="split"):
    """How pairs that are not published in parts become train, valid and test."""

    how: Literal["random", "pooled", "last", "time"] = Field(
        "random",
        description="random: 7:1:2 of each user's items (§4.1), and parts that are given stay; "
        "pooled: the same, of all parts put together; last: the last item of each user to test, "
        "the one before to valid; time: one moment for all users, so that the parts are about "
        "7:1:2. The latter two need times",
    )
    seed: int = Field(
        0, ge=0, lt=2**63, description="chooses the pairs, and the order of equal times"
    )


def assemble(name: str, raw: Raw, split: Split, origin: dict[str, Any], where: str) -> Interactions:
    """Merge duplicates, split what is not published, and count everything that was changed.

    where: what to call the source in a message. A pair that stands twice happened when it happened
    first. Raises DataError where a part that must be is left empty, or the split needs times that
    are not there.
    """
    if split.how == "pooled":
        users, items = zip(*raw.parts.values(), strict=True)
        raw = replace(raw, parts={"all": (np.concatenate(users), np.concatenate(items))})
    shape = (len(raw.user_labels), len(raw.item_labels))
    for side, what in enumerate(("user", "item")):
        rows = np.bincount(np.concatenate([pairs[side] for pairs in raw.parts.values()]))
        if shape[side] < 2 or rows.max() == 1:
            raise DataError(
                f"{where}: found {shape[side]:,} {what}s, in {rows.max():,} rows at most, expected "
                "at least 2 of either: one alone teaches nothing about others. Is it a wrong "
                "column, such as a row number, or too strict a filter?"
            )
    matrices = {part: to_csr(*pairs, shape) for part, pairs in raw.parts.items()}
    given = sum(len(users) for users, _ in raw.parts.values())
    counts = {**raw.counts, "duplicates_merged": given - sum(m.nnz for m in matrices.values())}
    notes = list(raw.notes)
    if "all" in matrices:
        parts, described = _split(where, raw, matrices["all"], split, notes)
    else:
        parts, described = _published(where, matrices, split)
        left = sum(m.nnz for m in parts)
        counts["pairs_in_two_parts"] = sum(m.nnz for m in matrices.values()) - left
    if parts[2].nnz == 0:
        raise DataError(
            f"{where}: no pair is left for test. Split at random, a user needs three items to have "
            "one in test; a part that is given loses the pairs that stand in train or valid, too."
        )
    origin = {**origin, "split": described, "counts": {k: int(v) for k, v in counts.items()}}
    if notes:
        origin["notes"] = notes
    return Interactions(name, *parts, raw.user_labels, raw.item_labels, raw.item_info, origin)


def _split(
    where: str, raw: Raw, matrix: sp.csr_matrix, split: Split, notes: list[str]
) -> tuple[list[sp.csr_matrix], dict[str, Any]]:
    """Train, valid and test of what is not published in parts, and how they were made."""
    if split.how in ("random", "pooled"):
        parts = pick_per_user(matrix, split.seed, *RAW_SHARES)
        described: dict[str, Any] = {"how": "7:1:2 of each user's items", "seed": split.seed}
    elif raw.times is None:
        raise DataError(
            f"{where}: found split={split.how!r} and no times, expected a time for each pair; name "
            "the column with time=…, or split at random."
        )
    elif split.how == "last":
        times = _first_times(raw, matrix)
        parts, tied = last_per_user(matrix, times, split.seed)
        described = {"how": "each user's last items", "leave": 1, "seed": split.seed}
        if tied:
            notes.append(
                f"Users whose last items share their time with one before: {tied:,} of "
                f"{matrix.shape[0]:,}. Which of them go to test is chosen at random."
            )
    else:
        parts = by_time(where, matrix, _first_times(raw, matrix))
        described = {"how": "7:1:2 by time"}
    return parts, {**described, "way": split.how}


def _published(
    where: str, matrices: dict[str, sp.csr_matrix], split: Split
) -> tuple[list[sp.csr_matrix], dict[str, Any]]:
    """Train, valid and test of parts that are given, and how they were made. A pair in two of them
    stays in the first: train items are never ranked, so a copy could not be hit."""
    if split.how != "random":
        raise DataError(
            f"{where}: found split={split.how!r} for parts that are given, expected none."
        )
    train, test = matrices["train"], (matrices["test"] > matrices["train"]).astype(np.int8)
    described: dict[str, Any] = {"how": "published", "way": "published"}
    if "valid" in matrices:
        valid = (matrices["valid"] > train).astype(np.int8)
        test = (test > valid).astype(np.int8)
    else:
        train, valid = pick_per_user(train, split.seed, VALID_SHARE_OF_TRAIN)
        described["how"] = "published; valid is 1/8 of each user's train"
        described["seed"] = split.seed
    return [train, valid, test], described


def _first_times(raw: Raw, matrix: sp.csr_matrix) -> np.ndarray:
    """When each pair happened first, in the order of the matrix's entries."""
    users, items = raw.parts["all"]
    key = users.astype(np.int64) * matrix.shape[1] + items
    order = np.argsort(key)
    return np.minimum.reduceat(raw.times[order], np.flatnonzero(np.diff(key[order], prepend=-1)))


def _in_parts(matrix: sp.csr_matrix, part: np.ndarray, parts: int) -> list[sp.csr_matrix]:
    """The entries of a matrix in several, by a number for each."""
    users = users_of(matrix)
    return [to_csr(users[part == k], matrix.indices[part == k], matrix.shape) for k in range(parts)]


def _chance(matrix: sp.csr_matrix, seed: int) -> np.ndarray:
    """Random bits of each entry: the hash of (seed, user, item)."""
    pair = users_of(matrix).astype(np.int64) * matrix.shape[1] + matrix.indices
    return stream_bits(seed, "split", pair)


def pick_per_user(matrix: sp.csr_matrix, seed: int, *shares: float) -> list[sp.csr_matrix]:
    """Split each user's items at random into ``len(shares) + 1`` parts: the rest, then the shares.

    Of a user with n items, share s gets ⌊n·s + ½⌋ of them; where that would leave the rest empty,
    the user's items stay in the rest, so that a user with one interaction is kept for training.
    """
    users, count = users_of(matrix), np.diff(matrix.indptr)
    place = places(matrix, _chance(matrix, seed))
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
    matrix: sp.csr_matrix, times: np.ndarray, seed: int = 0
) -> tuple[list[sp.csr_matrix], int]:
    """Each user's last item as test, the one before as valid, the rest as train; and of how many
    users the test item happened at the same time as one before.

    times: float64, one an entry of the matrix, in its order. Equal times are put in order by a hash
    of (seed, user, item). A user with two items or fewer is kept for training alone.
    """
    users, count = users_of(matrix), np.diff(matrix.indptr)
    from_end = count[users] - 1 - places(matrix, _chance(matrix, seed), times)
    part = np.maximum(2 - from_end, 0)
    part[(count <= 2)[users]] = 0
    tied = times[part == 2] == times[part == 1]  # one of either for each user that is split
    return _in_parts(matrix, part, 3), int(tied.sum())


def by_time(where: str, matrix: sp.csr_matrix, times: np.ndarray) -> list[sp.csr_matrix]:
    """What happened before one moment as train, before another as valid, the rest as test: about
    7:1:2 of all pairs; what happened at one time stays together.

    times: float64, one an entry of the matrix, in its order. Raises DataError where so much
    happened at one time that a part would be empty.
    """
    n, (valid, test) = len(times), RAW_SHARES
    places = [min(round(n * share), n - 1) for share in (1 - valid - test, 1 - test)]
    valid_from, test_from = np.partition(times, places)[places]
    part = (times >= valid_from).astype(np.int64) + (times >= test_from)
    sizes = np.bincount(part, minlength=3)
    if not sizes.all():
        raise DataError(
            f"{where}: split by time, the parts have {', '.join(map(str, sizes))} pairs, expected "
            "some in each; too many share one moment. Split at random, or bring finer times."
        )
    return _in_parts(matrix, part, 3)

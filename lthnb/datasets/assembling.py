"""From pairs as a source has them to :class:`Interactions`: merged, split, counted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from pydantic import Field

from lthnb.data import (
    RAW_SHARES,
    VALID_SHARE_OF_TRAIN,
    DataError,
    Interactions,
    by_time,
    last_per_user,
    pick_per_user,
    to_csr,
)
from lthnb.datasets.options import Options

Pairs = tuple[np.ndarray, np.ndarray]


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

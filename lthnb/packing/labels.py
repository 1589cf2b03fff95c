"""Labels of users and items as tensors: numbers as they are, texts as one block of UTF-8."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from lthnb.packing.errors import PackingError

NUMBERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
NUMBERS += ("float32", "float64")


def tensors_of(side: str, labels: Any) -> dict[str, np.ndarray]:
    """Of numbers `SIDE.labels` (rows,), whole ones in as few bytes as hold them, and (0,) where
    they are 0 … rows − 1; of texts `SIDE.label_text`, UTF-8, and `SIDE.label_ends` (rows,), uint64,
    where each of them ends. Raises PackingError for labels that are neither."""
    labels = np.asarray(labels)
    if labels.dtype.name in NUMBERS:
        if labels.dtype.kind in "iu" and labels.size:
            if np.array_equal(labels, np.arange(labels.size)):
                labels = np.zeros(0, np.uint8)
            else:
                ends = (np.min_scalar_type(n) for n in (labels.min(), labels.max()))
                narrow = np.result_type(*ends)
                # Of a negative number and one beyond 32 bits, numpy would make a float.
                labels = labels.astype(narrow) if narrow.kind in "iu" else labels
        return {f"{side}.labels": np.ascontiguousarray(labels, labels.dtype.newbyteorder("="))}
    texts = labels.tolist()
    wrong = [text for text in texts if not isinstance(text, str)]
    if wrong:
        raise PackingError(
            f"labels of {side}: found {wrong[0]!r} ({type(wrong[0]).__name__}), expected numbers "
            "or texts; turn them into texts, or pack without labels."
        )
    # A lone surrogate is no UTF-8, and may stand in a name that some file system made.
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.uint64)
    text = np.frombuffer(b"".join(encoded), np.uint8)
    return {f"{side}.label_text": text, f"{side}.label_ends": ends}


def labels_of(side: str, tensors: dict[str, np.ndarray], rows: int) -> np.ndarray | None:
    """What :func:`tensors_of` packed, None without. Whole numbers are int64 (uint64 where that is
    needed), texts have numpy's dtype of fixed width."""
    if f"{side}.labels" in tensors:
        labels = tensors[f"{side}.labels"]
        if labels.dtype.kind == "f":
            return labels
        if not labels.size:
            return np.arange(rows)
        return labels if labels.max() > np.iinfo(np.int64).max else labels.astype(np.int64)
    if f"{side}.label_ends" not in tensors:
        return None
    text = tensors[f"{side}.label_text"].tobytes()
    ends = [0, *tensors[f"{side}.label_ends"].tolist()]
    try:
        found = [
            text[begin:end].decode("utf-8", "surrogatepass")
            for begin, end in itertools.pairwise(ends)
        ]
    except UnicodeDecodeError as error:
        raise PackingError(f"labels of {side}: found no UTF-8; the file is altered.") from error
    return np.array(found, dtype=str)


def check(side: str, tensors: dict[str, np.ndarray], rows: int, where: str) -> None:
    """Refuse label tensors that are not those of so many rows."""
    names = {name.partition(".")[2] for name in tensors if name.startswith(f"{side}.")}
    fits = not names
    if names == {"labels"}:
        labels = tensors[f"{side}.labels"]
        counted = labels.shape == (0,) and labels.dtype == np.uint8
        fits = (labels.shape == (rows,) and labels.dtype.name in NUMBERS) or counted
    elif names == {"label_text", "label_ends"}:
        text, ends = tensors[f"{side}.label_text"], tensors[f"{side}.label_ends"]
        fits = (
            (text.ndim, text.dtype, ends.shape, ends.dtype) == (1, np.uint8, (rows,), np.uint64)
            and bool((ends[1:] >= ends[:-1]).all())
            and (ends[-1] if rows else 0) == len(text)
        )
    if not fits:
        raise PackingError(
            f"{where}: found labels of {side} that are not those of {rows} rows; it is altered."
        )

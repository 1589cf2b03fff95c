"""How kept values are written: as they are, in 16 bits, or in 8 with a scale for each row.

`VALUES` is a dict: a kind is its bits, its dtype in memory and in the file, and two functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numba as nb
import numpy as np

from lthnb.packing.errors import PackingError

# A row's int8 scale is 2^(code / STEPS), rounded up, so that the row's largest value is written
# with at least 127 / 2^(1/8) = 116 of 127 steps; a scale as a float16 would cost 16 bits a row,
# and this costs about 3.
STEPS = 8
LEVELS = 127
CODES = (-160 * STEPS, 128 * STEPS)  # float32's smallest over 127, and its largest


@dataclass(frozen=True)
class Kind:
    """A way to write values.

    bits: of one. dtype: of the array; `in_file`: what safetensors calls it. encode: (float32
    (kept,), offsets (rows + 1,)) → (the array, codes of the rows' scales or None). decode: (the
    array, offsets, codes of the rows' scales or None) → float32 (kept,).
    """

    bits: int
    dtype: type
    in_file: str
    encode: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray | None]]
    decode: Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]
    scaled: bool = False


def _float16(values: np.ndarray, offsets: np.ndarray):
    with np.errstate(over="ignore", under="ignore"):
        out = values.astype(np.float16)
    _refuse(values, np.isinf(out), "float16", 65504)
    return out, None


def _bfloat16(values: np.ndarray, offsets: np.ndarray):
    """The upper half of a float32, rounded to nearest, ties to even."""
    bits = values.view(np.uint32)
    out = ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype(np.uint16)
    _refuse(values, out & 0x7FFF == 0x7F80, "bfloat16", 3.3895e38)
    return out, None


def _refuse(values: np.ndarray, lost: np.ndarray, name: str, largest: float) -> None:
    if lost.any():
        raise PackingError(
            f"values: found {values[lost][0]:g}, expected at most {largest:g}, the largest of "
            f"{name}; pack with values='float32', or scale the table down."
        )


def _int8(values: np.ndarray, offsets: np.ndarray):
    out = np.empty(len(values), np.int8)
    largest = np.empty(len(offsets) - 1, np.float32)
    _largest(values, offsets, largest)
    some = largest > 0
    exact = np.log2(largest[some].astype(np.float64) / LEVELS) * STEPS
    # A row of zeros may have any scale, and one that others have costs least.
    codes = np.full(len(largest), np.ceil(exact.min()) if some.any() else 0, np.int64)
    codes[some] = np.ceil(exact)
    _to_levels(values, offsets, scales_of(codes), out)
    return out, codes


def scales_of(codes: np.ndarray) -> np.ndarray:
    """float64: what one step of an int8 value is worth, for each row's code."""
    return np.exp2(codes / STEPS)


def _from_int8(levels: np.ndarray, offsets: np.ndarray, codes: np.ndarray) -> np.ndarray:
    out = np.empty(len(levels), np.float32)
    _to_values(levels, offsets, scales_of(codes), out)
    return out


@nb.njit(cache=True, nogil=True)
def _largest(values, offsets, out):
    """The largest magnitude of each row, 0 of an empty one."""
    for row in range(out.size):
        top = np.float32(0)
        for at in range(offsets[row], offsets[row + 1]):
            top = max(top, abs(values[at]))
        out[row] = top


@nb.njit(cache=True, nogil=True)
def _to_levels(values, offsets, scales, out):
    most = np.float64(np.finfo(np.float32).max)
    for row in range(scales.size):
        for at in range(offsets[row], offsets[row + 1]):
            level = min(max(np.rint(values[at] / scales[row]), -LEVELS), LEVELS)
            if abs(level * scales[row]) > most:  # it would be infinite when it is read
                level -= np.sign(level)
            out[at] = np.int8(level)


@nb.njit(cache=True, nogil=True)
def _to_values(levels, offsets, scales, out):
    for row in range(scales.size):
        for at in range(offsets[row], offsets[row + 1]):
            out[at] = np.float32(levels[at] * scales[row])


VALUES: dict[str, Kind] = {
    "float32": Kind(
        32, np.float32, "F32", lambda values, offsets: (values, None), lambda raw, *_: raw
    ),
    "float16": Kind(16, np.float16, "F16", _float16, lambda raw, *_: raw.astype(np.float32)),
    "bfloat16": Kind(
        16,
        np.uint16,
        "BF16",
        _bfloat16,
        lambda raw, *_: (raw.astype(np.uint32) << 16).view(np.float32),
    ),
    "int8": Kind(8, np.int8, "I8", _int8, _from_int8, scaled=True),
}

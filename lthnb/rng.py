"""The counter stream: random bits as a pure function of (seed, purpose, counter).

SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"): output n
is a mixing of ``start + (n + 1) · GOLDEN``, so any element can be had without those before it. A
position in a training is thus one integer, and every backend draws the same numbers. The purpose
("init", "order", "split" …) keeps the streams of one seed apart.

The arithmetic is that of 64-bit integers which wrap around. numba compiles it, and numpy runs the
same lines over whole arrays; a test holds the two equal, integer for integer.
"""

from __future__ import annotations

import hashlib

import numba as nb
import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
MIX_1 = 0xBF58476D1CE4E5B9
MIX_2 = 0x94D049BB133111EB


def stream_start(seed: int, purpose: str) -> int:
    """The 64-bit state from which the stream of a seed and a purpose counts."""
    digest = hashlib.sha256(f"lthnb stream {purpose} {int(seed)}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


@nb.njit(inline="always")
def mix(z):
    """SplitMix64's finaliser on one uint64."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(MIX_1)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(MIX_2)
    return z ^ (z >> np.uint64(31))


@nb.njit(inline="always")
def bits_at(start, counter):
    """Element `counter` of the stream that counts from `start`; both uint64."""
    return mix(start + (counter + np.uint64(1)) * np.uint64(GOLDEN))


@nb.njit(inline="always")
def below(bits, n):
    """⌊bits · n / 2⁶⁴⌋: 64 random bits to an integer below n < 2³¹, in 64-bit arithmetic."""
    n = np.uint64(n)
    high = bits >> np.uint64(32)
    low = bits & np.uint64(0xFFFFFFFF)
    return np.int64((high * n + ((low * n) >> np.uint64(32))) >> np.uint64(32))


def stream_bits(seed: int, purpose: str, counters: np.ndarray) -> np.ndarray:
    """Elements of a stream, uint64, of the shape of `counters` (non-negative integers)."""
    start, counters = np.uint64(stream_start(seed, purpose)), np.asarray(counters, np.uint64)
    with np.errstate(over="ignore"):
        return mix.py_func(start + (counters + np.uint64(1)) * np.uint64(GOLDEN))


def stream_uniform(seed: int, purpose: str, counters: np.ndarray) -> np.ndarray:
    """float64 in [0, 1) from the upper 53 bits, of the shape of `counters`."""
    return (stream_bits(seed, purpose, counters) >> np.uint64(11)).astype(np.float64) * 2.0**-53

"""The counter stream: the same integers everywhere, and evenly spread."""

import numba as nb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lthnb.rng import (
    below,
    bits_at,
    stream_bits,
    stream_start,
    stream_uniform,
)

uint64 = st.integers(0, 2**64 - 1)
N = 4096


@nb.njit
def numba_bits(start, counters):
    out = np.empty(len(counters), np.uint64)
    for k in range(len(counters)):
        out[k] = bits_at(start, np.uint64(counters[k]))
    return out


@nb.njit
def numba_below(bits, n):
    out = np.empty(len(bits), np.int64)
    for k in range(len(bits)):
        out[k] = below(bits[k], n)
    return out


def splitmix(start: int, counter: int) -> int:
    """SplitMix64 as published, with Python's unbounded integers."""
    wrap = 2**64 - 1
    z = (start + (counter + 1) * 0x9E3779B97F4A7C15) & wrap
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & wrap
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & wrap
    return z ^ (z >> 31)


def test_published_values():
    """The first outputs of SplitMix64 from state 1234567, as other implementations list them."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [splitmix(1234567, k) for k in range(3)] == expected
    assert numba_bits(np.uint64(1234567), np.arange(3)).tolist() == expected


@pytest.mark.parametrize("seed", [0, 1, 2**62 + 3])
@pytest.mark.parametrize("purpose", ["init", "order", "split"])
def test_numpy_and_numba_give_the_same_integers(seed, purpose):
    start = stream_start(seed, purpose)
    counters = np.concatenate((np.arange(1000), 2**40 + np.arange(1000), [2**62, 2**63 - 1]))
    expected = np.array([splitmix(start, int(c)) for c in counters], np.uint64)
    np.testing.assert_array_equal(stream_bits(seed, purpose, counters), expected)
    np.testing.assert_array_equal(numba_bits(np.uint64(start), counters), expected)


@settings(deadline=None)  # the first call compiles
@given(bits=uint64, n=st.integers(1, 2**31 - 1))
def test_below_is_exact(bits, n):
    assert numba_below(np.array([bits], np.uint64), n)[0] == bits * n >> 64


@pytest.mark.parametrize("n", [1, 2, 3, 31_668, 2**31 - 1])
def test_below_at_the_ends(n):
    ends = np.array([0, 2**64 - 1], np.uint64)
    assert numba_below(ends, n).tolist() == [0, n - 1]


def test_pinned():
    """These numbers are in every X⁰, order and split: if they change, no recorded run can be
    replayed. Raise the numbers in config.NUMERICS with them."""
    assert stream_start(0, "init") == 15022785021584237515
    assert stream_bits(0, "init", np.arange(3)).tolist() == [
        1293854828733550148,
        6908746473198671856,
        5021546327230146685,
    ]
    assert stream_bits(7, "order", np.array([10**12])).tolist() == [9120000662079384704]
    assert stream_uniform(0, "split", np.array([5])).tolist() == [0.3160511485592483]


def test_purposes_and_seeds_differ():
    streams = [
        stream_bits(seed, purpose, np.arange(N)) for seed in (0, 1) for purpose in ("init", "order")
    ]
    assert len(np.unique(np.concatenate(streams))) == 4 * N
    for a in range(4):
        for b in range(a):
            # Bits of two streams agree half the time; 7 standard deviations of N · 64 coins.
            agree = np.bitwise_count(~(streams[a] ^ streams[b])).mean() / 64
            assert abs(agree - 0.5) < 7 * 0.5 / np.sqrt(N * 64)


@pytest.mark.parametrize("stride", [1, 2**20, 2**40])
def test_uniform_in_every_cell(stride):
    """Chi-square over 64 cells, for neighbours and for the strides that callers use."""
    u = stream_uniform(11, "order", np.arange(2**14) * stride)
    assert u.min() >= 0
    assert u.max() < 1
    cells = np.bincount((u * 64).astype(int), minlength=64)
    assert stats.chisquare(cells).pvalue > 1e-4

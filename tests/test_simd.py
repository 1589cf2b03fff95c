"""Vectors in numba code: each operation against numpy, in both types and widths."""

import numba as nb
import numpy as np
import pytest

from lthnb.kernels.simd import fma, keep, load, prefetch, reaching, root, splat, store, total


@nb.njit
def arithmetic(a, b, out):
    x, y = load(a, 1, 8), load(b, 0, 8)
    prefetch(a, 0)
    store(out, 0, x + y)
    store(out, 8, x - y)
    store(out, 16, x * y)
    store(out, 24, x / y)
    store(out, 32, root(y))
    store(out, 40, splat(a, 3.0, 8))
    store(out, 48, keep(0b10100001, x))
    return total(x), reaching(x, y), reaching(x, x)


@nb.njit
def wide(a, b, c, out):
    store(out, 0, fma(load(a, 0, 16), load(b, 0, 16), load(c, 0, 16)))
    return total(load(a, 0, 16))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_operation_is_numpys(dtype):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=9).astype(dtype), rng.uniform(0.1, 2, 8).astype(dtype)
    out = np.zeros(56, dtype)
    summed, bits, all_bits = arithmetic(a, b, out)
    x = a[1:]
    kept = np.where([1, 0, 0, 0, 0, 1, 0, 1], x, 0)
    expected = [x + b, x - b, x * b, x / b, np.sqrt(b), np.full(8, 3, dtype), kept]
    assert np.array_equal(out, np.concatenate(expected))
    assert summed == pytest.approx(x.sum(), rel=1e-5)
    assert [bool(bits >> lane & 1) for lane in range(8)] == list(x >= b)
    assert all_bits == 255


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_product_and_a_sum_are_rounded_once(dtype):
    one, tiny = dtype(1), np.finfo(dtype).eps
    a = np.full(16, one + tiny)
    out = np.zeros(16, dtype)
    # (1 + ε)² − 1 − 2ε is ε²; rounded twice it is 0.
    wide(a, a, np.full(16, -(one + 2 * tiny)), out)
    assert (out == tiny**2).all()
    assert wide(np.arange(16, dtype=dtype), a, a, out) == 120

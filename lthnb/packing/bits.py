"""Numbers in a stream of bits: reading, writing, and a canonical Huffman code.

Bits are counted from the lowest of the first byte on. A stream ends with :data:`SPARE` bytes of
zeros, so that a kernel may read eight bytes at once from any place before its end.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property

import numba as nb
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from lthnb.packing.errors import PackingError

SPARE = 8
LONGEST = 12  # bits of a code word: its table of 4096 numbers stays in the fastest cache
SYMBOLS = 1 << LONGEST


@intrinsic
def _word(typingctx, stream, byte):
    """Eight bytes of an array of bytes as one uint64, aligned or not; nothing is checked."""

    def codegen(context, builder, signature, args):
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        start = builder.gep(data, [args[1]])
        start = builder.bitcast(start, ir.IntType(64).as_pointer())
        return builder.load(start, align=1)

    return types.uint64(stream, types.intp), codegen


@nb.njit(cache=True)
def peek(stream, at):
    """The next 57 bits or more from bit `at` on, uint64; (at >> 3) + 8 bytes must be there."""
    return _word(stream, at >> 3) >> np.uint64(at & 7)


@nb.njit(cache=True)
def get(stream, at, bits):
    """The next `bits` (0 to 64) as uint64."""
    if bits <= 56:
        return peek(stream, at) & ((np.uint64(1) << np.uint64(bits)) - np.uint64(1))
    low = peek(stream, at) & np.uint64(0xFFFFFFFF)
    rest = np.uint64(bits - 32)
    high = peek(stream, at + 32) & ((np.uint64(1) << rest) - np.uint64(1))
    return low | (high << np.uint64(32))


@nb.njit(cache=True)
def put(stream, at, value, bits):
    """Write the lowest `bits` (0 to 64) of a uint64 from bit `at` on; returns where they end. What
    is there must be zeros."""
    left = bits
    while left > 0:
        shift = at & 7
        taken = min(left, 8 - shift)
        part = value & np.uint64((1 << taken) - 1)
        stream[at >> 3] |= np.uint8(part << np.uint64(shift))
        value >>= np.uint64(taken)
        at += taken
        left -= taken
    return at


@dataclass(frozen=True, eq=False)
class Code:
    """A canonical Huffman code, which its lengths alone describe.

    lengths: uint8 (symbols,): 0 for a symbol that has no code word, else one more than the bits of
    its code word, which are 0 where there is only one, and at most :data:`LONGEST`.
    """

    lengths: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray) -> Code:
        """The code for symbols that occur so often, int64 (symbols,).

        Code words longer than LONGEST are made shorter by halving the counts, which costs next to
        nothing since such symbols are rare.
        """
        used = np.flatnonzero(counts)
        lengths = np.zeros(len(counts), np.uint8)
        weights = counts[used].tolist()
        while used.size:
            bits = _huffman(weights)
            if max(bits) <= LONGEST:
                lengths[used] = np.array(bits) + 1
                break
            weights = [(w + 1) // 2 for w in weights]
        return cls(lengths)

    def check(self, name: str) -> None:
        """Refuse lengths that are no code: by Kraft, all code words must share the whole space."""
        lengths = self.lengths[self.lengths > 0].astype(np.int64) - 1
        whole = len(self.lengths) <= SYMBOLS and lengths.max(initial=0) <= LONGEST
        if not whole or (len(lengths) and (1 << (LONGEST - lengths)).sum() != SYMBOLS):
            raise PackingError(f"{name}: found lengths that are no Huffman code's.")

    @cached_property
    def words(self) -> np.ndarray:
        """int64 (2, symbols): each code word, its first bit lowest, and its bits."""
        words = np.zeros((2, len(self.lengths)), np.int64)
        bits = self.lengths.astype(np.int64) - 1
        word = last = 0
        for symbol in np.argsort(bits, kind="stable")[np.count_nonzero(bits < 0) :].tolist():
            size = int(bits[symbol])
            word <<= size - last
            last = size
            words[:, symbol] = int(f"{word:0{size}b}"[::-1], 2) if size else 0, size
            word += 1
        return words

    @cached_property
    def table(self) -> np.ndarray:
        """int32 (2^longest,): for the next bits of a stream, 16 · symbol + bits of its word; of
        length 0 where there is no symbol."""
        used = np.flatnonzero(self.lengths)
        if not used.size:
            return np.zeros(0, np.int32)
        words, bits = self.words[:, used]
        table = np.zeros(1 << bits.max(), np.int32)
        for symbol, word, size in zip(used.tolist(), words.tolist(), bits.tolist(), strict=True):
            table[word :: 1 << size] = symbol << 4 | size
        return table


def _huffman(weights: list[int]) -> list[int]:
    """Bits of each symbol's code word: Huffman (1952)."""
    heap = [(weight, symbol) for symbol, weight in enumerate(weights)]
    heapq.heapify(heap)
    parents: list[int] = [0] * (2 * len(weights) - 1)
    for joined in range(len(weights), len(parents)):
        weight = 0
        for _ in range(2):
            part, node = heapq.heappop(heap)
            weight += part
            parents[node] = joined
        heapq.heappush(heap, (weight, joined))
    depths = [0] * len(parents)
    for node in range(len(parents) - 2, -1, -1):
        depths[node] = depths[parents[node]] + 1
    return depths[: len(weights)]

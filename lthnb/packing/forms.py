"""How supports are written: which entries of each row are kept.

`FORMS` is a dict from the fastest to read to the slowest. All but `ragged` are streams: rows lie in
blocks of :data:`BLOCK`, and for each block there are two numbers, where its entries begin and where
its bytes do. A block's bytes hold, one after the other without gaps, how many entries each row
keeps (a Huffman code; none where the form tells), which ones (here the forms differ), and for int8
values the codes of the scales of the rows that keep any (another Huffman code).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numba as nb
import numpy as np

from lthnb.packing.bits import SPARE, Code, get, peek, put
from lthnb.packing.errors import PackingError
from lthnb.packing.values import CODES

BLOCK = 64  # rows: two numbers of 32 bits cost a row one bit
PIECE = 64  # most columns whose choices fit in 64 bits: log₂ C(64, 32) < 61
WIDE = PIECE + 1
LARGEST = 1024  # columns

BITMAP, PACKED_IDS, IDS, DELTAS, ENUMERATIVE = range(5)


@dataclass(frozen=True, eq=False)
class Support:
    """Which entries of some rows are kept: offsets int64 (rows + 1,), columns uint8 or uint16
    (kept,), rising within a row; size: F."""

    offsets: np.ndarray
    columns: np.ndarray
    size: int

    @classmethod
    def of(cls, kept: np.ndarray) -> Support:
        """From bool (rows, F)."""
        offsets = np.zeros(len(kept) + 1, np.int64)
        np.cumsum(np.count_nonzero(kept, axis=1), out=offsets[1:])
        columns = np.empty(offsets[-1], column_type(kept.shape[1]))
        _columns_of(kept, offsets, columns)
        return cls(offsets, columns, kept.shape[1])

    @property
    def rows(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def counts(self) -> np.ndarray:
        """How many entries each row keeps, int64 (rows,)."""
        return np.diff(self.offsets)

    def pieces(self, count: int) -> np.ndarray:
        """How many entries each row keeps in each of so many pieces, int64 (rows · count,)."""
        if count == 1:
            return self.counts
        out = np.zeros(self.rows * count, np.int64)
        _count_pieces(self.offsets, self.columns, -(-self.size // count), count, out)
        return out


def column_type(size: int) -> type:
    """uint8 where that holds all columns, else uint16."""
    return np.uint8 if size <= 256 else np.uint16


def pieces_of(form: int, size: int) -> int:
    """Into how many pieces a form cuts a row; each has a count of its own. 0: it needs none."""
    return {BITMAP: 0, ENUMERATIVE: -(-size // PIECE)}.get(form, 1)


@cache
def choices() -> np.ndarray:
    """uint64 (33 · 65,): C(n, k) at k · WIDE + n; nothing of a piece needs a larger k."""
    table = [[math.comb(n, k) for n in range(WIDE)] for k in range(PIECE // 2 + 1)]
    return np.array(table, np.uint64).ravel()


@cache
def row_bits(form: int, size: int) -> np.ndarray:
    """int64 (65 or F + 1, …): what a form's kernels look up by how many entries a row keeps.

    ids: bits of an id. deltas: bits of the lower part of a gap (Rice 1979), about log₂ of the mean
    gap times ln 2. enumerative: for each width and count, bits of a rank.
    """
    if form == ENUMERATIVE:
        table = np.zeros((PIECE + 1, PIECE + 1), np.int64)
        for n in range(PIECE + 1):
            for k in range(n + 1):
                table[n, k] = (math.comb(n, k) - 1).bit_length()
        return table
    if form == DELTAS:
        lower = [max(0, 69 * (size - k) // (100 * (k + 1))).bit_length() - 1 for k in range(size)]
        return np.maximum([[*lower, 0]], 0)
    return np.full((1, size + 1), (size - 1).bit_length(), np.int64)


class Stream:
    """A form whose rows lie in blocks of bytes."""

    def __init__(self, number: int, title: str) -> None:
        self.number, self.title = number, title

    def _codes(self, support: Support, scales: np.ndarray | None):
        """The two Huffman codes, and what they write: pieces' counts, scale codes above `base`."""
        pieces = pieces_of(self.number, support.size)
        counts = support.pieces(pieces) if pieces else np.zeros(0, np.int64)
        count_code = Code.of(np.bincount(counts, minlength=support.size + 1 if pieces else 0))
        base, above = 0, np.zeros(0, np.int64)
        if scales is not None and support.counts.any():
            base = int(scales[support.counts > 0].min())
            above = np.where(support.counts > 0, scales - base, 0)
            used = np.bincount(above[support.counts > 0])
        else:
            used = np.zeros(0, np.int64)
        return counts, count_code, base, above, Code.of(used)

    def _described(self, support: Support) -> tuple:
        """The first arguments of :func:`_measure` and :func:`_write`: the form, and the support."""
        number, size = self.number, support.size
        table = row_bits(number, size)
        return number, size, pieces_of(number, size), support.offsets, support.columns, table

    def _layout(self, support: Support, counts, count_code, above, scale_code) -> np.ndarray:
        """Where each block's entries and bytes begin: int64 (2, blocks + 1)."""
        bits = np.zeros(support.rows, np.int64)
        _measure(
            *self._described(support),
            counts,
            count_code.words[1],
            above,
            scale_code.words[1],
            bits,
        )
        blocks = -(-support.rows // BLOCK)
        starts = np.zeros((2, blocks + 1), np.int64)
        starts[0] = support.offsets[np.minimum(np.arange(blocks + 1) * BLOCK, support.rows)]
        if blocks:
            whole = np.add.reduceat(bits, np.arange(blocks) * BLOCK)
            np.cumsum(-(-whole // 8), out=starts[1, 1:])
        return starts

    def encode(self, support: Support, scales: np.ndarray | None):
        """The tensors of a side, by name, without its values; and the `base` of its scales."""
        counts, count_code, base, above, scale_code = self._codes(support, scales)
        starts = self._layout(support, counts, count_code, above, scale_code)
        payload = np.zeros(starts[1, -1] + SPARE, np.uint8)
        _write(
            *self._described(support),
            choices(),
            counts,
            count_code.words,
            above,
            scale_code.words,
            starts,
            payload,
        )
        tensors = {"payload": payload, "starts": starts.astype(small(starts))}
        if pieces_of(self.number, support.size):
            tensors["counts"] = count_code.lengths
        if scales is not None:
            tensors["scales"] = scale_code.lengths
        if self.number == IDS:
            tensors["columns"] = support.columns
        return tensors, base

    def arrange(self, support: Support, raw: np.ndarray) -> np.ndarray:
        """Values of the rows, as they lie in the file: in the order of the rows."""
        return raw

    def nbytes(self, support: Support, scales: np.ndarray | None) -> int:
        """Bytes of what :meth:`encode` would give, without writing it."""
        counts, count_code, _, above, scale_code = self._codes(support, scales)
        starts = self._layout(support, counts, count_code, above, scale_code)
        return (
            int(starts[1, -1])
            + SPARE
            + starts.astype(small(starts)).nbytes
            + count_code.lengths.nbytes
            + scale_code.lengths.nbytes
            + (support.columns.nbytes if self.number == IDS else 0)
        )

    def expected(self, side: Any) -> dict[str, tuple[tuple, tuple[int | None, ...]]]:
        """What tensors a side must have: name → (dtypes, shape, None where any length will do)."""
        blocks = -(-side.rows // BLOCK)
        wanted = {
            "payload": ((np.uint8,), (None,)),
            "starts": (UNSIGNED, (2, blocks + 1)),
        }
        if pieces_of(self.number, side.size):
            wanted["counts"] = ((np.uint8,), (side.size + 1,))
        if side.kind.scaled:
            wanted["scales"] = ((np.uint8,), (None,))
        if self.number == IDS:
            wanted["columns"] = ((column_type(side.size),), (None,))
        return wanted

    def check(self, side: Any, name: str) -> None:
        """Refuse what no kernel may be given: pointers out of order or out of bounds, no codes."""
        starts, tensors = side.tensors["starts"], side.tensors
        steps = starts[:, 1:] >= starts[:, :-1]
        ends = len(tensors["values"]), len(tensors["payload"]) - SPARE
        if starts[:, 0].any() or not steps.all() or tuple(starts[:, -1].tolist()) != ends:
            raise PackingError(f"{name}.starts: found pointers that lead outside of the file.")
        if self.number == IDS and len(tensors["columns"]) != ends[0]:
            raise PackingError(
                f"{name}.columns: found {len(tensors['columns'])} entries, expected {ends[0]}."
            )
        for part in ("counts", "scales"):
            if part in tensors:
                side.code(part).check(f"{name}.{part}")
        if side.kind.scaled:
            _check_scales(side.base + max(0, len(tensors["scales"]) - 1), name)

    def read(self, side: Any, start: int, stop: int):
        """(offsets, columns, raw values, scale codes or None) of some rows."""
        first, last = start // BLOCK, -(-stop // BLOCK)
        starts = side.tensors["starts"][:, first : last + 1].astype(np.int64)
        low, high = starts[0, 0], starts[0, -1]
        rows = min(last * BLOCK, side.rows) - first * BLOCK
        offsets = np.zeros(rows + 1, np.int64)
        columns = np.empty(0 if self.number == IDS else high - low, column_type(side.size))
        scales = np.zeros(rows if side.kind.scaled else 0, np.int64)
        bad = _read(
            self.number,
            side.size,
            pieces_of(self.number, side.size),
            side.tensors["payload"],
            starts,
            row_bits(self.number, side.size),
            choices(),
            side.code("counts").table,
            side.code("scales").table,
            offsets,
            columns,
            scales,
        )
        if self.number == IDS:
            columns = side.tensors["columns"][low:high]
            bad = bad or columns.max(initial=0) >= side.size
        if bad:
            raise PackingError(
                f"{side.name}: found rows {first * BLOCK} to {last * BLOCK} damaged; the file is "
                "altered. Fetch or export it again."
            )
        skip = start - first * BLOCK
        offsets = offsets[skip : skip + stop - start + 1]
        begin, end = int(offsets[0]), int(offsets[-1])
        raw = side.tensors["values"][low + begin : low + end]
        codes = scales[skip : skip + stop - start] + side.base if side.kind.scaled else None
        return offsets - begin, columns[begin:end], raw, codes


class Ragged:
    """Rows sorted by how many entries they keep, so that rows with as many are one dense block of
    ids and one of values: each user and item has an embedding size of its own, and the ids are the
    beginning of a permutation of its columns. Any row is found at once, by its place.

    `places` (rows,): where each row went. `sizes` (F + 1,): how many rows keep 0 … F entries.
    `columns`, `values`: rows in the order of their places. `scales` (rows,): of int8, above `base`.
    """

    title = "rows sorted by their number of entries, 8-bit ids"

    def encode(self, support: Support, scales: np.ndarray | None):
        """As :meth:`Stream.encode`."""
        sizes, places = self._places(support)
        tensors = {
            "places": places.astype(small(places)),
            "sizes": sizes.astype(small(sizes)),
            "columns": self.arrange(support, support.columns),
        }
        base = 0
        if scales is not None:
            some = support.counts > 0
            base = int(scales[some].min()) if some.any() else 0
            above = np.where(some, scales - base, 0)
            tensors["scales"] = above.astype(small(above))
        return tensors, base

    def _places(self, support: Support) -> tuple[np.ndarray, np.ndarray]:
        """How many rows there are of each size, (F + 1,), and where each row went, (rows,)."""
        places = np.empty(support.rows, np.int64)
        places[np.argsort(support.counts, kind="stable")] = np.arange(support.rows)
        return np.bincount(support.counts, minlength=support.size + 1), places

    def arrange(self, support: Support, raw: np.ndarray) -> np.ndarray:
        """Values of the rows, as they lie in the file: in the order of the places."""
        sizes, places = self._places(support)
        out = np.empty_like(raw)
        out[_entries(*classes(sizes), places)[1]] = raw
        return out

    def nbytes(self, support: Support, scales: np.ndarray | None) -> int:
        """As :meth:`Stream.nbytes`."""
        return sum(tensor.nbytes for tensor in self.encode(support, scales)[0].values())

    def expected(self, side: Any):
        """As :meth:`Stream.expected`."""
        wanted = {
            "places": (UNSIGNED, (side.rows,)),
            "sizes": (UNSIGNED, (side.size + 1,)),
            "columns": ((column_type(side.size),), (None,)),
        }
        if side.kind.scaled:
            wanted["scales"] = (UNSIGNED, (side.rows,))
        return wanted

    def check(self, side: Any, name: str) -> None:
        """As :meth:`Stream.check`."""
        tensors = side.tensors
        sizes = [int(n) for n in tensors["sizes"]]  # exact, however large
        kept = sum(n * k for k, n in enumerate(sizes))
        found = sum(sizes), len(tensors["columns"]), len(tensors["values"])
        if found != (side.rows, kept, kept):
            raise PackingError(
                f"{name}.sizes: found {found[0]} rows with {kept} entries, expected {side.rows} "
                f"with {found[1]}."
            )
        if side.kind.scaled:
            _check_scales(side.base + int(tensors["scales"].max(initial=0)), name)

    def read(self, side: Any, start: int, stop: int):
        """As :meth:`Stream.read`."""
        places = side.tensors["places"][start:stop].astype(np.int64)
        if len(places) and not 0 <= places.min() <= places.max() < side.rows:
            raise PackingError(
                f"{side.name}.places: found a row outside of the table; the file is altered."
            )
        offsets, entries = _entries(*side.classes, places)
        columns = side.tensors["columns"][entries]
        if columns.max(initial=0) >= side.size:
            raise PackingError(
                f"{side.name}.columns: found {columns.max()}, expected less than {side.size}; "
                "the file is altered."
            )
        codes = None
        if side.kind.scaled:
            codes = side.tensors["scales"][start:stop].astype(np.int64) + side.base
        return offsets, columns, side.tensors["values"][entries], codes


FORMS: dict[str, Stream | Ragged] = {
    "ids": Stream(IDS, "8-bit column ids"),
    "bitmap": Stream(BITMAP, "a bit for every entry"),
    "packed_ids": Stream(PACKED_IDS, "column ids of ⌈log₂ F⌉ bits"),
    "deltas": Stream(DELTAS, "gaps between columns, Rice code"),
    "ragged": Ragged(),
    "enumerative": Stream(ENUMERATIVE, "the rank of a row among all C(F, k)"),
}


def _check_scales(largest: int, name: str) -> None:
    if largest > CODES[1]:
        raise PackingError(f"{name}.scales: found {largest}, expected at most {CODES[1]}.")


UNSIGNED = (np.uint8, np.uint16, np.uint32, np.uint64)


def small(numbers: np.ndarray) -> type:
    """The smallest type of UNSIGNED that holds numbers of at least 0."""
    return np.min_scalar_type(numbers.max(initial=0)).type


def classes(sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of rows sorted by size: where those of each size begin, int64 (F + 2,), and their entries."""
    sizes = sizes.astype(np.int64)
    rows = np.concatenate(([0], np.cumsum(sizes)))
    entries = np.concatenate(([0], np.cumsum(sizes * np.arange(len(sizes)))))
    return rows, entries


# Kernels


@nb.njit(cache=True, nogil=True)
def _columns_of(kept, offsets, out):
    for row in range(kept.shape[0]):
        at = offsets[row]
        for column in range(kept.shape[1]):
            if kept[row, column]:
                out[at] = column
                at += 1


@nb.njit(cache=True, nogil=True)
def _count_pieces(offsets, columns, width, count, out):
    for row in range(offsets.size - 1):
        for at in range(offsets[row], offsets[row + 1]):
            out[row * count + columns[at] // width] += 1


@nb.njit(cache=True, nogil=True)
def _entries(rows, begins, places):
    """Entries of rows at some places of a ragged side: offsets, and where each entry lies."""
    offsets = np.zeros(places.size + 1, np.int64)
    for row in range(places.size):
        size = np.searchsorted(rows, places[row], side="right") - 1
        offsets[row + 1] = offsets[row] + size
    entries = np.empty(offsets[-1], np.int64)
    for row in range(places.size):
        size = offsets[row + 1] - offsets[row]
        begin = begins[size] + (places[row] - rows[size]) * size
        for n in range(size):
            entries[offsets[row] + n] = begin + n
    return offsets, entries


@nb.njit(cache=True, nogil=True)
def _measure(
    form,
    size,
    pieces,
    offsets,
    columns,
    table,
    counts,
    count_bits,
    above,
    scale_bits,
    bits,
):
    """Bits of each row in its block."""
    width = -(-size // max(pieces, 1))
    for row in range(bits.size):
        kept = offsets[row + 1] - offsets[row]
        total = 0
        for piece in range(pieces):
            count = counts[row * pieces + piece]
            total += count_bits[count]
            if form == ENUMERATIVE:
                total += table[min(width, size - piece * width), count]
        if above.size and kept:
            total += scale_bits[above[row]]
        if form == BITMAP:
            total += size
        elif form == PACKED_IDS:
            total += kept * table[0, kept]
        elif form == DELTAS:
            lower = table[0, kept]
            last = -1
            for at in range(offsets[row], offsets[row + 1]):
                column = np.int64(columns[at])
                total += ((column - last - 1) >> lower) + 1 + lower
                last = column
        bits[row] = total


@nb.njit(cache=True, nogil=True)
def _write(
    form,
    size,
    pieces,
    offsets,
    columns,
    table,
    binomials,
    counts,
    count_words,
    above,
    scale_words,
    starts,
    payload,
):
    width = -(-size // max(pieces, 1))
    rows = offsets.size - 1
    for block in range(starts.shape[1] - 1):
        first, last = block * BLOCK, min((block + 1) * BLOCK, rows)
        at = starts[1, block] * 8
        for n in range(first * pieces, last * pieces):
            at = put(payload, at, np.uint64(count_words[0, counts[n]]), count_words[1, counts[n]])
        for row in range(first, last):
            entry, end = offsets[row], offsets[row + 1]
            kept = end - entry
            if form == BITMAP:
                while entry < end:
                    bit = at + np.int64(columns[entry])
                    payload[bit >> 3] |= np.uint8(1 << (bit & 7))
                    entry += 1
                at += size
            elif form == PACKED_IDS:
                while entry < end:
                    at = put(payload, at, np.uint64(columns[entry]), table[0, kept])
                    entry += 1
            elif form == DELTAS:
                lower = table[0, kept]
                previous = -1
                while entry < end:
                    column = np.int64(columns[entry])
                    gap = column - previous - 1
                    at += gap >> lower  # zeros, which are there
                    at = put(payload, at, np.uint64(1), 1)
                    at = put(payload, at, np.uint64(gap), lower)
                    previous = column
                    entry += 1
            elif form == ENUMERATIVE:
                for piece in range(pieces):
                    count = counts[row * pieces + piece]
                    here = min(width, size - piece * width)
                    rank = _rank(columns, entry, count, piece * width, here, binomials)
                    at = put(payload, at, rank, table[here, count])
                    entry += count
        for row in range(first, last):
            if above.size and offsets[row + 1] > offsets[row]:
                at = put(
                    payload, at, np.uint64(scale_words[0, above[row]]), scale_words[1, above[row]]
                )


@nb.njit(cache=True)
def _rank(columns, entry, count, first, width, binomials):
    """Place of a choice of `count` among `width` columns, uint64 from 0: Σ C(c_i, i), i = 1 … k.

    Of more than half of the columns, those that are missing are ranked.
    """
    rank = np.uint64(0)
    if 2 * count <= width:
        for n in range(count):
            rank += binomials[(n + 1) * WIDE + columns[entry + n] - first]
        return rank
    missing = 0
    for column in range(width):
        if count and np.int64(columns[entry]) - first == column:
            entry, count = entry + 1, count - 1
        else:
            missing += 1
            rank += binomials[missing * WIDE + column]
    return rank


@nb.njit(cache=True)
def _choice(rank, count, width, binomials):
    """The choice at a rank below C(width, count), as bits of a uint64, the first column lowest."""
    few = count if 2 * count <= width else width - count
    one = np.uint64(1)
    chosen, column = np.uint64(0), np.uint64(width)
    for n in range(few, 1, -1):
        # The largest column below the one before with C(column, n) ≤ rank; C(n − 1, n) is 0. One
        # after the other: a processor looks ahead here, and cannot where each step of a search
        # waits for the one before. Unsigned, an index need not be looked at for its sign.
        row = np.uint64(n * WIDE)
        column -= one
        while binomials[row + column] > rank:
            column -= one
        rank -= binomials[row + column]
        chosen |= one << column
    if few:
        chosen |= one << rank  # C(column, 1)
    return chosen


@nb.njit(cache=True)
def _trailing(word):
    """Zeros below the lowest bit that is set."""
    return np.int64(_count_bits((word & (~word + np.uint64(1))) - np.uint64(1)))


@nb.njit(cache=True)
def _count_bits(word):
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + (
        (word >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@nb.njit(cache=True, nogil=True)
def _read(
    form,
    size,
    pieces,
    payload,
    starts,
    table,
    binomials,
    count_table,
    scale_table,
    offsets,
    columns,
    scales,
):
    """Read whole blocks; returns whether they are damaged.

    Nothing is read behind a block's end but the :data:`bits.SPARE` bytes, and nothing written
    behind a block's share of `columns`, whatever the bytes are.
    """
    width = -(-size // max(pieces, 1))
    rows = offsets.size - 1
    counts = np.zeros(BLOCK * max(pieces, 1), np.int64)
    count_mask = np.uint64(max(count_table.size, 1) - 1)
    scale_mask = np.uint64(max(scale_table.size, 1) - 1)
    for block in range(starts.shape[1] - 1):
        first, last = block * BLOCK, min((block + 1) * BLOCK, rows)
        at, end = starts[1, block] * 8, starts[1, block + 1] * 8
        entry, stop = starts[0, block] - starts[0, 0], starts[0, block + 1] - starts[0, 0]
        if pieces:
            if not count_table.size:
                return True
            total = 0
            for n in range((last - first) * pieces):
                if at > end:
                    return True
                found = count_table[peek(payload, at) & count_mask]
                counts[n] = found >> 4
                total += found >> 4
                at += found & 15
            if total != stop - entry:
                return True
            if pieces == 1:
                for row in range(first, last):
                    offsets[row + 1] = offsets[row] + counts[row - first]
        if form == IDS:
            entry = stop
        for row in range(first, last):
            if form == BITMAP:
                if at + size > end:
                    return True
                for column in range(0, size, 32):
                    word = get(payload, at + column, min(32, size - column))
                    if np.int64(_count_bits(word)) > stop - entry:
                        return True
                    while word:
                        columns[entry] = column + _trailing(word)
                        word &= word - np.uint64(1)
                        entry += 1
                at += size
                offsets[row + 1] = entry
            elif form == PACKED_IDS:
                kept = counts[row - first]
                bits = table[0, kept]
                if at + kept * bits > end:
                    return True
                for _ in range(kept):
                    column = np.int64(get(payload, at, bits))
                    if column >= size:
                        return True
                    columns[entry] = column
                    at += bits
                    entry += 1
            elif form == DELTAS:
                kept = counts[row - first]
                lower = table[0, kept]
                column = -1
                for _ in range(kept):
                    zeros = 0
                    if at > end:
                        return True
                    word = peek(payload, at) & np.uint64(0xFFFFFFFFFFFF)
                    while not word:
                        zeros += 48
                        at += 48
                        if at > end:
                            return True
                        word = peek(payload, at) & np.uint64(0xFFFFFFFFFFFF)
                    more = _trailing(word)
                    at += more + 1
                    if at + lower > end:
                        return True
                    column += 1 + ((zeros + more) << lower) + np.int64(get(payload, at, lower))
                    if column >= size:
                        return True
                    at += lower
                    columns[entry] = column
                    entry += 1
            elif form == ENUMERATIVE:
                for piece in range(pieces):
                    count = counts[(row - first) * pieces + piece]
                    here = min(width, size - piece * width)
                    if count > here:
                        return True
                    bits = table[here, count]
                    if at + bits > end:
                        return True
                    rank = get(payload, at, bits)
                    at += bits
                    few = count if 2 * count <= here else here - count
                    if rank >= binomials[few * WIDE + here]:
                        return True
                    word = _choice(rank, count, here, binomials)
                    if few != count:
                        word = ~word & (~np.uint64(0) >> np.uint64(64 - here))
                    while word:
                        columns[entry] = piece * width + _trailing(word)
                        word &= word - np.uint64(1)
                        entry += 1
                offsets[row + 1] = entry
        if entry != stop:
            return True
        if scales.size:
            for row in range(first, last):
                if offsets[row + 1] > offsets[row]:
                    if at > end or not scale_table.size:
                        return True
                    found = scale_table[peek(payload, at) & scale_mask]
                    scales[row] = found >> 4
                    at += found & 15
        if at > end:
            return True
    return False

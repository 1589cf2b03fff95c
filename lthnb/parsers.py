"""Parsers of published files: adjacency lists, weighted pairs, pickled matrices.

Each gives the users and items of a file's pairs, int64, in the order of the file, and raises
DataError naming file, line, what was found, what was expected and what to do.
"""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from lthnb.data import DataError

DIGITS = 18  # most of an id, so that it fits into 64 bits


def parse_adjacency(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read lines ``user item item …``, separated by blanks; a user may have no items."""
    values, line = numbers_by_line(path.read_bytes(), path.name)
    return pairs_of_lists(values, line)


def pairs_of_lists(values: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Users and items of numbers whose first in each line is a user."""
    first = np.ones(len(values), bool)
    first[1:] = line[1:] != line[:-1]
    users = values[first][np.cumsum(first) - 1]
    return users[~first], values[~first]


def numbers_by_line(text: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """All whole numbers of a text, and the line of each from 0, both int64.

    Raises DataError naming the line that has something else.
    """
    text = text.removeprefix(b"\xef\xbb\xbf")  # a byte-order mark
    byte = np.frombuffer(text, np.uint8)
    newline = byte == ord("\n")
    digit = (byte >= ord("0")) & (byte <= ord("9"))
    returns = byte == ord("\r")
    returns[:-1] &= newline[1:]  # a lone one is no blank: it may be some other system's newline
    good = digit | newline | returns | (byte == ord(" ")) | (byte == ord("\t"))
    begins, ends = digit.copy(), digit.copy()
    begins[1:] &= ~digit[:-1]
    ends[:-1] &= ~digit[1:]
    begin, newlines = np.flatnonzero(begins), np.flatnonzero(newline)
    long = np.flatnonzero(ends) - begin >= DIGITS
    if not good.all() or long.any():
        places = [np.flatnonzero(~good)[:1], begin[long][:1]]
        line = int(np.searchsorted(newlines, min(p[0] for p in places if p.size)))
        start, *end = newlines[line - 1] + 1 if line else 0, *newlines[line : line + 1]
        found = text[start : end[0] if end else None].decode(errors="replace").rstrip()
        raise DataError(
            f"{where}, line {line + 1}: found {found[:60]!r}, expected a user and its items, "
            f"whole numbers ≥ 0 of at most {DIGITS} digits, separated by blanks. If each line is "
            "one interaction, name the columns: columns=user,item,… and separator=' ' (or tab)."
        )
    values = np.fromstring(text.decode("ascii"), np.int64, sep=" ")
    return values, np.searchsorted(newlines, begin)


def parse_weighted(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read lines ``user<tab>item<tab>weight``; weights must be numbers, and are not used.

    Gives users and items, int64. Raises DataError naming the line that is not so.
    """
    try:
        with warnings.catch_warnings(action="error"):  # of an empty file numpy only warns
            table = np.loadtxt(path, delimiter="\t", ndmin=2)
    except (ValueError, UserWarning) as error:
        raise DataError(
            f"{path.name}: {error}; expected user, item and weight, tab-separated."
        ) from error
    ids = table[:, :2]
    wrong = ~((ids >= 0) & (ids < 2**53) & (np.floor(ids) == ids)).all(axis=1)
    if table.shape[1] != 3 or wrong.any():
        raise DataError(
            f"{path.name}, row {int(wrong.argmax()) + 1} of {table.shape[1]} columns: found "
            f"{table[wrong.argmax()].tolist()}, expected whole numbers ≥ 0 for user and item, and "
            "a weight."
        )
    return ids[:, 0].astype(np.int64), ids[:, 1].astype(np.int64)


def parse_pickled_matrix(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, int64, of the entries ≠ 0 of a pickled scipy COO or CSR matrix.

    A pickle can name any function of any module and call it. This one may name what is in
    ``ALLOWED_IN_PICKLE``; whatever else it names is refused, and not imported. Raises DataError.
    """
    with path.open("rb") as handle:
        try:
            matrix = _MatrixUnpickler(handle, path.name).load()
        except DataError:
            raise
        except Exception as error:  # a broken pickle may raise anything
            raise DataError(
                f"{path.name}: cannot be unpickled ({type(error).__name__}: {error})."
            ) from error
    state = getattr(matrix, "__dict__", {})
    values = state.get("data")
    if "coords" in state:  # scipy ≥ 1.13
        row, column = state["coords"]
    elif "row" in state:
        row, column = state["row"], state["col"]
    elif "indptr" in state:
        column = state["indices"]
        row = np.repeat(np.arange(len(state["indptr"]) - 1), np.diff(state["indptr"]))
    else:
        raise DataError(
            f"{path.name}: found a pickled {type(matrix).__name__}, expected a scipy COO or CSR "
            "matrix of users × items."
        )
    arrays = all(isinstance(a, np.ndarray) and a.ndim == 1 for a in (row, column, values))
    if not arrays or not len(row) == len(column) == len(values) or row.dtype.kind != "i":
        raise DataError(f"{path.name}: rows, columns and values of the matrix do not match.")
    kept = values != 0
    return row[kept].astype(np.int64), column[kept].astype(np.int64)


# What a pickled matrix may name, under the modules' old and new names. Matrices are stood in for by
# an inert object, since their state is all that is wanted.
_MATRIX = "a stand-in"
ALLOWED_IN_PICKLE = {
    ("scipy.sparse.coo", "coo_matrix"): _MATRIX,
    ("scipy.sparse._coo", "coo_matrix"): _MATRIX,
    ("scipy.sparse._coo", "coo_array"): _MATRIX,
    ("scipy.sparse.csr", "csr_matrix"): _MATRIX,
    ("scipy.sparse._csr", "csr_matrix"): _MATRIX,
    ("scipy.sparse._csr", "csr_array"): _MATRIX,
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
    ("numpy.core.numeric", "_frombuffer"): np._core.numeric._frombuffer,
    ("numpy._core.numeric", "_frombuffer"): np._core.numeric._frombuffer,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _MatrixUnpickler(pickle.Unpickler):
    """An unpickler that finds nothing but ``ALLOWED_IN_PICKLE``."""

    def __init__(self, handle: io.BufferedIOBase, file: str) -> None:
        super().__init__(handle)
        self.file = file
        # A class of its own for each file: a pickle can set attributes of a class that it names.
        self.stand_in = type("matrix", (), {})

    def find_class(self, module: str, name: str) -> Any:
        found = ALLOWED_IN_PICKLE.get((module, name))
        if found is None:
            raise DataError(
                f"{self.file}: the pickle asks for {module}.{name}, which a matrix does not need; "
                "refused, and nothing of it was run. Use the published file."
            )
        return self.stand_in if found is _MATRIX else found

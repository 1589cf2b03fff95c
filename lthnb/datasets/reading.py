"""A table, in a file or in memory, as the columns that it has.

Ids, ratings and times stay text where they are text. Each line of a text file is a row.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.interchange
import pyarrow.parquet
import scipy.sparse as sp

from lthnb.config import nearest
from lthnb.data import DataError
from lthnb.datasets.options import TableOptions
from lthnb.datasets.pickles import read_matrix

SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}
MATRICES = {".npz": sp.load_npz, ".pkl": read_matrix}
TABLES = {".parquet": pyarrow.parquet.read_table, ".feather": pyarrow.feather.read_table}
TABLES[".arrow"] = TABLES[".feather"]
SUFFIXES = (*SEPARATORS, ".txt", *TABLES, *MATRICES)
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}  # by how files begin
NO_TEXT = (b"PAR1", b"PK\x03\x04", b"\x80", b"<")  # Parquet, spreadsheet or zip, pickle, web page
ROLES = ("user", "item", "rating", "time")
SCORES = ("rating", "score", "stars", "label", "click", "like")
ROW_LENGTHS = range(3, 9)  # words in every line which may be columns as well as lists


@dataclass(frozen=True)
class Columns:
    """What was read of one part.

    where: what to call it in a message. table: the columns that were asked for, as they stand, and
    one that may be a score. place: row → what to call it.
    """

    where: str
    table: pa.Table
    place: Callable[[int], str]

    def refuse(self, row: int, name: str, found: Any, expected: str) -> None:
        """Raise DataError for a value; a text is cut to what can be read."""
        found = "nothing" if found is None else repr(found)[:60]
        raise DataError(f"{self.place(row)}, column {name!r}: found {found}, expected {expected}")


def read(source: Any, options: TableOptions, part: str) -> Columns:
    """The columns of a path, a frame of pandas or of the interchange kind, an Arrow table, or a
    scipy sparse matrix; `part` is what to call one that has no name. Raises DataError."""
    if isinstance(source, (str, Path)):
        return _from_file(Path(source), options)
    if sp.issparse(source):
        return _from_matrix(part, source, options)
    try:
        if isinstance(source, pd.DataFrame):
            frame = source.set_axis([str(name) for name in source.columns], axis=1)
            frame = frame[_asked_for(part, list(frame.columns), options)]
            table = pa.Table.from_pandas(frame, preserve_index=False)
        elif hasattr(source, "__arrow_c_stream__"):
            table = pa.table(source)
        else:
            table = pyarrow.interchange.from_dataframe(source)
    except DataError:
        raise
    except (pa.ArrowException, RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        raise DataError(
            f"{part}: found what Arrow cannot hold ({' '.join(map(str, error.args))}), expected "
            "one kind of values in each column; convert ids with astype(str)."
        ) from error
    return _from_arrow(part, table, options)


def _asked_for(where: str, found: list[str], options: TableOptions) -> list[str]:
    """The names of the columns to read. Raises DataError where one is missing or there twice."""
    asked = {role: name for role in ROLES if (name := getattr(options, role)) is not None}
    for role, name in asked.items():
        if name not in found:
            others = ", ".join(repr(other[:60]) for other in found[:20])
            raise DataError(
                f"{where}: no column {name!r} for the {role}s, found {others}; name it with "
                f"{role}=…, or say what the columns of a file without a header are, "
                f"columns=user,item,…, or what separates them, separator=….{nearest(name, found)}"
            )
        if found.count(name) > 1 or list(asked.values()).count(name) > 1:
            raise DataError(f"{where}: column {name!r} is there or asked for twice, expected once.")
    scores = [name for name in found if name.lower() in SCORES and found.count(name) == 1]
    unread = [name for name in scores if name not in asked.values() and not options.rating]
    return [*asked.values(), *unread[:1]]


def _from_arrow(
    where: str,
    table: pa.Table,
    options: TableOptions,
    place: Callable[[int], str] | None = None,
) -> Columns:
    table = table.select(_asked_for(where, table.column_names, options))
    return Columns(where, table, place or (lambda row: f"{where}, row {row + 1}"))


def _from_matrix(where: str, matrix: Any, options: TableOptions) -> Columns:
    """Rows are users and columns items; an entry that is not zero is an interaction."""
    matrix = matrix.tocoo()
    if matrix.dtype.kind not in "biuf" or not np.isfinite(matrix.data).all():
        raise DataError(f"{where}: found {matrix.dtype} values, expected finite numbers alone.")
    stands = matrix.data != 0
    columns = {options.user: matrix.row[stands], options.item: matrix.col[stands]}
    columns[options.rating or "value"] = matrix.data[stands]
    return _from_arrow(where, pa.table(columns), options, lambda row: f"{where}, entry {row + 1}")


# Files


def _from_file(path: Path, options: TableOptions) -> Columns:
    where = path.name
    if not os.path.isfile(path):
        raise DataError(
            f"{path}: no such file (looked in {Path.cwd()}), expected a table "
            f"({', '.join(SUFFIXES)}) or a folder with train and test."
        )
    suffix = Path(re.sub(r"\.(gz|bz2|zst)$", "", where.lower())).suffix
    separator = options.separator or SEPARATORS.get(suffix)
    if suffix in MATRICES or suffix in TABLES:
        return _from_binary(path, suffix, options)
    text = _text(path, options.encoding)
    if separator:
        return _from_text(where, text, separator, options)
    if suffix == ".txt" and options.form != "rows" and options.columns is None:
        return _from_lists(where, text, options)
    raise DataError(
        f"{where}: found the suffix {suffix!r}, expected one of {', '.join(SUFFIXES)}, or what "
        "separates its columns: separator=…. Whatever else pandas reads, such as .xlsx, goes in as "
        f"a DataFrame.{nearest(suffix, SUFFIXES)}"
    )


def _from_binary(path: Path, suffix: str, options: TableOptions) -> Columns:
    try:
        if suffix in MATRICES:
            return _from_matrix(path.name, MATRICES[suffix](path), options)
        return _from_arrow(path.name, TABLES[suffix](path), options)
    except DataError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise DataError(
            f"{path.name}: cannot be read ({type(error).__name__}: {error}), expected {suffix}, "
            "neither damaged nor of another kind."
        ) from error


def _text(path: Path, encoding: str) -> bytes:
    """A file's text, unpacked, as UTF-8. Raises DataError where it is none."""
    content = path.read_bytes()
    codec = next((PACKED[start] for start in PACKED if content.startswith(start)), None)
    try:
        if codec:
            content = pa.CompressedInputStream(pa.BufferReader(content), codec).read()
    except OSError as error:
        raise DataError(
            f"{path.name}: cannot be unpacked ({error}), expected a whole file, not a damaged one."
        ) from error
    if not content.strip() or content.startswith(NO_TEXT):
        raise DataError(
            f"{path.name}: found {'another kind of file' if content.strip() else 'nothing'}, "
            "expected text, one row an interaction; a name must end in what the file is."
        )
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    try:
        return content.decode(encoding).removeprefix("\ufeff").encode()
    except (ValueError, LookupError) as error:  # of the text, or of the encoding's name
        line = content.count(b"\n", 0, getattr(error, "start", 0)) + 1
        raise DataError(
            f"{path.name}, line {line}: found what is no {encoding} text, expected the encoding "
            "that the file has: name it, most often encoding=cp1252 (Western Windows)."
        ) from error


def _from_lists(where: str, text: bytes, options: TableOptions) -> Columns:
    """Lines ``user item item …``, as LightGCN's files are; a user may have no items."""
    lines = [line.split() for line in text.decode().splitlines()]
    length = len(lines[0])
    if options.form is None and length in ROW_LENGTHS and {len(line) for line in lines} == {length}:
        raise DataError(
            f"{where}: every line has {length} words, which may be a user with {length - 1} items, "
            "or a row with columns such as user, item, rating. Say which: form=lists, or "
            "columns=user,item,rating with separator=' ' (or tab)."
        )
    users = [line[0] for line in lines for _ in line[1:]]
    items = [word for line in lines for word in line[1:]]
    number = np.repeat(np.arange(len(lines)), [max(len(line) - 1, 0) for line in lines])
    table = pa.table({options.user: users, options.item: items})
    return _from_arrow(where, table, options, lambda row: f"{where}, line {number[row] + 1}")


def _from_text(where: str, text: bytes, separator: str, options: TableOptions) -> Columns:
    """Text with one row a line. Raises DataError where a row has more or fewer values than there
    are columns, and where a value in quotation marks goes on in the next line."""
    quoted = options.quote != "none" and b'"' in text
    head = 0 if options.columns else 1
    first = re.split(r"[\r\n]", text.decode(), maxsplit=1)[:1]
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    names = next(csv.reader(first, delimiter=separator, quoting=quoting))
    if options.columns:
        names = [name.strip() for name in options.columns.split(",")]
    asked = _asked_for(where, names, options)
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(text),
            # One thread alone can say which row is wrong.
            pyarrow.csv.ReadOptions(column_names=names, skip_rows=head, use_threads=False),
            pyarrow.csv.ParseOptions(
                delimiter=separator,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
                ignore_empty_lines=False,  # so that rows are lines
            ),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(asked, pa.large_string()),
                include_columns=asked,
                null_values=[""],  # an item may well be called NA
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{where}: {' '.join(str(error).split())[:200]}. Is there another separator, a "
            "column that columns= leaves out, or a value that holds one outside of quotation "
            "marks? If these are characters like others: quote=none."
        ) from error
    lines = text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")
    lines += not text.endswith((b"\n", b"\r"))
    if options.quote == "auto" and lines != len(table) + head:
        odd = (n for n, line in enumerate(text.splitlines(), start=1) if line.count(b'"') % 2)
        raise DataError(
            f"{where}, line {next(odd, 1)}: found a value in quotation marks that goes on in the "
            f"next line; {lines:,} lines make {len(table):,} rows. If marks are characters like "
            "others: quote=none; if it is meant: quote=double."
        )
    return _from_arrow(where, table, options, lambda row: f"{where}, line {row + head + 1}")

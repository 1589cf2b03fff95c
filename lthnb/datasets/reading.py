"""A table, in a file or in memory, as the columns that it has.

Ids, ratings and times stay text where they are text. Rows are reconciled with the lines of a file.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.interchange
import pyarrow.json
import pyarrow.parquet
import scipy.sparse as sp

from lthnb.config import nearest
from lthnb.data import DataError
from lthnb.datasets.options import TableOptions
from lthnb.datasets.pickles import read_matrix

SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}
JSON = (".jsonl", ".ndjson", ".json")
BINARY = (".parquet", ".feather", ".arrow", ".npz", ".pkl")
SUFFIXES = (*SEPARATORS, ".txt", *JSON, *BINARY)
PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd"}  # by how files begin
NO_TEXT = (b"PAR1", b"PK\x03\x04", b"\x80", b"<")  # Parquet, spreadsheet or zip, pickle, web page
ROLES = ("user", "item", "rating", "time")
SCORES = ("rating", "ratings", "score", "scores", "stars", "label", "click", "like")


@dataclass(frozen=True)
class Columns:
    """What was read of one part.

    where: what to call it in a message. table: the columns that were asked for, as they stand, and
    one that may be a score. place: row → what to call it. blank: empty lines that were passed over.
    fixed: words of each line, where lists have equally many.
    """

    where: str
    table: pa.Table
    place: Callable[[int], str]
    blank: int = 0
    fixed: int | None = None

    def refuse(self, row: int, name: str, found: Any, expected: str) -> None:
        """Raise DataError for a value; a text is cut to what can be read."""
        found = repr(found[:60] if isinstance(found, str) else found)
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
            f"{part}: found a {type(source).__name__} that Arrow cannot hold "
            f"({' '.join(map(str, error.args))}), expected a table with one kind of values in each "
            "column; convert ids with astype(str)."
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
            raise DataError(
                f"{where}: column {name!r} is there {found.count(name)} times and asked for as "
                f"{' and '.join(r for r in asked if asked[r] == name)}, expected once each."
            )
    scores = [name for name in found if name.lower() in SCORES and found.count(name) == 1]
    unread = [name for name in scores if name not in asked.values() and not options.rating]
    return [*asked.values(), *unread[:1]]


def _from_arrow(
    where: str,
    table: pa.Table,
    options: TableOptions,
    place: Callable[[int], str] | None = None,
    fixed: int | None = None,
) -> Columns:
    table = table.select(_asked_for(where, table.column_names, options))
    try:
        table.validate(full=True)  # text that is no UTF-8, and the like
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{where}: found damaged columns ({error}); write it again.") from error
    return Columns(where, table, place or (lambda row: f"{where}, row {row + 1}"), fixed=fixed)


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
    lists = suffix == ".txt" and not (options.form == "rows" or options.columns)
    separator = options.separator or SEPARATORS.get(suffix)
    if suffix in BINARY:
        return _from_binary(path, suffix, options)
    if suffix in JSON:
        return _from_json(where, _text(path, options.encoding), options)
    if separator:
        return _from_text(where, _text(path, options.encoding), separator, options)
    if lists:
        return _from_lists(where, _text(path, options.encoding), options)
    raise DataError(
        f"{where}: found the suffix {suffix!r}, expected one of {', '.join(SUFFIXES)}, or what "
        "separates its columns: separator=…. Whatever else pandas reads, such as .xlsx, goes in as "
        f"a DataFrame.{nearest(suffix, SUFFIXES)}"
    )


def _from_binary(path: Path, suffix: str, options: TableOptions) -> Columns:
    try:
        if suffix == ".pkl":
            return _from_matrix(path.name, read_matrix(path), options)
        if suffix == ".npz":
            return _from_matrix(path.name, sp.load_npz(path), options)
        if suffix == ".parquet":
            return _from_arrow(path.name, pyarrow.parquet.read_table(path), options)
        return _from_arrow(path.name, pyarrow.feather.read_table(path), options)
    except DataError:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise DataError(
            f"{path.name}: cannot be read ({type(error).__name__}: {error}), expected {suffix}; "
            "it is damaged or of another kind."
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
            f"{path.name}: cannot be unpacked ({error}), expected a whole file; this one is cut "
            "off or damaged. Fetch or pack it again."
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
    users = [line[0] for line in lines for _ in line[1:]]
    items = [word for line in lines for word in line[1:]]
    number = np.repeat(np.arange(len(lines)), [max(len(line) - 1, 0) for line in lines])
    table = pa.table({options.user: users, options.item: items})
    lengths = {len(line) for line in lines if line}
    fixed = lengths.pop() if len(lengths) == 1 and len(lines) > 1 else None
    return _from_arrow(
        where, table, options, lambda row: f"{where}, line {number[row] + 1}", fixed=fixed
    )


def _from_json(where: str, text: bytes, options: TableOptions) -> Columns:
    """One object a line."""
    try:
        table = pyarrow.json.read_json(pa.BufferReader(text))
    except pa.ArrowInvalid as error:
        raise DataError(
            f"{where}: cannot be read ({error}), expected an object in each line, such as "
            '{"user": 1, "item": 2}, with one kind of values for each name.'
        ) from error
    lines = text.count(b"\n") + (not text.endswith(b"\n"))
    return replace(_from_arrow(where, table, options), blank=max(lines - len(table), 0))


def _from_text(where: str, text: bytes, separator: str, options: TableOptions) -> Columns:
    """Text with one row a line. Raises DataError where a row has more or fewer values than there
    are columns, and where a value in quotation marks holds rows."""
    quoted = options.quote != "none" and b'"' in text
    head = 0 if options.columns else 1
    names = list(options.columns or next(_rows(text, separator, quoted), (1, []))[1])
    asked = _asked_for(where, names, options)

    def place(row: int) -> str:
        rows = enumerate(_rows(text, separator, quoted), start=-head)
        return f"{where}, line {next((line for n, (line, _) in rows if n == row), None)}"

    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(text),
            pyarrow.csv.ReadOptions(column_names=options.columns and names),
            pyarrow.csv.ParseOptions(
                delimiter=separator,
                quote_char='"' if quoted else False,
                newlines_in_values=quoted,
            ),
            pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(asked, pa.large_string()),
                include_columns=asked,
                null_values=[""],  # an item may well be called NA
                strings_can_be_null=True,
            ),
        )
        rows, failure = len(table) + head, None
    except pa.ArrowInvalid as error:
        rows, failure = -1, error
    lines = text.count(b"\n") + text.count(b"\r") - text.count(b"\r\n")
    lines += not text.endswith((b"\n", b"\r"))
    found, inside = rows, 0
    if failure or (quoted and lines != rows):
        found, inside = _reconcile(where, text, separator, len(names), quoted, options.quote)
    if failure or found != rows:
        raise DataError(
            f"{where}: cannot be read as a table ({failure or 'quotation marks are not closed'}); "
            "if they are characters like others: quote=none."
        ) from failure
    return Columns(where, table, place, lines - rows - inside)


def _rows(text: bytes, separator: str, quoted: bool) -> Iterator[tuple[int, list[str]]]:
    """(line, values) of each row that is not empty, one after the other, lines from 1."""
    csv.field_size_limit(len(text) + 1)
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    lines = io.StringIO(text.decode(), newline="")
    reader, line = csv.reader(lines, delimiter=separator, quoting=quoting), 1
    for values in reader:
        if values:
            yield line, values
        line = reader.line_num + 1


def _reconcile(
    where: str, text: bytes, separator: str, width: int, quoted: bool, quote: str
) -> tuple[int, int]:
    """Rows, and lines inside of values: gone through one by one, only where something differs.

    A quotation mark that is never closed, or closed by another one far below, makes one value of
    all rows between; that is refused, unless quotation marks are said to be meant so.
    """
    rows = inside = 0
    for line, values in _rows(text, separator, quoted):
        rows += 1
        for value in values:
            more = re.split(r"\r\n|\r|\n", value)[1:]
            inside += len(more)
            if quote == "auto" and any(one.count(separator) >= width - 1 for one in more):
                raise DataError(
                    f"{where}, line {line}: found {len(more)} rows inside of one value, which "
                    f"begins with {value[:30]!r}, expected a quotation mark that is closed. If "
                    "marks are characters like others: quote=none; if it is meant: quote=double."
                )
        if len(values) != width:
            raise DataError(
                f"{where}, line {line}: found {len(values)} values in "
                f"{separator.join(values)[:60]!r}, expected {width}, one for each column. Has the "
                "file two separators, or a value that holds one outside of quotation marks? If "
                "quotation marks are characters like others: quote=none."
            )
    return rows, inside

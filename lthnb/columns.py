"""A table of one's own, read into columns: text, Parquet, DataFrame, scipy matrix, lists.

Text is read in pieces by pyarrow, ids as codes of their distinct texts, so that ten million rows
take seconds and little memory. What cannot be meant is refused with file, line and column, what was
found, what was expected and what to do; only then is a file gone through row by row, to say where.
Nothing is guessed: what could mean two things is asked for as an option.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import io
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from lthnb.config import nearest
from lthnb.data import DataError
from lthnb.parsers import numbers_by_line, pairs_of_lists, parse_pickled_matrix

PIECE = 8 << 20  # bytes of text read at once
SEPARATORS = {".csv": ",", ".tsv": "\t", ".inter": "\t"}
SUFFIXES = (*SEPARATORS, ".txt", ".parquet", ".pkl")
PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}  # behind any suffix of a text
ROLES = ("user", "item", "rating", "time")
UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "order": 1.0}  # in seconds
NEAR, FAR = 3e8, 1e11  # seconds since 1970: times outside 1979 to 5138 are of another unit
OTHER_FILES = {  # how files of other kinds begin, and what they are
    b"\x1f\x8b": "gzip; end its name in .gz",
    b"BZh": "bzip2; end its name in .bz2",
    b"\x28\xb5\x2f\xfd": "Zstandard; end its name in .zst",
    b"PAR1": "Parquet; end its name in .parquet",
    b"PK\x03\x04": "a spreadsheet or a zip archive; export or unpack it",
    b"\x80": "a pickle, most likely; it could run code and is not read: export it as text",
    b"<": "a web page, most likely; fetch the file itself",
    b"\xff\xfe": "UTF-16; say encoding=utf-16",
    b"\xfe\xff": "UTF-16; say encoding=utf-16",
}


def _option(default: Any, meaning: str):
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class TableOptions:
    """Of a table of one's own."""

    user: str = _option("user", "column of the users' ids")
    item: str = _option("item", "column of the items' ids")
    rating: str | None = _option(None, "column of ratings, where rows below threshold go")
    threshold: float | None = _option(None, "the lowest rating that counts as an interaction")
    time: str | None = _option(None, "column of times: numbers, or dates as 2026-01-31T12:00")
    time_unit: str = _option(
        "s", "unit of times that are numbers, since 1970: s, ms, us, ns; or order, for no dates"
    )
    since: str | float | None = _option(
        None, "the first moment that counts: 2026, 2026-01-31, or a number"
    )
    until: str | float | None = _option(None, "the moment from which on rows no longer count")
    core: int = _option(0, "keep users and items with at least so many partners; 0 keeps all")
    ids: str = _option(
        "auto",
        "int: only whole numbers are ids; text: 1 and 01 are two; auto: what all of them are",
    )
    columns: str | tuple[str, ...] | None = _option(
        None, "names of the columns, where a file has no header: user,item,time"
    )
    separator: str | None = _option(None, "what separates columns, where the suffix does not tell")
    encoding: str = _option("utf-8", "encoding of a text file, such as latin-1")
    decimal: str = _option(".", "what stands before the decimals of ratings, such as a comma")
    form: str | None = _option(
        None, "of .txt: lists (a user and its items in a line) or rows (one interaction in a line)"
    )

    def __post_init__(self) -> None:
        def refuse(name: str, expected: str, known=()) -> None:
            found = getattr(self, name)
            raise DataError(
                f"table: {name}: found {found!r}, expected {expected}." + nearest(found, known)
            )

        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        for role in ROLES:
            if getattr(self, role) is not None:
                put(role, str(getattr(self, role)))  # a frame's columns may be called 0 and 1
        if (self.rating is None) is not (self.threshold is None):
            raise DataError(
                f"table: found rating={self.rating!r} and threshold={self.threshold!r}, expected "
                "both or neither: a rating counts from a threshold on."
            )
        if self.threshold is not None:
            if not _is_number(self.threshold) or not math.isfinite(self.threshold):
                refuse("threshold", "a number")
            put("threshold", float(self.threshold))
        for name, known in (
            ("ids", ("auto", "int", "text")),
            ("time_unit", tuple(UNITS)),
            ("decimal", (".", ",")),
            ("form", (None, "lists", "rows")),
        ):
            if getattr(self, name) not in known:
                refuse(name, "one of " + ", ".join(k for k in known if k), filter(None, known))
        if self.core is True or not isinstance(self.core, int) or self.core < 0:
            refuse("core", "a whole number ≥ 0")
        for name in ("since", "until"):
            if (given := getattr(self, name)) is not None:
                if self.time is None:
                    raise DataError(
                        f"table: found {name}={given!r} and no time, expected the column of "
                        "times: name it with time=…."
                    )
                self.moment(name)
        if None not in (self.since, self.until) and self.moment("since") >= self.moment("until"):
            raise DataError(
                f"table: found since={self.since!r} and until={self.until!r}, expected the first "
                "to come before the second."
            )
        if self.columns is not None:
            given = self.columns
            names = given.split(",") if isinstance(given, str) else given
            if not isinstance(names, (list, tuple)) or not all(str(n).strip() for n in names):
                refuse("columns", "names separated by commas")
            put("columns", tuple(str(n).strip() for n in names))
        if self.separator is not None:
            put("separator", {"tab": "\t", "\\t": "\t"}.get(self.separator, self.separator))
            if self.separator != "\t" and not str(self.separator).isprintable():
                refuse("separator", "a character, or tab")
        try:
            "".encode(self.encoding)
        except (LookupError, TypeError):
            refuse("encoding", "a name that Python knows, such as utf-8 or latin-1")

    def moment(self, name: str) -> float:
        """`since` or `until` in the seconds that times are brought to. Raises DataError."""
        given = getattr(self, name)
        text = str(given).strip()
        if self.time_unit != "order" and re.fullmatch(r"\d{4}(-\d\d(-\d\d([T ][\d:.]+)?)?)?", text):
            with contextlib.suppress(ValueError):
                return np.datetime64(text, "us").astype(np.int64) / 1e6
        elif _is_number(given) or re.fullmatch(r"-?\d+(\.\d*)?", text):
            return float(text) * UNITS[self.time_unit]
        raise DataError(
            f"table: {name}: found {given!r}, expected a moment as 2026, 2026-01-31 or "
            "2026-01-31T12:00 (UTC), or a number in the column's unit."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


@dataclass(frozen=True)
class Columns:
    """The columns of one part, as they stand: role → pyarrow array, of one length.

    `rating` and `time` are float64, times in seconds. place: what to call a row in a message.
    fixed: how many numbers each line has, where lines are lists and have equally many.
    """

    where: str
    names: dict[str, str]  # role → the column's name
    values: dict[str, Any]
    place: Callable[[int], str]
    fixed: int | None = None

    def __len__(self) -> int:
        return len(self.values["user"])

    def refuse(self, row: int, role: str, found: Any, expected: str) -> None:
        """Raise DataError for a value."""
        raise DataError(
            f"{self.place(row)}, column {self.names[role]!r}: found {found}, expected {expected}"
        )


def name_and_kind(path: Path) -> tuple[str, str, str | None]:
    """A path's name without suffixes, the suffix that tells the kind, and how it is packed."""
    name, packed = path.name, None
    if path.suffix.lower() in PACKED:
        packed, name = PACKED[path.suffix.lower()], path.stem
    inner = Path(name)
    return inner.stem, inner.suffix.lower(), packed


def read(source: Any, options: TableOptions, part: str, progress: bool) -> Columns:
    """The columns of a path, a pandas DataFrame or a scipy sparse matrix; `part` is what to call
    one that has no name. Raises DataError."""
    if sp.issparse(source):
        return _from_matrix(source, options, part)
    if hasattr(source, "columns"):  # a DataFrame, told without importing pandas
        return _from_frame(source, options, part)
    if not isinstance(source, (str, Path)):
        raise DataError(
            f"{part}: found a {type(source).__name__}, expected a path, a pandas DataFrame or a "
            "scipy sparse matrix of users × items."
        )
    path = Path(source)
    if not path.is_file():
        raise DataError(
            f"{path}: no such file (looked in {Path.cwd()}), expected a table "
            f"({', '.join(SUFFIXES)}) or a folder with train and test."
        )
    _, suffix, packed = name_and_kind(path)
    if suffix not in SUFFIXES and options.separator is None:
        raise DataError(
            f"{path.name}: found the suffix {suffix!r}, expected one of {', '.join(SUFFIXES)}; "
            "name the file so, or say what separates its columns: separator=…. Whatever pandas "
            "reads, such as .json, .xlsx and .dat with '::', goes in as a DataFrame, or as what "
            "its to_parquet writes." + nearest(suffix, SUFFIXES)
        )
    if suffix == ".parquet":
        return _from_parquet(path, options, progress)
    if suffix == ".pkl":
        rows, columns = parse_pickled_matrix(path)
        return _numbered(path.name, rows, columns, lambda row: f"{path.name}, entry {row + 1}")
    text = _Text(path, packed, options.encoding, progress)
    rows = options.form == "rows" or options.separator or options.columns
    if suffix == ".txt" and not rows:
        return _from_lists(text)
    separator = options.separator or SEPARATORS.get(suffix)
    if separator is None:
        raise DataError(
            f"{path.name}: found form='rows' and no separator, expected one, such as "
            "separator=tab: a .txt does not say what separates its columns."
        )
    return _from_text(text, options, separator)


# Text


class _Text:
    """A text file, perhaps packed: its bytes as UTF-8, as often as they are needed."""

    def __init__(self, path: Path, packed: str | None, encoding: str, progress: bool) -> None:
        self.path, self.packed, self.encoding = path, packed, encoding
        self.name, self.progress = path.name, progress
        with self.open() as stream:
            start = stream.read(1 << 10)
        if not start.strip():
            raise DataError(
                f"{self.name}: found nothing in it, expected a header and one row an interaction."
            )

    @contextlib.contextmanager
    def open(self, progress: bool = False) -> Iterator[Any]:
        """A pyarrow stream from the beginning. Raises DataError where it cannot be unpacked."""
        pa = pyarrow(self.name)
        from tqdm import tqdm
        from tqdm.utils import CallbackIOWrapper

        with (
            self.path.open("rb") as file,
            tqdm(
                total=self.path.stat().st_size,
                desc=f"reading {self.name}",
                unit="B",
                unit_scale=True,
                delay=1,
                leave=False,
                disable=not (progress and self.progress),
            ) as bar,
        ):
            self._refuse_other_kinds(file.peek(4))
            stream = pa.PythonFile(CallbackIOWrapper(bar.update, file, "read"), mode="r")
            try:
                if self.packed:
                    stream = pa.CompressedInputStream(stream, self.packed)
                if self.encoding.lower() not in ("utf-8", "utf8"):
                    stream = pa.transcoding_input_stream(stream, self.encoding, "utf-8")
                yield stream
            except UnicodeError as error:
                raise DataError(
                    f"{self.name}: found bytes that are no {self.encoding} text ({error}); name "
                    "the file's encoding: encoding=…."
                ) from error
            except OSError as error:
                raise DataError(
                    f"{self.name}: cannot be unpacked ({error}); found a file that is cut off or "
                    "damaged, expected a whole one. Fetch or pack it again."
                    if self.packed
                    else f"{self.name}: cannot be read: {error}"
                ) from error

    def _refuse_other_kinds(self, start: bytes) -> None:
        for magic, what in OTHER_FILES.items():
            if start.startswith(magic) and not (
                self.packed or ("utf-16" in what and self.encoding.lower().startswith("utf-16"))
            ):
                raise DataError(f"{self.name}: found another kind of file than text: {what}.")

    def rows(self, separator: str) -> Iterator[tuple[int, list[str]]]:
        """(line, values) of every row that is not empty, one after the other, lines from 1."""
        with self.open() as stream:
            lines = io.TextIOWrapper(stream, "utf-8-sig", newline="")
            reader = csv.reader(lines, delimiter=separator)
            line = 1
            try:
                for values in reader:
                    if values:
                        yield line, values
                    line = reader.line_num + 1
            except UnicodeDecodeError:
                self._refuse_bytes()
            except csv.Error as error:
                raise DataError(f"{self.name}, line {line}: cannot be read: {error}.") from error

    def _refuse_bytes(self) -> None:
        """Raise DataError naming the first line that is no UTF-8."""
        with self.open() as stream:
            for number, line in enumerate(io.BufferedReader(stream), start=1):
                try:
                    line.decode()
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{self.name}, line {number}: found the byte 0x{line[error.start]:02x}, "
                        "expected UTF-8 text; name the encoding that the file has, most often "
                        "encoding=cp1252 (Western Windows)."
                    ) from error


def _from_text(text: _Text, options: TableOptions, separator: str) -> Columns:
    """Columns of a text file with one row an interaction."""
    pa = pyarrow(text.name)
    from pyarrow import csv as arrow

    if len(separator.encode()) != 1:
        raise DataError(
            f"{text.name}: found the separator {separator!r}, expected one character; read such a "
            f"file with pandas.read_csv({text.name!r}, sep={separator!r}, engine='python', …) and "
            "pass the DataFrame, or what its to_parquet writes."
        )
    rows = text.rows(separator)
    _, names = next(rows, (1, []))
    first = names if options.columns else next(rows, (2, []))[1]
    rows.close()
    names = list(options.columns or names)
    _check_columns(text.name, names, options, separator)
    if not first:
        raise DataError(f"{text.name}: found a header and no row, expected one row an interaction.")
    ids = pa.dictionary(pa.int32(), pa.string())
    wanted = _roles(options)
    kinds = {
        name: ids if role in ("user", "item") else pa.float64() for role, name in wanted.items()
    }
    dated = (
        len(first) == len(names)
        and "time" in wanted
        and not _reads_as_number(at := first[names.index(options.time)])
    )
    if dated:
        zone = "UTC" if re.search(r"(Z|[+-]\d\d:?\d\d)$", at.strip()) else None
        kinds[options.time] = pa.timestamp("us", zone)
    try:
        with text.open(progress=True) as stream:
            reader = arrow.open_csv(
                stream,
                arrow.ReadOptions(block_size=PIECE, column_names=options.columns and names),
                arrow.ParseOptions(delimiter=separator, newlines_in_values=True),
                # Nothing but an empty field is missing: an item may well be called NA.
                arrow.ConvertOptions(
                    column_types=kinds,
                    include_columns=list(kinds),
                    null_values=[""],
                    strings_can_be_null=True,
                    decimal_point=options.decimal,
                ),
            )
            table = pa.Table.from_batches(reader, reader.schema).unify_dictionaries()
    except pa.ArrowInvalid as error:
        _explain(text, names, separator, kinds, error, headless=bool(options.columns))

    def place(row: int) -> str:
        with contextlib.suppress(DataError):
            for number, (line, _) in enumerate(text.rows(separator), start=-(not options.columns)):
                if number == row:
                    return f"{text.name}, line {line}"
        return f"{text.name}, data row {row + 1}"

    columns = Columns(text.name, wanted, {r: table[n] for r, n in wanted.items()}, place)
    return _numeric(columns, options)


def _reads_as_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        float(text)
        return True
    return text == ""


def _explain(text, names, separator, kinds, error, headless: bool) -> None:
    """Raise DataError for what pyarrow could not read, naming the line."""
    pa = pyarrow(text.name)
    for number, (line, values) in enumerate(text.rows(separator), start=-(not headless)):
        if number < 0:
            continue
        if len(values) != len(names):
            shown = separator.join(values)
            others = [s for s in (",", ";", "\t", "|") if s != separator and s in shown]
            hint = (
                f" It has {others[0]!r}: are there two separators in one file?"
                if others
                else " A quotation mark without its partner does this, too."
                if "\n" in shown
                else " Put values that hold the separator into quotation marks."
            )
            raise DataError(
                f"{text.name}, line {line}: found {len(values)} values in {shown[:60]!r}, expected "
                f"{len(names)}, one for each column.{hint}"
            )
        for name, kind in kinds.items():
            value = values[names.index(name)]
            if pa.types.is_dictionary(kind) or value == "":
                continue
            try:
                pa.scalar(value.strip()).cast(kind)
            except pa.ArrowInvalid:
                what = "a number"
                if re.fullmatch(r"-?\d+,\d+", value):
                    what = "a number; say decimal=, if the comma stands before decimals"
                elif not pa.types.is_floating(kind):
                    what = (
                        "a date such as 2026-01-31T12:00, all with a time zone or none; other "
                        "forms go through pandas.to_datetime and a DataFrame"
                    )
                raise DataError(
                    f"{text.name}, line {line}, column {name!r}: found {value[:60]!r}, expected "
                    f"{what}."
                ) from error
    raise DataError(
        f"{text.name}: cannot be read as a table separated by {separator!r}: {error}"
    ) from error


def _from_lists(text: _Text) -> Columns:
    """Columns of a file with a user and its items in each line."""
    with text.open(progress=True) as stream:
        values, line = numbers_by_line(stream.read(), text.name)
    users, items = pairs_of_lists(values, line)
    first = np.ones(len(line), bool)
    first[1:] = line[1:] != line[:-1]
    lengths = np.diff(np.append(np.flatnonzero(first), len(line)))
    fixed = int(lengths[0]) if len(lengths) > 1 and (lengths == lengths[0]).all() else None
    lines = line[~first]
    return _numbered(
        text.name, users, items, lambda row: f"{text.name}, line {lines[row] + 1}", fixed
    )


# Other forms


def _from_parquet(path: Path, options: TableOptions, progress: bool) -> Columns:
    pa = pyarrow(path.name)
    from pyarrow import parquet
    from tqdm import tqdm

    try:
        file = parquet.ParquetFile(path)
        wanted = _roles(options)
        _check_columns(path.name, file.schema_arrow.names, options)
        groups = tqdm(
            range(file.num_row_groups),
            desc=f"reading {path.name}",
            unit="group",
            delay=1,
            leave=False,
            disable=not progress,
        )
        pieces = [file.read_row_group(k, columns=list(wanted.values())) for k in groups]
        table = pa.concat_tables(pieces or [file.schema_arrow.empty_table()])
        table.validate(full=True)  # text that is no UTF-8, and the like
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path.name}: cannot be read as Parquet ({error}); it is damaged or of another kind."
        ) from error
    columns = Columns(
        path.name,
        wanted,
        {role: table[name] for role, name in wanted.items()},
        lambda row: f"{path.name}, row {row + 1}",
    )
    return _numeric(columns, options)


def _from_frame(frame, options: TableOptions, part: str) -> Columns:
    pa = pyarrow(part)
    import pandas as pd

    wanted = _roles(options)
    _check_columns(part, list(frame.columns), options)
    called = {str(name): name for name in frame.columns}
    values = {}
    for role, name in wanted.items():
        column = frame[called[name]]
        try:
            values[role] = pa.chunked_array([pa.Array.from_pandas(column)])
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            kind = pd.api.types.infer_dtype(column, skipna=True)
            raise DataError(
                f"{part}, column {name!r}: found values of kind {kind!r}, for example "
                f"{column.iloc[0]!r}, expected {KINDS[role]}; convert them with astype(str)."
            ) from error
    return _numeric(
        Columns(part, wanted, values, lambda row: f"{part}, data row {row + 1}"), options
    )


def _from_matrix(matrix, options: TableOptions, part: str) -> Columns:
    """Rows are users and columns items; an entry that is not zero is an interaction."""
    matrix = matrix.tocoo()
    if not np.isfinite(matrix.data).all():
        at = int((~np.isfinite(matrix.data)).argmax())
        raise DataError(
            f"{part}, row {matrix.row[at]}, column {matrix.col[at]}: found {matrix.data[at]}, "
            "expected a finite number."
        )
    stands = matrix.data != 0
    users, items = matrix.row[stands].astype(np.int64), matrix.col[stands].astype(np.int64)
    columns = _numbered(part, users, items, lambda row: f"{part}, entry {row + 1}")
    if options.threshold is None:
        return columns
    values = {**columns.values, "rating": matrix.data[stands].astype(np.float64)}
    return dataclasses.replace(columns, values=values)


def _numbered(where, users, items, place, fixed: int | None = None) -> Columns:
    """Columns of ids that are whole numbers already."""
    names = {"user": "user", "item": "item", "rating": "rating"}
    pa = pyarrow(where)
    values = {
        "user": pa.chunked_array([pa.array(users, pa.int64())]),
        "item": pa.chunked_array([pa.array(items, pa.int64())]),
    }
    return Columns(where, names, values, place, fixed)


def pyarrow(where: str):
    """The package, imported. Raises DataError where it is missing."""
    try:
        import pyarrow
    except ImportError as error:
        raise DataError(f"{where}: reading a table needs pyarrow: pip install pyarrow.") from error
    return pyarrow


def _roles(options: TableOptions) -> dict[str, str]:
    """Role → name of the column, for the columns that are read."""
    return {role: name for role in ROLES if (name := getattr(options, role)) is not None}


def _check_columns(where: str, found: list[Any], options: TableOptions, separator="") -> None:
    said = [str(name) for name in found]
    wanted = _roles(options)
    for role, name in wanted.items():
        if name not in said:
            others = [s for s in (",", ";", "\t", "|") if s != separator and s in "".join(said)]
            hint = nearest(name, said)
            if separator and others:
                hint = f" The header has {others[0]!r}: is separator={others[0]!r} meant?"
            elif separator and any(cell and _reads_as_number(cell) for cell in said):
                hint = " These are no names: say what the columns are, columns=user,item,…."
            raise DataError(
                f"{where}{', line 1' if separator else ''}: no column {name!r} for the {role}s, "
                f"found {', '.join(map(repr, said[:20]))}; name it with {role}=….{hint}"
            )
        if said.count(name) > 1:
            raise DataError(f"{where}: {said.count(name)} columns are called {name!r}, expected 1.")
    for role, name in wanted.items():
        for other, same in wanted.items():
            if role < other and name == same:
                raise DataError(
                    f"{where}: column {name!r} is given for the {role}s and for the {other}s, "
                    "expected one for each."
                )


# From columns to pairs

KINDS = {
    "user": "whole numbers or text",
    "item": "whole numbers or text",
    "rating": "numbers",
    "time": "numbers or dates",
}


def _numeric(columns: Columns, options: TableOptions) -> Columns:
    """Ratings and times as float64, times in seconds, each of them a finite number."""
    pa = pyarrow(columns.where)
    values = dict(columns.values)
    for role in ("rating", "time"):
        if role not in values:
            continue
        column = values[role]
        unit = UNITS[options.time_unit] if role == "time" else 1.0
        if role == "time" and (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
            column, unit = column.cast(pa.timestamp("us")).cast(pa.int64()), 1e-6
        kind = column.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            columns.refuse(0, role, f"a value of kind {kind}", f"{KINDS[role]}.")
        numbers = column.cast(pa.float64(), safe=False).to_numpy()
        wrong = ~np.isfinite(numbers)  # what is missing has become NaN
        if wrong.any():
            row = int(wrong.argmax())
            found = "an empty field" if column[row].as_py() is None else repr(column[row].as_py())
            columns.refuse(
                row,
                role,
                found,
                f"a finite number; rows without one: {int(wrong.sum())}. Remove them.",
            )
        values[role] = numbers * unit
        if role == "time" and unit != 1e-6:
            _check_unit(columns, numbers, options.time_unit)
    return dataclasses.replace(columns, values=values)


def _check_unit(columns: Columns, times: np.ndarray, unit: str) -> None:
    """Refuse times that are of another unit than said: seconds of the year 52,000, or of 1970."""
    if unit == "order" or not len(times):
        return
    middle = abs(float(np.median(times)))
    if NEAR <= middle * UNITS[unit] < FAR:
        return
    fits = [u for u in ("s", "ms", "us", "ns") if NEAR <= middle * UNITS[u] < FAR]
    meant = f"; time_unit={fits[0]} is meant, most likely" if fits else ", from 1980 on"
    columns.refuse(
        0,
        "time",
        f"{times[0]:.15g}, as most others of the size {middle:.1e}",
        f"times in {unit} since 1970{meant}. Say time_unit=order if they are no dates.",
    )

"""The one reader: a table, in a file or in memory, to :class:`Raw` pairs.

Ids are read as text and become numbers only where nothing is lost by it. Every row that was there
is a pair in the end, or counted among what was left out. What could mean two things is asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from lthnb.data import PARTS, DataError, k_core
from lthnb.datasets.assembling import Raw
from lthnb.datasets.options import UNITS, TableOptions
from lthnb.datasets.reading import ROLES, Columns, read

STEMS = {part: part for part in PARTS}  # how a part's file may begin
STEMS |= {"val": "valid", "validation": "valid", "dev": "valid"}
STEMS |= {"trnmat": "train", "valmat": "valid", "tstmat": "test"}  # HKUDS
NEAR, FAR = 3e8, 1e11  # seconds since 1970: times outside 1979 to 5138 are of another unit
LONGEST = 500  # characters of a label
IDS = ("user", "item")
NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
ROUNDED = r"^\d(\.\d+)?[eE]\+\d+$"  # as a spreadsheet writes a number that is too long for it
HEADER = r"(?i)^((user|item|movie|product|book|artist|song)s?([ _-]?(id|name))?|[ui]?id)$"


def looks_like_table(source: Any) -> bool:
    """Whether `source` is no name but a table: a path, a frame, a matrix, or a dict of parts."""
    if isinstance(source, str):
        path = Path(source)
        return path.suffix != "" or len(path.parts) > 1 or path.is_dir()
    frame = any(hasattr(source, name) for name in ("__arrow_c_stream__", "__dataframe__"))
    return isinstance(source, (Path, Mapping, pd.DataFrame)) or sp.issparse(source) or frame


def parts_of(source: Any) -> tuple[str, dict[str, Any]]:
    """A table's name, and what is to be read for each part: ``"all"``, or train, valid and test.

    Raises DataError where a folder or a dict lacks a part, or has another.
    """
    source = Path(source) if isinstance(source, str) else source
    if isinstance(source, Path) and not source.is_dir():
        return source.name.split(".")[0] or source.name, {"all": source}
    if not isinstance(source, (Path, Mapping)):
        return "table", {"all": source}
    name, given = "table", source
    if isinstance(source, Path):
        name, given = source.resolve().name, {}
        for path in sorted(source.iterdir()):
            if part := STEMS.get(path.name.split(".")[0].lower()):
                if part in given:
                    raise DataError(f"{name}: found two files for {part}, expected one.")
                given[part] = path
    if not {"train", "test"} <= set(given) <= set(PARTS):
        raise DataError(
            f"{name}: found the parts {', '.join(given) or 'none'}, expected train and test, and "
            "perhaps valid; for a single table, give the path of the file."
        )
    return name, {part: given[part] for part in PARTS if part in given}


def read_parts(parts: Mapping[str, Any], options: TableOptions) -> Raw:
    """The coded pairs of all parts; labels are those that occur, sorted.

    parts: ``"all"``, or train, test and perhaps valid → what :func:`reading.read` takes. Raises
    DataError.
    """
    if "all" not in parts and options.core:
        raise DataError(
            f"table: found core={options.core} for given parts, expected none: it would change "
            "the split. Filter before you split."
        )
    names = {part: "table" if part == "all" else part for part in parts}
    rows = _Rows([read(parts[part], options, names[part]) for part in parts], options)
    header = _matches(rows.values["user"], HEADER) & _matches(rows.values["item"], HEADER)
    expected = "an interaction: this looks like a header; remove it, or leave out columns=."
    rows.check("user", ~header, expected)
    codes, labels = {}, {}
    for role in IDS:
        codes[role], labels[role] = rows.coded(role)
    kept = np.ones(len(rows.at), bool)
    if options.rating is not None:
        ratings = rows.numbers("rating")
        kept = ratings >= options.threshold
        rows.counts["below_threshold"] = int((~kept).sum())
    times = None if options.time is None else rows.times()
    if options.core:
        left = np.flatnonzero(kept)
        outside = left[~k_core(codes["user"][left], codes["item"][left], options.core)]
        rows.counts["outside_core"] = len(outside)
        kept[outside] = False
    if np.bincount(rows.part[kept], minlength=len(parts)).min() == 0:
        raise DataError(
            f"{rows.where}: no row is left with threshold={options.threshold} and "
            f"core={options.core}, expected some."
        )
    for role in IDS:
        occurs, codes[role] = np.unique(codes[role][kept], return_inverse=True)
        labels[role] = labels[role][occurs]
    part = rows.part[kept]
    return Raw(
        {p: (codes["user"][part == k], codes["item"][part == k]) for k, p in enumerate(parts)},
        labels["user"],
        labels["item"],
        rows.counts,
        times=times[kept] if times is not None and "all" in parts else None,
        notes=rows.notes,
    )


class _Rows:
    """The rows of all parts, one after the other, blank ones left out.

    where: what to call them in a message. at: the place of each among the rows of its part; part:
    the number of that part, both (rows,). counts, notes: what was found.
    """

    def __init__(self, columns: list[Columns], options: TableOptions) -> None:
        self.columns, self.options, self.where = columns, options, columns[0].where
        self.values: dict[str, pa.ChunkedArray] = {}
        for role in ROLES:
            if (name := getattr(options, role)) is not None:
                found = [_plain(one, name, role in IDS) for one in columns]
                if len({column.type for column in found}) > 1:
                    found = [column.cast(pa.large_string()) for column in found]
                chunks = [chunk for column in found for chunk in column.chunks]
                self.values[role] = pa.chunked_array(chunks, found[0].type)
        sizes = [one.table.num_rows for one in columns]
        empty = np.logical_and.reduce([c.is_null().to_numpy() for c in self.values.values()])
        filled = np.flatnonzero(~empty)
        self.part = np.repeat(np.arange(len(columns)), sizes)[filled]
        found = np.bincount(self.part, minlength=len(columns))
        if not found.all():
            where = columns[found.argmin()].where
            raise DataError(f"{where}: found no row, expected one row an interaction.")
        self.at = np.concatenate([np.arange(size) for size in sizes])[filled]
        self.values = {role: column.take(filled) for role, column in self.values.items()}
        self.counts = {"rows": sum(sizes)}
        if blank := sum(sizes) - len(filled):
            self.counts["blank_rows"] = blank
        self.notes = [
            f"{one.where}: column {name!r} is not read, so each row counts. If low values are no "
            f"interactions: rating={name} and a threshold."
            for one in columns
            for name in one.table.column_names
            if name not in [getattr(options, role) for role in ROLES]
        ]
        for role, column in self.values.items():
            expected = f"a value in each row; rows without one: {column.null_count}. Remove them."
            self.check(role, column.is_valid().to_numpy(), expected)

    def check(self, role: str, fits: np.ndarray, expected: str) -> None:
        """Refuse the first row that does not fit; fits: bool, (rows,). Raises DataError."""
        if not fits.all():
            row = int(fits.argmin())
            found, name = self.values[role][row].as_py(), getattr(self.options, role)
            self.columns[self.part[row]].refuse(int(self.at[row]), name, found, expected)

    def numbers(self, role: str) -> np.ndarray:
        """A column as float64, each of them a finite number."""
        column = self.values[role]
        if pa.types.is_large_string(column.type):
            column = pc.utf8_trim_whitespace(column)
            fits = pc.match_substring_regex(column, NUMBER).to_numpy()
            self.check(role, fits, "a finite number, with a point before decimals.")
        elif not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            self.check(role, np.zeros(len(column), bool), "a number.")
        numbers = column.cast(pa.float64(), safe=False).to_numpy()
        self.check(role, np.isfinite(numbers), "a finite number; remove such rows.")
        return numbers

    def times(self) -> np.ndarray:
        """The column of times as float64: seconds since 1970, or what says only what came first."""
        column, unit = self.values["time"], self.options.time_unit
        text = pa.types.is_large_string(column.type)
        column = pc.utf8_trim_whitespace(column) if text else column
        if text and not re.match(NUMBER, column[0].as_py()):
            found = pd.to_datetime(column.to_pandas(), utc=True, format="ISO8601", errors="coerce")
            expected = "a date such as 2026-01-31T12:00; other forms go through pandas.to_datetime."
            self.check("time", found.notna().to_numpy(), expected)
            return found.dt.as_unit("us").astype(np.int64).to_numpy() * 1e-6
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            return column.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy() * 1e-6
        numbers = self.numbers("time")
        middle = abs(float(np.median(numbers)))
        if unit != "order" and not NEAR <= middle * UNITS[unit] < FAR:
            fits = [u for u in UNITS if u == "order" or NEAR <= middle * UNITS[u] < FAR]
            expected = f"times in {unit} since 1970; what fits is time_unit={' or '.join(fits)}."
            self.check("time", np.zeros(len(numbers), bool), expected)
        return numbers * UNITS[unit]

    def coded(self, role: str) -> tuple[np.ndarray, np.ndarray]:
        """The code of each row, and the labels, sorted: whole numbers where all ids are, else
        text."""
        coded = self.values[role].combine_chunks().dictionary_encode()
        texts, codes = coded.dictionary, coded.indices.to_numpy()
        if self.options.ids == "auto":
            whole = _matches(texts, r"^(0|[1-9]\d*)(\.0*)?$")
            for kind in (pa.int64(), pa.uint64()) if whole.all() else ():  # larger ones stay text
                try:
                    numbers = pc.replace_substring_regex(texts, r"\..*$", "").cast(kind)
                except pa.ArrowInvalid:
                    continue
                labels, place = np.unique(numbers.to_numpy(), return_inverse=True)
                return place[codes], labels
            expected = "an id with all its digits: a spreadsheet has rounded this one. Export the "
            expected += "column as text, or say ids=text if it is a name."
            self.check(role, ~_matches(texts, ROUNDED)[codes], expected)
            if whole.any() and not whole.all():
                self.notes.append(
                    f"All {role}s are taken as text: {(~whole).sum():,} of {len(texts):,} are no "
                    f"whole numbers, such as {texts[int(whole.argmin())].as_py()!r}."
                )
        # numpy would take a NUL for the end of a text, and all labels take the room of the longest.
        wrong = _matches(texts, "\0") | (pc.utf8_length(texts).to_numpy() > LONGEST)
        expected = f"an id of at most {LONGEST} characters, without NUL; is this the right column?"
        self.check(role, ~wrong[codes], expected)
        labels, place = np.unique(np.array(texts.to_pylist(), dtype=str), return_inverse=True)
        return place[codes], labels


def _matches(texts: pa.Array | pa.ChunkedArray, pattern: str) -> np.ndarray:
    """bool, one a text: whether it holds what a regular expression describes."""
    return pc.match_substring_regex(texts, pattern).to_numpy(zero_copy_only=False)


def _plain(one: Columns, name: str, ids: bool) -> pa.ChunkedArray:
    """A column without categories; of ids, as text, missing ones null. Refuses other kinds."""
    column, expected = one.table[name], "whole numbers or text; convert them with astype(str)."
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        column = column.cast(pa.large_string())
        blank = pc.equal(pc.utf8_trim_whitespace(column), "")
        return pc.if_else(blank, pa.scalar(None, pa.large_string()), column)
    if pa.types.is_floating(kind):
        numbers = column.to_numpy()
        column = pa.chunked_array([pa.array(numbers, mask=np.isnan(numbers))])
        wrong = (numbers % 1 != 0) & ~np.isnan(numbers) | (np.abs(numbers) > 2**53)  # not exact
        if ids and wrong.any():
            one.refuse(int(wrong.argmax()), name, float(numbers[wrong.argmax()]), expected)
        column = column.cast(pa.int64()) if ids else column
    elif ids and not pa.types.is_integer(kind) and len(column) and not pa.types.is_null(kind):
        one.refuse(0, name, column[0].as_py(), expected)
    return column.cast(pa.large_string()) if ids else column

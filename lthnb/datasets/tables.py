"""The one reader: a table, in a file or in memory, to :class:`Raw` pairs.

Ids are read as text and become numbers only where nothing is lost by it. Every row that was there
is a pair in the end, or counted among what was left out. What cannot be meant is refused with its
place, what was found, what was expected and what to do. Nothing is guessed: what could mean two
things is asked for as an option.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import scipy.sparse as sp

from lthnb.config import nearest
from lthnb.data import PARTS, DataError, k_core
from lthnb.datasets.assembling import Raw, moment
from lthnb.datasets.options import UNITS, TableOptions
from lthnb.datasets.reading import Columns, read

STEMS = {part: part for part in PARTS}  # how a part's file may begin
STEMS |= {"val": "valid", "validation": "valid", "dev": "valid"}
STEMS |= {"trnmat": "train", "valmat": "valid", "tstmat": "test"}  # HKUDS
ROW_LENGTHS = range(3, 9)  # words in every line which may be columns as well as lists
NEAR, FAR = 3e8, 1e11  # seconds since 1970: times outside 1979 to 5138 are of another unit
FEW = 0.01  # share of texts among numbers that is taken for a mistake
LONGEST = 500  # characters of a label, which all take the room of the longest
NOTHING = ("nan", "NaN", "NA", "N/A", "<NA>", "null", "NULL", "None", "\\N", "-")
NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"
HEADER = re.compile(  # what a column of ids may be called
    r"(user|item|movie|product|book|artist|track|song|video|photo|business|customer|visitor)s?"
    r"([ _-]?(id|name|key|no))?|[ui]?id",
    re.IGNORECASE,
)


def looks_like_table(source: Any) -> bool:
    """Whether `source` is no name but a table: a path, a frame, a matrix, or a dict of parts."""
    if isinstance(source, str):
        path = Path(source)
        return path.suffix != "" or len(path.parts) > 1 or os.path.isdir(path)
    frame = any(hasattr(source, name) for name in ("__arrow_c_stream__", "__dataframe__"))
    return isinstance(source, (Path, Mapping, pd.DataFrame)) or sp.issparse(source) or frame


def parts_of(source: Any) -> tuple[str, dict[str, Any]]:
    """A table's name, and what is to be read for each part: ``"all"``, or train, valid and test.

    Raises DataError where a folder or a dict lacks a part, or has another.
    """
    source = Path(source) if isinstance(source, str) else source
    if isinstance(source, Path) and not os.path.isdir(source):
        return source.name.split(".")[0] or source.name, {"all": source}
    if not isinstance(source, (Path, Mapping)):
        return "table", {"all": source}
    name, given = "table", source
    if isinstance(source, Path):
        name, given = source.resolve().name, {}
        for path in sorted(source.iterdir()):
            part = STEMS.get(path.name.split(".")[0].lower())
            if part in given:
                raise DataError(
                    f"{name}: found both {given[part].name} and {path.name}, expected one file "
                    f"for {part}."
                )
            if part:
                given[part] = path
    for part in given:
        if part not in PARTS:
            raise DataError(
                f"{name}: found a part {part!r}, expected {', '.join(PARTS)}."
                + nearest(part, PARTS)
            )
    if "train" not in given or "test" not in given:
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
    for option in ("core", "since", "until"):
        if "all" not in parts and getattr(options, option):
            raise DataError(
                f"table: found {option}={getattr(options, option)!r} for parts that are given, "
                "expected none: it would change the split. Filter before you split."
            )
    rows = _Rows(
        [
            read(source, options, "table" if part == "all" else part)
            for part, source in parts.items()
        ],
        options,
    )
    counts, notes, codes, labels = rows.counts, rows.notes, {}, {}
    for role in ("user", "item"):
        codes[role], labels[role] = rows.coded(role)
    kept, times = np.ones(len(rows.at), bool), None
    if options.rating is not None:
        ratings = rows.numbers("rating")
        kept = ratings >= options.threshold
        counts["below_threshold"] = int((~kept).sum())
        if np.bincount(rows.part[kept], minlength=len(parts)).min() == 0:
            raise DataError(
                f"{rows.where}: no rating in column {options.rating!r} reaches the threshold "
                f"{options.threshold}; the highest is {ratings.max():g}."
            )
    if options.time is not None:
        times = rows.times()
    if options.since is not None or options.until is not None:
        inside = times >= options.moment("since", -np.inf)
        inside &= times < options.moment("until", np.inf)
        counts["outside_period"] = int((kept & ~inside).sum())
        kept &= inside
        if inside.all():
            notes.append("The period, by since and until, leaves nothing out.")
        if not kept.any():
            span = [moment(t, options.time_unit != "order") for t in (times.min(), times.max())]
            raise DataError(
                f"{rows.where}: no row lies in the period since={options.since}, until="
                f"{options.until}; times go from {span[0]} to {span[1]}."
            )
    if options.core:
        left = np.flatnonzero(kept)
        outside = left[~k_core(codes["user"][left], codes["item"][left], options.core)]
        counts["outside_core"] = len(outside)
        kept[outside] = False
        if not kept.any():
            raise DataError(
                f"{rows.where}: no user and item is left with core={options.core} partners, "
                "expected some; choose a smaller core."
            )
    for role in ("user", "item"):
        occurs, codes[role] = np.unique(codes[role][kept], return_inverse=True)
        labels[role] = labels[role][occurs]
        notes += _odd_labels(role, labels[role])
    part = rows.part[kept]
    return Raw(
        {p: (codes["user"][part == k], codes["item"][part == k]) for k, p in enumerate(parts)},
        labels["user"],
        labels["item"],
        counts,
        times=times[kept] if times is not None and "all" in parts else None,
        dated=options.time_unit != "order",
        notes=notes,
    )


class _Rows:
    """The rows of all parts, one after the other, blank ones left out.

    where: what to call them in a message. at: the place of each among the rows of its part; part:
    the number of that part, both (rows,). counts, notes: what was found.
    """

    def __init__(self, columns: list[Columns], options: TableOptions) -> None:
        self.columns, self.options, self.where = columns, options, columns[0].where
        lengths = {one.fixed for one in columns}
        if options.form is None and len(lengths) == 1 and (length := lengths.pop()) in ROW_LENGTHS:
            raise DataError(
                f"{self.where}: every line has {length} words, which may be a user with "
                f"{length - 1} items, or a row with columns such as user, item, rating. Say which: "
                "form=lists, or columns=user,item,rating with separator=' ' (or tab)."
            )
        self.values: dict[str, pa.ChunkedArray] = {}
        for role in ("user", "item", "rating", "time"):
            if (name := getattr(options, role)) is not None:
                texts = [_plain(one, name, role in ("user", "item")) for one in columns]
                kinds = {column.type for column in texts}
                if len(kinds) > 1:
                    texts = [column.cast(pa.large_string()) for column in texts]
                self.values[role] = pa.chunked_array(
                    [c for t in texts for c in t.chunks], texts[0].type
                )
        sizes = [one.table.num_rows for one in columns]
        empty = np.logical_and.reduce([c.is_null().to_numpy() for c in self.values.values()])
        filled = np.flatnonzero(~empty)
        begins = np.cumsum([0, *sizes])
        for one, count in zip(columns, np.diff(np.searchsorted(filled, begins)), strict=True):
            if count == 0:
                raise DataError(f"{one.where}: found no row, expected one row an interaction.")
        self.part = np.repeat(np.arange(len(columns)), sizes)[filled]
        self.at = filled - begins[self.part]
        self.values = {role: column.take(filled) for role, column in self.values.items()}
        self.counts = {"rows": sum(sizes) + sum(one.blank for one in columns)}
        if blank := self.counts["rows"] - len(filled):
            self.counts["blank_rows"] = blank
        self.notes = [note for one in columns for note in _notes_of(one, options)]
        for role, column in self.values.items():
            if column.null_count:
                self.refuse(
                    int(column.is_null().to_numpy().argmax()),
                    role,
                    "an empty field",
                    f"a value in each row; rows without one: {column.null_count}. Remove them.",
                )
        self._refuse_headers()

    def refuse(self, row: int, role: str, found: Any, expected: str) -> None:
        """Raise DataError for a value."""
        one = self.columns[self.part[row]]
        one.refuse(int(self.at[row]), getattr(self.options, role), found, expected)

    def _refuse_headers(self) -> None:
        """Refuse names of columns among the rows: a first line that was not said to be a header, or
        files that were joined."""
        user, item = self.values["user"], self.values["item"]
        names = pc.and_(pc.equal(user, self.options.user), pc.equal(item, self.options.item))
        numbered = self.options.user.isdigit()  # as columns of a frame may be
        rows = set() if numbered else set(np.flatnonzero(names.to_numpy())[:1].tolist())
        for row in rows | set(np.flatnonzero(self.at == 0).tolist()):
            cells = user[row].as_py(), item[row].as_py()
            if row in rows or all(HEADER.fullmatch(cell) for cell in cells):
                self.refuse(
                    row,
                    "user",
                    f"{cells[0]!r} beside {cells[1]!r}, which look like a header",
                    "an interaction; remove that line, or leave out columns=.",
                )

    def numbers(self, role: str) -> np.ndarray:
        """A column as float64, each of them a finite number."""
        column = self.values[role]
        if pa.types.is_large_string(column.type):
            texts = pc.utf8_trim_whitespace(column)
            if self.options.decimal == "," and role == "rating":
                texts = pc.replace_substring(texts, ",", ".")
            fits = pc.match_substring_regex(texts, NUMBER).to_numpy()
            if not fits.all():
                row = int(fits.argmin())
                found = column[row].as_py()[:60]
                hint = "; say decimal=, if the comma stands before decimals" if "," in found else ""
                self.refuse(row, role, repr(found), f"a finite number{hint}.")
            column = texts
        elif not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            self.refuse(0, role, f"a value of kind {column.type}", "numbers.")
        numbers = column.cast(pa.float64(), safe=False).to_numpy()
        if not np.isfinite(numbers).all():
            row = int((~np.isfinite(numbers)).argmax())
            self.refuse(row, role, str(numbers[row]), "a finite number; remove such rows.")
        return numbers

    def times(self) -> np.ndarray:
        """The column of times as float64: seconds since 1970, or what says only what came first."""
        column, unit = self.values["time"], self.options.time_unit
        if pa.types.is_large_string(column.type) and not re.match(NUMBER, column[0].as_py()):
            found = pd.to_datetime(column.to_pandas(), utc=True, format="ISO8601", errors="coerce")
            if found.isna().any():
                row = int(found.isna().argmax())
                self.refuse(
                    row,
                    "time",
                    repr(column[row].as_py()[:60]),
                    "a date such as 2026-01-31T12:00; other forms go through pandas.to_datetime.",
                )
            return found.dt.as_unit("us").astype(np.int64).to_numpy() * 1e-6
        if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
            return column.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy() * 1e-6
        numbers = self.numbers("time")
        if unit == "order":
            return numbers
        middle = abs(float(np.median(numbers)))
        if not NEAR <= middle * UNITS[unit] < FAR:
            fits = [u for u in ("s", "ms", "us", "ns") if NEAR <= middle * UNITS[u] < FAR]
            self.refuse(
                0,
                "time",
                f"{numbers[0]:.15g}, as most others of the size {middle:.1e}",
                f"times in {unit} since 1970"
                + "".join(f"; time_unit={u} is meant" for u in fits)
                + ". Say time_unit=order if they are no dates.",
            )
        times = numbers * UNITS[unit]
        if odd := int(((times < NEAR) | (times >= FAR)).sum()):
            self.notes.append(
                f"Times before 1980 or far in the future: {odd:,} of {len(times):,}. Have all rows "
                "the same unit, and is a missing time written as 0?"
            )
        return times

    def coded(self, role: str) -> tuple[np.ndarray, np.ndarray]:
        """The code of each row, and the labels, sorted: whole numbers where all ids are, else
        text."""
        coded = self.values[role].combine_chunks().dictionary_encode()
        texts, codes = coded.dictionary, coded.indices.to_numpy()
        if self.options.ids != "text":
            for kind in (pa.int64(), pa.uint64()):  # larger ones stay text
                if pc.all(pc.match_substring_regex(texts, r"^(0|[1-9]\d*)(\.0*)?$")).as_py():
                    try:
                        whole = pc.replace_substring_regex(texts, r"\..*$", "").cast(kind)
                    except pa.ArrowInvalid:
                        continue
                    labels, place = np.unique(whole.to_numpy(), return_inverse=True)
                    return place[codes], labels
            self._refuse_numbers(role, texts, codes)
        words = texts.to_pylist()
        for k, word in enumerate(words):
            if "\0" in word or len(word) > LONGEST:  # numpy would take a NUL for the end
                self.refuse(
                    int((codes == k).argmax()),
                    role,
                    f"an id of {len(word):,} characters, {word[:30]!r} …",
                    f"at most {LONGEST}, and no NUL; is this the right column?",
                )
        labels, place = np.unique(np.array(words, dtype=str), return_inverse=True)
        return place[codes], labels

    def _refuse_numbers(self, role: str, texts: pa.Array, codes: np.ndarray) -> None:
        """Refuse what is no id among numbers, where not all ids are whole numbers."""
        like = pc.match_substring_regex(texts, NUMBER).to_numpy(zero_copy_only=False)
        words = texts.to_pylist()
        odd = np.flatnonzero(~like)

        def refuse(k: int, expected: str) -> None:
            self.refuse(int((codes == k).argmax()), role, repr(words[k][:60]), expected)

        if self.options.ids == "int":
            wrong = [k for k, w in enumerate(words) if not re.fullmatch(r"0|[1-9]\d*", w)]
            refuse(wrong[0] if wrong else 0, "a whole number ≥ 0 below 2⁶⁴, since ids=int.")
        if not odd.size:
            for k, word in enumerate(words):
                if "e" in word.lower():
                    refuse(
                        k,
                        "an id with all its digits: a spreadsheet has rounded this one. Export the "
                        "column as text, or say ids=text if it is a name.",
                    )
                if word.startswith("-") or float(word) % 1:
                    refuse(
                        k,
                        "a whole number ≥ 0: a negative id stands for a missing one most often. "
                        "Remove such rows, or say ids=text if it is a name.",
                    )
        few = np.isin(codes, odd).mean() <= FEW
        if odd.size and odd.size < len(words) and (few or all(words[k] in NOTHING for k in odd)):
            refuse(
                odd[0],
                "a number, as the other ids are; remove such rows, or say ids=text if it is an id.",
            )


def _plain(one: Columns, name: str, ids: bool) -> pa.ChunkedArray:
    """A column without categories; of ids, as text, missing ones null. Refuses other kinds."""
    column = one.table[name]
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
        wrong = (numbers % 1 != 0) & ~np.isnan(numbers) | (np.abs(numbers) > 2**53)
        if ids and wrong.any():
            row = int(wrong.argmax())
            one.refuse(
                row,
                name,
                f"{float(numbers[row])!r}, a fraction or too large to be exact",
                "whole numbers or text; convert them with astype(str).",
            )
    elif ids and not pa.types.is_integer(kind) and len(column) and not pa.types.is_null(kind):
        one.refuse(
            0,
            name,
            f"ids of kind {str(kind)!r}, for example {column[0].as_py()!r}",
            "whole numbers or text; convert them with astype(str).",
        )
    if ids and pa.types.is_floating(kind):
        column = column.cast(pa.int64())
    return column.cast(pa.large_string()) if ids else column


def _notes_of(one: Columns, options: TableOptions) -> list[str]:
    """What is worth knowing of a part: lines inside of values, and a score that is not read."""
    notes = []
    if one.inside:
        notes.append(f"{one.where}: lines inside of values in quotation marks: {one.inside:,}.")
    roles = (options.user, options.item, options.rating, options.time)
    for name in one.table.column_names:
        if name not in roles:
            zeros = pd.to_numeric(one.table[name].to_pandas(), errors="coerce").le(0).sum()
            if zeros > one.table.num_rows / 2:
                notes.append(
                    f"{one.where}: column {name!r} is not read, and {zeros:,} of "
                    f"{one.table.num_rows:,} values are 0 or less. If these are no interactions: "
                    f"rating={name} and a threshold."
                )
    return notes


def _odd_labels(role: str, labels: np.ndarray) -> list[str]:
    """What is odd about labels that are texts."""
    if labels.dtype.kind != "U":
        return []
    plain = pd.Series([unicodedata.normalize("NFC", label) for label in labels.tolist()])
    odd = {
        "begin or end with a blank": plain[plain != plain.str.strip()],
        "hold a control character, as text does that is read in a wrong encoding": plain[
            plain.str.contains(r"[\x00-\x1f\x7f-\x9f]")
        ],
        "are spelt alike and encoded in two ways (Unicode NFC and NFD)": plain[plain.duplicated()],
        "are numbers that a spreadsheet has rounded, most likely": plain[
            plain.str.fullmatch(r"\d(\.\d+)?[eE]\+\d+")
        ],
    }
    return [
        f"Labels of {role}s that {what}: {len(found):,}, such as {found.iloc[0]!r}. They are kept "
        "as they are."
        for what, found in odd.items()
        if len(found)
    ]

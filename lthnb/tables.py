"""From the columns of a table to :class:`Raw`: what counts, which ids there are, which parts."""

from __future__ import annotations

import contextlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from lthnb.columns import FAR, NEAR, Columns, TableOptions, name_and_kind, pyarrow, read
from lthnb.config import nearest
from lthnb.data import PARTS, DataError, Raw, k_core, largest_core, moment

ROW_LENGTHS = range(3, 9)  # numbers in every line which may be columns as well as lists
FEW_WORDS = 0.01  # share of texts among numbers that is taken for a mistake
LONGEST = 500  # characters of a label, which all take the room of the longest
STAND_FOR_NOTHING = ("nan", "NaN", "NA", "N/A", "<NA>", "null", "NULL", "None", "\\N", "-")


def looks_like_table(source: Any) -> bool:
    """Whether `source` is no name but a table: a path, a frame, a matrix, or a dict of parts."""
    if isinstance(source, str):
        path = Path(source)
        return path.suffix != "" or len(path.parts) > 1 or path.is_dir()
    return isinstance(source, (Path, Mapping)) or sp.issparse(source) or hasattr(source, "columns")


def files_of(source: Any) -> dict[str, Path]:
    """The files that a table consists of: name → path; none for what is in memory."""
    if isinstance(source, Mapping):
        return {k: v for part in source.values() for k, v in files_of(part).items()}
    if not isinstance(source, (str, Path)):
        return {}
    path = Path(source)
    if path.is_dir():
        return {p.name: p for p in _parts_of_folder(path).values()}
    return {path.name: path}


def parse_table(source: Any, options: TableOptions, progress: bool = False) -> tuple[str, Raw]:
    """The pairs of a table, merged over its parts, and the table's name.

    source: a path (a file, or a folder with train.*, test.* and perhaps valid.*), a pandas
    DataFrame, a scipy sparse matrix of users × items, or a dict of such, by part.
    Raises DataError.
    """
    if isinstance(source, str):
        source = Path(source)
    name = "table"
    if isinstance(source, Path):
        name = source.resolve().name if source.is_dir() else name_and_kind(source)[0]
        if source.is_dir():
            source = _parts_of_folder(source)
    if not isinstance(source, Mapping):
        return name, _raw({"all": read(source, options, "table", progress)}, options)
    for part in source:
        if part not in PARTS:
            raise DataError(
                f"{name}: found a part {part!r}, expected {', '.join(PARTS)}."
                + nearest(part, PARTS)
            )
    for part in ("train", "test"):
        if part not in source:
            raise DataError(
                f"{name}: found the parts {', '.join(source) or 'none'}, and no {part!r}; a split "
                "of one's own needs train and test, and may have valid."
            )
    for option in ("core", "since", "until"):
        if getattr(options, option):
            raise DataError(
                f"{name}: found {option}={getattr(options, option)!r} for parts that are given, "
                "expected none: it would change the split. Filter before you split."
            )
    given = [part for part in PARTS if part in source]
    return name, _raw({p: read(source[p], options, p, progress) for p in given}, options)


def _parts_of_folder(folder: Path) -> dict[str, Path]:
    """The file of each part in a folder."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem = name_and_kind(path)[0].lower()
        if stem in ("val", "validation", "dev", "eval"):
            raise DataError(
                f"{folder.name}: found {path.name}; call it valid{''.join(path.suffixes)} if it is "
                "the validation part, or take it out of the folder."
            )
        if stem not in PARTS or not path.is_file():
            continue
        if stem in found:
            raise DataError(
                f"{folder.name}: found both {found[stem].name} and {path.name}, expected one file "
                f"for {stem}."
            )
        found[stem] = path
    if not found:
        raise DataError(
            f"{folder.name}: a folder without train.* and test.*, expected a split of one's own; "
            "for a single table, give the path of the file."
        )
    return found


def _raw(parts: dict[str, Columns], options: TableOptions) -> Raw:
    """Coded pairs of all parts; labels are those that occur, sorted."""
    _check(parts, options)
    counts, notes = {"rows": sum(map(len, parts.values()))}, []
    kept = {part: np.ones(len(columns), bool) for part, columns in parts.items()}
    if options.threshold is not None:
        counts["below_threshold"] = _keep_ratings(parts, kept, options.threshold)
    whole = parts.get("all")
    times = None if whole is None else whole.values.get("time")
    dated = options.time_unit != "order"
    if options.since is not None or options.until is not None:
        counts["outside_period"] = _keep_period(whole, kept["all"], options)
        if not counts["outside_period"]:
            notes.append("The period, by since and until, leaves nothing out.")
    if times is not None and dated and (odd := int(((times < NEAR) | (times >= FAR)).sum())):
        notes.append(
            f"Times before 1980 or far in the future: {odd:,} of {len(times):,}. Have all rows the "
            "same unit, and is a missing time written as 0?"
        )
    coded, labels = {}, {}
    for role in ("user", "item"):
        codes, labels[role] = _coded(list(parts.values()), role, options.ids)
        coded[role] = dict(zip(parts, codes, strict=True))
    _refuse_headers(parts, coded, labels)
    coded = {role: {p: codes[p][kept[p]] for p in parts} for role, codes in coded.items()}
    if options.core:
        left = _in_core(whole.where, coded["user"]["all"], coded["item"]["all"], options.core)
        counts["outside_core"] = int((~left).sum())
        coded = {role: {"all": codes["all"][left]} for role, codes in coded.items()}
        kept["all"][kept["all"]] = left
    for role in ("user", "item"):
        occurs = np.zeros(len(labels[role]), bool)
        for codes in coded[role].values():
            occurs[codes] = True
        place = np.cumsum(occurs) - 1
        coded[role] = {part: place[codes] for part, codes in coded[role].items()}
        labels[role] = labels[role][occurs]
        notes += _notes(role, labels[role])
    return Raw(
        {part: (coded["user"][part], coded["item"][part]) for part in parts},
        labels["user"],
        labels["item"],
        counts,
        times=times[kept["all"]] if times is not None else None,
        dated=dated,
        notes=notes,
    )


def _check(parts: dict[str, Columns], options: TableOptions) -> None:
    """Refuse lists that may be rows, empty parts, and options for columns that are not there."""
    lengths = {c.fixed for c in parts.values()}
    if options.form is None and len(lengths) == 1 and (length := lengths.pop()) in ROW_LENGTHS:
        raise DataError(
            f"{next(iter(parts.values())).where}: every line has {length} numbers, which may be a "
            f"user with {length - 1} items, or a row with columns such as user, item, rating. Say "
            "which: form=lists, or columns=user,item,rating with separator=' ' (or tab)."
        )
    for columns in parts.values():
        if len(columns) == 0:
            raise DataError(f"{columns.where}: found no row, expected one row an interaction.")
        for role in ("rating", "time"):
            if (name := getattr(options, role)) is not None and role not in columns.values:
                raise DataError(
                    f"{columns.where}: found {role}={name!r}, expected none: this kind of table "
                    f"has users and items alone. Leave `{role}` out."
                )


def _keep_ratings(parts: dict[str, Columns], kept: dict[str, np.ndarray], threshold: float) -> int:
    """Take rows below the threshold out of `kept`; returns how many."""
    for part, columns in parts.items():
        ratings = columns.values["rating"]
        kept[part] &= ratings >= threshold
        if not kept[part].any():
            raise DataError(
                f"{columns.where}: no rating in column {columns.names['rating']!r} reaches the "
                f"threshold {threshold}; the highest is {ratings.max()}."
            )
    return sum(int((~k).sum()) for k in kept.values())


def _keep_period(columns: Columns, kept: np.ndarray, options: TableOptions) -> int:
    """Take rows outside the period out of `kept`; returns how many."""
    since = options.moment("since") if options.since is not None else -math.inf
    until = options.moment("until") if options.until is not None else math.inf
    times, before, dated = columns.values["time"], int(kept.sum()), options.time_unit != "order"
    kept &= (times >= since) & (times < until)
    if not kept.any():
        raise DataError(
            f"{columns.where}: no row lies in the period since={options.since}, "
            f"until={options.until}; times go from {moment(times.min(), dated)} to "
            f"{moment(times.max(), dated)}."
        )
    return before - int(kept.sum())


def _in_core(where: str, users: np.ndarray, items: np.ndarray, core: int) -> np.ndarray:
    """Which pairs the core keeps, bool. Raises DataError where it keeps none."""
    left = k_core(users, items, core)
    if not left.any():
        raise DataError(
            f"{where}: no user and item is left with core={core} partners; the largest core that "
            f"has any is {largest_core(users, items)}."
        )
    return left


def _refuse_headers(parts: dict[str, Columns], coded, labels: dict[str, np.ndarray]) -> None:
    """Refuse a row that holds the names of the columns, as where two files were joined."""
    if any(names.dtype.kind != "U" for names in labels.values()):
        return
    for part, columns in parts.items():
        user, item = (
            (labels[role] == columns.names[role])[coded[role][part]] for role in ("user", "item")
        )
        if (user & item).any():
            raise DataError(
                f"{columns.place(int((user & item).argmax()))}: found the names of the columns, "
                "expected an interaction; a header stands among the rows. Remove it, or leave out "
                "columns=."
            )


def _notes(role: str, labels: np.ndarray) -> list[str]:
    """What is odd about labels that are texts."""
    if labels.dtype.kind != "U":
        return []
    plain = [unicodedata.normalize("NFC", label) for label in labels.tolist()]
    odd = {
        "begin or end with a blank": [w for w in plain if w != w.strip()],
        "hold a control character, as text does that is read in a wrong encoding": [
            w for w in plain if re.search(r"[\x00-\x1f\x7f-\x9f]", w)
        ],
        "are spelt alike and encoded in two ways (Unicode NFC and NFD)": [
            w for w, times in Counter(plain).items() if times > 1
        ],
    }
    return [
        f"Labels of {role}s that {what}: {len(found):,}, such as {found[0]!r}. They are kept as "
        "they are."
        for what, found in odd.items()
        if found
    ]


def _coded(parts: list[Columns], role: str, ids: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Codes of each part and their sorted labels: whole numbers where all ids are, else text."""
    pa = pyarrow(parts[0].where)
    columns = [_decoded(part.values[role]) for part in parts]
    for part, column in zip(parts, columns, strict=True):
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy())[0])
            part.refuse(
                row,
                role,
                "an empty or missing id",
                f"one in each row; rows without one: {column.null_count}. Remove them.",
            )
    types = {_plain_type(part, column, role) for part, column in zip(parts, columns, strict=True)}
    if types == {"number"}:
        numbers = [_whole(part, column, role) for part, column in zip(parts, columns, strict=True)]
        labels, codes = np.unique(np.concatenate(numbers), return_inverse=True)
        if ids == "text":
            labels = labels.astype(str)
            order = np.argsort(labels)
            codes, labels = np.argsort(order)[codes], labels[order]
        return np.split(codes, np.cumsum([len(n) for n in numbers])[:-1]), labels
    kind = pa.dictionary(pa.int32(), pa.string())
    as_text = [
        column.cast(kind)
        if pa.types.is_dictionary(column.type)
        else column.cast(pa.string()).dictionary_encode()
        for column in columns
    ]
    chunks = [chunk for column in as_text for chunk in column.chunks if len(chunk)]
    whole = pa.chunked_array(chunks, kind).unify_dictionaries()
    texts = whole.chunk(0).dictionary
    codes = np.concatenate([chunk.indices.to_numpy() for chunk in whole.chunks])

    def find(code: int) -> tuple[Columns, int]:
        row = int((codes == code).argmax())
        for part in parts:
            if row < len(part):
                return part, row
            row -= len(part)
        raise AssertionError("a code that no row has")

    place, labels = _labels(texts, ids, role, find)
    codes = place[codes]
    return np.split(codes, np.cumsum([len(part) for part in parts])[:-1]), labels


def _decoded(column):
    """Categories that are no texts, such as numbers, as these themselves."""
    pa = pyarrow("table")
    kind = column.type
    if pa.types.is_dictionary(kind) and not _is_text(kind.value_type):
        return column.cast(kind.value_type)
    return column


def _is_text(kind) -> bool:
    types = pyarrow("table").types
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)


def _plain_type(part: Columns, column, role: str) -> str:
    """`number` or `text`. Raises DataError for a column that can hold no ids."""
    pa = pyarrow(part.where)
    kind = column.type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    if _is_text(kind):
        return "text"
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        example = column[0].as_py()
        part.refuse(
            0,
            role,
            f"ids of kind {str(kind)!r}, for example {example!r}",
            "whole numbers or text; convert them with astype(str).",
        )
    return "number"


def _whole(part: Columns, column, role: str) -> np.ndarray:
    """Ids as int64, or uint64 where they need it. Raises DataError for fractions and negatives."""
    numbers = column.to_numpy()
    if numbers.dtype.kind == "f":  # pandas' integers that met a missing value
        wrong = (numbers % 1 != 0) | (np.abs(numbers) > 2**53)
        if wrong.any():
            row = int(wrong.argmax())
            part.refuse(
                row,
                role,
                f"{numbers[row]!r}, a fraction or too large to be exact",
                "whole numbers or text; convert them with astype(str).",
            )
        numbers = numbers.astype(np.int64)
    if numbers.dtype.kind == "i" and (negative := numbers < 0).any():
        row = int(negative.argmax())
        part.refuse(row, role, f"{numbers[row]}", _NOT_NEGATIVE)
    return numbers if numbers.dtype.kind == "u" and numbers.itemsize == 8 else numbers.astype(int)


_NOT_NEGATIVE = (
    "a whole number ≥ 0: a negative id stands for a missing one most often. Remove such rows, "
    "or say ids=text."
)
_NO_FRACTION = "a whole number ≥ 0 like others in this column; say ids=text if it is a name."
_DIGITS = r"^(0|[1-9][0-9]*)$"
_DIGITS_POINT = r"^(0|[1-9][0-9]*)(\.0*)?$"  # as pandas writes integers that met a missing value
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def _labels(texts, ids: str, role: str, find) -> tuple[np.ndarray, np.ndarray]:
    """The place of each text among the labels, and the labels, sorted.

    texts: pyarrow strings, each once. find: a text's number → part and row where it stands.
    """
    pa = pyarrow("table")
    from pyarrow import compute

    def every(pattern: str) -> bool:
        return compute.all(compute.match_substring_regex(texts, pattern)).as_py()

    if ids != "text":
        numbers = None
        if every(_DIGITS):
            numbers = texts
        elif every(_DIGITS_POINT):
            numbers = compute.replace_substring_regex(texts, r"\..*$", "")
        for kind in (pa.int64(), pa.uint64()) if numbers is not None else ():
            with contextlib.suppress(pa.ArrowInvalid):  # too large: the next, or text
                labels, place = np.unique(numbers.cast(kind).to_numpy(), return_inverse=True)
                return place, labels
        words = texts.to_pylist()
        odd = [k for k, word in enumerate(words) if not _NUMBER.fullmatch(word)]
        if ids == "int":
            k = next(k for k, word in enumerate(words) if not re.fullmatch(_DIGITS_POINT, word))
            part, row = find(k)
            part.refuse(row, role, repr(words[k]), "a whole number ≥ 0, since ids=int.")
        if not odd:  # numbers all of them, and not all of them ids
            for k, word in enumerate(words):
                if (value := float(word)) < 0 or value % 1:
                    part, row = find(k)
                    part.refuse(row, role, repr(word), _NOT_NEGATIVE if value < 0 else _NO_FRACTION)
        if 0 < len(odd) <= len(words) * FEW_WORDS:
            part, row = find(odd[0])
            part.refuse(
                row,
                role,
                f"{words[odd[0]]!r} where {1 - FEW_WORDS:.0%} of the ids are numbers",
                "a number; remove such rows, or say ids=text if it is an id.",
            )
        if 0 < len(odd) < len(words) and all(words[k] in STAND_FOR_NOTHING for k in odd):
            part, row = find(odd[0])
            part.refuse(
                row,
                role,
                f"{words[odd[0]]!r} among numbers, which stands for a missing id most often",
                "an id; remove such rows, or say ids=text if it is a name.",
            )
    else:
        words = texts.to_pylist()
    for k, word in enumerate(words):
        if "\0" in word:  # numpy would take it for the end
            part, row = find(k)
            part.refuse(row, role, f"{word[:30]!r} with a NUL in it", "text without one.")
    long = max(range(len(words)), key=lambda k: len(words[k]))
    if len(words[long]) > LONGEST:
        part, row = find(long)
        part.refuse(
            row,
            role,
            f"an id of {len(words[long]):,} characters, {words[long][:30]!r} …",
            f"at most {LONGEST}; is this the right column, and is a quotation mark closed?",
        )
    values = np.array(words, dtype=str)
    order = np.argsort(values, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place, values[order]

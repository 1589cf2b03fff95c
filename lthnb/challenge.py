"""The paper's TikTok and Kwai: parsers of the raw files, for who holds them.

The two sets were given to the participants of challenges (ICME 2019, China MM 2018) and never
released, so there is no address to fetch them from and no checksum to hold them against. Of how
Table 1's sets were made from the raw files, the paper tells for TikTok that "we merely use the
videos within a period, and filter the data without complete modalities" (§4.1): which period,
which modalities and which column makes a pair positive is not told, and for Kwai nothing is. So
these are options here, their defaults are ours, and :func:`compare_with_table_1` shows how far what
was loaded is from the published counts.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lthnb.config import Between, ConfigError, _Checked, nearest, setting
from lthnb.data import PARTS, DataError, Interactions, Raw, k_core
from lthnb.paper import TABLE1, TITLES

UNTOLD = {
    "yelp2018": "Yelp2018's split is published, and has these counts.",
    "tiktok": "The paper does not fully tell its filter of TikTok: 'the videos within a period', "
    "without 'the data without complete modalities' (§4.1), but not which period, which "
    "modalities, or what makes a pair positive.",
    "kwai": "The paper tells nothing of how its Kwai was filtered.",
}

OURS = "ours; the paper does not say"
INT64 = 2**63 - 1
BLOCK = 1 << 22  # bytes of text read at a time: what bounds the memory that a large file takes


# The raw files


@dataclass(frozen=True)
class Format:
    """A challenge's file of interactions: tab-separated whole numbers without a header.

    columns: all of them, in order. user, item, time: the names of those columns. flags: the columns
    that hold 0 or 1. test_file: how to tell the challenge's test file, which has no answers.
    """

    file: str
    columns: tuple[str, ...]
    user: str
    item: str
    flags: tuple[str, ...]
    test_file: str
    timed: bool  # whether `time` is that of the interaction
    time: str = "time"

    @property
    def read(self) -> tuple[str, ...]:
        """The columns that are read; what stands in the others does not matter."""
        return (self.user, self.item, *self.flags, self.time)


TIKTOK = Format(
    file="final_track2_train.txt",
    columns=(
        *("uid", "user_city", "item_id", "author_id", "item_city", "channel"),
        *("finish", "like", "music_id", "device", "time", "duration"),
    ),
    user="uid",
    item="item_id",
    flags=("finish", "like"),
    test_file="the challenge's test file has no finish and no like",
    timed=False,
)
KWAI = Format(
    file="train_interaction.txt",
    columns=(
        *("user_id", "photo_id", "click", "like", "follow"),
        *("time", "playing_time", "duration"),
    ),
    user="user_id",
    item="photo_id",
    flags=("click", "like", "follow"),
    test_file="the challenge's test_interaction.txt has 4 columns and no click",
    timed=True,
)


@dataclass(frozen=True)
class _ChallengeOptions(_Checked):
    """What the two files have in common."""

    since: int | None = field(
        default=None,
        metadata={"meaning": "first time that counts, in the file's own unit", "source": OURS},
    )
    until: int | None = field(
        default=None,
        metadata={
            "meaning": "time from which on lines no longer count, in the file's own unit",
            "source": OURS,
        },
    )
    core: int = setting(
        0,
        Between(0),
        "keep users and items with at least so many partners; 0 keeps all",
        source=OURS,
    )
    videos: str = field(
        default="",
        metadata={
            "meaning": "name of a text file beside the raw one: ids of the videos that have all "
            "features, one a line; others go. Empty keeps all",
            "source": f"{OURS}; §4.1 filters TikTok so, by files that were never released",
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        where = type(self).__name__
        for name in ("since", "until"):
            given = getattr(self, name)
            text = str(given).strip()  # a command line gives texts
            if given is not None and not (text.isascii() and text.isdigit() and int(text) < INT64):
                raise ConfigError(
                    f"{where}.{name}: found {given!r}, expected a whole number ≥ 0, a time in the "
                    "file's own unit."
                )
            object.__setattr__(self, name, None if given is None else int(text))
        if self.since is not None and self.until is not None and self.until <= self.since:
            raise ConfigError(
                f"{where}.until: found {self.until}, expected more than since = {self.since}."
            )
        # A name and no path: it is written into every record, and must mean the same elsewhere.
        if not isinstance(self.videos, str) or Path(self.videos).name != self.videos:
            raise ConfigError(
                f"{where}.videos: found {self.videos!r}, expected the name of a file that lies "
                "beside the raw one, without folders."
            )


@dataclass(frozen=True)
class TikTokOptions(_ChallengeOptions):
    """Of TikTok's raw file. Its `time` is when a video was published, not when it was watched, so
    that a period is one of videos, as in §4.1."""

    positive: str = setting(
        "finish",
        ("finish", "like", "any", "line"),
        "what makes a line an interaction: watched to the end, liked, either of the two, or each "
        "line, as the author of MMGCN says of his set from the same file (iLearn-Lab/MM19-MMGCN, "
        "issue 38)",
        source=OURS,
    )


@dataclass(frozen=True)
class KwaiOptions(_ChallengeOptions):
    """Of Kwai's raw file. Its `time` is that of the interaction, shifted by the challenge."""

    positive: str = setting(
        "click",
        ("click", "like", "follow", "line"),
        "what makes a line an interaction: a click, a like, a follow, or each line",
        source=OURS,
    )


def parse_tiktok(path: Path, options: TikTokOptions) -> Raw:
    """Pairs from ``final_track2_train.txt``, or from the same file gzipped; labels are its ids.

    counts: lines, what was left out and why, in the order in which it was, and the earliest and
    latest time in the file. There are no times, since a video's is not that of an interaction.

    Raises DataError, which names file, line and column, where the file is not of the format, and
    where no pair is left.
    """
    return _parse(Path(path), TIKTOK, options, UNTOLD["tiktok"])


def parse_kwai(path: Path, options: KwaiOptions) -> Raw:
    """The same from ``train_interaction.txt``, with times, in the file's own unit; see
    :func:`parse_tiktok`."""
    return _parse(Path(path), KWAI, options, UNTOLD["kwai"])


def _parse(path: Path, form: Format, options: TikTokOptions | KwaiOptions, untold: str) -> Raw:
    counts = {"rows": 0, "not_positive": 0, "outside_period": 0}
    span, kept_blocks = [], []
    since = 0 if options.since is None else options.since
    until = INT64 if options.until is None else options.until
    for block in _blocks(path, form):
        time = block[form.time]
        flags = [block[name] != 0 for name in form.flags]
        positive = dict(zip(form.flags, flags, strict=True))
        positive["any"] = np.logical_or.reduce(flags)
        positive["line"] = np.ones(len(time), bool)
        chosen = positive[options.positive]
        kept = chosen & (time >= since) & (time < until)
        counts["rows"] += len(kept)
        counts["not_positive"] += int((~chosen).sum())
        counts["outside_period"] += int((chosen & ~kept).sum())
        span += [int(time.min()), int(time.max())]
        times = time[kept].astype(np.float64) if form.timed else None
        kept_blocks.append((_small(block[form.user][kept]), _small(block[form.item][kept]), times))
    users, items, times = zip(*kept_blocks, strict=True)
    user_labels, users = _coded(np.concatenate(users))
    item_labels, items = _coded(np.concatenate(items))
    left = np.ones(len(users), bool)
    if options.videos:
        complete = np.isin(item_labels, _read_videos(path.parent / options.videos))
        left = complete[items]
        counts["without_all_features"] = int((~left).sum())
    if options.core > 0:
        before = np.flatnonzero(left)
        outside = before[~k_core(users[before], items[before], options.core)]
        left[outside] = False
        counts["outside_core"] = len(outside)
    counts["earliest_time"], counts["latest_time"] = min(span), max(span)
    if not left.any():
        found = ", ".join(f"{name} {number:,}" for name, number in counts.items())
        raise DataError(
            f"{path.name}: no pair is left, with {options}. Found: {found}. Choose another "
            "`positive`, a period inside the file's, or a smaller `core`."
        )
    user_labels, users = _used(user_labels, users[left])
    item_labels, items = _used(item_labels, items[left])
    return Raw(
        {"all": (users, items)},
        user_labels,
        item_labels,
        counts,
        times=np.concatenate(times)[left] if form.timed else None,
        notes=[untold],
    )


def _small(ids: np.ndarray) -> np.ndarray:
    """The ids in half the memory, where they fit."""
    return ids.astype(np.int32) if len(ids) == 0 or ids.max() < 2**31 else ids


def _coded(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sorted labels, int64, and the code of each id; without a sort where ids are not huge."""
    if len(ids) and ids.max() < 2**27:
        return _used(np.arange(int(ids.max()) + 1), ids)
    labels, codes = np.unique(ids, return_inverse=True)
    return labels.astype(np.int64), codes


def _used(labels: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels that occur, and the codes counted among these, int32."""
    used = np.zeros(len(labels), bool)
    used[codes] = True
    return labels[used], (np.cumsum(used, dtype=np.int32) - 1)[codes]


def _blocks(path: Path, form: Format) -> Iterator[dict[str, np.ndarray]]:
    """The columns that are read, int64 and checked, a block of lines at a time."""
    try:
        import pyarrow as pa
        from pyarrow import csv
    except ImportError as error:
        raise DataError(f"{path.name}: reading it needs pyarrow: pip install pyarrow.") from error
    if not path.is_file():
        raise DataError(
            f"{path}: no such file, expected {form.file}: {len(form.columns)} tab-separated "
            "columns. It was never released; it has to come from the challenge."
        )
    try:
        with _opened(path) as handle:
            reader = csv.open_csv(
                handle,
                read_options=csv.ReadOptions(column_names=form.columns, block_size=BLOCK),
                parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
                convert_options=csv.ConvertOptions(
                    include_columns=form.read,
                    column_types=dict.fromkeys(form.read, pa.int64()),
                    null_values=[],
                ),
            )
            lines = 0
            for batch in reader:
                lines += batch.num_rows
                block = {
                    name: column.to_numpy(zero_copy_only=False)
                    for name, column in zip(form.read, batch.columns, strict=True)
                }
                if batch.num_rows == 0:
                    continue
                for name, values in block.items():
                    most = 1 if name in form.flags else INT64
                    if values.min() < 0 or values.max() > most:
                        raise _refused(path, form, f"column {name!r} holds an impossible number")
                yield block
            if lines == 0:  # blank ones alone
                raise _refused(path, form, "found no line")
    except pa.ArrowInvalid as error:
        raise _refused(path, form, str(error)) from error
    except (OSError, EOFError) as error:
        raise _cut_off(path, error) from error


def _opened(path: Path) -> io.BufferedIOBase:
    """The file, unpacked where it is gzipped, whatever its name."""
    handle = path.open("rb")
    gzipped = handle.read(2) == b"\x1f\x8b"
    handle.seek(0)
    return gzip.GzipFile(fileobj=handle) if gzipped else handle


def _cut_off(path: Path, error: Exception) -> DataError:
    return DataError(f"{path.name}: cannot be unpacked: {error}. Copy it again.")


def _refused(path: Path, form: Format, otherwise: str) -> DataError:
    """The error that names the first wrong line: read again, slowly, only once something is wrong.

    otherwise: what the fast reader said, for the case that nothing is found.
    """
    lines = 0
    try:
        with _opened(path) as handle:
            for number, line in enumerate(handle, start=1):
                text = line.decode("utf-8", errors="replace").rstrip("\r\n")
                if number == 1:
                    text = text.removeprefix("\ufeff")
                lines += bool(text)
                wrong = _wrong(text, number, form, whole=line.endswith(b"\n")) if text else None
                if wrong:
                    return DataError(f"{path.name}, line {number}{wrong}")
    except (OSError, EOFError) as error:
        return _cut_off(path, error)
    if lines == 0:
        return DataError(
            f"{path.name}: found no line, expected {form.file}: {len(form.columns)} tab-separated "
            "columns. Copy it again."
        )
    return DataError(f"{path.name}: {otherwise}; expected {form.file} as the challenge gave it.")


def _wrong(text: str, number: int, form: Format, whole: bool) -> str | None:
    """What is wrong with a line, None where nothing is. whole: it ends with a newline."""
    names, fields = form.columns, text.split("\t")
    if len(fields) != len(names):
        if text.count(",") == len(names) - 1:
            remedy = "it is separated by commas: separate it by tabs"
        elif number > 1 and not whole and len(fields) < len(names):
            remedy = "the file is cut off here: copy it again"
        else:
            remedy = f"bring {form.file} as the challenge gave it ({form.test_file})"
        return (
            f": found {len(fields)} columns in {text[:60]!r}, expected {len(names)}, "
            f"tab-separated: {', '.join(names)}; {remedy}."
        )
    for name in form.read:
        value = fields[names.index(name)]
        flag = name in form.flags
        if re.fullmatch(r" *[0-9]+ *", value, re.ASCII) and int(value) <= (1 if flag else INT64):
            continue
        expected = "0 or 1" if flag else f"a whole number from 0 to {INT64}"
        if number == 1 and not any(re.fullmatch(r"-?[0-9]+", v) for v in fields):
            remedy = "the file has no header: remove this line"
        elif flag:
            remedy = f"bring {form.file} ({form.test_file})"
        else:
            remedy = f"bring {form.file} as the challenge gave it"
        return f", column {name!r}: found {value[:60]!r}, expected {expected}; {remedy}."
    return None


def _read_videos(path: Path) -> np.ndarray:
    """int64: the ids of a text file, one a line."""
    if not path.is_file():
        raise DataError(
            f"videos: no file {path.name!r} beside the raw one, expected one with an id a line."
        )
    ids = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        text = line.decode("utf-8", errors="replace").strip()
        if text and not (re.fullmatch(r"[0-9]+", text, re.ASCII) and int(text) <= INT64):
            raise DataError(
                f"{path.name}, line {number}: found {text[:60]!r}, expected the id of a video, a "
                "whole number."
            )
        if text:
            ids.append(int(text))
    if not ids:
        raise DataError(f"{path.name}: found no id, expected one a line.")
    return np.array(ids, np.int64)


# Beside Table 1


def compare_with_table_1(data: Interactions, name: str) -> dict[str, Any]:
    """What was loaded beside Table 1, as plain data: it informs, and refuses no data.

    name: ``yelp2018``, ``tiktok`` or ``kwai``. ``rows`` has users, items, interactions and their
    density, each found, published, and the difference relative to what is published; users and
    items are those that occur, as in Table 1. ``same`` says whether the three counts agree.
    ``lines`` says it all for people.

    Raises DataError where Table 1 has no set of that name.
    """
    known = {row.dataset: row for row in TABLE1}
    if name not in known:
        raise DataError(
            f"Table 1: found {name!r}, expected one of {', '.join(known)}." + nearest(name, known)
        )
    row, whole = known[name], sum(getattr(data, part) for part in PARTS)
    found = {
        "users": int(np.count_nonzero(np.diff(whole.tocsr().indptr))),
        "items": int(np.count_nonzero(np.bincount(whole.tocsr().indices, minlength=data.items))),
        "interactions": int(whole.nnz),
    }
    paper = {what: getattr(row, what) for what in found}
    found["density"] = found["interactions"] / (found["users"] * found["items"])
    rows = {
        what: {"found": found[what], "paper": value, "relative": found[what] / value - 1}
        for what, value in {**paper, "density": row.filled}.items()
    }
    lines = [f"{data.name} beside {TITLES[name]} in Table 1:"]
    for what, r in rows.items():
        form = ".5f" if what == "density" else ","
        lines.append(
            f"{what}: found {r['found']:{form}}, in the paper {r['paper']:{form}} "
            f"({100 * r['relative']:+.1f} %)"
        )
    same = all(found[what] == value for what, value in paper.items())
    lines.append(UNTOLD[name] + " Equal counts do not make it the same set." * (name != "yelp2018"))
    return {"dataset": name, "same": same, "rows": rows, "lines": lines}

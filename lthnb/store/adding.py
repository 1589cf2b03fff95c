"""Writing the recorded tables: a part for each addition, the manifest last.

A kill in between leaves files that the manifest does not list; nobody reads them, `verify` names
them, and the next addition takes the next number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lthnb.config import DENSE, digest_text
from lthnb.pruning import Mask
from lthnb.store.columns import METRIC_NAMES, SEARCH_COLUMNS
from lthnb.store.files import DamagedFile, StoreError, pack, sha256, write_file
from lthnb.store.records import TAGS, Record, hits_of, results_digest
from lthnb.store.results import (
    HISTORY,
    LISTS,
    MANIFEST,
    MARK,
    MASKS,
    RUNS,
    SEARCHES,
    SPLIT,
    SPLIT_PART,
    Recorded,
    identity,
)
from lthnb.store.runs import Store

UNLISTED = (MANIFEST, "README.md", "findings.csv")  # what the manifest does not list
# The bytes of numbers apart from each other compress better by a third.
APART = [f"{name}.list.element" for name in HISTORY]


def write_parquet(path: Path, table: pa.Table) -> Path:
    """A table as a file, all or nothing; a file is called NNN.KIND.parquet. Returns its path."""
    nested = {"use_dictionary": False, "use_byte_stream_split": APART}
    how = nested if path.name.endswith(".nested.parquet") else {}
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", compression_level=19, **how)
    write_file(path, buffer.getvalue().to_pybytes())
    return path


def write_manifest(folder: Path, sums: Mapping[str, str], more: Iterable[Path] = ()) -> None:
    """List files below the folder: those of known SHA-256 by their names, and more. Last comes the
    SHA-256 of the list itself. What a kill left behind stays unlisted."""
    found = {path.relative_to(folder).as_posix(): sha256(path.read_bytes()) for path in more}
    listed = sorted({**sums, **found}.items())
    lines = "".join(f"{digest}  {name}\n" for name, digest in listed).encode()
    write_file(folder / MANIFEST, lines + MARK + f"{sha256(lines)}\n".encode())


def _also_list(store: Store, more: Iterable[Path]) -> None:
    write_manifest(store.results, store.recorded_tables.sums, more)
    store.recorded_tables = Recorded(store.results)  # what was read before is not all any more


def group_of(row: Mapping[str, Any]) -> str:
    """The folder of a run: its data set and backbone."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in row["dataset"])
    return f"{name}-{row['backbone']}"


def nest(masks: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    """Masks of one shape by digest, as few rows of :data:`results.MASKS` as they lie within each
    other."""
    left = sorted(masks, key=lambda digest: -np.count_nonzero(masks[digest]))
    while left:
        chain = [left[0]]
        for digest in left[1:]:
            if len(chain) < 255 and not (masks[digest] & ~masks[chain[-1]]).any():
                chain.append(digest)
        rows, size = masks[chain[0]].shape
        fell = np.zeros((rows, size), np.uint8)
        for place, digest in reversed(list(enumerate(chain, start=1))):
            fell[~masks[digest]] = place
        yield {"digests": chain, "rows": rows, "size": size, "fell": fell.tobytes()}
        left = [digest for digest in left if digest not in chain]


def write_parts(
    folder: Path,
    runs: Mapping[str, Record],
    searches: Iterable[Mapping[str, Any]],
    masks: Iterable[tuple[str, Mapping[str, Any]]] = (),
) -> list[Path]:
    """Write runs by key, rows of searches whose runs are among these or recorded before, and masks,
    a group and a row of :func:`nest` each: one part for each data set and backbone. The manifest is
    for the caller. Returns the files."""
    recorded, written = Recorded(folder), []
    groups: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for key in sorted(runs):
        groups[group_of(runs[key].row)]["runs"].append(runs[key])
    for row in sorted(searches, key=lambda r: (r["search"], r["round"], -r["density"])):
        record = runs.get(row["key"]) or recorded.find(row["key"])
        groups[group_of(record.row)]["searches"].append(row)
    for name, chain in masks:
        groups[name]["masks"].append(chain)
    for name in sorted(groups):
        number = _next(folder / name)
        for kind, table in _tables(**groups[name]):
            written.append(write_parquet(folder / name / f"{number}.{kind}.parquet", table))
    for record in runs.values():
        path = folder / "splits" / f"{record.row['data_digest']}.parquet"
        listed = path.is_file() and f"splits/{path.name}" in recorded.sums
        if path not in written and not listed:  # else it is what a kill left behind
            arrays = [pa.array(record.nested[part]) for part in SPLIT_PART]
            written.append(write_parquet(path, pa.Table.from_arrays(arrays, schema=SPLIT)))
    return written


def add(store: Store, keys: Sequence[str], *, masks: bool = True) -> list[Path]:
    """Copy finished runs of a store into the recorded tables, with their rows of searches.

    keys: of one's own runs; those that are recorded already are passed over, and so their searches
    may still be new. masks: with the bits of masks, of the lowest seed of each search, by which a
    run can be replayed at once; random ones are never kept, since their seed tells them. Returns
    the files written. Raises StoreError for a run that is not in the store.
    """
    recorded, found = store.recorded_tables, {key: store.find(key) for key in keys}
    for key, record in found.items():
        if record is None:
            raise StoreError(f"run {key}: not in the store {store.folder}; nothing was added.")
    runs = {key: record for key, record in found.items() if key not in recorded.places}
    mine = [row for row in store.searches() if row["key"] in {*found, *recorded.places}]
    new = [row for row in mine if identity(row) not in recorded.identities]
    written = write_parts(store.results, runs, new, _masks_of(store, runs, mine) if masks else ())
    if written:
        _also_list(store, written)
    return written


def _tables(
    runs: Sequence[Record] = (), searches: Sequence[Mapping] = (), masks: Sequence[Mapping] = ()
) -> Iterator[tuple[str, pa.Table]]:
    """The tables of a part by their kind, those that have rows."""
    if runs:
        yield "runs", pa.Table.from_pylist([one.row for one in runs], RUNS)
        columns = {"key": pa.array([one.key for one in runs])}
        for name, kind in LISTS.items():
            columns[name] = pa.array([one.nested[name] for one in runs], kind)
        yield "nested", pa.table(columns)
    if searches:
        yield "searches", pa.Table.from_pylist(list(searches), SEARCHES)
    if masks:
        yield "masks", pa.Table.from_pylist(list(masks), MASKS)


def _next(folder: Path) -> str:
    """The number of the next part: behind all that the manifest lists, and any other."""
    numbers = [int(path.name[:3]) for path in folder.glob("[0-9][0-9][0-9].*")]
    return f"{max(numbers, default=0) + 1:03d}"


# What searches share that differ in their seed alone, beside their tags: settings of their runs.
SETTINGS = ["data_digest", "backbone", "embedding_size", "l2"]


def _masks_of(
    store: Store, found: Mapping[str, Record], searches: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Group and nested masks of some runs, search by search: of each search of the lowest seed."""
    names = ["key", "mask_digest", *SETTINGS]
    runs = pd.DataFrame([{n: one.row[n] for n in names} for one in found.values()], columns=names)
    frame = pd.DataFrame(searches, columns=list(SEARCH_COLUMNS)).merge(runs, on="key")
    lowest = frame.groupby(["method", *TAGS, *SETTINGS], dropna=False)["seed"].transform("min")
    frame = frame[(frame["seed"] == lowest) & (frame["criterion"] != "random")]
    frame = frame[frame["mask_digest"] != DENSE].drop_duplicates("mask_digest")
    for _, rows in frame.groupby("search", sort=False):
        records = [found[key] for key in rows["key"]]
        masks = {one.row["mask_digest"]: store.find_mask(one.pruning, one.shape) for one in records}
        kept = {digest: mask.kept for digest, mask in masks.items() if mask is not None}
        for chain in nest(kept):
            yield group_of(records[0].row), chain


def add_table(store: Store, key: str) -> Path:
    """Keep the trained table of a recorded run in `results/tables/`. Raises StoreError where its
    weights are not in the store."""
    table = store.find_weights(key, "best")
    if table is None:
        raise StoreError(f"run {key}: its weights are not in {store.folder}; replay it first.")
    path = store.results / "tables" / f"{key}.safetensors"
    write_file(path, pack({"table": table.astype(np.float32)}, {"key": key}))
    _also_list(store, [path])
    return path


def compact(folder: Path) -> list[Path]:
    """Merge the parts of each data set and backbone into one, under the next number. Returns the
    files that went; they go once the manifest lists the new ones in their place."""
    recorded, gone, made = Recorded(folder), [], []
    parts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for kind in ("runs", "searches", "nested", "masks"):
        for name in recorded.parts(kind):
            parts[name.partition("/")[0], kind].append(name)
    number = {group: _next(folder / group) for group, _ in parts}
    for (group, kind), names in parts.items():
        if len(names) > 1:
            tables = [recorded.part(name) for name in names]
            path = folder / group / f"{number[group]}.{kind}.parquet"
            made.append(write_parquet(path, pa.concat_tables(tables, promote_options="default")))
            gone += [folder / name for name in names]
    stay = {n: digest for n, digest in recorded.sums.items() if folder / n not in gone}
    write_manifest(folder, stay, made)
    for path in gone:
        path.unlink()
    return gone


def verify(folder: Path) -> Iterator[str]:
    """Read every recorded file, and check each run against itself; yields what is wrong.

    A key follows from its text, and settings from that too; metrics follow from the hits, and the
    digest of the results from all; each row of a search has its run, and each mask its digest.
    """
    recorded, bad = Recorded(folder), False
    try:
        for name in sorted(recorded.sums):
            try:
                recorded.content(name)
            except DamagedFile as error:
                bad = True
                yield str(error)
        listed = {folder / name for name in recorded.sums}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path not in listed and path.name not in UNLISTED:
                yield f"{path}: {MANIFEST} does not list it; it was left behind, so delete it."
        if not bad:
            yield from _contradictions(recorded)
    except DamagedFile as error:
        yield str(error)


def _contradictions(recorded: Recorded) -> Iterator[str]:
    """What does not fit together in tables whose files are all good."""
    in_searches = set(recorded.searches["key"].to_pylist())
    for key in sorted(in_searches - set(recorded.places)):
        yield f"{recorded.folder}: a search names run {key}, which is not recorded."
    for key in sorted(set(recorded.places) - in_searches):
        yield f"{recorded.folder}: run {key} belongs to no search."
    for digest, (name, *_) in recorded.masks.items():
        if Mask(recorded.mask(digest)).digest != digest:
            yield f"{recorded.folder / name}: holds another mask than {digest}."
    for record in map(recorded.find, recorded.keys):
        row, name = record.row, f"run {record.key}"
        if digest_text(row["key_text"]) != record.key:
            yield f"{name}: its text gives the key {digest_text(row['key_text'])}."
        told = {**record.spec["model"], **record.spec["training"]}
        for column in told.keys() & row.keys() - {"epochs"}:  # those set; a row's are those run
            if row[column] != told[column]:
                yield f"{name}: {column} is {row[column]} in its row, {told[column]} in its text."
        hits = hits_of(record.nested).means()
        for metric in METRIC_NAMES:
            if hits.get(metric) != row[metric]:
                yield f"{name}: {metric} is {row[metric]}, and {hits.get(metric)} by its hits."
        if results_digest(row, record.nested) != row["results_digest"]:
            yield f"{name}: its results are not those of its digest."

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
import pyarrow as pa
import pyarrow.parquet as pq

from lthnb.config import DENSE, digest_text
from lthnb.store.columns import METRIC_NAMES, SEARCH_COLUMNS
from lthnb.store.files import TEMPORARY, DamagedFile, StoreError, pack, sha256, write_file
from lthnb.store.records import (
    Record,
    hits_of,
    results_digest,
)
from lthnb.store.results import (
    HISTORY,
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
NESTED_HOW = {
    "use_dictionary": False,
    "use_byte_stream_split": [f"{name}.list.element" for name in HISTORY],
}


def write_parquet(path: Path, table: pa.Table, **how: Any) -> None:
    """A table as a file, all or nothing."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", compression_level=19, **how)
    write_file(path, buffer.getvalue().to_pybytes())


def write_manifest(folder: Path, paths: Iterable[Path] | None = None) -> None:
    """List files below the folder with their SHA-256, and that of the list itself.

    paths: those files; None for all that there are.
    """
    listed = folder.rglob("*") if paths is None else paths
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in listed
        if path.is_file() and path.name not in UNLISTED and not path.name.startswith(TEMPORARY)
    )
    lines = "".join(f"{sha256((folder / name).read_bytes())}  {name}\n" for name in names)
    last = f"{MARK.decode()}{sha256(lines.encode())}\n"
    write_file(folder / MANIFEST, (lines + last).encode())


def _also_list(recorded: Recorded, more: Iterable[Path]) -> None:
    """Write the manifest anew: what it lists, and more. What a kill left behind stays unlisted."""
    write_manifest(recorded.folder, {*map(recorded.folder.joinpath, recorded.sums), *more})


def group_of(row: Mapping[str, Any]) -> str:
    """The folder of a run: its data set and backbone."""
    name = "".join(c if c.isalnum() or c in "-_." else "_" for c in row["dataset"])
    return f"{name}-{row['backbone']}"


def nest(masks: Mapping[str, np.ndarray], rows: int, size: int) -> Iterator[dict[str, Any]]:
    """Masks by digest, as few rows of :data:`results.MASKS` as they lie within each other."""
    left = sorted(masks, key=lambda digest: -np.count_nonzero(masks[digest]))
    while left:
        chain = [left[0]]
        for digest in left[1:]:
            if len(chain) < 255 and not (masks[digest] & ~masks[chain[-1]]).any():
                chain.append(digest)
        fell = np.zeros((rows, size), np.uint8)
        for place, digest in reversed(list(enumerate(chain, start=1))):
            fell[~masks[digest]] = place
        yield {"digests": chain, "rows": rows, "size": size, "fell": fell.tobytes()}
        left = [digest for digest in left if digest not in chain]


def write_parts(
    folder: Path,
    rows: Iterable[Mapping[str, Any]],
    nested: Mapping[str, Mapping[str, np.ndarray]],
    searches: Iterable[Mapping[str, Any]],
    masks: Sequence[Mapping[str, np.ndarray]],
) -> list[Path]:
    """Write runs, each with its nested part, searches, and groups of masks by digest, into one part
    for each data set and backbone; the manifest is for the caller. Returns the files.

    searches: rows whose runs are in `rows`, or recorded before.
    """
    recorded, written = Recorded(folder), []
    by_group: dict[str, list] = defaultdict(list)
    group, of_mask = {}, {}
    for row in rows:
        by_group[group_of(row)].append(row)
        group[row["key"]] = of_mask[row["mask_digest"]] = group_of(row)
    found: dict[str, list] = defaultdict(list)
    for row in searches:
        known = group.get(row["key"]) or group_of(recorded.find(row["key"]).row)
        found[known].append(row)
    for name in sorted({*by_group, *found}):
        part = folder / name / f"{_next(folder / name):03d}"
        runs = sorted(by_group[name], key=lambda row: row["key"])
        if runs:
            path = part.with_suffix(".runs.parquet")
            write_parquet(path, pa.Table.from_pylist(runs, RUNS))
            written += [path, _write_nested(part, [row["key"] for row in runs], nested)]
        if found[name]:
            lines = sorted(found[name], key=lambda r: (r["search"], r["round"], -r["density"]))
            written.append(part.with_suffix(".searches.parquet"))
            write_parquet(written[-1], pa.Table.from_pylist(lines, SEARCHES))
        here = [m for m in masks if m and of_mask.get(next(iter(m))) == name]
        if here:
            chains = [line for m in here for line in nest(m, *next(iter(m.values())).shape)]
            written.append(part.with_suffix(".masks.parquet"))
            write_parquet(written[-1], pa.Table.from_pylist(chains, MASKS), use_dictionary=False)
        for row in runs:
            path = folder / "splits" / f"{row['data_digest']}.parquet"
            listed = path.is_file() and f"splits/{path.name}" in recorded.sums
            if path not in written and not listed:  # else it is what a kill left behind
                arrays = [pa.array(nested[row["key"]][part]) for part in SPLIT_PART]
                write_parquet(path, pa.Table.from_arrays(arrays, schema=SPLIT))
                written.append(path)
    return written


def _next(folder: Path) -> int:
    """The number of the next part: behind all that the manifest lists, and any other."""
    numbers = [int(path.name[:3]) for path in folder.glob("[0-9][0-9][0-9].*")]
    return max(numbers, default=0) + 1


def _write_nested(part: Path, keys: list[str], nested: Mapping) -> Path:
    columns = {"key": pa.array(keys)}
    for name in HISTORY:
        arrays = [nested[key][name] for key in keys]
        offsets = np.cumsum([0, *(len(a) for a in arrays)])
        values = pa.array(np.concatenate(arrays))
        columns[name] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)
    path = part.with_suffix(".nested.parquet")
    write_parquet(path, pa.table(columns), **NESTED_HOW)
    return path


def add(store: Store, keys: Sequence[str], *, masks: bool = True) -> list[Path]:
    """Copy finished runs of a store into the recorded tables, with their rows of searches.

    keys: of one's own runs; those that are recorded already are passed over, and so their searches
    may still be new. masks: with the bits of masks, of the lowest seed of each search, by which a
    run can be replayed at once; random ones are never kept, since their seed tells them. Returns
    the files written. Raises StoreError for a run that is not in the store.
    """
    folder, recorded = store.results, store.recorded_tables
    own = [key for key in dict.fromkeys(keys) if not store.is_recorded_result(key)]
    found = {key: store.find(key) for key in own}
    for key, record in found.items():
        if record is None:
            raise StoreError(f"run {key}: not in the store {store.folder}; nothing was added.")
    there = {*keys, *recorded.places}
    mine = [row for row in store.searches() if row["key"] in there]
    searches = [row for row in mine if identity(row) not in recorded.identities]
    if not own and not searches:
        return []
    groups = _masks_of(store, found, mine) if masks else []
    nested = {key: record.nested for key, record in found.items()}
    rows = [record.row for record in found.values()]
    written = write_parts(folder, rows, nested, searches, groups)
    _also_list(recorded, written)
    store.recorded_tables = Recorded(folder)  # what was read of them before is not all any more
    return written


def _masks_of(
    store: Store, found: Mapping[str, Record], searches: Iterable[Mapping[str, Any]]
) -> list[dict[str, np.ndarray]]:
    """The bits of the masks of some runs, by search: of each search of the lowest seed."""
    lowest: dict[tuple, int] = {}
    for row in searches:
        if row["key"] in found:
            kind = _kind(row, found[row["key"]].row)
            lowest[kind] = min(row["seed"], lowest.get(kind, row["seed"]))
    groups: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for row in searches:
        record = found.get(row["key"])
        if record is None or row["seed"] != lowest[_kind(row, record.row)]:
            continue
        about = record.pruning
        if about and about["criterion"] != "random" and about["digest"] != DENSE:
            mask = store.find_mask(about, record.shape)
            if mask is not None:
                groups[row["search"]][mask.digest] = mask.kept
    seen: set[str] = set()
    for masks in groups.values():
        for digest in seen & set(masks):
            del masks[digest]
        seen |= set(masks)
    return [masks for masks in groups.values() if masks]


def _kind(search: Mapping[str, Any], run: Mapping[str, Any]) -> tuple:
    """What searches share that differ in their seed alone."""
    tags = tuple(search[name] for name in SEARCH_COLUMNS if name not in VARY)
    return (*tags, *(run[name] for name in ("data_digest", "backbone", "embedding_size", "l2")))


VARY = ("search", "seed", "round", "density", "key")


def add_table(store: Store, key: str) -> Path:
    """Keep the trained table of a recorded run in `results/tables/`. Raises StoreError where its
    weights are not in the store."""
    table = store.find_weights(key, "best")
    if table is None:
        raise StoreError(f"run {key}: its weights are not in {store.folder}; replay it first.")
    path = store.results / "tables" / f"{key}.safetensors"
    write_file(path, pack({"table": table.astype(np.float32)}, {"key": key}))
    _also_list(store.recorded_tables, [path])
    store.recorded_tables = Recorded(store.results)
    return path


def compact(folder: Path) -> list[Path]:
    """Merge the parts of each data set and backbone into one, under the next number. Returns the
    files that went; they go once the manifest lists the new ones in their place."""
    recorded, gone, made = Recorded(folder), [], []
    parts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for kind in ("runs", "searches", "nested", "masks"):
        for name in recorded.parts(kind):
            parts[name.partition("/")[0], kind].append(name)
    number = {group: f"{_next(folder / group):03d}" for group, _ in parts}
    for (group, kind), names in parts.items():
        if len(names) > 1:
            table = pa.concat_tables([recorded.part(name) for name in names])
            how = {"nested": NESTED_HOW, "masks": {"use_dictionary": False}}.get(kind, {})
            made.append(folder / group / f"{number[group]}.{kind}.parquet")
            write_parquet(made[-1], table, **how)
            gone += [folder / name for name in names]
    stay = {folder / name for name in recorded.sums} - set(gone)
    write_manifest(folder, stay | set(made))
    for path in gone:
        path.unlink()
    return gone


def verify(folder: Path) -> Iterator[str]:
    """Read every recorded file, and check each run against itself; yields what is wrong.

    A key follows from its text, and settings from that too; metrics follow from the hits, and the
    digest of the results from all; each row of a search has its run, and each mask its digest.
    """
    recorded = Recorded(folder)
    try:
        names = sorted(recorded.sums)
        listed = {folder / name for name in names}
        yield from (wrong for name in names if (wrong := _damage(recorded.content, name)))
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path not in listed and path.name not in UNLISTED:
                yield f"{path}: {MANIFEST} does not list it; it was left behind, so delete it."
        for key in recorded.keys:
            yield from _wrong_run(recorded.find(key))
        for row in recorded.searches.to_pylist():
            if row["key"] not in recorded.places:
                yield f"{folder}: search {row['search'][:8]} names run {row['key']}, not recorded."
        in_searches = set(recorded.searches["key"].to_pylist())
        for key in sorted(set(recorded.places) - in_searches):
            yield f"{folder}: run {key} belongs to no search."
        digests = [d for name in recorded.parts("masks") for d in _digests(recorded, name)]
        yield from (wrong for d in digests if (wrong := _damage(recorded.mask, d)))
    except DamagedFile as error:
        yield str(error)


def _digests(recorded: Recorded, name: str) -> list[str]:
    return [digest for row in recorded.part(name)["digests"].to_pylist() for digest in row]


def _damage(read: Any, name: str) -> str:
    try:
        read(name)
    except DamagedFile as error:
        return str(error)
    return ""


# Settings that stand in a run's row and in the text of its key.
IN_BOTH = ("backbone", "embedding_size", "l2", "learning_rate", "batch_size", "protocol")


def _wrong_run(record: Record) -> Iterator[str]:
    row, name = record.row, f"run {record.key}"
    if digest_text(row["key_text"]) != record.key:
        yield f"{name}: its text gives the key {digest_text(row['key_text'])}."
    told = {**record.spec["model"], **record.spec["training"]}
    for column in IN_BOTH:
        if row[column] != told[column]:
            yield f"{name}: {column} is {row[column]} in its row, {told[column]} in its text."
    hits = hits_of(record.nested).means()
    for metric in METRIC_NAMES:
        if hits.get(metric) != row[metric]:
            yield f"{name}: {metric} is {row[metric]} in its row, {hits.get(metric)} by its hits."
    if results_digest(row, record.nested) != row["results_digest"]:
        yield f"{name}: its results are not those of its digest."

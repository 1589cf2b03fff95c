"""Writing the recorded tables: a part for each addition, the manifest last.

A kill in between leaves files that the manifest does not list; nobody reads them, `verify` names
them, and the next addition takes the next number.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lthnb.config import DENSE, Rotated, digest_text
from lthnb.pruning import Mask
from lthnb.store.files import DamagedFile, StoreError, pack, sha256, write_file
from lthnb.store.records import METRIC_NAMES, Record, results_digest
from lthnb.store.results import HISTORY, MANIFEST, MARK, SCHEMAS, SPLIT_PART, Recorded, identity
from lthnb.store.runs import Store, array_digest

UNLISTED = (MANIFEST, "README.md", "findings.csv")  # what the manifest does not list
MEASURED = "benchmarks/*.json"  # nor these, where they are one's own: `measured.load` checks them
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
    """Masks of one shape by digest, as few rows of :data:`results.SCHEMAS` as they lie within each
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
    arrays: Iterable[tuple[str, Mapping[str, Any]]] = (),
) -> list[Path]:
    """Write runs by key, rows of searches whose runs are among these or recorded before, masks and
    arrays, a group and a row of :func:`nest` or :func:`_arrays_of` each: one part for each data set
    and backbone. The manifest is for the caller. Returns the files."""
    recorded, tables, written = Recorded(folder), defaultdict(list), []
    for key in sorted(runs):
        one = runs[key]
        nested = {"key": key, **{name: one.nested[name] for name in HISTORY}}
        tables[group_of(one.row), "runs"].append(one.row)
        tables[group_of(one.row), "nested"].append(nested)
    for row in sorted(searches, key=lambda r: (r["search"], r["round"], -r["density"])):
        record = runs.get(row["key"]) or recorded.find(row["key"])
        tables[group_of(record.row), "searches"].append(row)
    tested: dict[tuple, dict[str, Any]] = {}
    for one in runs.values():
        if one.row["data_digest"] not in recorded.held("splits"):
            split = {part: one.nested[part] for part in SPLIT_PART}
            content = group_of(one.row), *(part.tobytes() for part in split.values())
            digests = tested.setdefault(content, {"digests": set(), **split})["digests"]
            digests.add(one.row["data_digest"])
    for (name, *_), split in tested.items():
        tables[name, "splits"].append(split | {"digests": sorted(split["digests"])})
    for name, chain in masks:
        tables[name, "masks"].append(chain)
    for name, row in arrays:
        tables[name, "arrays"].append(row)
    number = {name: _next(folder / name) for name, _ in tables}
    for (name, kind), rows in sorted(tables.items()):
        path = folder / name / f"{number[name]}.{kind}.parquet"
        written.append(write_parquet(path, pa.Table.from_pylist(rows, SCHEMAS[kind])))
    return written


def add(store: Store, keys: Sequence[str], *, masks: bool = True) -> list[Path]:
    """Copy finished runs of a store into the recorded tables, with their rows of searches.

    keys: of one's own runs; those that are recorded already are passed over, and so their searches
    may still be new. masks: with the masks of seed 0, by which a run can be replayed at once;
    random ones are never kept, since their seed tells them. Returns the files written. Raises
    StoreError for a run that is not in the store.
    """
    recorded, found = store.recorded_tables, {key: store.find(key) for key in keys}
    for key, record in found.items():
        if record is None:
            raise StoreError(f"run {key}: not in the store {store.folder}; nothing was added.")
    runs = {key: record for key, record in found.items() if key not in recorded.places}
    known = {*found, *recorded.places}
    mine = [row for row in store.searches() if row["key"] in known]
    new = [row for row in mine if identity(row) not in recorded.identities]
    kept = _masks_of(store, runs, mine) if masks else ()
    written = write_parts(store.results, runs, new, kept, _arrays_of(store, runs))
    if written:
        _also_list(store, written)
    return written


def _arrays_of(store: Store, found: Mapping[str, Record]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Group and row of each array that some runs start with or were pruned in."""
    known = set(store.recorded_tables.held("arrays"))
    for one in found.values():
        wanted, start = [(one.pruning or {}).get("rotation")], one.init
        while isinstance(start, Rotated):
            wanted, start = [*wanted, start.rotation], start.of
        for digest in {*wanted} - {None, *known}:
            values = store.get_array(digest)
            rows, size = values.shape
            about = {"rows": rows, "size": size, "values": values.tobytes()}
            yield group_of(one.row), {"digest": digest, **about}
            known.add(digest)


def _next(folder: Path) -> str:
    """The number of the next part: behind all that the manifest lists, and any other."""
    numbers = [int(path.name[:3]) for path in folder.glob("[0-9][0-9][0-9].*")]
    return f"{max(numbers, default=0) + 1:03d}"


def _masks_of(
    store: Store, found: Mapping[str, Record], searches: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Group and nested masks of some runs, search by search."""
    kept, known = defaultdict(dict), set(store.recorded_tables.held("masks"))
    for row in searches:
        one = found.get(row["key"]) if row["seed"] == 0 and row["criterion"] != "random" else None
        if one is None or one.row["mask_digest"] in {DENSE, *known}:
            continue
        mask = store.find_mask(one.pruning, one.shape)
        if mask is not None:
            kept[row["search"], group_of(one.row)][mask.digest] = mask.kept
            known.add(mask.digest)
    for (_, group), masks in kept.items():
        for chain in nest(masks):
            yield group, chain


def add_table(store: Store, key: str) -> Path:
    """Keep the trained table of a recorded run in `results/tables/`. Raises StoreError where its
    weights are not in the store; a replay brings them there."""
    table = store.get_weights(key, "best")
    path = store.results / "tables" / f"{key}.safetensors"
    write_file(path, pack({"table": table.astype(np.float32)}, {"key": key}))
    _also_list(store, [path])
    return path


def compact(folder: Path) -> list[Path]:
    """Merge the parts of each data set and backbone that have rows of `runs` and of `searches` into
    one, under the next number; of the others a row is read at a time, so that they stay. Returns
    the files that went; they go once the manifest lists the new ones in their place."""
    recorded, gone, made = Recorded(folder), [], []
    parts = defaultdict(list)
    for name in sorted(recorded.sums):
        group, _, file = name.rpartition("/")
        if (kind := file.split(".")[1]) in ("runs", "searches"):
            parts[group, kind].append(name)
    number = {group: _next(folder / group) for group, _ in parts}
    for (group, kind), names in parts.items():
        if len(names) > 1:
            table = pa.concat_tables(map(recorded.part, names), promote_options="default")
            made.append(write_parquet(folder / group / f"{number[group]}.{kind}.parquet", table))
            gone += names
    write_manifest(folder, {n: s for n, s in recorded.sums.items() if n not in gone}, made)
    for name in gone:
        (folder / name).unlink()
    return [folder / name for name in gone]


def verify(folder: Path) -> Iterator[str]:
    """Read every recorded file, and check each run against itself; yields what is wrong.

    A key follows from its text, and settings from that too; metrics follow from the hits, and the
    digest of the results from all; each row of a search has its run, and each mask its digest.
    """
    recorded, bad = Recorded(folder), []
    try:
        for name in sorted(recorded.sums):
            try:
                recorded.content(name)
            except DamagedFile as error:
                bad.append(str(error))
        yield from bad
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            known = name.as_posix() in recorded.sums or name.match(MEASURED)
            if path.is_file() and not known and path.name not in UNLISTED:
                yield f"{path}: {MANIFEST} does not list it; it was left behind, so delete it."
        if not bad:
            yield from _contradictions(recorded)
    except DamagedFile as error:
        yield str(error)


def _contradictions(recorded: Recorded) -> Iterator[str]:
    """What does not fit together in tables whose files are all good."""
    for key in sorted(set(recorded.searches["key"].to_pylist()) ^ set(recorded.places)):
        yield f"{recorded.folder}: run {key} is not both recorded and in a search."
    for digest, (name, *_) in recorded.held("masks").items():
        if Mask(recorded.mask(digest)).digest != digest:
            yield f"{recorded.folder / name}: holds another mask than {digest}."
    for digest, (name, *_) in recorded.held("arrays").items():
        if array_digest(recorded.array(digest)) != digest:
            yield f"{recorded.folder / name}: holds another array than {digest}."
    for key in recorded.places:
        record = recorded.find(key)
        row, spec = record.row, json.loads(record.row["key_text"])["spec"]
        told = {**spec["model"], **spec["training"]}
        told = {name: told[name] for name in told.keys() & row.keys() - {"epochs"}}  # as set
        means = record.hits().means()
        expected = {
            **{name: means.get(name) for name in METRIC_NAMES},
            **told,
            "key": digest_text(row["key_text"]),
            "results_digest": results_digest(row, record.nested),
        }
        for name, value in expected.items():
            if row[name] != value:
                yield f"run {key}: {name} is {row[name]}, expected {value} by the rest of the run."

"""The recorded tables: what was run for the book, as two tables that anybody can read.

On disk, below `results/`: `DATASET-BACKBONE/NNN.runs.parquet`, one row a run;
`NNN.searches.parquet`, one row for each round of each search; `NNN.nested.parquet`, histories and
hits; `NNN.splits.parquet`, who was tested on how many items; `NNN.masks.parquet`, masks where they
are kept; `NNN.arrays.parquet`, rotations of starts. `tables/KEY.safetensors` has a few trained
tables. `SHA256SUMS` lists them all, and a file that it does not list, or whose content does not
fit, is not believed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lthnb.store.files import (
    DamagedFile,
    default_folder,
    good,
    read_arrays,
    read_row,
    results_folder,
    sha256,
    unpack,
)
from lthnb.store.records import (
    NESTED,
    RUN_COLUMNS,
    SEARCH_COLUMNS,
    SPLIT_PART,
    Record,
    pruning_key,
)

MANIFEST = "SHA256SUMS"
MARK = b"# SHA-256 of the lines above: "  # how its last line begins; `sha256sum -c` passes it over
REMEDY = "Take it anew from where the project came from (`git checkout -- results`)."

TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
HISTORY = [name for name in NESTED if name not in SPLIT_PART]
# Of the files, by their kind. `fell`: for each entry, row by row, the place in `digests` of the
# first mask that lacks it, from 1, or 0 where all keep it: masks that lie within each other.
# `digests` of splits: of all data with the same test part.
SCHEMAS = {
    "runs": pa.schema([(name, TYPES[kind]) for name, (kind, _) in RUN_COLUMNS.items()]),
    "searches": pa.schema([(name, TYPES[kind]) for name, (kind, _) in SEARCH_COLUMNS.items()]),
    "nested": pa.schema(
        {"key": pa.string()}
        | {name: pa.list_(pa.from_numpy_dtype(NESTED[name])) for name in HISTORY}
    ),
    "masks": pa.schema(
        {"digests": pa.list_(pa.string()), "rows": pa.int64()}
        | {"size": pa.int64(), "fell": pa.binary()}
    ),
    "arrays": pa.schema(
        {"digest": pa.string(), "rows": pa.int64(), "size": pa.int64(), "values": pa.binary()}
    ),
    "splits": pa.schema(
        {"digests": pa.list_(pa.string())} | {name: pa.list_(pa.uint32()) for name in SPLIT_PART}
    ),
}
FIRST = ["dataset", "backbone", "embedding_size", "protocol", "l2", "method", "rate", "rewind"]
FIRST += ["seed", "round", "density", "recall@20", "ndcg@20", "valid_recall@20", "best_epoch"]
FIRST += ["epochs", "seconds", "key"]  # columns of the join, in front
IDENTITY = ["search", "round", "density"]  # of a row of the searches
MAY_BE_EMPTY = ("mask_seed", "init_seed", "layers", "rewind_epoch")


class Recorded:
    """The recorded tables of a folder; each file is checked, and read once.

    Raises DamagedFile, naming the file, where one is torn, altered or not listed.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = Path(folder) if folder is not None else results_folder()
        self._parts: dict[str, pa.Table] = {}
        self._held: dict[str, dict[str, tuple[str, int, int]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Another process reads what it needs.
        return {"folder": self.folder, "_parts": {}, "_held": {}}

    @cached_property
    def sums(self) -> dict[str, str]:
        """Name below the folder → SHA-256, as the manifest has them."""
        path = self.folder / MANIFEST
        if not path.is_file():
            return {}
        lines, _, last = path.read_bytes().rpartition(MARK)
        if last.decode(errors="replace") != f"{sha256(lines)}\n":
            raise DamagedFile(f"{path}: its last line does not fit the others. {REMEDY}")
        pairs = (line.split("  ", 1) for line in lines.decode().splitlines())
        return {name: digest for digest, name in pairs}

    def content(self, name: str) -> bytes:
        """The bytes of a file that the manifest lists, checked."""
        path = self.folder / name
        content = path.read_bytes() if path.is_file() else b""
        if sha256(content) != self.sums.get(name):
            raise DamagedFile(f"{path}: is not there or not as {MANIFEST} has it. {REMEDY}")
        return content

    def parts(self, kind: str) -> list[str]:
        """The files of a kind: `runs`, `searches`, `nested`, `splits`, `masks` or `arrays`."""
        return [name for name in sorted(self.sums) if name.endswith(f".{kind}.parquet")]

    def part(self, name: str) -> pa.Table:
        """One file as a table."""
        if name not in self._parts:
            part = pq.ParquetFile(pa.BufferReader(self.content(name)))
            self._parts[name] = part.read(use_threads=False)  # parts are many and small
        return self._parts[name]

    def _all(self, kind: str, unique: list[str]) -> pa.Table:
        """The parts of a kind as one table; a column that a part was written without is empty."""
        schema = SCHEMAS[kind]
        parts = [schema.empty_table(), *map(self.part, self.parts(kind))]
        table = pa.concat_tables(parts, promote_options="default").select(schema.names)
        rows = table.select(unique).to_pandas()
        if rows.duplicated().any():
            twice = rows[rows.duplicated()].iloc[0].to_dict()
            raise DamagedFile(f"{self.folder}: {kind} stand twice, such as {twice}. {REMEDY}")
        return table.combine_chunks()

    @cached_property
    def runs(self) -> pa.Table:
        """One row a run, :data:`records.RUN_COLUMNS`. Raises DamagedFile where a key stands
        twice."""
        return self._all("runs", ["key"])

    @cached_property
    def searches(self) -> pa.Table:
        """One row for each round of each search, :data:`records.SEARCH_COLUMNS`."""
        return self._all("searches", IDENTITY)

    @cached_property
    def places(self) -> dict[str, int]:
        """Key → its place in :attr:`runs`."""
        return {key: place for place, key in enumerate(self.runs["key"].to_pylist())}

    def find(self, key: str) -> Record | None:
        """The record of a run, or None."""
        if key not in self.places:
            return None
        [row] = self.runs.slice(self.places[key], 1).to_pylist()
        return Record(row, partial(self.nested, key, row["data_digest"]))

    def held(self, kind: str) -> dict[str, tuple[str, int, int]]:
        """What is kept in the files of a kind, by its key or digest, of which a row has one or
        several → file, row, and place among the row's from 1."""
        if kind not in self._held:
            column = SCHEMAS[kind].names[0]
            self._held[kind] = {
                one: (name, row, place)
                for name in self.parts(kind)
                for row, held in enumerate(self.part(name)[column].to_pylist())
                for place, one in enumerate([held] if isinstance(held, str) else held, start=1)
            }
        return self._held[kind]

    def nested(self, key: str, data_digest: str) -> dict[str, np.ndarray]:
        """The nested part of a run, :data:`records.NESTED`."""
        places = self.held("nested")[key], self.held("splits")[data_digest]
        both = zip(places, (HISTORY, SPLIT_PART), strict=True)
        return {
            n: np.asarray(self.part(name)[n][row].values, NESTED[n])
            for (name, row, _), names in both
            for n in names
        }

    @cached_property
    def prunings(self) -> dict[str, dict[str, Any]]:
        """Key of a pruning → what is told of it, and of the mask that it gave."""
        texts = {text for text in self.runs["pruning"].to_pylist() if text}
        return {pruning_key(about): about for about in map(json.loads, sorted(texts))}

    @cached_property
    def identities(self) -> set[tuple]:
        """:func:`identity` of each row of the searches."""
        return {identity(row) for row in self.searches.select(IDENTITY).to_pylist()}

    def mask(self, digest: str) -> np.ndarray | None:
        """The bits of a mask, bool (rows, F), or None where they are not kept."""
        if digest not in self.held("masks"):
            return None
        name, row, place = self.held("masks")[digest]
        [line] = self.part(name).slice(row, 1).to_pylist()
        fell = np.frombuffer(line["fell"], np.uint8).reshape(line["rows"], line["size"])
        return (fell == 0) | (fell > place)

    def array(self, digest: str) -> np.ndarray | None:
        """An array that runs start with, float64 (rows, size), or None where it is not kept."""
        if digest not in self.held("arrays"):
            return None
        name, row, _ = self.held("arrays")[digest]
        [line] = self.part(name).slice(row, 1).to_pylist()
        return np.frombuffer(line["values"], "<f8").reshape(line["rows"], line["size"])

    def table(self, key: str) -> np.ndarray | None:
        """The trained table of a run, (rows, F), where it is one of the few that are kept."""
        name = f"tables/{key}.safetensors"
        return unpack(self.content(name))[0]["table"] if name in self.sums else None


def identity(row: Mapping[str, Any]) -> tuple:
    """What no two rows of the searches share."""
    return tuple(row[name] for name in IDENTITY)


def live_rows(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    """The rows of a store's finished `runs`, or `searches`; a damaged one is named and passed
    over."""
    for path in sorted((folder / kind).glob("*/*.json")):
        if row := good(read_row, path):
            yield row


def to_frame(table: pa.Table) -> pd.DataFrame:
    """A table of runs or searches as pandas has it; whole numbers that may be empty stay exact."""
    exact = table.select([name for name in MAY_BE_EMPTY if name in table.column_names])
    exact = exact.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    frame = table.to_pandas().assign(**exact)
    return frame.fillna({"optimizer": "adam"})  # rows from before there was a choice


def results(
    *,
    unique: bool = False,
    nested: bool = False,
    live: bool = False,
    folder: Path | str | None = None,
) -> pd.DataFrame:
    """All recorded runs as a DataFrame: one row for each round of each search, so that a run which
    several searches share stands once for each. `results/README.md` explains the columns.

    unique: one row a run instead. nested: with the columns of :data:`records.NESTED`, arrays of
    losses, evaluations and hits. live: with the runs of one's own store, which the column `live`
    tells apart; a run that is recorded too stands once. folder: of the recorded tables. Raises
    DamagedFile, naming it, for a file that is torn or altered.
    """
    recorded, own = Recorded(folder), default_folder()
    runs, searches = recorded.runs, recorded.searches
    if live:
        more = [row for row in live_rows(own, "runs") if row["key"] not in recorded.places]
        runs = pa.concat_tables([runs, pa.Table.from_pylist(more, runs.schema)])
        more = live_rows(own, "searches")
        more = [row for row in more if identity(row) not in recorded.identities]
        searches = pa.concat_tables([searches, pa.Table.from_pylist(more, searches.schema)])
    frame = to_frame(runs)
    if live:
        frame["live"] = ~frame["key"].isin(list(recorded.places))
    if nested:
        both = zip(frame["key"], frame["data_digest"], strict=True)
        found = [
            recorded.nested(key, data)
            if key in recorded.places
            else read_arrays(own / "runs" / key / "nested.safetensors")[0]
            for key, data in both
        ]
        frame = frame.assign(**{name: [one[name] for one in found] for name in NESTED})
    return frame if unique else join(to_frame(searches), frame)


def join(searches: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each round of each search, with all columns of its run behind.

    Density is the search's; it differs from the run's for LCM alone.
    """
    shared = [name for name in searches.columns if name in runs.columns and name != "key"]
    frame = searches.merge(runs.drop(columns=shared), on="key", validate="many_to_one")
    return frame[[*FIRST, *(name for name in frame.columns if name not in FIRST)]]

"""The store of one's own runs: they finish, stop and go on. Recorded ones lie beside them.

Under the store's folder, `runs/KEY/` holds a training: `row.json`, `nested.safetensors`,
`weights-best.safetensors` and other snapshots, and `checkpoint-EPOCH.safetensors` while it is under
way; `masks/KEY.safetensors` what a pruning gave, `searches/SEARCH/` a small file for each row of a
search, `arrays/` what a run may start from, `locks/` one lock a key. Each file has its checksum
beside it. A damaged one is named, not read, and made again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from lthnb.config import DENSE, canonical, digest_text
from lthnb.pruning import Mask, drawn
from lthnb.store.files import (
    TEMPORARY,
    StoreError,
    default_folder,
    explained,
    good,
    pack,
    read_arrays,
    read_checked,
    read_row,
    results_folder,
    say,
    sha256,
    write_checked,
)
from lthnb.store.records import Record, pruning_key
from lthnb.store.results import Recorded, identity, live_rows

SAY_AFTER, POLL = 2.0, 0.1  # seconds of a wait for a lock: until it is said, and between two looks


class Store:
    """A folder of runs, and beside it the recorded ones, which are only read.

    folder: where runs are written (None: :func:`files.default_folder`). results: the recorded
    tables ("": :func:`files.results_folder`; None: none at all). Neither needs to exist.
    """

    def __init__(self, folder: Path | str | None = None, results: Path | str | None = "") -> None:
        self.folder = Path(folder) if folder is not None else default_folder()
        self.results = results_folder() if results == "" else results and Path(results)
        self.recorded_tables = Recorded(self.results or self.folder / "no results")

    def _run(self, key: str, name: str = "") -> Path:
        return self.folder / "runs" / key / name

    def _arrays(self, kind: str, key: str) -> Path:
        return self.folder / kind / f"{key}.safetensors"

    # Runs

    def find(self, key: str) -> Record | None:
        """The record of a finished training, or None."""
        row = good(read_row, self._run(key, "row.json"))
        found = row and good(read_arrays, self._run(key, "nested.safetensors"))
        return Record(row, lambda: found[0]) if found else self.recorded_tables.find(key)

    def put(self, row: Mapping[str, Any], nested: Mapping[str, np.ndarray]) -> None:
        """Write a finished training; the row comes last, so that a row means a finished one."""
        key = row["key"]
        write_checked(self._run(key, "nested.safetensors"), pack(dict(nested), {"key": key}))
        write_checked(self._run(key, "row.json"), (json.dumps(row, indent=1) + "\n").encode())

    def run_keys(self) -> list[str]:
        """Keys of all finished trainings, one's own and the recorded ones, sorted."""
        return sorted({*self.own_keys(), *self.recorded_tables.places})

    def own_keys(self) -> list[str]:
        """Keys of one's own finished trainings, sorted."""
        return sorted(path.parent.name for path in self.folder.glob("runs/*/row.json"))

    def resolve(self, prefix: str) -> Record:
        """The one run whose key starts with `prefix`. Raises StoreError where none or several do,
        or its record cannot be read."""
        found = [key for key in self.run_keys() if prefix and key.startswith(prefix)]
        if len(found) != 1:
            raise StoreError(
                f"run {prefix!r}: found {len(found)} runs that start so, expected one; "
                "`python -m lthnb results list` shows all."
            )
        record = self.find(found[0])
        if record is None:
            raise StoreError(f"run {found[0]}: its record cannot be read; train it again.")
        return record

    # Weights, checkpoints, arrays

    def put_weights(self, key: str, epoch: int | str, table: np.ndarray) -> None:
        """Write a table of a run: that of an epoch (from 1), or of the ``best`` one."""
        path = self._run(key, f"weights-{epoch}.safetensors")
        write_checked(path, pack({"table": table}, {"key": key, "epoch": epoch}))

    def find_weights(self, key: str, epoch: int | str) -> np.ndarray | None:
        """A table of a run, (rows, F), or None; of the few recorded ones the best epoch's."""
        found = good(read_arrays, self._run(key, f"weights-{epoch}.safetensors"))
        if found is not None:
            return found[0]["table"]
        return self.recorded_tables.table(key) if epoch == "best" else None

    def get_weights(self, key: str, epoch: int | str) -> np.ndarray:
        """The same. Raises StoreError where it is not kept."""
        table = self.find_weights(key, epoch)
        if table is None:
            raise StoreError(
                f"run {key[:8]}: its weights of epoch {epoch!r} are not kept here; train that run, "
                f"or ask it for `.ensure_weights({epoch!r})`, which trains it again up to there."
            )
        return table

    def put_checkpoint(self, key: str, arrays: dict[str, np.ndarray], state: dict) -> None:
        """Write where a training stands: arrays, and plain data beside them."""
        path = self._run(key, f"checkpoint-{state['epoch']:06d}.safetensors")
        write_checked(path, pack(arrays, {"key": key, "state": state}))
        self.drop_checkpoint(key, but=path)

    def find_checkpoint(self, key: str) -> tuple[dict[str, np.ndarray], dict] | None:
        """What :meth:`put_checkpoint` wrote last, or None."""
        for path in sorted(self._run(key).glob("checkpoint-*.safetensors"), reverse=True):
            if found := good(read_arrays, path):
                return found[0], found[1]["state"]
        return None

    def drop_checkpoint(self, key: str, but: Path | None = None) -> None:
        """Remove the checkpoints of a run, but one."""
        for path in self._run(key).glob("checkpoint-*"):
            if but is None or not path.name.startswith(but.name):
                with contextlib.suppress(OSError):  # in a read-only store it may stay
                    path.unlink()

    def put_array(self, values: np.ndarray) -> str:
        """Keep an array that a run starts from, such as a rotation, in float64; returns its
        digest."""
        values = np.ascontiguousarray(values, np.float64)
        key = array_digest(values)
        path = self._arrays("arrays", key)
        with self.lock(key):
            if good(read_arrays, path) is None:
                write_checked(path, pack({"values": values}, {"key": key}))
        return key

    def get_array(self, key: str) -> np.ndarray:
        """The array kept under a digest. Raises StoreError where it is missing."""
        found = good(read_arrays, self._arrays("arrays", key))
        values = found[0]["values"] if found else self.recorded_tables.array(key)
        if values is None:
            raise StoreError(f"array {key}: not in the store {self.folder}; put it there first.")
        return values

    # Masks

    def put_mask(self, mask: Mask, about: Mapping[str, Any]) -> dict[str, Any]:
        """Keep what a pruning gave: the mask, and the plain data `about` it: what the pruning
        depended on. Returns those with the mask's digest and entries."""
        key, about = pruning_key(about), {**about, "digest": mask.digest, "entries": mask.entries}
        bits = {"bits": np.packbits(mask.kept), "shape": np.array(mask.shape)}
        with self.lock(key):
            if self._own_mask(key)[1] != about:
                write_checked(
                    self._arrays("masks", key), pack(bits, {"key": key, "pruning": about})
                )
        return about

    def _own_mask(self, key: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        arrays, about = good(read_arrays, self._arrays("masks", key)) or ({}, {"pruning": {}})
        return arrays, about["pruning"]

    def find_pruning(self, key: str) -> dict[str, Any] | None:
        """The plain data about a mask: its digest and entries among them; or None."""
        return self._own_mask(key)[1] or self.recorded_tables.prunings.get(key)

    def find_mask(self, about: Mapping[str, Any] | None, shape: tuple[int, int]) -> Mask | None:
        """The mask that a pruning gave, None where its bits are not kept. about: the plain data
        about it, None for the dense mask. A random one is drawn again."""
        if about is None or about["digest"] == DENSE:
            return Mask.dense(*shape)
        arrays, own = self._own_mask(pruning_key(about))
        if own and own["digest"] == about["digest"]:
            bits = np.unpackbits(arrays["bits"], count=shape[0] * shape[1])
            return Mask(bits.reshape(shape).astype(bool))
        kept = self.recorded_tables.mask(about["digest"])
        if kept is not None:
            return Mask(kept)
        if about["criterion"] == "random" and (mask := drawn(about)).digest == about["digest"]:
            return mask
        return None

    # Searches

    def put_search(self, row: Mapping[str, Any]) -> None:
        """Keep a row of a search (:func:`records.search_row`), unless it is there."""
        if identity(row) in self.recorded_tables.identities:
            return
        name = digest_text(canonical([row["round"], row["density"]]))[:8]
        path = self.folder / "searches" / row["search"] / f"{row['round']:03d}-{name}.json"
        if good(read_row, path) is None:
            with self.lock(row["search"]):
                write_checked(path, (json.dumps(dict(row), indent=1) + "\n").encode())

    def searches(self) -> list[dict[str, Any]]:
        """The rows of one's own searches."""
        return list(live_rows(self.folder, "searches"))

    # Sharing

    @contextlib.contextmanager
    def lock(self, key: str, check: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold a key: a second process that asks for the same training waits, then finds it done.

        check: called again and again while another process holds the key; what it raises ends the
        wait. A wait of more than two seconds is said on standard error. The operating system
        releases the lock of a process that is killed.
        """
        path = self.folder / "locks" / f"{key}.lock"
        lock = FileLock(path)
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(Timeout):
                lock.acquire(SAY_AFTER, POLL)
            if not lock.is_locked:
                say(f"run {key[:8]}: another process is training it; waiting for its end.")
            while not lock.is_locked:
                check()
                with contextlib.suppress(Timeout):
                    lock.acquire(POLL, POLL)
        try:
            # What a killed process left half written: whoever writes these holds this lock.
            for pattern in (f"*/{key}/{TEMPORARY}*", f"*/{TEMPORARY}{key}*"):
                for left in self.folder.glob(pattern):
                    left.unlink(missing_ok=True)
            yield
        finally:
            lock.release()

    def verify(self) -> Iterator[str]:
        """Read every file of the store; yields what is wrong and what to do, for each that is not
        good."""
        for path in sorted(self.folder.rglob("*")):
            if not path.is_file() or path.parent.name == "locks" or path.suffix == ".sha256":
                continue
            try:
                (read_row if path.suffix == ".json" else read_checked)(path)
            except StoreError as error:
                yield f"{error} Delete it, or run its training again, which makes it anew."


def array_digest(values: np.ndarray) -> str:
    """By which an array is kept: SHA-256 over shape, type and values, first 128 bits."""
    shape = repr((values.shape, values.dtype.str)).encode()
    return sha256(shape + np.ascontiguousarray(values).tobytes())[:32]

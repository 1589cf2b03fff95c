"""Runs on disk: the only module that names files.

A store is a folder. Under it, `runs/KEY/` holds a training: `record` (what came out, as text),
`weights-best` and other snapshots, and `checkpoint` while it is under way; `masks/KEY` holds the
mask that a pruning gave, `arrays/DIGEST` a stored array (a rotation), `locks/` one lock per key.

Every file starts with one line, ``lthnb KIND VERSION SHA256``, whose checksum covers kind, version
and all that follows: a torn or altered file is told from a good one, named, set aside and never
read. Records, masks and arrays answer to the key that they lie under, and are refused under any
other. Files are written under a temporary name, flushed to disk and renamed, by whoever holds the
lock of their key.

`results/` of the project is a second, read-only place in which records and masks are looked up:
recorded runs, without tables of weights, their records compressed (half as large), and of a mask
that was pruned from another only which of the other's entries are left (a third as large). What
the records of a split say alike, who was tested on how many items, lies once, under
`texts/DIGEST` (it was nearly a third of them).

What the operating system refuses (a full disk, a read-only folder, no locks) is a StoreError that
says what to do.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import errno
import hashlib
import io
import itertools
import json
import lzma
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lthnb import __version__, measured
from lthnb.config import DENSE, canonical, digest_text, nearest
from lthnb.data import card
from lthnb.evaluation import Hits
from lthnb.pruning import Mask, drawn

FORMAT = 1
BENCHMARKS = "benchmarks"  # folder of results/ that holds what `make bench` measured
TEMPORARY = ".tmp-"  # what unfinished files are called
XZ = b"\xfd7zXZ\x00"  # how what lzma gave begins, and no text of a record
PIECE_BYTES = 15_000_000  # most bytes in one piece of an export
SAY_AFTER, POLL = 2.0, 0.1  # seconds of a wait for a lock: until it is said, and between two looks

CARRY = "`runs export` and `runs import` carry runs from one store to another"


class StoreError(RuntimeError):
    """The store cannot do what was asked: names the file or key, and what to do."""


class DamagedFile(StoreError):
    """A file whose checksum does not fit its content, or that is none of ours."""


class StoreBusy(StoreError):
    """Another process holds a key, and who waited for it was told to stop, for a `reason`."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(key, reason)  # the same arguments, so that it pickles
        self.key, self.reason = key, reason

    def __str__(self) -> str:
        return f"run {self.key[:8]}: another process is training it; stopped waiting: {self.reason}"


def project_folder() -> Path:
    """The checkout that holds this package where there is one, else the current folder."""
    here = Path(__file__).resolve().parent.parent
    return here if (here / "pyproject.toml").exists() else Path.cwd()


def default_folder() -> Path:
    """Where runs are kept: ``$LTHNB_STORE``, else `.store` in the checkout."""
    return Path(os.environ.get("LTHNB_STORE") or project_folder() / ".store")


def results_folder() -> Path:
    """The recorded runs that come with the project: ``$LTHNB_RESULTS``, else `results/`."""
    return Path(os.environ.get("LTHNB_RESULTS") or project_folder() / "results")


# Files


def seal(kind: str, payload: bytes) -> bytes:
    """The bytes of a file: a line with kind, version and checksum, then the payload."""
    head = f"lthnb {kind} {FORMAT}"
    checksum = hashlib.sha256(head.encode() + b"\n" + payload).hexdigest()
    return f"{head} {checksum}\n".encode() + payload


def unseal(kind: str, content: bytes, name: str) -> bytes:
    """The payload of a file's bytes. Raises DamagedFile naming the file and what is wrong."""
    line, _, payload = content.partition(b"\n")
    words = line.split(b" ")
    if len(words) != 4 or words[0] != b"lthnb":
        raise DamagedFile(f"{name}: not a file of lthnb (its first line is {line[:60]!r}).")
    head = b" ".join(words[:3])
    # The version comes after the checksum: a later one keeps this line, and a flipped bit in the
    # version's digit is damage.
    if hashlib.sha256(head + b"\n" + payload).hexdigest().encode() != words[3]:
        raise DamagedFile(f"{name}: its checksum does not fit its content; it is torn or altered.")
    if words[2] != str(FORMAT).encode():
        raise StoreError(
            f"{name}: written in format {words[2].decode()}, this version reads {FORMAT}; "
            "update lthnb."
        )
    if words[1] != kind.encode():
        raise DamagedFile(f"{name}: holds {words[1].decode()!r}, expected {kind!r}.")
    return payload


def _codes(*names: str) -> set[int]:
    return {getattr(errno, name) for name in names if hasattr(errno, name)}


FULL = _codes("ENOSPC", "EDQUOT", "EFBIG")
FORBIDDEN = _codes("EROFS", "EACCES", "EPERM")
NO_LOCKS = _codes("ENOLCK", "ENOSYS", "EOPNOTSUPP", "ENOTSUP")
IN_THE_WAY = _codes("EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY", "ELOOP")


def _refusal(path: Path, error: OSError | NotImplementedError, needed: int) -> StoreError:
    """What the operating system refused when `needed` bytes were to be written to a file (0: when
    it was to be read), and what to do about it."""
    code = error.errno if isinstance(error, OSError) else errno.ENOSYS
    why = getattr(error, "strerror", None) or str(error)
    there = next((p for p in (path, *path.parents) if os.path.lexists(p)), path)
    if code in NO_LOCKS:
        return _no_locks(path.parent, why)
    if code in FULL:
        folder = there if there.is_dir() else there.parent
        limit = " `ulimit -f` says how large a file may be." if code == errno.EFBIG else ""
        return StoreError(
            f"{path}: {why}; {needed:,} bytes are needed, {shutil.disk_usage(folder).free:,} are "
            f"free in {folder}.{limit} Nothing half-written is left. Free space there, or copy the "
            "store to a larger disk and point LTHNB_STORE to it; then the same command goes on "
            "from the last checkpoint."
        )
    if code in IN_THE_WAY:
        return StoreError(
            f"{path}: {why}; {there} is not what the store keeps there. Move it away, and run the "
            "same command again."
        )
    if not needed:
        return StoreError(
            f"{path}: cannot be read: {why}. Nothing was changed. Make it readable, or point "
            "LTHNB_STORE to another folder."
        )
    if code in FORBIDDEN:
        return StoreError(
            f"{path}: cannot be written: {why}. Finished runs can be read in such a folder; to "
            f"train more, point LTHNB_STORE to one that can be written ({CARRY})."
        )
    return StoreError(
        f"{path}: cannot be written: {why}. Nothing half-written is left. Look after the disk, or "
        "point LTHNB_STORE to another folder."
    )


def _no_locks(folder: Path, why: str) -> StoreError:
    return StoreError(
        f"{folder}: locks do not work on this file system, which is a network folder most often "
        f"({why}), and two processes could train one run at once. Point LTHNB_STORE to a folder "
        f"on a local disk; {CARRY}."
    )


@contextlib.contextmanager
def _explained(path: Path, needed: int) -> Iterator[None]:
    """What the operating system refuses is a StoreError; see :func:`_refusal`."""
    try:
        yield
    except (OSError, NotImplementedError) as error:
        raise _refusal(path, error, needed) from error


def write_file(path: Path, content: bytes) -> None:
    """Write all or nothing: a temporary file beside it, flushed to disk, then renamed.

    Raises StoreError, naming the file, the reason and the remedy, where that is refused.
    """
    with _explained(path, max(1, len(content))):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                if os.name == "posix":
                    with contextlib.suppress(PermissionError):  # some disks know no such rights
                        os.fchmod(handle, 0o644)  # mkstemp's files are for their owner alone
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        if os.name != "posix":  # elsewhere a folder cannot be flushed
            return
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _content(path: Path) -> bytes | None:
    """A file's bytes, None where there is none. Raises DamagedFile for what is no file, and
    StoreError where it cannot be read."""
    with _explained(path, 0):
        try:
            if path.is_file():
                return path.read_bytes()
        except FileNotFoundError:  # it went in this moment
            return None
    if not os.path.lexists(path):
        return None
    raise DamagedFile(f"{path}: a folder, or a link that leads to no file; expected a file.")


def pack_arrays(arrays: dict[str, np.ndarray], compress: bool = False) -> bytes:
    """Named arrays as the bytes of an npz."""
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def unpack_arrays(payload: bytes) -> dict[str, np.ndarray]:
    """The arrays of :func:`pack_arrays`; nothing is executed."""
    with np.load(io.BytesIO(payload), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


# Records


@dataclass(frozen=True)
class Record:
    """What one training came to, as plain data.

    key, spec, data, init, mask, numerics: what the run is (`data` is
    :meth:`Interactions.summary`, `mask` holds digest, entries and density). results: all that the
    computation gave, the same bits wherever it is repeated on the same kind of machine: best epoch,
    epochs run, metrics on valid and test, history by epoch, hits by user. circumstances: what may
    differ: seconds, machine, versions, commit, date.
    """

    key: str
    spec: dict[str, Any]
    data: dict[str, Any]
    init: dict[str, Any]
    mask: dict[str, Any]
    numerics: dict[str, int]
    results: dict[str, Any]
    circumstances: dict[str, Any] = field(default_factory=dict)

    @property
    def density(self) -> float:
        """Share of the table's entries that live."""
        return self.mask["density"]

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights count, from 1: that of the best Recall@20 on the chosen part."""
        return self.results["best_epoch"]

    @property
    def epochs(self) -> int:
        """Epochs run."""
        return self.results["epochs"]

    @property
    def seconds(self) -> float:
        """Wall time of the training, evaluations included, over all its interruptions."""
        return self.circumstances["seconds"]

    def metric(self, name: str, part: str = "test") -> float:
        """A metric such as ``recall@20`` on a part. Raises KeyError naming what there is."""
        metrics = self.results[part]
        if name not in metrics:
            raise KeyError(
                f"run {self.key[:8]}: no {name!r} on {part}, there is {', '.join(metrics) or '-'}."
            )
        return metrics[name]

    def hits(self) -> Hits:
        """The top-20 hits of every test user, from which all metrics at k ≤ 20 follow."""
        return unpack_hits(self.results["hits"])

    @property
    def results_digest(self) -> str:
        """Digest of what the computation gave: equal digests are equal results, bit for bit."""
        return digest_text(canonical({"key": self.key, "results": self.results}))

    def described(self) -> dict[str, str]:
        """What a person wants to know of the run first, as text."""
        model, chosen = self.spec["model"], self.spec["training"]["protocol"]
        part = "test" if chosen == "paper" else "valid"
        test = self.results["test"]
        metrics = {
            {"recall@20": "Recall@20", "ndcg@20": "NDCG@20"}[name] + " on test": f"{test[name]:.4f}"
            for name in ("recall@20", "ndcg@20")
            if name in test
        }
        return {
            "data": self.data["name"],
            "model": f"{model['backbone']}, F = {model['embedding_size']}",
            "density": f"{self.density:.2%}, {self.mask['entries']:,} entries kept",
            **metrics,
            "best epoch": f"{self.best_epoch} of {self.epochs} run, chosen on {part}",
            "took": f"{self.seconds:,.1f} seconds",
        }

    def _repr_html_(self) -> str:
        return card(f"Run {self.key[:8]}", self.described())

    def __repr__(self) -> str:
        recall = self.results["test"].get("recall@20", float("nan"))
        return (
            f"Record({self.key[:8]}, {self.data['name']}, {self.spec['model']['backbone']}, "
            f"density {self.density:.4f}, Recall@20 {recall:.4f} at epoch {self.best_epoch})"
        )


def pack_hits(hits: Hits) -> dict[str, Any]:
    """:class:`Hits` with K ≤ 32 as plain data: one uint32 of bits a user, place 1 the lowest."""
    places = hits.hits.shape[1]
    bits = (hits.hits.astype(np.uint64) << np.arange(places, dtype=np.uint64)).sum(1)

    def text(values: np.ndarray) -> str:
        return base64.b85encode(zlib.compress(values.astype("<u4").tobytes(), 9)).decode()

    # Users as differences: nearly all are 1, so that they cost nothing.
    steps = np.diff(hits.users, prepend=-1)
    return {
        "places": places,
        "users": text(steps),
        "bits": text(bits),
        "relevant": text(hits.relevant),
    }


def unpack_hits(packed: dict[str, Any]) -> Hits:
    """What :func:`pack_hits` packed."""

    def values(name: str) -> np.ndarray:
        raw = zlib.decompress(base64.b85decode(packed[name]))
        return np.frombuffer(raw, "<u4").astype(np.int64)

    bits = values("bits")[:, None] >> np.arange(packed["places"])[None, :]
    return Hits(np.cumsum(values("users")) - 1, (bits & 1).astype(bool), values("relevant"))


def circumstances(seconds: float, device: str) -> dict[str, Any]:
    """The machine, the versions and the moment: what a record says beside its results."""
    import numba
    import scipy
    import torch

    return {
        "seconds": round(seconds, 3),
        "device": device,
        "threads": torch.get_num_threads(),
        "fingerprint": fingerprint(),
        "versions": {
            "lthnb": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scipy": scipy.__version__,
            "numba": numba.__version__,
            "torch": torch.__version__,
        },
        "commit": _commit(),
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def fingerprint() -> dict[str, Any]:
    """What kind of machine this is, as far as results may depend on it."""
    model = ""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": model or platform.processor(),
        "cores": os.cpu_count(),
    }


def _commit() -> str | None:
    """The checkout's commit, with a `+` behind it where the package was changed since."""
    folder = project_folder()
    if not (folder / ".git").exists():
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        run = {"cwd": folder, "capture_output": True, "text": True, "timeout": 10, "check": True}
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **run).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--", "lthnb"], **run).stdout
        return commit + ("+" if changed.strip() else "")
    return None


class Store:
    """A folder of runs, and beside it a read-only one of recorded results.

    folder: where runs are written (default: :func:`default_folder`). results: looked up after it
    (default: :func:`results_folder`; None for none). Neither needs to exist.
    """

    def __init__(self, folder: Path | str | None = None, results: Path | str | None = "") -> None:
        self.folder = Path(folder) if folder is not None else default_folder()
        if results == "":
            results = results_folder()
        self.results = Path(results) if results is not None else None
        self._locked_before = False
        self._evidence: dict[str, Record] = {}  # from `results`, by key: nothing changes there
        self._texts: dict[Path, str] = {}  # that its records share

    def __getstate__(self) -> dict[str, Any]:
        # Another process reads what it needs: thousands of records are not sent to it.
        return {**self.__dict__, "_evidence": {}, "_texts": {}}

    # Places

    def _run(self, key: str, name: str) -> Path:
        return self.folder / "runs" / key / name

    def _lock_file(self, key: str) -> Path:
        return self.folder / "locks" / f"{key}.lock"

    def _places(self, *parts: str) -> Iterator[Path]:
        yield self.folder.joinpath(*parts)
        if self.results is not None:
            yield self.results.joinpath(*parts)

    def _read(self, base: Path, *parts: str) -> Any:
        """What a file under `base` holds, or None where it is missing. A damaged file is named on
        standard error, and set aside (in the store) or passed over (in `results/`)."""
        path = base.joinpath(*parts)
        try:
            content = _content(path)
            if content is None:
                return None
            return _opened(path, base, content, str(path), self._texts)
        except DamagedFile as error:
            what = _set_aside(path) if base == self.folder else "passed over"
            _say(f"{error} It is {what}, and will be computed anew.")
            return None

    def _first(self, *parts: str) -> Any:
        for base in self._places():
            value = self._read(base, *parts)
            if value is not None:
                return value
        return None

    # Records

    def find(self, key: str) -> Record | None:
        """The record of a finished training, or None."""
        _note_read(key)  # a miss too: a page that says "not run" is stale once it was
        return self._read(self.folder, "runs", key, "record") or self._result(key)

    def _result(self, key: str) -> Record | None:
        """The record of a run in `results/`, read once: chapters ask for all of them many times."""
        if self.results is not None and key not in self._evidence:
            record = self._read(self.results, "runs", key, "record")
            if record is None:
                return None
            self._evidence[key] = record
        return self._evidence.get(key)

    def put(self, record: Record) -> None:
        """Write a record: the last file of a training, so that a record means a finished one."""
        write_file(self._run(record.key, "record"), _sealed_record(record))

    def run_keys(self) -> list[str]:
        """Keys of all finished trainings, in the store and in `results/`, sorted."""
        return sorted({key for base in self._places() for key in _run_keys(base)})

    def recorded(self, **wanted: str) -> list[Record]:
        """The records that come with the project, in `results/`, sorted by density, dense first.

        wanted: `data` (name), `backbone` or `protocol` that they must have.
        """
        evidence = self.results  # not this store's own copies
        keys = sorted(_run_keys(evidence)) if evidence is not None else []
        # A page that shows them is stale when others are added, too.
        for key in (*keys, "recorded"):
            _note_read(key)
        records = [r for key in keys if (r := self._result(key))]

        def fits(r: Record) -> bool:
            has = {
                "data": r.data["name"],
                "backbone": r.spec["model"]["backbone"],
                "protocol": r.spec["training"]["protocol"],
            }
            return all(has[name] == value for name, value in wanted.items())

        found = [r for r in records if fits(r)]
        return sorted(found, key=lambda r: (-r.density, r.spec["training"]["order_seed"], r.key))

    def measured(self, names: Sequence[str] = ()) -> list[dict[str, Any]]:
        """The records of benchmarks that come with the project (:mod:`lthnb.measured`), by name.

        names: those wanted; none for all. Raises measured.RecordError for a damaged one, and
        StoreError, with the nearest name, for one that is not there.
        """
        there = {p.stem: p for p in sorted(_benchmarks(self.results))}
        _note_read("measured")
        for name in names:
            if name not in there:
                raise StoreError(
                    f"benchmark record {name!r}: not in results/benchmarks, which has "
                    f"{', '.join(there) or 'none'}." + nearest(name, there)
                )
        return [measured.load(there[name]) for name in names or there]

    def is_recorded_result(self, key: str) -> bool:
        """Whether the run's record comes with the project, in `results/`."""
        return self.results is not None and (self.results / "runs" / key / "record").is_file()

    def resolve(self, prefix: str) -> str:
        """The one key that starts with `prefix`. Raises StoreError where none or several do."""
        if not prefix:
            raise StoreError("run '': expected the first digits of a key; `runs list` shows them.")
        found = [key for key in self.run_keys() if key.startswith(prefix)]
        if len(found) != 1:
            some = ", ".join(key[:12] for key in found[:5])
            raise StoreError(
                f"run {prefix!r}: found {len(found)} runs"
                + (f" ({some} …); give more digits." if found else "; `runs list` shows what is.")
            )
        return found[0]

    def remove(self, key: str) -> None:
        """Remove a training from the store: record, weights, checkpoint."""
        folder = self.folder / "runs" / key
        if not folder.is_dir():
            raise StoreError(f"run {key}: not in the store {self.folder}; nothing was removed.")
        with self.lock(key):
            # The record goes first: without it the rest is no finished training.
            for path in sorted(_entries(folder), key=lambda p: p.name != "record"):
                with _explained(path, 1):
                    path.unlink()
            with _explained(folder, 1):
                folder.rmdir()

    # Weights, checkpoints, masks, arrays

    def put_weights(self, key: str, epoch: int | str, table: np.ndarray) -> None:
        """Write a table of a run: that of an epoch (from 1), or of the ``best`` one."""
        write_file(
            self._run(key, f"weights-{epoch}"), seal("weights", pack_arrays({"table": table}))
        )

    def find_weights(self, key: str, epoch: int | str) -> np.ndarray | None:
        """A table of a run, (rows, F), or None."""
        return self._first("runs", key, f"weights-{epoch}")

    def put_checkpoint(self, key: str, arrays: dict[str, np.ndarray], state: dict) -> None:
        """Write where a training stands: arrays, and plain data beside them."""
        text = np.frombuffer(json.dumps(state, allow_nan=False).encode(), np.uint8)
        content = pack_arrays({**arrays, "_state": text})
        write_file(self._run(key, "checkpoint"), seal("checkpoint", content))

    def find_checkpoint(self, key: str) -> tuple[dict[str, np.ndarray], dict] | None:
        """What :meth:`put_checkpoint` wrote, or None."""
        return self._read(self.folder, "runs", key, "checkpoint")

    def refuse_checkpoint(self, key: str) -> None:
        """Set a checkpoint aside that is whole, but does not fit its run: other code wrote it."""
        path = self._run(key, "checkpoint")
        _say(
            f"{path}: not what this version writes for this run. It is {_set_aside(path)}, and "
            "the training starts over."
        )

    def drop_checkpoint(self, key: str) -> None:
        """Remove a checkpoint that is of no use any more; no error where there is none."""
        with contextlib.suppress(OSError):  # in a read-only store it may stay: nobody asks for it
            self._run(key, "checkpoint").unlink(missing_ok=True)

    def put_mask(self, key: str, kept: np.ndarray, about: dict[str, Any]) -> None:
        """Write what a pruning gave: the bits, and the plain data `about` them: what the pruning
        depended on, of which `key` is the digest, and the mask's `digest` and `entries`."""
        write_file(self.folder / "masks" / f"{key}.bits", _sealed_mask(kept))
        text = canonical(about).encode() + b"\n"
        write_file(self.folder / "masks" / key, seal("pruning", text))

    def find_pruning(self, key: str) -> dict[str, Any] | None:
        """The plain data about a mask: its digest and entries among them; or None."""
        return self._first("masks", key)

    def find_mask_bits(self, key: str) -> np.ndarray | None:
        """The bits of a mask, bool (rows, F), or None. Those of a random one are drawn again where
        they are not kept."""
        bits = self._first("masks", f"{key}.bits")
        if bits is None and _is_drawn(about := self.find_pruning(key)):
            return _drawn_again(about)
        return bits

    def has_mask_bits(self, key: str) -> bool:
        """Whether the bits of a mask can be had without a training, without reading them."""
        kept = any(path.is_file() for path in self._places("masks", f"{key}.bits"))
        return kept or _is_drawn(self.find_pruning(key))

    def find_mask(self, digest: str) -> np.ndarray | None:
        """The bits of a mask known by its own digest, bool (rows, F), or None; every pruning is
        looked at."""
        kept = (self.find_mask_bits(key) for key, _ in self.find_prunings(digest))
        return next((bits for bits in kept if bits is not None), None)

    def find_prunings(self, digest: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Key of each pruning that gave the mask of this digest, and the plain data about it."""
        for base in self._places():
            for path in _entries(base / "masks"):
                about = None if path.suffix else self._read(base, "masks", path.name)
                if about is not None and about["digest"] == digest:
                    yield path.name, about

    def put_array(self, values: np.ndarray) -> str:
        """Keep an array that a run starts from, such as a rotation; returns its digest."""
        values = np.ascontiguousarray(values)
        name = _array_digest(values)
        if self._first("arrays", name) is None:
            with self.lock(name):
                content = seal("array", pack_arrays({"values": values}))
                write_file(self.folder / "arrays" / name, content)
        return name

    def get_array(self, digest: str) -> np.ndarray:
        """The array kept under a digest. Raises StoreError where it is missing."""
        values = self._first("arrays", digest)
        if values is None:
            raise StoreError(f"array {digest}: not in the store {self.folder}; put it there first.")
        return values

    # Sharing

    @contextlib.contextmanager
    def lock(self, key: str, stop: Callable[[], str | None] = lambda: None) -> Iterator[None]:
        """Hold a key: a second process that asks for the same training waits, then finds it done.

        stop: asked again and again while another process holds the key; a reason that it returns
        ends the wait with StoreBusy. A wait of more than two seconds is said on standard error.
        The operating system releases the lock of a process that is killed. Raises StoreError where
        the folder cannot be written, or has no locks that exclude anybody.
        """
        from filelock import FileLock

        path = self._lock_file(key)
        me = f"{os.getpid()} on {platform.node()}"
        with _explained(path, len(me)):
            path.parent.mkdir(parents=True, exist_ok=True)
            if not self._locked_before:
                _prove_locks(path.parent)
            lock = FileLock(path)
            _acquire(lock, path, key, stop)
        try:
            # On Windows and on some network folders nobody can write a locked file.
            with _explained(path, len(me)), contextlib.suppress(PermissionError):
                path.write_text(me)
            self._tidy(key)
            yield
        finally:
            lock.release()

    def _tidy(self, key: str) -> None:
        """Remove what killed processes left half written: of this key, which is locked, and of all
        others at the first lock of this Store. A living writer holds the lock of its key."""
        from filelock import FileLock

        for path in _half_written(self.folder, key):
            with contextlib.suppress(OSError):
                path.unlink()
        if not self._locked_before:
            self._locked_before = True
            for path in _half_written(self.folder):
                lock = FileLock(self._lock_file(_key_of(path)))
                with contextlib.suppress(OSError), lock.acquire(blocking=False):
                    path.unlink()

    def verify(self) -> Iterator[tuple[Path, str]]:
        """Read every file; yields (path, what is wrong and what to do) for each that is not good.

        Records, masks, arrays and texts must also answer to the key they lie under.
        """
        for path in _benchmarks(self.results):
            try:
                measured.load(path)
            except measured.RecordError as error:
                yield path, str(error)
        for base in self._places():
            for path in _below(base, base):
                if (wrong := self._wrong(path, base)) is not None:
                    yield path, wrong

    def _wrong(self, path: Path, base: Path) -> str | None:
        parts = path.relative_to(base).parts
        benchmark = parts[0] == BENCHMARKS and path.suffix == ".json"
        if parts[0] == "locks" or path.suffix == ".md" or benchmark:
            return None
        if path.is_dir() and _is_folder(*parts):
            return None
        if path.name.startswith(TEMPORARY):
            return (
                f"{path}: half written, by a process that was killed or is still writing; the next "
                "training removes what the dead have left."
            )
        if path.suffix == ".damaged":
            return f"{path}: was damaged and set aside; delete it once you have no use for it."
        try:
            _kind_of(path, base)
        except DamagedFile as error:
            return f"{error} Move it away."
        try:
            content = _content(path)
            if content is not None:
                value = _opened(path, base, content, str(path))
                random = _kind_of(path, base) == "pruning" and _is_drawn(value)
                if random and _drawn_again(value) is None:
                    raise DamagedFile(f"{path}: its random mask is drawn otherwise here.")
        except DamagedFile as error:
            if base == self.folder:
                return f"{error} Delete it, or run its training again, which computes it anew."
            return f"{error} Take it anew from where the project came from."
        except StoreError as error:
            return str(error)
        return None

    def _masks(self) -> list[Path]:
        """The files of all masks: the plain data about each, and its bits."""
        found = _entries(self.folder / "masks")
        return [path for path in found if _is_ours(path, self.folder)]

    def record_result(
        self, key: str, *, bits: bool = True, prunings: dict[str, list[str]] | None = None
    ) -> list[Path]:
        """Copy a finished training's record into `results/`, with its mask and the pruning that
        gave it; no tables of weights. Returns the files written there; what others of its split
        share with it is among them where it was not there yet.

        bits: with the mask's bits, by which the run can be replayed at once. Without them a replay
        first trains again the runs from which the mask was pruned. Those of a random mask are never
        copied, since they can be drawn. prunings: what :meth:`prunings` gives, for who records
        many runs.

        Raises StoreError where there is no record of it in the store, or no `results/` folder, and
        for a run on a stand-in.
        """
        record = self._read(self.folder, "runs", key, "record")
        if self.results is None or record is None:
            raise StoreError(f"run {key}: no record of it in {self.folder}; nothing was copied.")
        source = str(record.data["origin"].get("source", ""))
        if source.startswith("standin-"):
            raise StoreError(
                f"run {key}: trained on {source}, which tells what a ladder costs and never what a "
                "model is worth; nothing was copied, since it is no evidence."
            )
        prunings = self.prunings() if prunings is None else prunings
        path = self._run(key, "record")
        # Before the record, which is not whole without them.
        plain, texts = _texts_apart(record)
        places = {self.folder / "texts" / digest: text for digest, text in texts.items()}
        files = {
            place: seal("text", text.encode())
            for place, text in places.items()
            if self._read(self.results, "texts", place.name) is None
        }
        # Without a checksum of its own: the file has one. The usual window is of many megabytes.
        best = {"id": lzma.FILTER_LZMA2, "preset": lzma.PRESET_EXTREME | 9, "dict_size": 1 << 20}
        content = lzma.compress(plain.encode(), check=lzma.CHECK_NONE, filters=[best])
        files[path] = seal("record", content)
        for pruning in prunings.get(record.mask["digest"], ()):
            files |= self._mask_to_record(pruning, prunings, bits)
        written = []
        for path, content in files.items():
            with self.lock(_key_of(path)):
                for left in _half_written(self.results, _key_of(path)):
                    left.unlink(missing_ok=True)
                written.append(self.results / path.relative_to(self.folder))
                write_file(written[-1], content)
        return written

    def prunings(self) -> dict[str, list[str]]:
        """The prunings of the store, by the digest of the mask that they gave."""
        found: dict[str, list[str]] = {}
        for path in self._masks():
            about = None if path.suffix else self._read(self.folder, "masks", path.name)
            if about is not None:
                found.setdefault(about["digest"], []).append(path.name)
        return found

    def _mask_to_record(
        self, pruning: str, prunings: dict[str, list[str]], bits: bool
    ) -> dict[Path, bytes]:
        """What `results/` is to hold of a pruning: the files' places in the store, and contents.

        With `bits`, those of the mask that it started from come first where they are not there yet.
        """
        path = self.folder / "masks" / pruning
        about, kept = self._read(self.folder, "masks", pruning), None
        if bits and not _is_drawn(about):
            kept = self._read(self.folder, "masks", f"{pruning}.bits")
        if kept is None:
            return {path: path.read_bytes()}
        earlier, before, files = "", None, {}
        # From the dense table, or with nothing gone: there is no other mask that it lies within.
        if (started := about.get("mask")) not in (DENSE, about["digest"]):
            earlier = next(iter(prunings.get(started, ())), "")
        if earlier:
            before = self._read(self.folder, "masks", f"{earlier}.bits")
        if before is not None:
            there = self._read(self.results, "masks", f"{earlier}.bits")
            if there is None:
                files = self._mask_to_record(earlier, prunings, bits)
            elif not np.array_equal(before, there):
                before = None  # another machine's: this one is kept whole
        content = _sealed_mask(kept, earlier, before)
        return {**files, path: path.read_bytes(), path.with_name(f"{pruning}.bits"): content}

    def export(self, keys: list[str], target: Path, *, weights: bool = False) -> list[Path]:
        """Write runs, and all prunings, into tar files of at most 15 MB: `target`-01.tar, …

        keys: runs to take. weights: with tables of weights, which are large; masks go along always,
        since another machine may not get the same bits again. Each file needs no other, also where
        this folder is one of recorded results. Returns the pieces. Raises StoreError where one file
        alone is larger than a piece, or there is nothing to write.
        """
        paths = [
            path
            for key in keys
            for path in _entries(self.folder / "runs" / key)
            if path.name == "record" or (weights and path.name.startswith("weights-"))
        ]
        files = [
            (path, path.relative_to(self.folder), len(content))
            for path in (*paths, *self._masks())
            if _is_ours(path, self.folder) and (content := self._to_carry(path)) is not None
        ]
        if not files:
            raise StoreError(f"export: none of the {len(keys)} runs lies in {self.folder}.")
        pieces: list[list] = [[]]
        size = 0
        for path, name, held in files:
            length = held + 2048  # a tar header and padding
            if length > PIECE_BYTES:
                raise StoreError(
                    f"{path}: {length / 1e6:.1f} MB, more than a piece of "
                    f"{PIECE_BYTES / 1e6:.0f} MB holds; export without weights."
                )
            if size + length > PIECE_BYTES - 20480:
                pieces.append([])
                size = 0
            pieces[-1].append((path, name))
            size += length
        written = []
        for number, piece in enumerate(pieces, start=1):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as tar:
                for path, name in piece:
                    info = tarfile.TarInfo(name.as_posix())
                    content = self._to_carry(path)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
            out = target.with_name(f"{target.name}-{number:02d}.tar")
            write_file(out, buffer.getvalue())
            written.append(out)
        return written

    def _to_carry(self, path: Path) -> bytes | None:
        """A file of the store as one that needs no other, as records and masks of `results/` do;
        None for a damaged one, which is named and set aside here, not carried on."""
        value = self._read(self.folder, *path.relative_to(self.folder).parts)
        if value is None:
            return None
        if isinstance(value, Record):
            return _sealed_record(value)
        return _sealed_mask(value) if path.suffix == ".bits" else path.read_bytes()

    def import_(self, pieces: list[Path]) -> int:
        """Take in what :meth:`export` wrote; returns the files taken.

        Each file is checked before it is kept. Raises DamagedFile, naming it, where one is not good
        or bears a name that no export gives; files before it are kept.
        """
        return sum(self._import_piece(piece) for piece in pieces)

    def _import_piece(self, piece: Path) -> int:
        taken = 0
        try:
            with tarfile.open(piece) as tar:
                for member in tar:
                    path = Path(member.name)
                    place = self.folder / path
                    if not member.isfile() or ".." in path.parts or path.is_absolute():
                        raise DamagedFile(f"{piece}: holds {member.name!r}, no file of a store.")
                    content, name = tar.extractfile(member).read(), f"{piece}: {member.name}"
                    value = _opened(place, self.folder, content, name)
                    with self.lock(_key_of(place)):
                        if isinstance(value, Record):
                            here = self._read(self.folder, *path.parts)
                            if here is not None:
                                _same_results(here, value, name)
                                continue  # what is here already stays
                        write_file(place, content)
                    taken += 1
        except FileNotFoundError as error:
            raise StoreError(f"{piece}: no such file; nothing was taken from it.") from error
        except OSError as error:
            raise _refusal(piece, error, 0) from error
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise DamagedFile(f"{piece}: no whole tar file ({error}).") from error
        return taken


# Names


KEY = re.compile("[0-9a-f]{32}")
RUN_FILE = re.compile("record|checkpoint|weights-(best|[0-9]+)")
SINGLE = ("masks", "arrays", "texts")  # folders whose files are named by their key
FOLDERS = ("runs", *SINGLE, "locks", BENCHMARKS)


def _kind_of(path: Path, base: Path) -> str:
    """The kind that a file of the store must be, by its place. Raises DamagedFile for others."""
    match path.relative_to(base).parts:
        case ("runs", key, name) if KEY.fullmatch(key) and RUN_FILE.fullmatch(name):
            return name.partition("-")[0]
        case ("masks", name) if KEY.fullmatch(name.removesuffix(".bits")):
            return "mask" if name.endswith(".bits") else "pruning"
        case ("arrays" | "texts" as folder, name) if KEY.fullmatch(name):
            return folder.removesuffix("s")
    raise DamagedFile(f"{path}: no file of a store has this name.")


def _is_ours(path: Path, base: Path) -> bool:
    """Whether a file's name is one of the store's: nothing set aside, half written or foreign."""
    try:
        return bool(_kind_of(path, base))
    except DamagedFile:
        return False


def _key_of(path: Path) -> str:
    """The key whose lock guards a file of the store, or a temporary one."""
    if path.parent.name in SINGLE:
        return re.split("[.-]", path.name.removeprefix(TEMPORARY))[0]
    return path.parent.name


def _half_written(base: Path, key: str = "") -> list[Path]:
    """The temporary files of a key, or of all."""
    ours = (f"runs/{key or '*'}/{TEMPORARY}*", *(f"{p}/{TEMPORARY}{key}*" for p in SINGLE))
    return [path for pattern in ours for path in base.glob(pattern)]


def _is_folder(first: str, *rest: str) -> bool:
    """Whether a store has a folder of this name."""
    if first == "runs" and len(rest) == 1:
        return bool(KEY.fullmatch(rest[0]))
    return first in FOLDERS and not rest


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted; nothing where there is none. Raises StoreError where that
    cannot be told, which is not the same as nothing."""
    with _explained(folder, 0):
        return sorted(folder.iterdir()) if folder.is_dir() else []


def _below(folder: Path, base: Path) -> Iterator[Path]:
    """All that lies in a folder of the store in `base`, and in its folders; links are followed."""
    for path in _entries(folder):
        yield path
        if _is_folder(*path.relative_to(base).parts):
            yield from _below(path, base)


def _run_keys(base: Path) -> list[str]:
    return [p.name for p in _entries(base / "runs") if (p / "record").is_file()]


def _say(message: str) -> None:
    print(f"lthnb: {message}", file=sys.stderr)


def _set_aside(path: Path) -> str:
    """Rename a damaged file, beside those that were set aside before; says what became of it."""
    numbers = itertools.chain([""], (f".{n}" for n in itertools.count(2)))
    names = (path.with_name(f"{path.name}{number}.damaged") for number in numbers)
    aside = next(name for name in names if not os.path.lexists(name))
    try:
        os.replace(path, aside)
    except FileNotFoundError:
        return "set aside by another process"
    except OSError as error:
        return f"passed over, since it cannot be set aside ({error.strerror})"
    return f"set aside as {aside.name}"


# Contents


PARTS = {  # of a record: what is read of each without asking whether it is there
    "spec": ("model", "training"),
    "data": ("name",),
    "mask": ("digest", "entries", "density"),
    "results": ("best_epoch", "epochs", "test", "valid", "losses", "evaluations", "hits"),
    "circumstances": ("seconds",),
}


def _opened(
    path: Path, base: Path, content: bytes, name: str, texts: dict[Path, str] | None = None
) -> Any:
    """What a file of the store in `base` holds: a Record, a table, a checkpoint's arrays and state,
    a mask's bits, the plain data about a pruning, an array, or a text. texts: that records share,
    as far as they were read; what else a record needs of them is added.

    Raises DamagedFile, as `name`, for what must not lie at `path`: a damaged file, one of another
    kind, one whose content is not of its kind, what belongs under another key, and a mask that is
    not the one its pruning gave.
    """
    kind = _kind_of(path, base)
    payload = unseal(kind, content, name)
    try:
        value, key = OPENERS[kind](payload)
        if kind == "record":
            value = _whole_record(value, base, name, {} if texts is None else texts)
        if kind == "mask":
            value = _whole_mask(value, base, name)
    except UNFIT as error:
        raise DamagedFile(
            f"{name}: its checksum is right, but it is no whole {kind}: "
            f"{type(error).__name__}: {error}."
        ) from error
    if key is not None and key != _key_of(path):
        raise DamagedFile(f"{name}: is the {kind} of {key}.")
    if kind == "mask" and not _belongs(value, path.with_suffix(""), base):
        raise DamagedFile(f"{name}: holds other bits than the pruning beside it tells of.")
    return value


def _belongs(bits: np.ndarray, pruning: Path, base: Path) -> bool:
    """Whether a mask's bits are those of its pruning, as far as that is there and good."""
    with contextlib.suppress(StoreError):
        content = _content(pruning)
        if content is not None:
            about = _opened(pruning, base, content, str(pruning))
            return Mask(bits).digest == about["digest"]
    return True


def _open_record(payload: bytes) -> tuple[Record, str]:
    text = lzma.decompress(payload) if payload.startswith(XZ) else payload
    record = Record(**json.loads(text))
    for part, names in PARTS.items():
        lacking = [name for name in names if name not in getattr(record, part)]
        if lacking:
            raise ValueError(f"{part} lacks {', '.join(lacking)}")
    return record, record.key


SHARED = ("users", "relevant")  # of a record's hits: texts that all runs on a split have alike


def _texts_apart(record: Record) -> tuple[str, dict[str, str]]:
    """The text of a record for `results/`, and what it only names there: digest → text."""
    plain, texts = asdict(record), {}
    hits = plain["results"]["hits"]
    for name in SHARED:
        if name in hits:
            digest = digest_text(hits[name])
            texts[digest], hits[name] = hits[name], {"text": digest}
    return canonical(plain) + "\n", texts


def _whole_record(record: Record, base: Path, name: str, texts: dict[Path, str]) -> Record:
    """A record with its texts back in place; see :func:`_texts_apart`."""
    hits = record.results["hits"]
    for part in SHARED:
        if isinstance(hits.get(part), dict):
            path = base / "texts" / hits[part]["text"]
            if path not in texts:
                texts[path] = _needed(path, base, f"{name}: its {part} are in {path}")
            hits[part] = texts[path]
    return record


def _needed(path: Path, base: Path, said: str) -> Any:
    """What another file of the store in `base` holds, without which one is not whole.

    said: the beginning of the DamagedFile where it is not there or not good.
    """
    try:
        _kind_of(path, base)  # before a name that is none of the store's is looked for
        content = _content(path)
        value = None if content is None else _opened(path, base, content, str(path))
    except DamagedFile as error:
        raise DamagedFile(f"{said}, which is not good itself.") from error
    if value is None:
        raise DamagedFile(f"{said}, which is not there.")
    return value


def _open_text(payload: bytes) -> tuple[str, str]:
    text = payload.decode()
    return text, digest_text(text)


def _open_weights(payload: bytes) -> tuple[np.ndarray, None]:
    return unpack_arrays(payload)["table"], None


def _open_checkpoint(payload: bytes) -> tuple[tuple[dict[str, np.ndarray], dict], None]:
    arrays = unpack_arrays(payload)
    state = dict(json.loads(arrays.pop("_state").tobytes()))
    return (arrays, state), None


def _sealed_record(record: Record) -> bytes:
    return seal("record", (canonical(asdict(record)) + "\n").encode())


def _sealed_mask(kept: np.ndarray, within: str = "", before: np.ndarray | None = None) -> bytes:
    """The bits of a mask, bool (rows, F); or which are left of the entries of `before`, the mask of
    the pruning `within`."""
    some = kept if before is None else kept[before]
    arrays = {"bits": np.packbits(some), "shape": np.array(kept.shape)}
    if before is not None:
        arrays["within"] = np.array(within)
    return seal("mask", pack_arrays(arrays, compress=True))


def _open_mask(payload: bytes) -> tuple[dict[str, np.ndarray], None]:
    return unpack_arrays(payload), None


def _whole_mask(arrays: dict[str, np.ndarray], base: Path, name: str) -> np.ndarray:
    """What :func:`_sealed_mask` packed. Raises DamagedFile where the mask that it lies within is
    not in `base` too."""
    rows, size = arrays["shape"]
    kept = np.ones((rows, size), bool)
    if within := str(arrays.get("within", "")):
        path = base / "masks" / f"{within}.bits"
        kept = _needed(path, base, f"{name}: tells what is left of {path}")
    kept[kept] = np.unpackbits(arrays["bits"], count=int(kept.sum())).astype(bool)
    return kept


def _is_drawn(about: dict[str, Any] | None) -> bool:
    """Whether a pruning is random, so that its mask can be drawn again."""
    return about is not None and about.get("criterion") == "random"


def _drawn_again(about: dict[str, Any]) -> np.ndarray | None:
    """The bits of a random mask; None where this version draws others."""
    mask = drawn(about)
    return mask.kept if mask.digest == about["digest"] else None


def _open_pruning(payload: bytes) -> tuple[dict[str, Any], str]:
    about = json.loads(payload)
    given = {**about}
    del given["digest"], given["entries"]
    return about, digest_text(canonical(given))


def _open_array(payload: bytes) -> tuple[np.ndarray, str]:
    values = unpack_arrays(payload)["values"]
    return values, _array_digest(values)


# What the openers raise for a payload that is not theirs; MemoryError, say, is not among them.
UNFIT = (
    *(ValueError, TypeError, KeyError, AttributeError, EOFError, RecursionError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
OPENERS = {  # kind → a function from a payload to what it holds, and its key where it tells it
    "record": _open_record,
    "weights": _open_weights,
    "checkpoint": _open_checkpoint,
    "mask": _open_mask,
    "pruning": _open_pruning,
    "array": _open_array,
    "text": _open_text,
}


def _array_digest(values: np.ndarray) -> str:
    content = repr((values.shape, values.dtype.str)).encode() + values.tobytes()
    return hashlib.sha256(content).hexdigest()[:32]


def _same_results(here: Record, there: Record, name: str) -> None:
    """Refuse a record that contradicts the one of the same key that is here already."""
    if here.results_digest != there.results_digest:
        raise StoreError(
            f"{name}: a run of this key is here with other results, made on another kind of "
            f"machine most often. Nothing was replaced; `runs remove {here.key[:8]}` makes room."
        )


# Locks


def _prove_locks(folder: Path) -> None:
    """Refuse a folder whose locks exclude nobody: two handles on one file must not both get it."""
    try:
        import fcntl
    except ImportError:  # elsewhere than on Unix locks are of another kind
        return
    with open(folder / "probe", "ab") as one, open(folder / "probe", "ab") as two:
        for file in (one, two):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):  # held, by the other handle or by others
                return
    raise _no_locks(folder, "the same lock was given out twice")


def _acquire(lock: Any, path: Path, key: str, stop: Callable[[], str | None]) -> None:
    """Take a file lock, however long another process holds it; see :meth:`Store.lock`."""
    from filelock import Timeout

    began, said = time.monotonic(), False
    while True:
        with contextlib.suppress(Timeout):
            lock.acquire(blocking=False)
            return
        if reason := stop():
            raise StoreBusy(key, reason)
        if not said and time.monotonic() - began >= SAY_AFTER:
            said, holder = True, ""
            with contextlib.suppress(OSError):
                holder = path.read_text(errors="replace")[:100]
            _say(
                f"run {key[:8]}: another process ({holder or 'unnamed'}) is training it; waiting "
                "for its end (Ctrl-C stops waiting)."
            )
        time.sleep(POLL)


def _benchmarks(results: Path | None) -> list[Path]:
    return [] if results is None else sorted((results / BENCHMARKS).glob("*.json"))


def _note_read(key: str) -> None:
    """Tell the runner which records a notebook reads, so that it knows when a copy is stale."""
    log = os.environ.get("LTHNB_READ_LOG")
    if log:
        with _explained(Path(log), len(key) + 1), open(log, "a") as file:
            file.write(key + "\n")


def record_digest(key: str, store: Store | None = None) -> str | None:
    """What changes when a page that read a run is to be made anew, or None where there is no run:
    its results digest, or, of one in `results/` alone, a digest of its file, since chapters read
    thousands of those. Of the words ``recorded`` and ``measured``, a digest of which runs and
    benchmarks lie in `results/`.

    store: the default one, for who asks for many keys.
    """
    if key == "recorded":
        evidence = results_folder() / "runs"
        return digest_text(canonical(sorted(p.name for p in evidence.glob("*"))))
    if key == "measured":
        found = [measured.load(path)["checksum"] for path in _benchmarks(results_folder())]
        return digest_text(canonical(sorted(found)))
    store = Store() if store is None else store
    record = store._read(store.folder, "runs", key, "record")
    if record is not None:
        return record.results_digest
    path = None if store.results is None else store.results / "runs" / key / "record"
    content = None if path is None else _content(path)
    return None if content is None else hashlib.sha256(content).hexdigest()

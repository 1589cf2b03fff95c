"""Runs on disk: the only module that names files.

A store is a folder. Under it, `runs/KEY/` holds a training: `record` (what came out, as text),
`weights-best` and other snapshots, and `checkpoint` while it is under way; `masks/KEY` holds the
mask that a pruning gave, `arrays/DIGEST` a stored array (a rotation), `locks/` one lock per key.

Every file starts with one line, ``lthnb KIND VERSION SHA256``, whose checksum covers kind, version
and all that follows: a torn or altered file is told from a good one, named, set aside and never
read. Files are written under a temporary name, flushed to disk and renamed.

`results/` of the project is a second, read-only place in which records and masks are looked up:
recorded runs, without tables of weights.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import io
import json
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lthnb import __version__, measured
from lthnb.config import canonical, digest_text, nearest
from lthnb.evaluation import Hits

FORMAT = 1
BENCHMARKS = "benchmarks"  # folder of results/ that holds what `make bench` measured
TEMPORARY = ".tmp-"  # what unfinished files are called
PIECE_BYTES = 15_000_000  # most bytes in one piece of an export


class StoreError(RuntimeError):
    """The store cannot do what was asked: names the file or key, and what to do."""


class DamagedFile(StoreError):
    """A file whose checksum does not fit its content, or that is none of ours."""


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


def write_file(path: Path, content: bytes) -> None:
    """Write all or nothing: a temporary file beside it, flushed to disk, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            if os.name == "posix":
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

    # Places

    def _run(self, key: str, name: str) -> Path:
        return self.folder / "runs" / key / name

    def _places(self, *parts: str) -> Iterator[Path]:
        yield self.folder.joinpath(*parts)
        if self.results is not None:
            yield self.results.joinpath(*parts)

    def _read(self, kind: str, path: Path) -> bytes | None:
        """A file's payload, or None where it is missing. A damaged file is named on standard error
        and set aside (in the store) or passed over (in `results/`)."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            return unseal(kind, content, str(path))
        except DamagedFile as error:
            aside = path.with_name(path.name + ".damaged")
            if path.is_relative_to(self.folder):
                os.replace(path, aside)
                what = f"set aside as {aside.name}"
            else:
                what = "passed over"
            print(f"lthnb: {error} It is {what}, and will be computed anew.", file=sys.stderr)
            return None

    def _first(self, kind: str, *parts: str) -> bytes | None:
        for path in self._places(*parts):
            payload = self._read(kind, path)
            if payload is not None:
                return payload
        return None

    # Records

    def find(self, key: str) -> Record | None:
        """The record of a finished training, or None."""
        _note_read(key)  # a miss too: a page that says "not run" is stale once it was
        payload = self._first("record", "runs", key, "record")
        return None if payload is None else Record(**json.loads(payload))

    def put(self, record: Record) -> None:
        """Write a record: the last file of a training, so that a record means a finished one."""
        text = canonical(asdict(record)) + "\n"
        write_file(self._run(record.key, "record"), seal("record", text.encode()))

    def run_keys(self) -> list[str]:
        """Keys of all finished trainings, in the store and in `results/`, sorted."""
        found = set()
        for base in self._places("runs"):
            if base.is_dir():
                found |= {p.name for p in base.iterdir() if (p / "record").is_file()}
        return sorted(found)

    def recorded(self, **wanted: str) -> list[Record]:
        """The records that come with the project, in `results/`, sorted by density, dense first.

        wanted: `data` (name), `backbone` or `protocol` that they must have.
        """
        evidence = Store(self.results or os.devnull, results=None)  # not this store's own copies
        records = [record for key in evidence.run_keys() if (record := evidence.find(key))]
        # A page that shows them is stale when others are added, too.
        _note_read("recorded")

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
        # The record goes first: without it the rest is no finished training.
        for path in sorted(folder.iterdir(), key=lambda p: p.name != "record"):
            path.unlink()
        folder.rmdir()

    # Weights, checkpoints, masks, arrays

    def put_weights(self, key: str, epoch: int | str, table: np.ndarray) -> None:
        """Write a table of a run: that of an epoch (from 1), or of the ``best`` one."""
        write_file(
            self._run(key, f"weights-{epoch}"), seal("weights", pack_arrays({"table": table}))
        )

    def find_weights(self, key: str, epoch: int | str) -> np.ndarray | None:
        """A table of a run, (rows, F), or None."""
        payload = self._first("weights", "runs", key, f"weights-{epoch}")
        return None if payload is None else unpack_arrays(payload)["table"]

    def put_checkpoint(self, key: str, arrays: dict[str, np.ndarray], state: dict) -> None:
        """Write where a training stands: arrays, and plain data beside them."""
        text = np.frombuffer(json.dumps(state, allow_nan=False).encode(), np.uint8)
        content = pack_arrays({**arrays, "_state": text})
        write_file(self._run(key, "checkpoint"), seal("checkpoint", content))

    def find_checkpoint(self, key: str) -> tuple[dict[str, np.ndarray], dict] | None:
        """What :meth:`put_checkpoint` wrote, or None."""
        payload = self._read("checkpoint", self._run(key, "checkpoint"))
        if payload is None:
            return None
        arrays = unpack_arrays(payload)
        return arrays, json.loads(arrays.pop("_state").tobytes())

    def drop_checkpoint(self, key: str) -> None:
        """Remove a checkpoint; no error where there is none."""
        self._run(key, "checkpoint").unlink(missing_ok=True)

    def put_mask(self, key: str, kept: np.ndarray, about: dict[str, Any]) -> None:
        """Write what a pruning gave: the bits, and the plain data `about` them."""
        arrays = {"bits": np.packbits(kept), "shape": np.array(kept.shape)}
        write_file(self.folder / "masks" / f"{key}.bits", seal("mask", pack_arrays(arrays, True)))
        text = canonical(about).encode() + b"\n"
        write_file(self.folder / "masks" / key, seal("pruning", text))

    def find_pruning(self, key: str) -> dict[str, Any] | None:
        """The plain data about a mask: its digest and entries among them; or None."""
        payload = self._first("pruning", "masks", key)
        return None if payload is None else json.loads(payload)

    def find_mask_bits(self, key: str) -> np.ndarray | None:
        """The bits of a mask, bool (rows, F), or None."""
        payload = self._first("mask", "masks", f"{key}.bits")
        if payload is None:
            return None
        arrays = unpack_arrays(payload)
        rows, size = arrays["shape"]
        return np.unpackbits(arrays["bits"], count=rows * size).astype(bool).reshape(rows, size)

    def put_array(self, values: np.ndarray) -> str:
        """Keep an array that a run starts from, such as a rotation; returns its digest."""
        values = np.ascontiguousarray(values)
        digest = hashlib.sha256(repr((values.shape, values.dtype.str)).encode() + values.tobytes())
        name = digest.hexdigest()[:32]
        write_file(self.folder / "arrays" / name, seal("array", pack_arrays({"values": values})))
        return name

    def get_array(self, digest: str) -> np.ndarray:
        """The array kept under a digest. Raises StoreError where it is missing."""
        payload = self._first("array", "arrays", digest)
        if payload is None:
            raise StoreError(f"array {digest}: not in the store {self.folder}; put it there first.")
        return unpack_arrays(payload)["values"]

    # Sharing

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[None]:
        """Hold a key: a second process that asks for the same training waits, then finds it done.

        The operating system releases the lock of a process that is killed.
        """
        from filelock import FileLock

        folder = self.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{key}.lock"):
            # Whoever left a temporary file of this key is dead: a living writer holds the lock.
            for leftovers in (f"runs/{key}/{TEMPORARY}*", f"masks/{TEMPORARY}{key}*"):
                for path in self.folder.glob(leftovers):
                    path.unlink(missing_ok=True)
            yield

    def verify(self) -> Iterator[tuple[Path, str]]:
        """Read every file; yields (path, what is wrong) for each that is not good.

        A record must also answer to the key it lies under.
        """
        for path in _benchmarks(self.results):
            try:
                measured.load(path)
            except measured.RecordError as error:
                yield path, str(error)
        for base in self._places():
            for path in sorted(base.rglob("*")) if base.is_dir() else []:
                if path.relative_to(base).parts[0] == BENCHMARKS:
                    continue
                if not path.is_file() or path.parent.name == "locks" or path.suffix == ".md":
                    continue
                try:
                    _check_file(path, base, path.read_bytes(), str(path))
                except StoreError as error:
                    yield path, str(error)

    def _masks(self) -> list[Path]:
        """The files of all masks: the plain data about each, and its bits."""
        return [path for path in sorted((self.folder / "masks").glob("*")) if _is_whole(path)]

    def record_result(self, key: str) -> list[Path]:
        """Copy a finished training's record into `results/`, with its mask and the pruning that
        gave it; no tables of weights. Returns the files written there.

        Raises StoreError where there is no record of it in the store, or no `results/` folder.
        """
        source = self._run(key, "record")
        if self.results is None or not source.is_file():
            raise StoreError(f"run {key}: no record of it in {self.folder}; nothing was copied.")
        digest = json.loads(unseal("record", source.read_bytes(), str(source)))["mask"]["digest"]
        files = [source]
        for path in self._masks():
            if path.suffix == ".bits":
                continue
            if json.loads(unseal("pruning", path.read_bytes(), str(path)))["digest"] == digest:
                files += [path, path.with_name(f"{path.name}.bits")]
        files = [path for path in files if path.is_file()]
        written = [self.results / path.relative_to(self.folder) for path in files]
        for path, place in zip(files, written, strict=True):
            write_file(place, path.read_bytes())
        return written

    def export(self, keys: list[str], target: Path, *, weights: bool = False) -> list[Path]:
        """Write runs, and all prunings, into tar files of at most 15 MB: `target`-01.tar, …

        keys: runs to take. weights: with tables of weights, which are large; masks go along always,
        since another machine may not get the same bits again. Returns the pieces. Raises StoreError
        where one file alone is larger than a piece, or there is nothing to write.
        """
        files = [
            (path, path.relative_to(self.folder))
            for key in keys
            for path in sorted((self.folder / "runs" / key).glob("*"))
            if path.name == "record" or (weights and path.name.startswith("weights-"))
        ]
        files += [(path, path.relative_to(self.folder)) for path in self._masks()]
        files = [(path, name) for path, name in files if _is_whole(path)]
        if not files:
            raise StoreError(f"export: none of the {len(keys)} runs lies in {self.folder}.")
        pieces: list[list] = [[]]
        size = 0
        for path, name in files:
            length = path.stat().st_size + 2048  # a tar header and padding
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
                    content = path.read_bytes()
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
            out = target.with_name(f"{target.name}-{number:02d}.tar")
            write_file(out, buffer.getvalue())
            written.append(out)
        return written

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
                    content = tar.extractfile(member).read()
                    _check_file(place, self.folder, content, f"{piece}: {member.name}")
                    if place.name == "record" and self._run(path.parts[1], "record").is_file():
                        _same_results(self.find(path.parts[1]), content, f"{piece}: {member.name}")
                        continue  # what is here already stays
                    write_file(place, content)
                    taken += 1
        except FileNotFoundError as error:
            raise StoreError(f"{piece}: no such file; nothing was taken from it.") from error
        except tarfile.TarError as error:
            raise DamagedFile(f"{piece}: no whole tar file ({error}).") from error
        return taken


def _is_whole(path: Path) -> bool:
    """Not what a damaged file was set aside as, nor a write under way."""
    return path.suffix != ".damaged" and not path.name.startswith(TEMPORARY)


def _check_file(path: Path, base: Path, content: bytes, name: str) -> None:
    """Refuse, as `name`, what must not lie at `path` of the store in `base`: a damaged file, one of
    another kind, or the record of another key."""
    kind = _kind_of(path, base)
    payload = unseal(kind, content, name)
    if kind == "record" and (key := json.loads(payload)["key"]) != path.parent.name:
        raise DamagedFile(f"{name}: is the record of {key}.")


def _same_results(here: Record | None, content: bytes, name: str) -> None:
    """Refuse a record that contradicts the one of the same key that is here already."""
    there = Record(**json.loads(unseal("record", content, name)))
    if here is not None and here.results_digest != there.results_digest:
        raise StoreError(
            f"{name}: a run of this key is here with other results, made on another kind of "
            f"machine most often. Nothing was replaced; `runs remove {here.key[:8]}` makes room."
        )


def _kind_of(path: Path, base: Path) -> str:
    """The kind that a file of the store must be, by its place. Raises DamagedFile for others."""
    parts = path.relative_to(base).parts
    if len(parts) == 3 and parts[0] == "runs":
        kind = parts[2].partition("-")[0]
        if kind in ("record", "weights", "checkpoint"):
            return kind
    if len(parts) == 2 and parts[0] == "masks":
        return "mask" if path.suffix == ".bits" else "pruning"
    if len(parts) == 2 and parts[0] == "arrays":
        return "array"
    raise DamagedFile(f"{path}: no file of a store has this name.")


def _benchmarks(results: Path | None) -> list[Path]:
    return [] if results is None else sorted((results / BENCHMARKS).glob("*.json"))


def _note_read(key: str) -> None:
    """Tell the runner which records a notebook reads, so that it knows when a copy is stale."""
    log = os.environ.get("LTHNB_READ_LOG")
    if log:
        with open(log, "a") as file:
            file.write(key + "\n")


def record_digest(key: str) -> str | None:
    """The results digest of a run in the default store, or None where there is none; of the words
    ``recorded`` and ``measured``, a digest of which runs and benchmarks lie in `results/`."""
    if key == "recorded":
        evidence = results_folder() / "runs"
        return digest_text(canonical(sorted(p.name for p in evidence.glob("*"))))
    if key == "measured":
        found = [measured.load(path)["checksum"] for path in _benchmarks(results_folder())]
        return digest_text(canonical(sorted(found)))
    record = Store().find(key)
    return None if record is None else record.results_digest

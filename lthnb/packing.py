"""A ticket as one safetensors file: what is kept, the values, the labels, and who has what already.

Tensors: `kept`, a bit for each entry, row by row, compressed by zlib (at 5 % of the entries a third
of the bits); `values` of the kept entries in that order, as float32, float16, or int8 with one
float32 in `scales` for each row; `train` and `valid`, pairs as CSR, of which LightGCN propagates
over `train`, and neither is recommended; labels of users and items, as compressed JSON. The
header's `about` says what the ticket is, `digest` is SHA-256 over all of it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from safetensors import SafetensorError

from lthnb.config import LthnbError, canonical, one_of
from lthnb.store.files import pack, unpack, write_file

FORMAT, VERSION = "lthnb ticket", "3"
KNOWN = ("train", "valid")
VALUES = ("float32", "float16", "int8")


class PackingError(LthnbError, ValueError):
    """A ticket that cannot be packed, or a file that is none: what was found, what was expected."""


def pack_labels(side: str, labels: Any) -> np.ndarray:
    """Labels (rows,) and their dtype as compressed JSON, uint8. Raises PackingError for labels that
    are neither numbers nor texts."""
    labels = np.asarray(labels)
    dtype = labels.dtype.str if labels.dtype.kind in "iuf" else "U"
    wrong = [label for label in labels.tolist() if dtype == "U" and not isinstance(label, str)]
    if wrong:
        found = f"labels of {side}: found {wrong[0]!r} ({type(wrong[0]).__name__})"
        raise PackingError(f"{found}, expected numbers or texts; turn them into texts.")
    content = json.dumps([dtype, labels.tolist()]).encode()
    return np.frombuffer(zlib.compress(content, 9), np.uint8)


def unpack_labels(packed: np.ndarray) -> np.ndarray:
    """What :func:`pack_labels` packed; texts have numpy's dtype of fixed width."""
    dtype, labels = json.loads(zlib.decompress(packed.tobytes()))
    return np.array(labels, dtype)


def encode(table: np.ndarray, kept: np.ndarray, kind: str) -> dict[str, np.ndarray]:
    """The kept values of a table (rows, F) as tensors: `values` (n,), and for int8, which is
    rounded to 127 steps of the row's largest, `scales` (rows,). kept: bool (rows, F), the mask.
    kind: of :data:`VALUES`; raises ConfigError for another."""
    one_of("values", kind, VALUES)
    values = table[kept]
    if kind != "int8":
        return {"values": values.astype(kind)}
    largest = np.abs(table).max(1, where=kept, initial=0).astype(np.float32)
    scales = np.where(largest > 0, largest / np.float32(127), np.float32(1))
    rows = np.nonzero(kept)[0]
    return {"values": np.rint(values / scales[rows]).astype(np.int8), "scales": scales}


def decode(tensors: dict[str, np.ndarray], kept: np.ndarray) -> np.ndarray:
    """The table, float32 (rows, F), whose kept values :func:`encode` made tensors of."""
    table, values = np.zeros(kept.shape, np.float32), tensors["values"].astype(np.float32)
    if "scales" in tensors:
        values *= np.repeat(tensors["scales"], kept.sum(1))
    table[kept] = values
    return table


def table_tensors(table: np.ndarray, kept: np.ndarray, values: str) -> dict[str, np.ndarray]:
    """A table and its mask, bool, both (rows, F), as tensors: `kept`, and those of
    :func:`encode`."""
    bits = np.frombuffer(zlib.compress(np.packbits(kept).tobytes(), 9), np.uint8)
    return {"kept": bits, **encode(table, kept, values)}


def table_bytes(table: np.ndarray, kept: np.ndarray, values: str) -> int:
    """Bytes of :func:`table_tensors`: of the file without its labels and its known pairs."""
    return sum(tensor.nbytes for tensor in table_tensors(table, kept, values).values())


def save(
    path: Path,
    table: np.ndarray,
    kept: np.ndarray,
    known: dict[str, sp.csr_matrix],
    labels: dict[str, np.ndarray],
    about: dict[str, Any],
    values: str = "float32",
) -> Path:
    """Write a ticket, all or nothing.

    table: float32 (users + items, F), kept: bool, its mask. known: CSR `train` and `valid`. labels:
    of `users` and `items`. about: plain data. values: one of :data:`VALUES`.
    """
    tensors = table_tensors(table, kept, values)
    for name in KNOWN:
        narrow = np.uint16 if known[name].shape[1] <= 1 << 16 else np.uint32
        tensors[f"{name}.indptr"] = known[name].indptr.astype(np.uint32)
        tensors[f"{name}.indices"] = known[name].indices.astype(narrow)
    for side, names in labels.items():
        tensors[f"{side}.labels"] = pack_labels(side, names)
    users, items = known["train"].shape
    shape = {"users": users, "items": items, "size": kept.shape[1], "values": values}
    header = {"format": FORMAT, "version": VERSION, "about": {**about, **shape}}
    header["digest"] = _digest(tensors, header["about"])
    write_file(path, pack(tensors, header))
    return path


def load(path: Path) -> dict[str, Any]:
    """What :func:`save` wrote: its arguments by name. Raises PackingError for a file that is
    missing, foreign, altered or of a later version; nothing in it is executed."""
    try:
        tensors, header = unpack(path.read_bytes())
    except OSError as error:
        raise PackingError(f"{path}: {error.strerror}; expected a ticket's file.") from error
    except (SafetensorError, ValueError, LookupError) as error:
        raise PackingError(f"{path}: no file of a ticket ({error}).") from error
    found = header.get("format"), header.get("version")
    if found != (FORMAT, VERSION):
        raise PackingError(
            f"{path}: found {found}, expected a {FORMAT} of version {VERSION}; save it again."
        )
    about = header.get("about", {})
    if header.get("digest") != _digest(tensors, about):
        raise PackingError(f"{path}: its digest does not fit its content; it is torn or altered.")
    users, items, size = (about[name] for name in ("users", "items", "size"))
    rows = users + items
    bits = np.frombuffer(zlib.decompress(tensors["kept"].tobytes()), np.uint8)
    kept = np.unpackbits(bits, count=rows * size).reshape(rows, size).astype(bool)
    known = {}
    for name in KNOWN:
        indptr, indices = (tensors[f"{name}.{n}"].astype(np.int32) for n in ("indptr", "indices"))
        ones = np.ones(len(indices), np.int8)
        known[name] = sp.csr_matrix((ones, indices, indptr), shape=(users, items))
    labels = {side: unpack_labels(tensors[f"{side}.labels"]) for side in ("users", "items")}
    table = decode(tensors, kept)
    return {"table": table, "kept": kept, "known": known, "labels": labels, "about": about}


def _digest(tensors: dict[str, np.ndarray], about: dict[str, Any]) -> str:
    h = hashlib.sha256(canonical(about).encode())
    for name in sorted(tensors):
        h.update(f"{name} {tensors[name].dtype} {tensors[name].shape}\n".encode())
        h.update(tensors[name].tobytes())
    return h.hexdigest()

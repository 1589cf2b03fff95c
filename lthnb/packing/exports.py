"""A ticket as a file, by suffix: packed, or plain for those who serve with something else.

`EXPORTS` is a dict: a suffix is a function that writes.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from lthnb.config import canonical, nearest
from lthnb.packing.errors import PackingError
from lthnb.packing.forms import Support
from lthnb.packing.tickets import SIDES, Ticket, check_options, pack
from lthnb.store.files import npz, write_file


def export(ticket: Ticket, path: str | Path, **how: Any) -> Path:
    """Write a ticket; the path's suffix says as what.

    ``.safetensors``: packed; `how` are the options of :func:`pack`. ``.npz``: one CSR matrix of
    users and items, which ``scipy.sparse.load_npz`` reads. ``.parquet``: a long table, a row for
    each kept entry. The latter two hold float32 and take no options.

    Returns the path. Raises PackingError for another suffix and for options that a suffix does not
    take, and StoreError where the operating system refuses.
    """
    path = Path(path)
    check(path, how)
    EXPORTS[path.suffix](ticket, path, **how)
    return path


def check(path: Path, how: dict[str, str]) -> None:
    """Refuse, before any work, what :func:`export` would: suffixes and options."""
    if path.suffix not in EXPORTS:
        raise PackingError(
            f"{path}: found the suffix {path.suffix!r}, expected {', '.join(EXPORTS)}."
            f"{nearest(path.suffix, EXPORTS)}"
        )
    if how and path.suffix != ".safetensors":
        raise PackingError(
            f"{path}: found the option{'s' * (len(how) > 1)} {', '.join(how)}, expected none: "
            f"{path.suffix} holds float32 as it is. Forms and kinds of values are for .safetensors."
        )
    check_options(**how)


def matrix(ticket: Ticket) -> sp.csr_matrix:
    """The ticket as CSR, float32 (users + items, F), users first; a kept 0 is stored."""
    support = Support.of(ticket.kept)
    parts = ticket.values[ticket.kept], support.columns.astype(np.int32), support.offsets
    return sp.csr_matrix(parts, shape=ticket.kept.shape)


def _npz(ticket: Ticket, path: Path) -> None:
    """What scipy.sparse.load_npz reads, and beside it, for numpy.load, `users` (how many of the
    rows are users), `user_labels`, `item_labels` and `about`, JSON."""
    table = matrix(ticket)
    arrays = {
        **{"indices": table.indices, "indptr": table.indptr, "data": table.data},
        **{"format": np.array(b"csr"), "shape": np.array(table.shape)},
        **{"users": np.array(ticket.users), "about": np.array(canonical(ticket.about))},
    }
    for side, labels in zip(SIDES, ticket.labels, strict=True):
        if labels is not None:
            arrays[f"{side[:-1]}_labels"] = _plain(labels)
    write_file(path, npz(arrays))


def _parquet(ticket: Ticket, path: Path) -> None:
    """Columns `side` (user or item), `row` (within its side), `label` (text, or int64 where both
    sides have whole numbers; left out where there are none), `column` (0 … F − 1), `value`.

    A row that keeps nothing does not appear: how many there are is in the schema's metadata, with
    `about`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows, columns = np.nonzero(ticket.kept)
    is_item = rows >= ticket.users
    names = pa.array(["user", "item"])
    parts = {
        "side": pa.DictionaryArray.from_arrays(pa.array(is_item.astype(np.int8)), names),
        "row": pa.array((rows - is_item * ticket.users).astype(np.int64)),
    }
    if all(labels is not None for labels in ticket.labels):
        both = [_plain(labels) for labels in ticket.labels]
        if np.result_type(*both).kind not in "iu":
            both = [labels.astype(str) for labels in both]
        parts["label"] = pa.array(np.concatenate(both)[rows])
    parts["column"] = pa.array(columns.astype(np.int16))
    parts["value"] = pa.array(ticket.values[rows, columns])
    facts = {"users": ticket.users, "items": ticket.items, "size": ticket.size}
    metadata = {**{n: str(v) for n, v in facts.items()}, "about": canonical(ticket.about)}
    buffer = io.BytesIO()
    pq.write_table(pa.table(parts).replace_schema_metadata(metadata), buffer)
    write_file(path, buffer.getvalue())


def _safetensors(ticket: Ticket, path: Path, **how: Any) -> None:
    pack(ticket, **how).save(path)


EXPORTS: dict[str, Callable[..., None]] = {
    ".safetensors": _safetensors,
    ".npz": _npz,
    ".parquet": _parquet,
}


def _plain(labels: Any) -> np.ndarray:
    """Labels as numbers or fixed-width texts, which are read without pickle."""
    labels = np.asarray(labels)
    return labels.astype(str) if labels.dtype.kind not in "iuf" else labels

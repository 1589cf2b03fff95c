"""The file of a packed ticket: safetensors, version 1 of this layout.

Eight bytes say how long the header is, the header is JSON, and behind it lie the tensors:
`SIDE.values`, what the form of a side needs (`SIDE.payload`, `SIDE.starts`, …), and the labels.
The header's metadata, all texts:

    format   lthnb ticket        version  1
    about    JSON: where the ticket comes from
    sides    JSON: for users and items, rows, size (F), form, values, base
    digest   SHA-256 of the whole file, in which these 64 digits are zeros

Any program that knows safetensors can read the tensors. They are read here without that package,
whose arrays for numpy are copies and know no bfloat16: this maps the file, and checks it first.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from lthnb.config import canonical
from lthnb.packing import labels
from lthnb.packing.errors import PackingError
from lthnb.packing.forms import FORMS, LARGEST
from lthnb.packing.tickets import SIDES, Packed, Side
from lthnb.packing.values import CODES, VALUES
from lthnb.store.files import write_file

FORMAT, VERSION = "lthnb ticket", "1"
UNKNOWN = "0" * 64
LARGEST_HEADER = 100_000_000  # bytes, as the safetensors package has it
AGAIN = "fetch it again, or make it again with `python -m lthnb export`"

# What safetensors calls a dtype, and numpy's. BF16 has none in numpy, and is seen as its bits.
DTYPES = {
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16},
    **{"I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8},
    **{"U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8},
}
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items() if name != "BF16"}


def write(packed: Packed, path: Path) -> Path:
    """Write a packed ticket, all or nothing; see :meth:`Packed.save`."""
    tensors = dict(packed.label_tensors)
    named = {name: NAMES[tensor.dtype] for name, tensor in tensors.items()}
    sides = {}
    for side in (packed.users, packed.items):
        for name, tensor in side.tensors.items():
            tensors[f"{side.name}.{name}"] = tensor
            named[f"{side.name}.{name}"] = NAMES[tensor.dtype]
        named[f"{side.name}.values"] = side.kind.in_file
        sides[side.name] = {
            "rows": side.rows,
            "size": side.size,
            "form": side.form,
            "values": side.value_kind,
            "base": side.base,
        }
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "about": canonical(packed.about),
        "sides": canonical(sides),
        "digest": UNKNOWN,
    }
    # The largest elements first, so that all of them are aligned, as safetensors has it.
    order = sorted(tensors, key=lambda name: (-tensors[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for name in order:
        size = tensors[name].nbytes
        header[name] = {
            "dtype": named[name],
            "shape": list(tensors[name].shape),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    parts = [len(text).to_bytes(8, "little"), text, *(tensors[name].data for name in order)]
    # The metadata come first, and of them the digest last: no text of ours can be taken for it.
    mark = text.index(f'"digest":"{UNKNOWN}"'.encode(), text.index(b'"sides":')) + 10
    parts[1] = text[:mark] + _digest(parts).encode() + text[mark + len(UNKNOWN) :]
    write_file(path, b"".join(parts))
    return path


def _digest(parts: Iterable) -> str:
    """SHA-256, in hex, over pieces of bytes."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(part)
    return hashed.hexdigest()


def read(path: Path, check: bool) -> Packed:
    """Map a file and check it; see :func:`lthnb.packing.load`."""
    content = _mapped(path)
    text, metadata, described = _header(path, content)
    if metadata.get("format") != FORMAT:
        raise PackingError(
            f"{path}: a safetensors file of format {metadata.get('format')!r}, expected "
            f"{FORMAT!r}; `python -m lthnb export` makes such files."
        )
    if metadata.get("version") != VERSION:
        raise PackingError(
            f"{path}: found version {metadata.get('version')!r}, expected {VERSION!r}: it was "
            "written by another lthnb, or altered. Update lthnb."
        )
    first = 8 + len(text)
    header = _tensors(path, described, len(content) - first)
    if check:
        digest = metadata.get("digest", "").encode()
        blank = text.replace(digest, UNKNOWN.encode(), 1) if len(digest) == 64 else text
        whole = memoryview(content)
        if digest.decode() != _digest((whole[:8], blank, whole[first:])):
            raise PackingError(
                f"{path}: its digest does not fit its content; it is torn or altered: {AGAIN}."
            )
    tensors = {}
    for name, one in header.items():
        count, at = math.prod(one["shape"]), first + one["data_offsets"][0]
        flat = np.frombuffer(content, DTYPES[one["dtype"]], count, at)
        tensors[name] = flat.reshape(one["shape"])
    return _opened(path, metadata, header, tensors)


def _mapped(path: Path) -> Any:
    """The bytes of a file, mapped into memory, read only."""
    try:
        with open(path, "rb") as file:
            if not file.seek(0, 2):
                raise PackingError(f"{path}: an empty file, expected a packed ticket: {AGAIN}.")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise PackingError(f"{path}: cannot be read: {error.strerror}.") from error


def _refusal(path: Path, found: str) -> PackingError:
    return PackingError(
        f"{path}: {found}; it is no safetensors file, or it is torn or altered: {AGAIN}."
    )


def _header(path: Path, content: Any) -> tuple[bytes, dict[str, str], dict[str, Any]]:
    """The text of the header, its metadata, and its tensors as they are described there."""
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > min(len(content) - 8, LARGEST_HEADER):
        raise _refusal(path, f"found {len(content):,} bytes, and a header of {size:,}")
    text = content[8 : 8 + size]
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _refusal(path, f"its header cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise _refusal(path, "its header is no table of tensors")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _refusal(path, "its metadata are no texts")
    return text, metadata, header


def _tensors(path: Path, described: dict[str, Any], space: int) -> dict[str, Any]:
    """Tensors in the order in which they lie, checked to fill the space behind the header."""
    for name, one in described.items():
        if not _is_tensor(one):
            raise _refusal(path, f"found the tensor {name!r} described as {str(one)[:80]}")
    header = dict(sorted(described.items(), key=lambda item: item[1]["data_offsets"]))
    at = 0
    for name, one in header.items():
        begin, end = one["data_offsets"]
        needed = math.prod(one["shape"]) * np.dtype(DTYPES[one["dtype"]]).itemsize
        if begin != at or end - begin != needed:
            expected = f"expected {at} to {at + needed}"
            raise _refusal(path, f"found tensor {name!r} at bytes {begin} to {end}, {expected}")
        at = end
    if at != space:
        raise _refusal(path, f"found {space:,} bytes of tensors, expected {at:,}")
    return header


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def _is_tensor(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and one.keys() == {"dtype", "shape", "data_offsets"}
        and isinstance(one["dtype"], str)
        and one["dtype"] in DTYPES
        and all(isinstance(one[name], list) for name in ("shape", "data_offsets"))
        and len(one["shape"]) <= 2
        and len(one["data_offsets"]) == 2
        and all(_is_count(n) for n in (*one["shape"], *one["data_offsets"]))
    )


def _opened(path: Path, metadata: dict[str, str], header: dict, tensors: dict) -> Packed:
    """The packed ticket of checked tensors. Raises PackingError where they are not one's."""
    try:
        about, described = (json.loads(metadata[name]) for name in ("about", "sides"))
        if not isinstance(about, dict) or described.keys() != set(SIDES):
            raise ValueError("'about' or 'sides' is no table")
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise PackingError(f"{path}: its metadata cannot be read ({error}): {AGAIN}.") from error
    sides, left = [], dict(tensors)
    for name in SIDES:
        one = described[name]
        if not _is_side(one):
            raise PackingError(
                f"{path}: found {name} described as {str(one)[:120]}, expected rows, size, form, "
                f"values and base: {AGAIN}."
            )
        own = {
            whole.partition(".")[2]: left.pop(whole)
            for whole in tensors
            if whole.startswith(f"{name}.") and not whole.startswith(f"{name}.label")
        }
        side = Side(name, one["rows"], one["size"], one["form"], one["values"], one["base"], own)
        side.check(str(path))
        in_file = header[f"{name}.values"]["dtype"]
        if in_file != side.kind.in_file:
            raise PackingError(
                f"{path}: found {name}.values to be {in_file}, expected {side.kind.in_file}."
            )
        labels.check(name, left, side.rows, str(path))
        sides.append(side)
    stray = [name for name in left if name.partition(".")[0] not in SIDES]
    if stray or sides[0].size != sides[1].size:
        raise PackingError(
            f"{path}: found the tensors {', '.join(stray) or '-'} beside those of a ticket, and "
            f"sizes {sides[0].size} and {sides[1].size}; it is altered: {AGAIN}."
        )
    return Packed(*sides, about, left)


def _is_side(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and one.keys() == {"rows", "size", "form", "values", "base"}
        and _is_count(one["rows"])
        and _is_count(one["size"])
        and 1 <= one["size"] <= LARGEST
        and isinstance(one["form"], str)
        and one["form"] in FORMS
        and isinstance(one["values"], str)
        and one["values"] in VALUES
        and type(one["base"]) is int
        and CODES[0] <= one["base"] <= CODES[1]
    )

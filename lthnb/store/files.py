"""Files that are written whole or not at all, and a checksum beside each, checked before reading.

`NAME.sha256` lies beside `NAME`, in the form of ``sha256sum``, and is written first. No file is
changed in place, so that a kill at any moment leaves a good file or none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as safetensors

from lthnb.config import LthnbError, canonical

TEMPORARY = ".tmp-"  # what unfinished files are called


class StoreError(LthnbError, RuntimeError):
    """The store cannot do what was asked: names the file or key, and what to do."""


class DamagedFile(StoreError):
    """A file whose checksum does not fit its content, or that lies under another name."""


def project_folder() -> Path:
    """The checkout that holds this package where there is one, else the current folder."""
    here = Path(__file__).resolve().parents[2]
    return here if (here / "pyproject.toml").exists() else Path.cwd()


def default_folder() -> Path:
    """Where runs are kept: ``$LTHNB_STORE``, else `.store` in the checkout."""
    return Path(os.environ.get("LTHNB_STORE") or project_folder() / ".store")


def results_folder() -> Path:
    """The recorded runs that come with the project: ``$LTHNB_RESULTS``, else `results/`."""
    return Path(os.environ.get("LTHNB_RESULTS") or project_folder() / "results")


def say(message: str) -> None:
    """Tell the user something that is no result."""
    print(f"lthnb: {message}", file=sys.stderr)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """What the operating system refuses is a StoreError that names the file and what to do."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror or error}. Nothing half-written is left. Free space there, "
            "or point LTHNB_STORE to a folder on a local disk that can be written, such as a copy "
            "of this one; the same command then goes on from the last checkpoint."
        ) from error


def write_file(path: Path, content: bytes) -> None:
    """Write all or nothing: a temporary file beside it, flushed to disk, then renamed.

    Raises StoreError, naming the file, the reason and the remedy, where that is refused.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.name}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                os.chmod(temporary, 0o644)  # mkstemp's files are for their owner alone
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def sha256(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def _checksum(path: Path, content: bytes) -> bytes:
    return f"{sha256(content)}  {path.name}\n".encode()


def write_checked(path: Path, content: bytes) -> None:
    """Write a file in place of any other: its checksum first, then the file."""
    with explained(path):
        path.unlink(missing_ok=True)
    write_file(path.with_name(f"{path.name}.sha256"), _checksum(path, content))
    write_file(path, content)


def read_checked(path: Path) -> bytes | None:
    """A file's bytes, None where there is none. Raises DamagedFile where its checksum is missing or
    does not fit."""
    beside = path.with_name(f"{path.name}.sha256")
    with explained(path):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        known = beside.read_bytes() if beside.is_file() else b""
    if known != _checksum(path, content):
        raise DamagedFile(f"{path}: its checksum does not fit its content; it is torn or altered.")
    return content


def read_row(path: Path) -> dict[str, Any] | None:
    """A row of JSON, None where there is none. Raises as :func:`read_checked` does, and where its
    folder is not called by its key or its search, as a copied one is not."""
    content = read_checked(path)
    row = content and json.loads(content)
    if row and path.parent.name not in (row["key"], row.get("search")):
        raise DamagedFile(f"{path}: is of {row.get('search', row['key'])}; delete the folder.")
    return row


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], Any] | None:
    """What :func:`pack` packed into a file, None where there is none. Raises as
    :func:`read_checked` does."""
    content = read_checked(path)
    return None if content is None else unpack(content)


def good(read: Callable[[Path], Any], path: Path) -> Any:
    """What a file of one's own store holds, by one of the functions above; None where it is
    missing. A damaged one is named and counts as missing, so that it is made again."""
    try:
        return read(path)
    except DamagedFile as error:
        say(f"{error} The training that wrote it makes it anew.")
        return None


def pack(arrays: dict[str, np.ndarray], about: Any) -> bytes:
    """Named arrays, and plain data about them, as the bytes of a safetensors file."""
    arrays = {name: np.array(values, order="C") for name, values in arrays.items()}
    return safetensors.save(arrays, metadata={"about": canonical(about)})


def unpack(content: bytes) -> tuple[dict[str, np.ndarray], Any]:
    """What :func:`pack` packed: arrays that can be written, and the data about them."""
    length = int.from_bytes(content[:8], "little")
    about = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["about"])
    return {name: np.array(values) for name, values in safetensors.load(content).items()}, about

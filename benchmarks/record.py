"""Writing a benchmark record (its layout: :mod:`lthnb.measured`), and what the machine is."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from lthnb.measured import RecordError, check, checksum, short
from lthnb.store.files import write_file

ROOT = Path(__file__).resolve().parents[1]


def write(path: Path, record: dict[str, Any]) -> None:
    """Seal and write a record, all or nothing. Raises RecordError rather than write a bad one, or
    one that names a path of this machine or its host."""
    record = json.loads(json.dumps({**record, "checksum": checksum(record)}, allow_nan=False))
    check(record, path.name)
    text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    # One number a line would be most of the file.
    for inner in (r"\[[^\[\]{}\"]*\]", r"\{[^\[\]{}]*\}"):
        text = re.sub(inner, lambda m: re.sub(r"\n\s*", " ", m[0]), text)
    for told in (str(ROOT), str(Path.home()) + os.sep, f'"{platform.node()}"'):
        if told in text:
            raise RecordError(f"{path.name}: would tell {told}, which is this machine's alone.")
    write_file(path, text.encode())


# The machine


def machine() -> dict[str, Any]:
    """What kind of machine this is; nothing that names it. Linux tells most."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "caches": _caches(),
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def load_average() -> list[float]:
    """Processes that wanted to run in the last 1, 5 and 15 minutes: how busy the machine was."""
    return [short(value) for value in os.getloadavg()]


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _processor() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _caches() -> list[str]:
    """Those of the first core, such as ``L2 Unified 1024K``; shared ones are listed once too."""
    folders = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"))
    return [f"L{_read(f / 'level')} {_read(f / 'type')} {_read(f / 'size')}" for f in folders]


def commit(folder: Path = ROOT) -> str | None:
    """The checkout's commit, with a ``+`` behind it where our code was changed since."""
    run = {"cwd": folder, "capture_output": True, "text": True, "check": True, "timeout": 60}
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], **run).stdout.strip()
        status = ["git", "status", "--porcelain", "--", "lthnb", "benchmarks"]
        return found + ("+" if subprocess.run(status, **run).stdout.strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None


def without_paths(text: str) -> str:
    """A message whose absolute paths have lost all but their last part."""
    return re.sub(r"(?:/[^/\s'\":,()]+)+/([^/\s'\":,()]+)", r"…/\1", text)

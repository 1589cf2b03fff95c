"""What a run was computed with: the machine, the versions and the moment."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from lthnb import __version__
from lthnb.store.files import project_folder

PACKAGES = ("numpy", "scipy", "numba", "torch")  # whose versions a row has


def provenance(seconds: float, device: str, threads: int) -> dict[str, Any]:
    """The machine, the versions and the moment: the columns of a row that may differ between two
    computations of the same run."""
    return {
        "seconds": round(seconds, 3),
        "device": device,
        "threads": threads,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": commit("lthnb"),
        "lthnb_version": __version__,
        "python_version": platform.python_version(),
        **{f"{name}_version": metadata.version(name) for name in PACKAGES},
    }


def processor() -> str:
    """The name of the processor, as Linux tells it; elsewhere what Python knows."""
    told = Path("/proc/cpuinfo")
    _, _, rest = (told.read_text() if told.exists() else "").partition("model name")
    return rest.partition("\n")[0].strip("\t: ") or platform.processor()


def commit(*folders: str) -> str | None:
    """The checkout's commit, with a `+` behind it where one of its folders was changed since; None
    outside a checkout, or without git."""
    if not (project_folder() / ".git").exists():
        return None
    git = ["git", "-C", str(project_folder())]
    try:
        found = subprocess.check_output(
            [*git, "rev-parse", "HEAD"], text=True, stderr=subprocess.DEVNULL
        ).strip()
        changed = subprocess.check_output([*git, "status", "--porcelain", "--", *folders])
    except (OSError, subprocess.CalledProcessError):
        return None
    return found + ("+" if changed else "")

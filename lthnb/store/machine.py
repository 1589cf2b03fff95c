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
from lthnb.store.columns import PACKAGES
from lthnb.store.files import project_folder


def provenance(seconds: float, device: str, threads: int) -> dict[str, Any]:
    """The machine, the versions and the moment: the columns of a row that may differ between two
    computations of the same run."""
    versions = {"lthnb": __version__, "python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in PACKAGES}
    return {
        "seconds": round(seconds, 3),
        "device": device,
        "threads": threads,
        "written": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": commit("lthnb"),
        **{f"{name}_version": version for name, version in versions.items()},
    }


def processor() -> str:
    """The name of the processor, as Linux tells it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def commit(*folders: str) -> str | None:
    """The checkout's commit, with a `+` behind it where one of its folders was changed since."""
    if not (project_folder() / ".git").exists():
        return None
    run = {"cwd": project_folder(), "capture_output": True, "text": True, "check": True}
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], timeout=10, **run).stdout.strip()
        words = ["git", "status", "--porcelain", "--", *folders]
        return found + ("+" if subprocess.run(words, timeout=60, **run).stdout.strip() else "")
    except (OSError, subprocess.SubprocessError):
        return None

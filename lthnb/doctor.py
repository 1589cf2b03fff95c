"""Looking a machine and an installation over: what is fine, and what to do about the rest.

What is found here the program goes by as well: workers are counted by joblib's `cpu_count`, which
knows affinity and cgroup limits, and where no folder for compiled kernels can be written, `lthnb`
takes a temporary one.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numba as nb
import numpy as np
import torch
from joblib import cpu_count

from lthnb.config import LthnbError, Model, Spec, Training
from lthnb.datasets import sources
from lthnb.kernels import new_step
from lthnb.sampling import initial_table
from lthnb.store import adding
from lthnb.store.files import default_folder, project_folder, results_folder
from lthnb.store.results import MANIFEST
from lthnb.store.runs import Store

LEAST_DISK, LEAST_MEMORY = 2e9, 4e9  # bytes: a book and its store; training on Yelp2018
SAME = 1e-3  # relative: losses of two ways to compute one step


class Todo(LthnbError):
    """Something that a user should do; the message says what."""


def python() -> str:
    return f"{platform.python_version()}, lthnb in {Path(__file__).parent}"


def packages() -> str:
    lock = project_folder() / "requirements.lock"
    if not lock.exists():
        return "no requirements.lock here, so any versions that pyproject.toml allows"
    other, wanted = [], re.findall(r"^([\w.-]+)==([^;\s]+)", lock.read_text(), re.MULTILINE)
    for name, version in wanted:
        try:
            found = metadata.version(name)
        except metadata.PackageNotFoundError:
            found = "none"
        if found.partition("+")[0] != version:
            other.append(f"{name} {found} (lock: {version})")
    if other:
        raise Todo(
            f"{len(other)} of {len(wanted)} differ from requirements.lock: {', '.join(other[:5])}"
            f"{' …' * (len(other) > 5)}; results may differ in their last bits. `make .venv/.ready`"
        )
    return f"{len(wanted)} as in requirements.lock"


def cores() -> str:
    host, usable = os.cpu_count(), cpu_count()
    of_torch, of_numba = torch.get_num_threads(), nb.get_num_threads()
    said = f"{usable} of {host} may be used; threads: {of_torch} torch, {of_numba} numba"
    if max(of_torch, of_numba) > usable:
        raise Todo(
            f"{said}. More threads than cores slow each other down: set OMP_NUM_THREADS={usable} "
            f"and NUMBA_NUM_THREADS={usable}."
        )
    return said


def kernels() -> str:
    """Compile and run the fast step on the CPU, beside the plain one."""
    folder = os.environ.get("NUMBA_CACHE_DIR", "beside the package, or in the user's cache")
    _compare("cpu", "cpu")
    return f"the fast step trains as the plain one does; compiled code: {folder}"


def gpu() -> str:
    if not torch.cuda.is_available():
        return "none that torch can use; everything trains on the CPU"
    name = torch.cuda.get_device_name()
    try:
        _compare("reference", "cuda")
    except RuntimeError as error:
        raise Todo(
            f"{name} is there, and a step on it fails ({str(error).splitlines()[0]}). Train on the "
            "CPU (the default), or install a torch that fits the driver."
        ) from error
    return f"{name}, on which a step trains as on the CPU; `--device cuda` uses it"


def _compare(step: str, device: str) -> None:
    """An epoch of LightGCN by a step, beside the reference on the CPU."""
    data = sources.load("synthetic", users=60, items=40, interactions=600)
    losses = []
    for name, where in ((step, device), ("reference", "cpu")):
        spec = Spec(Model("lightgcn", embedding_size=8), Training(batch_size=64, step=name))
        start = initial_table(0, data.rows, 8)
        losses.append(new_step(spec, data, start, np.ones(start.shape, bool), where).run_epoch(0))
    if not np.isclose(*losses, rtol=SAME):
        raise Todo(
            f"an epoch by {step!r} on {device} has loss {losses[0]:.6g}, by the plain step "
            f"{losses[1]:.6g}: believe no number here. Reinstall numba and torch as locked."
        )


def disk() -> str:
    folder = default_folder()
    near = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(near).free
    if not os.access(near, os.W_OK):
        raise Todo(f"{near} cannot be written: point LTHNB_STORE to a folder that can.")
    if free < LEAST_DISK:
        raise Todo(
            f"{free / 1e9:.1f} GB free at {near}: free some, or point LTHNB_STORE elsewhere."
        )
    return f"{free / 1e9:.0f} GB free for runs in {folder}"


def memory() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (text := limit.read_text().strip()).isdigit():
        total = min(total, int(text))
    if total < LEAST_MEMORY:
        raise Todo(f"{total / 1e9:.1f} GB: enough for MovieLens and LastFM, not for Yelp2018.")
    return f"{total / 1e9:.0f} GB"


def store() -> str:
    mine = Store()
    if bad := list(mine.verify()):
        raise Todo(f"{mine.folder}: {len(bad)} damaged, such as {bad[0]}. They are made again.")
    return f"{len(mine.own_keys())} runs in {mine.folder}"


def recorded() -> str:
    folder = results_folder()
    if not (folder / MANIFEST).exists():
        raise Todo(f"no recorded runs in {folder}: run in a checkout, or set LTHNB_RESULTS.")
    if bad := list(adding.verify(folder)):
        raise Todo(f"{folder}: {len(bad)} damaged, such as {bad[0]}. `git checkout results`")
    return f"all files of {folder} are as they were written"


CHECKS: dict[str, Callable[[], str]] = {
    check.__name__: check
    for check in (python, packages, cores, kernels, gpu, disk, memory, store, recorded)
}


def report() -> int:
    """Print a line a check: fine, or what is to be done; 1 where something is, else 0."""
    good = True
    for name, check in CHECKS.items():
        try:
            word, said = "fine ", check()
        except LthnbError as error:
            word, said, good = "TO DO", str(error), False
        print(f"{name:9} {word}  {said}", flush=True)
    return 0 if good else 1

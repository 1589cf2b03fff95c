"""Lottery tickets in recommender models: find them, check them, keep them.

    data = lthnb.load("ratings.csv", user="userId", item="movieId", rating="rating", threshold=4)
    search = lthnb.imp(data, backbone="mf", rounds=8, rate=0.2, seeds=3)
    search.table, search.plot(), search.best()

Names are resolved when they are asked for, so that ``import lthnb`` costs nothing.
"""

import importlib
import os
import tempfile
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# Name → module, and its name there.
FACE = {
    "load": ("lthnb.datasets.sources", "load"),
    "imp": ("lthnb.face", "imp"),
    "omp": ("lthnb.face", "omp"),
    "random_pruning": ("lthnb.face", "random_pruning"),
    "prune_interactions": ("lthnb.face", "prune_interactions"),
    "compress": ("lthnb.compressing", "compress"),
    "evaluate": ("lthnb.face", "evaluate"),
    "open": ("lthnb.face", "open_ticket"),
    "results": ("lthnb.store.results", "results"),
}
__all__ = [*FACE, "__version__"]

# numba keeps compiled kernels beside the package, else in the user's cache; where neither can be
# written it would refuse to import them.
if not any(os.access(folder, os.W_OK) for folder in (Path(__file__).parent, Path.home())):
    os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(tempfile.gettempdir()) / "lthnb-kernels"))


def __getattr__(name: str) -> Any:
    if name not in FACE:
        raise AttributeError(f"module 'lthnb' has no attribute {name!r}")
    module, there = FACE[name]
    return getattr(importlib.import_module(module), there)


def __dir__() -> list[str]:
    return sorted([*globals(), *FACE])

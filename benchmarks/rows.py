"""What is measured: the rows, how large they are, and the sweeps of `scaling`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One comparison: who takes part, and in which unit the measures are."""

    title: str
    unit: str
    peers: tuple[str, ...]


STEP_UNIT = "seconds a batch"
ROWS = {
    "step": Row("a training step of MF", STEP_UNIT, ("lightgcn-pytorch", "lth-mrs")),
    "epoch": Row("an epoch of MF, sampling included", "seconds", ("implicit", "recbole")),
    "lightgcn": Row(
        "a training step of LightGCN", STEP_UNIT, ("lightgcn-pytorch", "lth-mrs", "recbole")
    ),
    "ranking": Row(
        "full ranking of all users, top 20, Recall and NDCG",
        "seconds",
        ("lth-mrs", "lightgcn-pytorch", "implicit", "recbole"),
    ),
}
# Ours alone: where its time goes.
OWN = {
    "density": Row("a training step of MF, by the density of a random mask", STEP_UNIT, ()),
    "kernels-mf": Row("MF, kernel by kernel", STEP_UNIT, ()),
    "kernels-lightgcn": Row("LightGCN, kernel by kernel", STEP_UNIT, ()),
    "kernels-ranking": Row("full ranking, and its product alone", "seconds", ()),
    "roof": Row("a plain copy between arrays beyond any cache", "seconds", ()),
}
NAMES = (*ROWS, *OWN, "memory", "scaling")  # what a run without names measures


# Of a run as a whole; an option of the command line goes before.
FULL = {
    "source": "yelp2018",
    "options": {},
    "size": 32,
    "layers": 3,
    "batch": 2048,
    "repeats": 5,
    "batches": 100,
    "lightgcn_batches": 12,
    "trained": 20,
    "step": "auto",
}
QUICK = {
    **FULL,
    "source": "synthetic",
    # LightGCN-PyTorch's test fails where the users are a multiple of its batch of 100
    "options": {"users": 390, "items": 200, "interactions": 8000},
    "size": 8,
    "batch": 256,
    "repeats": 2,
    "batches": 5,
    "lightgcn_batches": 2,
    "trained": 1,
}


def settings_of(row: str, settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The settings of a run as one row's workers get them."""
    if row == "density":
        more["densities"] = DENSITIES
    few = {"batches": settings["lightgcn_batches"]} if "lightgcn" in row else {}
    return {**settings, **few, **more}


# Sweeps: one setting moves, all others stay at the base.

BASE = {"users": 20_000, "items": 20_000, "interactions": 1_000_000, "size": 32, "batch": 2048}
SWEEPS = {
    "interactions": (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000),
    "users": (10_000, 30_000, 100_000, 200_000),
    "items": (10_000, 30_000, 100_000, 200_000),
    "size": (16, 32, 64, 128),
    "batch": (512, 1024, 2048, 4096, 8192, 16_384),
    "density": (0.05, 0.1, 0.2, 0.5, 1),
    "threads": tuple(n for n in (1, 2, 4, 8, 16, 32) if n <= (os.cpu_count() or 1)),
}
QUICK_BASE = {"users": 400, "items": 400, "interactions": 8000, "size": 8, "batch": 256}
QUICK_SWEEPS = {
    "interactions": (4000, 8000),
    "density": (0.1, 1),
    "threads": SWEEPS["threads"][:2],
}
DENSITIES = (1, 0.5, 0.2, 0.1, 0.05)  # of the row `density`
SHAPE = ("users", "items", "interactions")  # options of the synthetic source


def point(base: dict[str, Any], over: str, at: float, backbone: str, settings: dict[str, Any]):
    """The settings of one point of a sweep."""
    here = {"density": 1, "threads": settings["threads"], **base, over: at}
    options = {name: here.pop(name) for name in SHAPE}
    more = {"source": "synthetic", "options": options, "backbone": backbone}
    return {**settings, **here, **more, "batches": settings["lightgcn_batches"]}

"""`plan.yaml`, read: what is measured, beside whom, and how large it is."""

from __future__ import annotations

import os
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
ADAPTERS = ROOT / "benchmarks" / "adapters"


class Row(NamedTuple):
    """One comparison: who takes part beside ours, and in which unit the measures are."""

    title: str
    unit: str
    peers: list[str]


class Peer(NamedTuple):
    """One peer; see `plan.yaml`. adapter: the file in `adapters/` that calls its code."""

    adapter: str
    install: list[str]
    repository: str | None = None
    commit: str | None = None


PLAN = yaml.safe_load((ROOT / "benchmarks" / "plan.yaml").read_text(encoding="utf-8"))
ROWS = {name: Row(*about) for name, about in PLAN["rows"].items()}
PEERS = {name: Peer(**about) for name, about in PLAN["peers"].items()}
SHAPE = ("users", "items", "interactions")  # options of the planted data


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """A type for argparse: one of some names; another is refused with what there is."""

    def checked(word: str) -> str:
        if word not in names:
            raise ArgumentTypeError(f"found {word!r}, expected one of {', '.join(names)}.")
        return word

    return checked


def adapter_of(name: str) -> Path:
    """The file that calls the code of a peer, or ours."""
    return ADAPTERS / f"{PEERS[name].adapter if name in PEERS else name}.py"


def settings_of(row: str, settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The settings of a run as one row's workers get them."""
    few = {"batches": settings["lightgcn_batches"]} if "lightgcn" in row else {}
    return {**settings, **few, **more}


def points(quick: bool, over: str, backbone: str, settings: dict[str, Any]) -> dict[Any, dict]:
    """The points of a sweep: value → settings. No more threads than there are cores."""
    scaling = PLAN["quick scaling" if quick else "scaling"]
    found = {}
    for at in scaling["sweeps"][over]:
        here = {"density": 1, "threads": settings["threads"], **scaling["base"], over: at}
        options = {name: here.pop(name) for name in SHAPE}
        more = {"source": "synthetic", "options": options, "backbone": backbone}
        if here["threads"] <= max(settings["threads"], os.cpu_count() or 1):
            found[at] = {**settings, **here, **more, "batches": settings["lightgcn_batches"]}
    return found

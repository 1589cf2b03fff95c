"""What one training came to: one row of plain columns, and beside it what has a length of its own.

`columns.yaml` says what each column means. The *nested* part of a run holds arrays: losses
by epoch, evaluations, and the hits of each user.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from lthnb import __version__
from lthnb.config import ConfigError, Init, Spec, canonical, digest_text, init_from, spec_from
from lthnb.metrics import KS, METRICS, TOP, Hits
from lthnb.store.files import project_folder, sha256

# Of a mask: what its pruning depended on, its `digest` and `entries`; None for the dense one.
Pruning = dict[str, Any] | None
PACKAGES = ("numpy", "scipy", "numba", "torch")  # whose versions a row has
METRIC_NAMES = [f"{metric}@{k}" for k in KS for metric in METRICS]
# Of either table: name → (type, meaning), in order. Types: str, int (may be empty), float.
COLUMNS: dict[str, dict[str, tuple[str, str]]] = {
    table: {name: tuple(about) for name, about in columns.items()}
    for table, columns in yaml.safe_load(
        Path(__file__).with_name("columns.yaml").read_text(encoding="utf-8")
    ).items()
}
RUN_COLUMNS, SEARCH_COLUMNS = COLUMNS["runs"], COLUMNS["searches"]

RANDOM = ("random", "random_x0")  # methods with random masks
# Methods that prune the dense table once a density.
ONE_SHOT = ("omp", "cut", "finetune", "early", "carried", "pep", "thresholds", "dynamic", *RANDOM)
TAGS = ("rate", "densities", "rewind", "rewind_epoch", "criterion", "prune_from", "scope")
TAGS += ("basis", "policy")
USUAL = dict.fromkeys(TAGS) | {"rewind": "rewind", "criterion": "magnitude"}
USUAL |= {"prune_from": "best", "scope": "join"}
LATER = ("basis", "policy")  # no part of the name of a search that has none
READ = {  # which of these a method reads, where it does not read all
    "omp": ("rewind", "rewind_epoch", "criterion", "prune_from", "scope", "basis"),
    **dict.fromkeys(("cut", "finetune"), ("criterion", "prune_from", "scope", "basis")),
    **dict.fromkeys(RANDOM, ("criterion", "scope")),
    "dynamic": ("criterion", "scope", "policy"),
    **dict.fromkeys(("dense", "lcm", "early", "thresholds", "pep"), ()),
    "carried": ("basis",),
    "pairs": ("criterion", "densities", "policy"),
}


def search_tags(method: str, seed: int, **settings: Any) -> dict[str, Any]:
    """What all rows of a search have alike; what its method does not read is left empty, so that
    the same search bears the same tags however it was asked for.

    settings: of :data:`TAGS`, by name, where they are not :data:`USUAL`.
    """
    read, settings = READ.get(method, TAGS), {**USUAL, **settings}
    found = {name: settings[name] if name in read else None for name in TAGS}
    if method in ("dynamic", *RANDOM):
        found["criterion"] = "random"
    if found["rewind"] != "late":
        found["rewind_epoch"] = None
    densities = found["densities"]
    found["densities"] = canonical(list(densities)) if densities else None
    if densities:
        found["rate"] = None
    return {"method": method, **found, "seed": seed}


def search_row(
    tags: Mapping[str, Any], dense: str, number: int, density: float, key: str
) -> dict[str, Any]:
    """One row of a search: a run as its round `number`. dense: key of its round 0, which with the
    tags names the search."""
    named = {name: value for name, value in tags.items() if name not in LATER or value}
    row = {
        "search": digest_text(canonical({**named, "dense": dense})),
        **tags,
        "round": min(number, 1) if tags["method"] in ONE_SHOT else number,
        "density": density,
        "key": key,
    }
    return {name: row[name] for name in SEARCH_COLUMNS}


FOUND = ("noise_share", "noise_auc")  # how well a pruning of pairs finds planted ones
GIVEN = ("digest", "entries", *FOUND)  # what a pruning gave


def path_of(densities: str | None) -> str:
    """The densities that a search was told, as its tags have them, to three digits; or empty."""
    return ", ".join(f"{density:.3g}" for density in json.loads(densities or "[]"))


def pruning_key(about: Mapping[str, Any]) -> str:
    """The key of a pruning: of what it depends on, not of the mask that it gave."""
    return digest_text(canonical({k: v for k, v in about.items() if k not in GIVEN}))


def make_row(
    key_text: str,
    data: Mapping[str, Any],
    entries: int,
    pruning: Mapping[str, Any] | None,
    seed: int,
    scores: Mapping[str, Any],
    made: Mapping[str, Any],
    nested: Mapping[str, np.ndarray],
) -> dict[str, Any]:
    """The row of a finished training: each of :data:`RUN_COLUMNS`, None where empty.

    data: :meth:`Interactions.summary`. pruning: how the mask was made, None for the dense one.
    scores: `best_epoch`, `epochs`, `test`, `int8` and `valid` (metric → value). made:
    :func:`provenance`.
    """
    about = json.loads(key_text)
    model, training, init = about["spec"]["model"], about["spec"]["training"], about["init"]
    base = init
    while "of" in base:  # a start that is made from another one
        base = base["of"]
    split = {"way": "unknown"} | data["origin"].get("split", {})
    split = [split.get(name) for name in ("way", "leave", "seed")]
    pruning = dict(pruning or {})
    found = {
        "compression": "none",
        "optimizer": "adam",
        **model,
        **training,
        **{f"{part}_pairs": data[part] for part in ("train", "valid", "test")},
        **scores["test"],
        **{f"int8_{name}": value for name, value in scores["int8"].items()},
        **{f"valid_{name}": value for name, value in scores["valid"].items()},
        **made,
        "key": digest_text(key_text),
        "key_text": key_text,
        "dataset": data["name"],
        "data_digest": data["digest"],
        # A label: see :data:`RUN_COLUMNS`.
        "split": "-".join(str(part) for part in split if part is not None),
        "source": data["origin"].get("source", "table"),
        "noise": data["origin"].get("noise"),
        **{name: data["origin"].get("pairs", {}).get(name) for name in FOUND},
        "origin": canonical(data["origin"]),
        "users": data["users"],
        "items": data["items"],
        "users_tested": len(nested["tested_users"]),
        "best_epoch": scores["best_epoch"],
        "epochs": scores["epochs"],
        "max_epochs": training["epochs"],
        "seed": seed,
        "init_seed": base.get("seed"),
        "data_seed": training["order_seed"],
        "start_from": init.get("run"),
        "start_epoch": str(init["epoch"]) if "epoch" in init else None,
        "teacher": init.get("teacher"),
        "mask_digest": about["mask"],
        "entries": entries,
        "density": entries / ((data["users"] + data["items"]) * model["embedding_size"]),
        "mask_seed": pruning.get("seed"),
        "mask_from": pruning.get("run"),
        "pruning": canonical(pruning) if pruning else None,
    }
    row = {name: found.get(name) for name in RUN_COLUMNS}
    row["results_digest"] = results_digest(row, nested)
    return row


def results_digest(row: Mapping[str, Any], nested: Mapping[str, np.ndarray]) -> str:
    """Digest of all that the computation gave: the same where every number is, bit for bit."""
    names = ["key", "best_epoch", "epochs", *METRIC_NAMES, *(f"valid_{m}" for m in METRIC_NAMES)]
    arrays = b"".join(np.ascontiguousarray(nested[name], NESTED[name]).tobytes() for name in NESTED)
    return digest_text(canonical({name: row[name] for name in names}) + sha256(arrays))


# The nested part: name → type. `hits` has a bit for each of the first 20 places, the first the
# lowest. Who was tested, and on how many relevant items, is the same for all runs on a split.
NESTED = {
    "losses": "<f8",
    "evaluated_epochs": "<i4",
    "evaluated_recall": "<f8",
    "evaluated_ndcg": "<f8",
    "hits": "<u4",
    "tested_users": "<u4",
    "relevant": "<u4",
}
SPLIT_PART = ("tested_users", "relevant")


def make_nested(losses: list[float], evaluations: list[list[float]], hits: Hits) -> dict:
    """The nested part of a run. evaluations: [epoch, Recall@20, NDCG@20] each."""
    epochs, recall, ndcg = zip(*evaluations, strict=True) if evaluations else ((), (), ())
    bits = (hits.hits.astype(np.uint64) << np.arange(TOP, dtype=np.uint64)).sum(1)
    values = (losses, epochs, recall, ndcg, bits, hits.users, hits.relevant)
    return {n: np.asarray(v, NESTED[n]) for n, v in zip(NESTED, values, strict=True)}


def _column(name: str, meaning: str) -> property:
    return property(lambda record: record.row[name], doc=meaning)


@dataclass(repr=False)
class Record:
    """One finished training. row: its columns. load: reads its nested part, the arrays of
    :data:`NESTED`, when they are asked for.
    """

    row: dict[str, Any]
    load: Callable[[], dict[str, np.ndarray]] = field(compare=False)

    @cached_property
    def nested(self) -> dict[str, np.ndarray]:
        return self.load()

    key = _column("key", "Of the run: see :func:`config.run_text`.")
    mask_digest = _column("mask_digest", "Of the mask, as that of :class:`pruning.Mask`.")
    entries = _column("entries", "Entries of the table that are kept.")
    density = _column("density", "Share of the table's entries that are kept.")
    best_epoch = _column("best_epoch", "The epoch whose weights count, from 1.")
    epochs = _column("epochs", "Epochs run.")
    seconds = _column("seconds", "Wall time of the training, over all its interruptions.")
    results_digest = _column("results_digest", "Equal where all results are, bit for bit.")

    @property
    def shape(self) -> tuple[int, int]:
        """Of the table: (users + items, F)."""
        return self.row["users"] + self.row["items"], self.row["embedding_size"]

    @property
    def pruning(self) -> Pruning:
        """How the mask was made."""
        return json.loads(self.row["pruning"]) if self.row["pruning"] else None

    @property
    def spec(self) -> Spec:
        """What was trained, and how."""
        return spec_from(json.loads(self.row["key_text"])["spec"])

    @property
    def init(self) -> Init:
        """Where the table started."""
        return init_from(json.loads(self.row["key_text"])["init"])

    @property
    def origin(self) -> dict[str, Any]:
        """Where the data came from, how they were split, and what was dropped of them."""
        return json.loads(self.row["origin"])

    def hits(self) -> Hits:
        """The top-20 hits of every test user, from which all metrics at k ≤ 20 follow."""
        bits = self.nested["hits"].astype(np.int64)[:, None] >> np.arange(TOP)[None, :]
        users, relevant = (self.nested[name].astype(np.int64) for name in SPLIT_PART)
        return Hits(users, (bits & 1).astype(bool), relevant)

    def epoch(self, epoch: int | str) -> int | str:
        """``best``, or the number of an epoch that was run; ``last`` is one. Raises ConfigError."""
        number = self.epochs if epoch == "last" else epoch
        if number != "best" and not (isinstance(number, int) and 1 <= number <= self.epochs):
            found = f"run {self.key[:8]}: found epoch {epoch!r}"
            raise ConfigError(f"{found}, expected 'best', 'last' or 1 … {self.epochs}.")
        return number


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

"""What one training came to: one row of plain columns, and beside it what has a length of its own.

The columns are those of :mod:`lthnb.store.columns`. The *nested* part of a run holds arrays: losses
by epoch, evaluations, and the hits of each user.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from lthnb import __version__
from lthnb.config import canonical, digest_text
from lthnb.metrics import TOP, Hits
from lthnb.store.columns import METRIC_NAMES, PACKAGES, RUN_COLUMNS, SEARCH_COLUMNS
from lthnb.store.files import project_folder, sha256

PLAIN = ("dense", "lcm")  # methods that prune nothing
RANDOM = ("random", "random_x0")
ONE_SHOT = ("omp", *RANDOM)  # methods that prune the dense table once for each density


def search_tags(
    method: str,
    seed: int,
    *,
    rate: float | None = None,
    densities: Sequence[float] = (),
    rewind: str | None = None,
    rewind_epoch: int | None = None,
    criterion: str | None = None,
    prune_from: str | None = None,
    scope: str | None = None,
) -> dict[str, Any]:
    """What all rows of a search have alike; what its method does not read is left empty, so that
    the same search bears the same tags however it was asked for."""
    prunes, random = method not in PLAIN, method in RANDOM
    by_density = method in ONE_SHOT or bool(densities)
    return {
        "method": method,
        "rate": None if by_density or not prunes else rate,
        "rewind": rewind if prunes and not random else None,
        "rewind_epoch": rewind_epoch if rewind == "late" else None,
        "criterion": ("random" if random else criterion) if prunes else None,
        "prune_from": prune_from if prunes and not random else None,
        "scope": scope if prunes else None,
        "densities": canonical(list(densities)) if by_density and method == "imp" else None,
        "seed": seed,
    }


def search_row(
    tags: Mapping[str, Any], dense: str, number: int, density: float, key: str
) -> dict[str, Any]:
    """One row of a search: a run as its round `number`. dense: key of its round 0, which with the
    tags names the search."""
    row = {
        "search": digest_text(canonical({**tags, "dense": dense})),
        **tags,
        "round": min(number, 1) if tags["method"] in ONE_SHOT else number,
        "density": density,
        "key": key,
    }
    return {name: row[name] for name in SEARCH_COLUMNS}


GIVEN = ("digest", "entries")  # what a pruning gave


def pruning_key(about: Mapping[str, Any]) -> str:
    """The key of a pruning: of what it depends on, not of the mask that it gave."""
    return digest_text(canonical({k: v for k, v in about.items() if k not in GIVEN}))


def split_label(origin: Mapping[str, Any]) -> str:
    """The split of some data in a word; see :data:`columns.RUN_COLUMNS`."""
    split = origin.get("split", {})
    parts = (split.get("way", "unknown"), split.get("leave"), split.get("seed"))
    return "-".join(str(part) for part in parts if part is not None)


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
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "commit": _commit(),
        **{f"{name}_version": version for name, version in versions.items()},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _commit() -> str | None:
    """The checkout's commit, with a `+` behind it where the package was changed since."""
    folder = project_folder()
    if not (folder / ".git").exists():
        return None
    run = {"cwd": folder, "capture_output": True, "text": True, "timeout": 10, "check": True}
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], **run).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--", "lthnb"], **run).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed.strip() else "")


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
    """The row of a finished training: each of :data:`columns.RUN_COLUMNS`, None where empty.

    data: :meth:`Interactions.summary`. pruning: how the mask was made, None for the dense one.
    scores: `best_epoch`, `epochs`, `test` and `valid` (metric → value). made: :func:`provenance`.
    """
    about = json.loads(key_text)
    model, training, init = about["spec"]["model"], about["spec"]["training"], about["init"]
    base = init
    while "of" in base:  # a start that is made from another one
        base = base["of"]
    pruning = pruning or {}
    row: dict[str, Any] = {
        "key": digest_text(key_text),
        "key_text": key_text,
        "dataset": data["name"],
        "data_digest": data["digest"],
        "split": split_label(data["origin"]),
        "source": data["origin"].get("source", "table"),
        "origin": canonical(data["origin"]),
        **{name: data[name] for name in ("users", "items")},
        **{f"{part}_pairs": data[part] for part in ("train", "valid", "test")},
        **{name: model.get(name) for name in ("backbone", "embedding_size", "layers")},
        "layer_combination": model.get("layer_combination"),
        "compression": model.get("compression", "none"),
        **{name: training[name] for name in ("protocol", "l2", "learning_rate", "batch_size")},
        **{name: training[name] for name in ("patience", "evaluate_every", "l2_scope", "dtype")},
        "max_epochs": training["epochs"],
        "step": training["step"],
        "seed": seed,
        "init_seed": base.get("seed"),
        "data_seed": training["order_seed"],
        "mask_seed": pruning.get("seed"),
        "mask_digest": about["mask"],
        "mask_from": pruning.get("run"),
        "start_from": init.get("run"),
        "start_epoch": str(init["epoch"]) if "epoch" in init else None,
        "teacher": init.get("teacher"),
        "pruning": canonical(dict(pruning)) if pruning else None,
        "entries": entries,
        "density": entries / ((data["users"] + data["items"]) * model["embedding_size"]),
        **{name: scores[name] for name in ("best_epoch", "epochs")},
        "users_tested": len(nested["tested_users"]),
        **{name: scores["test"].get(name) for name in METRIC_NAMES},
        **{f"valid_{name}": scores["valid"].get(name) for name in METRIC_NAMES},
        **made,
    }
    row["results_digest"] = results_digest(row, nested)
    return {name: row[name] for name in RUN_COLUMNS}


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
EVALUATED = ("evaluated_epochs", "evaluated_recall", "evaluated_ndcg")
SPLIT_PART = ("tested_users", "relevant")


def make_nested(losses: list[float], evaluations: list[list[float]], hits: Hits) -> dict:
    """The nested part of a run. evaluations: [epoch, Recall@20, NDCG@20] each."""
    epochs, recall, ndcg = zip(*evaluations, strict=True) if evaluations else ((), (), ())
    bits = (hits.hits.astype(np.uint64) << np.arange(TOP, dtype=np.uint64)).sum(1)
    values = (losses, epochs, recall, ndcg, bits, hits.users, hits.relevant)
    return {n: np.asarray(v, NESTED[n]) for n, v in zip(NESTED, values, strict=True)}


def hits_of(nested: Mapping[str, np.ndarray]) -> Hits:
    """The hits of every test user, from which all metrics at k ≤ 20 follow."""
    bits = nested["hits"].astype(np.int64)[:, None] >> np.arange(TOP)[None, :]
    users, relevant = (nested[name].astype(np.int64) for name in SPLIT_PART)
    return Hits(users, (bits & 1).astype(bool), relevant)


class Record:
    """One finished training: its row, and on demand its nested part.

    The properties that give dicts (`spec`, `data`, `init`, `mask`, `results`, `circumstances`)
    serve the chapters of the first build, and go with them.
    """

    def __init__(self, row: Mapping[str, Any], nested: Callable[[], dict[str, np.ndarray]]) -> None:
        self.row, self._nested = dict(row), nested

    @cached_property
    def nested(self) -> dict[str, np.ndarray]:
        """Arrays: :data:`NESTED`."""
        return self._nested()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.row == other.row  # it has a digest of all results

    def __hash__(self) -> int:
        return hash(self.key)

    def __getstate__(self) -> dict[str, Any]:
        return {"row": self.row, "nested": self.nested, "_nested": None}

    @property
    def key(self) -> str:
        return self.row["key"]

    @property
    def density(self) -> float:
        """Share of the table's entries that are kept."""
        return self.row["density"]

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights count, from 1: that of the best Recall@20 on the chosen part."""
        return self.row["best_epoch"]

    @property
    def epochs(self) -> int:
        """Epochs run."""
        return self.row["epochs"]

    @property
    def seconds(self) -> float:
        """Wall time of the training, evaluations included, over all its interruptions."""
        return self.row["seconds"]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the table: (users + items, F)."""
        return self.row["users"] + self.row["items"], self.row["embedding_size"]

    @property
    def pruning(self) -> dict[str, Any] | None:
        """How the mask was made; None for the dense one."""
        return json.loads(self.row["pruning"]) if self.row["pruning"] else None

    def metric(self, name: str, part: str = "test") -> float:
        """A metric such as ``recall@20`` on a part. Raises KeyError naming what there is."""
        value = self.row.get({"test": "", "valid": "valid_"}[part] + name)
        if value is None:
            raise KeyError(f"run {self.key[:8]}: no {name!r} on {part}.")
        return value

    def hits(self) -> Hits:
        """The top-20 hits of every test user."""
        return hits_of(self.nested)

    @cached_property
    def _about(self) -> dict[str, Any]:
        return json.loads(self.row["key_text"])

    @property
    def spec(self) -> dict[str, Any]:
        return self._about["spec"]

    @property
    def init(self) -> dict[str, Any]:
        return self._about["init"]

    @property
    def numerics(self) -> dict[str, int]:
        return self._about["numerics"]

    @cached_property
    def data(self) -> dict[str, Any]:
        row = self.row
        counts = {part: row[f"{part}_pairs"] for part in ("train", "valid", "test")}
        sizes = {"users": row["users"], "items": row["items"]}
        about = {"name": row["dataset"], "digest": row["data_digest"]}
        return {**about, **sizes, **counts, "origin": json.loads(row["origin"])}

    @property
    def mask(self) -> dict[str, Any]:
        names = {"digest": "mask_digest", "entries": "entries", "density": "density"}
        return {name: self.row[column] for name, column in names.items()}

    @cached_property
    def results(self) -> dict[str, Any]:
        row, nested = self.row, self.nested
        history = (nested[n].tolist() for n in EVALUATED)
        return {
            "best_epoch": row["best_epoch"],
            "epochs": row["epochs"],
            "test": {n: row[n] for n in METRIC_NAMES if row[n] is not None},
            "valid": {n: v for n in METRIC_NAMES if (v := row[f"valid_{n}"]) is not None},
            "users_tested": row["users_tested"],
            "losses": nested["losses"].tolist(),
            "evaluations": [list(entry) for entry in zip(*history, strict=True)],
        }

    @property
    def results_digest(self) -> str:
        return self.row["results_digest"]

    @property
    def circumstances(self) -> dict[str, Any]:
        row = self.row
        system, _, machine = row["system"].partition(" ")
        about = {"processor": row["processor"], "cores": row["cores"]}
        versions = {name: row[f"{name}_version"] for name in ("lthnb", "python", *PACKAGES)}
        names = ("seconds", "device", "threads", "commit", "written")
        return {
            **{name: row[name] for name in names},
            "fingerprint": {"system": system, "machine": machine, **about},
            "versions": versions,
        }

    def described(self) -> dict[str, str]:
        """What a person wants to know of the run first, as text."""
        row = self.row
        part = "test" if row["protocol"] == "paper" else "valid"
        scores = {
            f"{shown} on test": f"{row[name]:.4f}"
            for name, shown in (("recall@20", "Recall@20"), ("ndcg@20", "NDCG@20"))
            if row[name] is not None
        }
        return {
            "data": row["dataset"],
            "model": f"{row['backbone']}, F = {row['embedding_size']}",
            "density": f"{self.density:.2%}, {row['entries']:,} entries kept",
            **scores,
            "best epoch": f"{self.best_epoch} of {self.epochs} run, chosen on {part}",
            "took": f"{self.seconds:,.1f} seconds",
        }

    def _repr_html_(self) -> str:
        lines = "".join(f"<tr><th>{n}</th><td>{v}</td></tr>" for n, v in self.described().items())
        return f"<b>Run {self.key[:8]}</b><table>{lines}</table>"

    def __repr__(self) -> str:
        recall = self.row["recall@20"]
        shown = "–" if recall is None else f"{recall:.4f}"
        return (
            f"Record({self.key[:8]}, {self.row['dataset']}, {self.row['backbone']}, density "
            f"{self.density:.4f}, Recall@20 {shown} at epoch {self.best_epoch})"
        )

"""What rounding to 8 bits costs in Recall@20, beside tuning and pruning, on a small data set.

    python -m benchmarks.rounding DATASET     # writes results/benchmarks/DATASET-rounding.json

Recorded runs of MF are trained again, saved as tickets with values of 32 and 8 bits, opened again,
and ranked for all users. `file` counts the bytes of mask, values and scales alone.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import safe_open
from tqdm import tqdm

import lthnb
from benchmarks import record
from lthnb import face
from lthnb.control import Control
from lthnb.datasets.sources import load_again
from lthnb.experiments import best_l2, table
from lthnb.experiments import main as main_rows
from lthnb.experiments.replays import reopen
from lthnb.kernels.ranking import evaluate
from lthnb.store.files import results_folder
from lthnb.store.runs import Store
from lthnb.training import TrainedRun

SEEDS = (0, 1, 2)


def wanted(dataset: str) -> pd.DataFrame:
    """Rows of both searches, at the paper's λ and at the tuned one, and of dense models of fewer
    dimensions with their own λ tuned; one row a run."""
    where = {"dataset": dataset, "backbone": "mf"}
    searches = [main_rows(table(chapter, **where)) for chapter in ("existence", "tuned")]
    searches = pd.concat(searches).query("method == 'imp' and protocol == 'validated'")
    narrow = [
        rows[rows["l2"] == best_l2(rows)]
        for _, rows in table("narrow", **where).groupby("embedding_size")
    ]
    rows = pd.concat([searches, *narrow])
    return rows[rows["seed"].isin(SEEDS)].drop_duplicates("key")


def packed(run: TrainedRun, values: str) -> dict[str, Any]:
    """One run with one type of values: bytes, and Recall@20 of what the file serves."""
    with tempfile.TemporaryDirectory() as folder:
        path = face.Ticket.of(run).save(Path(folder, "ticket.safetensors"), values)
        with safe_open(path, "numpy") as tensors:
            parts = {"kept", "values", "scales"} & set(tensors.keys())
            size = sum(tensors.get_tensor(part).nbytes for part in parts)
        vectors = lthnb.open(path).vectors
    parts = {part: evaluate(vectors, run.data, part).means() for part in ("valid", "test")}
    metrics = {part: {"recall@20": means["recall@20"]} for part, means in parts.items()}
    about = {"run": run.key, "values": values, "density": run.record.row["density"]}
    return about | {"file": size, "resident": size, "forms": ["bitmap"], "metrics": metrics}


def main(dataset: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        control = Control(Store(folder), progress=False)
        tickets, data = [], None
        for key in tqdm(wanted(dataset)["key"], unit="run"):
            found = control.store.find(key)
            data = data or load_again(found.data, found.row["protocol"])
            run = reopen(found, data, control)
            tickets += [packed(run, values) for values in ("float32", "int8")]
    name = f"{dataset}-rounding"
    costs = {"title": f"MF on {dataset}", "tickets": tickets}
    about = {"name": name, "date": time.strftime("%Y-%m-%d"), "machine": record.machine()}
    made = {"format": record.FORMAT, **about, "rows": {}, "scaling": [], "costs": costs}
    record.write(results_folder() / "benchmarks" / f"{name}.json", made)


if __name__ == "__main__":
    main(sys.argv[1])

"""RecBole (PyPI): BPR and LightGCN with its own loaders, trainer and full-sort evaluation."""

from __future__ import annotations

import sys
from itertools import islice
from logging import disable

import numpy as np
import torch
from worker import ranking, timed

SHIMS = [
    "data are handed over as its atomic files, train and test given (benchmark_filename); test "
    "stands in for the validation part that it insists on",
    "a table for ranking is put into the model's two embeddings by its own ids of users and items",
]
USERS_AT_ONCE = 128  # of a ranking. Its default of 4096 scores at once would mean one user


def _loaded(job, model_name: str):
    """(dataset, train loader, test loader, trainer) as its quick start makes them."""
    sys.argv = ["run_recbole.py"]
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    disable(50)
    for part in ("train", "test"):
        job.file(
            f"recbole/handed/handed.{part}.inter", lambda path, part=part: _write(job, part, path)
        )
    settings = {
        "data_path": str(job.folder / "recbole"),
        "checkpoint_dir": str(job.folder / "recbole"),
        "benchmark_filename": ["train", "test", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "use_gpu": False,
        "show_progress": False,
        "embedding_size": job.size,
        "n_layers": job.layers,
        "reg_weight": 1e-4,
        "train_batch_size": job.batch,
        "eval_batch_size": USERS_AT_ONCE * (job.items + 1),
        "eval_args": {"mode": "full", "order": "RO", "group_by": "user"},
        "metrics": ["Recall", "NDCG"],
        "topk": [20],
        "valid_metric": "Recall@20",
        "metric_decimal_place": 10,
    }
    config = Config(model=model_name, dataset="handed", config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, _, test_data = data_preparation(config, dataset)
    model = get_model(model_name)(config, train_data.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], model_name)(config, model)
    return dataset, train_data, test_data, trainer


def _write(job, part: str, path) -> None:
    with path.open("w") as file:
        file.write("user_id:token\titem_id:token\n")
        np.savetxt(file, job.load(part).T, fmt="%d", delimiter="\t")


def epoch(job):
    _, train_data, _, trainer = _loaded(job, "BPR")
    return {"batches": len(train_data)}, lambda: {
        "epoch": timed(lambda: trainer._train_epoch(train_data, 0))
    }


def lightgcn(job):
    """The drawing of some batches, and the steps over as many drawn beforehand."""
    _, train_data, _, trainer = _loaded(job, "LightGCN")
    count = min(job.batches, len(train_data))
    predrawn = list(islice(train_data, count))

    def repeat():
        step = timed(lambda: trainer._train_epoch(predrawn, 0)) / count
        sampling = timed(lambda: list(islice(train_data, count))) / count
        return {"whole": step + sampling}

    return {"batches": count}, repeat


def rank(job):
    dataset, _, test_data, trainer = _loaded(job, "BPR")
    users, items = np.split(job.load("table"), [job.users])
    with torch.no_grad():
        for name, field, rows in (("user", "user_id", users), ("item", "item_id", items)):
            tokens = dataset.field2id_token[field][1:].astype(int)  # 0 is for padding
            weight = getattr(trainer.model, f"{name}_embedding").weight
            weight[1:] = torch.from_numpy(rows[tokens])
    return ranking(lambda: dict(trainer.evaluate(test_data, load_best_model=False)))


TASKS = {"epoch": epoch, "lightgcn": lightgcn, "ranking": rank}

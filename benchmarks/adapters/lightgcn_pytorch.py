"""gusye1234/LightGCN-PyTorch: its model, loss, optimiser, sampler and test, called as they are."""

from __future__ import annotations

import sys
from itertools import islice

import numpy as np
import scipy.sparse as sp
import torch
from worker import ranking, timed

SHIMS = [
    "its options come from sys.argv: --recdim, --layer, --bpr_batch, --dataset, --tensorboard=0",
    "its Loader reads train.txt and test.txt that we write in its layout, in a folder of ours",
    "the adjacency matrix that it keeps beside the data (s_pre_adj_mat.npz) is made by scipy: its "
    "own conversion takes minutes, once",
]


def _loaded(job, model_name: str):
    """Its modules, its data set, and one of its models."""
    sys.argv = ["main.py", f"--recdim={job.size}", f"--layer={job.layers}", "--tensorboard=0"]
    sys.argv += [f"--bpr_batch={job.batch}", "--dataset=yelp2018", f"--model={model_name}"]
    sys.path.insert(0, f"{job.clone}/code")
    import dataloader
    import model
    import utils
    import world

    for part in ("train", "test"):
        job.file(f"lightgcn-pytorch/{part}.txt", lambda path, part=part: _write(job, part, path))
    job.file("lightgcn-pytorch/s_pre_adj_mat.npz", lambda path: _adjacency(job, path))
    dataset = dataloader.Loader(path=str(job.folder / "lightgcn-pytorch"))
    if (dataset.n_users, dataset.m_items) != (job.users, job.items):
        raise ValueError("it counts other users or items: it takes the largest id for the last one")
    kind = {"mf": model.PureMF, "lgn": model.LightGCN}[model_name]
    return utils, dataset, kind(world.config, dataset).to(world.device), world


def _write(job, part: str, path) -> None:
    lists = enumerate(job.lists(part))
    lines = [f"{user} {' '.join(map(str, items))}" for user, items in lists if len(items)]
    path.write_text("\n".join(lines) + "\n")


def _adjacency(job, path) -> None:
    users, items = job.load("train")
    r = sp.csr_matrix((np.ones(len(users), np.float32), (users, items)), (job.users, job.items))
    a = sp.bmat([[None, r], [r.T, None]], format="csr")
    scale = sp.diags(1 / np.sqrt(np.maximum(np.diff(a.indptr), 1)))
    with path.open("wb") as file:
        sp.save_npz(file, (scale @ a @ scale).tocsr().astype(np.float32))


def _steps_task(model_name: str):
    def task(job):
        utils, dataset, recmodel, world = _loaded(job, model_name)
        bpr = utils.BPRLoss(recmodel, world.config)
        recmodel.train()
        drawn, batches = [], []

        def sample():  # what BPR_train_original does before its loop
            s = utils.UniformSample_original(dataset)
            columns = [torch.Tensor(s[:, k]).long() for k in range(3)]
            drawn[:] = utils.shuffle(*columns)

        def train():
            for batch in batches:
                bpr.stageOne(*batch)

        def repeat():
            sampling = timed(sample) / (len(drawn[0]) / job.batch)
            batches[:] = islice(zip(*(c.split(job.batch) for c in drawn), strict=True), job.batches)
            return {"whole": sampling + timed(train) / len(batches)}

        sampler = "C++ through cppimport" if utils.sample_ext else "Python"
        return {"sampler": sampler}, repeat

    return task


def rank(job):
    """MF's ranking by Procedure.Test. With LightGCN it would spread the table anew for every 100
    users; that is not counted against it."""
    _, dataset, recmodel, world = _loaded(job, "mf")
    import Procedure

    users, items = np.split(job.load("table"), [job.users])
    with torch.no_grad():
        recmodel.embedding_user.weight.copy_(torch.from_numpy(users))
        recmodel.embedding_item.weight.copy_(torch.from_numpy(items))

    def run():
        found = Procedure.Test(dataset, recmodel, 0, None, world.config["multicore"])
        return {f"{name}@20": float(found[name][0]) for name in ("recall", "ndcg")}

    return ranking(run)


TASKS = {"step": _steps_task("mf"), "lightgcn": _steps_task("lgn"), "ranking": rank}

"""wangyf6891/LTH-MRS, the paper's own code: its models, loader, training loop and test."""

from __future__ import annotations

import os
import sys
from itertools import islice

import numpy as np
import torch
from worker import ranking, timed

SHIMS = [
    "its options come from sys.argv: --embedding_size, --num_layer, --batch_size; "
    "args.gpu is set to 'cpu'",
    "it reads data/NAME.train and data/NAME.test from the working folder; we write these files in "
    "its layout, and change to that folder",
    "dgl.function.src_mul_edge, which newer DGL lacks, is set to its successor u_mul_e",
    "its main script cannot be imported, so the model, Adam, the graph and the two DataLoaders are "
    "built here with the arguments that train_emb.py and train_emb_mf.py give them",
]
LEAD = 8  # batches that its two loading processes may have ready before the clock starts


def _loaded(job, module: str):
    """(args, train loader, test loader, model, item_min, user_seq), as its main script has them."""
    sys.argv = ["train_emb.py", f"--embedding_size={job.size}", f"--num_layer={job.layers}"]
    sys.argv += [f"--batch_size={job.batch}", "--dataset=handed"]
    sys.path.insert(0, job.clone)
    for part in ("train", "test"):
        job.file(f"lth-mrs/data/handed.{part}", lambda path, part=part: _write(job, part, path))
    os.chdir(job.folder / "lth-mrs")
    import dgl

    dgl.function.src_mul_edge = dgl.function.u_mul_e
    import importlib

    import body
    from utils.data_util import dataset_info, test_batcher
    from utils.dataset import Test_Dataset, Train_Dataset

    args = body.parse_args()
    args.gpu = "cpu"
    body.set_seed(seed=2020)
    item_min, item_max, data, length, user_seq, edges, *_ = dataset_info(args.dataset)
    if (item_min, item_max) != (job.users, job.users + job.items - 1):
        raise ValueError("it counts other users or items: it takes the ids met for the first, last")
    graph = dgl.graph((torch.cat((edges[0], edges[1])), torch.cat((edges[1], edges[0]))))
    kind = importlib.import_module(module).LightGCN
    model = kind(graph, args=args, edge_index=edges, item_max=item_max, item_min=item_min)
    loader = torch.utils.data.DataLoader
    train_set = Train_Dataset(
        data=data, length=length, item_min=item_min, item_max=item_max, user_seq=user_seq
    )
    sizes = {"batch_size": args.batch_size, "num_workers": 2}
    train_loader = loader(dataset=train_set, shuffle=True, **sizes)
    test_loader = loader(
        Test_Dataset(item_min, args), shuffle=False, collate_fn=test_batcher(), **sizes
    )
    return args, train_loader, test_loader, model, item_min, user_seq


def _write(job, part: str, path) -> None:
    """Its layout: a pair a line, items counted on from the last user."""
    users, items = job.load(part)
    np.savetxt(path, np.stack((users, items + job.users), 1), fmt="%d")


def _steps_task(module: str):
    def task(job):
        args, loader, _, model, item_min, _ = _loaded(job, module)
        import body

        adam = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
        shift = np.array([[0], [item_min], [item_min]])
        predrawn = [torch.from_numpy(t + shift) for t in job.predrawn()]
        lead = min(LEAD, len(loader) // 2)
        count = min(len(predrawn), len(loader) - lead)

        def started():
            """Its loader, already running: its start, once an epoch, is not counted."""
            loader.dataset.__update__()
            batches = iter(loader)
            for _ in range(lead):
                next(batches)
            return islice(batches, count)

        def repeat():
            step = timed(lambda: body.train(predrawn, model, adam, args)) / len(predrawn)
            batches = started()
            sampling = timed(lambda: [None for _ in batches]) / count
            batches = started()
            whole = timed(lambda: body.train(batches, model, adam, args)) / count
            return {"step": step, "sampling": sampling, "whole": whole}

        return {"batches": count, "loading": "2 processes beside the training one"}, repeat

    return task


def rank(job):
    """Its `test`, with MF; the loader that it goes through is part of it."""
    args, _, loader, model, item_min, user_seq = _loaded(job, "model.mf")
    import body

    with torch.no_grad():
        model.embedding.weight.copy_(torch.from_numpy(job.load("table")))

    def run():
        found = body.test(loader, model, item_min, user_seq, args)
        return {f"{name}@20": float(found[name]) for name in ("recall", "ndcg")}

    return ranking(run)


TASKS = {
    "step": _steps_task("model.mf"),
    "lightgcn": _steps_task("model.lightgcn_me_emb"),
    "ranking": rank,
}

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
    "for the agreement, body.get_test is wrapped to see the lists that its test has ranked",
]
LEAD = 8  # batches that its two loading processes may have ready before the clock starts


def _loaded(job, module: str, *words: str):
    """(args, train loader, test loader, model, item_min, user_seq), as its main script has them.

    words: further ones of its command line."""
    sys.argv = ["train_emb.py", f"--embedding_size={job.size}", f"--num_layer={job.layers}"]
    sys.argv += [f"--batch_size={job.batch}", "--dataset=handed", *words]
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
        args, loader, _, model, *_ = _loaded(job, module)
        import body

        adam = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
        lead = min(LEAD, len(loader) // 2)
        count = min(job.batches, len(loader) - lead)

        def started():
            """Its loader, already running: its start, once an epoch, is not counted."""
            loader.dataset.__update__()
            batches = iter(loader)
            for _ in range(lead):
                next(batches)
            return islice(batches, count)

        def repeat():
            batches = started()
            return {"whole": timed(lambda: body.train(batches, model, adam, args)) / count}

        return {"batches": count, "loading": "2 processes beside the training one"}, repeat

    return task


def rank(job):
    """Its `test`, with MF; the loader that it goes through is part of it."""
    args, _, loader, model, item_min, user_seq = _loaded(job, "model.mf")
    import body

    _put(model.embedding.weight, job.load("table"))

    def run():
        found = body.test(loader, model, item_min, user_seq, args)
        return {f"{name}@20": float(found[name]) for name in ("recall", "ndcg")}

    return ranking(run)


@torch.no_grad()
def _put(parameter: torch.nn.Parameter, values: np.ndarray) -> None:
    parameter.copy_(torch.from_numpy(values))


def agreement(job):
    """Its MF from our start, under our mask, with its loss and Adam: a repeat is an epoch of our
    triplets and its `test`. Table and hits of the epoch lie in the folder then.

    Its L2 term also counts what is pruned: those entries lie below the mask, start as X⁰ has them,
    and decay, unseen by scores and by every other entry. `l2 of pruned` is their part of the loss.
    """
    words = (f"--lr={job.learning_rate}", f"--reg_weight={job.l2}")
    args, _, loader, model, item_min, user_seq = _loaded(job, "model.mf", *words)
    import body

    _put(model.embedding.weight, job.load("start"))
    _put(model.weight_mask_fixed, job.load("mask").astype(np.float32))
    adam = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    weight, pruned = model.embedding.weight.detach(), 1 - model.weight_mask_fixed
    shift = torch.tensor([[0], [item_min], [item_min]])
    look, seen = body.get_test, []

    def get_test(lists, truth, args):
        ranked = zip(
            np.concatenate(lists), [items for part in truth for items in part], strict=True
        )
        seen[:] = [np.isin(best, items) for best, items in ranked if len(items)]
        return look(lists, truth, args)

    def epoch():
        triplets, below = torch.from_numpy(job.load("triplets")) + shift, []

        def batches():
            for batch in triplets.split(args.batch_size, dim=1):
                below.append((weight[batch] * pruned[batch]).square().sum().item())
                yield batch

        loss, bpr, _ = body.train(batches(), model, adam, args)
        body.get_test = get_test
        found = body.test(loader, model, item_min, user_seq, args)
        body.get_test = look
        np.save(job.folder / "lth-mrs-table.npy", model.get_emb().detach().numpy())
        np.save(job.folder / "lth-mrs-hits.npy", np.stack(seen))
        return {
            "loss": loss,
            "bpr": bpr,
            "l2 of pruned": args.reg_weight / 2 * sum(below) / triplets.shape[1],
            **{f"{name}@20": float(found[name]) for name in ("recall", "ndcg")},
        }

    return {}, epoch


def pruning(job):
    """Its threshold over our trained weights: its mask lies in the folder then."""
    args, _, _, model, *_ = _loaded(job, "model.mf")
    from utils.pruning_emb import get_final_mask_epoch_emb

    _put(model.embedding.weight, job.load("weights"))
    _put(model.weight_mask_fixed, job.load("before").astype(np.float32))
    args.pruning_percent_wei = job.percent
    found = get_final_mask_epoch_emb(model, {}, args)["weight_mask_fixed"]
    np.save(job.folder / "lth-mrs-kept.npy", found.numpy() == 1)
    return {}, dict


TASKS = {
    "step": _steps_task("model.mf"),
    "lightgcn": _steps_task("model.lightgcn_me_emb"),
    "ranking": rank,
    "agreement": agreement,
    "pruning": pruning,
}

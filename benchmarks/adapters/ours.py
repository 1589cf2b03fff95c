"""lthnb itself; it also loads the data, draws the triplets and trains the table for everyone."""

from __future__ import annotations

from functools import lru_cache
from itertools import count
from pathlib import Path

import numpy as np
import torch
from worker import ranking, timed

from lthnb import kernels
from lthnb.config import Model, Schedule, Spec, Training
from lthnb.control import Control
from lthnb.datasets import sources
from lthnb.kept import REPLAY_TOLERANCE, TrainedRun, initialise
from lthnb.kernels.ranking import evaluate
from lthnb.lottery import rounds_of
from lthnb.pruning import magnitude, prune
from lthnb.sampling import Sampler, initial_table
from lthnb.store.runs import Store

SHIMS: list[str] = []


@lru_cache(maxsize=3)
def _loaded(source: str, options: tuple) -> sources.Interactions:
    """Protocol `paper`: all peers train on all of train, so ours does."""
    return sources.load(source, protocol="paper", progress=False, **dict(options))


def _data(job) -> sources.Interactions:
    return _loaded(job.source, tuple(sorted(job.options.items())))


def _step(job, data, backbone: str):
    """A step of the kind asked for, and its name; of its table, `density` lives."""
    training = Training(batch_size=job.batch, protocol="paper", step=job.step)
    spec = kernels.resolve(Spec(Model(backbone, job.size, job.layers), training))
    table = initial_table(0, data.rows, job.size)
    mask = np.ones(table.shape, bool)
    if job.settings.get("density", 1) < 1:
        mask = np.random.default_rng(0).random(table.shape) < job.density
    return spec.training.step, kernels.new_step(spec, data, table, mask)


def hand_over(job):
    """Write what all peers use: the pairs, and a trained table."""
    data = _data(job)
    folder = _with_pairs(job, data)
    _, step = _step(job, data, "mf")
    for number in range(job.trained):
        step.run_epoch(number)
    np.save(folder / "table.npy", step.weights().astype(np.float32))
    return {"folder": str(folder), "data": _counted(data)}, dict


def _with_pairs(job, data) -> Path:
    """The folder that is handed over, with the pairs in it.

    It is named by the digest, so that what peers keep there in layouts of their own is never that
    of other data."""
    folder = job.folder / f"data-{data.digest[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "test"):
        matrix = getattr(data, part).tocoo()
        np.save(folder / f"{part}.npy", np.stack((matrix.row, matrix.col)).astype(np.int32))
    return folder


def _counted(data) -> dict:
    facts = {name: data.summary()[name] for name in ("name", "digest", "users", "items")}
    return {**facts, "train": data.train.nnz, "test": data.test.nnz}


def _epochs(job, data, backbone: str, batches: int | None = None):
    """(name of the step, batches in a run, a function that runs the next): whole epochs, or as
    many batches as asked for."""
    name, step = _step(job, data, backbone)
    if batches is not None:
        step.triplets = min(step.triplets, batches * job.batch)
    epochs = count()
    return name, -(-step.triplets // job.batch), lambda: step.run_epoch(next(epochs))


def _steps_task(backbone: str, short: bool):
    def task(job):
        name, batches, run = _epochs(job, _data(job), backbone, job.batches if short else None)
        return {"step": name, "batches": batches}, lambda: {"whole": timed(run) / batches}

    return task


def epoch(job):
    data = _data(job)
    name, batches, run = _epochs(job, data, "mf")
    return {"step": name, "batches": batches}, lambda: {"epoch": timed(run)}


def rank(job):
    data, outputs = _data(job), torch.from_numpy(job.load("table"))

    def run():
        found = evaluate(outputs, data, "test").means((20,))
        return {name: found[name] for name in ("recall@20", "ndcg@20")}

    return ranking(run)


def scaling(job):
    """MF runs whole epochs. LightGCN's step does not depend on the epoch, so a few steps do."""
    return _steps_task(job.backbone, short=job.backbone == "lightgcn")(job)


def _run(job) -> TrainedRun:
    """The recorded run of a key; without a key, that of a toy search, made on the spot. What is
    computed on the way lies in the run's folder. Raises LookupError where it is not recorded."""
    data, store = _data(job), Store(job.folder / "store")
    control = Control(store, progress=False)
    if job.run is None:
        training = Training(epochs=3, patience=3, batch_size=256, learning_rate=0.01)
        spec = Spec(Model("mf", 8), training).with_training(protocol="paper", step="cpu")
        schedule = Schedule(job.method, job.rate, job.prunings)
        return list(rounds_of(schedule, spec, data, control))[-1].run
    record = store.find(job.run)
    if record is None:
        raise LookupError(f"run {job.run}: not in results/ of this project, nor in its store")
    return TrainedRun(record, data, control)


def _facts(run: TrainedRun, folder: Path) -> dict:
    training = run.spec.training
    return {
        "folder": str(folder),
        "data": _counted(run.data),
        "size": run.spec.model.embedding_size,
        "batch": training.batch_size,
        "learning_rate": training.learning_rate,
        "l2": training.l2,
        "run": run.key,
        "density": run.record.density,
    }


def agreement(job):
    """A recorded training again, by the fast step and, to tell what rounding does, by the plain
    one: a repeat is an epoch. Its triplets, tables and hits lie in the folder then; the start and
    the mask, before.

    Raises ArithmeticError where an epoch's loss is not the record's."""
    run = _run(job)
    data, record, spec = run.data, run.record, run.spec
    folder = _with_pairs(job, data)
    if job.epochs > record.epochs:
        raise ValueError(f"epochs: found {job.epochs}, expected at most {record.epochs}, as run")
    start = initialise(run.init, data, spec.model.embedding_size, run.control)
    start, mask = start.astype(np.float32), run.ensure_mask().kept
    np.save(folder / "start.npy", start)
    np.save(folder / "mask.npy", mask)
    both = {
        who: kernels.new_step(spec.with_training(step=step), data, start, mask, "cpu")
        for who, step in (("ours", "cpu"), ("reference", "reference"))
    }
    sampler, epochs = Sampler.of(data.train, spec.training.order_seed), count()

    def found(who: str, epoch: int):
        loss, step = both[who].run_epoch(epoch), both[who]
        hits = evaluate(step.outputs(), data, "test")
        np.save(folder / f"{who}-table.npy", step.weights())
        np.save(folder / f"{who}-hits.npy", hits.hits)
        means = hits.means((20,))
        return {"loss": loss, **{name: means[name] for name in ("recall@20", "ndcg@20")}}

    def repeat():
        epoch, n = next(epochs), data.train.nnz
        np.save(folder / "triplets.npy", sampler.draw(epoch * n, n))
        results = {who: found(who, epoch) for who in both}
        here, there = results["ours"]["loss"], record.nested["losses"][epoch]
        if abs(here / there - 1) > REPLAY_TOLERANCE:
            raise ArithmeticError(f"epoch {epoch + 1}: loss {here:.6g}, recorded {there:.6g}")
        return results

    return _facts(run, folder), repeat


def pruning(job):
    """A recorded pruning again: weights and both masks lie in the folder then. Weights that are not
    kept are trained again first."""
    run, folder = _run(job), _with_pairs(job, _data(job))
    source = TrainedRun(run.control.store.find(run.record.pruning["run"]), run.data, run.control)
    weights, before = source.ensure_weights(), source.ensure_mask()  # OMP's source is dense
    kept = prune(before, magnitude(weights, 0), (run.record.entries,), users=run.data.users)
    np.save(folder / "weights.npy", weights)
    np.save(folder / "before.npy", before.kept)
    np.save(folder / "ours-kept.npy", kept.kept)
    facts = {
        "run": source.key,
        "before": before.entries,
        "percent": job.rate if job.method == "imp" else 1 - (1 - job.rate) ** job.prunings,
        "as recorded": kept.digest == run.record.mask_digest,
    }
    return _facts(run, folder) | facts, dict


TASKS = {
    "hand over": hand_over,
    "step": _steps_task("mf", short=False),
    "epoch": epoch,
    "lightgcn": _steps_task("lightgcn", short=True),
    "ranking": rank,
    "scaling": scaling,
    "agreement": agreement,
    "pruning": pruning,
}

"""lthnb itself; it also loads the data, draws the triplets and trains the table for everyone."""

from __future__ import annotations

import importlib.util
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from worker import ranking, timed

from lthnb import sources, steps
from lthnb.config import Model, Spec, Training
from lthnb.evaluation import evaluate
from lthnb.sampling import Sampler, initial_table

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
    spec = steps.resolve(Spec(Model(backbone, job.size, job.layers), training))
    table = initial_table(0, data.rows, job.size)
    mask = np.ones(table.shape, bool)
    if job.settings.get("density", 1) < 1:
        mask = np.random.default_rng(0).random(table.shape) < job.density
    name = spec.training.step
    return name, steps.step_class(name)(spec, data, table, mask, "cpu")


def hand_over(job):
    """Write what all peers use: the pairs, the first triplets of our stream, a trained table.

    The folder is named by the digest, so that what peers keep there in layouts of their own is
    never that of other data."""
    data = _data(job)
    folder = job.folder / f"data-{data.digest[:12]}"
    folder.mkdir(parents=True, exist_ok=True)

    def pairs(part):
        matrix = getattr(data, part).tocoo()
        return np.stack((matrix.row, matrix.col)).astype(np.int32)

    for part in ("train", "test"):
        np.save(folder / f"{part}.npy", pairs(part))
    triplets = Sampler.of(data.train, 0).draw(0, job.batch * job.batches)
    np.save(folder / "triplets.npy", triplets)
    _, step = _step(job, data, "mf")
    for number in range(job.trained):
        step.run_epoch(number)
    np.save(folder / "table.npy", step.weights().astype(np.float32))
    facts = {name: data.summary()[name] for name in ("name", "digest", "users", "items")}
    counts = {"train": data.train.nnz, "test": data.test.nnz}
    return {"folder": str(folder), "data": {**facts, **counts}}, dict


def _epochs(job, data, backbone: str, batches: int | None = None):
    """(name of the step, batches in a run, a function that runs the next): whole epochs, or as
    many batches as asked for where the step lets us cut an epoch short."""
    name, step = _step(job, data, backbone)
    if batches is not None and hasattr(step, "triplets"):
        step.triplets = min(step.triplets, batches * job.batch)
    epochs = iter(range(1 << 30))
    triplets = getattr(step, "triplets", data.train.nnz)
    return name, -(-triplets // job.batch), lambda: step.run_epoch(next(epochs))


def _steps_task(backbone: str, short: bool):
    def task(job):
        data = _data(job)
        name, batches, run = _epochs(job, data, backbone, job.batches if short else None)
        sampler = Sampler.of(data.train, 0)

        def draw():
            for k in range(batches):
                sampler.draw(k * job.batch, job.batch)

        def repeat():
            whole, sampling = timed(run) / batches, timed(draw) / batches
            return {"step": whole - sampling, "sampling": sampling, "whole": whole}

        return {"step": name, "batches": batches}, repeat

    return task


def epoch(job):
    data = _data(job)
    name, batches, run = _epochs(job, data, "mf")
    return {"step": name, "batches": batches}, lambda: {"epoch": timed(run)}


def densities(job):
    """Whole epochs, one after the other, of tables that differ in their mask alone."""
    data, runs = _data(job), {}
    for density in job.densities:
        job.settings["density"] = density
        name, batches, runs[density] = _epochs(job, data, "mf")

    def repeat():
        return {f"density {d:g}": timed(run) / batches for d, run in runs.items()}

    return {"step": name, "batches": batches}, repeat


def rank(job):
    data, outputs = _data(job), torch.from_numpy(job.load("table"))

    def run():
        found = evaluate(outputs, data, "test").means((20,))
        return {name: found[name] for name in ("recall@20", "ndcg@20")}

    return ranking(run)


def scaling(job):
    """MF runs whole epochs. LightGCN's step does not depend on the epoch, so a few do, and the
    epoch is that many times as long."""
    data = _data(job)
    few = None if job.backbone == "mf" else job.batches
    name, batches, run = _epochs(job, data, job.backbone, few)
    all_batches = -(-data.train.nnz // job.batch)

    def repeat():
        a_step = timed(run) / batches
        return {"whole": a_step, "epoch": a_step * all_batches}

    return {"step": name, "batches": batches, "train": data.train.nnz}, repeat


def _beside(name: str):
    """A module of this folder, which is not searched for modules."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"adapter_{name}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _kernels(backbone: str):
    """The CPU step's kernels one by one, whatever `--step` says."""

    def task(job):
        training = Training(batch_size=job.batch, protocol="paper")
        return getattr(_beside("kernels"), backbone)(job, _data(job), training)

    return task


def kernels_of_ranking(job):
    return _beside("kernels").ranking(job, _data(job))


def roof(job):
    return _beside("kernels").roof(job)


TASKS = {
    "hand over": hand_over,
    "step": _steps_task("mf", short=False),
    "epoch": epoch,
    "lightgcn": _steps_task("lightgcn", short=True),
    "ranking": rank,
    "density": densities,
    "scaling": scaling,
    "kernels-mf": _kernels("mf"),
    "kernels-lightgcn": _kernels("lightgcn"),
    "kernels-ranking": kernels_of_ranking,
    "roof": roof,
}

"""lthnb itself; it also loads the data, draws the triplets and trains the table for everyone."""

from __future__ import annotations

import importlib.util
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from worker import ranking, timed

from lthnb import lottery, sources, steps
from lthnb.config import Model, Spec, Training, init_from, spec_from
from lthnb.control import Control
from lthnb.evaluation import evaluate
from lthnb.experiments.grid import Grid
from lthnb.kept import REPLAY_TOLERANCE, initialise
from lthnb.pruning import Mask, magnitude, prune
from lthnb.sampling import Sampler, initial_table
from lthnb.store.runs import Store
from lthnb.training import train

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
    """Write what all peers use: the pairs, the first triplets of our stream, a trained table."""
    data = _data(job)
    folder = _with_pairs(job, data)
    triplets = Sampler.of(data.train, 0).draw(0, job.batch * job.batches)
    np.save(folder / "triplets.npy", triplets)
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


class _Climb(NamedTuple):
    """The MF ladder of a method under protocol `paper`, as recorded; a toy is climbed on the spot.

    Masks and starts are those of the records; what is computed on the way lies in the run's folder.
    """

    job: Any
    data: sources.Interactions
    store: Store
    ladder: lottery.Ladder
    rate: float
    spec: Spec
    rungs: list[lottery.Planned]

    @classmethod
    def of(cls, job) -> _Climb:
        data, store = _data(job), Store(job.folder / "store")
        grid = Grid.read()
        if job.toy:
            on = {"protocol": "paper", "seeds": [0]}
            searches = grid.of_profile("baselines", "smoke", ["movielens"], ["mf"], **on)
        else:
            searches = [s for s in grid.recorded("baselines") if s.backbone == "mf"]
        one = next(
            s
            for s in searches
            if s.settings["protocol"] == "paper" and s.ladder.method == job.method
        )
        ladder, spec = one.ladder, one.spec.with_training(step="cpu")
        if job.toy:
            lottery.run_ladder(ladder, spec, data, Control(store, progress=False))
        return cls(
            job, data, store, ladder, one.rate, spec, lottery.plan(ladder, spec, data, store)
        )

    def rung(self) -> int:
        """Index of the rung that as many prunings by the rate lead to. Raises LookupError."""
        density = (1 - self.rate) ** self.job.prunings
        for index, rung in enumerate(self.rungs):
            if rung.record is not None and abs(rung.density / density - 1) < 1e-3:
                return index
        raise LookupError(
            f"{self.job.method} at density {density:.4f} on {self.data.name}: found no recorded "
            "run; it is in results/ of this project, or in the store"
        )

    def run(self, index: int):
        """The trained run of a rung, which was trained before."""
        rung, control = self.rungs[index], Control(self.store, progress=False)
        mask, init = Mask(rung.mask.kept), init_from(rung.record.init)
        return train(spec_from(rung.record.spec), self.data, init, mask, control)


def agreement(job):
    """A recorded training again, by the fast step and, to tell what rounding does, by the plain
    one: a repeat is an epoch. Its triplets, tables and hits lie in the folder then; the start and
    the mask, before.

    Raises ArithmeticError where an epoch's loss is not the record's."""
    climb = _Climb.of(job)
    data, rung = climb.data, climb.rungs[climb.rung()]
    folder, record = _with_pairs(job, data), rung.record
    if job.epochs > record.epochs:
        raise ValueError(f"epochs: found {job.epochs}, expected at most {record.epochs}, as run")
    model, training = climb.spec.model, climb.spec.training
    start = initialise(init_from(record.init), data, model.embedding_size, climb.store)
    start, mask = start.astype(np.float32), rung.mask.kept
    np.save(folder / "start.npy", start)
    np.save(folder / "mask.npy", mask)
    both = {
        who: steps.new_step(climb.spec.with_training(step=step), data, start, mask, "cpu")
        for who, step in (("ours", "cpu"), ("reference", "reference"))
    }
    sampler, epochs = Sampler.of(data.train, training.order_seed), iter(range(1 << 30))

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
        here, there = results["ours"]["loss"], record.results["losses"][epoch]
        if abs(here / there - 1) > REPLAY_TOLERANCE:
            raise ArithmeticError(f"epoch {epoch + 1}: loss {here:.6g}, recorded {there:.6g}")
        return results

    facts = {
        "folder": str(folder),
        "data": _counted(data),
        "size": model.embedding_size,
        "batch": training.batch_size,
        "learning_rate": training.learning_rate,
        "l2": training.l2,
        "run": record.key,
        "density": record.density,
    }
    return facts, repeat


def pruning(job):
    """A recorded pruning again: weights and both masks lie in the folder then."""
    climb = _Climb.of(job)
    index = climb.rung()
    before = index - 1 if job.method == "imp" else 0
    run, rung, rate = climb.run(before), climb.rungs[index], climb.rate
    weights, folder = run.weights(), _with_pairs(job, climb.data)
    kept = prune(run.mask, magnitude(weights, 0), (rung.mask.entries,), users=climb.data.users)
    np.save(folder / "weights.npy", weights)
    np.save(folder / "before.npy", run.mask.kept)
    np.save(folder / "ours-kept.npy", kept.kept)
    facts = {
        "folder": str(folder),
        "data": _counted(climb.data),
        "size": weights.shape[1],
        "batch": climb.spec.training.batch_size,
        "percent": rate if job.method == "imp" else 1 - (1 - rate) ** job.prunings,
        "run": run.key,
        "before": run.mask.entries,
        "density": rung.density,
        "as recorded": kept.digest == rung.mask.digest,
    }
    return facts, dict


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
    "agreement": agreement,
    "pruning": pruning,
}

"""Toy data, specs and stores that several tests share."""

import multiprocessing
import os
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

import numba
import numpy as np
import scipy.sparse as sp
import torch

from lthnb.config import DENSE, Model, Seeded, Spec, Training
from lthnb.control import Control
from lthnb.data import Interactions, to_csr
from lthnb.datasets.assembling import pick_per_user
from lthnb.kept import TrainedRun
from lthnb.kernels.cpu import CpuStep
from lthnb.kernels.reference import ReferenceStep
from lthnb.pruning import Mask
from lthnb.store import adding
from lthnb.store.records import Pruning
from lthnb.store.runs import Store
from lthnb.training import train

ROOT = Path(__file__).resolve().parents[1]

# Toys gain nothing from threads, and on a busy machine threads wait for each other for long.
torch.set_num_threads(1)
if numba.config.NUMBA_NUM_THREADS > 1:  # starts threads, after which a process must not fork
    numba.set_num_threads(1)

# Seconds after which a test gives another process up: so many that a busy machine, which compiles
# all kernels first in a fresh checkout, fails none. Nothing is measured by it.
PATIENCE = 900

# The synthetic source at its smallest, as options of the command line.
TINY = ["search", "--data", "synthetic"]
for option in ("users=60", "items=40", "interactions=600", "rank=2"):
    TINY += ["--option", option]
for setting in ("embedding_size=8", "learning_rate=0.01"):
    TINY += ["--set", setting]
BRIEF = ["--set", "epochs=3", "--rounds", "2", "--rate", "0.5", "--seeds", "0"]
TINY += ["--quiet"]


def interactions(train, valid, test, name: str = "toy") -> Interactions:
    """Three dense 0/1 arrays as Interactions."""
    parts = [
        sp.csr_matrix(to_csr(*np.nonzero(part), np.shape(part))) for part in (train, valid, test)
    ]
    users, items = np.shape(train)
    return Interactions(name, *parts, np.arange(users), np.arange(items))


def toy_data(users: int = 40, items: int = 30, share: float = 0.3, seed: int = 0) -> Interactions:
    """Random pairs, split 7:1:2 by user; two groups of users prefer two groups of items."""
    rng = np.random.default_rng(seed)
    same = (np.arange(users)[:, None] % 2) == (np.arange(items)[None, :] % 2)
    pairs = rng.random((users, items)) < share * np.where(same, 1.6, 0.4)
    parts = pick_per_user(to_csr(*np.nonzero(pairs), pairs.shape), seed, 0.1, 0.2)
    return Interactions(f"toy{seed}", *parts, np.arange(users), np.arange(items))


def toy_spec(backbone: str = "mf", size: int = 4, **training) -> Spec:
    """Four epochs of small batches; a step by name, so that keys can be made from it."""
    settings = {
        **{"epochs": 4, "patience": 4, "learning_rate": 2e-2, "batch_size": 64},
        **{"step": "reference"},
        **training,
    }
    return Spec(Model(backbone, size), Training(**settings))


def half(data: Interactions, spec: Spec, seed: int = 0) -> Mask:
    """A random mask of about half density."""
    rng = np.random.default_rng(seed)
    return Mask(rng.random((data.rows, spec.model.embedding_size)) < 0.5)


def quiet(store: Store, **settings) -> Control:
    return Control(store, progress=False, **settings)


def trained(store: Store, data: Interactions, spec: Spec, mask=None, init=None, **s) -> TrainedRun:
    """Train with defaults for all that a test does not care about."""
    whole = Mask.dense(data.rows, spec.model.embedding_size)
    mask = stored(whole if mask is None else mask, store)
    return train(spec, data, Seeded(0) if init is None else init, mask, quiet(store, **s))


def stored(mask: Mask, store: Store) -> Pruning:
    """A mask that comes from no pruning, kept so that its run can be trained again."""
    about = {"criterion": "given", "given": mask.digest, "shape": list(mask.shape)}
    return None if mask.digest == DENSE else store.put_mask(mask, about)


def record_all(store: Store, **how) -> Store:
    """Record all runs of a store; a store that has these alone."""
    results = store.folder.parent / "results"
    adding.add(Store(store.folder, results), store.own_keys(), **how)
    return Store(store.folder.parent / "other", results)


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The environment of a subprocess whose store and results lie under `folder`."""
    return {
        **os.environ,
        "LTHNB_STORE": str(folder / "store"),
        "LTHNB_RESULTS": str(folder / "results"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
        **more,
    }


def processes():
    """A context for processes that start at once: they are forked from one that has imported all.

    Its ``Process`` has ``kill()`` and ``exitcode``; a target must be a function of a test module.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["toys", "lthnb.lottery"])
    with mock.patch.dict(os.environ, environment(Path())):  # it finds its imports by PYTHONPATH
        forkserver.ensure_running()
    return context


def count_epochs(monkeypatch) -> list[int]:
    """A list that grows by one number with every epoch that any step runs."""
    ran = []

    def counted(original):
        def run_epoch(self, epoch):
            ran.append(epoch)
            return original(self, epoch)

        return run_epoch

    for step in (CpuStep, ReferenceStep):
        monkeypatch.setattr(step, "run_epoch", counted(step.run_epoch))
    return ran


def count_trainings(monkeypatch) -> list[str]:
    """A list that grows by one key with every training that is computed, not looked up."""
    from lthnb import training

    keys, original = [], training.compute

    def counted(task, *rest):
        keys.append(task.key)
        return original(task, *rest)

    monkeypatch.setattr(training, "compute", counted)
    return keys

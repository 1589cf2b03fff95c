"""implicit (PyPI): BPR by lock-free SGD in Cython, and its own ranking."""

from __future__ import annotations

import time

import numpy as np
import scipy.sparse as sp
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.evaluation import ranking_metrics_at_k
from worker import ranking

SHIMS = ["for a ranking, user_factors and item_factors are set to our table"]


def _matrix(job, part: str) -> sp.csr_matrix:
    users, items = job.load(part)
    return sp.csr_matrix((np.ones(len(users), np.float32), (users, items)), (job.users, job.items))


def _model(job, iterations: int):
    return BayesianPersonalizedRanking(
        factors=job.size, iterations=iterations, num_threads=job.threads, random_state=0
    )


def epoch(job):
    """The second epoch of a fit: the first may have to set things up."""
    train, ends = _matrix(job, "train"), []
    model = _model(job, iterations=2)

    def repeat():
        ends.clear()
        model.fit(train, show_progress=False, callback=lambda *_: ends.append(time.perf_counter()))
        return {"epoch": ends[1] - ends[0]}

    return {"optimiser": "SGD, one triplet at a time, without locks"}, repeat


def rank(job):
    train, test, model = _matrix(job, "train"), _matrix(job, "test"), _model(job, 1)
    model.user_factors, model.item_factors = np.split(job.load("table"), [job.users])

    def run():
        words = {"K": 20, "show_progress": False, "num_threads": job.threads}
        return {"ndcg@20": float(ranking_metrics_at_k(model, train, test, **words)["ndcg"])}

    return ranking(run)


TASKS = {"epoch": epoch, "ranking": rank}

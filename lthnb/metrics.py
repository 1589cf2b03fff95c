"""Recall, NDCG and the rest for each user, from which places of a ranked list are hits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KS = (5, 10, 20)  # reported; no part of a key
TOP = 20  # places whose hits are kept


@dataclass(frozen=True, eq=False)
class Hits:
    """What a ranking found, user by user.

    users: ids of the users whose target part is not empty, int64 (n,). hits: bool (n, K), whether
    the item at each place is in the target part. relevant: int64 (n,), size of the target part.
    """

    users: np.ndarray
    hits: np.ndarray
    relevant: np.ndarray

    def per_user(self, metric: str, k: int) -> np.ndarray:
        """One metric for each user, float64 (n,). With h_r = 1 for a hit at place r = 1 … k, and
        n_u relevant items:

        - recall: Σ h_r / n_u
        - precision: Σ h_r / k
        - hitrate: 1 where Σ h_r > 0, else 0
        - mrr: 1 / the first r with h_r = 1, or 0 where there is none
        - ndcg: Σ h_r / log₂(r + 1), over the same sum for min(k, n_u) hits in front

        Raises ValueError where k is larger than the number of places kept.
        """
        if not 1 <= k <= self.hits.shape[1]:
            raise ValueError(f"k: found {k}, expected 1 … {self.hits.shape[1]}, the places kept.")
        return METRICS[metric](self.hits[:, :k].astype(np.float64), self.relevant)

    def mean(self, metric: str, k: int) -> float:
        """One metric, its mean over the users; 0 where there is none."""
        return float(np.mean(self.per_user(metric, k))) if len(self.users) else 0.0

    def means(self, ks: tuple[int, ...] = KS) -> dict[str, float]:
        """``metric@k`` → mean over the users, for all metrics; empty where there is no user."""
        if not len(self.users):
            return {}
        return {f"{metric}@{k}": self.mean(metric, k) for k in ks for metric in METRICS}


def _discounts(k: int) -> np.ndarray:
    return 1.0 / np.log2(np.arange(2, k + 2))


def _ndcg(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    k = hits.shape[1]
    ideal = np.concatenate(([0.0], np.cumsum(_discounts(k))))[np.minimum(relevant, k)]
    return hits @ _discounts(k) / ideal


def _mrr(hits: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    return np.where(hits.any(1), 1.0 / (hits.argmax(1) + 1), 0.0)


METRICS = {
    "recall": lambda hits, relevant: hits.sum(1) / relevant,
    "precision": lambda hits, relevant: hits.mean(1),
    "hitrate": lambda hits, relevant: hits.any(1).astype(np.float64),
    "mrr": _mrr,
    "ndcg": _ndcg,
}

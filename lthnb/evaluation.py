"""Full ranking: every user against every item that is not known already, and what follows from it.

One pass gives, for each user with a non-empty target part, which of the top K places are hits;
every metric at every k ≤ K follows from those bits and the number of relevant items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
import scipy.sparse as sp
import torch

from lthnb.data import Interactions

KS = (5, 10, 20)  # reported; no part of a key
TOP = 20  # places whose hits a record keeps
BLOCK = 128  # users scored at once: a fixed size, so that results do not depend on threads


def rank(
    user_vectors: torch.Tensor, item_vectors: torch.Tensor, known: sp.csr_matrix, k: int
) -> np.ndarray:
    """The k best items of each user that are not in `known`: int64, shape (users, k).

    user_vectors: (users, F), item_vectors: (items, F), of one dtype and device; known: CSR (users,
    items), sorted indices. Scores are inner products, in blocks of users, so that users × items is
    never held at once. Equal scores rank by the lower item id. Where a user has fewer than k
    candidates, the places behind hold −1.
    """
    on_cpu = user_vectors.device.type == "cpu"
    best = np.full((user_vectors.shape[0], k), -1, np.int64)
    columns = item_vectors.T.contiguous()
    indptr = known.indptr.astype(np.int64)
    buffer = columns.new_empty((min(BLOCK, len(best)), columns.shape[1]))
    for first in range(0, len(best), BLOCK):
        block = user_vectors[first : first + BLOCK]
        scores = torch.mm(block, columns, out=buffer[: len(block)])
        last = first + len(block)
        if on_cpu:
            _top_k(scores.numpy(), indptr[first : last + 1], known.indices, best[first:last])
        else:
            best[first:last] = top_k_torch(scores, known[first:last], k)
    return best


@nb.njit(cache=True, parallel=True)
def _top_k(scores, indptr, known, best):
    """Fill best (users, k) from scores (users, items); indptr counts into `known` as a whole."""
    k = best.shape[1]
    for row in nb.prange(scores.shape[0]):
        line = scores[row]
        for place in range(indptr[row], indptr[row + 1]):
            line[known[place]] = -np.inf
        top = np.full(k, -np.inf, scores.dtype)
        ids = np.full(k, -1, np.int64)
        for item in range(line.size):
            value = line[item]
            # Strictly greater: of equal scores the lower id, met first, keeps its place.
            if value > top[k - 1]:
                place = k - 1
                while place > 0 and value > top[place - 1]:
                    top[place] = top[place - 1]
                    ids[place] = ids[place - 1]
                    place -= 1
                top[place] = value
                ids[place] = item
        best[row] = ids


def top_k_torch(scores: torch.Tensor, known: sp.csr_matrix, k: int) -> np.ndarray:
    """As :func:`rank` for one block of float32 or float64 scores (users, items) on any device.

    float32 scores are ordered together with their item as one 64-bit integer, so that ties fall as
    on the CPU; float64 scores are sorted stably.
    """
    owner = np.repeat(np.arange(known.shape[0]), np.diff(known.indptr))
    place = torch.from_numpy(np.stack((owner, known.indices)).astype(np.int64)).to(scores.device)
    scores[place[0], place[1]] = -torch.inf
    items = scores.shape[1]
    k_found = min(k, items)
    if scores.dtype == torch.float32:
        bits = (scores + 0.0).view(torch.int32).to(torch.int64)  # −0 becomes +0, its equal
        ordered = torch.where(bits >= 0, bits, bits ^ 0x7FFFFFFF)
        keys = (ordered << 32) | (0xFFFFFFFF - torch.arange(items, device=scores.device))
        ids = 0xFFFFFFFF - (torch.topk(keys, k_found, dim=1).values & 0xFFFFFFFF)
    else:
        ids = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :k_found]
    ids = torch.where(torch.isinf(scores.gather(1, ids)), -1, ids).cpu().numpy()
    out = np.full((len(ids), k), -1, np.int64)
    out[:, :k_found] = ids
    return out


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

        Raises KeyError, naming the known ones, for another metric, and ValueError where k is
        larger than the number of places kept.
        """
        if metric not in METRICS:
            raise KeyError(f"metric: found {metric!r}, expected one of {', '.join(METRICS)}.")
        if not 1 <= k <= self.hits.shape[1]:
            raise ValueError(f"k: found {k}, expected 1 … {self.hits.shape[1]}, the places kept.")
        return METRICS[metric](self.hits[:, :k].astype(np.float64), self.relevant)

    def means(self, ks: tuple[int, ...] = KS) -> dict[str, float]:
        """``metric@k`` → mean over the users, for all metrics; empty where there is no user."""
        if not len(self.users):
            return {}
        return {
            f"{metric}@{k}": float(np.mean(self.per_user(metric, k)))
            for k in ks
            for metric in METRICS
        }


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


def evaluate(outputs: torch.Tensor, data: Interactions, part: str, k: int = TOP) -> Hits:
    """Rank all items for every user and compare with a part.

    outputs: (rows, F), users first. part: `valid` (train is masked out) or `test` (train and valid
    are). Users whose part is empty are left out; :attr:`Hits.users` says who is in.
    """
    target = getattr(data, part)
    known = data.train if part == "valid" else (data.train + data.valid).tocsr()
    known.sort_indices()
    relevant = np.diff(target.indptr)
    users = np.flatnonzero(relevant)
    vectors = outputs[: data.users]
    if users.size < data.users:
        vectors, known = vectors[torch.from_numpy(users).to(outputs.device)], known[users]
    best = rank(vectors, outputs[data.users :], known, k)
    hits = np.zeros(best.shape, bool)
    _mark_hits(best, users, target.indptr, target.indices, hits)
    return Hits(users, hits, relevant[users].astype(np.int64))


@nb.njit(cache=True)
def _mark_hits(best, users, indptr, indices, hits):
    for row in range(best.shape[0]):
        target = indices[indptr[users[row]] : indptr[users[row] + 1]]
        for place in range(best.shape[1]):
            spot = np.searchsorted(target, best[row, place])
            hits[row, place] = spot < target.size and target[spot] == best[row, place]

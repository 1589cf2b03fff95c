"""Metrics against trec_eval itself, and full ranking against sorting."""

from dataclasses import replace

import numba
import numpy as np
import pytest
import pytrec_eval
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import interactions

from lthnb.data import to_csr
from lthnb.kernels.ranking import (
    TILE,
    TILES_AT_ONCE,
    USERS_AT_ONCE,
    evaluate,
    rank,
)
from lthnb.metrics import METRICS, TOP, Hits

KS = (1, 3, 5, 10, 20)


def csr(dense):
    return to_csr(*np.nonzero(dense), np.shape(dense))


def by_sorting(scores, known, k):
    """The k best of each row by a stable sort: equal scores by the lower id; −1 where none."""
    best = np.full((len(scores), k), -1)
    for row, (line, taken) in enumerate(zip(scores, known, strict=True)):
        free = np.flatnonzero(~taken)
        found = free[np.argsort(-line[free], kind="stable")][:k]
        best[row, : len(found)] = found
    return best


def trec_eval(best, relevant):
    """All metrics of trec_eval: rankings as given, (metric, k) → one value a user."""
    names = {"recall": "recall", "precision": "P", "hitrate": "success", "ndcg": "ndcg_cut"}
    cuts = ",".join(map(str, KS))
    measures = {f"{name}.{cuts}" for name in names.values()} | {"recip_rank"}
    qrel = {f"q{u}": {f"d{i}": 1 for i in items} for u, items in enumerate(relevant)}

    def run_of(k):
        # trec_eval sorts by score (and breaks ties its own way): give each place its own score.
        return {
            f"q{u}": {f"d{i}": float(1000 - p) for p, i in enumerate(line[:k]) if i >= 0}
            for u, line in enumerate(best)
        }

    evaluator = pytrec_eval.RelevanceEvaluator(qrel, measures)
    everything = evaluator.evaluate(run_of(best.shape[1]))
    users = [f"q{u}" for u in range(len(best))]
    out = {
        (ours, k): [everything[q][f"{theirs}_{k}"] for q in users]
        for ours, theirs in names.items()
        for k in KS
    }
    for k in KS:  # it has no cut for the reciprocal rank
        cut = pytrec_eval.RelevanceEvaluator(qrel, {"recip_rank"}).evaluate(run_of(k))
        out["mrr", k] = [cut[q]["recip_rank"] for q in users]
    return out


def cases():
    rng = np.random.default_rng(0)
    random = rng.normal(size=(30, 60))
    some = rng.random((30, 60)) < 0.15
    some[:, 0] |= ~some.any(1)
    one = np.zeros((30, 60), bool)
    one[np.arange(30), rng.integers(0, 60, 30)] = True
    perfect = np.where(some, 10.0, 0.0) + random * 0.01
    tied = rng.integers(0, 3, (30, 60)).astype(float)
    few = rng.random((30, 60)) < 0.9  # leaves about six candidates
    few &= ~some
    none = np.zeros((30, 60), bool)
    return {
        "random": (random, some, none),
        "no hit": (np.where(one, -9, random), one, none),
        "all hits in front": (perfect, some, none),
        "one relevant": (random, one, none),
        "more relevant than K": (random, rng.random((30, 60)) < 0.7, none),
        "all relevant": (random, np.arange(60) > 0 | none, none),
        "fewer candidates than K": (random, some, few),
        "ties": (tied, some, none),
        "all scores equal": (np.zeros((30, 60)), some, none),
        "negative scores": (-np.abs(random) - 5, some, none),
    }


@pytest.mark.parametrize("name", cases())
def test_metrics_are_those_of_trec_eval(name):
    """Scores as inner products with unit vectors, through our ranking; no metric of ours."""
    scores, relevant, known = cases()[name]
    users, items = scores.shape
    outputs = torch.from_numpy(np.vstack([scores, np.eye(items)]))
    data = interactions(known | np.eye(users, items, dtype=bool) & ~relevant, 0 * known, relevant)
    hits = evaluate(outputs, data, "test")
    best = rank(outputs[:users], outputs[users:], data.train, TOP)
    theirs = trec_eval(best, [np.flatnonzero(line) for line in relevant])
    assert set(METRICS) == {metric for metric, _ in theirs}
    for (metric, k), values in theirs.items():
        assert np.allclose(hits.per_user(metric, k), values, rtol=0, atol=1e-12), (metric, k)
        assert hits.means(KS)[f"{metric}@{k}"] == pytest.approx(np.mean(values), abs=1e-12)
    if name in ("no hit", "all hits in front"):
        assert np.mean(theirs["ndcg", 20]) == (name == "all hits in front")


def test_what_is_not_kept_is_refused():
    hits = Hits(np.arange(2), np.zeros((2, 20), bool), np.ones(2, np.int64))
    for k in (0, 21):
        with pytest.raises(ValueError, match="expected 1 … 20"):
            hits.per_user("recall", k)
    assert Hits(np.arange(0), np.zeros((0, 20), bool), np.ones(0)).means() == {}


class TestRanking:
    @settings(max_examples=60)
    @given(st.data(), st.integers(1, 40), st.integers(1, 60), st.integers(1, 25))
    def test_full_ranking_is_a_sort(self, data, users, items, k):
        """Any scores with many ties, of ±0 too, as a ticket's empty rows have them; any known
        items; single and double."""
        rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
        scores = rng.integers(-2, 3, (users, items)) * data.draw(st.sampled_from([1.0, -0.5, 1e-3]))
        scores[rng.random(scores.shape) < 0.1] = -0.0
        known = rng.random((users, items)) < data.draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
        expected = by_sorting(scores, known, k)
        for dtype in (torch.float32, torch.float64):
            vectors = torch.from_numpy(scores).to(dtype)
            found = rank(vectors, torch.eye(items, dtype=dtype), csr(known), k)
            assert np.array_equal(found, expected)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_blocks_and_threads_change_nothing(self, dtype):
        """More users than a block holds, real inner products, one thread and two."""
        rng = np.random.default_rng(0)
        users = torch.from_numpy(rng.normal(size=(2 * USERS_AT_ONCE + 7, 16))).to(dtype)
        items = torch.from_numpy(rng.normal(size=(500, 16))).to(dtype)
        known = rng.random((len(users), 500)) < 0.1
        found, threads = [], (numba.get_num_threads(), torch.get_num_threads())
        for count in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(count)
            torch.set_num_threads(count)
            found.append(rank(users, items, csr(known), 20))
        numba.set_num_threads(threads[0])
        torch.set_num_threads(threads[1])
        assert np.array_equal(found[0], found[1])
        exact = users.double().numpy() @ items.double().numpy().T
        agree = (found[0] == by_sorting(exact, known, 20)).mean()
        assert agree > (0.999 if dtype == torch.float32 else 0.99999)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_stopping_early_changes_nothing(self, dtype):
        """Norms over five orders of magnitude and zeros, several stretches of items, some users
        who know nearly everything, and scores that are equal: the best are those of sorting."""
        rng = np.random.default_rng(1)
        count, size = 3 * TILES_AT_ONCE * TILE + 5, 8
        # Small integers times powers of two: every inner product is exact in either type.
        items = rng.integers(-3, 4, (count, size)) * 2.0 ** rng.integers(-8, 9, (count, 1))
        items[rng.random(count) < 0.2] = 0
        users = rng.integers(-2, 3, (61, size)).astype(float)
        users[5] = 0
        known = rng.random((61, count)) < 0.3
        known[7, 3:], known[8] = True, True
        vectors = [torch.from_numpy(v).to(dtype) for v in (users, items)]
        found = rank(*vectors, csr(known), 20)
        assert np.array_equal(found, by_sorting(users @ items.T, known, 20))
        assert (found[8] == -1).all()

    def test_users_of_zeros_get_the_first_items(self):
        """Beside others in their block; as a sparse ticket has them."""
        rng = np.random.default_rng(2)
        users, items = rng.normal(size=(2 * USERS_AT_ONCE, 4)), rng.normal(size=(50, 4))
        users[::3] = 0
        known = rng.random((len(users), 50)) < 0.5
        known[3], known[6, 2:] = True, True
        found = rank(torch.from_numpy(users), torch.from_numpy(items), csr(known), 20)
        assert np.array_equal(found, by_sorting(users @ items.T, known, 20))

    def test_scores_given_are_not_changed(self):
        users, items = torch.ones(3, 2), torch.ones(4, 2)
        rank(users, items, csr(np.eye(3, 4)), 2)
        assert (users == 1).all()
        assert (items == 1).all()


class TestParts:
    def data(self):
        """One user's items: 0 train, 1 valid, 2 test; a second one has nothing in test."""
        train, valid, test = np.zeros((3, 2, 6), int)
        train[:, 0], valid[:, 1], test[0, 2] = 1, 1, 1
        return interactions(train, valid, test)

    def outputs(self):
        """Items score by their id: 0 best."""
        return torch.tensor([[1.0], [1.0], *[[6.0 - item] for item in range(6)]])

    def test_test_masks_train_and_valid(self):
        hits = evaluate(self.outputs(), self.data(), "test")
        assert hits.hits[0].tolist() == [True] + [False] * 19  # item 2 comes first of the rest
        assert hits.relevant.tolist() == [1]

    def test_valid_masks_train_alone(self):
        """Item 1 is first; what is in test stays a candidate, as it would be in life."""
        hits = evaluate(self.outputs(), self.data(), "valid")
        assert hits.hits[:, 0].tolist() == [True, True]
        worse = self.outputs()
        worse[2 + 2] = 9.0
        assert evaluate(worse, self.data(), "valid").hits[0].tolist()[:2] == [False, True]

    def test_what_is_dropped_is_masked_in_both(self):
        data, gone = self.data(), np.zeros((2, 6), int)
        gone[:, 3] = 1
        data = replace(data, dropped=to_csr(*np.nonzero(gone), gone.shape))
        outputs = self.outputs()
        outputs[2 + 3] = 9.0
        for part in ("valid", "test"):
            assert evaluate(outputs, data, part).hits[0, 0]

    def test_users_without_a_target_are_left_out(self):
        hits = evaluate(self.outputs(), self.data(), "test")
        assert hits.users.tolist() == [0]
        assert hits.means((1,))["recall@1"] == 1  # not a half

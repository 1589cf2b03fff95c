"""Serving from packed tickets: what dense scoring of the same ticket gives, asked in any way."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import interactions, toy_data

from lthnb import evaluation, serving
from lthnb.packing import Ticket, pack
from lthnb.packing.tickets import SCORES
from lthnb.serving import NEVER, ServingError, TicketRecommender

USERS, ITEMS = 70, 300  # more than a group of users; fewer items than a block
LIKED = sp.csr_matrix((USERS, ITEMS), dtype=np.float32)


def table(seed: int, users: int, items: int, size: int, density: float, exact: bool = False):
    """A ticket's values, users first; small whole numbers, and so many ties, where `exact`."""
    rng = np.random.default_rng(seed)
    shape = users + items, size
    values = rng.integers(-2, 3, shape) if exact else rng.normal(size=shape)
    # Some rows keep nearly all, some nearly nothing, as after pruning by magnitude.
    values = values * rng.lognormal(0, 1, (shape[0], 1)) if not exact else values
    return np.where(rng.random(shape) < density, values, 0).astype(np.float32)


def recommender(values, users: int, kind: str = "float32", form: str = "auto", **words):
    ticket = Ticket(values != 0, values, users, len(values) - users)
    return TicketRecommender(pack(ticket, form, kind), **words)


def dense(server: TicketRecommender, known, k: int):
    """The ids and scores of dense scoring of the very ticket that is served."""
    ticket = server.packed.unpack()
    users, items = (torch.from_numpy(v) for v in np.split(ticket.values, [ticket.users]))
    ids = evaluation.rank(users, items, known, k)
    # One column at a time, from the lowest on, each term fused: float64 holds a product of two
    # float32 whole, and rounds its sum with a third once more at most.
    scores = np.zeros((len(users), len(items)))
    for u, i in zip(users.numpy().T, items.numpy().T, strict=True):
        scores = (u[:, None].astype(float) * i.astype(float) + scores).astype(np.float32)
    found = np.where(ids >= 0, np.take_along_axis(scores, np.maximum(ids, 0), 1), NEVER)
    return ids, found.astype(np.float32)


def liked(seed: int, users: int, items: int, share: float) -> sp.csr_matrix:
    return sp.csr_matrix((np.random.default_rng(seed).random((users, items)) < share) * 1.0)


@pytest.fixture(scope="module")
def server():
    return recommender(table(0, USERS, ITEMS, 8, 0.4), USERS)


@pytest.fixture(scope="module")
def made():
    """A ticket as training gives it, its data, and its outputs by hand."""
    data = toy_data()
    values = table(5, data.users, data.items, 6, 0.3)
    model = {"backbone": "lightgcn", "embedding_size": 6, "layers": 2}
    about = {"spec": {"model": model}, "scores": SCORES["layers"]}
    ticket = Ticket(values != 0, values, data.users, data.items, about=about)
    train = data.train.toarray().astype(float)
    a = np.block([[np.zeros((40, 40)), train], [train.T, np.zeros((30, 30))]])
    degree = np.maximum(a.sum(1), 1)
    a = a / np.sqrt(degree[:, None] * degree)
    return pack(ticket), data, (values + a @ values + a @ a @ values) / 3


class TestExact:
    @settings(max_examples=60)
    @given(
        st.integers(0, 2**32 - 1),
        st.integers(1, 70),
        st.integers(1, 90),
        st.integers(1, 20),
        st.integers(1, 25),
        st.sampled_from([0.0, 0.05, 0.3, 1.0]),
        st.sampled_from([0.0, 0.3, 0.9, 1.0]),
        st.sampled_from(["float32", "float16", "bfloat16", "int8"]),
        st.booleans(),
        st.booleans(),
    )
    def test_the_same_as_dense(
        self, seed, users, items, size, k, density, share, kind, exact, index
    ):
        """Any shape, density and number of known items, up to all; ties too; every kind."""
        server = recommender(
            table(seed, users, items, size, density, exact), users, kind, index=index, threads=1
        )
        known = liked(seed, users, items, share)
        expected, scores = dense(server, known, k)
        ids, found = server.recommend(np.arange(users), known, k)
        assert np.array_equal(ids, expected)
        assert np.allclose(found, scores, rtol=1e-6, atol=1e-30)
        for user in range(min(users, 3)):
            alone, its = server.recommend(user, known[[user]], k)
            assert np.array_equal(alone, ids[user])
            assert np.array_equal(its, found[user])

    @pytest.mark.parametrize("form", ["bitmap", "ragged", "enumerative"])
    def test_many_blocks_threads_and_calls(self, form):
        """More items than a block and the head hold, several groups; one thread, two, an index,
        users in any order and often, and several calls at once: the same bits."""
        users, items = 200, 2 * serving.ROWS + 1000
        values = table(0, users, items, 12, 0.2)
        known = liked(1, users, items, 0.01)
        alone = recommender(values, users, form=form, threads=1)
        expected, _ = dense(alone, known, 20)
        ids, scores = alone.recommend(np.arange(users), known, 20)
        assert np.array_equal(ids, expected)
        for words in ({"threads": 2}, {"threads": 2, "index": True}, {"threads": 1, "index": True}):
            server = recommender(values, users, form=form, **words)
            rows = np.array([5, 199, 5, 0, *range(100, 0, -1)])
            again = server.recommend(rows, known[rows], 20)
            assert np.array_equal(again[0], ids[rows])
            assert np.array_equal(again[1], scores[rows])
            with ThreadPoolExecutor(4) as pool:
                each = list(pool.map(lambda u, s=server: s.recommend(u, known[[u]], 20), range(40)))
            assert np.array_equal([one[0] for one in each], ids[:40])
            assert np.array_equal([one[1] for one in each], scores[:40])

    def test_equal_scores_rank_by_the_lower_id(self):
        values = np.ones((2 + 3000, 3), np.float32)
        for index in (False, True):
            server = recommender(values, 2, index=index)
            assert server.recommend(0, LIKED[:1, :0].reshape(1, 0), 4, False)[0].tolist() == [
                *(0, 1, 2, 3)
            ]
            some = sp.csr_matrix((np.ones(2), ([0, 0], [0, 2])), (1, 3000))
            assert server.recommend(1, some, 4)[0].tolist() == [1, 3, 4, 5]

    def test_a_user_without_entries(self):
        values = table(0, 3, 40, 4, 1.0)
        values[1] = 0
        for index in (False, True):
            server = recommender(values, 3, index=index)
            ids, scores = server.recommend(1, liked(0, 1, 40, 0), 3)
            assert (ids.tolist(), scores.tolist()) == ([0, 1, 2], [0, 0, 0])
            some = sp.csr_matrix((np.ones(2), ([0, 0], [1, 2])), (1, 40))
            assert server.recommend(1, some, 3)[0].tolist() == [0, 3, 4]
            assert server.recommend(1, some, 3, items=[2, 9, 4])[0].tolist() == [4, 9, -1]


class TestAsImplicit:
    """Shapes, dtypes and padding are those of implicit 0.7.2's MatrixFactorizationBase."""

    def test_shapes_and_dtypes(self, server):
        for user, shape in ((3, (10,)), (np.int64(3), (10,)), ([3], (1, 10)), ([3, 4], (2, 10))):
            rows = LIKED[: np.size(user)]
            for ids, scores in (server.recommend(user, rows), server.similar_items(user)):
                assert (ids.shape, scores.shape) == (shape, shape)
                assert (ids.dtype, scores.dtype) == (np.int32, np.float32)
                assert (np.diff(scores) <= 0).all()
        assert server.recommend([], LIKED[:0], 4)[0].shape == (0, 4)

    def test_what_is_liked_is_left_out(self, server):
        best = server.recommend(0, LIKED[:1], 5)[0]
        some = sp.csr_matrix((np.zeros(2), ([0, 0], best[[2, 0]])), (1, ITEMS))  # a stored 0 counts
        assert server.recommend(0, some, 3)[0].tolist() == best[[1, 3, 4]].tolist()
        some.indices = some.indices[::-1].copy()
        some.has_sorted_indices = False
        assert server.recommend(0, some, 3)[0].tolist() == best[[1, 3, 4]].tolist()
        for rows in (some, None):
            kept = server.recommend(0, rows, 3, filter_already_liked_items=False)[0]
            assert kept.tolist() == best[:3].tolist()

    def test_fewer_candidates_than_places(self, server):
        everything = sp.csr_matrix(np.ones((1, ITEMS)))
        ids, scores = server.recommend(0, everything, 4)
        assert (ids == -1).all()
        assert (scores == np.float32(-3.4028235e38)).all()
        ids, _ = server.recommend([0, 1], LIKED[:2], ITEMS + 3)
        assert (ids[:, -3:] == -1).all()
        assert sorted(ids[0, :-3]) == list(range(ITEMS))

    def test_some_items_alone(self, server):
        some = [7, 3, 250, 7]
        ids, scores = server.recommend([1, 2], LIKED[:2], 10, items=some)
        assert ids.shape == (2, 4 - 1)  # at most as many as there are
        everything = server.recommend([1, 2], LIKED[:2], ITEMS)
        for row in range(2):
            chosen = np.isin(everything[0][row], some)
            assert np.array_equal(ids[row], everything[0][row][chosen])
            assert np.array_equal(scores[row], everything[1][row][chosen])

    def test_similar_items_by_cosine(self, server):
        ticket = server.packed.unpack()
        items = ticket.values[ticket.users :].astype(np.float64)
        norms = np.linalg.norm(items, axis=1)
        unit = np.divide(items, norms[:, None], where=norms[:, None] > 0, out=np.zeros_like(items))
        ids, scores = server.similar_items(np.arange(9), ITEMS)
        cosine = unit[:9] @ unit.T
        assert np.allclose(scores, -np.sort(-cosine), atol=1e-6)
        assert np.allclose(np.take_along_axis(cosine, ids.astype(int), 1), scores, atol=1e-6)
        whole = norms[:9] > 0
        assert np.allclose(scores[whole, 0], 1)

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            (lambda s: s.recommend(USERS, LIKED[:1]), "userid: found 70, expected 0 to 69"),
            (lambda s: s.recommend(-1, LIKED[:1]), "userid: found -1"),
            (lambda s: s.recommend("ann", LIKED[:1]), "userid: found 'ann', expected a whole"),
            (lambda s: s.recommend(0.5, LIKED[:1]), "userid: found 0.5"),
            (lambda s: s.recommend(0, LIKED), r"found shape \(70, 300\), expected \(1, 300\)"),
            (lambda s: s.recommend([0, 1], LIKED[:1]), r"expected \(2, 300\)"),
            (lambda s: s.recommend(0, LIKED[:1, :-1]), r"expected \(1, 300\)"),
            (lambda s: s.recommend(0, LIKED[:1].tocsc()), "expected a CSR matrix"),
            (lambda s: s.recommend(0), "found NoneType, expected a CSR matrix"),
            (lambda s: s.recommend(0, LIKED[:1], 0), "N: found 0, expected at least 1"),
            (lambda s: s.recommend(0, LIKED[:1], items=[ITEMS]), "items: found 300"),
            (lambda s: s.similar_items(ITEMS), "itemid: found 300, expected 0 to 299"),
            (lambda s: s.similar_items(0, -1), "N: found -1"),
            (lambda s: s.user_rows(3), "no labels"),
        ],
    )
    def test_errors_say_what_is_wrong(self, server, asked, message):
        with pytest.raises(ServingError, match=message):
            asked(server)


class TestLabels:
    @pytest.mark.parametrize("numbers", [False, True])
    def test_in_and_out(self, numbers):
        values = table(0, 5, 30, 4, 1.0)
        users = np.array([10, 8, 6, 4, 2]) if numbers else np.array(list("edcba"))
        items = np.arange(130, 100, -1) if numbers else np.array([f"film {n}" for n in range(30)])
        server = TicketRecommender(pack(Ticket(values != 0, values, 5, 30, users, items)))
        for row, label in enumerate(users):
            assert server.user_rows(label) == row
        assert server.user_rows(users[::-1]).tolist() == [4, 3, 2, 1, 0]
        assert server.item_rows(items[[3, 9]]).tolist() == [3, 9]
        ids, _ = server.recommend(server.user_rows(users[2]), liked(0, 1, 30, 0), 4)
        assert server.item_names(ids).tolist() == items[ids].tolist()
        assert server.item_names(np.array([2, -1])).tolist() == [items[2], None]
        wrong = 3 if numbers else "zoe"
        with pytest.raises(ServingError, match=f"found .*{wrong}.* no label"):
            server.user_rows(wrong)
        with pytest.raises(ServingError, match="expected labels like"):
            server.user_rows("a" if numbers else 1)


def test_users_without_a_target_are_left_out():
    train, valid, test = np.zeros((3, 3, 6), int)
    train[0, 0] = test[1, 2] = 1
    data = interactions(train, valid, test)
    hits = serving.evaluate(recommender(table(0, 3, 6, 2, 1.0), 3), data, "test", 6)
    assert hits.users.tolist() == [1]
    assert hits.means((6,))["recall@6"] == 1


class TestLightGCN:
    def test_layer_0_is_refused(self, made):
        with pytest.raises(ServingError, match="propagate it over the training graph first"):
            TicketRecommender(made[0])

    def test_propagated_whole(self, made):
        packed, data, outputs = made
        whole = serving.propagated(packed, data)
        assert np.allclose(whole.unpack().values, outputs, atol=1e-6)
        hits = serving.evaluate(TicketRecommender(whole), data, "test")
        expected = evaluation.evaluate(torch.from_numpy(outputs).float(), data, "test")
        assert np.allclose(hits.hits.mean(), expected.hits.mean())

    def test_propagated_and_pruned(self, made):
        packed, data, outputs = made
        some = serving.propagated(packed, data, 0.25, values="float16").unpack()
        assert some.kept.mean() == pytest.approx(0.25, abs=1e-3)
        assert np.abs(outputs[some.kept]).min() >= np.abs(outputs[~some.kept]).max() - 1e-6
        assert some.about["outputs kept"] == pytest.approx(0.25, abs=1e-3)

    def test_what_does_not_fit_is_refused(self, made):
        packed, data, _ = made
        with pytest.raises(ServingError, match="expected LightGCN's layer 0"):
            serving.propagated(serving.propagated(packed, data), data)
        with pytest.raises(ServingError, match="expected 40 and 30"):
            serving.propagated(packed, toy_data(users=41))

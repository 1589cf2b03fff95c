"""Interactions: what they refuse, how they are split, and what changes their digest."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from toys import interactions

from lthnb.data import (
    GROUPS,
    DataError,
    Interactions,
    k_core,
    popularity_groups,
    to_csr,
)
from lthnb.datasets.assembling import RAW_SHARES, last_per_user, pick_per_user

MATRICES = hnp.arrays(
    np.int8, st.tuples(st.integers(1, 12), st.integers(1, 40)), elements=st.integers(0, 1)
)


def matrix_of(users=60, items=80, share=0.3, seed=0) -> sp.csr_matrix:
    rng = np.random.default_rng(seed)
    return to_csr(*np.nonzero(rng.random((users, items)) < share), (users, items))


def split(matrix: sp.csr_matrix, name="toy", seed=0, **more) -> Interactions:
    train, valid, test = pick_per_user(matrix, seed, *RAW_SHARES)
    users, items = matrix.shape
    labels = {"user_labels": np.arange(users), "item_labels": np.arange(items)}
    return Interactions(name, train, valid, test, **labels, **more)


def pairs(matrix: sp.csr_matrix) -> set[tuple[int, int]]:
    return set(zip(*(a.tolist() for a in matrix.nonzero()), strict=True))


class TestToCsr:
    def test_duplicates_count_once_however_many(self):
        """300 of one pair would wrap around in int8."""
        matrix = to_csr(np.full(300, 1), np.full(300, 2), (3, 4))
        assert matrix.nnz == 1
        assert matrix.toarray().tolist() == [[0] * 4, [0, 0, 1, 0], [0] * 4]


class TestPickPerUser:
    @settings(deadline=None)
    @given(MATRICES, st.integers(0, 3))
    def test_reassembles_and_sizes_follow_the_rule(self, dense, seed):
        matrix = to_csr(*np.nonzero(dense), dense.shape)
        train, valid, test = pick_per_user(matrix, seed, *RAW_SHARES)
        assert (train + valid + test).toarray().tolist() == dense.tolist()  # each pair in one part
        for user, n in enumerate(dense.sum(axis=1)):
            v, t = int(n * 0.1 + 0.5), int(n * 0.2 + 0.5)
            expected = (n - v - t, v, t) if n - v - t >= 1 else (n, 0, 0)
            assert tuple(p[user].nnz for p in (train, valid, test)) == expected


class TestLastPerUser:
    @settings(deadline=None)
    @given(MATRICES, st.integers(1, 50))
    def test_is_what_is_last_by_hand(self, dense, moments):
        """Test items are no earlier than the others; users with a tie there are counted."""
        matrix = to_csr(*np.nonzero(dense), dense.shape)
        times = np.random.default_rng(0).integers(0, moments, matrix.nnz).astype(float)
        (train, valid, test), tied = last_per_user(matrix, times)
        assert (train + valid + test).toarray().tolist() == dense.tolist()
        at, ties = sp.csr_matrix((times, matrix.indices, matrix.indptr), matrix.shape).toarray(), 0
        for user, n in enumerate(dense.sum(axis=1)):
            last = test[[user]].indices
            assert len(last) == valid[[user]].nnz == (1 if n > 2 else 0)
            before = (train + valid)[[user]].indices
            if len(last):
                assert at[user, last].min() >= at[user, before].max()
                ties += at[user, last].min() == at[user, before].max()
        assert ties == tied


class TestCore:
    @settings(deadline=None)
    @given(
        st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=60), st.integers(0, 6)
    )
    def test_is_what_is_left_by_hand(self, pairs, k):
        users, items = np.array(pairs, np.int64).reshape(-1, 2).T
        left, before = set(pairs), None
        while left != before:
            before = left
            left = {
                (u, i)
                for u, i in before
                if sum(a == u for a, _ in before) >= k and sum(b == i for _, b in before) >= k
            }
        found = k_core(users, items, k)
        assert {pair for pair, stays in zip(pairs, found, strict=True) if stays} == left


class TestPopularityGroups:
    @settings(deadline=None)
    @given(st.lists(st.integers(0, 50), min_size=1, max_size=80))
    def test_rarest_first_and_about_even(self, degrees):
        degree = np.array(degrees)
        group = popularity_groups(degree)
        assert ((group >= 0) & (group < GROUPS)).all()
        order = np.argsort(degree, kind="stable")
        assert (np.diff(group[order]) >= 0).all()
        sums = np.bincount(group, degree, minlength=GROUPS)
        assert sums.max() <= degree.sum() / GROUPS + 2 * degree.max()


class TestDigest:
    def test_pinned(self):
        """The digest is in every run's key: if it changes, no recorded run is found again."""
        matrix = to_csr(np.arange(40) % 4, np.arange(40) % 37, (4, 37))
        assert split(matrix).digest == "eda210ba91936a8474e27cb3d4551029"

    def test_changes_when_a_pair_moves(self):
        data = split(matrix_of())
        user, item = (int(a[0]) for a in data.test.nonzero())
        test, train = data.test.tolil(), data.train.tolil()
        test[user, item], train[user, item] = 0, 1
        moved = replace(data, train=sp.csr_matrix(train), test=sp.csr_matrix(test))
        assert moved.digest != data.digest

    def test_changes_when_a_pair_is_dropped(self):
        data = split(matrix_of())
        user, item = (int(a[0]) for a in data.train.nonzero())
        gone, train = sp.lil_matrix(data.train.shape, dtype=np.int8), data.train.tolil()
        gone[user, item], train[user, item] = 1, 0
        train = sp.csr_matrix(train)
        less = replace(data, train=train, dropped=sp.csr_matrix(gone))
        assert len({data.digest, replace(data, train=train).digest, less.digest}) == 3
        assert pairs(less.known) == pairs(data.known)
        assert pairs(less.for_protocol("paper").train) == pairs(data.known) - {(user, item)}
        with pytest.raises(DataError, match="1 pairs stand both in train and in dropped"):
            replace(data, dropped=less.dropped)

    @pytest.mark.parametrize("index_type", [np.int32, np.int64])
    def test_index_type_is_left_out(self, index_type):
        data = split(matrix_of())
        train = data.train.copy()
        train.indices = train.indices.astype(index_type)
        train.indptr = train.indptr.astype(index_type)
        assert replace(data, train=train).digest == data.digest


class TestProtocols:
    def test_paper_trains_on_train_and_valid(self):
        data = split(matrix_of())
        paper = data.for_protocol("paper")
        assert pairs(paper.train) == pairs(data.train) | pairs(data.valid)
        assert paper.valid.nnz == 0
        assert paper.test is data.test
        assert paper.train.has_sorted_indices
        assert paper.train.dtype == np.int8
        assert paper.digest != data.digest

    def test_validated_needs_a_validation_pair(self):
        data = split(matrix_of()).for_protocol("paper")
        with pytest.raises(DataError, match=r"toy: .*'validated'.*valid is empty"):
            data.for_protocol("validated")


def unsorted(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Unsorted rows would rank wrongly."""
    matrix = matrix.copy()
    matrix.indices[:2] = matrix.indices[:2][::-1].copy()
    matrix.has_sorted_indices = matrix.has_canonical_format = False
    return matrix


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: {"train": d.train + d.test}, r"toy: \d+ pairs stand both in train and in test"),
        (lambda d: {"valid": sp.csr_matrix((2, 2))}, r"'valid' has shape \(2, 2\), expected \(60"),
        (lambda d: {"test": d.test.tocoo()}, "part 'test' must be CSR of ones"),
        (lambda d: {"train": sp.csr_matrix(d.train.shape, dtype=np.int8)}, "no training pair"),
        (lambda d: {"item_labels": np.arange(3)}, "3 item_labels, expected 80"),
        (lambda d: {"train": unsorted(d.train)}, "'train' must be CSR of ones, sorted within"),
        (lambda d: {"train": d.train * 2}, "part 'train' must be CSR of ones, sorted within"),
    ],
)
def test_parts_that_cannot_be_are_refused(change, words):
    data = split(matrix_of())
    with pytest.raises(DataError, match=words):
        replace(data, **change(data))


class TestDescriptions:
    def test_counts_and_degrees(self):
        none = [0, 0, 0, 0]
        train, test = [[1, 1, 0, 0], [1, 0, 0, 0], none, none], [none, none, [0, 0, 0, 1], none]
        found = interactions(train, [none] * 4, test).described()
        assert (found["interactions"], found["filled"]) == ("4", "0.25000")
        assert found["user_degree"] == "0 to 2, quartiles 0, 0, 1"
        assert (found["users_without_train"], found["users_without_test"]) == ("2", "3")
        assert found["items_unseen_in_train"] == "2"

    def test_shown_as_text_and_html(self):
        data = split(matrix_of())
        assert repr(data).startswith("Interactions('toy', users=60, items=80, train=")
        assert "<b>toy</b>" in data._repr_html_()
        odd = split(matrix_of(), name="<toy>", origin={"notes": ["5 < 6"]})
        assert "<b>&lt;toy&gt;</b>" in odd._repr_html_()
        assert "<li>5 &lt; 6</li>" in odd._repr_html_()


def test_equal_times_are_put_in_order_by_the_seeded_hash():
    """What happened at one moment is drawn at random, not taken by the items' ids."""
    matrix = to_csr(*np.nonzero(np.ones((50, 10), int)), (50, 10))
    times = np.zeros(matrix.nnz)
    last = [last_per_user(matrix, times, seed)[0][2].indices for seed in (0, 0, 1)]
    assert len(np.unique(last[0])) > 5  # by ids it would be one and the same item for everyone
    assert last[0].tolist() == last[1].tolist() != last[2].tolist()

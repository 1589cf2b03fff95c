"""X⁰ and the triplet stream: what is drawn, how often, and the same wherever it is drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lthnb.data import DataError, to_csr
from lthnb.rng import stream_bits
from lthnb.sampling import LANE, Sampler, initial_table


def train_of(users=50, items=20, share=0.4, seed=0):
    pairs = np.random.default_rng(seed).random((users, items)) < share
    return to_csr(*np.nonzero(pairs), pairs.shape)


class TestInitialTable:
    def test_is_xavier_uniform_over_the_joint_table(self):
        table = initial_table(0, 3000, 32)
        bound = np.sqrt(6 / (3000 + 32))
        assert table.shape == (3000, 32)
        assert table.dtype == np.float64
        assert abs(table).max() <= bound
        assert stats.kstest(table.ravel(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3

    def test_values_are_pinned(self):
        """X⁰ is part of every run; were it to change, `sampling` in NUMERICS must be raised."""
        table = initial_table(0, 5, 3)
        assert table[0].tolist() == [
            -0.7445393414186275,
            -0.21733098593067463,
            -0.39452900655738776,
        ]
        assert table[4, 2] == 0.09493661832313086

    def test_entries_come_from_their_own_counter(self):
        """A table with more rows differs by its bound alone."""
        small, large = initial_table(3, 10, 4), initial_table(3, 25, 4)
        ratio = np.sqrt((25 + 4) / (10 + 4))
        assert np.allclose(small, large[:10] * ratio, rtol=1e-12)


class TestTriplets:
    def test_follow_their_definition(self):
        """Draws as the docstring has them, one at a time with Python's integers."""
        train = train_of()
        sampler = Sampler.of(train, 7)
        users, positives, negatives = sampler.draw(100, 200)

        def pick(counter, n):
            return int(stream_bits(7, "order", np.array(counter))) * n >> 64

        for k in range(200):
            t = 100 + k
            user = sampler.users[pick(t, len(sampler.users))]
            own = train.indices[train.indptr[user] : train.indptr[user + 1]].tolist()
            positive = own[pick(t + LANE, len(own))]
            counter = t + 2 * LANE
            while (negative := pick(counter, train.shape[1])) in own:
                counter += LANE
            assert (users[k], positives[k], negatives[k]) == (user, positive, negative)

    def test_are_pinned(self):
        """The stream is part of every run, as X⁰ is."""
        users, items = np.divmod(np.arange(0, 48, 3), 8)
        train = to_csr(users, items, (6, 8))
        assert Sampler.of(train, 1).draw(0, 4).tolist() == [
            [3, 5, 5, 5],
            [6, 5, 2, 2],
            [1, 3, 7, 3],
        ]

    @settings(max_examples=30)
    @given(st.integers(0, 10**12), st.integers(1, 300), st.integers(0, 300))
    def test_a_position_does_not_depend_on_the_cut(self, first, count, cut):
        sampler, cut = Sampler.of(train_of(), 0), min(cut, count)
        whole = sampler.draw(first, count)
        parts = [sampler.draw(first, cut), sampler.draw(first + cut, count - cut)]
        assert np.array_equal(whole, np.concatenate(parts, axis=1))

    def test_positives_are_and_negatives_are_not(self):
        dense = train_of(60, 12, 0.7).toarray().astype(bool)
        dense[5] = False  # draws nothing
        dense[6] = True  # has no negative
        users, positives, negatives = Sampler.of(to_csr(*np.nonzero(dense), dense.shape), 1).draw(
            0, 20_000
        )
        assert dense[users, positives].all()
        assert not dense[users, negatives].any()
        drawable = np.flatnonzero(dense.any(1) & ~dense.all(1))
        assert set(users) == set(drawable)
        assert not {5, 6} & set(users)

    def test_what_is_dropped_is_neither(self):
        pairs, gone = train_of(60, 12, 0.5).toarray().astype(bool), train_of(60, 12, 0.4, seed=1)
        gone = gone.toarray().astype(bool) & ~pairs
        train, taken = (to_csr(*np.nonzero(part), part.shape) for part in (pairs, pairs | gone))
        users, positives, negatives = Sampler.of(train, 1, taken).draw(0, 20_000)
        assert pairs[users, positives].all()
        assert not (pairs | gone)[users, negatives].any()
        assert set(users) == set(np.flatnonzero(pairs.any(1) & ~(pairs | gone).all(1)))

    def test_users_positives_and_negatives_are_uniform(self):
        """Users are uniform, not in proportion to their pairs (as the authors' code has it)."""
        dense = train_of(12, 10, 0.5, seed=4).toarray().astype(bool)
        sampler = Sampler.of(to_csr(*np.nonzero(dense), dense.shape), 0)
        assert len(set(dense.sum(1))) > 1
        users, positives, negatives = sampler.draw(0, 120_000)
        counted = np.bincount(users, minlength=12)
        assert stats.chisquare(counted[sampler.users]).pvalue > 1e-3
        for user in sampler.users[:4]:
            mine = users == user
            for chosen, candidates in ((positives, dense[user]), (negatives, ~dense[user])):
                counts = np.bincount(chosen[mine], minlength=10)[candidates]
                assert stats.chisquare(counts).pvalue > 1e-3

    @pytest.mark.parametrize("value", [0, 1], ids=["no pair", "all pairs"])
    def test_refuses_data_without_a_triplet(self, value):
        pairs = np.full((3, 4), value)
        with pytest.raises(DataError, match="no triplet to draw"):
            Sampler.of(to_csr(*np.nonzero(pairs), pairs.shape), 0)

"""Intervals against scipy's, and what counts as winning."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lthnb.evaluation import Hits
from lthnb.verdicts import (
    Interval,
    claim,
    ratio_interval,
    relative_difference,
    sign,
    sparsest_winning,
    t_interval,
    user_bootstrap,
    wins_by_definition,
)


def seeds(mean, low, n=5):
    return Interval(mean, low, 2 * mean - low, "t over seeds", n)


def hits_of(chance, users=400, seed=0):
    rng = np.random.default_rng(seed)
    return Hits(np.arange(users), rng.random((users, 20)) < chance, np.full(users, 8))


class TestIntervals:
    @given(st.lists(st.floats(-1, 1), min_size=2, max_size=12), st.sampled_from([0.5, 0.95, 0.99]))
    def test_t_interval_is_scipys(self, values, level):
        ours = t_interval(values, level)
        if np.std(values) < 1e-9:
            assert ours.high - ours.low < 1e-6
            return
        theirs = stats.ttest_1samp(values, 0).confidence_interval(level)
        assert ours.low == pytest.approx(theirs.low, rel=1e-9, abs=1e-12)
        assert ours.high == pytest.approx(theirs.high, rel=1e-9, abs=1e-12)
        assert (ours.n, ours.kind) == (len(values), "t over seeds")

    def test_one_value_has_no_interval(self):
        one = t_interval([0.3])
        assert (one.mean, one.kind, one.n) == (0.3, "none", 1)
        assert math.isnan(one.low)
        assert math.isnan(one.high)

    def test_differences_are_paired_by_seed(self):
        """Seeds differ much, the ticket is 2 % better with each: pairing makes that certain."""
        dense = [0.1, 0.2, 0.4]
        d = relative_difference([x * 1.02 for x in dense], dense)
        assert d.mean == pytest.approx(0.02)
        assert d.high - d.low < 1e-10

    @pytest.mark.parametrize(("ticket", "dense"), [([1], [1, 2]), ([], [])])
    def test_what_cannot_be_paired_is_refused(self, ticket, dense):
        with pytest.raises(ValueError, match="paired difference"):
            relative_difference(ticket, dense)

    def test_nothing_is_relative_to_zero(self):
        d = relative_difference([1.0, 2.0, 3.0], [0.0, 1.0, 1.0])
        assert d.kind == "none"
        assert math.isnan(d.mean)
        assert sparsest_winning([0.5], [d]) is None


class TestBootstrap:
    def test_covers_the_truth(self):
        """Of 40 pairs of runs of equal quality, the 95 % interval holds 0 in about 38."""
        covered = sum(
            i.low <= 0 <= i.high
            for i in (
                user_bootstrap(hits_of(0.2, 100, 2 * k), hits_of(0.2, 100, 2 * k + 1))
                for k in range(40)
            )
        )
        assert 33 <= covered <= 40  # fewer than 33 has a chance below 0.002

    def test_sees_a_difference_and_is_always_the_same(self):
        i = user_bootstrap(hits_of(0.3, seed=1), hits_of(0.2))
        a, b = hits_of(0.3, seed=1), hits_of(0.2)
        assert i == user_bootstrap(a, b)
        ratio = a.per_user("recall", 20).mean() / b.per_user("recall", 20).mean() - 1
        assert i.mean == pytest.approx(ratio)
        assert 0 < i.low < ratio < i.high
        assert (i.kind, i.n) == ("user bootstrap", 400)

    def test_pairs_users(self):
        """The same run against itself differs nowhere."""
        i = user_bootstrap(hits_of(0.2), hits_of(0.2))
        assert (i.low, i.mean, i.high) == (0, 0, 0)

    def test_other_users_are_refused(self):
        with pytest.raises(ValueError, match="different users"):
            user_bootstrap(hits_of(0.2, 10), hits_of(0.2, 11))

    def test_nothing_is_relative_to_no_hit(self):
        i = user_bootstrap(hits_of(0.2), hits_of(0.0))
        assert i.kind == "none"
        assert math.isnan(i.mean)


class TestClaims:
    @pytest.mark.parametrize(
        ("difference", "expected"),
        [
            (seeds(0.02, 0.01), True),
            (seeds(0.0, -0.0099), True),
            (seeds(0.0, -0.01), False),  # above −1 %, not at it
            (seeds(0.05, -0.02), False),
            (seeds(0.02, 0.01, n=3), True),
            (seeds(0.02, 0.01, n=2), None),
            (Interval(0.02, 0.01, 0.03, "user bootstrap", 5000), None),
            (t_interval([0.02]), None),
            (t_interval([0.02, 0.02]), None),
            (t_interval([0.02, 0.021, 0.022]), True),
        ],
    )
    def test_claim(self, difference, expected):
        assert claim(difference) is expected

    def test_margin_can_be_chosen(self):
        assert claim(seeds(0.02, -0.001), margin=0.0) is False
        assert claim(seeds(0.02, 0.001), margin=0.0) is True

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ((0.5, 10, 0.5, 10, 0.9), True),  # equal counts, on both sides
            ((0.4999, 10, 0.5, 10, 0.9), False),
            ((0.5, 11, 0.5, 10, 0.9), False),
            ((0.6, 1, 0.5, 10, 1.0), False),  # the dense model is no ticket
            ((0.6, 1, 0.5, 10, 0.999), True),
        ],
    )
    def test_definition(self, arguments, expected):
        assert wins_by_definition(*arguments) is expected

    def test_sparsest_winning(self):
        densities = [1.0, 0.9, 0.5, 0.3, 0.1]
        sure = [seeds(0, 0), seeds(0.01, 0), seeds(0.0, -0.005), seeds(0.0, -0.02), seeds(-1, -2)]
        assert sparsest_winning(densities, sure) == 2
        assert sparsest_winning(densities[::-1], sure[::-1]) == 2
        assert sparsest_winning(densities[:1], sure[:1]) is None
        assert sparsest_winning([], []) is None

    def test_sparsest_winning_with_too_few_seeds(self):
        """One run a rung: the mean chooses, a′ ≥ a."""
        single = [t_interval([x]) for x in (0.0, 0.03, 0.0, -0.001)]
        assert sparsest_winning([1.0, 0.8, 0.6, 0.4], single) == 2

    def test_a_gap_does_not_matter(self):
        """The sparsest that wins, even where one denser does not."""
        differences = [seeds(0, 0), seeds(-0.1, -0.2), seeds(0.1, 0.05)]
        assert sparsest_winning([1.0, 0.8, 0.6], differences) == 2


def test_ratios_are_averaged_by_their_logarithms():
    """Twice as fast and half as fast is as fast, which a mean of ratios would not say."""
    d = ratio_interval([2.0, 0.5])
    assert d.mean == pytest.approx(1.0)
    assert d.low * d.high == pytest.approx(1.0)
    assert ratio_interval([3.0, 3.0, 3.0]).low == pytest.approx(3.0)
    with pytest.raises(ValueError, match=r"found 0.0, expected numbers above zero"):
        ratio_interval([1.0, 0.0])


def test_the_sign_of_an_interval():
    assert sign(t_interval([0.1, 0.11, 0.12])) == 1
    assert sign(t_interval([0.1, 0.11, 0.12]), at=0.11) == 0
    assert sign(t_interval([-0.1, -0.11, -0.12])) == -1
    assert sign(t_interval([0.1, 0.1001])) == 0  # two seeds
    assert sign(t_interval([0.1])) == 0
    assert sign(Interval(0.1, 0.05, 0.15, "user bootstrap", 600)) == 1

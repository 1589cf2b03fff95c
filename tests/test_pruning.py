"""Masks: how many entries go at each round, which ones, and what is refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lthnb import config
from lthnb.config import DENSE, ConfigError
from lthnb.pruning import (
    CRITERIA,
    SCOPES,
    Mask,
    drawn,
    prune,
    row_rank,
    targets_by_rate,
)

SHAPES = st.tuples(st.integers(2, 30), st.integers(1, 9))


def tables(shape, few_values=False):
    """Random weights; with few values there are many ties."""
    elements = (
        st.sampled_from([-1.0, -0.5, -0.0, 0.0, 0.5, 1.0]) if few_values else st.floats(-1, 1)
    )
    return hnp.arrays(np.float64, shape, elements=elements)


class TestMask:
    @pytest.mark.parametrize("wrong", [np.ones((3, 2)), np.ones(4, bool), np.ones((2, 2, 2), bool)])
    def test_refuses_numbers_which_would_scale_and_other_dimensions(self, wrong):
        with pytest.raises(ConfigError, match="expected bool of 2"):
            Mask(wrong)

    def test_counts_what_is_kept(self):
        mask = Mask(np.array([[False, True, True], [True, False, False]]))
        assert (mask.entries, mask.density, mask.shape) == (3, 0.5, (2, 3))

    def test_cannot_be_changed(self):
        given_bits = np.ones((3, 2), bool)
        mask = Mask(given_bits)
        given_bits[0, 0] = False
        assert mask.kept.all()
        with pytest.raises(ValueError, match="read-only"):
            mask.kept[0, 0] = False
        with pytest.raises(AttributeError):
            mask.kept = given_bits

    def test_digest(self):
        """`dense` for no mask at all, else bits and shape."""
        assert Mask.dense(4, 3).digest == DENSE == "dense"
        bits = np.ones((4, 3), bool)
        bits[2, 1] = False
        other = np.ones((4, 3), bool)
        other[2, 2] = False
        digests = {Mask(b).digest for b in (bits, other, bits.reshape(3, 4), bits.reshape(6, 2))}
        assert len(digests) == 4
        assert Mask(bits).digest == "c8e2efe86c496b9df231f5aae7ba1015"


class TestTargets:
    @given(st.integers(1, 10**7), st.floats(0.001, 0.999), st.integers(0, 40))
    def test_each_rung_prunes_its_rate_of_what_survives(self, entries, rate, rounds):
        left = [entries, *(n for (n,) in targets_by_rate((entries,), rate, rounds))]
        assert len(left) == rounds + 1
        for before, after in itertools.pairwise(left):
            assert before - after == round(rate * before)
            assert 0 <= after <= before

    def test_the_papers_sparsities(self):
        """1 − 0.9^i of Yelp2018's table at size 32: 27.1, 65.13 and 95.29 % (Table 2)."""
        entries = (31_668 + 38_048) * 32
        kept = [n for (n,) in targets_by_rate((entries,), 0.1, 30)]
        for round, sparsity in ((3, 0.271), (10, 0.6513), (29, 0.9529)):
            assert 1 - kept[round - 1] / entries == pytest.approx(sparsity, abs=5e-5)


class TestPrune:
    @settings(max_examples=150)
    @given(st.data(), SHAPES, st.sampled_from(list(SCOPES)), st.floats(0.01, 0.99), st.booleans())
    def test_ladder_of_rungs(self, data, shape, scope, rate, few_values):
        """Down a schedule: exact counts, the lowest go, ties by flat index, and nothing returns."""
        rows, size = shape
        users = data.draw(st.integers(1, rows - 1))
        mask = Mask.dense(rows, size)
        sizes = tuple((last - first) * size for first, last in SCOPES[scope](users, rows))
        for keep in targets_by_rate(sizes, rate, 3):
            scores = np.abs(data.draw(tables(shape, few_values)))
            after = prune(mask, scores, keep, users=users, scope=scope)
            assert not (after.kept & ~mask.kept).any()  # what was pruned stays so
            outside = np.ones(rows, bool)
            for (first, last), wanted in zip(SCOPES[scope](users, rows), keep, strict=True):
                outside[first:last] = False
                # By the definition: sort survivors by (score, flat index), drop from the front.
                alive = [
                    (scores[r, c], r * size + c)
                    for r in range(first, last)
                    for c in range(size)
                    if mask.kept[r, c]
                ]
                expected = {index for _, index in sorted(alive)[len(alive) - wanted :]}
                found = np.flatnonzero(after.kept[first:last]) + first * size
                assert set(found.tolist()) == expected
                assert len(expected) == wanted
            assert (after.kept[outside] == mask.kept[outside]).all()
            mask = after

    def test_one_threshold_for_all_or_one_a_side(self):
        """Users' weights are all small: `join` takes them alone, `user_item` half of each side."""
        scores = np.concatenate([np.arange(8), 100 + np.arange(8)]).reshape(4, 4).astype(float)
        joint = prune(Mask.dense(4, 4), scores, (8,), users=2)
        assert joint.kept.sum(1).tolist() == [0, 0, 4, 4]
        each = prune(Mask.dense(4, 4), scores, (4, 4), users=2, scope="user_item")
        assert each.kept.sum(1).tolist() == [0, 4, 0, 4]

    def test_a_range_that_has_no_more_is_left_alone(self):
        mask = Mask(np.array([[True, False], [False, False], [True, True]]))
        assert prune(mask, np.ones((3, 2)), (5,), users=1).digest == mask.digest

    def test_not_a_number_is_refused_among_survivors_only(self):
        scores = np.ones((3, 2))
        scores[0, 0] = np.nan
        with pytest.raises(ConfigError, match="not-a-number"):
            prune(Mask.dense(3, 2), scores, (4,), users=1)
        alive = np.ones((3, 2), bool)
        alive[0, 0] = False
        assert prune(Mask(alive), scores, (4,), users=1).entries == 4

    def test_scores_of_another_shape_are_refused(self):
        with pytest.raises(ConfigError, match=r"found shape \(2, 3\), expected \(3, 2\)"):
            prune(Mask.dense(3, 2), np.ones((2, 3)), (4,), users=1)


class TestCriteria:
    def test_row_rank_is_the_place_in_the_row(self):
        weights = np.array([[0.5, -3.0, 0.1], [70.0, -80.0, 70.0]])
        assert CRITERIA["row_rank"](weights, 9).tolist() == [[1, 2, 0], [0, 2, 1]]
        with pytest.raises(ConfigError, match="diverged"):
            CRITERIA["row_rank"](np.array([[1.0, np.nan]]), 0)

    @pytest.mark.parametrize("scope", ["join", "user_item"])
    def test_row_rank_takes_the_smallest_of_each_row(self, scope):
        """Down a schedule, rows of very different size keep as many entries, to within one."""
        rng = np.random.default_rng(0)
        weights = rng.normal(size=(30, 8)) * rng.lognormal(0, 3, size=(30, 1))
        mask, sizes = Mask.dense(30, 8), {"join": (240,), "user_item": (80, 160)}[scope]
        for keep in targets_by_rate(sizes, 0.3, 5):
            kept = np.where(mask.kept, weights, 0)  # as a trained ticket has them
            mask = prune(mask, CRITERIA["row_rank"](kept, 0), keep, users=10, scope=scope)
            counts = mask.kept.sum(1)
            for side in (counts[:10], counts[10:]) if scope == "user_item" else (counts,):
                assert np.ptp(side) <= 1
            for row, alive in zip(np.abs(weights), mask.kept, strict=True):
                assert alive.all() or not alive.any() or row[alive].min() > row[~alive].max()

    def test_the_settings_name_every_criterion(self):
        assert set(config.CRITERIA) == set(CRITERIA)

    def test_random_masks_are_even(self):
        """Half of 40,000 entries: each row of 200 keeps about half, none far off."""
        about = {"seed": 1, "shape": [200, 200], "users": 100, "scope": "join", "keep": [20_000]}
        mask = drawn(about)
        assert mask.digest == drawn(about).digest != drawn({**about, "seed": 2}).digest
        for counts in (mask.kept.sum(0), mask.kept.sum(1)):
            assert abs(counts - 100).max() < 40  # over five standard deviations (7.1)

    def test_all_have_one_shape(self):
        weights = np.random.default_rng(0).normal(size=(5, 3))
        for criterion in CRITERIA.values():
            assert criterion(weights, 0).shape == (5, 3)


def test_row_floor_leaves_each_row_an_entry_and_is_magnitude_otherwise():
    weights = np.array([[5.0, -6.0, 4.0], [0.1, 0.2, -0.3], [1.0, 1.0, 0.5]])
    scores = CRITERIA["row_floor"](weights, 0)
    left = prune(Mask.dense(3, 3), scores, (4,), users=1).kept
    assert left.tolist() == [[True, True, False], [False, False, True], [True, False, False]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_rank_of_equal_magnitudes_goes_by_column(dtype):
    """In rows as wide as those of a real table: sorts of few entries are stable by themselves."""
    rng = np.random.default_rng(0)
    weights = (rng.integers(-2, 3, (20, 64)) * (rng.random((20, 64)) < 0.5)).astype(dtype)
    for row, ranks in zip(weights, row_rank(weights, 0), strict=True):
        by_hand = sorted(range(64), key=lambda c: (abs(row[c]), c))
        assert np.argsort(ranks).tolist() == by_hand

"""Statistics on DataFrames, beside scipy's and beside numbers worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from lthnb import stats


@pytest.fixture
def frame():
    """Two searches of three rounds, and one whose round 0 is not among the rows."""
    rows = [("a", 0, 0, 0.20), ("a", 0, 1, 0.22), ("a", 0, 2, 0.10)]
    rows += [("b", 1, 0, 0.40), ("b", 1, 1, 0.40), ("c", 2, 1, 0.30)]
    return pd.DataFrame(rows, columns=["search", "seed", "round", "recall@20"])


def test_each_row_stands_beside_round_0_of_its_own_search(frame):
    found = stats.to_dense(frame)
    assert found[:5].tolist() == pytest.approx([0, 0.1, -0.5, 0, 0])
    assert np.isnan(found[5])


def test_a_dense_result_of_zero_gives_no_difference(frame):
    frame.loc[0, "recall@20"] = 0.0
    assert stats.to_dense(frame)[:3].isna().all()


def test_rows_are_paired_by_seed_and_never_doubled(frame):
    one, other = frame[frame["round"] == 1], frame[frame["round"] == 0]
    found = stats.beside(one, other, ["seed"])
    assert found["difference"].tolist() == pytest.approx([0.1, 0.0])
    with pytest.raises(pd.errors.MergeError):
        stats.beside(one, frame, ["seed"])


@pytest.mark.parametrize("values", [[0.1, 0.3, 0.2], [-0.02, 0.01, 0.03, 0.0, 0.015]])
def test_interval_and_p_value_are_those_of_scipy(values):
    made = pd.DataFrame({"difference": values, "of": "one"})
    [row] = stats.summary(made, "of").to_dict("records")
    known = scipy_stats.ttest_1samp(values, 0.0)
    assert (row["low"], row["high"]) == pytest.approx(tuple(known.confidence_interval(0.95)))
    assert row["p"] == pytest.approx(known.pvalue)
    assert row["lower"] == pytest.approx(
        scipy_stats.ttest_1samp(values, 0.0, alternative="greater").confidence_interval().low
    )
    assert stats.t95(values) == pytest.approx((row["low"], row["high"]))


@pytest.mark.parametrize("values", [[0.4], [0.1, 0.3]])
def test_fewer_than_three_seeds_have_a_mean_and_nothing_else(values):
    made = pd.DataFrame({"difference": values, "of": "one"})
    [row] = stats.summary(made, "of").to_dict("records")
    assert row["n"] == len(values)
    assert row["mean"] == pytest.approx(np.mean(values))
    assert all(np.isnan(row[name]) for name in ("low", "high", "lower", "p", "detectable"))
    assert stats.t95(values) == pytest.approx((np.mean(values), np.mean(values)))
    assert not stats.non_inferior(pd.Series([row["lower"]])).any()


def test_seeds_that_lack_a_round_leave_the_others_alone(frame):
    made = frame.assign(difference=stats.to_dense(frame))
    found = stats.summary(made, "round").set_index("round")
    assert found["n"].to_dict() == {0: 2, 1: 2, 2: 1}


def test_detectable_difference_is_found_with_a_probability_of_80_percent():
    rng = np.random.default_rng(0)
    drawn = rng.normal(0.0, 0.02, size=(20_000, 5))
    made = pd.DataFrame({"difference": drawn.ravel(), "of": np.repeat(np.arange(20_000), 5)})
    effect = np.sqrt((stats.summary(made[made["of"] < 2_000], "of")["detectable"] ** 2).mean())
    error = drawn.std(axis=1, ddof=1) / np.sqrt(5)
    found = (drawn.mean(axis=1) + effect) / error > scipy_stats.t.ppf(0.975, 4)
    assert found.mean() == pytest.approx(0.8, abs=0.04)


def test_a_summary_corrects_the_p_values_of_its_groups_together():
    rng = np.random.default_rng(0)
    made = pd.DataFrame({"of": np.repeat(range(4), 5), "difference": rng.normal(0.5, 1, 20)})
    found = stats.summary(made, "of")
    assert found["corrected p"].tolist() == stats.holm(found["p"]).tolist()
    assert (found["corrected p"] > found["p"]).any()


def test_holm_multiplies_the_smallest_by_how_many_there_are():
    p = pd.Series([0.01, np.nan, 0.04, 0.03], index=list("abcd"))
    assert stats.holm(p).to_dict() == pytest.approx(
        {"a": 0.03, "b": np.nan, "c": 0.06, "d": 0.06}, nan_ok=True
    )
    assert stats.holm(pd.Series([0.9, 0.8])).max() == 1.0


def test_non_inferior_tolerates_a_loss_of_one_percent():
    assert stats.non_inferior(pd.Series([-0.009, -0.011, np.nan])).tolist() == [True, False, False]

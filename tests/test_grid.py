"""Chapters as rows of the grid."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import lthnb
from lthnb import experiments
from lthnb.config import ConfigError
from lthnb.experiments import names
from lthnb.experiments.grid import SETTINGS, Search, to_record
from lthnb.store.records import COLUMNS


@pytest.fixture(scope="module")
def frame():
    return lthnb.results()


@pytest.mark.parametrize("chapter", experiments.chapters())
def test_rows_are_recorded_rows_each_once(chapter, frame):
    found = experiments.table(chapter)
    assert not found.duplicated(["search", "round", "density"]).any()
    names = ["search", "round", "density", "key"]
    beside = found[names].merge(frame[names], how="left", indicator=True)
    assert (beside["_merge"] == "both").all()
    assert found.attrs["missing"] == len(experiments.missing(chapter))


def test_existence_on_yelp2018_is_the_search_of_table_2(frame):
    found = experiments.table("existence", dataset="yelp2018", protocol="paper", backbone="mf")
    assert found["round"].tolist() == list(range(31))
    assert found["search"].nunique() == 1
    assert np.allclose(found["density"], 0.9 ** found["round"], rtol=1e-4)


def test_baselines_hold_each_method_at_the_same_densities():
    found = experiments.table("baselines", dataset="movielens", backbone="mf", l2=1e-4)
    found = found[found["batch_size"] == 2048]
    assert set(found["method"]) == {"imp", "omp", "random"}
    few = [1.0, 0.64, 0.4096, 0.2097, 0.1074]
    for method in ("omp", "random"):
        rows = found[found["method"] == method]
        assert sorted(rows["density"].round(4).unique(), reverse=True) == pytest.approx(few, 1e-3)


def test_more_seeds_are_wanted_of_what_the_claims_on_axes_compare_alone():
    every = [one for one in to_record("bases") if one.backbone == "mf"]
    methods = {seed: {one.method for one in every if one.seed == seed} for seed in (4, 9)}
    assert methods[9] == {"imp", "cut", "finetune"} < methods[4]
    assert max(one.seed for one in every) == 9


def test_tuned_l2_is_the_best_on_the_validation_set_and_not_on_test(frame):
    settings = {"protocol": "validated", "embedding_size": 32, "learning_rate": 1e-3}
    settings |= {
        "optimizer": "adam",
        "batch_size": 2048,
        "max_epochs": 1000,
        "patience": 100,
        "evaluate_every": 1,
    }
    one = Search("movielens", "mf", {**settings, "l2": "tuned"}, "imp", 0)
    rows = {"l2": [1e-4] * 3 + [1e-2] * 3 + [1.0], "valid_recall@20": [0.2] * 3 + [0.3] * 3 + [0.9]}
    rows |= {"recall@20": [0.9] * 3 + [0.1] * 4, "method": ["dense"] * 7}
    rows |= {"seed": [0, 1, 2, 0, 1, 2, 0]}
    made = pd.DataFrame(rows).assign(dataset="movielens", backbone="mf", **settings)
    made = made.assign(split="random-0", noise=None)
    [found] = experiments.tuned([one], made)
    assert found.settings["l2"] == 1e-2  # at 1.0 there is one seed alone
    for change in ({"split_seed": 1}, {"noise": "uniform-0.1"}):
        [other] = experiments.tuned([replace(one, **change)], made)
        assert np.isnan(other.settings["l2"])


def test_more_seeds_of_two_values_do_not_hide_the_others():
    tried = [(l2, seed) for l2 in (1e-4, 1e-3, 1e-2) for seed in range(10 if l2 < 1e-2 else 5)]
    dense = pd.DataFrame(tried, columns=["l2", "seed"])
    dense["valid_recall@20"] = dense["l2"] + 0.1 * (dense["seed"] > 4)
    assert experiments.best_l2(dense) == 1e-2


def test_main_figure_has_the_smallest_batches_of_each_data_set_and_names_larger_ones():
    sizes = [("a", 2048), ("a", 16384), ("b", 16384), ("b", 65536)]
    rows = pd.DataFrame(sizes, columns=["dataset", "batch_size"])
    rows = rows.assign(backbone="mf", method="imp", rewind="rewind", protocol="validated")
    found = names.named(experiments.main(rows))
    assert found["batch_size"].tolist() == [2048, 16384]
    assert found["data"].tolist() == ["a", "b, batches of 16,384"]


def test_dense_models_that_are_there_are_not_wanted_again(frame):
    wanted = experiments.missing("rates")
    on = ["dataset", "backbone", *SETTINGS, "seed"]
    there = frame.loc[frame["method"] == "dense", on].drop_duplicates()
    dense = wanted[wanted["round"] == 0]
    assert not len(dense.merge(there, on=on))


def test_every_run_but_one_stands_in_a_chapter(frame):
    """The one is a dense model that only served to see what another seed does."""
    shown = {key for chapter in experiments.chapters() for key in experiments.table(chapter)["key"]}
    shown |= set(frame.loc[frame["key"].isin(shown), "mask_from"])  # PEP's thresholds, say
    assert len(set(frame["key"]) - shown) == 1


def test_a_search_by_other_densities_is_another(frame):
    pairs = [one for one in to_record("interactions") if one.method == "pairs"]
    [one, *_] = experiments.tuned([pairs[0]], frame)
    assert len(experiments.rows_of([one], frame)) == 5
    less = replace(one, densities=one.densities[1:])
    assert experiments.rows_of([less], frame).empty
    assert experiments.complete([one, less], frame) == [True, False]


def test_own_runs_on_other_data_of_the_same_name_are_not_the_chapters(tmp_path, monkeypatch):
    """Ordinary tinkering: other tables, options and densities."""
    monkeypatch.setenv("LTHNB_STORE", str(tmp_path))
    short = {"seeds": 1, "epochs": 1, "embedding_size": 4, "progress": False}
    for threshold in (2, 4):
        data = lthnb.load("movielens", threshold=threshold)
        lthnb.imp(data, densities=[0.5, threshold / 10], **short)
    less = lthnb.prune_interactions(data, epochs=1, embedding_size=4, progress=False)
    lthnb.imp(less, rounds=1, **short)
    for chapter in ("existence", "interactions"):
        assert len(experiments.missing(chapter, live=True)) == len(experiments.missing(chapter))


def test_unknown_chapter_and_column_are_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="Did you mean 'existence'"):
        experiments.table("existance")
    with pytest.raises(ConfigError, match="Did you mean 'dataset'"):
        experiments.table("existence", datset="lastfm")


def test_results_page_explains_every_column(root):
    page = (root / "results" / "README.md").read_text(encoding="utf-8")
    for about in COLUMNS.values():
        for name, (kind, meaning) in about.items():
            assert f"| `{name}` | {kind} | {meaning} |\n" in page
    assert [n for n in lthnb.results(nested=True).columns if f"`{n}`" not in page] == []


def test_example_of_the_results_page_has_one_row_a_seed(root):
    page = (root / "results" / "README.md").read_text(encoding="utf-8")
    there = {}
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], there)
    counted = there["imp"].groupby("round")["seed"].agg(["count", "nunique"])
    assert (counted["count"] == counted["nunique"]).all()
    assert counted.index.tolist() == list(range(13))

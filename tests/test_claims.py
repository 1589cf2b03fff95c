"""Verdicts by one rule, on numbers whose answer is known; and the findings that are kept."""

import io

import numpy as np
import pandas as pd
import pytest

from lthnb.experiments import beyond, claims, selection, verdicts


def values(*numbers):
    return pd.Series(numbers, dtype=float)


@pytest.mark.parametrize(
    ("given", "bound", "at_least", "said"),
    [
        (values(0.10, 0.11, 0.12), 0.0, True, verdicts.SUPPORTED),
        (values(-0.10, -0.11, -0.12), 0.0, True, verdicts.CONTRADICTED),
        (values(-0.10, 0.20, 0.12), 0.0, True, verdicts.UNDECIDED),
        (values(0.10, 0.11, 0.12), 0.0, False, verdicts.CONTRADICTED),
        (values(0.3), 0.0, True, verdicts.ONE_RUN),
        (values(0.3, 0.31), 0.0, True, "cannot be tested with 2 seeds"),
        (values(0.23, 0.23, 0.23), 0.0, True, "cannot be tested with 3 seeds"),
        (values(), 0.0, True, verdicts.NOT_RUN),
        (values(-0.004, -0.005, -0.006), -0.01, True, verdicts.SUPPORTED),
        (values(-0.05, -0.052, -0.051), -0.01, True, verdicts.CONTRADICTED),
        # Two-sided it would hold the bound, one-sided it does not; and one-sided it does.
        (values(-0.001, 0.001, -0.011, 0.009), -0.01, True, verdicts.UNDECIDED),
        (values(0.000, 0.006, -0.004, 0.004, -0.006), -0.0075, True, verdicts.SUPPORTED),
    ],
)
def test_verdict_follows_from_the_interval_and_from_nothing_else(given, bound, at_least, said):
    assert verdicts.verdict(given, bound, at_least)["verdict"] == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (values(0.01, -0.01, 0.012), verdicts.SUPPORTED),
        (values(0.01, -0.01, 0.06), verdicts.UNDECIDED),
        (values(0.10, 0.11, 0.12), verdicts.CONTRADICTED),
        (values(0.0, 0.0, 0.0), "cannot be tested with 3 seeds"),
        (values(0.01), verdicts.ONE_RUN),
    ],
)
def test_the_same_is_what_lies_within_a_distance_on_both_sides(given, said):
    assert verdicts.same(given, 0.05)["verdict"] == said


@pytest.fixture
def rows():
    """Three seeds; at density 0.5 all are equal to dense on the validation set, at 0.25 two win and
    one falls apart; on test 0.5 loses a little."""
    made = []
    for seed in range(3):
        for number, valid, test, epoch in (
            (0, 0.20, 0.20, 9),
            (1, 0.20 + 0.0001 * seed, 0.199, 5),
            (2, 0.30 if seed else 0.05, 0.18, 12),
        ):
            made.append((f"s{seed}", seed, number, 0.5**number, valid, test, epoch))
    names = ["search", "seed", "round", "density", "valid_recall@20", "recall@20", "best_epoch"]
    frame = pd.DataFrame(made, columns=names)
    frame = frame.assign(dataset="d", backbone="mf", protocol="validated")
    [(_, found)] = selection.by_setting(frame)
    return found


def test_density_is_chosen_on_the_validation_set_and_judged_on_test(rows):
    found = selection.sparsest(rows)
    assert set(found["round"]) == {1}  # 0.25 has the higher mean, and is not sure of it
    assert found["difference"].tolist() == pytest.approx([-0.005] * 3)


def test_without_tickets_none_is_selected_and_the_columns_are_the_same(rows):
    rows = rows.assign(batch_size=2048)
    some = selection.selected(rows)
    assert len(some) == 3
    for less in (rows[:0], rows[rows["round"] == 0]):
        none = selection.selected(less)
        assert none.empty
        assert set(none.columns) == set(some.columns)


def test_best_ticket_of_each_seed_is_chosen_on_the_validation_set(rows):
    assert selection.best(rows)["round"].to_dict() == {0: 1, 1: 2, 2: 2}


def test_winning_by_definition_needs_no_more_epochs(rows):
    assert selection.highest_sparsity(rows).to_dict() == {0: 0.5, 1: 0.5, 2: 0.5}


def test_of_fewer_pairs_criterion_and_λ_are_chosen_on_the_validation_set():
    """Of three ways one is best on valid and worse on test; a fourth had no choice of λ."""
    made = []
    for criterion, l2, valid, test in (
        ("loss", 0.1, 0.22, 0.18),
        ("loss", 0.01, 0.21, 0.25),
        ("user-loss", 0.1, 0.19, 0.25),
        ("rare", 0.1, 0.30, 0.30),
        ("random", 0.1, 0.30, 0.30),
    ):
        for seed in range(3):
            whole = 0.20 if l2 == 0.1 else 0.15  # of all pairs λ = 0.1 is best
            search = f"{criterion} {l2} {seed}"
            made.append((search, criterion, l2, seed, 0, 100, whole, whole))
            made.append((search, criterion, l2, seed, 1, 80, valid, test + 0.001 * seed))
    names = ["search", "criterion", "l2", "seed", "round", "train_pairs", "valid_recall@20"]
    frame = pd.DataFrame(made, columns=[*names, "recall@20"])
    frame = frame.assign(dataset="d", backbone="mf", protocol="validated", method="pairs")
    frame = frame.assign(noise=None, policy=None, batch_size=2048, key=frame.index.map(str))
    chapters = {"interactions": frame, "interactions-l2": frame[frame["criterion"] != "rare"]}
    [found] = beyond.fewer_pairs(lambda chapter: chapters.get(chapter, frame[:0]))
    assert (found["claim"], found["about"]) == ("pairs-fewer", "loss, λ = 0.1")
    assert found["estimate"] == pytest.approx(0.181 / 0.2 - 1)
    assert found["verdict"] == verdicts.CONTRADICTED


def test_a_sparse_ticket_has_its_own_λ_and_stands_beside_the_tuned_dense_model():
    """λ = 0.1 is best for the dense model, 0.01 for tickets; those of more than half do not count;
    a table of half the columns is better than the ticket."""
    made = []
    for l2, dense, half in ((0.1, 0.20, 0.10), (0.01, 0.15, 0.18)):
        for seed in range(3):
            found = {0: (1.0, dense), 1: (0.8, 0.30), 2: (0.51, half), 3: (0.2, half - 0.05)}
            for number, (density, valid) in found.items():
                made.append(
                    (f"{l2} {seed}", l2, seed, number, density, valid, valid + 0.0001 * seed)
                )
    names = ["search", "l2", "seed", "round", "density", "valid_recall@20", "recall@20"]
    frame = pd.DataFrame(made, columns=names).assign(dataset="d", backbone="mf", method="imp")
    frame = frame.assign(protocol="validated", batch_size=2048, key=frame.index.map(str))
    frame["embedding_size"] = 32
    small = frame[frame["round"] == 0].assign(embedding_size=16, method="dense")
    chapters = {"bases-l2": frame, "tuned": frame[frame["l2"] == 0.1], "narrow": small}
    read = chapters.get
    [sparse], [narrow] = beyond.sparse(read), beyond.narrow(read)
    assert (sparse["claim"], sparse["about"], sparse["density"]) == (
        "sparse-ticket",
        "λ = 0.01",
        0.51,
    )
    assert sparse["estimate"] == pytest.approx(0.18 / 0.20 - 1, abs=1e-4)
    assert narrow["claim"] == "ticket-to-narrow"
    assert narrow["estimate"] == pytest.approx(0.10 / 0.20 - 1, abs=1e-3)


def test_a_search_that_has_no_ticket_yet_says_nothing(monkeypatch, found):
    real = claims.table

    def begun(chapter, **how):
        rows = real(chapter, **how)
        more = rows[(rows["round"] == 0) & (rows["method"] == "imp")].assign(method="random")
        more = more.assign(search="begun", backbone="mf", dataset="new")
        return pd.concat([rows, more.head(1)])

    monkeypatch.setattr(claims, "table", begun)
    assert len(claims.findings()) == len(found)


@pytest.fixture(scope="module")
def found():
    return claims.findings()


def test_findings_that_are_kept_follow_from_the_recorded_runs(root, found):
    """`python -m lthnb results findings` makes them; look at the difference before you commit."""
    text = (root / "results" / "findings.csv").read_text(encoding="utf-8")
    kept = pd.read_csv(io.StringIO(text))
    numbers = ["density", "estimate", "low", "high", "n"]
    assert [*kept] == [*found] == verdicts.COLUMNS
    for name in {*verdicts.COLUMNS} - {*numbers}:
        assert kept[name].fillna("").tolist() == found[name].fillna("").tolist(), name
    for name in numbers:
        assert np.allclose(kept[name], found[name], atol=1e-6, equal_nan=True), name


def test_where_ndcg_is_recall_the_verdicts_by_either_are_the_same(monkeypatch):
    real = claims.table

    def alike(chapter, **how):
        rows = real(chapter, **how)
        return rows.assign(**{"ndcg@20": rows["recall@20"]})

    monkeypatch.setattr(claims, "table", alike)
    monkeypatch.setattr(claims, "CLAIMS", (claims.existence, claims.omp))
    found = claims.findings()
    judged = (found["unit"] == verdicts.DIFFERENCE) & (found["protocol"] == "validated")
    assert judged.any()
    assert not judged.all()
    assert (found["by ndcg"].notna() == judged).all()
    assert (found.loc[judged, "by ndcg"] == found.loc[judged, "verdict"]).all()


def test_no_verdict_comes_from_fewer_than_three_seeds(found):
    decided = found["verdict"].isin([verdicts.SUPPORTED, verdicts.CONTRADICTED, verdicts.UNDECIDED])
    assert (found.loc[decided, "n"] >= 3).all()
    assert set(found.loc[found["n"] == 1, "verdict"]) <= {verdicts.ONE_RUN, verdicts.NOT_APPLICABLE}


def test_every_printed_cell_has_its_row():
    found = claims.cells()
    assert len(found[found["table"] == 2]) == len(found[found["table"] == 3]) == 48
    ran = found[found["n"] > 0]
    assert len(ran) == 8  # MF on Yelp2018, one run
    assert (ran["difference"].abs() < 0.002).all()


def test_findings_are_put_in_words(monkeypatch):
    rows = [
        ("existence", "d", "validated", "", 0.41, 0.02, 0.003, 0.037, "supported"),
        ("existence", "e", "validated", "", 0.41, -0.02, -0.03, -0.01, "contradicted"),
        ("existence", "f", "validated", "", 0.41, 0.1, np.nan, np.nan, "one run only"),
        ("existence", "d", "paper", "", 0.2, 0.5, 0.4, 0.6, "supported"),
        ("better", "d", "validated", "to reinit", np.nan, -0.1, -0.2, -0.05, "supported"),
        ("better", "d", "validated", "to continue", np.nan, 0.1, -0.2, 0.4, "undecided"),
    ]
    names = ["claim", "dataset", "protocol", "about", "density", "estimate", "low", "high"]
    kept = pd.DataFrame(rows, columns=[*names, "verdict"]).assign(backbone="mf", n=3)
    monkeypatch.setattr(claims, "recorded", lambda *names: kept[kept["claim"].isin(names)])
    assert claims.number("existence", "d") == "+2.0 % (+0.3 to +3.7; n = 3) at 41 % of the entries"
    assert claims.number("better", "d", about="reinit") == "−10.0 % (−20.0 to −5.0; n = 3)"
    assert claims.count("existence", "better") == "2 of 4"


def test_readme_shows_the_findings(root):
    """Where this fails, `python -m lthnb results findings` writes it anew."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    shown = readme.partition(claims.BEGIN)[2].partition(claims.END)[0].strip()
    assert shown == claims.overview(claims.recorded())

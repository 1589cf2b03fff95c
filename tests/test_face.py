"""What one holds in a notebook: searches and tickets."""

import json
import os
import re
import signal
import threading
import time

import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from toys import PATIENCE, ROOT, environment, toy_data

import lthnb
from lthnb.config import ConfigError, LthnbError
from lthnb.control import Control
from lthnb.data import DataError
from lthnb.kernels.ranking import evaluate
from lthnb.lottery import Criterion
from lthnb.packing import PackingError, pack_labels, unpack_labels
from lthnb.store.runs import Store

SMALL = {"rounds": 2, "rate": 0.5, "seeds": 2, "epochs": 4, "patience": 4, "embedding_size": 8}
SMALL |= {"learning_rate": 2e-2, "batch_size": 64, "progress": False}

README = (ROOT / "README.md").read_text(encoding="utf-8")
[LINES] = re.findall(r"```python\n(import lthnb\n.*?)```", README, re.DOTALL)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """An empty store, and no recorded runs."""
    monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("LTHNB_RESULTS", str(tmp_path / "results"))
    return tmp_path / "store"


def ratings(path, users=60, items=45):
    """A table of ratings: users 1 to `users`, some ratings below 4."""
    rng = np.random.default_rng(0)
    rows = [
        (user, 100 + item, 5 if (user + item) % 2 == 0 else rng.integers(1, 6))
        for user in range(1, users + 1)
        for item in rng.choice(items, 20, replace=False)
    ]
    pd.DataFrame(rows, columns=["userId", "movieId", "rating"]).to_csv(path, index=False)


def test_lines_of_the_readme_run_as_printed_on_a_table(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ratings(tmp_path / "ratings.csv")
    there = {}
    exec(LINES, there)
    search, ticket = there["search"], there["ticket"]
    assert len(search.table) == 27
    assert list(search.table.columns[:5]) == ["round", "density", "seed", "recall@20", "ndcg@20"]
    assert search.table["key"].is_unique
    kept = sorted(search.table["density"].round(2).unique())
    assert kept == pytest.approx([0.8**n for n in range(8, -1, -1)], abs=0.01)
    one, other = ticket.recommend("42", n=10), lthnb.open("ticket.safetensors").recommend("42")
    assert one["item"].tolist() == other["item"].tolist()
    data = there["data"]
    has = data.item_labels[data.known[data.user_row(42)].indices]
    assert not set(has) & set(one["item"])


@pytest.mark.slow
def test_lines_of_the_readme_run_as_printed_on_movielens(tmp_path, monkeypatch):
    """Beside the recorded runs, which are not trained again."""
    monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    load = 'lthnb.load("ratings.csv", user="userId", item="movieId", rating="rating", threshold=4)'
    assert load in LINES
    there = {}
    exec(LINES.replace(load, 'lthnb.load("movielens")'), there)
    assert set(there["search"].table["key"]) <= set(lthnb.results()["key"])
    found = lthnb.open("ticket.safetensors").recommend("42")
    assert found["item"].tolist() == there["ticket"].recommend("42")["item"].tolist()


def test_movielens_is_searched_and_recommends_by_title(store):
    data = lthnb.load("movielens")
    search = lthnb.imp(data, rounds=1, rate=0.5, seeds=1, epochs=3, patience=3, progress=False)
    found = search.best().recommend("42", n=10)
    assert len(found) == 10
    assert {"item", "score", "title"} <= set(found.columns)


def test_search_trains_nothing_twice(store):
    data = toy_data()
    first = lthnb.imp(data, **SMALL)
    paths = {path: path.stat().st_mtime_ns for path in store.rglob("row.json")}
    second = lthnb.imp(data, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in store.rglob("row.json")} == paths
    pd.testing.assert_frame_equal(first.table, second.table)


def test_live_results_are_the_rows_of_the_search(store):
    search = lthnb.imp(toy_data(), **SMALL)
    frame = lthnb.results(live=True)
    assert frame["live"].all()
    found = frame[frame["method"] == "imp"].sort_values(["seed", "round"])
    assert found["key"].tolist() == search.table.sort_values(["seed", "round"])["key"].tolist()
    assert set(frame["method"]) == {"imp", "dense"}


@pytest.mark.parametrize("find", [lthnb.imp, lthnb.omp, lthnb.random_pruning])
def test_finders_come_by_the_same_densities(find, store):
    table = find(toy_data(), **SMALL).table
    assert sorted(table["density"].round(2).unique()) == [0.25, 0.5, 1.0]
    assert table.groupby("seed")["density"].count().tolist() == [3, 3]


def test_best_is_the_sparsest_density_that_is_non_inferior_and_its_best_seed(store, monkeypatch):
    search = lthnb.imp(toy_data(), **{**SMALL, "seeds": 3})
    table = search.table.copy()
    dense = np.array([0.20, 0.21, 0.22])
    for number, ratio in ((0, [1, 1, 1]), (1, [1.01, 1.02, 1.01]), (2, [1.2, 0.7, 1.2])):
        rows = table["round"] == number
        table.loc[rows, "valid_recall@20"] = dense * ratio
    monkeypatch.setitem(vars(search), "table", table)
    chosen = search.best()
    assert chosen.density == pytest.approx(0.5, abs=0.01)  # at 0.25 the mean is higher, not sure
    assert chosen.about["seed"] == 2
    assert "non-inferior" in chosen.about["chosen"]
    assert search.summary["non_inferior"].tolist() == [True, True, False]


def test_with_one_seed_there_is_no_verdict_and_the_best_mean_is_taken(store):
    search = lthnb.imp(toy_data(), **{**SMALL, "seeds": 1})
    assert search.summary["low"].isna().all()
    assert not search.summary["non_inferior"].any()
    tickets = search.table[search.table["round"] > 0]
    best = tickets.loc[tickets["valid_recall@20"].idxmax()]
    assert search.best().about["key"] == best["key"]
    assert "best mean" in search.best().about["chosen"]


def test_own_criterion_decides_what_is_pruned(store):
    def largest(weights, seed):
        return -np.abs(weights)

    data = toy_data()
    own = lthnb.imp(data, **{**SMALL, "rounds": 1, "seeds": 1}, criterion=largest)
    usual = lthnb.imp(data, **{**SMALL, "rounds": 1, "seeds": 1})
    dense = usual.rounds[0][0].run.weights()
    kept, other = (one.rounds[0][1].run.ensure_mask().kept for one in (own, usual))
    assert np.abs(dense[kept]).max() <= np.abs(dense[~kept]).min()
    assert not (kept & other).any()
    assert own.table["criterion"].iloc[1].startswith("largest-")


def test_own_criterion_is_refused_where_masks_are_random(store):
    def largest(weights, seed):
        return -np.abs(weights)

    expected = r"criterion: found 'largest-.*' with method 'rp', expected 'magnitude': random"
    with pytest.raises(ConfigError, match=expected):
        lthnb.random_pruning(toy_data(), **SMALL, criterion=largest)
    assert not list(store.glob("runs/*"))


POWER = 2.0  # what a criterion reads from outside


def test_own_criterion_is_another_where_code_or_what_it_reads_differs(monkeypatch):
    both = (lambda weights, seed: abs(weights), lambda weights, seed: -abs(weights))
    assert len({Criterion.of(one).name for one in both}) == 2

    def power(exponent):
        return lambda weights, seed: np.array([abs(row) ** (exponent * POWER) for row in weights])

    first, again, other = (Criterion.of(power(exponent)).name for exponent in (2, 2, 3))
    assert first == again != other
    monkeypatch.setattr(f"{__name__}.POWER", -1.0)
    assert Criterion.of(power(2)).name != first
    calls = lambda weights, seed: power(2)(weights, seed)  # noqa: E731
    assert Criterion.of(calls).name != Criterion.of(calls).name  # of which nothing is known


def test_evaluate_refuses_what_it_cannot_judge(store):
    data = toy_data()
    users, items = np.ones((data.users, 2)), np.ones((data.items, 2))
    for given, said in (
        ((users, items, data, "train"), "part: found 'train', expected one of test, valid"),
        ((users, items, "toy"), "evaluate: found a str, expected data with a test part"),
        ((users, items * np.nan, data), "found a vector that is not finite"),
    ):
        with pytest.raises(LthnbError, match=said):
            lthnb.evaluate(*given)


def test_rounded_file_says_what_its_values_reach(store, tmp_path):
    data = toy_data()
    ticket = lthnb.imp(data, **{**SMALL, "rounds": 1, "seeds": 1}).best()
    opened = lthnb.open(ticket.save(tmp_path / "t", values="int8"))
    users, items = np.split(opened.vectors.numpy(), [data.users])
    assert opened.about["recall@20"] == lthnb.evaluate(users, items, data)["recall@20"]
    found = lthnb.evaluate(users, items, data, "valid")["recall@20"]
    assert opened.about["valid_recall@20"] == found


def test_criterion_that_is_no_function_is_never_taken_for_one_before(store):
    class Hidden:
        def __call__(self, weights, seed):
            return abs(weights)

    settings = {**SMALL, "rounds": 1, "seeds": 1, "criterion": Hidden()}
    tables = [lthnb.imp(toy_data(), **settings).table for _ in range(2)]
    assert tables[0]["criterion"].iloc[1] != tables[1]["criterion"].iloc[1]
    assert tables[0]["key"].tolist() == tables[1]["key"].tolist()  # the same mask, trained once


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"store": "a", "control": Control(Store("b"))}, "found both `store` and `control`"),
        ({"round": 3}, "Did you mean 'rounds'"),
        ({"seeds": [0, 0]}, "each once"),
        ({"rate": 1.5}, "rate"),
        ({"criterion": "magnitud"}, "Did you mean 'magnitude'"),
    ],
)
def test_wrong_settings_are_refused_by_name(setting, message, store):
    with pytest.raises(ConfigError, match=message):
        lthnb.imp(toy_data(), **{**SMALL, **setting})


@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
def test_saved_ticket_recommends_the_same_to_everybody(backbone, store, tmp_path):
    data = toy_data()
    ticket = lthnb.imp(data, backbone, **{**SMALL, "seeds": 1}).best()
    opened = lthnb.open(ticket.save(tmp_path / "ticket.safetensors"))
    assert np.array_equal(opened.table, ticket.table)
    for user in data.user_labels:
        one, other = ticket.recommend(user, n=5), opened.recommend(user, n=5)
        pd.testing.assert_frame_equal(one, other)


def test_ticket_of_a_search_has_the_recall_of_its_run(store):
    data = toy_data()
    ticket = lthnb.imp(data, **{**SMALL, "seeds": 1}).best()
    vectors = ticket.vectors.numpy()
    found = lthnb.evaluate(vectors[: data.users], vectors[data.users :], data)
    assert found["recall@20"] == pytest.approx(ticket.about["recall@20"], rel=1e-12)


def test_rounded_values_are_within_half_a_step(store, tmp_path):
    ticket = lthnb.imp(toy_data(), **{**SMALL, "seeds": 1}).best()
    step = np.abs(ticket.table).max(1, keepdims=True) / 127
    opened = lthnb.open(ticket.save(tmp_path / "t", values="int8"))
    assert (np.abs(opened.table - ticket.table) <= step / 2 * 1.0001).all()
    assert np.array_equal(opened.kept, ticket.kept)
    half = lthnb.open(ticket.save(tmp_path / "t", values="float16"))
    assert np.array_equal(half.table, ticket.table.astype(np.float16).astype(np.float32))
    row = Store().find(ticket.about["key"]).row
    assert row["int8_recall@20"] == evaluate(opened.vectors, ticket.data, "test").mean("recall", 20)


@pytest.mark.parametrize(
    "labels",
    [
        *([0, 1, 2], [300, 0, 70000], [-5, 2**40, 1], [2**63, 0, 1], [0.5, 1e300, 2.0]),
        *(["", "b\nc", "é"], ["a", "\ud800", "x" * 40]),
    ],
)
def test_labels_read_back_equal(labels):
    labels = np.array(labels)
    found = unpack_labels(pack_labels("users", labels))
    assert found.dtype == labels.dtype
    assert np.array_equal(found, labels)


def test_altered_ticket_is_refused(store, tmp_path):
    path = lthnb.imp(toy_data(), **{**SMALL, "seeds": 1}).best().save(tmp_path / "ticket")
    content = path.read_bytes()
    for at in range(50, len(content), len(content) // 20):
        path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
        with pytest.raises(PackingError, match="ticket"):
            lthnb.open(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(PackingError):
        lthnb.open(path)


def test_unknown_user_is_named_with_the_nearest(store):
    ticket = lthnb.imp(toy_data(), **{**SMALL, "seeds": 1}).best()
    with pytest.raises(DataError, match="no user 'nobody'"):
        ticket.recommend("nobody")
    with pytest.raises(DataError, match="n: found 0"):
        ticket.recommend(1, n=0)


def test_evaluate_refuses_other_shapes():
    data = toy_data()
    with pytest.raises(DataError, match="a row for each label"):
        lthnb.evaluate(torch.ones(3, 2), torch.ones(data.items, 2), data)


def test_interrupted_search_goes_on_in_the_same_cell(tmp_path):
    """In a kernel: the cell is interrupted, says so in a line, and goes on when it is run again."""
    source = (
        "search = lthnb.imp(toy_data(users=300, items=200), rounds=3, rate=0.5, seeds=1, "
        "epochs=400, patience=400, batch_size=32)\nlen(search.table)"
    )
    first = "import os, lthnb\nfrom pathlib import Path\nfrom toys import toy_data\n"
    first += f"Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))"
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(text) for text in (first, source, source)]
    )
    store = tmp_path / "store"
    client = nbclient.NotebookClient(notebook, timeout=PATIENCE, allow_errors=True)
    with client.setup_kernel(env=environment(tmp_path)):
        client.execute_cell(notebook.cells[0], 0)
        stop = threading.Thread(target=interrupt_when_trained, args=(store,))
        stop.start()
        client.execute_cell(notebook.cells[1], 1)
        stop.join()
        client.execute_cell(notebook.cells[2], 2)
    [error] = [one for one in notebook.cells[1].outputs if one.output_type == "error"]
    assert error.ename == "Stopped"
    assert len(error.traceback) == 1
    assert "run the same command again to go on" in error.traceback[0]
    results = [one for one in notebook.cells[2].outputs if one.output_type == "execute_result"]
    assert results[0].data["text/plain"] == "4"
    rows = [json.loads(path.read_text()) for path in store.glob("runs/*/row.json")]
    assert len(rows) == 4


def interrupt_when_trained(store):
    """Interrupt the kernel once the dense model is trained."""
    ends = time.monotonic() + PATIENCE
    while not list(store.glob("runs/*/row.json")) and time.monotonic() < ends:
        time.sleep(0.05)
    os.kill(int((store.parent / "pid").read_text()), signal.SIGINT)

"""Searches over training pairs."""

import numpy as np
import pytest
from toys import count_trainings, quiet, toy_data, toy_spec

import lthnb
from lthnb.config import ConfigError, Schedule
from lthnb.data import DataError
from lthnb.experiments.replays import replay
from lthnb.finders import pairs
from lthnb.lottery import rounds_of, train_dense
from lthnb.sampling import Sampler
from lthnb.store import adding
from lthnb.store.runs import Store
from lthnb.thinning import CRITERIA, thinned, thinned_search

DATA = toy_data(50, 40)
SPEC = toy_spec(epochs=6, patience=6)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", results=None)


@pytest.fixture
def dense(store):
    return train_dense(SPEC, DATA, 0, quiet(store))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_rounds_keep_fewer_and_fewer_pairs_and_all_of_the_table(dense, store, criterion):
    rounds = list(thinned_search(dense, criterion, (0.8, 0.5), 0))
    assert [one.number for one in rounds] == [0, 1, 2]
    whole = DATA.train.nnz
    kept = [one.run.data.train for one in rounds]
    assert [part.nnz for part in kept] == [whole, round(0.8 * whole), round(0.5 * whole)]
    assert (kept[2] > kept[1]).nnz == (kept[1] > kept[0]).nnz == 0
    for one in rounds[1:]:
        data = one.run.data
        assert one.row["density"] == 1
        assert (data.known != DATA.known).nnz == 0
        assert data.user_degree.min() >= 1
        assert one.run.init == dense.init
    rows = [row for row in store.searches() if row["method"] == "pairs"]
    assert [row["criterion"] for row in rows] == [criterion] * 3
    assert len({row["search"] for row in rows}) == 1


def test_of_a_ticket_the_mask_stays(store):
    [_, ticket] = rounds_of(Schedule(rate=0.5, rounds=1), SPEC, DATA, quiet(store))
    rounds = list(thinned_search(ticket.run, "random", (0.8,), 0, {"rate": 0.5, "round": 1}))
    assert [one.row["density"] for one in rounds] == [0.5, 0.5]
    assert (rounds[1].run.ensure_mask().kept == ticket.run.ensure_mask().kept).all()
    assert rounds[1].run.init == ticket.run.init
    rows = [row for row in store.searches() if row["method"] == "pairs"]
    assert {(row["density"], row["policy"]) for row in rows} == {(0.5, '{"rate":0.5,"round":1}')}
    for file in (store.folder / "masks").rglob("*.safetensors"):
        file.unlink()  # which is found again on all pairs
    last = rounds[1].run
    assert replay(last.record, last.data, quiet(store)).same_bits


def test_as_a_control_what_is_dropped_may_be_drawn_as_a_negative_and_is_not_ranked(dense, store):
    [_, plain] = (one.run for one in thinned_search(dense, "loss", (0.5,), 0))
    [_, run] = (one.run for one in thinned_search(dense, "loss", (0.5,), 0, {"negatives": True}))
    data = run.data
    assert (data.train != plain.data.train).nnz == 0
    assert data.digest != plain.data.digest
    assert (data.known != DATA.known).nnz == (data.taken != DATA.train).nnz == 0
    users, _, negatives = Sampler.of(data.train, 0, data.positives).draw(0, 4000)
    assert data.dropped[users, negatives].any()
    assert not data.train[users, negatives].any()
    users, _, negatives = Sampler.of(data.train, 0, plain.data.positives).draw(0, 4000)
    assert not plain.data.dropped[users, negatives].any()
    assert {row["policy"] for row in store.searches() if row["key"] == run.key} == {
        '{"negatives":true}'
    }
    assert replay(
        run.record, thinned(DATA, run.record.origin["pairs"], quiet(store)), quiet(store)
    ).same_bits
    assert (data.whole.train != DATA.train).nnz == 0
    assert data.whole.digest == DATA.digest


def test_recorded_they_share_the_list_of_who_was_tested(tmp_path):
    store = Store(tmp_path / "store", tmp_path / "results")
    dense = train_dense(SPEC, DATA, 0, quiet(store))
    rounds = list(thinned_search(dense, "random", (0.8, 0.5), 0))
    adding.add(store, store.own_keys())
    [name] = store.recorded_tables.parts("splits")
    [digests] = store.recorded_tables.part(name)["digests"].to_pylist()
    assert digests == sorted(one.run.data.digest for one in rounds)
    assert list(adding.verify(store.results)) == []
    last = rounds[-1].run.record
    again = store.recorded_tables.find(last.key)
    assert again.hits().means() == last.hits().means()


@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
def test_asked_twice_it_trains_once_and_a_round_is_trained_again(store, monkeypatch, backbone):
    dense = train_dense(toy_spec(backbone, epochs=4, patience=4), DATA, 0, quiet(store))
    keys = count_trainings(monkeypatch)
    first = [one.run for one in thinned_search(dense, "user-loss", (0.8, 0.5), 0)]
    again = [one.run for one in thinned_search(dense, "user-loss", (0.8, 0.5), 0)]
    assert [run.key for run in again] == [run.key for run in first]
    assert len(keys) == 2
    last, about = first[-1], first[-1].record.origin["pairs"]
    for folder in ("masks", "runs"):  # masks, and trained tables
        for file in (store.folder / folder).rglob("*.safetensors"):
            if folder == "masks" or file.name.startswith("weights"):
                file.unlink()
    data = thinned(DATA, about, quiet(store))
    assert data.digest == last.data.digest
    assert replay(last.record, data, quiet(store)).same_bits


def test_the_worst_of_the_round_before_go(dense):
    [_, first, second] = (one.run for one in thinned_search(dense, "user-loss", (0.8, 0.5), 0))
    scores = pairs.in_user(first.data, pairs.losses(first.data, first.outputs().numpy()))
    less = pairs.without(first.data, scores, first.data.train.nnz - second.data.train.nnz)
    assert (less.train != second.data.train).nnz == 0


def test_agreement_and_learning_are_means(dense):
    found = {name: CRITERIA[name](dense, 0) for name in ("user-loss", "agreement", "learning")}
    for scores in found.values():
        assert scores.shape == (DATA.train.nnz,)
        assert 0 <= scores.min() <= scores.max() < 1
    assert np.corrcoef(found["user-loss"], found["agreement"])[0, 1] > 0.5


def test_mistakes_are_said(dense):
    with pytest.raises(ConfigError, match=r"found 'los', expected one of .* Did you mean 'loss'"):
        next(thinned_search(dense, "los", (0.5,), 0))
    [_, one] = thinned_search(dense, "random", (0.8,), 0)
    about = one.run.record.origin["pairs"]
    with pytest.raises(DataError, match=r"found the data .*, expected .*, of which pairs were"):
        thinned(toy_data(50, 40, seed=1), about, quiet(dense.control.store))
    with pytest.raises(ConfigError, match="pairs dropped before, expected none"):
        next(thinned_search(one.run, "random", (0.5,), 0))
    with pytest.raises(ConfigError, match="share: found 1, expected a number between 0 and 1"):
        lthnb.prune_interactions(DATA, share=1)
    for name in ("seeds", "rounds", "rate", "rewind", "densities", "scheduler"):
        with pytest.raises(ConfigError, match=f"found the setting '{name}', which is a search's"):
            lthnb.prune_interactions(DATA, **{name: 2})
    with pytest.raises(ConfigError, match=r"shares: found \(0.5, 0.8\), expected falling numbers"):
        next(thinned_search(dense, "loss", (0.5, 0.8), 0))


def test_face_returns_data_and_says_what_went(store):
    settings = {"embedding_size": 4, "epochs": 6, "patience": 6, "learning_rate": 2e-2}
    settings |= {"batch_size": 64, "progress": False, "store": store.folder}
    data = lthnb.prune_interactions(DATA, share=0.25, **settings)
    gone = data.dropped_pairs
    assert len(gone) == DATA.train.nnz - round(0.75 * DATA.train.nnz)
    assert f"dropped={len(gone):,}" in repr(data)
    pairs_of = set(zip(*DATA.train.nonzero(), strict=True))
    assert set(gone.itertuples(index=False, name=None)) < pairs_of
    search = lthnb.imp(data, rounds=1, seeds=1, **settings)
    ticket = search.best()
    again = lthnb.open(ticket.save(store.folder / "ticket"))
    user = gone["user"].iloc[0]
    shown = set(again.recommend(user, n=DATA.items)["item"])
    assert not shown & set(gone.loc[gone["user"] == user, "item"])
    assert shown == set(ticket.recommend(user, n=DATA.items)["item"])


def test_noise_is_named_and_planted_again(store):
    noisy = pairs.noisy(DATA, "uniform-0.2-0")
    assert noisy.origin["noise"] == "uniform-0.2-0"
    run = train_dense(SPEC, noisy, 0, quiet(store))
    assert run.record.row["noise"] == "uniform-0.2-0"
    assert pairs.noisy(DATA, run.record.row["noise"]).digest == noisy.digest


def test_rounds_say_how_much_of_the_noise_they_found_from_the_store_too(store):
    noisy = pairs.noisy(DATA, "uniform-0.2-0")
    dense = train_dense(SPEC, noisy, 0, quiet(store))
    [_, first] = thinned_search(dense, "user-loss", (0.8,), 0)
    row = first.run.record.row
    planted = noisy.planted.multiply(first.run.data.dropped).nnz / first.run.data.dropped.nnz
    assert row["noise_share"] == pytest.approx(planted)
    assert 0.5 < row["noise_auc"] <= 1
    about = first.run.record.origin["pairs"]
    again = thinned(noisy, {**about, "noise_auc": None}, quiet(store))
    assert again.origin == first.run.data.origin
    assert dense.record.row["noise_auc"] is None
    assert pairs.noisy(DATA, "") is DATA

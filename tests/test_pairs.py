"""Training pairs that could go: their scores, data without them, and noise that is planted."""

import numpy as np
import pytest
from toys import interactions, quiet, toy_data, toy_spec

from lthnb.config import ConfigError
from lthnb.data import DataError, users_of
from lthnb.finders import pairs
from lthnb.kept import outputs_of
from lthnb.lottery import train_dense
from lthnb.store.runs import Store

DATA = toy_data(60, 40)


@pytest.fixture(scope="module")
def noisy():
    """Two groups of users who like two groups of items, and some pairs across; which those are."""
    rng = np.random.default_rng(0)
    same = np.arange(60)[:, None] % 2 == np.arange(40)[None, :] % 2
    pair = rng.random((60, 40))
    train = np.where(same, pair < 0.6, pair < 0.05)
    valid = same & (pair > 0.9)
    data = interactions(train, valid, np.zeros_like(train))
    return data, ~same[users_of(data.train), data.train.indices]


@pytest.fixture(scope="module")
def outputs(noisy, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("pairs"), results=None)
    spec = toy_spec("mf", 4, epochs=40, patience=40, l2=1e-2)
    run = train_dense(spec, noisy[0], 0, quiet(store))
    every = np.ones((100, 4), bool)
    return outputs_of(run.spec, run.data, run.weights(), every, run.control).numpy()


def precision(scores, noise):
    """Of as many pairs as are noise, the share that is."""
    return noise[np.argsort(-scores, kind="stable")[: noise.sum()]].mean()


def test_the_loss_within_a_user_finds_noise_and_chance_does_not(noisy, outputs):
    data, noise = noisy
    loss = pairs.losses(data, outputs)
    assert 0.03 < noise.mean() < 0.12
    assert precision(loss, noise) > 0.8
    assert precision(pairs.in_user(data, loss), noise) > 0.6  # users have one or two, or none
    assert precision(pairs.chance(data, 0), noise) < 0.2


def test_losses_are_those_of_the_formula(noisy, outputs):
    data, _ = noisy
    many, users = pairs.losses(data, outputs), users_of(data.train)
    scores = outputs[: data.users] @ outputs[data.users :].T
    exact = []
    for user, item in zip(users, data.train.indices, strict=True):
        others = scores[user, np.setdiff1d(np.arange(data.items), data.train[[user]].indices)]
        exact.append(np.log1p(np.exp(others - scores[user, item])).mean())
    assert np.corrcoef(many, exact)[0, 1] > 0.95
    assert many.mean() == pytest.approx(np.mean(exact), rel=0.05)


def test_within_a_user_places_are_shares():
    scores = pairs.chance(DATA, 3)
    found = pairs.in_user(DATA, scores)
    for user, (first, last) in enumerate(
        zip(DATA.train.indptr, DATA.train.indptr[1:], strict=False)
    ):
        size = last - first
        assert sorted(found[first:last] * size) == pytest.approx(range(size)), user
        assert (np.argsort(found[first:last]) == np.argsort(scores[first:last])).all()


def test_the_highest_go_and_each_user_keeps_one():
    scores = pairs.rarity(DATA)
    less = pairs.without(DATA, scores, 100)
    assert (less.train.nnz, less.dropped.nnz) == (DATA.train.nnz - 100, 100)
    assert (less.known != DATA.known).nnz == 0
    least = pairs.without(DATA, scores, DATA.train.nnz - DATA.users)
    assert (least.user_degree == 1).all()
    kept = least.train.indices
    best = [DATA.item_degree[DATA.train[[user]].indices].max() for user in range(DATA.users)]
    assert (DATA.item_degree[kept] == best).all()
    again = pairs.without(less, pairs.rarity(less), 50)
    assert again.dropped.nnz == 150
    with pytest.raises(DataError, match=r"expected at most .* each of 60 users keeps one"):
        pairs.without(DATA, scores, DATA.train.nnz)


@pytest.mark.parametrize("way", pairs.WAYS)
def test_planted_pairs_are_new_and_as_many_as_asked_for(way):
    made = pairs.noisy(DATA, f"{way}-0.2-1")
    noise = pairs.among(made, made.planted)
    assert noise.sum() == round(0.2 * DATA.train.nnz)
    assert made.train.nnz == DATA.train.nnz + noise.sum()
    assert (pairs.dropping(made, noise).train != DATA.train).nnz == 0
    assert made.valid is DATA.valid
    same = pairs.noisy(DATA, f"{way}-0.2-1")
    assert same.digest == made.digest
    assert made.digest != DATA.digest


def test_planted_by_popularity_they_are_of_popular_items():
    degree = {}
    for way in pairs.WAYS:
        made = pairs.noisy(DATA, f"{way}-0.3-0")
        degree[way] = DATA.item_degree[made.planted.nonzero()[1]].mean()
    assert degree["popularity"] > degree["uniform"]


def test_what_is_found_of_planted_pairs_is_counted():
    made = pairs.noisy(DATA, "uniform-0.2-1")
    noise = pairs.among(made, made.planted)
    gone = np.zeros(len(noise), bool)
    gone[np.flatnonzero(noise)[:10]] = gone[np.flatnonzero(~noise)[:30]] = True
    found = pairs.found(made, noise.astype(float), gone)
    assert found == {"noise_share": 0.25, "noise_auc": 1.0}
    by_hand = pairs.chance(made, 0)
    above = (by_hand[noise][:, None] > by_hand[~noise]).mean()
    assert pairs.found(made, by_hand, gone)["noise_auc"] == pytest.approx(above)
    assert pairs.found(made, np.zeros(len(noise)), gone)["noise_auc"] == 0.5
    assert pairs.found(DATA, pairs.chance(DATA, 0), gone[: DATA.train.nnz]) == {}


def test_what_cannot_be_planted_is_said():
    with pytest.raises(ConfigError, match="found 'even', expected one of uniform, popularity"):
        pairs.noisy(DATA, "even-0.1-0")
    with pytest.raises(DataError, match="no room for"):
        pairs.noisy(DATA, "uniform-30-0")

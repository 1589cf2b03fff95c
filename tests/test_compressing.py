"""One call from data to a small ticket."""

import numpy as np
import pytest
from toys import count_trainings, toy_data

import lthnb
from lthnb.compressing import VALID
from lthnb.config import ConfigError
from lthnb.packing import table_bytes
from lthnb.store.runs import Store

DATA = toy_data()
BRIEF = {"epochs": 6, "patience": 6, "embedding_size": 8, "learning_rate": 2e-2, "batch_size": 64}
BRIEF |= {"step": "reference", "progress": False}


@pytest.fixture
def brief(tmp_path):
    return {**BRIEF, "store": tmp_path / "store"}


def scores(ticket, part: str = "test") -> dict[str, float]:
    users = ticket.data.users
    vectors = ticket.vectors.numpy()
    return lthnb.evaluate(vectors[:users], vectors[users:], DATA, part)


@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
@pytest.mark.parametrize("finetune", [False, True])
def test_what_it_says_is_what_the_file_gives(brief, tmp_path, backbone, finetune):
    ticket = lthnb.compress(
        DATA, 0.5, finetune=finetune, values="int8", l2s=[1e-4], backbone=backbone, **brief
    )
    assert ticket.density == 0.5
    again = lthnb.open(ticket.save(tmp_path / "ticket"))
    assert np.array_equal(again.table, ticket.table)
    assert scores(again)["recall@20"] == pytest.approx(ticket.about["recall@20"], abs=1e-12)
    assert scores(again, "valid")["recall@20"] == pytest.approx(ticket.about[VALID], abs=1e-12)
    change = ticket.about["change"]
    assert change["n"] == 3
    assert change["low"] <= change["mean"] <= change["high"]
    assert "against the dense model" in ticket._repr_html_()


def test_the_l2_weight_is_chosen_on_the_validation_set_with_one_seed(brief, monkeypatch):
    keys = count_trainings(monkeypatch)
    ticket = lthnb.compress(DATA, 0.5, l2s=[1e-4, 1e-1, 3.0], **brief)
    assert len(keys) == 3 + 2 + 3  # all of them with one seed, two seeds more, a cut of each
    store = Store(brief["store"])
    rows = [record.row for record in map(store.find, keys) if record.row["density"] == 1]
    first = [row for row in rows if row["seed"] == 0]
    assert ticket.about["l2"] == max(first, key=lambda row: row[VALID])["l2"]


def test_it_fits_into_the_bytes_and_takes_what_is_best_on_the_validation_set(brief):
    how = {"l2": 1e-4, "seeds": 1, **brief}
    limit = 700
    ticket = lthnb.compress(DATA, bytes=limit, **how)
    each = [lthnb.compress(DATA, bytes=limit, values=v, **how) for v in ("float32", "int8")]
    assert all(one.about["bytes"] <= limit for one in (ticket, *each))
    assert each[0].density < each[1].density
    assert ticket.about[VALID] >= max(one.about[VALID] for one in each)
    more = lthnb.compress(
        DATA, round(ticket.density + 0.01, 3), values=ticket.about["values"], **how
    )
    assert more.about["bytes"] > limit


def test_it_fits_whichever_seed_is_taken_and_all_of_it_stays_where_it_fits(brief):
    how = {"bytes": 700, "values": "int8", "l2": 1e-4, **brief}
    tickets = [lthnb.compress(DATA, seeds=[seed], **how) for seed in range(4)]
    every = lthnb.compress(DATA, seeds=4, **how)
    assert every.density <= min(ticket.density for ticket in tickets)
    assert every.about["bytes"] <= 700
    whole = table_bytes(np.ones((70, 8), np.float32), np.ones((70, 8), bool), "int8")
    assert lthnb.compress(DATA, seeds=1, **{**how, "bytes": whole}).density == 1


def test_all_of_it_may_stay_and_is_rounded_alone(brief):
    ticket = lthnb.compress(DATA, 1.0, values="float16", l2=1e-4, basis="", seeds=1, **brief)
    assert ticket.kept.all()
    assert ticket.about["bytes"] == table_bytes(ticket.table, ticket.kept, "float16")


def test_a_search_is_cut_as_it_is(brief, monkeypatch):
    search = lthnb.imp(DATA, rounds=1, seeds=[4, 5, 6], **brief)
    keys = count_trainings(monkeypatch)
    ticket = lthnb.compress(search, 0.3)
    assert len(keys) == 3
    assert ticket.about["seed"] in (4, 5, 6)
    dense = search.table[search.table["round"] == 0].set_index("seed")["recall@20"]
    assert ticket.about["change"]["n"] == len(dense)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "density = None and bytes = None, expected one of the two"),
        ({"density": 0.5, "bytes": 10}, "expected one of the two"),
        ({"density": 0}, "density: found 0, expected a number above 0, at most 1"),
        ({"density": 0.5, "values": "int4"}, "found 'int4', expected one of float32"),
        ({"bytes": 10}, r"bytes: found 10, expected at least \d+"),
        ({"density": 0.5, "basis": "pac"}, "Did you mean 'pca'"),
        ({"density": 0.5, "basis": []}, "expected axes"),
        ({"bytes": 0}, "0 for bytes, expected axes, and a number above 0"),
        ({"density": 0.5, "scope": "user"}, "'scope', which is a search's"),
        ({"density": 0.5, "scheduler": "tcp://a"}, "'scheduler', which is a search's"),
        ({"density": 0.5, "l2s": []}, "expected 'validated' and one or more"),
        ({"density": 0.5, "dimensions": 8}, "setting: found 'dimensions'"),
    ],
)
def test_mistakes_are_said(brief, wrong, said):
    with pytest.raises(ConfigError, match=said):
        lthnb.compress(DATA, **{"l2s": [1e-4], **wrong}, seeds=1, **brief)

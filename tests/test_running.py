"""A chapter trained on any data under a profile."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from test_face import ratings

from lthnb.config import ConfigError
from lthnb.experiments import chapters, running
from lthnb.experiments.grid import grid
from lthnb.store.runs import Store


def parameters(**given):
    """A notebook's parameters, with those of a smoke run on planted data unless told otherwise."""
    usual = {"dataset": ["synthetic"], "backbone": ["mf"], "embedding_size": 0, "seeds": [0]}
    usual |= {"protocol": "", "profile": "smoke", "fresh": False, "workers": "1"}
    return SimpleNamespace(**{**usual, **given})


@pytest.fixture(autouse=True)
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def test_recorded_rows_are_shown_and_nothing_is_trained(store):
    p = parameters(profile="recorded", dataset=["lastfm"], seeds=[0, 1])
    found = running.chapter_rows("existence", p)
    assert len(found) == 2 * 13
    assert set(found["dataset"]) == {"lastfm"}
    assert not store.exists()


@pytest.mark.parametrize("name", ["synthetic", "ratings.csv"])
def test_data_of_which_nothing_is_recorded_are_trained_under_quick(name, monkeypatch, capsys):
    """And it says so; also where the grid wants them recorded."""
    about = grid()["chapters"]["existence"]
    wanted = [*about["recorded"], {"group": "gowalla", "dataset": "synthetic"}]
    monkeypatch.setitem(about, "recorded", wanted)
    asked = []
    monkeypatch.setattr(
        running, "run", lambda searches, *_: asked.extend(searches) or pd.DataFrame()
    )
    running.chapter_rows("existence", parameters(profile="recorded", dataset=[name]))
    assert {(one.dataset, one.settings["max_epochs"]) for one in asked} == {(name, 300)}
    assert f"{name}: not recorded; trained under profile 'quick'" in capsys.readouterr().err


@pytest.mark.parametrize("chapter", [c for c in chapters() if c not in ("table-2", "published")])
def test_every_chapter_is_trained_once_and_then_looked_up(chapter, store):
    first = running.chapter_rows(chapter, parameters())
    made = {path: path.stat().st_mtime_ns for path in store.rglob("row.json")}
    again = running.chapter_rows(chapter, parameters())
    assert {path: path.stat().st_mtime_ns for path in store.rglob("row.json")} == made
    assert first["key"].tolist() == again["key"].tolist()
    assert set(first["key"]) <= {path.parent.name for path in made}
    assert first.loc[first["method"] != "cut", "max_epochs"].unique().tolist() == [3]


def test_searches_side_by_side_give_the_same_rows(store, tmp_path, monkeypatch):
    alone = running.chapter_rows("baselines", parameters(seeds=[0, 1]))
    monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "other"))
    beside = running.chapter_rows("baselines", parameters(seeds=[0, 1], workers="2"))
    assert alone["results_digest"].tolist() == beside["results_digest"].tolist()


def test_tables_of_ones_own_that_share_a_name_are_told_apart(tmp_path):
    found = []
    for users in (60, 70):
        folder = tmp_path / str(users)
        folder.mkdir()
        ratings(folder / "ratings.csv", users=users)
        table = folder / "ratings.csv"
        table.write_text(table.read_text().replace("userId,movieId,rating", "user,item,score"))
        found.append(running.chapter_rows("existence", parameters(dataset=[str(table)])))
    assert [set(one["users"]) for one in found] == [{60}, {70}]


def test_trained_again_it_says_what_came_out(capsys):
    running.chapter_rows("existence", parameters())
    running.chapter_rows("existence", parameters(fresh=True))
    assert capsys.readouterr().out.count("the same bits") == 3


def test_unknown_profile_is_refused_with_what_there_is():
    with pytest.raises(ConfigError, match="expected one of recorded, smoke, quick"):
        running.chapter_rows("existence", parameters(profile="fast"))


def test_lcm_is_a_small_table_of_its_teachers_entries():
    found = running.chapter_rows("lcm", parameters(backbone=["lightgcn"]))
    lcm = found[(found["method"] == "lcm") & (found["round"] == 1)]
    assert np.allclose(lcm["density"], 0.5)
    teacher = Store().find(lcm["teacher"].iloc[0]).row
    assert teacher["embedding_size"] == 2 * lcm["embedding_size"].iloc[0]

"""The recorded runs: what the book wants of them, and how they are counted."""

import re
from dataclasses import replace

import pytest
from toys import PlainRecord, quiet, toy_data

from lthnb import paper, plots
from lthnb.compression import compressions_of
from lthnb.config import Ladder
from lthnb.lottery import run_ladder
from lthnb.profiles import PROFILES, SMALL_SETS, literature
from lthnb.sources import SOURCES
from lthnb.standings import seeded
from lthnb.store.adding import add
from lthnb.store.runs import Store
from lthnb.wanted import Wanted, WantedMatch, wanted, wanted_matches

DATA = toy_data()
DATA = replace(DATA, origin={**DATA.origin, "source": "movielens"})


def rows(shown) -> list[list[str]]:
    """The texts of a table, row by row."""
    found = re.findall(r"<tr>(.*?)</tr>", shown.as_raw_html(), re.DOTALL)
    cells = (re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL) for row in found)
    return [[re.sub(r"<[^>]+>", "", c).strip() for c in row] for row in cells]


def test_what_is_wanted_is_on_public_data_each_once():
    every = wanted()
    assert {one.source for one in every} == {"yelp2018", "gowalla", *SMALL_SETS}
    assert {one.source for one in every} <= set(SOURCES)
    assert len({(o.source, o.ladder, o.spec) for o in every}) == len(every)
    first = every[0]  # Table 2
    assert (first.source, first.spec) == (
        "yelp2018",
        PROFILES["paper"].spec("mf", protocol="paper"),
    )
    assert first.ladder == Ladder()
    lambdas = {o.spec.training.l2 for o in every if o.what_for == "l2"}
    assert 1e-4 not in lambdas  # the paper's own is every ladder's dense model
    assert len(lambdas) > 3
    assert {(o.dataset, o.embedding_size) for o in paper.REFERENCES} == {
        (o.source, o.spec.model.embedding_size) for o in every if o.what_for == "literature"
    }


def test_table_3_is_wanted_and_its_match_on_every_small_set():
    every = wanted_matches()
    assert {one.source for one in every} == {"yelp2018", *SMALL_SETS}
    table3 = {(c.original_size, c.density) for c in paper.TABLE3}
    of_paper = [one.match for one in every if one.source == "yelp2018"]
    assert table3 == {(m.dense.model.embedding_size, p) for m in of_paper for p in m.densities}


def test_the_table_counts_what_is_there_and_estimates_the_rest(tmp_path):
    spec = PROFILES["smoke"].spec("mf", embedding_size=4).with_training(step="cpu")
    ladder = Ladder("imp", 0.4, 2)
    store = Store(tmp_path / "store", results=tmp_path / "results")
    one = Wanted("existence", "movielens", ladder, spec, (0, 1))
    other = Wanted("existence", "gowalla", ladder, spec, (0,))
    done = Wanted("existence", "movielens", replace(ladder, rungs=1), spec, (0,))

    def recorded():
        return [row[4] for row in rows(plots.evidence_table([one, done, other], store)) if row]

    assert recorded() == ["0 of 6", "0 of 2", "0 of 3"]
    for rung in run_ladder(*seeded(ladder, spec, 0), DATA, quiet(store)):
        add(store, [rung.record.key])
    assert recorded() == ["3 of 6", "2 of 2", "0 of 3"]
    first, third, second = (r for r in rows(plots.evidence_table([one, done, other], store)) if r)
    assert first[-1] not in ("unknown", "–")  # like those that are there
    assert second[-1].startswith("≈ ")  # from the other data, scaled
    assert third[-1] == "–"


def test_matches_are_counted_and_scaled(tmp_path):
    [small] = PROFILES["smoke"].matches(["mf"])
    [large] = replace(PROFILES["smoke"], compressions=((80, 0.5),)).matches(["mf"])
    wanted = [
        WantedMatch("movielens", small, (0, 1)),
        WantedMatch("movielens", large, (0,)),
    ]
    store = Store(tmp_path / "store", results=tmp_path / "results")
    compressions_of([small], DATA, [0], quiet(store))
    add(store, store.run_keys())
    first, second = (r for r in rows(plots.evidence_table(wanted, store)) if r)
    assert first[1] == "tickets, LCM and small dense models at 50%"
    # A seed has the dense model, one rung, one LCM and one small dense model.
    assert (first[4], second[4]) == ("4 of 8", "0 of 4")
    assert not first[-1].startswith("≈")
    assert second[-1].startswith("≈ ")


def test_a_run_of_all_its_epochs_is_not_told_from_one_that_may_stop(tmp_path):
    """Ten times the epochs, none of which is the last by patience: ten times as long."""
    spec = PROFILES["smoke"].spec("mf", embedding_size=4).with_training(step="cpu", epochs=2)
    store = Store(tmp_path / "store", results=tmp_path / "results")
    alone = Ladder(rungs=0)
    [rung] = run_ladder(*seeded(alone, spec, 0), DATA, quiet(store))
    store.put({**rung.record.row, "seconds": 60.0}, rung.record.nested)
    add(store, [rung.record.key])
    whole = spec.with_training(epochs=20, patience=20, l2=0.0)
    wanted = [
        Wanted("literature", "movielens", alone, one, (0,))
        for one in (spec.with_training(l2=0.0), whole)
    ]
    found = [row[-1] for row in rows(plots.evidence_table(wanted, store)) if row]
    assert found == ["1:00", "10:00"]


def test_published_results_stand_beside_runs_of_their_own_setting(store_of_literature):
    """1000 epochs; one that patience may stop is another model."""
    lines = [row for row in rows(plots.references_table(store_of_literature)) if row]
    ours = [row[4] for row in lines]
    assert ours[0] == "0.0620"
    assert "not run" in lines[2][-1]


@pytest.fixture
def store_of_literature():
    """Records made up from the settings of a published model, and of one with patience."""
    reference, spec = literature()[0]
    base = {
        **{"best_epoch": 1, "epochs": 1, "valid": {}, "losses": [], "evaluations": [], "hits": {}},
        "test": {"recall@20": 0.062, "ndcg@20": 0.05},
    }
    data = {"name": reference.dataset, "origin": {"source": reference.dataset}}
    stopped = {**base, "test": {"recall@20": 0.9, "ndcg@20": 0.9}}
    return [
        PlainRecord("a" * 32, spec.described(), data, {}, {"density": 1.0}, {}, base),
        PlainRecord(
            *("b" * 32, spec.with_training(patience=100).described(), data),
            *({}, {"density": 1.0}, {}, stopped),
        ),
    ]


def test_each_run_is_counted_once(tmp_path):
    spec = PROFILES["smoke"].spec("mf", embedding_size=4).with_training(step="cpu")
    store = Store(tmp_path, results=None)
    ladders = [Ladder("imp", 0.4, 2), Ladder("omp", 0.4, 2)]
    records = {
        rung.record.key: rung.record
        for ladder in ladders
        for rung in run_ladder(ladder, spec, DATA, quiet(store))
    }
    shown = [row for row in rows(plots.compute_table(list(records.values()))) if row]
    assert len(records) == 4  # dense and the first rung are shared
    assert shown[-1][0] == "in all"
    assert shown[0][4] == shown[-1][4] == "4"
    assert shown[-1][5] == str(sum(r.epochs for r in records.values()))

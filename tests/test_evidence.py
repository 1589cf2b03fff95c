"""The recorded runs: what the book wants of them, and how they are counted."""

import re
from dataclasses import replace

from toys import quiet, toy_data

from lthnb import plots
from lthnb.config import Ladder
from lthnb.lottery import run_ladder
from lthnb.profiles import PROFILES, SMALL_SETS, Wanted, wanted
from lthnb.sources import SOURCES
from lthnb.standings import seeded
from lthnb.store import Store

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


def test_the_table_counts_what_is_there_and_estimates_the_rest(tmp_path):
    spec = PROFILES["smoke"].spec("mf", embedding_size=4).with_training(step="cpu")
    ladder = Ladder("imp", 0.4, 2)
    store = Store(tmp_path / "store", results=tmp_path / "results")
    one = Wanted("existence", "movielens", ladder, spec, (0, 1))
    other = Wanted("existence", "gowalla", ladder, spec, (0,))
    done = Wanted("existence", "movielens", replace(ladder, rungs=1), spec, (0,))

    def recorded():
        return [row[6] for row in rows(plots.evidence_table([one, other, done], store)) if row]

    assert recorded() == ["0 of 6", "0 of 3", "0 of 2"]
    for rung in run_ladder(*seeded(ladder, spec, 0), DATA, quiet(store)):
        store.record_result(rung.record.key)
    assert recorded() == ["3 of 6", "0 of 3", "2 of 2"]
    first, second, third = (r for r in rows(plots.evidence_table([one, other, done], store)) if r)
    assert first[-1] not in ("unknown", "–")  # like those that are there
    assert (second[-1], third[-1]) == ("unknown", "–")


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

"""What tickets take and give, and the best that fits."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from test_anatomy import fields_in
from test_measured import made_up
from test_plots import SOME_COSTS
from test_standings import DATA
from toys import quiet, toy_data

from lthnb import budget, evaluation, measured
from lthnb.packing import Ticket
from lthnb.store.runs import Store


@pytest.fixture(scope="module")
def climbed(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"), results=None)
    return store, fields_in(store)


def test_metrics_are_those_of_the_outputs():
    """As float32, exactly; the others are measured on what they serve."""
    data = toy_data()
    rng = np.random.default_rng(3)
    values = rng.standard_normal((data.rows, 6), np.float32) * (rng.random((data.rows, 6)) < 0.5)
    ticket = Ticket(values != 0, values, data.users, data.items)
    found = budget.costs(ticket, data, ("valid", "test"))
    assert [one.values for one in found] == ["float32", "float16", "int8"]
    for part in ("valid", "test"):
        means = evaluation.evaluate(torch.from_numpy(values), data, part).means((20,))
        assert found[0].metrics[part] == means
    assert found[0].density == pytest.approx(np.mean(values != 0))
    assert max(one.file for one in found) == found[0].file
    assert all(one.resident > 0 for one in found)


class TestLadder:
    @pytest.mark.parametrize("at", [0, 1], ids=["mf", "lightgcn"])
    def test_every_rung_has_what_its_record_has(self, climbed, at):
        """LightGCN's are spread when they are loaded, and held dense then."""
        store, fields = climbed
        found = budget.costs_of_ladder(fields[at], DATA, quiet(store))
        records = [rung.record for rung in fields[at].rungs[0]]
        assert [one.run for one in found[::3]] == [r.key for r in records]
        for one, record in zip(found[::3], records, strict=True):
            assert one.values == "float32"
            assert one.density == pytest.approx(record.density)
            for part in ("valid", "test"):
                recall = record.metric("recall@20", part)
                assert one.metrics[part]["recall@20"] == pytest.approx(recall, abs=1e-6)
        assert found[0].file > found[-3].file > found[-1].file
        assert (found[0].resident > found[-1].resident) == (at == 0)

    def test_tables_that_are_gone(self, climbed, tmp_path):
        """Without a replay their rungs are left out."""
        store, (mf, _) = climbed
        bare = Store(tmp_path, results=None)
        assert budget.costs_of_ladder(mf, DATA, quiet(bare), replay=False) == []
        assert budget.costs_of_ladder(mf, DATA, quiet(store), replay=False)


def test_the_best_that_fits():
    dense, int8, _, sparse = SOME_COSTS
    assert budget.best_within(SOME_COSTS, 8e6, "valid") is dense
    assert budget.best_within(SOME_COSTS, 4e6, "valid") is sparse
    assert budget.best_within(SOME_COSTS, 4e6, "test") is int8
    assert budget.best_within(SOME_COSTS, 1e5, "test") is None


class TestRecord:
    def record(self) -> dict:
        tickets = [asdict(one) for one in SOME_COSTS]
        record = {**made_up(), "name": "priced", "costs": {"title": "MF", "tickets": tickets}}
        return {**record, "checksum": measured.checksum(record)}

    def test_in_and_out(self):
        measured.check(self.record(), "priced")
        assert budget.measured_costs([made_up(), self.record()]) == {"MF": SOME_COSTS}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: c.pop("title"), "lacks its title or tickets"),
            (lambda c: c["tickets"][1].pop("file"), "is not whole"),
        ],
    )
    def test_one_that_is_not_whole_is_refused(self, change, message):
        record = self.record()
        change(record["costs"])
        record["checksum"] = measured.checksum(record)
        with pytest.raises(measured.RecordError, match=message):
            measured.check(record, "priced")

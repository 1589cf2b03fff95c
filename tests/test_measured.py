"""Records of benchmarks, as the project keeps them, and the tables made from them.

Their arithmetic, and that damaged ones are refused, is tested with the benchmarks that write them.
"""

import json

import pytest

from lthnb import measured


def entry(facts=None, **measures):
    return {"measures": measures, "spread": measured.spreads(measures), "facts": facts or {}}


def made_up() -> dict:
    """A whole record with numbers that are easy to follow."""
    ours = {"step": [0.001, 0.002], "sampling": [0.001, 0.001], "whole": [0.002, 0.003]}
    theirs = {"step": [0.008, 0.016], "sampling": [0.001, 0.001], "whole": [0.010, 0.030]}
    row = {
        "title": "a step",
        "unit": "seconds a batch",
        "who": {"ours": entry(**ours), "lth-mrs": entry(**theirs)},
        "ratios": {"lth-mrs": measured.ratios(theirs, ours)},
    }
    memory = {
        "title": "memory",
        "unit": "bytes",
        "who": {"ours": entry(peak=[3 * 2**20], children=[0])},
        "ratios": {},
    }
    kernels = entry({"bytes write": 1000.0}, write=[2e-6, 2e-6], read=[6e-6, 6e-6])
    alone = {"title": "", "unit": "", "ratios": {}}
    points = [{"at": at, **entry(whole=[at / 1000, at / 1000])} for at in (10, 100)]
    sweep = {"backbone": "mf", "over": "size", "points": points, "slopes": measured.slopes(points)}
    record = {
        "format": measured.FORMAT,
        "name": "made-up",
        "date": "2026-11-24T00:00:00+00:00",
        "commit": "0123456789",
        "settings": {"source": "toy", "size": 8, "batch": 64, "threads": 2, "repeats": 2},
        "machine": {
            "processor": "an abacus",
            "cores": 2,
            "memory": 2**34,
            "caches": ["L1 Data 32K"],
            "python": "3.11",
            "load_before": [0.5, 0.5, 0.5],
        },
        "data": {},
        "who": {
            "ours": {"repository": None, "commit": None, "versions": {"numba": "1"}, "shims": []},
            "lth-mrs": {"repository": "x", "commit": "abcdefghij", "versions": {}, "shims": []},
        },
        "absent": [{"row": "epoch", "who": "implicit", "reason": "not installed"}],
        "rows": {
            "step": row,
            "memory step": memory,
            "kernels-mf": {**alone, "who": {"ours": kernels}},
            "roof": {**alone, "who": {"ours": entry({"bytes copy": 2e9}, copy=[1.0, 1.0])}},
        },
        "scaling": [sweep],
    }
    return {**record, "checksum": measured.checksum(record)}


def agreed() -> dict:
    """The same with a comparison of two epochs: IMP at its second pruning."""
    both = {who: {"loss": 0.5, "recall@20": 0.25, "ndcg@20": 0.2} for who in ("ours", "lth-mrs")}
    both["lth-mrs"] |= {"loss": 0.75, "bpr": 0.4, "l2 of pruned": 0.125}
    between = {"largest": 2e-6, "mean": 3e-7, "users": 1234, "tied": 1233}
    epoch = {**both, "apart": between, "rounding": {**between, "mean": 4e-7}, "typical": 0.1}
    place = {"method": "imp", "prunings": 2, "run": "abcdefgh" * 4, "density": 0.81}
    kept = {"ours": 81, "lth-mrs": 80}
    pruned = {**place, "before": 9100, "percent": 0.1, "as recorded": True, "kept": kept}
    pruned["only"] = {"ours": 1, "lth-mrs": 0}
    record = {**made_up(), "name": "agreed", "data": {"train": 5000}}
    record["settings"] |= {"epochs": 2}
    training = {**place, "epochs": [epoch, epoch]}
    record["agreement"] = {"trainings": [training], "prunings": [pruned]}
    return {**record, "checksum": measured.checksum(record)}


@pytest.fixture
def results(tmp_path, monkeypatch):
    folder = tmp_path / "results"
    (folder / "benchmarks").mkdir(parents=True)
    path = folder / "benchmarks" / "made-up.json"
    path.write_text(json.dumps(made_up()))
    monkeypatch.setenv("LTHNB_RESULTS", str(folder))
    monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "store"))
    return path


class TestStore:
    def test_finds_them(self, results):
        assert measured.recorded() == measured.recorded(["made-up"]) == [made_up()]
        with pytest.raises(measured.RecordError, match=r"not in.*Did you mean 'made-up'"):
            measured.recorded(["made-upp"])

    def test_an_altered_one_is_named(self, results):
        results.write_text(results.read_text().replace("abacus", "computer"))
        with pytest.raises(measured.RecordError, match=r"made-up\.json: its checksum does not fit"):
            measured.recorded()

    def test_those_of_the_project_are_whole(self):
        found = measured.recorded()
        assert found, "make bench writes one"
        for record in found:
            parts = "rows", "scaling", "agreement", "costs"
            assert any(record.get(part) for part in parts)


class TestAgreement:
    def test_a_whole_one_is_read(self):
        measured.check(agreed(), "agreed")


def priced() -> dict:
    """The same with a ticket in two kinds of values."""
    metrics = {"valid": {"recall@20": 0.3}, "test": {"recall@20": 0.25}}
    one = {"run": "abc", "values": "float32", "forms": ["bitmap", "ids"], "density": 0.5}
    one |= {"file": 100, "resident": 120, "metrics": metrics}
    other = {**one, "values": "int8", "file": 30, "metrics": {"test": {"recall@20": 0.2}}}
    other["forms"] = ["ids", "ids"]
    record = {**made_up(), "name": "priced", "costs": {"title": "MF", "tickets": [one, other]}}
    return {**record, "checksum": measured.checksum(record)}


class TestFrame:
    def test_a_line_for_each_repeat_beside_ours(self):
        found = measured.frame([made_up()])
        assert not found.duplicated(["record", "row", "who", "measure", "at", "repeat"]).any()
        step = found[(found["row"] == "step") & (found["who"] == "lth-mrs")]
        whole = step[step["measure"] == "whole"]
        assert whole["repeat"].tolist() == [0, 1]
        assert whole["value"].tolist() == [0.010, 0.030]
        assert whole["ratio"].tolist() == pytest.approx([5, 10])
        assert set(whole["record"]) == {"made-up"}
        assert set(whole["title"] + ", " + whole["unit"]) == {"a step, seconds a batch"}
        assert (found.loc[found["who"] == "ours", "ratio"].dropna() == 1).all()

    def test_what_is_nothing_has_no_ratio(self):
        found = measured.frame([made_up()])
        assert found.loc[found["measure"] == "children", "ratio"].isna().all()

    def test_facts_are_measures_of_one_repeat(self):
        found = measured.frame([made_up()]).set_index(["row", "measure"])["value"]
        assert found["roof", "bytes copy"] == 2e9
        assert found["kernels-mf", "bytes write"] == 1000

    def test_sweeps_have_the_settings_value(self):
        found = measured.frame([made_up()])
        sweep = found[found["row"] == "scaling mf size"]
        assert sweep.groupby("at")["value"].median().to_dict() == {10: 0.01, 100: 0.1}
        assert found.loc[found["row"] == "step", "at"].isna().all()

    def test_of_no_records(self):
        assert measured.frame([]).empty
        assert list(measured.frame([])) == list(measured.frame([made_up()]))


class TestCosts:
    def test_a_line_for_each_file(self):
        measured.check(priced(), "priced")
        found = measured.costs([made_up(), priced()])
        assert found["file"].tolist() == [100, 30]
        assert found["forms"].tolist() == ["bitmap / ids", "ids"]
        assert found["recall@20"].tolist() == [0.25, 0.2]
        assert found["valid_recall@20"].isna().tolist() == [False, True]
        assert set(found["record"] + ", " + found["title"]) == {"priced, MF"}
        assert list(measured.costs([])) == list(found)

"""Records of benchmarks, as the store finds them and the chapter *performance* shows them.

Their arithmetic, and that damaged ones are refused, is tested with the benchmarks that write them.
"""

import json

import pytest
from toys import ROOT

from lthnb import measured, plots
from lthnb.store.runs import Store


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

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda a: a["trainings"][0].pop("run"), "trainings, 'imp' after 2 is not whole"),
            (lambda a: a["trainings"][0]["epochs"].pop(), "epochs are not as many"),
            (lambda a: a["prunings"][0]["only"].update(ours=7), "its counts do not fit"),
        ],
    )
    def test_one_that_does_not_fit_is_refused(self, change, message):
        record = agreed()
        change(record["agreement"])
        record["checksum"] = measured.checksum(record)
        with pytest.raises(measured.RecordError, match=message):
            measured.check(record, "agreed")


class TestPlots:
    def test_bars_are_the_ratios_of_whole_steps(self):
        [ax] = plots.speed_figure([made_up()]).axes
        [bar] = ax.patches
        assert bar.get_width() == pytest.approx(7.5)  # of 5 and 10
        assert [label.get_text() for label in ax.get_yticklabels()] == ["MF, a step: LTH-MRS"]
        assert list(ax.get_lines()[0].get_xdata()) == pytest.approx([5, 10])

    def test_the_table_has_every_measure_and_memory(self):
        html = plots.speed_table([made_up()]).as_raw_html()
        for shown in ("MF, a step (sampling)", "LTH-MRS", "7.5", "5 … 10", "3 MiB", "2.5 ms"):
            assert shown in html, shown

    def test_kernels_say_their_share_and_the_roof(self):
        html = plots.kernels_table([made_up()]).as_raw_html()
        # write: a quarter of 8 µs; 1000 bytes in 2 µs are 0.5 GB/s, a quarter of 2 GB/s
        for shown in ("25%", "75%", "0.5 GB/s", "2 GB/s", "2 µs"):
            assert shown in html, shown

    def test_scaling_shows_the_slope(self):
        ax = plots.scaling_figure([made_up()]).axes[0]
        assert ax.get_legend_handles_labels()[1] == ["MF: slope 1.00"]
        assert ax.get_xlabel() == "embedding size F"

    def test_the_machine_and_what_is_absent(self):
        text = plots.measured_on([made_up()])
        for shown in ("an abacus", "LTH-MRS at abcdefg", "numba 1", "implicit: not installed"):
            assert shown in text, shown

    def test_agreement(self):
        html = plots.agreement_table([made_up(), agreed()]).as_raw_html()
        # 0.75 less 0.125 of pruned entries
        for shown in ("IMP, 81.0%", "0.625000", "3.0e-07", "4.0e-07", "1,234", "epoch 2, 5,000"):
            assert shown in html, shown
        html = plots.prunings_table([made_up(), agreed()]).as_raw_html()
        for shown in ("9,100", ">81<", ">80<", "the recorded one", ">abcdefgh<"):
            assert shown in html, shown

    def test_nothing_measured_is_said(self):
        assert plots.speed_figure([]).axes[0].texts
        assert plots.scaling_figure([]).axes[0].texts
        tables = (plots.speed_table, plots.kernels_table)
        for table in (*tables, plots.agreement_table, plots.prunings_table):
            assert "not run" in table([]).as_raw_html()
        assert "make bench" in plots.measured_on([])

    def test_what_a_ladder_cost(self):
        records = Store(ROOT / "none", ROOT / "results").recorded()
        html = plots.cost_table(records).as_raw_html()
        assert "trainings" in html
        assert "Yelp2018, MF" in html
        assert "0 trainings" in plots.cost_table([]).as_raw_html()

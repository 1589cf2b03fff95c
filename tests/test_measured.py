"""Records of benchmarks, as the project keeps them, and the tables made from them."""

import json

import pytest

from lthnb.config import ConfigError, canonical
from lthnb.experiments import measured
from lthnb.store.files import DamagedFile, sha256


def entry(facts=None, **measures):
    return {"measures": measures, "spread": {}, "facts": facts or {}}


def made_up() -> dict:
    """A whole record with numbers that are easy to follow."""
    ours, theirs = {"whole": [0.002, 0.003]}, {"whole": [0.010, 0.030], "children": [0]}
    about = {"title": "a step", "unit": "seconds a batch", "ratios": {}}
    kernels = entry({"bytes write": 1000.0, "step": "cpu"}, write=[2e-6, 2e-6])
    points = [{"at": at, **entry(whole=[at / 1000, at / 1000])} for at in (10, 100)]
    record = {
        "name": "made-up",
        "rows": {
            "step": {**about, "who": {"ours": entry(**ours), "lth-mrs": entry(**theirs)}},
            "kernels-mf": {**about, "who": {"ours": kernels}},
        },
        "scaling": [{"backbone": "mf", "over": "size", "points": points}],
    }
    return {**record, "checksum": sha256(canonical(record).encode())}


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("LTHNB_RESULTS", str(tmp_path))
    (tmp_path / "benchmarks").mkdir()
    found = tmp_path / "benchmarks" / "made-up.json"
    found.write_text(json.dumps(made_up()))
    return found


def test_records_are_found_by_name(path):
    assert measured.recorded() == measured.recorded(["made-up"]) == [made_up()]
    with pytest.raises(ConfigError, match="Did you mean 'made-up'"):
        measured.recorded(["made-upp"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("0.003", "0.002"),
        lambda text: text[:-100],
        lambda text: text.replace('"checksum"', '"sum"'),
        lambda text: "[]",
    ],
)
def test_damaged_record_is_named_and_refused(path, spoil):
    path.write_text(spoil(path.read_text()))
    with pytest.raises(DamagedFile, match=r"^made-up\.json: "):
        measured.recorded()


def test_records_of_the_project_are_whole_and_have_what_the_book_shows():
    found = measured.recorded()
    rows = set(measured.frame(found)["row"])
    assert {"step", "epoch", "lightgcn", "ranking", "kernels-mf", "roof"} <= rows
    assert {f"scaling {b} interactions" for b in ("mf", "lightgcn")} <= rows
    assert any("agreement" in record for record in found)


def test_frame_has_a_line_a_repeat_and_its_ratio_to_ours():
    found = measured.frame([made_up()])
    assert not found.duplicated(["record", "row", "who", "measure", "at", "repeat"]).any()
    whole = found.query("row == 'step' and who == 'lth-mrs' and measure == 'whole'")
    assert whole["repeat"].tolist() == [0, 1]
    assert whole["value"].tolist() == [0.010, 0.030]
    assert whole["ratio"].tolist() == pytest.approx([5, 10])
    assert (found.loc[found["who"] == "ours", "ratio"] == 1).all()
    assert found.loc[found["measure"] == "children", "ratio"].isna().all()
    assert measured.frame([]).empty


def test_numbers_among_facts_are_measures_and_sweeps_have_the_settings_value():
    found = measured.frame([made_up()])
    kernels = found[found["row"] == "kernels-mf"].groupby("measure")["value"].first()
    assert kernels.to_dict() == {"bytes write": 1000, "write": 2e-6}
    sweep = found[found["row"] == "scaling mf size"]
    assert sweep.groupby("at")["value"].median().to_dict() == {10: 0.01, 100: 0.1}
    assert found.loc[found["row"] == "step", "at"].isna().all()

"""What stands around figures and tables: their rows as CSV, and claims in words."""

import base64
import io
import re

import pandas as pd
import pytest

from lthnb import plots, stats
from lthnb.config import ConfigError
from lthnb.experiments import claims


def csv_of(frame):
    held = re.search(r"base64,([^\"]+)", plots.csv(frame, "rows").data)[1]
    return pd.read_csv(io.BytesIO(base64.b64decode(held)))


def test_a_csv_keeps_what_tells_its_rows_apart():
    summary = pd.DataFrame({"criterion": ["loss"], "items": ["1 million"], "mean": [0.1]})
    assert csv_of(summary).columns.tolist() == ["criterion", "items", "mean"]
    runs = pd.DataFrame({"key": ["a1"], "criterion": ["loss"], "torch_version": ["2"], "own": [1]})
    assert csv_of(runs).columns.tolist() == ["key", "criterion", "own"]


def test_a_comparison_has_a_column_for_each_model_and_all_numbers_in_its_csv():
    rows = [("loss", kept, model, kept) for kept in (0.4, 0.8) for model in ("MF", "LightGCN")]
    rows = pd.DataFrame(rows, columns=["way", "kept", "model", "difference"])
    found = stats.summary(rows.assign(data="LastFM"), ["way", "kept", "data", "model"])
    shown = plots.compared(found[found["kept"] == 0.8], ["way", "kept"], "A title", of=found)
    page = shown.as_raw_html()
    assert all(said in page for said in ("LastFM, LightGCN", "80.0 %", "pairs kept", "4 rows"))
    assert (page.count("+80.0 %"), page.count("+40.0 %")) == (2, 0)


def test_every_finding_has_words():
    found = claims.recorded()
    shown = plots.claims(found, "claims").data
    assert shown.count("<li>") == found["claim"].nunique()
    assert f"{plots.CLAIMS['tuned-ticket']} (ours)" in shown


def test_a_figure_of_no_rows_says_what_to_do():
    with pytest.raises(ConfigError, match=r"no rows.*profile quick"):
        plots.curves(pd.DataFrame({"data": [], "model": [], "density": [], "difference": []}))


def test_ticks_are_not_rounded():
    assert [plots.PERCENT(x) for x in (0.0, -0.025, 0.07)] == ["0 %", "−2.5 %", "7 %"]

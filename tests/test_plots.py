"""Figures and tables show what the records hold, and label it."""

from dataclasses import replace

import numpy as np
import pytest
from test_standings import made_up
from toys import PlainRecord, quiet, toy_data, toy_spec

from lthnb import lottery, paper, plots
from lthnb.budget import Cost
from lthnb.config import Ladder, Seeded
from lthnb.data import DataError
from lthnb.measured import spreads
from lthnb.profiles import profile
from lthnb.store.runs import Store
from lthnb.verdicts import t_interval

# Rung 1 wins on valid beyond doubt, rung 2 loses.
WINS = [((0.1, 0.2, 5), (0.11, 0.21, 4), (0.05, 0.1, 3))] * 3


def cost(values: str, density: float, size: int, test: float, valid: float, *forms: str) -> Cost:
    metrics = {"test": {"recall@20": test}, "valid": {"recall@20": valid}}
    return Cost("", values, forms or ("ids", "ids"), density, size, size + 1_000_000, metrics)


# On valid the sparse ticket as int8 is better than as float32.
SOME_COSTS = [
    cost("float32", 1.0, 8_000_000, 0.055, 0.06),
    cost("int8", 1.0, 3_000_000, 0.054, 0.01),
    cost("float32", 0.1, 2_000_000, 0.05, 0.02),
    cost("int8", 0.1, 1_000_000, 0.049, 0.03, "ids", "bitmap"),
]


@pytest.fixture(autouse=True)
def closed():
    yield
    plots.plt.close("all")


def labels(ax) -> list[str]:
    return ax.get_legend_handles_labels()[1]


def line(ax, label: str):
    [found] = [artist for artist in ax.get_lines() if artist.get_label().startswith(label)]
    return found


class TestLadderFigure:
    def test_shows_the_means_and_the_star(self):
        [ax] = plots.ladder_figure([made_up(WINS)]).axes
        assert list(line(ax, "tickets").get_ydata()) == pytest.approx([0.2, 0.21, 0.1])
        assert list(line(ax, "tickets").get_xdata()) == pytest.approx([1, 0.6, 0.36])
        star = line(ax, "sparsest winning ticket")
        assert (star.get_xdata()[0], star.get_ydata()[0]) == pytest.approx((0.6, 0.21))
        assert line(ax, "dense").get_ydata()[0] == pytest.approx(0.2)

    def test_axes_say_what_they_are(self):
        [ax] = plots.ladder_figure([made_up(WINS)], metric="ndcg@20").axes
        assert ax.get_ylabel() == "NDCG@20 on test"
        assert "density" in ax.get_xlabel()
        left, right = ax.get_xlim()
        assert left > right, "dense stands on the left"

    def test_no_star_where_nothing_wins(self):
        [ax] = plots.ladder_figure([made_up([((0.1, 0.2, 5), (0.05, 0.1, 4))] * 3)]).axes
        assert not any("winning" in label for label in labels(ax))

    @pytest.mark.parametrize(("method", "shown"), [("omp", "OMP"), ("rp_x0", "RP over X⁰")])
    def test_names_the_method(self, method, shown):
        field = replace(made_up(WINS), ladder=Ladder(method))
        assert f"tickets ({shown}), mean over seeds" in labels(plots.ladder_figure([field]).axes[0])

    def test_names_the_paper_protocol(self):
        field = made_up(WINS, toy_spec(protocol="paper"))
        assert "chosen on test" in plots.ladder_figure([field]).axes[0].get_title(loc="left")

    def test_what_was_not_run_is_said(self):
        figure = plots.ladder_figure([made_up([(None, None)])])
        assert "not run yet" in figure.axes[0].texts[0].get_text()
        assert (
            "not run yet" in plots.learning_curves(made_up([(None,)])).axes[0].texts[0].get_text()
        )

    def test_the_papers_points_lie_on_its_own_data_alone(self):
        """A file of one's own may be called kwai.csv."""
        spec = toy_spec(size=32, batch_size=2048)
        mine = replace(made_up(WINS, spec), source="kwai", published="table")
        theirs = replace(mine, published="kwai")
        assert not any("paper" in label for label in labels(plots.ladder_figure([mine]).axes[0]))
        [ax] = plots.ladder_figure([theirs]).axes
        drawn = line(ax, "the paper, Table 2 (chosen on test)").get_ydata()
        assert list(drawn) == [c.value for c in paper.cells("kwai", "mf", "recall@20")]
        large = replace(theirs, spec=spec.with_training(batch_size=16384))
        assert not any("paper" in label for label in labels(plots.ladder_figure([large]).axes[0]))


class TestContests:
    def test_a_contestant_alone_is_named_and_has_no_panel(self):
        one = made_up(WINS)
        two = [one, replace(one, ladder=replace(one.ladder, rewind="reinit"))]
        alone = replace(one, source="elsewhere")
        fig = plots.contest_figure([*two, alone], "rewinds")
        assert len(fig.axes) == 1
        assert labels(fig.axes[0])[:2] == ["rewind to X⁰", "reinit: a new start"]
        said = fig.get_supxlabel().replace("\n", " ")
        assert said == f"With one contestant alone, so not shown: {alone.title}."
        # Where there is nothing to compare at all, that is said in the panel.
        [ax] = plots.contest_figure([alone], "rewinds").axes
        assert "rewind alone is recorded" in ax.texts[0].get_text()
        # Methods alone say something: the curve beside the dense model.
        assert len(plots.contest_figure([*two, alone], "baselines").axes) == 2


class TestOverview:
    def test_a_panel_a_data_set_with_its_ladders(self):
        one = made_up(WINS)
        other = replace(one, source="elsewhere")
        on_test = replace(one, spec=one.spec.with_training(protocol="paper"))
        first, second = plots.overview_figure([one, other, on_test]).axes
        assert (first.get_title(loc="left"), second.get_title(loc="left")) == (
            one.source,
            "elsewhere",
        )
        mine = "MF, learning rate 0.02, batches of 64"
        chosen_on_test = f"{mine}, protocol paper (epochs chosen on test), 3 seeds"
        dense = "the dense model of each"
        assert labels(first) == [f"{mine}, 3 seeds", chosen_on_test, dense]
        assert labels(second) == [f"{mine}, 3 seeds", dense]
        gains = [0, 5, -50]  # of WINS: 0.21 and 0.1 over 0.2, in percent
        assert list(line(first, f"{mine}, 3").get_ydata()) == pytest.approx(gains)

    def test_nothing_recorded_is_said(self):
        [ax] = plots.overview_figure([]).axes
        assert "nothing recorded" in ax.texts[0].get_text()


class TestTables:
    def test_every_rung_with_its_runs(self):
        html = plots.standings_table(made_up(WINS)).as_raw_html()
        for text in ("0.2100", "+5.0%", "1 ★", "3 of 3", "wins", "chosen on valid", "01, 11, 21"):
            assert text in html
        assert (
            "chosen on test"
            in plots.standings_table(made_up(WINS, toy_spec(protocol="paper"))).as_raw_html()
        )

    def test_what_was_not_run_has_its_line(self):
        html = plots.standings_table(made_up([((0.1, 0.2, 5), None)])).as_raw_html()
        assert "not run" in html
        assert "1 trainings are not run" in html

    def test_the_papers_cell_takes_runs_of_its_setting_alone(self):
        spec = profile("paper").spec("mf", protocol="paper").with_training(step="reference")

        def record(seed=0, recall=0.0458, source="yelp2018", density=1.0, **training):
            described = spec.with_training(order_seed=seed, **training).described()
            results = {"test": {"recall@20": recall, "ndcg@20": 0.0369}}
            data = {"name": "yelp2018", "origin": {"source": source}}
            mask = {"density": density}
            return PlainRecord(
                f"{seed}" * 8, described, data, Seeded(seed).described(), mask, {}, results
            )

        good = [record(), record(seed=1, recall=0.0456)]
        others = [
            record(2, 0.9, source="table"),
            record(3, 0.9, density=0.5),
            record(4, 0.9, l2=1e-3),
            replace(record(5, 0.9), init=Seeded(6).described()),
        ]
        html = plots.paper_table([*good, *others], "mf").as_raw_html()
        assert "0.0458, 0.0456" in html
        assert "0.0457" in html
        assert "00000000, 11111111" in html
        assert "0.9" not in html
        assert html.count("no data") == 16 + 1  # TikTok's and Kwai's cells, and what it means

    def test_recommendations_leave_out_what_is_known(self, tmp_path):
        data, spec = toy_data(), toy_spec()
        control = quiet(Store(tmp_path, results=None))
        dense, ticket = (
            r.run
            for r in lottery.run_ladder(Ladder(rungs=1, pruning_rate=0.5), spec, data, control)
        )
        known = set((data.train + data.valid)[3].indices)
        for run in (dense, ticket):
            best = run.recommend(3, 5)
            scores = run.outputs().numpy()[3] @ run.outputs().numpy()[data.users :].T
            scores[list(known)] = -np.inf
            assert list(best) == list(np.argsort(-scores, kind="stable")[:5])
        html = plots.recommendations_table(dense, ticket, "3", n=5).as_raw_html()
        assert "user 3" in html
        assert all(f">{item}" in html for item in dense.recommend(3, 5))
        with pytest.raises(DataError, match="no user 'nobody'"):
            plots.recommendations_table(dense, ticket, "nobody")

    def test_entries_kept_by_degree(self):
        data = toy_data()
        kept = np.zeros((data.rows, 4), bool)
        kept[: data.users] = True
        users, items = plots.kept_by_degree(kept, data).axes
        assert set(users.get_lines()[0].get_ydata()) == {4}
        assert set(items.get_lines()[0].get_ydata()) == {0}


class TestServing:
    @pytest.fixture
    def record(self):
        def entry(held, **measures):
            facts = {"held": held, "peak": 9e8, "load": 1.0, "agreement": 1.0}
            once = {name: [value] for name, value in measures.items()}
            return {"spread": spreads(once), "facts": facts, "measures": once}

        rows = {}
        for density, ours in ((1.0, 3.0), (0.5, 2.0), (0.1, 0.5)):
            who = {
                "ours": entry(4e6 * density + 1e6, one=ours, bulk=ours / 2),
                "ours-index": entry(8e6 * density, one=ours / 10),
                "dense": entry(4e6, one=1.0, bulk=1.0),
            }
            if density == 0.1:
                who["faiss-flat"] = entry(4e6, one=1.5, bulk=3.0)
            ratios = {"dense": {"one": {"median": 1 / ours}}}
            catalogue = {"density": density, "bulk": 100, "users": 100, "items": 1000}
            rows[f"serving-1m 64 {density:g}"] = {
                "who": who, "ratios": ratios, "catalogue": catalogue,
            }  # fmt: skip
        return {"rows": {**rows, "step": {"who": {}, "ratios": {}}}}

    def test_figure(self, record):
        fig = plots.latency_figure([record], "serving-1m")
        one, many = fig.axes
        assert [line.get_label() for line in one.containers] != []
        assert "many users at once: 100" in many.get_title(loc="left")
        assert "not run yet" in plots.latency_figure([], "serving-10m").axes[0].texts[0].get_text()
        assert "not run yet" in plots.latency_figure([record]).axes[0].texts[0].get_text()

    def test_tables(self, record):
        shown = plots.latency_table([record], "serving-1m").as_raw_html()
        assert "ours, with an index by column" in shown
        assert "500 ms (500 ms … 500 ms)" in shown
        crossed = plots.crossover_table([record])._tbl_data.iloc[0]
        assert crossed["memory"] == "≤ 50%"
        assert crossed["one user"] == "≤ 10%"
        assert crossed["one user with an index"] == "≤ 100%"
        assert crossed["many users"] == "≤ 50%"
        assert crossed["many users, beside the fused"] is None
        for empty in (plots.latency_table([]), plots.crossover_table([]), plots.costs_table({})):
            assert "not run" in empty.as_raw_html()

    def test_costs(self):
        shown = plots.costs_table({"a ticket": SOME_COSTS[2:]}).as_raw_html()
        for text in ("ids / bitmap", "2 MB", "0.05000", "-2.00%"):
            assert text in shown
        assert "over seeds" not in shown
        seeds = {"a ticket": t_interval([0.049, 0.05, 0.051])}
        shown = plots.costs_table({"a ticket": SOME_COSTS[2:]}, seeds).as_raw_html()
        assert "0.05000 (0.04752 … 0.05248), n = 3" in shown

    def test_budgets(self):
        """Chosen on valid, shown on test."""
        shown = plots.budget_table("MF", SOME_COSTS, "valid")._tbl_data
        assert shown["values"].tolist()[:5] == ["float32", *["int8"] * 3, "nothing fits"]
        assert shown["density"].tolist()[:4] == ["100.0%", *["10.0%"] * 3]
        assert shown["to dense float32"].tolist()[:2] == ["+0.0%", "-10.9%"]
        fig = plots.budget_figure({"MF": SOME_COSTS})
        assert [line.get_label() for line in fig.axes[0].lines] == ["float32", "int8"]
        assert "not run" in plots.budget_table("MF", [], "valid").as_raw_html()
        assert "not run yet" in plots.budget_figure({}).axes[0].texts[0].get_text()

"""The dense model with a setting tuned on valid, and choosing on test against choosing on valid."""

from dataclasses import replace

import numpy as np
import pytest
from toys import quiet, toy_data, toy_spec

from lthnb import plots, profiles
from lthnb.config import Ladder
from lthnb.lottery import run_ladder
from lthnb.selection import pairs, selections
from lthnb.standings import fields_of, recorded_fields, seeded, titled
from lthnb.store.adding import add
from lthnb.store.runs import Store
from lthnb.tuning import batches, tunings
from lthnb.wanted import wanted

DATA = toy_data(60, 40)
LADDER = Ladder(pruning_rate=0.4, rungs=2)
ALONE = replace(LADDER, rungs=0)
SPEC = toy_spec(step="cpu", l2=1e-4)


@pytest.fixture(scope="module")
def control(tmp_path_factory):
    return quiet(Store(tmp_path_factory.mktemp("store"), results=None))


def field(control, ladder, spec, seeds=(0, 1, 2), data=DATA):
    [one] = fields_of([(ladder, spec)], data, seeds, control)
    return one


class TestTunings:
    @pytest.fixture
    def one(self, control):
        ladder = field(control, LADDER, SPEC)
        dense = [field(control, ALONE, SPEC.with_training(l2=v)) for v in (1e-2, 0.0, 10.0)]
        [found] = tunings("l2", [ladder], dense)
        return found

    def test_values_rise_and_the_ladders_own_is_among_them(self, one):
        assert list(one.runs) == [0.0, 1e-4, 1e-2, 10.0]
        assert one.own == 1e-4
        assert [r.key for r in one.runs[1e-4]] == [r.key for r in one.field.records(0)]

    def test_the_best_mean_on_valid_is_chosen_and_test_is_not_asked(self, one):
        means = {
            v: np.mean([r.metric("recall@20", "valid") for r in runs])
            for v, runs in one.runs.items()
        }
        assert one.chosen == max(means, key=means.get)

    def test_differences_are_to_the_chosen_and_to_the_own(self, one):
        chosen, own = one.recall(one.chosen), one.recall(one.own)
        assert one.gain.mean == pytest.approx(np.mean(chosen / own - 1))
        ticket = [r.metric("recall@20") for r in one.field.records(one.ticket.number)]
        assert one.lead.mean == pytest.approx(np.mean(ticket / chosen - 1))

    @pytest.mark.parametrize(
        ("before", "after", "verdict"),
        [
            (1, 1, "the lead stays"),
            (0, 1, "the lead stays"),
            (1, 0, "the lead is no longer shown"),
            (0, 0, "not decided"),
            (1, -1, "tuned, the dense model is better"),
        ],
    )
    def test_the_verdict(self, one, monkeypatch, before, after, verdict):
        signs = iter((before, after))
        monkeypatch.setattr("lthnb.tuning.sign", lambda _: next(signs))
        assert one.verdict == verdict

    def test_seeds_are_those_of_all_values(self, control):
        ladder = field(control, LADDER, SPEC)
        dense = [
            field(control, ALONE, SPEC.with_training(l2=1e-2), seeds=(1, 2)),
            field(control, ALONE, SPEC.with_training(l2=0.0), seeds=(2, 0)),
        ]
        dense.append(field(control, ALONE, SPEC.with_training(l2=10.0), seeds=(2,)))  # too few
        [found] = tunings("l2", [ladder], dense)
        assert list(found.runs) == [0.0, 1e-4, 1e-2]
        assert found.field.seeds == (2,)
        assert all(len(runs) == 1 for runs in found.runs.values())

    def test_what_differs_in_more_than_the_setting_is_left_out(self, control):
        ladder = field(control, LADDER, SPEC)
        others = [
            field(control, ALONE, SPEC),  # its own value
            field(control, ALONE, SPEC.with_training(l2=0.0, learning_rate=1e-3)),
            field(control, ALONE, SPEC.with_training(l2=0.0), data=toy_data(60, 40, seed=5)),
        ]
        assert tunings("l2", [ladder], others) == []

    def test_it_is_shown(self, one):
        html = plots.tuning_table([one]).as_raw_html()
        assert f"{one.ticket.density:.1%}" in html
        assert one.verdict in html
        fig = plots.tuning_figure([one])
        [ax] = fig.axes
        star = next(line for line in ax.lines if line.get_marker() == "*")
        assert star.get_ydata()[0] == pytest.approx(one.recall(one.chosen).mean())
        plots.plt.close(fig)


class TestSelection:
    @pytest.fixture
    def two(self, control):
        other = DATA.for_protocol("paper")
        ours = field(control, LADDER, SPEC.with_training(protocol="paper"), (0, 1), other)
        return ours, field(control, LADDER, SPEC, (1, 2))

    def test_the_curve_is_read_where_valid_stopped(self, two):
        ours, beside = two
        found = selections(ours, beside)
        assert [f.ours.number for f in found] == [0, 1, 2]
        for one in found:
            [record], [other] = one.ours.records, one.beside.records  # seed 1 is in both
            curve = {e: v for e, v, _ in record.results["evaluations"]}
            assert one.at == curve[min(other.best_epoch, max(curve))]
            assert one.optimism >= 0
            assert one.ours.results["recall@20"] == max(curve.values())

    def test_other_protocols_and_no_common_seed_are_refused(self, two):
        ours, beside = two
        with pytest.raises(ValueError, match="chosen on valid and test"):
            selections(beside, ours)
        with pytest.raises(ValueError, match=r"seeds \[0\] and \[2\]"):
            selections(ours.with_seeds([0]), beside.with_seeds([2]))

    def test_pairs_are_of_one_source_and_setting(self, two):
        ours, beside = two
        assert pairs([ours, beside]) == [(ours, beside)]
        elsewhere = replace(beside, published="other")
        assert pairs([ours, elsewhere]) == []

    def test_it_is_shown(self, two):
        ours, beside = two
        html = plots.selection_table(ours, selections(ours, beside)).as_raw_html()
        assert "100.0%" in html
        assert "one seed" in plots.protocols_table([two]).as_raw_html()


def test_recorded_values_are_the_settings_own_and_what_valid_chose():
    """λ of `TUNED_L2` is typed, and must be what the recorded dense models say."""
    store = Store()
    for source, chosen in profiles.TUNED_L2.items():
        for backbone, value in chosen.items():
            ladders = recorded_fields(profiles.recorded_contests("existence", [backbone]), store)
            dense = recorded_fields(
                profiles.recorded_tried("l2", [backbone]), store, dense_alone=True
            )
            [one] = [t for t in tunings("l2", ladders, dense) if t.field.published == source]
            assert one.chosen == value, (source, backbone)


def test_ladders_stand_beside_those_with_other_batches_alone(control):
    usual, other = (SPEC.with_training(batch_size=size) for size in (64, 32))
    slow = usual.with_training(learning_rate=1e-4)  # chosen anew for its batches
    fields = [field(control, LADDER, spec, (0,)) for spec in (slow, other)]
    alone = field(control, replace(LADDER, rungs=1), usual, (0,))
    assert batches([fields[0], alone, fields[1]]) == [fields[1], fields[0]]
    assert batches([fields[0], alone]) == []


def test_large_batches_are_called_so():
    large = [w for w in wanted() if w.spec.training.batch_size > 2048]
    assert {(w.source, w.spec.model.backbone) for w in large} == {
        ("movielens", "mf"),
        ("movielens", "lightgcn"),
        ("yelp2018", "lightgcn"),
    }
    assert all("batches of 16384" in titled(w.spec, w.source) for w in large)
    table3 = profiles.recorded_matches(["lightgcn"])
    assert {m.dense.training.batch_size for m in table3} == {2048}


def test_causes_have_one_thing_otherwise(tmp_path):
    causes = profiles.isolating("mf")
    first = causes.pop("as in the code")
    [table2] = profiles.RECORDED["paper"].contests("existence", ["mf"])
    assert first == (*table2, 0)
    for ladder, spec, seed in causes.values():
        same = spec.with_training(patience=100, evaluate_every=1) == table2[1]
        assert same
        others = [ladder != table2[0], spec.training.evaluate_every != 1, seed != 0]
        assert sum(others) == 1


def test_the_causes_are_shown_beside_the_paper(tmp_path):
    """On toy data called as the paper's: what was run, or «not run»."""
    data = replace(DATA, origin={**DATA.origin, "source": "yelp2018"})
    store = Store(tmp_path / "s", results=tmp_path / "r")
    causes = {
        cause: (replace(ladder, rungs=3), replace(SPEC, training=SPEC.training), seed)
        for cause, (ladder, _, seed) in profiles.isolating("mf").items()
        if cause in ("as in the code", "another seed", "pruned after the last epoch")
    }
    for ladder, spec, seed in list(causes.values())[:1]:
        for rung in run_ladder(*seeded(ladder, spec, seed), data, quiet(store)):
            add(store, [rung.record.key], masks=False)
    html = plots.causes_table(causes, store).as_raw_html()
    # Of two metrics the dense cell; 0.729 of a toy's entries is no whole number of them.
    assert html.count("not run") == 2 * (3 + 4 + 4)
    [dense] = [r for r in store.recorded() if r.density == 1]
    assert f"{dense.metric('recall@20'):.4f}" in html
    whole, *others = plots.causes_findings(causes, store)
    assert whole.startswith("Of 2 cells, we miss 2 by more than 0.001: Recall@20 at 0.0 %")
    assert others == [f"{cause.capitalize()}: not run." for cause in list(causes)[1:]]
    for other in ("another seed", "pruned after the last epoch"):
        for rung in run_ladder(*seeded(*causes[other]), data, quiet(store)):
            add(store, [rung.record.key], masks=False)
    _, seed, last, recall, _ = plots.causes_findings(causes, store)
    assert "which does not explain it; it misses 2 of 2 cells, by 0." in seed
    assert last.partition(": ")[2].count("+0.") == 2
    # The dense model is the same wherever its weights are pruned.
    assert recall.endswith(
        f"Recall@20 at 0.0 % comes to {dense.metric('recall@20'):.4f} to "
        f"{dense.metric('recall@20'):.4f}: the paper's 0.0459 lies outside."
    )

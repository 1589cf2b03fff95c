"""From records to verdicts: pairing by seed, choosing on valid, and saying what is missing."""

import dataclasses

import numpy as np
import pytest
from toys import PlainRecord, count_epochs, quiet, toy_data, toy_spec

from lthnb import plots
from lthnb.config import ConfigError, Ladder
from lthnb.evaluation import Hits
from lthnb.lottery import Planned
from lthnb.standings import Field, beside_narrow, difference, fields_of
from lthnb.store.runs import Store
from lthnb.tuning import beside_tuned, tunings
from lthnb.verdicts import relative_difference

DATA, SPEC, LADDER = toy_data(), toy_spec(), Ladder("imp", 0.4, 2)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", results=None)


def field_in(store, seeds=(0, 1, 2), spec=SPEC, data=DATA, **more):
    [field] = fields_of([(LADDER, spec)], data, seeds, quiet(store), **more)
    return field


def made_up(results, spec=SPEC):
    """A field whose results[seed][rung] are (Recall@20 on valid, on test, best epoch)."""

    def record(seed, number, valid, test, epoch):
        density = 0.6**number
        hits = Hits(np.arange(4), np.zeros((4, 20), bool), np.ones(4, np.int64))
        hits.hits[:2, 0] = True
        parts = {
            "best_epoch": epoch,
            "epochs": 9,
            "test": {"recall@20": test, "ndcg@20": test / 2},
            "valid": {"recall@20": valid},
            "hits": hits,
        }
        return PlainRecord(
            f"{seed}{number}", spec.described(), DATA.summary(), {}, {"density": density}, {}, parts
        )

    rungs = tuple(
        tuple(
            Planned(n, 0.6**n, "recorded" if r else "missing", r and record(seed, n, *r))
            for n, r in enumerate(row)
        )
        for seed, row in enumerate(results)
    )
    return Field(LADDER, spec, "toy0", "table", tuple(range(len(results))), rungs)


class TestNarrow:
    @pytest.fixture
    def sizes(self, store):
        """Ladders from 4 and 8 columns; half of the wide one is as much as all of the narrow."""
        ladder = Ladder(densities=(0.8, 0.51, 0.3))
        fields = []
        for size in (8, 4):
            spec = SPEC.with_model(embedding_size=size)
            fields += fields_of([(ladder, spec)], DATA, (0, 1), quiet(store))
        return fields

    def test_the_sparsest_ticket_that_has_no_fewer_entries(self, sizes):
        [one] = beside_narrow(sizes)
        wide, narrow = sizes
        assert (one.narrow.spec, one.wide.spec) == (narrow.spec, wide.spec)
        assert one.number == 2
        entries = wide.records(2)[0].mask["entries"] / (DATA.rows * 4)
        assert one.more == pytest.approx(entries - 1)
        assert 0 <= one.more < 0.03
        ticket, dense = (
            np.array([r.metric("recall@20") for r in field.records(number)])
            for field, number in ((wide, 2), (narrow, 0))
        )
        assert one.difference.mean == pytest.approx((ticket / dense - 1).mean())

    def test_a_ticket_of_many_more_entries_is_none(self, sizes):
        assert beside_narrow(sizes, most=0.01) == []
        assert beside_narrow(sizes[:1]) == []

    def test_beside_the_narrow_table_tuned(self, sizes, store):
        wide, narrow = sizes
        alone = dataclasses.replace(narrow.ladder, densities=())
        spec = narrow.spec.with_training(l2=1e-2)
        other = fields_of([(alone, spec)], DATA, (0,), quiet(store))
        [tuned] = tunings("l2", sizes, other)
        [one] = beside_narrow(sizes)
        found = beside_tuned(one, [tuned])
        dense = tuned.runs[tuned.chosen][0]
        assert tuned.field.seeds == (0,)  # the seeds that both have
        assert found == difference([wide.records(2)[0]], [dense])
        assert beside_tuned(one, []) is None
        shown = plots.narrow_table(sizes, [tuned]).as_raw_html()
        assert "to it with λ tuned" in shown

    def test_the_table(self, sizes):
        shown = plots.narrow_table(sizes).as_raw_html()
        assert f"F = 8 at {sizes[0].standings[2].density:.1%}" in shown
        assert "Two embedding sizes at least" in plots.narrow_table([]).as_raw_html()


class TestFields:
    def test_trains_what_is_missing_and_no_more(self, store, monkeypatch):
        epochs = count_epochs(monkeypatch)
        looked = field_in(store, train_missing=False)
        assert (looked.missing, epochs) == (9, [])
        assert looked.standings == [None] * 3
        assert looked.sparsest is None
        assert "not run yet (9 trainings missing)" in looked.finding
        assert "0 of 9 trainings recorded" in repr(looked)
        with pytest.raises(ValueError, match="nothing to choose from"):
            _ = looked.to_take_home
        whole = field_in(store)
        assert whole.missing == 0
        ran = len(epochs)
        assert field_in(store).standings == whole.standings
        assert len(epochs) == ran

    def test_a_seed_sets_start_and_order(self, store):
        field = field_in(store, seeds=(0, 5))
        for seed, rungs in zip((0, 5), field.rungs, strict=True):
            for rung in rungs:
                assert rung.record.init == {"init": "seeded", "seed": seed}
                assert rung.record.spec["training"]["order_seed"] == seed
        ladder, spec = field.first_seed
        assert (ladder.seed, spec.training.order_seed) == (0, 0)

    def test_standings_are_paired_by_seed(self, store):
        field = field_in(store)
        for number, standing in enumerate(field.standings):
            records, dense = field.records(number), field.records(0)
            values = [r.metric("recall@20") for r in records]
            assert standing.results["recall@20"] == pytest.approx(np.mean(values))
            assert standing.spread == pytest.approx(np.std(values, ddof=1))
            assert standing.difference == relative_difference(
                values, [d.metric("recall@20") for d in dense]
            )
            on_valid = [[r.metric("recall@20", "valid") for r in rows] for rows in (records, dense)]
            assert standing.difference_valid == relative_difference(*on_valid)
            assert standing.keys == tuple(r.key for r in records)
            assert standing.runs == 3
        assert field.standings[0].difference.mean == 0
        assert field.standings[0].claim is None

    def test_one_seed_has_a_user_bootstrap_and_no_claim(self, store):
        field = field_in(store, seeds=(0,))
        assert field.standings[1].difference.kind == "user bootstrap"
        assert {s.claim for s in field.standings} == {None}
        assert "no claim" in field.finding
        assert "user bootstrap" in field.finding

    def test_a_missing_seed_leaves_its_rung_out(self, store):
        field = field_in(store)
        store.remove(field.rungs[1][1].record.key)
        there = field_in(store, train_missing=False)
        assert there.missing == 1
        assert there.records(1) is None
        assert [s is None for s in there.standings] == [False, True, False]

    def test_under_paper_the_choice_is_made_on_test(self, store):
        data = DATA.for_protocol("paper")
        field = field_in(store, spec=toy_spec(protocol="paper"), data=data)
        for standing in field.standings:
            assert standing.difference_valid == standing.difference
        assert " on test" in field.finding


class TestVerdicts:
    # Valid and test disagree: rung 2 wins on valid, and loses on test.
    SPLIT = tuple(
        ((0.1 + s, 0.2 + s, 5), (0.11 + s, 0.22 + s, 4), (0.11 + s, 0.1 + s, 6))
        for s in (0.0, 0.001, 0.002)
    )

    def test_the_sparsest_is_chosen_on_valid_and_reported_on_test(self):
        field = made_up(self.SPLIT)
        star = field.sparsest
        assert star.number == field.to_take_home == 2
        assert star.difference.mean < -0.4
        assert star.claim is False
        assert field.standings[1].claim is True
        assert "wins in 0 of 3 runs" in field.finding
        assert "the sparsest ticket that wins on valid keeps" in field.finding

    def test_wins_by_definition_count_epochs_too(self):
        """Rung 2 reaches more on valid, but a later epoch than the dense model's."""
        field = made_up(self.SPLIT)
        assert [s.wins for s in field.standings] == [0, 3, 0]

    def test_no_winner(self):
        field = made_up(
            [((0.1, 0.1, 5), (0.05, 0.1, 5), (0.02, 0.1, 5))] * 3,
        )
        assert field.sparsest is None
        assert "no rung wins" in field.finding
        assert field.to_take_home == 1  # none is level either: the best mean among the tickets

    def test_level_with_dense_but_not_beyond_doubt(self):
        """The mean is above, the interval far below −1 %: to take home, but no winner."""
        rows = [((0.1, 0.1, 5), (v, 0.1, 5), (0.01, 0.1, 5)) for v in (0.05, 0.1, 0.2)]
        field = made_up(rows)
        assert field.sparsest is None
        assert field.to_take_home == 1

    def test_metrics_are_means_over_seeds(self):
        field = made_up(self.SPLIT)
        assert field.standings[1].results["ndcg@20"] == pytest.approx(0.1105)
        assert field.standings[1].epoch == 4
        assert dataclasses.replace(field, seeds=(0, 1)).missing == 0


@pytest.mark.parametrize("seeds", [(), (0, 0, 0), (1, 2, 1)])
def test_a_seed_counts_once(tmp_path, seeds):
    """Three times one run would look like perfect agreement."""
    contest = (Ladder(rungs=1), toy_spec())
    with pytest.raises(ConfigError, match=r"seeds: found .* expected one or more, each once"):
        fields_of([contest], toy_data(), seeds, quiet(Store(tmp_path, results=None)))

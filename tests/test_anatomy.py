"""What is inside a ticket: counts by hand, planted masks, and overlaps that are known."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from test_standings import DATA, LADDER, SPEC, made_up
from toys import interactions, quiet, toy_data, toy_spec, trained

from lthnb import anatomy
from lthnb.anatomy import Opened, costs, nonzero_by_layer, opened, overlap, row_sizes
from lthnb.config import ConfigError, Model
from lthnb.data import to_csr
from lthnb.evaluation import Hits
from lthnb.pruning import Mask
from lthnb.sampling import initial_table
from lthnb.standings import fields_of
from lthnb.store.runs import Store

# Two users and three items; rows keep 3, 1 and 2, 0, 1 of four entries.
PLANTED = np.array(
    [[1, 1, 1, 0], [0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]], bool
)  # fmt: skip
MF, LIGHTGCN = Model("mf", 4), Model("lightgcn", 4, layers=2)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", results=None)


def fields_in(store, backbones=("mf", "lightgcn"), seeds=(0, 1), data=DATA, **more):
    contests = [(LADDER, toy_spec(b)) for b in backbones]
    return fields_of(contests, data, seeds, quiet(store), **more)


class TestRows:
    def test_fullest_mean_and_empty(self):
        users, items = row_sizes(PLANTED[:2]), row_sizes(PLANTED[2:])
        assert (users.fullest, users.mean, users.empty) == (3, 2, 0)
        assert (items.fullest, items.mean, items.empty) == (2, 1, pytest.approx(1 / 3))


class TestCosts:
    def test_mf_by_hand(self):
        c = costs(PLANTED, 2, MF, pairs=3)
        # Columns are kept by 1, 2, 1, 0 users and 1, 1, 1, 0 items.
        assert c.work_needed == pytest.approx((1 + 2 + 1) / (2 * 3 * 4))
        assert c.work_paper == pytest.approx(2 / 4)
        assert c.memory_paper == pytest.approx((2 * 3 + 3 * 2) / 20)
        assert c.memory_kept == c.memory_served == pytest.approx(7 / 20)

    def test_needed_is_the_sum_over_all_pairs(self):
        kept = np.random.default_rng(0).random((30, 6)) < 0.3
        common = kept[:10].astype(int) @ kept[10:].T.astype(int)
        assert costs(kept, 10, Model("mf", 6), 1).work_needed == common.sum() / (10 * 20 * 6)

    @pytest.mark.parametrize("model", [MF, LIGHTGCN])
    def test_the_dense_model_is_the_unit(self, model):
        train = sp.csr_matrix(to_csr([0, 0, 1], [0, 1, 2], (2, 3)))
        c = costs(np.ones((5, 4), bool), 2, model, train.nnz, train)
        assert set(vars(c).values()) == {1.0}

    def test_lightgcn_by_hand(self):
        """User 0 with items 0 and 1, user 1 with item 2; only user 0's first entry lives."""
        train = sp.csr_matrix(to_csr([0, 0, 1], [0, 1, 2], (2, 3)))
        kept = np.zeros((5, 4), bool)
        kept[0, 0] = True
        c = costs(kept, 2, LIGHTGCN, 3, train)
        # It goes to two items, and from them back: 2 + 2 multiply-adds. Served are user 0 and
        # items 0 and 1, one entry each: two pairs share it.
        assert c.work_needed == pytest.approx((2 + 2 + 2) / ((2 * 2 * 3 + 6) * 4))
        assert c.memory_served == pytest.approx(3 / 20)
        assert c.work_paper == 0, "the formula takes the items' fullest row, which is empty"

    def test_without_a_graph_what_needs_it_is_left_out(self):
        c = costs(PLANTED, 2, LIGHTGCN, 3)
        assert np.isnan([c.work_needed, c.memory_served]).all()
        assert c.work_paper == pytest.approx(2 / 4)


class TestLayers:
    # A path: item 0 – user 0 – item 1 – user 1; item 2 has nobody.
    TRAIN = sp.csr_matrix(to_csr([0, 0, 1], [0, 1, 1], (2, 3)))

    def test_an_entry_walks_along_the_path(self):
        kept = np.zeros((5, 2), bool)
        kept[2, 0] = True  # item 0
        layers = nonzero_by_layer(kept, self.TRAIN, 3)
        rows = [set(np.flatnonzero(layer[:, 0])) for layer in layers]
        assert rows == [{2}, {0}, {2, 3}, {0, 1}, {0, 1, 2, 3}]
        assert not any(layer[:, 1].any() for layer in layers)

    def test_a_row_without_neighbours_is_kept_in_the_combination_alone(self):
        kept = np.zeros((5, 1), bool)
        kept[4] = True  # item 2
        assert [layer.sum() for layer in nonzero_by_layer(kept, self.TRAIN, 2)] == [1, 0, 0, 1]

    def test_a_trained_table_fills_as_its_mask_says(self, store):
        [field] = fields_in(store, ("lightgcn",), (0,))
        ticket = opened(field, DATA, quiet(store), rung=2)
        run, layers = ticket.ticket[0], field.spec.model.layers
        by_mask = nonzero_by_layer(ticket.masks[0], DATA.train, layers)
        by_table = nonzero_by_layer(run.weights(), DATA.train, layers)
        for mask, table in zip(by_mask, by_table, strict=True):
            np.testing.assert_array_equal(mask, table)
        np.testing.assert_array_equal(by_mask[-1], run.outputs().numpy() != 0)


class TestSizes:
    def test_every_rung_over_seeds(self, store):
        fields = fields_in(store)
        for field in fields:
            there = anatomy.sizes(field, DATA)
            assert [s.number for s in there] == [0, 1, 2]
            for s, rung in zip(there, field.rungs[0], strict=True):
                masks = anatomy.masks_of(field, s.number)
                assert s.density == s.costs.memory_kept == rung.record.density
                assert s.users.fullest == np.mean([m[: DATA.users].sum(1).max() for m in masks])
                kept = DATA.users * s.users.mean + DATA.items * s.items.mean
                assert kept == pytest.approx(masks[0].sum())
            assert "mean rows" in anatomy.cost_finding(field, there)
        mf, lightgcn = (anatomy.sizes(field, DATA)[2] for field in fields)
        assert mf.layers == ()
        assert mf.costs.memory_served == mf.density
        assert lightgcn.layers[0] == lightgcn.density
        assert lightgcn.layers[-1] == lightgcn.costs.memory_served > lightgcn.density
        assert np.isnan(anatomy.sizes(fields[1])[2].costs.work_needed)
        assert anatomy.sizes(fields[1])[2].layers == ()

    def test_what_was_not_run(self, store):
        [field] = fields_in(store, ("mf",), train_missing=False)
        assert anatomy.sizes(field, DATA) == [None] * 3
        assert "not run yet" in anatomy.cost_finding(field, [None] * 3)


class TestOpened:
    def test_the_ticket_to_take_home_or_a_rung(self, store):
        [field] = fields_in(store, ("mf",))
        control = quiet(store)
        ticket = opened(field, DATA, control)
        assert ticket.number == field.to_take_home
        assert ticket.density == pytest.approx(0.6**ticket.number, abs=0.01)
        assert [run.key for run in ticket.dense] == [r.key for r in field.records(0)]
        assert opened(field, DATA, control, rung=2).number == 2
        for rung in (3, -2):
            with pytest.raises(ConfigError, match=rf"rung: found {rung}, expected .* 0 … 2"):
                opened(field, DATA, control, rung=rung)

    @pytest.mark.parametrize("rung", [0, 1, 2])
    def test_its_runs_are_those_that_a_ladder_climbs(self, store, rung):
        """A table computed again is the recorded one, from the same start under the same mask."""
        [field] = fields_in(store, ("mf",))
        ticket = opened(field, DATA, quiet(store), rung=rung)
        for run, seed in zip(ticket.ticket, field.seeds, strict=True):
            assert run.init.described() == run.record.init == {"init": "seeded", "seed": seed}
            stored = run.weights()
            for path in store.folder.rglob("*"):
                if path.is_file() and run.key in str(path) and "weights" in path.name:
                    path.unlink()
            np.testing.assert_array_equal(run.ensure_weights(), stored)

    def test_without_tables_or_data_masks_are_left(self, store, tmp_path):
        [field] = fields_in(store, ("mf",))
        assert opened(field).dense == ()
        assert opened(field).masks[0].shape == (DATA.rows, 4)
        empty = quiet(Store(tmp_path / "other", results=None))
        ticket = opened(field, DATA, empty, replay=False)
        assert ticket.dense == ticket.ticket == ()
        assert ("ticket", "users") in ticket.recall
        assert ("ticket", "items") not in ticket.recall
        assert "Set to zero" not in anatomy.finding(ticket)

    def test_what_was_not_run(self, store):
        [field] = fields_in(store, ("mf",), train_missing=False)
        ticket = opened(field, DATA, quiet(store))
        assert ticket.number is None
        assert "not run yet" in anatomy.finding(ticket)
        assert opened(field, rung=1).number is None


class TestGroups:
    def test_means_and_empty_groups(self):
        means = anatomy.group_means(np.array([1, 2, 6]), np.array([0, 0, 2]), 3)
        np.testing.assert_array_equal(means, [1.5, np.nan, 6])

    def test_recall_over_users_is_the_mean_of_their_own(self):
        hits = Hits(np.array([0, 2, 3]), np.zeros((3, 20), bool), np.array([1, 2, 4]))
        hits.hits[0, 0] = hits.hits[1, 5] = True
        recall = anatomy.recall_by_user_group(hits, np.array([0, 0, 0, 1]))
        assert list(recall[:2]) == [0.75, 0]
        assert np.isnan(recall[2:]).all()

    def test_share_of_hits_over_items(self):
        test = sp.csr_matrix(to_csr([0, 0, 1], [0, 2, 2], (2, 3)))
        best = np.array([[1, 2], [2, -1]])
        shares = anatomy.hit_share(best, test, np.array([0, 0, 1]), 3)
        np.testing.assert_array_equal(shares, [0, 1, np.nan])

    def test_hits_over_items_are_the_record_s(self, store):
        """Summed over groups they are what the record counts over users."""
        run = trained(store, DATA, SPEC)
        groups = anatomy.popularity_groups(DATA.item_degree)
        pairs = np.bincount(groups[DATA.test.indices], minlength=10)
        shares = np.nan_to_num(anatomy.recall_by_item_group(run, groups))
        assert shares @ pairs == pytest.approx(run.record.hits().hits.sum())

    def test_groups_are_of_train_alone(self):
        train = np.array([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]])
        none = np.zeros_like(train)
        test = none.copy()
        test[:, 3] = 1
        data = interactions(train, none, test)
        assert list(anatomy.degrees(data)["items"]) == [3, 2, 1, 0]
        assert list(anatomy.degrees(data)["users"]) == [3, 1, 2]

    def test_a_planted_mask_by_group(self):
        """Items keep one entry a training pair, users all that they have."""
        data = toy_data()
        kept = np.ones((data.rows, 40), bool)
        kept[data.users :] = np.arange(40) < data.item_degree[:, None]
        field = made_up([((0.1, 0.2, 5), (0.1, 0.2, 5))])
        ticket = Opened(field, 1, (kept, kept), data)
        assert (ticket.kept_by_group("users") == 40).all()
        by_group = ticket.kept_by_group("items")[0]
        assert (np.diff(by_group[~np.isnan(by_group)]) >= 0).all()
        assert ticket.rank_correlations("items") == pytest.approx(1)
        assert np.isnan(ticket.rank_correlations("users")).all()

    def test_a_difference_is_paired_by_seed(self, store):
        [field] = fields_in(store, ("mf",), (0, 1, 2))
        ticket = opened(field, DATA, quiet(store), rung=2)
        for side in anatomy.SIDES:
            dense, here = (ticket.recall[m, side] for m in ("dense", "ticket"))
            group = int(np.flatnonzero(~np.isnan(dense[0]))[0])
            d = ticket.recall_difference(side, group)
            assert d.mean == pytest.approx(np.mean(here[:, group] - dense[:, group]))
            assert (d.kind, d.n) == ("t over seeds", 3)


class TestColumns:
    def test_even_random_and_lopsided(self):
        rng = np.random.default_rng(0)
        even = np.tile(np.eye(8, dtype=bool), (50, 1))
        assert anatomy.scatter(even) == 0
        drawn = [anatomy.scatter(rng.random((400, 32)) < 0.3) for _ in range(30)]
        assert np.mean(drawn) == pytest.approx(1, abs=0.15)
        lopsided = np.zeros((400, 8), bool)
        lopsided[:, :4] = True
        assert anatomy.scatter(lopsided) > 100

    @pytest.mark.parametrize("mask", [np.ones((3, 2)), np.zeros((3, 2)), np.eye(3)[:, :1]])
    def test_nothing_to_say(self, mask):
        assert np.isnan(anatomy.scatter(mask.astype(bool)))


class TestMagnitudes:
    def test_known_shares(self):
        table = np.array([[9.0, -8.0], [1.0, -2.0]])
        assert anatomy.among_largest(np.array([[1, 1], [0, 0]], bool), table) == 1
        assert anatomy.among_largest(np.array([[1, 0], [1, 0]], bool), table) == 0.5
        assert anatomy.among_largest(np.array([[0, 0], [1, 1]], bool), table) == 0
        assert np.isnan(anatomy.among_largest(np.zeros((2, 2), bool), table))

    def test_chance_is_the_density(self):
        rng = np.random.default_rng(1)
        table = rng.standard_normal((500, 32))
        kept = rng.random((500, 32)) < 0.2
        assert anatomy.among_largest(kept, table) == pytest.approx(0.2, abs=0.02)

    def test_after_one_pruning_all_are(self, store):
        [field] = fields_in(store, ("mf",))
        ticket = opened(field, DATA, quiet(store), rung=2)
        first, second = anatomy.magnitudes(ticket)
        assert list(first.trained) == [1, 1]
        assert (second.trained < 1).all()
        start = initial_table(1, DATA.rows, 4)
        kept = anatomy.masks_of(field, 1)[1]
        assert first.start[1] == anatomy.among_largest(kept, start)
        masks_alone = anatomy.magnitudes(opened(field, rung=2))
        assert masks_alone[0].trained.size == 0
        np.testing.assert_array_equal(masks_alone[0].start, first.start)


class TestWithout:
    def test_entries_taken_out(self, store):
        run = trained(store, DATA, SPEC)
        kept = np.random.default_rng(0).random((DATA.rows, 4)) < 0.4
        recall = anatomy.without(run, kept)
        assert recall["all"] == run.record.metric("recall@20")
        assert recall["kept alone"] != recall["all"]
        assert anatomy.without(run, kept) == recall

    def test_a_ticket_that_is_all_there_is(self, store):
        """The pruned entries of this model are zero already, so nothing is lost without them."""
        kept = np.random.default_rng(0).random((DATA.rows, 4)) < 0.6
        run = trained(store, DATA, SPEC, mask=Mask(kept))
        recall = anatomy.without(run, kept)
        assert recall["all"] == recall["kept alone"] == recall["pruned removed"]
        assert recall["kept removed"] != recall["all"]


class TestOverlap:
    def test_one_mask_with_itself(self):
        o = overlap(PLANTED, PLANTED)
        assert o.jaccard == 1
        assert o.chance == pytest.approx(20 / 7)
        assert o.rows == pytest.approx(7 / ((9 + 1 + 4 + 0 + 1) / 4))

    def test_apart_and_empty(self):
        o = overlap(PLANTED, ~PLANTED)
        assert (o.jaccard, o.chance, o.rows) == (0, 0, 0)
        nothing = overlap(PLANTED, np.zeros_like(PLANTED))
        assert nothing.jaccard == 0
        assert np.isnan([nothing.chance, nothing.rows]).all()

    def test_independent_masks_are_at_chance(self):
        rng = np.random.default_rng(2)
        a, b = (rng.random((2000, 32)) < 0.25 for _ in range(2))
        o = overlap(a, b)
        assert o.chance == pytest.approx(1, abs=0.03)
        assert o.rows == pytest.approx(1, abs=0.03)

    def test_sizes_of_rows_alone_look_like_agreement(self):
        rng = np.random.default_rng(3)
        size = np.where(np.arange(2000) % 2, 28, 2)[:, None] / 32
        a, b = (rng.random((2000, 32)) < size for _ in range(2))
        o = overlap(a, b)
        assert o.chance > 1.5
        assert o.rows == pytest.approx(1, abs=0.03)

    def test_between_seeds_and_between_backbones(self, store):
        mf, lightgcn = fields_in(store, seeds=(0, 1, 2))
        masks = anatomy.masks_of(mf, 1)
        three = [overlap(masks[a], masks[b]).jaccard for a, b in ((0, 1), (0, 2), (1, 2))]
        assert anatomy.overlap_between_seeds(mf, 1).jaccard == pytest.approx(np.mean(three))
        pairs = list(zip(masks, anatomy.masks_of(lightgcn, 1), strict=True))
        both = anatomy.overlap_between_fields(mf, lightgcn, 1)
        assert both.jaccard == pytest.approx(np.mean([overlap(a, b).jaccard for a, b in pairs]))
        a, b = (opened(field, rung=1) for field in (mf, lightgcn))
        assert f"{both.rows:.2f} times" in anatomy.shared_finding(a, b)
        assert anatomy.shared_finding(a, opened(lightgcn, rung=2)) == ""

    def test_with_one_seed_there_is_no_pair(self, store):
        [field] = fields_in(store, ("mf",), (0,))
        assert anatomy.overlap_between_seeds(field, 1) is None
        assert anatomy.overlap_between_fields(field, replace(field, seeds=(1,)), 1) is None
        assert "Two seeds" not in anatomy.finding(opened(field, DATA, quiet(store)))


def test_finding_names_its_numbers(store):
    fields = fields_in(store)
    for field in fields:
        ticket = opened(field, DATA, quiet(store), rung=1)
        said = anatomy.finding(ticket)
        for text in ("2 seeds", "of 4 on the average", "start X⁰", "Set to zero", "Two seeds keep"):
            assert text in said
        assert f"density {ticket.density:.1%}" in said
        dense = anatomy.finding(opened(field, DATA, quiet(store), rung=0))
        assert "Set to zero" not in dense

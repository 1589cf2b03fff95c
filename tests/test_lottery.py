"""Searches: what is trained, what is shared, which entries go, and where a round starts."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from toys import count_epochs, count_trainings, quiet, record_all, toy_data, toy_spec

from lthnb.config import ConfigError, Schedule, Seeded, Snapshot
from lthnb.lottery import rounds_of, targets
from lthnb.pruning import Mask, prune
from lthnb.store import adding
from lthnb.store.files import read_arrays
from lthnb.store.runs import Store

DATA, SPEC = toy_data(), toy_spec()
IMP = Schedule("imp", 0.3, 3)


def searched(store, schedule=IMP, spec=SPEC, data=DATA, **settings):
    """The runs of a search, dense first."""
    return [one.run for one in rounds_of(schedule, spec, data, quiet(store, **settings))]


class TestSharing:
    def test_asked_twice_it_trains_once(self, store, monkeypatch):
        keys, epochs = count_trainings(monkeypatch), count_epochs(monkeypatch)
        first = searched(store)
        assert len(keys) == len(set(keys)) == 4
        del epochs[:]
        again = searched(store)
        assert len(keys) == 4
        assert epochs == []
        assert [r.record for r in again] == [r.record for r in first]
        assert [r.record.mask_digest for r in again] == [r.record.mask_digest for r in first]
        for one, other in zip(first, again, strict=True):
            assert np.array_equal(one.ensure_mask().kept, other.ensure_mask().kept)

    def test_a_longer_search_goes_on_where_a_shorter_one_ended(self, store, monkeypatch):
        searched(store)
        keys = count_trainings(monkeypatch)
        longer = searched(store, replace(IMP, rounds=5))
        assert keys == [longer[4].key, longer[5].key]

    def test_all_methods_share_the_dense_run(self, store, monkeypatch):
        keys = count_trainings(monkeypatch)
        schedules = [
            IMP,
            replace(IMP, method="omp"),
            replace(IMP, method="rp"),
            replace(IMP, method="rp_x0"),
            replace(IMP, rewind="reinit"),
            replace(IMP, rewind="continue"),
            replace(IMP, rewind="late"),
            replace(IMP, scope="user_item"),
        ]
        runs = [searched(store, schedule) for schedule in schedules]
        assert {rounds[0].key for rounds in runs} == {keys[0]}
        # Round 1 of OMP is round 1 of IMP: one pruning of the dense model, from X⁰.
        assert runs[1][1].key == runs[0][1].key
        assert len(keys) == len(set(keys)) == 1 + 3 * len(schedules) - 1

    def test_a_search_can_be_walked_without_weights_and_masks(self, store, monkeypatch):
        first = searched(store)
        kept = first[3].ensure_mask().kept
        bare, epochs = record_all(store, masks=False), count_epochs(monkeypatch)
        again = searched(bare)
        assert epochs == []
        assert [r.record.row for r in again] == [r.record.row for r in first]
        assert again[3].record.density == first[3].record.density
        # Whoever needs the bits gets them, by replaying what they come from.
        assert np.array_equal(again[3].ensure_mask().kept, kept)
        assert len(epochs) == sum(r.record.best_epoch for r in first[:3])

    def test_a_recorded_search_is_looked_up_and_goes_on(self, store, monkeypatch):
        """Rows and masks alone, as `results/` has them: the last round's weights are replayed."""
        searched(store)
        other, keys = record_all(store), count_trainings(monkeypatch)
        longer = searched(other, replace(IMP, rounds=4))
        assert keys == [longer[4].key]
        assert longer[4].key == searched(store, replace(IMP, rounds=4))[4].key

    def test_a_round_that_prunes_nothing_is_recorded_like_the_others(self, store):
        """Its mask is the dense table, or the one before."""
        share = 1 - 0.4 / DATA.rows / SPEC.model.embedding_size
        rounds = searched(store, Schedule(densities=(share, 0.5, 0.5 * share, 0.3)))
        same = [r.record.mask_digest == s.record.mask_digest for r, s in itertools.pairwise(rounds)]
        assert same == [True, False, True, False]
        there = record_all(store)
        assert list(adding.verify(there.results)) == []
        made = [
            read_arrays(path)[1]["pruning"] for path in store.folder.glob("masks/*.safetensors")
        ]
        assert len(made) == 4
        for about in made:
            here, found = (one.find_mask(about, rounds[0].record.shape) for one in (store, there))
            assert np.array_equal(found.kept, here.kept)

    @pytest.mark.parametrize("scope", ["join", "user_item"])
    def test_random_masks_are_not_recorded_but_drawn_again(self, store, scope):
        rounds = searched(store, replace(IMP, method="rp", scope=scope))
        there = record_all(store)
        assert there.recorded_tables.parts("masks") == []
        for round_ in rounds[1:]:
            found = there.find_mask(round_.record.pruning, round_.record.shape)
            assert np.array_equal(found.kept, round_.ensure_mask().kept)
        # One drawn otherwise than its row says is none.
        about = {**round_.record.pruning, "digest": "0" * 32}
        assert there.find_mask(about, round_.record.shape) is None


USERS, ITEMS = slice(0, DATA.users), slice(DATA.users, None)
SIDES = {"join": [slice(None)], "user": [USERS], "item": [ITEMS], "user_item": [USERS, ITEMS]}


class TestMasks:
    @pytest.mark.parametrize("scope", SIDES)
    @pytest.mark.parametrize("method", ["imp", "omp", "rp"])
    def test_each_round_prunes_its_rate_of_what_survives_and_nothing_else(
        self, store, method, scope
    ):
        schedule, spec = Schedule(method, 0.3, 3, scope=scope), toy_spec(epochs=1)
        found = list(rounds_of(schedule, spec, DATA, quiet(store)))
        rounds = [one.run for one in found]
        for before, after in itertools.pairwise(one.ensure_mask().kept for one in rounds):
            lost = [round(0.3 * before[side].sum()) for side in SIDES[scope]]
            assert [before[side].sum() - after[side].sum() for side in SIDES[scope]] == lost
            assert before.sum() - after.sum() == sum(lost)
        masks = [one.ensure_mask().kept for one in rounds]
        assert [one.record.entries for one in rounds] == [kept.sum() for kept in masks]
        assert [one.row["density"] for one in found] == [kept.mean() for kept in masks]

    def test_of_densities_each_side_keeps_its_share(self):
        """Halves to even. There are 40 users and 30 items; 3 entries a row."""
        sizes = {"join": (210,), "user": (120,), "item": (90,), "user_item": (120, 90)}
        for scope, whole in sizes.items():
            keep = targets(Schedule(densities=(0.5, 0.25), scope=scope), DATA, 3)
            assert keep == [tuple(round(share * n) for n in whole) for share in (0.5, 0.25)]
        assert keep == [(60, 45), (30, 22)]

    def test_imp_prunes_the_last_rounds_best_weights(self, store):
        for before, after in zip(*(searched(store)[k:] for k in (0, 1)), strict=False):
            alive = before.ensure_mask().kept
            weights = abs(before.weights())
            gone = alive & ~after.ensure_mask().kept
            assert weights[gone].max() <= weights[after.ensure_mask().kept].min()
            assert gone.sum() == round(0.3 * alive.sum())

    def test_omp_prunes_the_dense_models_and_has_imps_densities(self, store):
        imp, omp = searched(store), searched(store, replace(IMP, method="omp"))
        assert [r.record.entries for r in omp] == [r.record.entries for r in imp]
        for round_ in omp[1:]:
            scores = abs(omp[0].weights())
            keep = (round_.record.entries,)
            expected = prune(Mask.dense(DATA.rows, 4), scores, keep, users=DATA.users)
            assert expected.digest == round_.record.mask_digest
            assert round_.record.init == Seeded(0)
        assert imp[3].record.mask_digest != omp[3].record.mask_digest

    @pytest.mark.parametrize("method", ["imp", "omp"])
    def test_another_criterion_prunes_otherwise(self, store, method, monkeypatch):
        """It shares the dense run, is found again under its own key, and its rows stay even."""
        schedule = replace(IMP, method=method)
        plain, trained = searched(store, schedule), count_trainings(monkeypatch)
        even = searched(store, replace(schedule, criterion="row_rank"))
        assert even[0].key == plain[0].key
        assert len(trained) == 3
        for ours, other in zip(even[1:], plain[1:], strict=True):
            assert ours.record.entries == other.record.entries
            assert ours.record.mask_digest != other.record.mask_digest
            assert np.ptp(ours.ensure_mask().kept.sum(1)) <= 1
        searched(store, replace(schedule, criterion="row_rank"))
        assert len(trained) == 3

    def test_prune_from_last(self, store):
        spec = toy_spec(learning_rate=0.1, epochs=6, patience=6)
        rounds = searched(store, replace(IMP, prune_from="last", rounds=1), spec)
        run = rounds[0]
        assert run.record.best_epoch < run.record.epochs, "choose another toy"
        assert (store.folder / "runs" / run.key / "weights-6.safetensors").exists()
        for epoch, same in (("last", True), ("best", False)):
            scores, keep = abs(run.ensure_weights(epoch)), (rounds[1].record.entries,)
            mask = prune(Mask.dense(DATA.rows, 4), scores, keep, users=DATA.users)
            assert (mask.digest == rounds[1].record.mask_digest) is same

    def test_random_masks_know_nothing_of_the_data(self, store):
        schedule, other = replace(IMP, method="rp"), toy_data(seed=1)
        here = searched(store, schedule)
        there = searched(store, schedule, data=other)
        longer = searched(store, schedule, toy_spec(epochs=2))
        for rounds in (there, longer):
            assert [r.record.mask_digest for r in rounds] == [r.record.mask_digest for r in here]
            assert not {r.key for r in rounds} & {r.key for r in here}
        reseeded = searched(store, replace(schedule, seed=1))
        assert reseeded[1].record.mask_digest != here[1].record.mask_digest


class TestStarts:
    def test_rp_has_a_start_of_its_own_and_rp_x0_has_not(self, store):
        rp, x0 = (searched(store, replace(IMP, method=method)) for method in ("rp", "rp_x0"))
        assert [r.record.mask_digest for r in rp] == [r.record.mask_digest for r in x0]
        [own] = {r.record.init.seed for r in rp[1:]}
        assert own not in (0, 1, 2)
        assert {r.record.init.seed for r in x0} == {0}

    def test_reinit_differs_from_rewind_in_its_start_alone(self, store):
        rewind, reinit = searched(store), searched(store, replace(IMP, rewind="reinit"))
        assert reinit[1].record.mask_digest == rewind[1].record.mask_digest
        a, b = rewind[1].record, reinit[1].record
        assert (a.spec, a.row["data_digest"]) == (b.spec, b.row["data_digest"])
        assert a.init != b.init
        assert a.results_digest != b.results_digest
        assert len({r.record.init.seed for r in reinit}) == 4  # fresh at every round

    def test_continue_starts_from_the_weights_that_were_pruned(self, store):
        rounds = searched(store, replace(IMP, rewind="continue"), toy_spec(learning_rate=1e-30))
        for before, after in itertools.pairwise(rounds):
            assert after.record.init == Snapshot(before.key, "best")
            kept = np.where(after.ensure_mask().kept, before.weights(), 0)
            assert np.array_equal(after.weights(), kept)  # nothing moves at such a rate

    def test_omp_continues_from_the_dense_model(self, store):
        rounds = searched(store, replace(IMP, method="omp", rewind="continue"))
        assert {r.record.init.run for r in rounds[1:]} == {rounds[0].key}

    def test_late_starts_from_an_early_epoch_of_the_dense_model(self, store):
        schedule = replace(IMP, rewind="late", rewind_epoch=2)
        rounds = searched(store, schedule, toy_spec(learning_rate=0.02))
        dense = rounds[0]
        assert all(r.record.init == Snapshot(dense.key, 2) for r in rounds[1:])
        assert (store.folder / "runs" / dense.key / "weights-2.safetensors").exists()
        # The dense run was there already, without that table: it is replayed.
        other = Store(store.folder.parent / "other", None)
        searched(other, replace(IMP, rounds=0))
        assert [r.record.results_digest for r in searched(other, schedule)] == [
            r.record.results_digest for r in rounds
        ]

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"rewind": "late", "rewind_epoch": 9}, "rewind_epoch: found 9, expected at most .* 4"),
            ({"method": "rp", "criterion": "row_rank"}, "criterion: found 'row_rank' with .* 'rp'"),
            ({"method": "rp", "rewind": "reinit"}, "rewind: found .* reads no trained"),
            ({"method": "rp_x0", "rewind": "continue"}, "rewind: found .* reads no trained"),
            ({"method": "rp_x0", "rewind": "late"}, "rewind: found .* reads no trained"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, store, settings, message):
        with pytest.raises(ConfigError, match=message):
            searched(store, Schedule(**settings))

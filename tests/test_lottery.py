"""Ladders: what is trained, what is shared, which entries go, and where a rung starts."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from toys import count_epochs, count_trainings, quiet, toy_data, toy_spec

from lthnb.config import ConfigError, Ladder, Seeded, Snapshot
from lthnb.lottery import plan, run_ladder, targets
from lthnb.pruning import Mask, prune
from lthnb.store import adding
from lthnb.store.files import StoreError
from lthnb.store.runs import Store

DATA, SPEC = toy_data(), toy_spec()
IMP = Ladder("imp", 0.3, 3)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", results=None)


def climbed(store, ladder=IMP, spec=SPEC, data=DATA, **settings):
    return run_ladder(ladder, spec, data, quiet(store, **settings))


def start(rung):
    return rung.record.init


class TestSharing:
    def test_asked_twice_it_trains_once(self, store, monkeypatch):
        keys, epochs = count_trainings(monkeypatch), count_epochs(monkeypatch)
        first = climbed(store)
        assert len(keys) == len(set(keys)) == 4
        del epochs[:]
        again = climbed(store)
        assert len(keys) == 4
        assert epochs == []
        assert [r.record for r in again] == [r.record for r in first]
        assert [r.mask.digest for r in again] == [r.mask.digest for r in first]
        for one, other in zip(first, again, strict=True):
            assert np.array_equal(one.mask.kept, other.mask.kept)

    def test_a_longer_ladder_goes_on_where_a_shorter_one_ended(self, store, monkeypatch):
        climbed(store)
        keys = count_trainings(monkeypatch)
        longer = climbed(store, replace(IMP, rungs=5))
        assert keys == [longer[4].run.key, longer[5].run.key]

    def test_all_methods_share_the_dense_run(self, store, monkeypatch):
        keys = count_trainings(monkeypatch)
        ladders = [
            IMP,
            replace(IMP, method="omp"),
            replace(IMP, method="rp"),
            replace(IMP, method="rp_x0"),
            replace(IMP, rewind="reinit"),
            replace(IMP, rewind="continue"),
            replace(IMP, rewind="late"),
            replace(IMP, scope="user_item"),
        ]
        runs = [climbed(store, ladder) for ladder in ladders]
        assert {rungs[0].run.key for rungs in runs} == {keys[0]}
        # Rung 1 of OMP is rung 1 of IMP: one pruning of the dense model, from X⁰.
        assert runs[1][1].run.key == runs[0][1].run.key
        assert len(keys) == len(set(keys)) == 1 + 3 * len(ladders) - 1

    def test_a_ladder_can_be_walked_without_weights(self, store, monkeypatch):
        first = climbed(store)
        kept = first[3].mask.kept
        for path in store.folder.glob("runs/*/weights-*"):
            path.unlink()
        epochs = count_epochs(monkeypatch)
        assert np.array_equal(climbed(store)[3].mask.kept, kept)
        assert epochs == []  # the bits lie in the store
        bare = record_all(store, masks=False)
        again = climbed(bare)
        assert epochs == []
        assert [r.record.row for r in again] == [r.record.row for r in first]
        assert again[3].mask.density == first[3].mask.density
        with pytest.raises(StoreError, match=r"ensure_mask"):
            _ = again[3].mask.kept
        # Whoever needs the bits gets them, by replaying what they come from.
        assert np.array_equal(again[3].run.ensure_mask().kept, kept)
        assert len(epochs) == sum(r.record.best_epoch for r in first[:3])

    def test_a_ladder_from_recorded_results(self, store, monkeypatch):
        """Rows alone, as `results/` has them: nothing is trained, nothing read."""
        first = climbed(store)
        other = record_all(store)
        keys, epochs = count_trainings(monkeypatch), count_epochs(monkeypatch)
        assert [r.record.row for r in climbed(other)] == [r.record.row for r in first]
        assert {p.state for p in plan(IMP, SPEC, DATA, other)} == {"recorded"}
        assert keys == epochs == []
        # One rung more needs the last rung's weights: replayed, not trained as a run.
        longer = climbed(other, replace(IMP, rungs=4))
        assert keys == [longer[4].run.key]
        assert longer[4].run.key == climbed(store, replace(IMP, rungs=4))[4].run.key

    def test_a_rung_that_prunes_nothing_is_recorded_like_the_others(self, store):
        """Its mask is the dense table, or the one before."""
        share = 1 - 0.4 / DATA.rows / SPEC.model.embedding_size
        rungs = climbed(store, Ladder(densities=(share, 0.5, 0.5 * share, 0.3)))
        same = [r.mask.digest == s.mask.digest for r, s in itertools.pairwise(rungs)]
        assert same == [True, False, True, False]
        there = record_all(store)
        assert list(adding.verify(there.results)) == []
        for rung in rungs:
            found = there.find_mask(rung.mask.about, rung.mask.shape)
            assert np.array_equal(found.kept, rung.mask.kept)

    @pytest.mark.parametrize("scope", ["join", "user_item"])
    def test_random_masks_are_not_recorded_but_drawn_again(self, store, scope):
        rungs = climbed(store, replace(IMP, method="rp", scope=scope))
        there = record_all(store)
        assert there.recorded_tables.parts("masks") == []
        for rung in rungs[1:]:
            assert there.has_mask(rung.mask.about)
            found = there.find_mask(rung.mask.about, rung.mask.shape)
            assert np.array_equal(found.kept, rung.mask.kept)
        # One drawn otherwise than its row says is none.
        assert there.find_mask({**rung.mask.about, "digest": "0" * 32}, rung.mask.shape) is None


def record_all(store, **how) -> Store:
    """Record all runs of a store; a store that has these alone."""
    results = store.folder.parent / "results"
    adding.add(Store(store.folder, results), store.own_keys(), **how)
    return Store(store.folder.parent / "other", results)


class TestMasks:
    @pytest.mark.parametrize("scope", ["join", "user", "item", "user_item"])
    @pytest.mark.parametrize("method", ["imp", "omp", "rp"])
    def test_counts_by_rate_are_exact(self, store, method, scope):
        ladder = Ladder(method, 0.3, 3, scope=scope)
        rungs = climbed(store, ladder, toy_spec(epochs=1))
        users, items = DATA.users * 4, DATA.items * 4
        sides = {"join": [[users + items], 0], "user": [[users], items], "item": [[items], users]}
        pruned, left_alone = sides.get(scope, [[users, items], 0])
        for rung in rungs:
            assert rung.mask.entries == sum(pruned) + left_alone
            assert rung.density == pytest.approx(rung.mask.entries / (users + items), abs=0)
            if scope == "user":
                assert rung.mask.kept[DATA.users :].all()
            if scope == "item":
                assert rung.mask.kept[: DATA.users].all()
            if scope == "user_item":
                assert rung.mask.kept[: DATA.users].sum() == pruned[0]
            pruned = [n - round(0.3 * n) for n in pruned]

    def test_densities_follow_the_rate(self):
        """(1 − pr)^i, to within the rounding of one entry a rung."""
        big = toy_data(400, 300)
        for i, (left,) in enumerate(targets(Ladder(), big, 32), start=1):
            assert abs(left - 0.9**i * big.rows * 32) < 6

    def test_by_density(self, store):
        rungs = climbed(store, Ladder("imp", densities=(0.5, 0.2, 0.1)), toy_spec(epochs=1))
        assert [r.mask.entries for r in rungs] == [280, 140, 56, 28]
        assert [r.density for r in rungs] == [1, 0.5, 0.2, 0.1]

    @pytest.mark.parametrize("method", ["imp", "omp", "rp", "rp_x0"])
    def test_are_nested(self, store, method):
        rungs = climbed(store, replace(IMP, method=method))
        for outer, inner in itertools.pairwise(rungs):
            assert not (inner.mask.kept & ~outer.mask.kept).any()
            assert inner.mask.entries < outer.mask.entries

    def test_imp_prunes_the_last_rungs_best_weights(self, store):
        for before, after in zip(*(climbed(store)[k:] for k in (0, 1)), strict=False):
            alive = before.mask.kept
            weights = abs(before.run.weights())
            gone = alive & ~after.mask.kept
            assert weights[gone].max() <= weights[after.mask.kept].min()
            assert gone.sum() == round(0.3 * alive.sum())

    def test_omp_prunes_the_dense_models_and_has_imps_densities(self, store):
        imp, omp = climbed(store), climbed(store, replace(IMP, method="omp"))
        assert [r.mask.entries for r in omp] == [r.mask.entries for r in imp]
        for rung in omp[1:]:
            scores = abs(omp[0].run.weights())
            keep = (rung.mask.entries,)
            expected = prune(Mask.dense(DATA.rows, 4), scores, keep, users=DATA.users)
            assert expected.digest == rung.mask.digest
            assert start(rung) == {"init": "seeded", "seed": 0}
        assert imp[3].mask.digest != omp[3].mask.digest

    @pytest.mark.parametrize("method", ["imp", "omp"])
    def test_another_criterion_prunes_otherwise(self, store, method, monkeypatch):
        """It shares the dense run, is found again under its own key, and its rows stay even."""
        ladder = replace(IMP, method=method)
        plain, trained = climbed(store, ladder), count_trainings(monkeypatch)
        even = climbed(store, replace(ladder, criterion="row_rank"))
        assert even[0].run.key == plain[0].run.key
        assert len(trained) == 3
        for ours, other in zip(even[1:], plain[1:], strict=True):
            assert ours.mask.entries == other.mask.entries
            assert ours.mask.digest != other.mask.digest
            assert np.ptp(ours.mask.kept.sum(1)) <= 1
        again = plan(replace(ladder, criterion="row_rank"), SPEC, DATA, store)
        assert [p.record.key for p in again] == [r.run.key for r in even]

    def test_prune_from_last(self, store):
        spec = toy_spec(learning_rate=0.1, epochs=6, patience=6)
        rungs = climbed(store, replace(IMP, prune_from="last", rungs=1), spec)
        run = rungs[0].run
        assert run.record.best_epoch < run.record.epochs, "choose another toy"
        assert (store.folder / "runs" / run.key / "weights-6.safetensors").exists()
        for epoch, same in (("last", True), ("best", False)):
            scores, keep = abs(run.ensure_weights(epoch)), (rungs[1].mask.entries,)
            mask = prune(Mask.dense(DATA.rows, 4), scores, keep, users=DATA.users)
            assert (mask.digest == rungs[1].mask.digest) is same

    def test_random_masks_know_nothing_of_the_data(self, store):
        ladder, other = replace(IMP, method="rp"), toy_data(seed=1)
        here = climbed(store, ladder)
        there = climbed(store, ladder, data=other)
        longer = climbed(store, ladder, toy_spec(epochs=2))
        for rungs in (there, longer):
            assert [r.mask.digest for r in rungs] == [r.mask.digest for r in here]
            assert not {r.run.key for r in rungs} & {r.run.key for r in here}
        reseeded = climbed(store, replace(ladder, seed=1))
        assert reseeded[1].mask.digest != here[1].mask.digest


class TestStarts:
    def test_rewind_starts_at_x0(self, store):
        assert {str(start(r)) for r in climbed(store)} == {"{'init': 'seeded', 'seed': 0}"}

    def test_rp_has_a_start_of_its_own_and_rp_x0_has_not(self, store):
        rp, x0 = (
            climbed(store, replace(IMP, method="rp")),
            climbed(store, replace(IMP, method="rp_x0")),
        )
        assert [r.mask.digest for r in rp] == [r.mask.digest for r in x0]
        assert len({start(r)["seed"] for r in rp[1:]}) == 1
        assert start(rp[1])["seed"] not in (0, 1, 2)
        assert {start(r)["seed"] for r in x0} == {0}

    def test_reinit_differs_from_rewind_in_its_start_alone(self, store):
        rewind, reinit = climbed(store), climbed(store, replace(IMP, rewind="reinit"))
        assert reinit[1].mask.digest == rewind[1].mask.digest
        a, b = rewind[1].record, reinit[1].record
        assert (a.spec, a.data, a.mask) == (b.spec, b.data, b.mask)
        assert a.init != b.init
        assert a.results != b.results
        seeds = [start(r)["seed"] for r in reinit]
        assert len(set(seeds)) == 4  # fresh at every rung

    def test_continue_starts_from_the_weights_that_were_pruned(self, store):
        rungs = climbed(store, replace(IMP, rewind="continue"), toy_spec(learning_rate=1e-30))
        for before, after in itertools.pairwise(rungs):
            assert start(after) == Snapshot(before.run.key, "best").described()
            kept = np.where(after.mask.kept, before.run.weights(), 0)
            assert np.array_equal(after.run.weights(), kept)  # nothing moves at such a rate

    def test_omp_continues_from_the_dense_model(self, store):
        rungs = climbed(store, replace(IMP, method="omp", rewind="continue"))
        assert {start(r)["run"] for r in rungs[1:]} == {rungs[0].run.key}

    def test_late_starts_from_an_early_epoch_of_the_dense_model(self, store):
        ladder = replace(IMP, rewind="late", rewind_epoch=2)
        rungs = climbed(store, ladder, toy_spec(learning_rate=0.02))
        dense = rungs[0].run
        assert all(start(r) == Snapshot(dense.key, 2).described() for r in rungs[1:])
        assert (store.folder / "runs" / dense.key / "weights-2.safetensors").exists()
        # The dense run was there already, without that table: it is replayed.
        other = Store(store.folder.parent / "other", None)
        climbed(other, replace(IMP, rungs=0))
        assert [r.record.results_digest for r in climbed(other, ladder)] == [
            r.record.results_digest for r in rungs
        ]

    def test_a_late_epoch_that_was_not_run_is_refused(self, store):
        with pytest.raises(ConfigError, match=r"rewind_epoch: found 9, expected at most .* = 4"):
            climbed(store, replace(IMP, rewind="late", rewind_epoch=9))

    @pytest.mark.parametrize("method", ["rp", "rp_x0"])
    @pytest.mark.parametrize("rewind", ["reinit", "continue", "late"])
    def test_random_pruning_rewinds_to_nothing(self, store, method, rewind):
        ladder = Ladder(method, rewind=rewind)
        for ask in (lambda: climbed(store, ladder), lambda: plan(ladder, SPEC, DATA, store)):
            with pytest.raises(ConfigError, match="no trained weights to go back to"):
                ask()

    @pytest.mark.parametrize("method", ["rp", "rp_x0"])
    def test_random_pruning_has_no_other_criterion(self, store, method):
        ladder = Ladder(method, criterion="row_rank")
        for ask in (lambda: climbed(store, ladder), lambda: plan(ladder, SPEC, DATA, store)):
            with pytest.raises(ConfigError, match="criterion: found 'row_rank' with method 'rp"):
                ask()

    def test_seed_is_that_of_x0(self, store):
        rungs = climbed(store, replace(IMP, seed=3, rungs=1))
        assert start(rungs[1]) == Seeded(3).described()

    def test_keeps_what_it_is_told_beside_what_it_needs(self, store):
        ladder = replace(IMP, rewind="late", rungs=1)
        rungs = climbed(store, ladder, keep=(3,))
        names = {p.name for p in (store.folder / "runs" / rungs[0].run.key).iterdir()}
        assert {"weights-1.safetensors", "weights-3.safetensors"} <= names


class TestPlan:
    def states(self, store, ladder=IMP):
        return [p.state for p in plan(ladder, SPEC, DATA, store)]

    def test_trains_and_writes_nothing(self, store, monkeypatch):
        epochs = count_epochs(monkeypatch)
        planned = plan(IMP, SPEC, DATA, store)
        assert epochs == []
        assert not store.folder.exists()
        assert [p.state for p in planned] == ["missing", "unknown", "unknown", "unknown"]
        assert [p.number for p in planned] == [0, 1, 2, 3]
        assert [p.density for p in planned] == [1, 196 / 280, 137 / 280, 96 / 280]

    @pytest.mark.parametrize("scope", ["join", "user", "item", "user_item"])
    @pytest.mark.parametrize("method", ["imp", "omp", "rp"])
    def test_densities_are_those_that_come(self, store, method, scope):
        ladder = Ladder(method, 0.4, 2, scope=scope)
        planned = [p.density for p in plan(ladder, SPEC, DATA, store)]
        assert planned == [r.density for r in climbed(store, ladder, toy_spec(epochs=1))]

    @pytest.mark.parametrize("rewind", ["rewind", "reinit", "continue", "late"])
    def test_finds_what_is_recorded(self, store, rewind):
        ladder = replace(IMP, rewind=rewind, rungs=2)
        rungs = climbed(store, ladder)
        planned = plan(ladder, SPEC, DATA, store)
        assert [p.record for p in planned] == [r.record for r in rungs]
        assert self.states(store, replace(ladder, rungs=3)) == ["recorded"] * 3 + ["unknown"]

    def test_a_hole_in_the_middle(self, store):
        rungs = climbed(store)
        store.remove(rungs[2].run.key)
        assert self.states(store) == ["recorded", "recorded", "missing", "recorded"]
        for path in (store.folder / "masks").iterdir():
            path.unlink()
        assert self.states(store) == ["recorded", "unknown", "unknown", "unknown"]

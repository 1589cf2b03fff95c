"""Ladders: what is trained, what is shared, which entries go, and where a rung starts."""

import itertools
import shutil
from dataclasses import replace

import numpy as np
import pytest
from toys import count_epochs, count_trainings, quiet, toy_data, toy_spec

from lthnb import sources, training
from lthnb.config import ConfigError, Ladder, Model, Seeded, Snapshot, Spec, Training
from lthnb.lottery import StoredMask, plan, run_ladder, targets
from lthnb.pruning import Mask, prune
from lthnb.old_store import unpack_arrays, unseal
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
        for path in store.folder.glob("runs/*/weights-*"):
            path.unlink()
        epochs = count_epochs(monkeypatch)
        assert np.array_equal(climbed(store)[3].mask.kept, first[3].mask.kept)
        assert epochs == []  # the bits lie in the store
        for path in store.folder.glob("masks/*.bits"):
            path.unlink()
        again = climbed(store)
        assert epochs == []
        assert [r.record for r in again] == [r.record for r in first]
        assert isinstance(again[3].mask, StoredMask)
        assert again[3].mask.density == first[3].mask.density
        # Whoever needs the bits gets them, by replaying what they come from.
        assert np.array_equal(again[3].mask.kept, first[3].mask.kept)
        assert len(epochs) == sum(r.record.best_epoch for r in first[:3])

    def test_a_ladder_from_recorded_results(self, store, tmp_path, monkeypatch):
        """Records and prunings alone, as `results/` has them: nothing is trained, nothing read."""
        first = climbed(store)
        for path in store.folder.rglob("*"):
            recorded = path.name == "record" or (path.parent.name == "masks" and not path.suffix)
            if recorded:
                place = tmp_path / "results" / path.relative_to(store.folder)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(path.read_bytes())
        keys, epochs = count_trainings(monkeypatch), count_epochs(monkeypatch)
        other = Store(tmp_path / "other", tmp_path / "results")
        assert [r.record for r in climbed(other)] == [r.record for r in first]
        assert {p.state for p in plan(IMP, SPEC, DATA, other)} == {"recorded"}
        assert keys == epochs == []
        # One rung more needs the last rung's weights: replayed, not trained as a run.
        longer = climbed(other, replace(IMP, rungs=4))
        assert keys == [longer[4].run.key]
        assert longer[4].run.key == climbed(store, replace(IMP, rungs=4))[4].run.key

    def test_recorded_masks_are_what_is_left_of_the_one_before(self, store, tmp_path):
        """The last rung alone is recorded: the masks that its own lies within come along."""
        rungs = climbed(store)
        evidence = Store(store.folder, tmp_path / "results")
        written = evidence.record_result(rungs[3].record.key)
        masks = [path for path in written if path.suffix]
        assert (len(masks), len(written)) == (3, 9)  # prunings, bits, the record, and two texts
        there = Store(tmp_path / "results", results=None)
        assert list(there.verify()) == []
        for rung in rungs[1:]:
            assert np.array_equal(there.find_mask(rung.mask.digest), rung.mask.kept)
        entries = [rungs[0].mask.kept.size, *(rung.mask.entries for rung in rungs)][1:-1]
        with_bits = [unpack_arrays(unseal("mask", p.read_bytes(), "")) for p in masks]
        assert [len(arrays["bits"]) for arrays in with_bits] == [-(-n // 8) for n in entries]
        # Nothing is written twice but what is asked for, and no bits where none are wanted.
        assert len(evidence.record_result(rungs[2].record.key)) == 3
        bare = Store(store.folder, tmp_path / "bare")
        without = bare.record_result(rungs[3].record.key, bits=False)
        assert [p.parent.name for p in without][-1:] == ["masks"]
        assert [p.suffix for p in without] == [""] * 4

    def test_a_rung_that_prunes_nothing_is_recorded_like_the_others(self, store, tmp_path):
        """Its mask is the dense table, or the one before, and lies within no other."""
        share = 1 - 0.4 / DATA.rows / SPEC.model.embedding_size
        rungs = climbed(store, Ladder(densities=(share, 0.5, 0.5 * share, 0.3)))
        assert [r.mask.digest == s.mask.digest for r, s in itertools.pairwise(rungs)] == [
            True,
            False,
            True,
            False,
        ]
        evidence = Store(store.folder, tmp_path / "results")
        for rung in rungs[::-1]:
            evidence.record_result(rung.record.key)
        there = Store(tmp_path / "results", results=None)
        assert list(there.verify()) == []
        for rung in rungs:
            if rung.mask.density < 1:
                assert np.array_equal(there.find_mask(rung.mask.digest), rung.mask.kept)

    def test_a_mask_within_another_machines_is_kept_whole(self, store, tmp_path):
        rungs = climbed(store)
        evidence = Store(store.folder, tmp_path / "results")
        first, second = (
            p for p in evidence.record_result(rungs[2].record.key) if p.suffix == ".bits"
        )
        other = Store(tmp_path / "other", results=None)
        other.put_mask(first.stem, ~rungs[1].mask.kept, {})
        shutil.copy(tmp_path / "other" / "masks" / first.name, first)
        first.with_suffix("").unlink()  # of that machine's pruning
        evidence.record_result(rungs[2].record.key)
        second_bits = Store(tmp_path / "results", results=None).find_mask_bits(second.stem)
        assert np.array_equal(second_bits, rungs[2].mask.kept)

    def test_a_mask_within_itself_is_damaged(self, store, tmp_path):
        rungs = climbed(store)
        written = Store(store.folder, tmp_path / "results").record_result(rungs[2].record.key)
        first, second = (path for path in written if path.suffix)
        first.write_bytes(second.read_bytes())  # which lies within the first
        there = Store(tmp_path / "results", results=None)
        assert {first, second} == set(dict(there.verify()))

    @pytest.mark.parametrize("scope", ["join", "user_item"])
    def test_random_masks_are_not_kept_and_drawn_again(self, store, tmp_path, scope):
        rungs = climbed(store, replace(IMP, method="rp", scope=scope))
        evidence = Store(store.folder, tmp_path / "results")
        for rung in rungs:
            evidence.record_result(rung.record.key)
        assert not list((tmp_path / "results").rglob("*.bits"))
        there = Store(tmp_path / "none", tmp_path / "results")
        for rung in rungs[1:]:
            assert there.has_mask_bits(keys_of(there)[rung.mask.digest])
            assert np.array_equal(there.find_mask(rung.mask.digest), rung.mask.kept)
        # One drawn otherwise than its record says is none.
        key = keys_of(there)[rungs[1].mask.digest]
        about = {**there.find_pruning(key), "digest": "0" * 32}
        other = Store(tmp_path / "other", results=None)
        other.put_mask(key, ~rungs[1].mask.kept, about)
        (tmp_path / "other" / "masks" / f"{key}.bits").unlink()
        assert other.find_pruning(key) == about
        assert other.find_mask_bits(key) is None

    def test_a_recorded_mask_without_the_one_before_is_named(self, store, tmp_path, capsys):
        rungs = climbed(store)
        written = Store(store.folder, tmp_path / "results").record_result(rungs[2].record.key)
        first, second = (path for path in written if path.suffix)
        first.write_bytes(first.read_bytes()[:-1])
        there = Store(tmp_path / "other", tmp_path / "results")
        assert set(dict(there.verify())) == {first, second}
        assert f"left of {first}, which is not good itself." in dict(there.verify())[second]
        first.unlink()
        assert there.find_mask_bits(second.stem) is None
        said = f"{second}: tells what is left of {first}, which is not there."
        assert said in capsys.readouterr().err
        assert said in dict(there.verify())[second]


def keys_of(store) -> dict[str, str]:
    """The keys of the recorded prunings, by the digest of what they gave."""
    names = (path.name for path in (store.results / "masks").iterdir() if not path.suffix)
    return {store.find_pruning(name)["digest"]: name for name in names}


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
        assert (store.folder / "runs" / run.key / "weights-6").exists()  # kept, not replayed
        for epoch, same in (("last", True), ("best", False)):
            scores, keep = abs(run.weights(epoch)), (rungs[1].mask.entries,)
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
        assert {str(start(r)) for r in rungs[1:]} == {str(Snapshot(dense.key, 2).described())}
        assert (store.folder / "runs" / dense.key / "weights-2").exists()
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
        assert {"weights-1", "weights-3"} <= names


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


# Planted taste: does pruning find it?

PLANTED = {
    **{"users": 400, "items": 200, "interactions": 8000, "rank": 4, "informative": 0.5},
    **{"popularity": 0.0, "activity": 0.0, "taste": 8.0},
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The mask at density 0.17 of an IMP ladder, for planted data and for data without taste."""
    kept = {}
    # The last epoch's weights, evaluated but once: the question is what training finds.
    length = {"epochs": 40, "patience": 40, "evaluate_every": 40}
    spec = Spec(Model("mf", 16), Training(learning_rate=5e-3, **length))
    for name, options in (("planted", {}), ("flat", {"informative": 0.0})):
        data = sources.load("synthetic", **{**PLANTED, **options})
        store = Store(tmp_path_factory.mktemp(name), results=None)
        kept[name] = climbed(store, Ladder("imp", 0.3, 5), spec, data)[-1].mask.kept
    return kept


def survival(kept):
    """Share of entries that live: informative and other users, informative and other items."""
    truth = sources.synthetic_truth(**PLANTED)
    for side, informative in (
        (kept[: PLANTED["users"]], truth.informative_users),
        (kept[PLANTED["users"] :], truth.informative_items),
    ):
        yield side[informative].mean(), side[~informative].mean()


def test_tickets_find_what_was_planted(planted):
    """Entries in rows that carry a taste survive far more often than the others: over three times
    among users, over two and a half times among items (seen: 5.5 and 3.3 times)."""
    for (carrying, other), times in zip(survival(planted["planted"]), (3, 2.5), strict=True):
        assert carrying > times * other


def test_without_taste_there_is_nothing_to_find(planted):
    """The same rows, where nothing was planted: no group is favoured by a fifth."""
    for carrying, other in survival(planted["flat"]):
        assert 5 / 6 < carrying / other < 6 / 5


def test_a_mask_that_a_replay_does_not_reproduce_is_refused(store, monkeypatch):
    """Another machine's replay may round otherwise; its mask must not go under the first's key."""
    rungs = climbed(store, IMP)
    for name in ("bits", "weights"):
        for path in store.folder.rglob(f"*{name}*"):
            path.unlink()
    store.remove(rungs[2].record.key)
    replayed = training._replay
    monkeypatch.setattr(training, "_replay", lambda run, epoch: replayed(run, epoch)[::-1].copy())
    with pytest.raises(StoreError, match=r"pruned again here it is .* recorded is"):
        climbed(store, IMP)

"""Bases and cuts: what a rotation leaves as it is, what each basis is best at, and their runs."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from toys import (
    count_epochs,
    count_trainings,
    half,
    interactions,
    quiet,
    toy_data,
    toy_spec,
    trained,
)

from lthnb.config import ConfigError, Dynamic, Rotated, Schedule, Seeded, spec_from
from lthnb.cutting import (
    METHODS,
    carried,
    cuts,
    dynamic,
    early,
    learned,
    settled,
    turning_search,
)
from lthnb.experiments.replays import replay
from lthnb.experiments.spent import epochs_spent
from lthnb.finders import bases
from lthnb.finders.dynamic import gradient, moved
from lthnb.finders.interactions import degree, svd
from lthnb.kept import TrainedRun, final_mask, outputs_of
from lthnb.kernels import compressed, new_step
from lthnb.lottery import rounds_of, train_dense
from lthnb.sampling import Sampler
from lthnb.store import adding
from lthnb.store.results import Recorded
from lthnb.store.runs import Store

DATA, SPEC = toy_data(), toy_spec()
RNG = np.random.default_rng(0)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", results=None)


@pytest.fixture
def dense(store):
    return train_dense(SPEC, DATA, 0, quiet(store))


def table(rank: int = 8, size: int = 8) -> np.ndarray:
    spread = np.diag(2.0 ** -np.arange(rank))
    return RNG.normal(size=(DATA.rows, rank)) @ spread @ RNG.normal(size=(rank, size))


def simplicity(x: np.ndarray) -> float:
    """What varimax raises: the variance of the squares, summed over columns."""
    return (x**2).var(0).sum()


@pytest.mark.parametrize("basis", bases.BASES)
@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
def test_a_rotation_changes_neither_scores_nor_the_l2_term(store, basis, backbone):
    x, spec = table(), toy_spec(backbone, 8, dtype="float64")
    q = bases.rotation(basis, x, DATA)
    assert np.allclose(q.T @ q, np.eye(8), atol=1e-12)
    every = np.ones(x.shape, bool)
    here, there = (outputs_of(spec, DATA, one, every, quiet(store)) for one in (x, x @ q))
    users = DATA.users
    torch.testing.assert_close(
        here[:users] @ here[users:].T, there[:users] @ there[users:].T, rtol=1e-6, atol=1e-6
    )
    assert (x**2).sum(1) == pytest.approx(((x @ q) ** 2).sum(1), rel=1e-9)


def test_leading_principal_columns_are_the_best_approximation_of_their_rank():
    x = table()
    turned = x @ bases.rotation("pca", x, DATA)
    left, values, right = np.linalg.svd(x, full_matrices=False)
    for rank in (1, 3, 6):
        best = (left[:, :rank] * values[:rank]) @ right[:rank]
        kept = turned[:, :rank]
        assert np.allclose(kept @ kept.T, best @ best.T)


def test_varimax_finds_the_axes_of_a_sparse_table_again():
    sparse = RNG.normal(size=(DATA.rows, 4)) * (RNG.random((DATA.rows, 4)) < 0.2)
    hidden = sparse @ bases.random(sparse, DATA)
    found = hidden @ bases.rotation("varimax", hidden, DATA)
    assert simplicity(found) > simplicity(hidden @ bases.rotation("pca", hidden, DATA))
    assert simplicity(found) >= 0.99 * simplicity(sparse)


def test_hadamard_spreads_evenly_and_wants_a_power_of_two():
    x = table()
    turned = x @ bases.rotation("hadamard", x, DATA)
    assert np.allclose((turned**2).sum(0), (x**2).sum() / 8)
    with pytest.raises(ConfigError, match="found 6 dimensions, expected a power of two"):
        bases.rotation("hadamard", x[:, :6], DATA)


def test_alignment_undoes_a_rotation():
    x = table()
    turn = bases.random(x, DATA)
    assert np.allclose(bases.aligned(x @ turn, x), turn.T)


def test_rows_are_weighted_by_how_often_training_scores_them():
    """As often as in a long stream of triplets, each of which scores its user with two items."""
    users, *items = Sampler.of(DATA.train, 0).draw(0, 100_000)
    counts = np.bincount(np.concatenate([users, users]), minlength=DATA.rows).astype(float)
    for side in items:
        counts += np.bincount(DATA.users + side, minlength=DATA.rows)
    weight = bases.scored(DATA)
    assert counts / counts.sum() == pytest.approx(weight / weight.sum(), rel=0.1)


def test_an_unknown_basis_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"found 'pac'.*Did you mean 'pca'"):
        bases.rotation("pac", table(), DATA)


class TestDynamic:
    POLICY = Dynamic(0.5, every=2, until=8)

    def test_the_number_of_entries_stays_and_the_share_falls_to_nothing(self):
        x, kept, gone = table(4, 4), half(DATA, SPEC).kept, []
        for epoch in range(1, 11):
            fresh = moved(self.POLICY, SPEC, DATA, epoch, np.where(kept, x, 0), kept)
            if fresh is None:
                assert epoch % 2 or epoch > 8
                continue
            assert fresh.sum() == kept.sum()
            gone.append(int((kept & ~fresh).sum()))
            kept = fresh
        assert gone == sorted(gone, reverse=True)
        assert gone[0] > gone[-1] == 0

    def test_the_smallest_go_and_those_with_the_largest_gradients_come(self):
        kept = half(DATA, SPEC).kept
        x = np.where(kept, table(4, 4), 0)
        fresh = moved(self.POLICY, SPEC, DATA, 2, x, kept)
        share = 0.5 * (1 + np.cos(np.pi * 2 / 8)) / 2
        count = int(share * kept.sum())
        left = kept & (np.abs(x) > np.sort(np.abs(x[kept]))[count - 1])
        assert (left <= fresh).all()
        slope = np.abs(gradient(SPEC, DATA, 2, x))
        assert slope[fresh & ~left].min() >= slope[~fresh].max()  # some come back at once

    def test_trained_it_has_as_many_entries_elsewhere_and_is_trained_again(self, store):
        spec, mask = replace(SPEC, policy=Dynamic(0.5, every=1, until=4)), half(DATA, SPEC)
        run = trained(store, DATA, spec, mask)
        final = final_mask(spec, run.ensure_mask().kept, run.weights())
        assert final.sum() <= mask.entries
        assert (final & ~mask.kept).any()
        assert run.key != trained(store, DATA, SPEC, mask).key
        assert replay(run.record, DATA, quiet(store)).same_bits
        assert spec_from(json.loads(run.record.row["key_text"])["spec"]) == spec
        with pytest.raises(ConfigError, match="a mask that moved"):
            next(cuts(run, "cut", [0.25], 0))

    def test_two_policies_are_two_searches(self, dense, store):
        for until in (2, 4):
            list(dynamic(dense, [0.5], 0, Dynamic(0.5, every=1, until=until)))
        rows = [row for row in store.searches() if row["method"] == "dynamic" and row["round"]]
        assert len({row["search"] for row in rows}) == len(rows) == 2


class TestThresholds:
    SPEC = SPEC.with_model(compression="threshold", target_density=0.6)

    def test_the_gradient_is_that_of_the_formula(self):
        """∂x/∂s = −sign(v) σ(s)(1 − σ(s)) where |v| > σ(s), and 0 elsewhere; decay apart."""
        start = table(4, 4)
        step = new_step(self.SPEC, DATA, start, np.ones(start.shape, bool))
        with torch.no_grad():
            step.parameter[:, 4:] = torch.randn(start.shape)
        x = step._table()
        slope = torch.randn(x.shape)
        (x * slope).sum().backward()
        values, thresholds = (p.detach() for p in step.parameter.chunk(2, dim=1))
        s = torch.sigmoid(thresholds)
        expected = -torch.sign(values) * s * (1 - s) * (values.abs() > s) * slope
        torch.testing.assert_close(step.parameter.grad[:, 4:], expected)
        assert 0 < (x != 0).float().mean() < 1

    def test_training_ends_at_the_density_and_gives_a_mask_for_the_start(
        self, dense, store, monkeypatch
    ):
        monkeypatch.setattr(compressed, "START", -3.0)
        dense = train_dense(
            toy_spec(epochs=200, patience=3, learning_rate=5e-2), DATA, 0, quiet(store)
        )
        [ticket] = learned(dense, [0.6], 0)
        finder = store.find(ticket.record.row["mask_from"])
        assert 0 < finder.epochs < 200
        assert (store.get_weights(finder.key, finder.epochs) != 0).mean() <= 0.6
        assert ticket.record.density <= 0.6
        assert ticket.init == Seeded(0)
        assert {row["method"] for row in store.searches()} == {"dense", "thresholds", "pep"}
        assert replay(finder, DATA, quiet(store)).same_bits

    def test_it_wants_the_dense_mask(self, store):
        with pytest.raises(ConfigError, match=r"'threshold'.*expected the dense mask"):
            trained(store, DATA, self.SPEC, half(DATA, SPEC))


class TestInteractions:
    def test_svd_finds_the_blocks_of_a_planted_table(self):
        """Two groups of users who take all of a group of items each: a row has one column."""
        large, items = np.arange(40) < 25, np.arange(30) < 20
        blocks = large[:, None] == items[None, :]
        none = np.zeros_like(blocks)
        scores = svd(interactions(blocks, none, none), 2)
        expected = np.concatenate([large, items])[:, None] == [True, False]
        assert ((scores > 1e-9) == expected).all()

    def test_all_its_columns_give_the_interactions_back(self):
        size = min(DATA.users, DATA.items) - 1
        left, values, right = np.linalg.svd(DATA.train.toarray(), full_matrices=False)
        both = np.concatenate([left, right.T])[:, :size] * np.sqrt(values[:size])
        assert np.allclose(svd(DATA, size), np.abs(both), atol=1e-9)

    def test_budgets_grow_with_the_square_root_of_the_degree(self):
        scores = degree(DATA, 8)
        kept = scores >= 1
        pairs = np.concatenate([np.diff(DATA.train.indptr), np.diff(DATA.train.tocsc().indptr)])
        assert kept.sum(1).tolist() == np.minimum(8, np.sqrt(pairs).astype(int)).tolist()
        assert (kept[:, 1:] <= kept[:, :-1]).all()

    @pytest.mark.parametrize("criterion", ["svd", "degree"])
    def test_their_masks_are_of_the_data_alone_and_made_again(self, dense, store, criterion):
        [run] = cuts(dense, "omp", [0.5], 0, criterion=criterion)
        assert run.record.row["mask_from"] is None
        assert run.record.density == 0.5
        kept = run.ensure_mask().kept
        for file in (store.folder / "masks").rglob("*.safetensors"):
            file.unlink()
        assert (run.ensure_mask().kept == kept).all()


class TestEarly:
    def test_a_mask_has_settled_that_the_four_before_have(self):
        every = np.eye(12, dtype=bool)
        masks = [every[i] for i in range(6)] + [every[7]] * 9
        number, mask = settled(masks)
        assert (number, mask.tolist()) == (11, every[7].tolist())
        assert settled(masks[:4])[0] == 4

    def test_its_ticket_costs_the_epochs_up_to_there(self, store, monkeypatch):
        monkeypatch.setenv("LTHNB_STORE", str(store.folder))
        spec = toy_spec(epochs=40, patience=40, learning_rate=5e-2)
        dense = train_dense(spec, DATA, 0, quiet(store))
        [run] = early(dense, [0.5], 0)
        epoch = run.record.pruning["weights"]
        assert 5 <= epoch < 40
        table = np.abs(dense.ensure_weights(epoch))
        assert table[run.ensure_mask().kept].min() >= table[~run.ensure_mask().kept].max()
        assert epochs_spent(rows_of(run)).item() == run.record.epochs + epoch
        ran = count_epochs(monkeypatch)
        [again] = early(dense, [0.5], 0)
        assert (again.key, ran) == (run.key, [])


class TestCarried:
    @pytest.fixture
    def other(self, store):
        return train_dense(SPEC.with_training(order_seed=1), DATA, 1, quiet(store))

    def test_the_mask_is_the_others_and_the_start_ones_own(self, dense, other):
        [plain] = carried(dense, other, [0.5], 0)
        [own] = cuts(other, "omp", [0.5], 1)
        assert plain.record.mask_digest == own.record.mask_digest
        assert plain.init == Seeded(0)

    def test_aligned_the_start_is_turned_towards_the_other(self, dense, other, store):
        [run] = carried(dense, other, [0.5], 0, "aligned")
        turn = store.get_array(run.init.rotation)
        here, there = dense.weights(), other.weights()
        assert np.linalg.norm(here @ turn - there) < np.linalg.norm(here - there)

    def test_in_principal_axes_both_are_turned(self, dense, other, store):
        [run] = carried(dense, other, [0.5], 0, "pca")
        [own] = cuts(other, "omp", [0.5], 1, "pca")
        assert run.record.mask_digest == own.record.mask_digest
        q = bases.rotation("pca", dense.weights(), DATA)
        assert np.array_equal(store.get_array(run.init.rotation), q)


def rows_of(*runs: TrainedRun) -> pd.DataFrame:
    return pd.DataFrame({"key": [run.key for run in runs]})


def test_epochs_are_those_of_all_that_a_run_comes_from(dense, store, monkeypatch):
    monkeypatch.setenv("LTHNB_STORE", str(store.folder))
    _, first, second = (one.run for one in turning_search(dense, 0.5, 2, 0, "pca"))
    [cut], [tuned] = (list(cuts(dense, m, [0.5], 0, "pca")) for m in ("cut", "finetune"))
    a, b, c, e = (run.record.epochs for run in (dense, first, second, tuned))
    spent = epochs_spent(rows_of(dense, first, second, cut, tuned))
    assert spent.tolist() == [a, a + b, a + b + c, a, a + e]


class TestCuts:
    def test_what_is_not_trained_again_keeps_the_trained_values(self, dense, monkeypatch):
        epochs = count_epochs(monkeypatch)
        [cut] = cuts(dense, "cut", [0.5], 0, "pca")
        assert epochs == []
        assert (cut.record.epochs, cut.record.best_epoch) == (0, 0)
        q = bases.rotation("pca", dense.weights(), DATA)
        kept = np.where(cut.ensure_mask().kept, dense.weights() @ q, 0)
        assert np.allclose(cut.weights(), kept, atol=1e-6)
        assert cut.record.density == 0.5
        gone = (dense.weights() @ q)[~cut.ensure_mask().kept]
        assert np.abs(kept[cut.ensure_mask().kept]).min() >= np.abs(gone).max()

    def test_each_method_starts_where_it_says(self, dense):
        runs = {m: next(cuts(dense, m, [0.5], 0, "pca")) for m in METHODS}
        assert len({run.record.mask_digest for run in runs.values()}) == 1
        turn = runs["omp"].init.rotation
        assert runs["omp"].init == Rotated(Seeded(0), turn)
        assert runs["finetune"].init == runs["cut"].init != runs["omp"].init

    @pytest.mark.parametrize("method", METHODS)
    def test_asked_twice_it_trains_once(self, dense, monkeypatch, method):
        keys = count_trainings(monkeypatch)
        first = [run.key for run in cuts(dense, method, [0.6, 0.3], 0, "varimax")]
        assert [run.key for run in cuts(dense, method, [0.6, 0.3], 0, "varimax")] == first
        assert len(keys) == 2

    def test_in_its_own_axes_omp_is_the_search_of_that_name(self, dense, store):
        schedule = Schedule("omp", densities=(0.5,))
        one = list(rounds_of(schedule, SPEC, DATA, quiet(store)))[1]
        [other] = cuts(dense, "omp", [0.5], 0)
        assert one.run.key == other.key
        rows = [row for row in store.searches() if row["key"] == other.key]
        assert len({row["search"] for row in rows}) == 1

    def test_columns_go_from_the_right(self, dense):
        [cut] = cuts(dense, "cut", [0.5], 0, "pca", "columns")
        assert cut.ensure_mask().kept.all(0).tolist() == [True, True, False, False]

    def test_turned_at_every_round_each_mask_is_of_all_entries(self, dense):
        runs = [one.run for one in turning_search(dense, 0.5, 2, 0, "pca")][1:]
        assert [round(run.record.density, 3) for run in runs] == [0.5, 0.25]
        assert runs[1].init.of == runs[0].init
        assert not (runs[1].ensure_mask().kept <= runs[0].ensure_mask().kept).all()

    def test_recorded_it_is_trained_again_to_the_same_bits(self, dense, store, tmp_path):
        """The rotation is recorded with the run; masks are cut again in its axes."""
        store.results = tmp_path / "results"
        store.recorded_tables = Recorded(store.results)
        keys = [run.key for m in METHODS for run in cuts(dense, m, [0.5], 0, "pca")]
        adding.add(store, [dense.key, *keys], masks=False)
        assert not list(adding.verify(store.results))
        other = Store(tmp_path / "other", store.results)
        for key in keys:
            assert replay(other.find(key), DATA, quiet(other)).same_bits

    def test_what_is_no_method_is_refused(self, dense):
        with pytest.raises(ConfigError, match="found 'prune', expected one of cut, finetune, omp"):
            next(cuts(dense, "prune", [0.5], 0))

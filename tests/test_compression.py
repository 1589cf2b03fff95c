"""LCM: maps over a frozen teacher, the same bits after a stop; and tickets, LCM and small dense
models side by side, with their entries counted."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import PlainRecord, count_trainings, dense, half, quiet, toy_data, toy_spec, trained

from lthnb import paper, plots, profiles
from lthnb.compression import (
    METHODS,
    PAIRS,
    Compression,
    compressions_of,
    recorded,
    verdict,
)
from lthnb.config import (
    DENSE,
    Compressed,
    ConfigError,
    Match,
    Model,
    Seeded,
    Spec,
    init_from,
    run_key,
)
from lthnb.data import Shape
from lthnb.evaluation import Hits
from lthnb.models import LinearMaps, LinearStart, adjacency
from lthnb.sampling import Sampler, initial_maps, initial_table
from lthnb.steps import new_step, resolve
from lthnb.store.adding import add
from lthnb.store.files import StoreError
from lthnb.store.runs import Store
from lthnb.training import Stopped, train
from lthnb.verdicts import Interval, relative_difference, t_interval

PINNED_MAPS = [
    *(-0.17215978266232426, 0.512806119901886, -0.19406188922692924),
    *(-0.6202090521818965, -0.5178885796592771, 0.070602699948681),
]
PINNED_KEY = "32fab745f71d8039ff7774d3622322fd"

DATA = toy_data()
MATCH = Match(toy_spec("lightgcn", 8, step="auto"), (0.5, 0.25), rate=0.5)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", results=None)


def lcm_spec(backbone="lightgcn", size=3, **training):
    spec = toy_spec(backbone, size, **training)
    return spec.with_model(compression="linear")


def teacher_in(store, data=DATA, size=5):
    return trained(store, data, toy_spec("lightgcn", size))


def lcm_in(store, spec=None, seed=0, **control):
    teacher = teacher_in(store)
    spec = lcm_spec() if spec is None else spec
    init = Compressed(teacher.key, seed)
    return train(spec, DATA, init, dense(DATA, spec), quiet(store, **control))


def start(size=3, teacher_size=5):
    return LinearStart(
        np.random.default_rng(0).normal(size=(DATA.rows, teacher_size)),
        initial_maps(0, teacher_size, size),
    )


def step_of(spec, begin=None):
    mask = np.ones((DATA.rows, spec.model.embedding_size), bool)
    return new_step(spec, DATA, start() if begin is None else begin, mask)


def by_hand(begin: LinearStart) -> np.ndarray:
    """x W + b, side by side, in numpy."""
    sides = begin.teacher[: DATA.users], begin.teacher[DATA.users :]
    return np.concatenate([x @ m[:-1] + m[-1] for x, m in zip(sides, begin.maps, strict=True)])


class TestMaps:
    def test_start_as_torchs_linear_does(self):
        maps = initial_maps(3, 64, 32)
        assert maps.shape == (2, 65, 32)
        assert abs(maps).max() <= 1 / 8
        assert abs(maps).max() > 0.124
        assert maps.mean() == pytest.approx(0, abs=0.005)
        assert maps.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.02)
        assert not np.array_equal(maps, initial_maps(4, 64, 32))
        assert not np.array_equal(maps[0], maps[1])

    def test_the_start_is_pinned(self):
        """Every LCM ever recorded began with these numbers."""
        assert initial_maps(0, 2, 1).ravel() == pytest.approx(PINNED_MAPS, rel=1e-15)

    @pytest.mark.parametrize("users", [1, 40, 255, 256, 257, 600])
    def test_a_table_is_the_teachers_rows_through_the_maps(self, users):
        rng = np.random.default_rng(users)
        teacher, maps = rng.normal(size=(users + 300, 5)), rng.normal(size=(2, 6, 3))
        found = LinearMaps(teacher, users, torch.float64, "cpu").table(torch.from_numpy(maps))
        expected = np.concatenate(
            [
                teacher[:users] @ maps[0, :-1] + maps[0, -1],
                teacher[users:] @ maps[1, :-1] + maps[1, -1],
            ]
        )
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12, atol=1e-14)

    @pytest.mark.parametrize("combination", ["mean", "sum"])
    def test_propagation_on_top_against_dense_matrices(self, combination):
        spec = lcm_spec(dtype="float64")
        spec = spec.with_model(layer_combination=combination)
        step = step_of(spec)
        a, layer = adjacency(DATA.train).toarray(), by_hand(start())
        np.testing.assert_allclose(step.weights(), layer, rtol=1e-12, atol=1e-14)
        total = sum(np.linalg.matrix_power(a, k) @ layer for k in range(4))
        expected = total / 4 if combination == "mean" else total
        np.testing.assert_allclose(step.outputs().numpy(), expected, rtol=1e-12, atol=1e-14)


class TestStep:
    @pytest.mark.parametrize("l2_scope", ["batch", "table"])
    @pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
    def test_the_gradient_against_finite_differences(self, backbone, l2_scope):
        """Of a loss written anew, in numpy: that of Eq. 7 with its L2 term, a whole batch."""
        spec = lcm_spec(backbone, dtype="float64", l2=0.1, l2_scope=l2_scope)
        step, begin = step_of(spec), start()
        triplets = Sampler.of(DATA.train, 0).draw(0, 64)
        u, i, j = triplets + np.array([[0], [DATA.users], [DATA.users]])
        a = adjacency(DATA.train).toarray()
        spread = (
            sum(np.linalg.matrix_power(a, k) for k in range(4)) / 4
            if backbone == "lightgcn"
            else np.eye(DATA.rows)
        )

        def loss(maps):
            x = by_hand(LinearStart(begin.teacher, maps))
            y = spread @ x
            bpr = np.logaddexp(0, (y[u] * y[j]).sum(1) - (y[u] * y[i]).sum(1)).mean()
            if l2_scope == "table":
                return bpr + 0.1 * (x**2).sum() / 64
            return bpr + 0.05 * sum((x[rows] ** 2).sum() for rows in (u, i, j)) / 64

        found = step._loss(torch.from_numpy(triplets))
        found.backward()
        assert found.item() == pytest.approx(loss(begin.maps), rel=1e-12)
        numeric = np.zeros_like(begin.maps)
        for place in np.ndindex(numeric.shape):
            nudge = np.zeros_like(begin.maps)
            nudge[place] = 1e-6
            numeric[place] = (loss(begin.maps + nudge) - loss(begin.maps - nudge)) / 2e-6
        np.testing.assert_allclose(step.parameter.grad.numpy(), numeric, rtol=1e-6, atol=1e-8)

    def test_the_teacher_is_frozen_and_the_maps_are_not(self):
        step, begin = step_of(lcm_spec(dtype="float64")), start()
        for epoch in range(3):
            step.run_epoch(epoch)
        blocks, count = step.maps.sides[0]
        assert np.array_equal(
            blocks.flatten(0, 1)[:count, :-1].numpy(), begin.teacher[: DATA.users]
        )
        maps = step.state()["maps"]
        assert (maps != begin.maps).all()
        np.testing.assert_allclose(
            step.weights(), by_hand(LinearStart(begin.teacher, maps)), rtol=1e-12, atol=1e-14
        )

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
    def test_a_state_goes_on_to_the_same_bits(self, backbone, dtype):
        spec = lcm_spec(backbone, dtype=dtype)
        whole, other = step_of(spec), step_of(spec)
        losses = [whole.run_epoch(epoch) for epoch in range(4)]
        for epoch in range(4):
            state = other.state()
            other = step_of(spec)
            other.restore(state)
            assert other.run_epoch(epoch) == losses[epoch]
        for key, values in whole.state().items():
            assert np.array_equal(values, other.state()[key]), key
        assert torch.equal(whole.outputs(), other.outputs())
        assert whole.weights().dtype == dtype

    def test_threads_do_not_change_a_bit(self):
        """The gradient of the maps is a sum over all rows, here more than a block of them."""
        data = toy_data(700, 900, share=0.02)
        spec = lcm_spec(size=16, batch_size=256)
        begin = LinearStart(initial_table(0, data.rows, 64), initial_maps(0, 64, 16))
        before, found = torch.get_num_threads(), []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            step = new_step(spec, data, begin, np.ones((data.rows, 16), bool))
            found.append((step.run_epoch(0), step.weights().tobytes()))
        torch.set_num_threads(before)
        assert found[0] == found[1] == found[2]

    def test_auto_is_the_reference_on_any_device(self):
        for device in ("auto", "cpu", "cuda"):
            assert resolve(lcm_spec(step="auto"), device).training.step == "reference"

    @pytest.mark.parametrize("step", ["cpu", "cuda"])
    def test_other_steps_are_refused(self, step):
        with pytest.raises(ConfigError, match=f"found '{step}'.*expected 'auto' or 'reference'"):
            resolve(lcm_spec(step=step))

    def test_a_mask_that_prunes_is_refused(self, store):
        spec = lcm_spec()
        with pytest.raises(ConfigError, match=r"mask: found density 0\.\d+ .*no table to prune"):
            new_step(spec, DATA, start(), half(DATA, spec).kept)
        init = Compressed(teacher_in(store).key)
        with pytest.raises(ConfigError, match=r"mask: found density 0\.\d+ .*no table to prune"):
            train(spec, DATA, init, half(DATA, spec), quiet(store))


class TestTraining:
    def test_the_best_table_is_an_ordinary_models(self, store, tmp_path):
        run = lcm_in(store)
        table = run.weights()
        assert table.shape == (DATA.rows, 3)
        plain = toy_spec("lightgcn", 3)
        outputs = new_step(plain, DATA, table, np.ones(table.shape, bool)).outputs()
        assert torch.equal(run.outputs(), outputs)
        saved = np.load(run.save(tmp_path / "lcm.npz"))
        assert np.array_equal(saved["table"], table)
        assert np.array_equal(saved["user_vectors"], outputs[: DATA.users].numpy())
        assert run.record.mask["density"] == 1
        assert run.record.spec["model"]["compression"] == "linear"
        assert init_from(run.record.init) == Compressed(teacher_in(store).key, 0)

    def test_weights_are_replayed_to_the_same_bits(self, store):
        run = lcm_in(store)
        best = run.weights()
        (store.folder / "runs" / run.key / "weights-best.safetensors").unlink()
        assert np.array_equal(run.ensure_weights(), best)

    def test_a_stop_at_every_epoch_leaves_no_trace(self, store, tmp_path):
        whole = lcm_in(Store(tmp_path / "other", results=None))
        stops = 0
        while True:
            try:
                run = lcm_in(store, deadline=0.0)
                break
            except Stopped:
                stops += 1
        assert stops >= 3
        assert run.record.results_digest == whole.record.results_digest
        assert np.array_equal(run.weights(), whole.weights())

    def test_seeds_and_teachers_change_the_key(self, store):
        spec, run = lcm_spec(), lcm_in(store)
        other = lcm_in(store, seed=1)
        assert run.key != other.key
        assert not np.array_equal(run.weights(), other.weights())
        assert run_key(spec, DATA.digest, Compressed("ab" * 16), DENSE) != run.key

    def test_keys_of_older_specs_stay(self):
        assert "compression" not in Spec().described()["model"]
        assert Model(compression="linear").described()["compression"] == "linear"
        init = json.loads(json.dumps(Compressed("cd" * 16, 7).described()))
        assert init_from(init) == Compressed("cd" * 16, 7)

    def test_the_key_is_pinned(self):
        """See `test_config.test_run_keys_are_pinned`."""
        key = run_key(lcm_spec(), "ab" * 16, Compressed("cd" * 16, 1), DENSE)
        assert key == PINNED_KEY

    def test_a_teacher_without_weights_is_refused(self, store):
        spec = lcm_spec()
        with pytest.raises(StoreError, match=r"teacher abababab: .*ask for its weights\(\) first"):
            train(spec, DATA, Compressed("ab" * 16), dense(DATA, spec), quiet(store))

    def test_a_teacher_of_other_data_is_refused(self, store):
        spec, other = lcm_spec(), toy_data(50, 30)
        init = Compressed(teacher_in(store, other).key)
        with pytest.raises(StoreError, match="has 80 rows, expected 70"):
            train(spec, DATA, init, dense(DATA, spec), quiet(store))

    def test_a_start_of_another_kind_is_refused(self, store):
        spec = lcm_spec()
        with pytest.raises(ConfigError, match=r"found Seeded with Model\.compression 'linear'"):
            train(spec, DATA, Seeded(0), dense(DATA, spec), quiet(store))
        plain = toy_spec()
        with pytest.raises(ConfigError, match=r"found Compressed with Model\.compression 'none'"):
            train(plain, DATA, Compressed("ab" * 16), dense(DATA, plain), quiet(store))


class TestMatch:
    @pytest.mark.parametrize(
        ("densities", "rate", "expected"),
        [
            ((0.5, 0.25), 0.4, (0.7071, 0.5, 0.3536, 0.25)),
            ((0.5, 0.25), 0.5, (0.5, 0.25)),
            ((0.25,), 0.5, (0.5, 0.25)),
            ((0.3,), 0.9, (0.3,)),
        ],
    )
    def test_the_ladder_comes_by_every_density(self, densities, rate, expected):
        assert Match(toy_spec(), densities, rate).ladder.densities == expected

    @pytest.mark.parametrize("name", profiles.PROFILES)
    def test_every_profile_has_its_matches(self, name):
        base = profiles.profile(name)
        matches = base.matches(["lightgcn", "mf"])
        there = {(m.dense.model.embedding_size, d) for m in matches for d in m.densities}
        assert there == set(base.compressions)
        for match in matches:
            ladder = match.ladder
            assert set(match.densities) <= set(ladder.densities)
            for above, below in zip((1.0, *ladder.densities), ladder.densities, strict=False):
                assert below / above >= 1 - match.rate - 1e-3, "no rung prunes more than the rate"
            for density in match.densities:
                assert match.lcm(density).model.compression == "linear"
                assert match.small(density).model.embedding_size == match.size(density)
                assert match.small(density).training == match.dense.training

    def test_recorded_matches_are_table_3s(self):
        for protocol in ("paper", "validated"):
            there = [
                (m.dense.model.embedding_size, round(100 * d))
                for m in profiles.recorded_matches()
                if m.dense.training.protocol == protocol
                for d in m.densities
            ]
            assert sorted(there) == sorted(paper.TABLE3_COLUMNS)


class TestCompressions:
    def test_trains_what_is_missing_and_no_more(self, store, monkeypatch):
        ran, control = count_trainings(monkeypatch), quiet(store)
        looked = compressions_of([MATCH], DATA, (0, 1), control, train_missing=False)
        assert (ran, [c.missing for c in looked]) == ([], [8, 8])
        assert not looked[0].complete
        assert looked[0].difference("ticket", "lcm") is None
        assert "not run yet (8 trainings missing)" in looked[0].finding
        assert "0 of 8 trainings recorded" in repr(looked[0])
        found = compressions_of([MATCH], DATA, (0, 1), control)
        # Of each seed: the dense model and two rungs, two small dense models, two LCMs.
        assert len(ran) == len(set(ran)) == 14
        assert [c.complete for c in found] == [True, True]
        again = compressions_of([MATCH], DATA, (0, 1), control)
        assert len(ran) == 14
        assert [c.keys for c in again] == [c.keys for c in found]

    def test_a_replayed_teacher_will_do(self, store, monkeypatch):
        """Where a record came without weights, the teacher is trained up to its best once more."""
        [one] = compressions_of([replace(MATCH, densities=(0.5,))], DATA, (0,), quiet(store))
        digest = one.records("lcm")[0].results_digest
        store.remove(one.records("lcm")[0].key)
        for file in (store.folder / "runs" / one.records("dense")[0].key).glob("*best*"):
            file.unlink()
        [again] = compressions_of([one.match], DATA, (0,), quiet(store))
        assert again.records("lcm")[0].results_digest == digest

    def test_side_by_side_is_the_same(self, store, tmp_path):
        match = replace(MATCH, densities=(0.5,))
        [here] = compressions_of([match], DATA, (0, 1), quiet(store))
        other = quiet(Store(tmp_path / "other", results=None))
        [there] = compressions_of([match], DATA, (0, 1), other, workers=2)
        for method in METHODS:
            pairs = zip(here.records(method), there.records(method), strict=True)
            assert all(a.results_digest == b.results_digest for a, b in pairs)

    def test_what_is_compared(self, store):
        """One seed each: the same teacher, X⁰ and order; the ticket rewinds, LCM is compressed."""
        one = compressions_of([MATCH], DATA, (3,), quiet(store))[1]
        runs = {method: one.records(method)[0] for method in METHODS}
        assert {r.spec["training"]["order_seed"] for r in runs.values()} == {3}
        assert runs["lcm"].init == Compressed(runs["dense"].key, 3).described()
        assert runs["ticket"].init == runs["dense"].init == runs["small"].init
        assert runs["ticket"].density == pytest.approx(0.25)
        sizes = {m: r.spec["model"]["embedding_size"] for m, r in runs.items()}
        assert sizes == {"dense": 8, "ticket": 8, "small": 2, "lcm": 2}
        assert one.keys == tuple(r.key for r in runs.values())

    @pytest.mark.parametrize(("size", "density"), [(64, 0.25), (64, 0.5), (128, 0.25), (50, 0.5)])
    def test_entries_are_counted_both_ways(self, store, size, density):
        match = Match(toy_spec("lightgcn", size, step="auto"), (density,), 0.9)
        [one] = compressions_of([match], DATA, (0,), quiet(store), train_missing=False)
        small = round(size * density)
        assert one.entries("dense") == 70 * size
        assert one.entries("lcm") == one.entries("small") == 70 * small
        assert one.entries("ticket") == round(density * 70 * size)
        for method in ("lcm", "small"):
            assert one.entries(method) == pytest.approx(one.entries("ticket"), rel=0.02)
        assert one.entries_with_teacher == 70 * size + 2 * (size * small + small)
        assert one.entries_with_teacher > one.entries("dense")

    def test_the_counts_are_those_of_the_runs(self, store):
        for one in compressions_of([MATCH], DATA, (0,), quiet(store)):
            for method in METHODS:
                assert one.records(method)[0].mask["entries"] == one.entries(method)

    def test_differences_are_paired_by_seed(self, store):
        [one] = compressions_of([replace(MATCH, densities=(0.5,))], DATA, (0, 1, 2), quiet(store))
        for method, to in PAIRS:
            rows = [[r.metric("recall@20") for r in one.records(m)] for m in (method, to)]
            assert one.difference(method, to) == relative_difference(*rows)
        assert "means over 3 seeds" in one.finding

    def test_one_seed_carries_no_claim(self, store):
        [one] = compressions_of([replace(MATCH, densities=(0.5,))], DATA, (0,), quiet(store))
        assert one.difference("ticket", "lcm").kind == "user bootstrap"
        assert one.finding.count(", in one run.") == 3

    def test_mf_too(self, store):
        match = Match(toy_spec("mf", 8, step="auto"), (0.5,), rate=0.5)
        [one] = compressions_of([match], DATA, (0,), quiet(store))
        assert one.complete
        assert one.title == "MF on toy0, learning rate 0.02, batches of 64"

    def test_a_seed_counts_once(self, store):
        with pytest.raises(ConfigError, match=r"seeds: found \[0, 0\], expected one or more"):
            compressions_of([MATCH], DATA, [0, 0], quiet(store))

    def test_recorded_runs_are_found_without_data(self, store, tmp_path):
        """`results/` empty, and with a run of LCM and its teacher in it."""
        there = Store(tmp_path / "store", results=tmp_path / "results")
        assert recorded([MATCH], there) == []
        match = replace(MATCH, densities=(0.5,), dense=toy_spec("lightgcn", 8))
        [one] = compressions_of([match], DATA, (0, 1), quiet(there))
        for method in ("dense", "lcm"):
            add(there, [one.records(method)[0].key])
        elsewhere = Store(tmp_path / "empty", results=tmp_path / "results")
        found = recorded([match], elsewhere)
        assert {c.seeds for c in found} == {(0,)}
        assert found[0].runs["lcm"][0].key == one.records("lcm")[0].key
        assert found[0].runs["ticket"] == (None,)


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        (t_interval([0.1, 0.11, 0.12]), "better"),
        (t_interval([-0.1, -0.11, -0.12]), "worse"),
        (t_interval([-0.1, 0.1, 0.2]), "no difference is shown"),
        (t_interval([0.1, 0.1001]), "no difference is shown"),  # two seeds show nothing
        (Interval(0.1, 0.05, 0.15, "user bootstrap", 600), "better, in one run"),
    ],
)
def test_what_an_interval_shows(interval, said):
    assert verdict(interval) == said


def made_up(values, match=None, source="table", density=0.5) -> Compression:
    """values: method → Recall@20 on test, one a seed."""
    match = match or replace(MATCH, densities=(0.5,))

    def record(method, seed, value):
        hits = Hits(np.arange(4), np.zeros((4, 20), bool), np.ones(4, np.int64))
        results = {
            "best_epoch": 5,
            "test": {"recall@20": value, "ndcg@20": value / 2},
            "hits": hits,
        }
        return PlainRecord(f"{method}{seed}", match.dense.described(), {}, {}, {}, {}, results)

    runs = {m: tuple(v and record(m, s, v) for s, v in enumerate(row)) for m, row in values.items()}
    data = Shape("toy", "ab" * 16, 40, 30, {"source": source})
    return Compression(match, density, data, tuple(range(len(runs["lcm"]))), 280, runs)


VALUES = {
    "dense": (0.22, 0.23, 0.24),
    "ticket": (0.21, 0.22, 0.23),
    "lcm": (0.1, 0.11, 0.12),
    "small": (0.2, 0.22, 0.24),
}


class TestShown:
    @pytest.fixture(autouse=True)
    def closed(self):
        yield
        plots.plt.close("all")

    def test_the_finding_says_what_is_shown_and_what_is_not(self):
        said = made_up(VALUES).finding
        assert "0.2200 for the ticket, 0.1100 for LCM" in said
        assert "0.2300" in said
        ticket, small, lcm = said.split(" against ")[1:]
        assert "better" in ticket
        assert "no difference is shown" in small
        assert "worse" in lcm

    def test_the_figure_has_every_method_in_its_colour(self):
        [ax] = plots.compression_figure([made_up(VALUES)]).axes
        labels = ax.get_legend_handles_labels()[1]
        assert set(labels) == {
            "dense model, F = 8", "ticket (IMP)", "LCM", "small dense model"
        }  # fmt: skip
        assert "density 50%\n280 entries" in ax.get_xticklabels()[0].get_text()

    def test_what_was_not_run_is_said(self):
        none = made_up(dict.fromkeys(METHODS, (None,)))
        [ax] = plots.compression_figure([none]).axes
        assert "not run yet" in ax.texts[0].get_text()
        assert plots.compression_table([none]).as_raw_html().count("not run") == 4
        assert plots.compression_differences([none]).as_raw_html().count("not run") == 3
        partly = made_up({**VALUES, "lcm": (None,) * 3})
        html = plots.compression_table([partly]).as_raw_html()
        assert "0.2200" in html
        assert html.count("not run") == 1
        plots.compression_figure([partly])
        plots.compression_figure([])

    def test_tables_name_the_runs_and_the_intervals(self):
        html = plots.compression_table([made_up(VALUES)]).as_raw_html()
        for text in ("0.2200", "0.1100", "ticket0, ticket1, ticket2", "280", "632"):
            assert text in html
        assert "nothing recorded" in plots.compression_differences([]).as_raw_html()
        html = plots.compression_differences([made_up(VALUES)]).as_raw_html()
        d = made_up(VALUES).difference("ticket", "lcm")
        for text in (f"{d.mean:+.1%}", f"{d.low:+.1%} to {d.high:+.1%} (t over seeds)", "better"):
            assert text in html

    def test_the_papers_table_without_a_run(self):
        html = plots.compression_paper_table([]).as_raw_html()
        for cell in paper.TABLE3:
            assert f"{cell.value:.4f}" in html
        assert html.count("not run") == 16
        assert html.count("no data") == 32 + 1  # and what it means

    def test_the_papers_table_takes_runs_of_its_setting_alone(self):
        spec = profiles.profile("paper").spec("lightgcn", embedding_size=64, protocol="paper")
        match = Match(spec, (0.5,))
        ours = made_up(VALUES, match, "yelp2018")
        others = [
            made_up(VALUES, match, "table"),
            made_up(VALUES, match, "yelp2018", density=0.4),
            made_up(VALUES, Match(spec.with_training(protocol="validated"), (0.5,)), "yelp2018"),
        ]
        html = plots.compression_paper_table([ours, *others]).as_raw_html()
        assert html.count("not run") == 12
        assert html.count("0.1000, 0.1100, 0.1200") == 1
        assert html.count("lcm0, lcm1, lcm2") == 2

    def test_the_papers_points_lie_on_its_own_data_alone(self):
        spec = profiles.profile("paper").spec("lightgcn", embedding_size=64, protocol="paper")
        [ax] = plots.compression_figure([made_up(VALUES, Match(spec, (0.5,)), "kwai")]).axes
        [points] = [a for a in ax.get_lines() if a.get_label() == "the paper, Table 3"]
        assert sorted(points.get_ydata()) == [
            paper.table3("kwai", method, "recall@20", 64, 50).value for method in ("lcm", "ticket")
        ]

"""Steps by name, and what they compute: all of them what the reference does.

A state goes on to the same bits; the CPU step agrees with the reference to rounding, for any mask
and setting; its lazily caught-up rows are those of dense Adam.
"""

from dataclasses import replace

import numba
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from toys import half, toy_data, toy_spec

from lthnb.config import BACKBONES, ConfigError, Model, Spec, Training
from lthnb.data import Interactions, to_csr
from lthnb.datasets import sources
from lthnb.finders.bases import rotation
from lthnb.kernels import WRITTEN_FOR, device_of, new_step, resolve
from lthnb.kernels.mf import BETA_1, BETA_2, EPSILON, LONGEST, STEPWISE, Decay, _series
from lthnb.sampling import initial_table

STEPS = ("cpu", "reference")
DENSITIES = (1.0, 0.5, 0.05)
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}  # of ‖X − X_ref‖ / ‖X_ref − X⁰‖


def test_auto_is_resolved_and_a_name_is_kept():
    assert Spec().training.step == "auto"
    resolved = resolve(Spec())
    assert resolved.training.step == "cpu"
    assert resolve(resolved) == resolved
    assert resolved.model == Spec().model
    assert resolve(Spec(), "cpu").training.step == "cpu"
    assert resolve(Spec(), "cuda:1").training.step == "reference"
    assert resolve(toy_spec(), "cuda").training.step == "reference"


def test_a_backbone_that_the_fast_step_does_not_know():
    """It falls to the reference, and is refused in words where the fast step is named."""
    spec = toy_spec(step="cpu")
    object.__setattr__(spec.model, "backbone", "another")
    assert resolve(spec.with_training(step="auto"), "cpu").training.step == "reference"
    with pytest.raises(ConfigError, match=r"step 'cpu': .*'another', expected 'mf' or 'light"):
        new_step(spec, toy_data(), np.zeros((70, 4)), np.ones((70, 4), bool))


def test_a_step_says_where_it_runs():
    assert [device_of(step) for step in ("cpu", "reference")] == ["cpu", "cpu"]
    assert device_of("reference", "cuda:1") == "cuda:1"
    with pytest.raises(ConfigError, match="found 'cuda' for the step 'cpu'"):
        device_of("cpu", "cuda")
    with pytest.raises(ConfigError, match="found 'cuda' for the step 'cpu'"):
        new_step(
            toy_spec(step="cpu"), toy_data(), np.zeros((70, 4)), np.ones((70, 4), bool), "cuda"
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "backbone"),
    [*(("reference", b) for b in BACKBONES), *(("cpu", b) for b in WRITTEN_FOR)],
)
def test_a_state_goes_on_to_the_same_bits(name, backbone, dtype):
    data, spec = toy_data(), toy_spec(backbone, dtype=dtype, step=name)
    mask, start = half(data, spec), initial_table(0, data.rows, 4)

    def new():
        return new_step(spec, data, start, mask.kept)

    whole, other = new(), new()
    losses = [whole.run_epoch(epoch) for epoch in range(4)]
    for epoch in range(4):
        state = other.state()
        other = new()
        other.restore(state)
        assert other.run_epoch(epoch) == losses[epoch]
    for key, values in whole.state().items():
        assert np.array_equal(values, other.state()[key]), key
    assert torch.equal(whole.outputs(), other.outputs())


@pytest.mark.parametrize("optimizer", ["adam", "rowwise-adam", "sgd"])
def test_which_optimizer_turns_with_the_table(optimizer):
    """From X⁰Q one comes to XQ, unless entries have step sizes of their own."""
    data, spec = toy_data(), toy_spec(optimizer=optimizer, dtype="float64")
    start, mask = initial_table(0, data.rows, 4), np.ones((70, 4), bool)
    turn = rotation("random", start, data)
    one, other = (new_step(spec, data, table, mask) for table in (start, start @ turn))
    losses = np.array([[step.run_epoch(epoch) for epoch in range(3)] for step in (one, other)])
    apart = np.abs(one.weights() @ turn - other.weights()).max()
    assert (apart < 1e-9) == (optimizer != "adam") == np.allclose(*losses, rtol=1e-9)
    if optimizer != "adam":
        with pytest.raises(ConfigError, match=f"found 'cpu' with '{optimizer}'"):
            resolve(spec.with_training(step="cpu"))
        with pytest.raises(ConfigError, match="expected 'adam'"):
            resolve(spec.with_model(compression="linear"))


@pytest.mark.parametrize("name", STEPS)
def test_what_is_given_out_is_a_copy(name):
    data, spec = toy_data(), toy_spec(step=name)
    start, mask = initial_table(0, data.rows, 4), np.ones((70, 4), bool)
    step = new_step(spec, data, start, mask)
    table, state = step.weights(), step.state()
    before = table.copy()
    step.run_epoch(0)
    assert np.array_equal(table, before)
    assert np.array_equal(state["table"], before)
    assert not np.array_equal(step.weights(), before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused():
    data, spec = toy_data(), toy_spec()
    table = np.zeros((data.rows, 4))
    with pytest.raises(ConfigError, match="device: found 'cuda', expected 'cpu'"):
        new_step(spec, data, table, np.ones(table.shape, bool), "cuda")


def start_and_mask(data, size, density, seed=1):
    start = initial_table(0, data.rows, size)
    return start, np.random.default_rng(seed).random(start.shape) < density


def distance(found, expected, start) -> float:
    """‖X − X_ref‖ / ‖X_ref − X⁰‖."""
    moved = np.linalg.norm(expected - start)
    assert moved > 0
    return np.linalg.norm(found.astype(np.float64) - expected) / moved


def both(spec, data, density, epochs):
    """The CPU step and the reference after as many epochs, and X⁰ ⊙ mask; losses are compared."""
    start, mask = start_and_mask(data, spec.model.embedding_size, density)
    steps = [new_step(spec.with_training(step=name), data, start, mask) for name in STEPS]
    tolerance = 1e-12 if spec.training.dtype == "float64" else 1e-5
    for epoch in range(epochs):
        ours, reference = (step.run_epoch(epoch) for step in steps)
        assert ours == pytest.approx(reference, rel=tolerance)
    return (*steps, start * mask)


MODELS = {
    "mf": {"backbone": "mf"},
    "mean": {"backbone": "lightgcn"},
    "sum": {"backbone": "lightgcn", "layer_combination": "sum"},
    "one layer": {"backbone": "lightgcn", "layers": 1},
    "two layers": {"backbone": "lightgcn", "layers": 2},
    "four layers": {"backbone": "lightgcn", "layers": 4},
}


class TestCpu:
    """The CPU step against the reference."""

    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    @pytest.mark.parametrize("density", DENSITIES)
    @pytest.mark.parametrize("model", MODELS)
    def test_is_the_reference_after_200_steps(self, model, density, dtype):
        data = toy_data()
        spec = toy_spec(dtype=dtype, learning_rate=5e-3, l2=1e-2)
        spec = spec.with_model(**MODELS[model], embedding_size=20)
        steps = -(-data.train.nnz // spec.training.batch_size)
        ours, reference, start = both(spec, data, density, -(-200 // steps))
        assert distance(ours.weights(), reference.weights(), start) < TOLERANCE[dtype]
        outputs = ours.outputs().numpy(), reference.outputs().numpy()
        np.testing.assert_allclose(*outputs, atol=TOLERANCE[dtype] * np.abs(outputs[1]).max())
        for name in ("first", "second"):
            moments = [step.state()[name] for step in (ours, reference)]
            np.testing.assert_allclose(
                *moments, atol=TOLERANCE[dtype] * np.abs(moments[1]).max(), err_msg=name
            )

    @pytest.mark.parametrize("size", [1, 8, 16, 33])
    @pytest.mark.parametrize("model", ["mf", "mean"])
    def test_any_size(self, model, size):
        spec = toy_spec(dtype="float64")
        spec = spec.with_model(**MODELS[model], embedding_size=size)
        ours, reference, start = both(spec, toy_data(), 0.5, 4)
        assert ours.weights().shape == (70, size)
        assert distance(ours.weights(), reference.weights(), start) < 1e-9

    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    def test_rows_that_wait_long(self, dtype):
        """Batches of one triplet: rows are read again after hundreds of steps, past where a sum is
        cut off, and the series takes over from the steps in the middle of an epoch."""
        data = toy_data(60, 50, 0.35)
        spec = toy_spec(size=8, batch_size=1, dtype=dtype, learning_rate=1e-3)
        assert data.train.nnz > LONGEST > STEPWISE - 1
        ours, reference, start = both(spec, data, 0.7, 3)
        assert distance(ours.weights(), reference.weights(), start) < TOLERANCE[dtype]

    @pytest.mark.parametrize("batch_size", [7, 64, 100_000])
    @pytest.mark.parametrize("model", ["mf", "mean"])
    def test_the_last_batch_and_batches_beyond_an_epoch(self, model, batch_size):
        data = toy_data()
        assert data.train.nnz % 7
        spec = toy_spec(dtype="float64", batch_size=batch_size)
        spec = spec.with_model(**MODELS[model])
        ours, reference, start = both(spec, data, 1.0, 3)
        assert distance(ours.weights(), reference.weights(), start) < 1e-9

    @pytest.mark.parametrize("model", ["mf", "mean"])
    def test_dropped_pairs(self, model):
        data = toy_data()
        place = np.arange(data.train.nnz) % 3 == 0
        rows = np.repeat(np.arange(data.users), data.user_degree)
        parts = [to_csr(rows[p], data.train.indices[p], data.train.shape) for p in (place, ~place)]
        data = replace(data, dropped=parts[0], train=parts[1])
        spec = toy_spec(dtype="float64").with_model(**MODELS[model])
        ours, reference, start = both(spec, data, 0.5, 4)
        assert distance(ours.weights(), reference.weights(), start) < 1e-9

    @pytest.mark.parametrize("model", ["mf", "mean"])
    def test_nodes_without_neighbours(self, model):
        """Users and items that training never names: they have no gradient, and stay at X⁰."""
        data = toy_data()
        train = data.train.toarray()
        train[[3, 17]], train[:, [2, 9]] = 0, 0
        data = Interactions(
            "gaps",
            sp.csr_matrix(train),
            data.valid,
            data.test,
            data.user_labels,
            data.item_labels,
        )
        spec = toy_spec(dtype="float64", l2=0.0)
        spec = spec.with_model(**MODELS[model])
        ours, reference, start = both(spec, data, 1.0, 4)
        assert distance(ours.weights(), reference.weights(), start) < 1e-9
        assert np.array_equal(ours.weights()[[3, 17]], start[[3, 17]])
        np.testing.assert_allclose(ours.outputs(), reference.outputs(), atol=1e-12)

    @pytest.mark.parametrize("dtype", ["float64", "float32"])
    @pytest.mark.parametrize("model", ["mf", "mean"])
    @pytest.mark.parametrize("name", STEPS)
    def test_pruned_entries_get_neither_value_nor_moment(self, name, model, dtype):
        data = toy_data()
        spec = toy_spec(dtype=dtype, l2=0.5, step=name).with_model(**MODELS[model])
        start, mask = start_and_mask(data, 4, 0.5)
        mask[5] = False  # a whole row
        step = new_step(spec, data, start, mask)
        for epoch in range(5):
            step.run_epoch(epoch)
        for key in ("table", "first", "second"):
            values = step.state()[key]
            assert values.dtype == dtype
            assert not values[~mask].any(), key
            assert (values[mask] != 0).mean() > 0.9, key  # the others were trained

    @pytest.mark.parametrize("model", ["mf", "mean"])
    def test_goes_on_from_the_references_state(self, model):
        data, spec = toy_data(), toy_spec(dtype="float64")
        spec = spec.with_model(**MODELS[model])
        start, mask = start_and_mask(data, 4, 0.5)
        second, first = (new_step(spec.with_training(step=n), data, start, mask) for n in STEPS)
        for epoch in range(3):
            first.run_epoch(epoch)
        second.restore(first.state())
        for epoch in range(3, 6):
            first.run_epoch(epoch)
            second.run_epoch(epoch)
        assert distance(second.weights(), first.weights(), start * mask) < 1e-9


@pytest.mark.parametrize("done", [STEPWISE, 3000, 100_000])
@pytest.mark.parametrize("root_v", [0.0, 1e-9, 1e-7, 1e-3])
def test_the_expansion_is_dense_adam_to_float32(done, root_v):
    """The sum of all pushes on a row at once, against the same sum term by term: the docstring of
    `lazy` says 4·10⁻⁸."""
    steps = 5000
    decay = Decay.of(done, steps, 1e-3, np.float32)
    assert decay.stepwise == 0
    out = np.empty(5)
    for s, e in ((0, 1), (0, 2), (0, 17), (3, 60), (0, 400), (0, 5000), (4900, 5000)):
        k = np.arange(e - s)
        t = done + 1 + s + k
        terms = 1e-3 / (1 - BETA_1**t) * BETA_1**k
        divisors = root_v * BETA_2 ** (k / 2) / np.sqrt(1 - BETA_2**t) + EPSILON
        exact = (terms / divisors).sum()
        _series(decay.sums, decay.powers, s, e, out)
        inverse = 1 / (root_v * out[1] + EPSILON)
        q = root_v * inverse
        found = out[0] * inverse * (1 + q**2 * out[2] + q**3 * out[3] + q**4 * out[4])
        assert found == pytest.approx(exact, rel=4e-8), (s, e)


def test_float64_takes_no_expansion():
    assert Decay.of(10**6, 100, 1e-3, np.float64).stepwise > 100


@pytest.mark.slow
@pytest.mark.needs_data("yelp2018")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
def test_at_scale(backbone, density, dtype):
    """200 steps on Yelp2018 as the paper has them, on one thread and on all: the same bits, and the
    reference to rounding."""
    data = sources.load("yelp2018", protocol="paper", progress=False)
    spec = Spec(Model(backbone), Training(dtype=dtype, protocol="paper"))
    start, mask = start_and_mask(data, 32, density)
    steps, threads = [], numba.get_num_threads()
    for name, count in (("cpu", 1), ("cpu", numba.config.NUMBA_NUM_THREADS), ("reference", 1)):
        numba.set_num_threads(count)
        step = new_step(spec.with_training(step=name), data, start, mask)
        step.triplets = 200 * spec.training.batch_size
        step.run_epoch(0)
        steps.append(step)
    numba.set_num_threads(threads)
    ours, again, reference = steps
    assert np.array_equal(ours.weights(), again.weights())
    assert torch.equal(ours.outputs(), again.outputs())
    found = distance(ours.weights(), reference.weights(), start * mask)
    assert found < {"float64": 1e-9, "float32": 1e-3}[dtype]

"""Steps by name, and what they compute: all of them what the reference does.

A state goes on to the same bits; the CPU step agrees with the reference to rounding, for any mask
and setting; its lazily caught-up rows are those of dense Adam.
"""

import itertools

import numba
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from toys import half, toy_data, toy_spec

from lthnb import sources
from lthnb.config import BACKBONES, ConfigError, Model, Spec, Training
from lthnb.config import STEPS as CHOICES
from lthnb.data import Interactions
from lthnb.evaluation import evaluate, rank
from lthnb.sampling import Sampler, initial_table
from lthnb.steps import STEPS, device_of, new_step, resolve, step_class
from lthnb.steps.batches import AT_ONCE, Batches, Stream, prepare
from lthnb.steps.lazy import BETA_1, BETA_2, EPSILON, LONGEST, STEPWISE, Decay, _series
from lthnb.steps.spread import Graph, by_degree

DENSITIES = (1.0, 0.5, 0.05)
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}  # of ‖X − X_ref‖ / ‖X_ref − X⁰‖


def test_every_step_can_be_chosen_and_every_choice_runs():
    assert set(CHOICES) == {"auto", *STEPS}
    for name in STEPS:
        for method in ("run_epoch", "outputs", "weights", "state", "restore"):
            assert callable(getattr(step_class(name), method))


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
    spec = Spec()
    object.__setattr__(spec.model, "backbone", "another")
    assert resolve(spec, "cpu").training.step == "reference"
    data, shape = toy_data(), (70, 32)
    with pytest.raises(ConfigError, match=r"step 'cpu': .*'another', expected 'mf' or 'light"):
        step_class("cpu")(spec, data, np.zeros(shape), np.ones(shape, bool), "cpu")


def test_a_step_says_where_it_runs():
    assert [device_of(step) for step in ("cpu", "reference")] == ["cpu", "cpu"]
    assert device_of("reference", "cuda:1") == "cuda:1"
    with pytest.raises(ConfigError, match="found 'cuda' for the step 'cpu'"):
        device_of("cpu", "cuda")
    with pytest.raises(ConfigError, match="found 'cuda' for the step 'cpu'"):
        new_step(
            toy_spec(step="cpu"), toy_data(), np.zeros((70, 4)), np.ones((70, 4), bool), "cuda"
        )


def test_an_unknown_step_is_refused():
    with pytest.raises(ConfigError, match=r"'referense'.*Did you mean 'reference'"):
        step_class("referense")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "backbone"),
    list(itertools.product(STEPS, BACKBONES)),
)
def test_a_state_goes_on_to_the_same_bits(name, backbone, dtype):
    data, spec = toy_data(), toy_spec(backbone, dtype=dtype, step=name)
    mask, start = half(data, spec), initial_table(0, data.rows, 4)

    def new():
        return step_class(name)(spec, data, start, mask.kept, "cpu")

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


@pytest.mark.parametrize("name", STEPS)
def test_what_is_given_out_is_a_copy(name):
    data, spec = toy_data(), toy_spec(step=name)
    start, mask = initial_table(0, data.rows, 4), np.ones((70, 4), bool)
    step = step_class(name)(spec, data, start, mask, "cpu")
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
        step_class("reference")(spec, data, table, np.ones(table.shape, bool), "cuda")


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
    steps = [step_class(name)(spec, data, start, mask, "cpu") for name in ("cpu", "reference")]
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
    @pytest.mark.parametrize("scope", ["batch", "table"])
    @pytest.mark.parametrize("model", MODELS)
    def test_is_the_reference_after_200_steps(self, model, scope, density, dtype):
        data = toy_data()
        spec = toy_spec(dtype=dtype, l2_scope=scope, learning_rate=5e-3, l2=1e-2)
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

    @pytest.mark.parametrize("model", ["mf", "mean"])
    @pytest.mark.parametrize("density", DENSITIES)
    def test_users_get_the_same_lists(self, model, density):
        """But for users whose places are decided by less than rounding, who are counted."""
        data = toy_data(300, 200, 0.2)
        spec = toy_spec(dtype="float32", learning_rate=5e-3)
        spec = spec.with_model(**MODELS[model], embedding_size=16)
        ours, reference, _ = both(spec, data, density, 3)
        outputs = [step.outputs() for step in (ours, reference)]
        lists = [rank(x[: data.users], x[data.users :], data.train, 21) for x in outputs]
        scores = (outputs[1][: data.users] @ outputs[1][data.users :].T).numpy().astype(float)
        best = np.take_along_axis(scores, lists[1], 1)
        close = np.abs(np.diff(best, axis=1)).min(1) < 1e-5 * np.abs(best).max()
        differ = (lists[0][:, :20] != lists[1][:, :20]).any(1)
        assert not (differ & ~close).any()
        hits = [evaluate(x, data, "test") for x in outputs]
        clear = ~close[hits[0].users]
        assert np.array_equal(hits[0].hits[clear], hits[1].hits[clear])
        # In a sparse ticket most scores are exactly 0, and equal scores rank by id on either side.
        assert density < 0.5 or clear.mean() > 0.8

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
    def test_pruned_entries_get_nothing(self, model, dtype):
        data = toy_data()
        spec = toy_spec(dtype=dtype, l2=0.5)
        spec = spec.with_model(**MODELS[model])
        start, mask = start_and_mask(data, 4, 0.5)
        mask[5] = False  # a whole row
        step = step_class("cpu")(spec, data, start, mask)
        for epoch in range(5):
            step.run_epoch(epoch)
        for name in ("table", "first", "second"):
            values = step.state()[name]
            assert not values[~mask].any(), name
            assert values[mask].all(), name

    @pytest.mark.parametrize("model", ["mf", "mean"])
    def test_goes_on_from_the_references_state(self, model):
        data, spec = toy_data(), toy_spec(dtype="float64")
        spec = spec.with_model(**MODELS[model])
        start, mask = start_and_mask(data, 4, 0.5)
        first, second = (step_class(n)(spec, data, start, mask) for n in ("reference", "cpu"))
        for epoch in range(3):
            first.run_epoch(epoch)
        second.restore(first.state())
        for epoch in range(3, 6):
            first.run_epoch(epoch)
            second.run_epoch(epoch)
        assert distance(second.weights(), first.weights(), start * mask) < 1e-9


@pytest.mark.slow
@pytest.mark.needs_data("yelp2018")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
def test_at_scale(backbone, density, dtype, record_property):
    """200 steps on Yelp2018 as the paper has them, on one thread and on all: the same bits, and the
    reference to rounding. The distance, and how many users' lists differ, are in the report."""
    data = sources.load("yelp2018", protocol="paper", progress=False)
    spec = Spec(Model(backbone), Training(dtype=dtype, protocol="paper"))
    start, mask = start_and_mask(data, 32, density)
    steps, threads = [], numba.get_num_threads()
    for name, count in (("cpu", 1), ("cpu", numba.config.NUMBA_NUM_THREADS), ("reference", 1)):
        numba.set_num_threads(count)
        step = step_class(name)(spec, data, start, mask, "cpu")
        step.triplets = 200 * spec.training.batch_size
        step.run_epoch(0)
        steps.append(step)
    numba.set_num_threads(threads)
    ours, again, reference = steps
    assert np.array_equal(ours.weights(), again.weights())
    assert torch.equal(ours.outputs(), again.outputs())
    found = distance(ours.weights(), reference.weights(), start * mask)
    assert found < {"float64": 1e-9, "float32": 1e-3}[dtype]
    outputs = [step.outputs() for step in (ours, reference)]
    lists = [rank(x[: data.users], x[data.users :], data.train, 21) for x in outputs]
    exact = [x.double().numpy() for x in outputs]
    scores = np.stack(
        [
            np.einsum("uf,ukf->uk", exact[1][: data.users], exact[1][data.users :][found_by])
            for found_by in lists
        ]
    )
    differ = (np.sort(lists[0][:, :20]) != np.sort(lists[1][:, :20])).any(1)
    scale = np.linalg.norm(exact[1][: data.users], axis=1) * np.linalg.norm(exact[1], axis=1).max()
    gap = (scores[1][:, 19] - scores[1][:, 20]) / scale
    rounding = {"float64": 1e-10, "float32": 1e-3}[dtype]
    record_property("distance", float(found))
    record_property("users whose 20 differ", int(differ.sum()))
    record_property("largest gap of theirs", float(gap[differ].max(initial=0)))
    assert (gap[differ] < rounding).all()


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


def test_batches_are_the_stream():
    """Slots lead back to the triplets of the sampler; uses list those of a slot in order."""
    data = toy_data()
    sampler, size = Sampler.of(data.train, 5), 50
    place = np.random.default_rng(0).permutation(data.rows).astype(np.int32)
    batches = Batches.room(size, data.rows, 8, np.float32)
    first, end = 7, 7 + 3 * size + 20  # the fourth batch is a smaller one
    prepare(Stream.of(sampler, place), batches, first, end, size, AT_ONCE)
    for g in range(AT_ONCE):
        count = min(size, end - first - g * size)
        drawn = sampler.draw(first + g * size, count)
        drawn[1:] += data.users
        slots, (people, n) = batches.slots[g, :, :count], batches.counts[g]
        assert np.array_equal(batches.rows[g][slots], place[drawn])
        assert len(set(batches.rows[g][:n])) == n == len(np.unique(place[drawn]))
        assert set(slots[0]) == set(range(people))
        for slot in range(n):
            uses = batches.uses[g, batches.first_use[g, slot] : batches.first_use[g, slot + 1]]
            expected = [
                2 * b + (side == 2)
                for side in range(3)
                for b in range(count)
                if slots[side, b] == slot
            ]
            assert list(uses) == expected
    assert (batches.seen == -1).all()


def test_the_graph_is_the_training_pairs():
    data = toy_data(50, 40, 0.2)
    place = by_degree(data.train)
    assert np.array_equal(np.sort(place[: data.users]), np.arange(data.users))
    assert np.array_equal(np.sort(place[data.users :]), np.arange(data.users, data.rows))
    graph = Graph.of(data.train, place, np.float64)
    degree = np.diff(graph.indptr)
    assert (np.diff(degree[: data.users]) <= 0).all()
    assert (np.diff(degree[data.users :]) <= 0).all()
    full = np.zeros((data.rows, data.rows))
    for row in range(data.rows):
        full[row, graph.indices[graph.indptr[row] : graph.indptr[row + 1]]] = 1
    train = data.train.toarray()
    expected = np.block([[np.zeros((50, 50)), train], [train.T, np.zeros((40, 40))]])
    assert np.array_equal(full[np.ix_(place, place)], expected)
    for row in range(data.rows):
        for target in range(len(graph.targets) - 1):
            part = graph.indices[graph.cuts[row, target] : graph.cuts[row, target + 1]]
            assert ((part >= graph.targets[target]) & (part < graph.targets[target + 1])).all()
    assert np.array_equal(graph.cuts[:, 0], graph.indptr[:-1])
    assert np.array_equal(graph.cuts[:, -1], graph.indptr[1:])
    assert graph.shares[0] == 0
    assert graph.shares[-1] == data.rows
    assert (np.diff(graph.shares) >= 0).all()

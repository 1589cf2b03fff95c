"""The CUDA step: its arithmetic on the CPU against the reference, its graph where there is a GPU.

On the CPU the step runs the same operations one by one. What a GPU alone can show is at the end, in
tests that are skipped, with a reason, where there is none.
"""

import contextlib

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from toys import toy_data, toy_spec

from lthnb.config import ConfigError, Model, Spec
from lthnb.pruning import Mask
from lthnb.sampling import Sampler, initial_table
from lthnb.steps import cuda
from lthnb.steps.cuda import CudaStep
from lthnb.steps.reference import ReferenceStep

# mf, or lightgcn with a layer combination
MODELS = {
    "mf": Model("mf", 8),
    "mean": Model("lightgcn", 8, 3, "mean"),
    "sum": Model("lightgcn", 8, 2, "sum"),
}
# ‖X − X_ref‖ / ‖X_ref − X⁰‖ after 200 steps stays below.
PARITY = {"float64": 1e-9, "float32": 1e-3}
STEPS = 200

on_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="torch sees no GPU: capture and replay of the CUDA graph, and whatever of the step's "
    "arithmetic is other there than on the CPU, are UNTESTED here",
)


def spec_of(model: str = "mf", **training) -> Spec:
    return Spec(MODELS[model], toy_spec("mf", **training).training)


def mask_of(data, density: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return Mask(rng.random((data.rows, 8)) < density).kept


def both(spec, data, mask, device="cpu", reference=ReferenceStep):
    """X⁰, the reference on the CPU and the step on `device`, at their beginning."""
    start = np.where(mask, initial_table(0, data.rows, 8), 0.0)
    expected = reference(spec, data, start, mask, "cpu")
    return start, expected, CudaStep(spec, data, start, mask, device)


def apart(step, reference, start) -> float:
    """‖X − X_ref‖ / ‖X_ref − X⁰‖, in float64."""
    found, expected = step.weights().astype(float), reference.weights().astype(float)
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected - start))


def run_both(spec, data, mask, device="cpu", steps=STEPS) -> float:
    """Train both for at least `steps` steps; their losses agree. Returns how far they are apart."""
    start, reference, step = both(spec, data, mask, device)
    t = spec.training
    for epoch in range(-(-steps // -(-data.train.nnz // t.batch_size))):
        expected, found = reference.run_epoch(epoch), step.run_epoch(epoch)
        assert found == pytest.approx(expected, rel=PARITY[t.dtype])
    assert step.state()["steps"] == reference.state()["steps"] >= steps
    assert step.weights().dtype == reference.weights().dtype
    outputs = step.outputs().cpu()
    assert torch.allclose(outputs, reference.outputs(), rtol=0, atol=PARITY[t.dtype])
    return apart(step, reference, start)


@pytest.mark.parametrize("density", [1, 0.5, 0.05])
@pytest.mark.parametrize("dtype", PARITY)
@pytest.mark.parametrize("scope", ["batch", "table"])
@pytest.mark.parametrize("model", MODELS)
class TestParity:
    def test_with_the_reference(self, model, scope, dtype, density):
        data, spec = toy_data(), spec_of(model, l2_scope=scope, l2=1e-2, dtype=dtype)
        assert run_both(spec, data, mask_of(data, density)) < PARITY[dtype]

    def test_pruned_entries_stay_zero(self, model, scope, dtype, density):
        data, spec = toy_data(), spec_of(model, l2_scope=scope, l2=1e-2, dtype=dtype)
        mask = mask_of(data, density)
        step = CudaStep(spec, data, initial_table(0, data.rows, 8), mask, "cpu")
        assert not step.weights()[~mask].any()
        step.run_epoch(0)
        state = step.state()
        for name in ("table", "first", "second"):
            assert not state[name][~mask].any()
            assert state[name][mask].any()


class TestEpochs:
    @pytest.mark.parametrize("l2", [0.0, 1e-3])
    @pytest.mark.parametrize("model", MODELS)
    @pytest.mark.parametrize("left", [0, 1, 7, None])
    def test_the_last_batch_holds_what_is_left(self, left, model, l2):
        """None: the batch is larger than the epoch."""
        data = toy_data()
        n = data.train.nnz
        sizes = [n + 5] if left is None else [s for s in range(20, n + 1) if n % s == left]
        size = sizes[0]
        spec = spec_of(model, batch_size=size, dtype="float64", l2=l2)
        start, reference, step = both(spec, data, mask_of(data, 0.5))
        for epoch in range(3):
            assert step.run_epoch(epoch) == pytest.approx(reference.run_epoch(epoch), rel=1e-12)
        assert step.state()["steps"] == reference.state()["steps"]
        assert apart(step, reference, start) < 1e-11

    @pytest.mark.parametrize("piece", [1, 70, 128, 200])
    @pytest.mark.parametrize("model", MODELS)
    def test_pieces_change_no_bit(self, model, piece, monkeypatch):
        data, spec = toy_data(), spec_of(model)
        start = initial_table(0, data.rows, 8)
        mask = mask_of(data, 0.5)
        whole = CudaStep(spec, data, start, mask, "cpu")
        monkeypatch.setattr(cuda, "PIECE", piece)
        cut = CudaStep(spec, data, start, mask, "cpu")
        assert cut.piece < whole.drawn.shape[1]
        for epoch in range(3):
            assert whole.run_epoch(epoch) == cut.run_epoch(epoch)
        assert np.array_equal(whole.weights(), cut.weights())

    def test_triplets_are_the_samplers(self, monkeypatch):
        """Of two epochs in pieces, integer for integer, as they are taken batch by batch."""
        monkeypatch.setattr(cuda, "PIECE", 128)
        data, spec = toy_data(), spec_of(order_seed=5)
        step = CudaStep(spec, data, initial_table(0, data.rows, 8), mask_of(data, 1), "cpu")
        taken, original = [], step._step

        def noted(count):
            at = int(step.position)
            taken.append(step.drawn[:, at : at + count].clone())
            original(count)
            assert int(step.position) == at + count

        step._step = noted
        step.run_epoch(0)
        step.run_epoch(1)
        expected = Sampler.of(data.train, 5).draw(0, 2 * data.train.nnz)
        expected[1:] += data.users
        assert np.array_equal(torch.cat(taken, dim=1).numpy(), expected)
        assert {len(batch[0]) for batch in taken} == {64, data.train.nnz % 64}

    @pytest.mark.parametrize("dtype", PARITY)
    @pytest.mark.parametrize("model", MODELS)
    def test_a_state_goes_on_to_the_same_bits(self, model, dtype):
        data, spec = toy_data(), spec_of(model, dtype=dtype)
        mask = mask_of(data, 0.5)

        def new():
            return CudaStep(spec, data, initial_table(0, data.rows, 8), mask, "cpu")

        whole, other = new(), new()
        for epoch in range(4):
            state = other.state()
            other = new()
            other.restore(state)
            assert other.run_epoch(epoch) == whole.run_epoch(epoch)
        for key, values in whole.state().items():
            assert np.array_equal(values, other.state()[key]), key
        assert torch.equal(whole.outputs(), other.outputs())

    def test_a_reference_state_goes_on(self):
        """Keys and meaning are the reference's: either goes on from the other's state."""
        data, spec = toy_data(), spec_of("mean", dtype="float64")
        start, reference, step = both(spec, data, mask_of(data, 0.5))
        reference.run_epoch(0)
        assert step.state().keys() == reference.state().keys()
        step.restore(reference.state())
        reference.restore(step.state())
        for epoch in (1, 2):
            reference.run_epoch(epoch)
            step.run_epoch(epoch)
        assert apart(step, reference, start) < 1e-11

    def test_what_is_given_out_is_a_copy(self):
        data, spec = toy_data(), spec_of()
        step = CudaStep(spec, data, initial_table(0, data.rows, 8), mask_of(data, 1), "cpu")
        table, state = step.weights(), step.state()
        before = table.copy()
        step.run_epoch(0)
        assert np.array_equal(table, before)
        assert np.array_equal(state["table"], before)
        assert not state["first"].any()
        assert not np.array_equal(step.weights(), before)


class Asked(TorchDispatchMode):
    """Notes each operation of torch, and those that wait for the device or copy from the host."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_to_copy", "lift_fresh")

    def __init__(self):
        super().__init__()
        self.names, self.waits = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").partition(".")[0]
        self.names.append(name)
        by_mask = name.startswith("index") and any(
            getattr(a, "dtype", None) == torch.bool for a in args[1:]
        )
        if name.startswith(self.WAITS) or by_mask:
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


class TestGraph:
    """What of the capture can be checked without a GPU."""

    @pytest.mark.parametrize("dtype", PARITY)
    @pytest.mark.parametrize("scope", ["batch", "table"])
    @pytest.mark.parametrize("model", MODELS)
    def test_a_step_asks_the_host_for_nothing(self, model, scope, dtype):
        data, spec = toy_data(), spec_of(model, l2_scope=scope, dtype=dtype)
        step = CudaStep(spec, data, initial_table(0, data.rows, 8), mask_of(data, 0.5), "cpu")
        step._draw(0, 128)
        with Asked() as asked:
            step._step(64)
        assert asked.waits == []
        assert asked.names.count("addmm") == 2 * (step.backbone.layers if step.backbone else 0)
        with Asked() as asked:
            float(step.total)
        assert asked.waits

    @pytest.mark.parametrize("model", MODELS)
    def test_with_a_stand_in_for_the_graph(self, model, monkeypatch):
        """Full batches are replayed, what is left is not; the capture and its warm-up leave no
        trace; a second epoch does not capture again. The stand-in replays by doing the step."""
        data, spec = toy_data(), spec_of(model)
        full, left = divmod(data.train.nnz, 64)
        assert full > 1
        assert left
        start, mask = initial_table(0, data.rows, 8), mask_of(data, 0.5)
        eager = CudaStep(spec, data, start, mask, "cpu")
        step = CudaStep(spec, data, start, mask, "cpu")
        step.graphed = True
        log = []

        class Graph:
            def replay(self):
                log.append("replay")
                step._step(64)

        @contextlib.contextmanager
        def capture(graph, stream):
            log.append("capture")
            original, step._step = step._step, lambda count: log.append(count)
            yield
            step._step = original

        class Stream:
            def wait_stream(self, other):
                assert isinstance(other, Stream)
                assert other is not self
                log.append("wait")

        current = Stream()
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", capture)
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: current)
        monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
        monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
        for epoch in range(2):
            assert step.run_epoch(epoch) == eager.run_epoch(epoch)
        assert log == ["wait", "wait", "capture", 64] + ["replay"] * 2 * full
        for key, values in eager.state().items():
            assert np.array_equal(values, step.state()[key]), key

    def test_a_backbone_without_a_gradient_here_is_refused(self):
        data, spec = toy_data(), spec_of()
        object.__setattr__(spec.model, "backbone", "another")
        try:
            with pytest.raises(ConfigError, match="found backbone 'another', expected 'mf' or"):
                CudaStep(spec, data, np.zeros((data.rows, 8)), mask_of(data, 1), "cpu")
        finally:
            object.__setattr__(spec.model, "backbone", "mf")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
    def test_a_gpu_that_is_not_there_is_refused(self):
        data, spec = toy_data(), spec_of()
        table = np.zeros((data.rows, 8))
        for device in ("cuda", "cuda:1"):
            with pytest.raises(ConfigError, match=f"device: found '{device}', expected 'cpu'"):
                CudaStep(spec, data, table, np.ones(table.shape, bool), device)
        with pytest.raises(ConfigError, match="torch sees no GPU"):
            CudaStep(spec, data, table, np.ones(table.shape, bool))


@on_gpu
@pytest.mark.parametrize("density", [1, 0.5, 0.05])
@pytest.mark.parametrize("dtype", PARITY)
@pytest.mark.parametrize("scope", ["batch", "table"])
@pytest.mark.parametrize("model", MODELS)
def test_on_a_gpu_the_graph_agrees_with_the_reference(model, scope, dtype, density):
    data, spec = toy_data(), spec_of(model, l2_scope=scope, l2=1e-2, dtype=dtype)
    assert run_both(spec, data, mask_of(data, density), "cuda") < PARITY[dtype]


@on_gpu
@pytest.mark.parametrize("model", MODELS)
def test_on_a_gpu_an_epoch_replays_and_asks_the_host_for_nothing(model, monkeypatch):
    data, spec = toy_data(), spec_of(model, dtype="float64")
    mask = mask_of(data, 0.5)
    start, expected, step = both(spec, data, mask, "cuda", CudaStep)
    captures, original = [], CudaStep._captured

    def counted(self):
        captures.append(self)
        return original(self)

    monkeypatch.setattr(CudaStep, "_captured", counted)
    for epoch in range(2):
        assert step.run_epoch(epoch) == pytest.approx(expected.run_epoch(epoch), rel=1e-9)
    assert captures == [step]
    assert isinstance(step.graph, torch.cuda.CUDAGraph)
    # The third epoch's steps, under the eyes of torch's own watch for synchronisation.
    expected.run_epoch(2)
    step._draw(2 * data.train.nnz, data.train.nnz)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step._train(data.train.nnz)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert captures == [step]
    assert apart(step, expected, start) < 1e-9
    # A state taken on the GPU goes on there, in a step that has captured and in a fresh one.
    state = step.state()
    step.run_epoch(3)
    fresh = CudaStep(spec, data, start, mask, "cuda")
    for other in (fresh, step):
        other.restore(state)
        other.run_epoch(3)
    expected.run_epoch(3)
    assert apart(fresh, expected, start) < 1e-9
    assert apart(step, expected, start) < 1e-9
    assert not step.weights()[~mask].any()


@on_gpu
def test_on_a_gpu_the_triplets_are_the_same(monkeypatch):
    data, spec = toy_data(), spec_of(order_seed=5)
    step = CudaStep(spec, data, initial_table(0, data.rows, 8), mask_of(data, 1), "cuda")
    expected = Sampler.of(data.train, 5)
    for first, count in ((0, 100), (2**39, data.train.nnz)):
        step._draw(first, count)
        triplets = expected.draw(first, count)
        triplets[1:] += data.users
        assert np.array_equal(step.drawn[:, :count].cpu().numpy(), triplets)

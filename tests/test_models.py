"""The backbones and the loss against dense float64 computations; pruned entries stay out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import interactions, toy_data, toy_spec

from lthnb import config
from lthnb.config import Model
from lthnb.kernels import new_step
from lthnb.models import BACKBONES, MF, LightGCN, adjacency, bpr_loss, propagate
from lthnb.sampling import Sampler, initial_table


def lonely_data():
    """Random pairs; user 3 and items 0 and 7 have no training pair."""
    rng = np.random.default_rng(1)
    pairs = rng.random((12, 15)) < 0.3
    pairs[3], pairs[:, [0, 7]] = False, False
    pairs[5] = False
    pairs[5, 2] = True  # degree one
    rest = np.zeros_like(pairs)
    rest[3, 0] = True
    return interactions(pairs, np.zeros_like(pairs), rest)


def dense_adjacency(data):
    """D^-½ A D^-½ by its definition, in dense float64."""
    r = data.train.toarray().astype(float)
    a = np.block([[np.zeros((data.users,) * 2), r], [r.T, np.zeros((data.items,) * 2)]])
    degree = np.maximum(a.sum(1), 1)
    return a / np.sqrt(np.outer(degree, degree))


def triplets_of(data, count=40, seed=0):
    return torch.from_numpy(Sampler.of(data.train, seed).draw(0, count))


class TestAdjacency:
    def test_is_the_normalised_one(self):
        data = lonely_data()
        a = adjacency(data.train)
        assert np.allclose(a.toarray(), dense_adjacency(data), rtol=1e-14, atol=0)
        assert (a != a.T).nnz == 0  # symmetric to the bit: its gradient is itself
        assert a.has_sorted_indices
        assert a.indices.dtype == a.indptr.dtype == np.int32
        assert a.dtype == np.float64


class TestPropagation:
    @pytest.mark.parametrize("combination", ["mean", "sum"])
    @pytest.mark.parametrize("layers", [1, 3])
    def test_against_a_dense_computation(self, combination, layers):
        data = lonely_data()
        a, x = dense_adjacency(data), initial_table(0, data.rows, 5)
        powers = [np.linalg.matrix_power(a, k) @ x for k in range(layers + 1)]
        expected = sum(powers) / (layers + 1 if combination == "mean" else 1)
        model = Model("lightgcn", 5, layers, combination)
        for dtype, rtol in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
            backbone = LightGCN(model, data, dtype, "cpu")
            found = backbone.outputs(torch.from_numpy(x).to(dtype))
            assert found.dtype == dtype
            assert np.allclose(found.numpy(), expected, rtol=rtol, atol=rtol * abs(expected).max())
        share = layers + 1 if combination == "mean" else 1
        assert np.allclose(expected[3], x[3] / share)  # an isolated node keeps its own layer 0

    def test_mf_gives_the_table_itself(self):
        table = torch.rand(5, 2)
        assert MF(Model(), lonely_data(), torch.float32, "cpu").outputs(table) is table


def test_the_settings_name_every_backbone():
    assert set(config.BACKBONES) == set(BACKBONES)


class TestLoss:
    @pytest.mark.parametrize("l2", [0.0, 0.3])
    @pytest.mark.parametrize("backbone", BACKBONES)
    def test_against_a_plain_loop(self, l2, backbone):
        data = lonely_data()
        x = initial_table(2, data.rows, 3) * 3
        table = torch.from_numpy(x)
        outputs = BACKBONES[backbone](Model(backbone, 3), data, torch.float64, "cpu").outputs(table)
        out, triplets = outputs.numpy(), triplets_of(data)
        total = 0.0
        for user, positive, negative in triplets.T.tolist():
            i, j = data.users + positive, data.users + negative
            total += np.log1p(np.exp(out[user] @ out[j] - out[user] @ out[i]))
            # the rows of the table, not those of the outputs
            total += l2 / 2 * (x[user] @ x[user] + x[i] @ x[i] + x[j] @ x[j])
        found = bpr_loss(outputs, table, triplets, users=data.users, l2=l2)
        assert float(found) == pytest.approx(total / triplets.shape[1], rel=1e-13)

    @pytest.mark.parametrize("combination", ["mean", "sum", None])
    def test_gradient(self, combination):
        """Autograd's gradient, our own backward product in it, against finite differences."""
        data = lonely_data()
        model = Model("lightgcn", 2, 2, combination or "mean") if combination else Model("mf", 2)
        backbone = BACKBONES[model.backbone](model, data, torch.float64, "cpu")
        triplets = triplets_of(data, 15)

        def loss(table):
            outputs = backbone.outputs(table)
            return bpr_loss(outputs, table, triplets, users=data.users, l2=0.2)

        table = torch.from_numpy(initial_table(0, data.rows, 2)).requires_grad_()
        assert torch.autograd.gradcheck(loss, table)

    def test_gradient_of_a_transposed_input(self):
        """A gradient that comes in transposed, as a product's does, is laid out anew."""
        data = lonely_data()
        a = LightGCN(Model("lightgcn", 2), data, torch.float64, "cpu").adjacency
        table = torch.from_numpy(initial_table(0, data.rows, 2)).requires_grad_()
        propagate(a, table, 2, "sum").T.contiguous().sum().backward()
        ones = np.ones((data.rows, 2))
        d = dense_adjacency(data)
        assert np.allclose(table.grad.numpy(), ones + d @ ones + d @ d @ ones)

    @settings(max_examples=40)
    @given(st.integers(1, 30_000), st.integers(0, 3))
    def test_sums_are_complete(self, count, seed):
        """The loss adds in blocks; nothing is lost at their ends."""
        rng = np.random.default_rng(seed)
        table = torch.from_numpy(rng.normal(size=(10, 1)))
        triplets = torch.from_numpy(rng.integers(0, 5, (3, count)))
        found = bpr_loss(table, table, triplets, users=5, l2=2.0)
        u, i, j = table[triplets + torch.tensor([[0], [5], [5]])][..., 0].numpy()
        expected = np.log1p(np.exp(u * (j - i))).mean() + (u**2 + i**2 + j**2).mean()
        assert float(found) == pytest.approx(expected, rel=1e-12)


def test_the_loss_is_that_of_all_triplets_of_the_epoch():
    """The last batch is smaller: its loss counts by its size."""
    data, spec = toy_data(), toy_spec(learning_rate=1e-12, batch_size=50, dtype="float64", l2=0)
    assert data.train.nnz % 50
    start = initial_table(0, data.rows, 4)
    step = new_step(spec, data, start, np.ones(start.shape, bool))
    triplets = torch.from_numpy(Sampler.of(data.train, 0).draw(data.train.nnz, data.train.nnz))
    table = torch.from_numpy(start)
    whole = bpr_loss(table, table, triplets, users=data.users, l2=0.0)
    assert step.run_epoch(1) == pytest.approx(float(whole), rel=1e-9)

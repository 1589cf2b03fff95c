"""The backbones: what the table becomes before it is scored; and the loss.

Both score a user and an item by the inner product of their output rows. A new backbone is a class
with `outputs`, and one line in `BACKBONES`.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch.nn import functional

from lthnb.config import Model
from lthnb.data import Interactions

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def adjacency(train: sp.csr_matrix) -> sp.csr_matrix:
    """D^-½ A D^-½ of Eqs. 3 and 5: float64 CSR with int32 indices, (users + items) squared.

    train: users × items. A node without a neighbour keeps an empty row.
    """
    r = train.astype(np.float64)
    a = sp.bmat([[None, r], [r.T, None]], format="csr")
    degree = np.diff(a.indptr).astype(np.float64)
    scale = np.zeros_like(degree)
    np.divide(1.0, np.sqrt(degree), out=scale, where=degree > 0)
    a = sp.csr_matrix(sp.diags(scale) @ a @ sp.diags(scale))
    a.sort_indices()
    # int32 indices take MKL's fast path in torch.
    a.indices, a.indptr = a.indices.astype(np.int32), a.indptr.astype(np.int32)
    return a


class _Spread(torch.autograd.Function):
    """A @ x for a symmetric A, whose gradient is A @ g."""

    @staticmethod
    def forward(ctx, a, x):
        ctx.a = a
        return a @ x

    @staticmethod
    def backward(ctx, g):
        return None, ctx.a @ g.contiguous()


def propagate(a: torch.Tensor, table: torch.Tensor, layers: int, combination: str) -> torch.Tensor:
    """Eqs. 5 and 6: the K+1 layers X, AX, …, A^K X, as their mean (the code) or sum (α = 1).

    a: symmetric sparse tensor (rows, rows). table: (rows, F). Returns (rows, F).
    """
    layer = total = table
    for _ in range(layers):
        layer = _Spread.apply(a, layer)
        total = total + layer
    return total / (layers + 1) if combination == "mean" else total


def bpr_loss(
    outputs: torch.Tensor,
    table: torch.Tensor,
    triplets: torch.Tensor,
    *,
    users: int,
    l2: float,
) -> torch.Tensor:
    """Eqs. 4 and 7 for a batch of B triplets, divided by B: a scalar.

    mean softplus(s_uj − s_ui) + L2, where s is the inner product of output rows, and L2 is
    λ·½·(‖x_u‖² + ‖x_i‖² + ‖x_j‖²)/B over the batch's rows of the table, as in the authors' code (of
    LightGCN too; the equations as written have λ·‖X‖²/B).

    outputs, table: (rows, F). triplets: int64 (3, B), users, positives, negatives; items count
    from 0 and lie behind the `users` rows of users.
    """
    rows = triplets + triplets.new_tensor([[0], [users], [users]])
    u, i, j = functional.embedding(rows, outputs)
    size = triplets.shape[1]
    loss = _total(functional.softplus((u * j).sum(1) - (u * i).sum(1))) / size
    if l2 == 0:
        return loss
    layer0 = torch.stack((u, i, j)) if outputs is table else functional.embedding(rows, table)
    return loss + l2 * 0.5 * _total(layer0.square()) / size


def _total(values: torch.Tensor) -> torch.Tensor:
    """The sum of all values, in an order that does not depend on the number of threads: from 32,768
    elements on, torch gives each thread a part, but a sum within a row is never cut."""
    values = values.reshape(-1)
    while len(values) > 8192:
        values = functional.pad(values, (0, -len(values) % 256)).view(-1, 256).sum(1)
    return values.sum()


class MF:
    """Matrix factorisation: the outputs are the table (§3.2.1)."""

    def __init__(self, model: Model, data: Interactions, dtype: torch.dtype, device: str) -> None:
        pass

    def outputs(self, table: torch.Tensor) -> torch.Tensor:
        """(rows, F) → (rows, F)."""
        return table


class LightGCN:
    """LightGCN: the outputs are the table spread over the training graph (§3.2.2)."""

    def __init__(self, model: Model, data: Interactions, dtype: torch.dtype, device: str) -> None:
        a = adjacency(data.train)
        self.layers, self.combination = model.layers, model.layer_combination
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
            parts = map(torch.from_numpy, (a.indptr, a.indices, a.data))
            how = {"dtype": dtype, "device": device, "check_invariants": False}
            self.adjacency = torch.sparse_csr_tensor(*parts, a.shape, **how)

    def outputs(self, table: torch.Tensor) -> torch.Tensor:
        """(rows, F) → (rows, F), Eqs. 5 and 6."""
        return propagate(self.adjacency, table, self.layers, self.combination)


BACKBONES = {"mf": MF, "lightgcn": LightGCN}


class LinearStart(NamedTuple):
    """Where LCM starts: what is frozen, and what is trained.

    teacher: a trained dense table, (rows, F_t), users first. maps: (2, F_t + 1, F), for users and
    for items; the last of the F_t + 1 rows is the bias.
    """

    teacher: np.ndarray
    maps: np.ndarray

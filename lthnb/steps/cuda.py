"""The CUDA step: sampling, gradient and Adam on the device, a full batch as one captured graph.

Written without a GPU at hand. All of its arithmetic is tested on the CPU, where the same operations
run one by one; these operations on a GPU, and the capture and the replay of the graph, are untested
until the tests in ``tests/test_cuda.py`` that are skipped without a GPU have run on one. No speed
was measured; the aims on an H200 are 0.15 ms a step for MF of size 32, 1.0 ms for LightGCN of 64.

- *Triplets* are drawn on the device, an epoch or PIECE of them at once. The rejection of negatives
  asks the host a few times for each such piece, and the epoch's end reads the loss; nothing between
  does. A batch is what lies behind a counter on the device, which each step moves on.
- *The gradient* is written by hand. With x the table and P = I + A + … + Aᴷ (over K + 1 for the
  mean; I for MF), the outputs are P x, and since A is symmetric the gradient of what depends on
  them is P g, where g is zero but for the batch's rows: K products forward and K backward, each
  P by Horner, x + A (x + A (x + A x)).
- *Adam* is torch's fused kernel, which the reference uses too: dense, exact, with bias corrections
  from a counter on the device (float32, exact up to 2²⁴ steps; its powers are taken in float64).

On a GPU the order of sums is not fixed (``index_add_`` adds atomically, and cuSPARSE promises no
order for the product that torch uses), so that a run made again agrees to rounding and not to the
bit. On the CPU bits do agree.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional
from torch.optim.adam import adam

from lthnb.config import ConfigError, Spec
from lthnb.data import Interactions
from lthnb.models import DTYPES, LightGCN
from lthnb.sampling import Sampler, TorchSampler
from lthnb.steps import check_backbone

PIECE = 1 << 21  # triplets drawn at once; about 240 MB while they are drawn, 50 MB after
WARM_UP = 3  # steps before a capture, in which libraries set themselves up


class CudaStep:
    """One table, trained on a GPU, or by the same operations on the CPU.

    table: X⁰ or another start, (rows, F); mask: bool (rows, F). The gradient is masked before Adam
    sees it, so a pruned entry gets neither value nor moment. device: `cuda`, `cuda:1`, …, or `cpu`,
    where nothing is captured. Raises ConfigError where it is a GPU and there is none, and for a
    backbone other than MF and LightGCN.
    """

    def __init__(
        self,
        spec: Spec,
        data: Interactions,
        table: np.ndarray,
        mask: np.ndarray,
        device: str = "cuda",
    ) -> None:
        if device != "cpu" and not torch.cuda.is_available():
            raise ConfigError(f"device: found {device!r}, expected 'cpu': torch sees no GPU here.")
        name, t = spec.model.backbone, spec.training
        check_backbone("cuda", name)
        dtype = DTYPES[t.dtype]
        self.training, self.device = t, device
        self.users, self.triplets = data.users, data.train.nnz
        self.mask = None if mask.all() else torch.from_numpy(mask.copy()).to(device)
        self.table = torch.from_numpy(np.where(mask, table, 0.0)).to(device, dtype)
        self.first, self.second = torch.zeros_like(self.table), torch.zeros_like(self.table)
        self.steps = torch.zeros((), dtype=torch.float32, device=device)
        self.graphed, self.graph = device != "cpu", None
        self.backbone = LightGCN(spec.model, data, dtype, device) if name == "lightgcn" else None
        self.sampler = TorchSampler(Sampler.of(data.train, t.order_seed), device)
        # Whole batches in every piece, so that an epoch's last batch alone can be a smaller one.
        self.piece = max(PIECE // t.batch_size, 1) * t.batch_size
        held = min(self.piece, self.triplets)
        self.drawn = torch.empty((3, held), dtype=torch.int64, device=device)  # rows of the table
        self.offsets = torch.arange(min(t.batch_size, held), device=device)
        self.position = torch.zeros((), dtype=torch.int64, device=device)  # in `drawn`
        self.total = torch.zeros((), dtype=torch.float64, device=device)  # Σ loss · batch

    def run_epoch(self, epoch: int) -> float:
        """Train on triplets epoch · |train| … (epoch + 1) · |train| − 1; returns their mean loss.

        The last batch holds what is left, and its loss is divided by its own size.
        """
        self.total.zero_()
        for at in range(0, self.triplets, self.piece):
            count = min(self.piece, self.triplets - at)
            self._draw(epoch * self.triplets + at, count)
            self._train(count)
        return float(self.total) / self.triplets

    def _draw(self, first: int, count: int) -> None:
        """Fill `drawn` with `count` triplets of the stream, as rows of the table."""
        drawn = self.drawn[:, :count]
        drawn.copy_(self.sampler.draw(first, count))
        drawn[1:] += self.users
        self.position.zero_()

    def _train(self, count: int) -> None:
        """Steps over the first `count` triplets drawn; asks the host for nothing."""
        size = self.training.batch_size
        for _ in range(count // size):
            if self.graphed:
                if self.graph is None:
                    self.graph = self._captured()
                self.graph.replay()
            else:
                self._step(size)
        if count % size:
            self._step(count % size)

    def _captured(self) -> torch.cuda.CUDAGraph:
        """A full batch's step as a graph. What it works on is left as it was found."""
        own = (self.table, self.first, self.second, self.steps, self.position, self.total)
        found = [tensor.clone() for tensor in own]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device):
            # Warm up on another stream, as torch's notes on CUDA graphs ask for.
            side, current = torch.cuda.Stream(), torch.cuda.current_stream()
            side.wait_stream(current)
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    self._step(self.training.batch_size)
                    for tensor, before in zip(own, found, strict=True):
                        tensor.copy_(before)
            current.wait_stream(side)
            with torch.cuda.graph(graph, stream=side):
                self._step(self.training.batch_size)
        return graph

    def _step(self, count: int) -> None:
        """One step on the `count` triplets at the position, which moves on by as many.

        Nothing in here may wait for the device or copy from the host: it is captured. What it
        allocates lies in the graph's own memory, at the same place in every replay.
        """
        t, table = self.training, self.table
        rows = self.drawn.index_select(1, self.position + self.offsets[:count]).view(-1)
        own = table.index_select(0, rows)  # (3 · count, F), layer 0
        out = self._spread(table).index_select(0, rows) if self.backbone else own
        u, i, j = out.view(3, count, -1)
        apart = j - i
        worse = (u * apart).sum(1)  # s_uj − s_ui, (count,)
        # d softplus(s) / ds is sigmoid(s); the loss is the mean over the batch.
        pull = (torch.sigmoid(worse) / count).unsqueeze(1)
        gradient = torch.zeros_like(table)
        gradient.index_add_(0, rows, (torch.stack((apart, -u, u)) * pull).view_as(own))
        if self.backbone:
            gradient = self._spread(gradient)
        self.total += functional.softplus(worse).sum(dtype=torch.float64)
        if t.l2 and t.l2_scope == "batch":
            gradient.index_add_(0, rows, own, alpha=t.l2 / count)
            self.total.add_(own.square().sum(dtype=torch.float64), alpha=0.5 * t.l2)
        elif t.l2:
            gradient.add_(table, alpha=2 * t.l2 / count)
            self.total.add_(table.square().sum(dtype=torch.float64), alpha=t.l2)
        if self.mask is not None:
            gradient.mul_(self.mask)
        adam(
            [table],
            [gradient],
            [self.first],
            [self.second],
            [],
            [self.steps],
            lr=t.learning_rate,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
            fused=True,
            capturable=True,
        )
        self.position += count

    def _spread(self, values: torch.Tensor) -> torch.Tensor:
        """P · values, (rows, F) → (rows, F): Eqs. 5 and 6, and their own gradient."""
        backbone, spread = self.backbone, values
        for _ in range(backbone.layers):
            spread = torch.addmm(values, backbone.adjacency, spread)
        return spread.div_(backbone.layers + 1) if backbone.combination == "mean" else spread

    def outputs(self) -> torch.Tensor:
        """Rows to score with: (rows, F), users first; MF's are the table itself."""
        return self._spread(self.table) if self.backbone else self.table

    def weights(self) -> np.ndarray:
        """A copy of the table: (rows, F)."""
        return self.table.cpu().numpy().copy()

    def state(self) -> dict[str, np.ndarray]:
        """Table, moments and step count, as copies."""
        return {
            "table": self.weights(),
            "first": self.first.cpu().numpy().copy(),
            "second": self.second.cpu().numpy().copy(),
            "steps": np.array(float(self.steps)),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what :meth:`state` gave: on the CPU to the same bits."""
        # In place: a captured graph knows these tensors by their addresses.
        for name in ("table", "first", "second", "steps"):
            getattr(self, name).copy_(torch.from_numpy(state[name]))

"""The CPU step: numba kernels for any processor, equal to the reference but for rounding.

The number of threads changes no bit: each row has one owner, and sums have one order.
"""

from __future__ import annotations

import numpy as np
import torch

from lthnb.config import ConfigError, Spec
from lthnb.data import Interactions
from lthnb.kernels.batches import Stream
from lthnb.kernels.lightgcn import SpreadTable, by_degree
from lthnb.kernels.mf import LazyTable
from lthnb.sampling import Sampler

WRITTEN_FOR = ("mf", "lightgcn")  # the backbones for whose gradients there are kernels


class CpuStep:
    """One table, trained by hand-written kernels: MF's lazily, LightGCN's by dense gradients.

    table: a start, (rows, F); mask: bool (rows, F). Raises ConfigError for another backbone.
    """

    def __init__(
        self, spec: Spec, data: Interactions, table: np.ndarray, mask: np.ndarray, device="cpu"
    ) -> None:
        m, t = spec.model, spec.training
        if m.backbone not in WRITTEN_FOR:
            expected = f"{' or '.join(map(repr, WRITTEN_FOR))}; the step 'reference' takes any"
            raise ConfigError(f"step 'cpu': found backbone {m.backbone!r}, expected {expected}.")
        self.triplets, dtype = data.train.nnz, np.dtype(t.dtype)
        sampler = Sampler.of(data.train, t.order_seed, data.positives)
        if m.backbone == "mf":
            place = np.arange(data.rows, dtype=np.int32)
            self.table = LazyTable(Stream.of(sampler, place), table, mask, t, dtype)
            return
        share = 1.0 if m.layer_combination == "sum" else 1.0 / (m.layers + 1)
        stream = Stream.of(sampler, by_degree(data.train))
        self.table = SpreadTable(stream, data.train, table, mask, t, dtype, m.layers, share)

    def run_epoch(self, epoch: int) -> float:
        """As :meth:`ReferenceStep.run_epoch`."""
        n = self.triplets
        return self.table.run(epoch * n, (epoch + 1) * n) / n

    def outputs(self) -> torch.Tensor:
        """Rows to score with: (rows, F), users first."""
        return torch.from_numpy(self.table.outputs())

    def weights(self) -> np.ndarray:
        """A copy of the table: (rows, F)."""
        return self.table.table()

    def done(self) -> bool:
        """Never by itself."""
        return False

    def state(self) -> dict[str, np.ndarray]:
        """Table, moments and step count, as copies."""
        return {**self.table.state(), "steps": np.array(float(self.table.done))}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what :meth:`state` gave, to the same bits."""
        self.table.restore(state, int(state["steps"]))

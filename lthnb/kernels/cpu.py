"""What the CPU steps share. Their kernels are numba's, for any processor, and equal the reference
but for rounding.

The number of threads changes no bit: each row has one owner, and sums have one order.
"""

from __future__ import annotations

import numpy as np

from lthnb.config import Training
from lthnb.data import Interactions
from lthnb.kernels.batches import Stream
from lthnb.sampling import Sampler

PARTS = ("table", "first", "second")  # values, first and second moments


class CpuStep:
    """A table trained by hand-written kernels, those of a backbone in each child, which has

    - ``run(first, end)``: train on triplets first … end − 1, an epoch; gives the sum of losses;
    - ``outputs()``: as of every step;
    - ``_get(part)`` and ``_put(part, values)``: copy and set one of :data:`PARTS`, (rows, F).
    """

    def __init__(self, training: Training, data: Interactions, place: np.ndarray) -> None:
        """place: the row of each user and item among those that the kernels hold."""
        self.training, self.dtype = training, np.dtype(training.dtype)
        self.triplets, self.steps = data.train.nnz, 0
        sampler = Sampler.of(data.train, training.order_seed, data.positives)
        self.stream = Stream.of(sampler, place)

    def run_epoch(self, epoch: int) -> float:
        """As :meth:`ReferenceStep.run_epoch`."""
        n = self.triplets
        return self.run(epoch * n, (epoch + 1) * n) / n

    def weights(self) -> np.ndarray:
        """A copy of the table, (rows, F); pruned entries are zero."""
        return self._get("table")

    def done(self) -> bool:
        """Never by itself."""
        return False

    def state(self) -> dict[str, np.ndarray]:
        """Table, moments and step count, as copies."""
        return {**{part: self._get(part) for part in PARTS}, "steps": np.array(float(self.steps))}

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what :meth:`state` gave, to the same bits."""
        for part in PARTS:
            self._put(part, state[part])
        self.steps = int(state["steps"])

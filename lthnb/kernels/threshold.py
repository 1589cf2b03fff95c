"""PEP's step: a table through thresholds that are learnt with it (Liu et al. 2021, Eq. 3)."""

from __future__ import annotations

import numpy as np
import torch

from lthnb.kernels.reference import ReferenceStep

START, DECAY = -15.0, 1e-5  # of the thresholds before the sigmoid, in the authors' commands


class ThresholdStep(ReferenceStep):
    """A table V and a threshold for each entry; scored is sign(V) · max(|V| − σ(S), 0).

    table: a start, (rows, F). S starts at −15 and decays towards 0, and a threshold rises with it.
    ``weights()`` is the thresholded table; the L2 term covers its rows. Training is done once its
    density is the spec's.
    """

    trained = "values and thresholds"

    def _start(self, table: np.ndarray, mask: np.ndarray, dtype: torch.dtype) -> np.ndarray:
        return np.concatenate([table, np.full_like(table, START)], axis=1)

    def _table(self) -> torch.Tensor:
        values, thresholds = self.parameter.chunk(2, dim=1)
        return torch.sign(values) * torch.relu(values.abs() - torch.sigmoid(thresholds))

    def _loss(self, triplets: torch.Tensor) -> torch.Tensor:
        thresholds = self.parameter.chunk(2, dim=1)[1]
        return super()._loss(triplets) + DECAY / 2 * thresholds.square().sum()

    def done(self) -> bool:
        """Whether the table is as sparse as it is to become."""
        return bool((self.weights() != 0).mean() <= self.spec.model.target_density)

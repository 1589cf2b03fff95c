"""Steps that train something else than a table, by autograd: LCM's linear maps from a teacher's
frozen table (§4.4), and PEP's table through thresholds learnt with it (Liu et al. 2021, Eq. 3)."""

from __future__ import annotations

import numpy as np
import torch

from lthnb.kernels.reference import ReferenceStep
from lthnb.models import LinearStart

BLOCK = 256  # rows that are multiplied at once, so that no library cuts sums by its threads
START, DECAY = -15.0, 1e-5  # of the thresholds before the sigmoid, in the authors' commands


class LinearStep(ReferenceStep):
    """Two maps, trained; the teacher is not.

    table: a :class:`models.LinearStart`. ``weights()`` is the compressed table, (rows, F); the L2
    term covers its rows.
    """

    trained = "maps"

    def _start(self, table: LinearStart, mask: np.ndarray, dtype: torch.dtype) -> np.ndarray:
        self.sides = []
        for rows in np.split(table.teacher, [self.users]):
            # A column of ones takes the bias into the product; the last block is filled with zeros.
            filled = np.zeros((-(-len(rows) // BLOCK) * BLOCK, rows.shape[1] + 1))
            filled[: len(rows), :-1], filled[: len(rows), -1] = rows, 1.0
            blocks = torch.from_numpy(filled).to(self.device, dtype)
            self.sides.append((blocks.view(-1, BLOCK, filled.shape[1]), len(rows)))
        return table.maps

    def _table(self) -> torch.Tensor:
        """x W + b, side by side: (rows, F)."""
        parts = [
            torch.bmm(blocks, one.expand(len(blocks), -1, -1)).flatten(0, 1)[:count]
            for (blocks, count), one in zip(self.sides, self.parameter, strict=True)
        ]
        return torch.cat(parts)


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

"""LCM's step: linear maps from a teacher's frozen table, trained by autograd (§4.4)."""

from __future__ import annotations

import numpy as np
import torch

from lthnb.kernels.reference import ReferenceStep
from lthnb.models import LinearStart

BLOCK = 256  # rows that are multiplied at once, so that no library cuts sums by its threads


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

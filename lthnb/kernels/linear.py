"""LCM's step: linear maps from a teacher's frozen table, trained by autograd (§4.4).

It is the reference step with another parameter; the loop, the loss and Adam are the same.
"""

from __future__ import annotations

import numpy as np
import torch

from lthnb.config import ConfigError
from lthnb.kernels.reference import ReferenceStep
from lthnb.models import LinearMaps, LinearStart


class LinearStep(ReferenceStep):
    """Two maps, trained; the teacher is not.

    table: a :class:`models.LinearStart`. mask: bool (rows, F), all true. ``weights()`` is the
    compressed table, (rows, F), which an ordinary model scores with; the L2 term covers its rows.
    Raises ConfigError for a mask that prunes, and as :class:`ReferenceStep` does.
    """

    trained = "maps"

    def _start(self, table: LinearStart, mask: np.ndarray, dtype: torch.dtype) -> np.ndarray:
        if not mask.all():
            raise ConfigError(
                f"mask: found density {mask.mean():.3g} with Model.compression 'linear', expected "
                "the dense mask: LCM trains maps, and has no table to prune."
            )
        self.maps = LinearMaps(table.teacher, self.users, dtype, self.device)
        return table.maps

    def _table(self) -> torch.Tensor:
        return self.maps.table(self.parameter)

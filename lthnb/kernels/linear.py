"""LCM's step: linear maps from a teacher's frozen table, trained by autograd (§4.4)."""

from __future__ import annotations

import numpy as np
import torch

from lthnb.config import ConfigError
from lthnb.kernels.reference import ReferenceStep
from lthnb.models import LinearMaps, LinearStart


class LinearStep(ReferenceStep):
    """Two maps, trained; the teacher is not.

    table: a :class:`models.LinearStart`. mask: bool (rows, F), all true; else ConfigError.
    ``weights()`` is the compressed table, (rows, F); the L2 term covers its rows.
    """

    trained = "maps"

    def _start(self, table: LinearStart, mask: np.ndarray, dtype: torch.dtype) -> np.ndarray:
        if not mask.all():
            found = f"mask: found density {mask.mean():.3g} with Model.compression 'linear'"
            raise ConfigError(f"{found}, expected the dense mask: LCM has no table to prune.")
        self.maps = LinearMaps(table.teacher, self.users, dtype, self.device)
        return table.maps

    def _table(self) -> torch.Tensor:
        return self.maps.table(self.parameter)

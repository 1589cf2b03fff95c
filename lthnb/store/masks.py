"""A mask by how it was made: its bits are read when someone needs them, and not before."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from lthnb.config import DENSE
from lthnb.store.files import StoreError
from lthnb.store.runs import Store


@dataclass(frozen=True, eq=False)
class StoredMask:
    """A mask in the store, so that a search whose runs are all recorded is walked without a single
    table of weights.

    about: what the pruning depended on, and the mask's `digest` and `entries`; None for the dense
    mask. shape: (rows, F).
    """

    about: dict[str, Any] | None
    shape: tuple[int, int]
    store: Store

    @property
    def digest(self) -> str:
        """As :attr:`pruning.Mask.digest`."""
        return DENSE if self.about is None else self.about["digest"]

    @property
    def entries(self) -> int:
        """Entries that are kept."""
        return math.prod(self.shape) if self.about is None else self.about["entries"]

    @property
    def density(self) -> float:
        """Share of the entries that are kept."""
        return self.entries / math.prod(self.shape)

    def there(self) -> bool:
        """Whether the bits can be had without a training."""
        return self.about is None or self.store.has_mask(self.about)

    @property
    def kept(self) -> np.ndarray:
        """bool (rows, F). Raises StoreError where they are not kept: `training.ensure_mask` makes
        them again."""
        mask = self.store.find_mask(self.about, self.shape)
        if mask is None:
            raise StoreError(
                f"mask {self.digest[:8]}: its bits are not kept; `training.ensure_mask` prunes "
                "again, from weights that are trained again where they are not kept either."
            )
        return mask.kept

"""Early-bird tickets: the mask is taken as soon as it hardly changes (You et al., ICLR 2020)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

EARLIER, SHARE = 4, 0.1  # masks that one is compared with, and of its entries may not be in them


def settled(masks: Iterable[np.ndarray]) -> tuple[int, np.ndarray]:
    """The first of some masks, bool (rows, F) and one an epoch, of whose entries each of the four
    before has nine tenths, and its number from 1; the last mask where none is so. You et al. allow
    a tenth of all entries, which is the same at a density of one half and always met at 5 %."""
    last: deque[np.ndarray] = deque(maxlen=EARLIER)
    found = 0, np.zeros((0, 0), bool)
    for found in enumerate(masks, start=1):
        mask = found[1]
        if len(last) == EARLIER and all((mask & ~m).sum() <= SHARE * mask.sum() for m in last):
            break
        last.append(mask)
    return found

"""Dynamic sparse training: one training whose mask moves, at a fixed number of entries.

As DSL has it (Wang et al. 2024; RigL, Evci et al. 2020): from a random mask, every few epochs the
smallest kept entries go, and those with the largest gradients come in their place, at zero; an
entry that has just gone may come back, with its value. The share falls along half a cosine.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from lthnb.config import Dynamic, Spec
from lthnb.data import Interactions
from lthnb.models import BACKBONES, DTYPES, bpr_loss
from lthnb.pruning import Mask, prune
from lthnb.sampling import Sampler


def moved(
    policy: Dynamic, spec: Spec, data: Interactions, epoch: int, table: np.ndarray, kept: np.ndarray
) -> np.ndarray | None:
    """The mask, bool (rows, F), after an epoch (from 1), or None where it stays. table: (rows, F).
    kept: the mask so far, of as many entries."""
    if epoch % policy.every or epoch > policy.until:
        return None
    share = policy.share * (1 + math.cos(math.pi * epoch / policy.until)) / 2
    entries, users = int(kept.sum()), data.users
    left = prune(Mask(kept), np.abs(table), (entries - int(share * entries),), users=users)
    scores = np.abs(gradient(spec, data, epoch, table))
    grown = prune(Mask(~left.kept), scores, (entries - left.entries,), users=users)
    return left.kept | grown.kept


def gradient(spec: Spec, data: Interactions, epoch: int, table: np.ndarray) -> np.ndarray:
    """Of the loss of the first batch after an epoch (from 1), by all entries: (rows, F)."""
    t, dtype = spec.training, DTYPES[spec.training.dtype]
    x = torch.tensor(table, dtype=dtype, requires_grad=True)
    outputs = BACKBONES[spec.model.backbone](spec.model, data, dtype, "cpu").outputs(x)
    sampler = Sampler.of(data.train, t.order_seed, data.positives)
    batch = sampler.draw(epoch * data.train.nnz, t.batch_size)
    bpr_loss(outputs, x, torch.from_numpy(batch), users=data.users, l2=t.l2).backward()
    return x.grad.numpy()

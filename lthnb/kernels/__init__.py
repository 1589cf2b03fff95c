"""Optimisation steps: one interface, several ways to compute it.

A step owns the table and Adam's moments, and is driven by the one loop in `training`. It has

- ``run_epoch(epoch)``: the triplets of that epoch (counted from 0), returning their mean loss;
- ``outputs()``: the rows to score with, a torch tensor (rows, F);
- ``weights()``: the table, numpy (rows, F), pruned entries exactly zero;
- ``done()``: whether training is to end here, whatever the patience;
- ``state()`` and ``restore(state)``: everything needed to go on to the same bits.

`reference` is autograd in its plainest form, on any device; `cpu` computes the same, fast. For a
compression a child of the reference step trains something else (`compressed`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lthnb.config import ConfigError, Spec
from lthnb.data import Interactions
from lthnb.kernels.compressed import LinearStep, ThresholdStep
from lthnb.kernels.lightgcn import LightGCNStep
from lthnb.kernels.mf import MFStep
from lthnb.kernels.reference import ReferenceStep
from lthnb.models import LinearStart

WRITTEN_FOR = {"mf": MFStep, "lightgcn": LightGCNStep}  # the backbones that `cpu` has kernels for
COMPRESSED = {"linear": LinearStep, "threshold": ThresholdStep}


def resolve(spec: Spec, device: str = "auto") -> Spec:
    """The same spec with ``auto`` replaced by a step: `cpu`, or `reference` on a GPU, and where
    `cpu` is not written for the backbone, a compression or an optimiser; raises ConfigError where
    that is named for one of the latter two, or these two go together. device: ``auto`` (the CPU),
    ``cpu``, ``cuda`` or ``cuda:1``."""
    if spec.model.compression != "none" and spec.training.optimizer != "adam":
        found = f"{spec.training.optimizer!r} with {spec.model.compression!r}"
        raise ConfigError(f"Training.optimizer: found {found}, expected 'adam'.")
    for found, written in ((spec.model.compression, "none"), (spec.training.optimizer, "adam")):
        if found != written and spec.training.step not in ("auto", "reference"):
            found = f"Training.step: found {spec.training.step!r} with {found!r}"
            raise ConfigError(f"{found}, expected 'auto' or 'reference'.")
        if found != written:
            return spec.with_training(step="reference")
    if spec.training.step != "auto":
        return spec
    fast = device in ("auto", "cpu") and spec.model.backbone in WRITTEN_FOR
    return spec.with_training(step="cpu" if fast else "reference")


def device_of(step: str, device: str = "auto") -> str:
    """Where a step computes; under ``auto`` on the CPU, where bits repeat. Raises ConfigError where
    it cannot run on the device asked for."""
    if device == "auto":
        return "cpu"
    if step == "cpu" and device != "cpu":
        found = f"device: found {device!r} for the step 'cpu'"
        raise ConfigError(f"{found}, expected 'auto'; the step 'reference' runs on either.")
    return device


def new_step(
    spec: Spec,
    data: Interactions,
    table: np.ndarray | LinearStart,
    mask: np.ndarray,
    device: str = "auto",
) -> Any:
    """The step of a resolved spec at a start: table (rows, F), or for a linear compression its
    teacher and maps; mask bool (rows, F), all true for a compression, else ConfigError. That is
    raised, too, where the step cannot run on the device, or is not written for the backbone."""
    name, backbone = spec.training.step, spec.model.backbone
    compression = spec.model.compression
    if compression != "none" and not mask.all():
        found = f"mask: found density {mask.mean():.3g} with Model.compression {compression!r}"
        raise ConfigError(f"{found}, expected the dense mask.")
    new = COMPRESSED.get(compression, ReferenceStep)
    if name == "cpu":
        if backbone not in WRITTEN_FOR:
            expected = f"{' or '.join(map(repr, WRITTEN_FOR))}; the step 'reference' takes any"
            raise ConfigError(f"step 'cpu': found backbone {backbone!r}, expected {expected}.")
        new = WRITTEN_FOR[backbone]
    return new(spec, data, table, mask, device_of(name, device))

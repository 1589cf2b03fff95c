"""Optimisation steps: one interface, several ways to compute it.

A step owns the table and Adam's moments, and is driven by the one loop in `training`. It has

- ``run_epoch(epoch)``: the triplets of that epoch (counted from 0), returning their mean loss;
- ``outputs()``: the rows to score with, a torch tensor (rows, F);
- ``weights()``: the table, numpy (rows, F), pruned entries exactly zero;
- ``state()`` and ``restore(state)``: everything needed to go on to the same bits.

`reference` is autograd in its plainest form, on any device, and what the others are compared with;
`cpu` computes the same, fast. Where a model is a linear compression, the reference step's place is
taken by its child in `linear`, which trains maps instead of a table.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lthnb.config import ConfigError, Spec, nearest
from lthnb.data import Interactions
from lthnb.kernels.cpu import WRITTEN_FOR, CpuStep
from lthnb.kernels.linear import LinearStep
from lthnb.kernels.reference import ReferenceStep
from lthnb.models import LinearStart

STEPS = {"reference": ReferenceStep, "cpu": CpuStep}


def resolve(spec: Spec, device: str = "auto") -> Spec:
    """The same spec with ``auto`` replaced by a step for a device: `cpu`, or `reference` on a GPU
    and for a backbone that `cpu` is not written for. device: ``auto`` (the CPU, whose bits
    repeat), ``cpu``, ``cuda`` or ``cuda:1``.

    A linear compression has one step, `reference`, on any device; raises ConfigError where another
    is named.
    """
    if spec.model.compression == "linear":
        if spec.training.step not in ("auto", "reference"):
            raise ConfigError(
                f"Training.step: found {spec.training.step!r} with Model.compression 'linear', "
                "expected 'auto' or 'reference': the maps of LCM are trained by autograd alone."
            )
        return spec.with_training(step="reference")
    if spec.training.step != "auto":
        return spec
    fast = device in ("auto", "cpu") and spec.model.backbone in WRITTEN_FOR
    step = "cpu" if fast else "reference"
    return replace(spec, training=replace(spec.training, step=step))


def device_of(step: str, device: str = "auto") -> str:
    """Where a step computes: ``cpu``, ``cuda`` or ``cuda:1``.

    Under ``auto`` it is the CPU, where bits repeat. Raises ConfigError where the step cannot run on
    the device asked for.
    """
    if device == "auto":
        return "cpu"
    if step == "cpu" and device != "cpu":
        raise ConfigError(
            f"device: found {device!r} for the step 'cpu', which runs on 'cpu' alone; leave the "
            "device at 'auto', or choose the step 'reference', which runs on either."
        )
    return device


def step_class(name: str) -> type:
    """The class of a step. Raises ConfigError for an unknown name."""
    if name not in STEPS:
        raise ConfigError(
            f"step: found {name!r}, expected one of {', '.join(STEPS)}." + nearest(name, STEPS)
        )
    return STEPS[name]


def new_step(
    spec: Spec,
    data: Interactions,
    table: np.ndarray | LinearStart,
    mask: np.ndarray,
    device: str = "auto",
) -> Any:
    """The spec's step at a start: table (rows, F), or for a linear compression its teacher and
    maps; mask bool (rows, F).

    Raises ConfigError for an unknown step, and for one that cannot run on the device.
    """
    name = spec.training.step
    new = step_class(name)
    if spec.model.compression == "linear":
        new = LinearStep
    return new(spec, data, table, mask, device_of(name, device))

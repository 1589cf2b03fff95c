"""Optimisation steps: one interface, several ways to compute it.

A step owns the table and Adam's moments, and is driven by the one loop in `training`. It has

- ``run_epoch(epoch)``: the triplets of that epoch (counted from 0), returning their mean loss;
- ``outputs()``: the rows to score with, a torch tensor (rows, F);
- ``weights()``: the table, numpy (rows, F), pruned entries exactly zero;
- ``state()`` and ``restore(state)``: everything needed to go on to the same bits.

`STEPS` maps a name to a function that imports and returns the class, so that nothing is loaded
before it is wanted.
"""

from __future__ import annotations

import importlib
from dataclasses import replace

from lthnb.config import ConfigError, Spec, nearest

STEPS = {
    "reference": lambda: importlib.import_module("lthnb.steps.reference").ReferenceStep,
}


def resolve(spec: Spec) -> Spec:
    """The same spec with ``auto`` replaced by the step that runs here."""
    if spec.training.step != "auto":
        return spec
    return replace(spec, training=replace(spec.training, step="reference"))


def step_class(name: str):
    """The class of a step. Raises ConfigError for an unknown name."""
    if name not in STEPS:
        raise ConfigError(
            f"step: found {name!r}, expected one of {', '.join(STEPS)}." + nearest(name, STEPS)
        )
    return STEPS[name]()

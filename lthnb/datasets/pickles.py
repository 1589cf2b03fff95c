"""Pickled scipy matrices, of which nothing is run."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from lthnb.data import DataError


def read_matrix(path: Path) -> sp.coo_matrix:
    """The scipy COO or CSR matrix of a pickle, as HKUDS' trnMat.pkl.

    A pickle can name any function of any module and call it. This one may name what is in
    ``ALLOWED_IN_PICKLE``; whatever else it names is refused, and not imported. A broken pickle may
    raise anything.
    """
    with path.open("rb") as handle:
        state = vars(_MatrixUnpickler(handle, path.name).load())
    if "indptr" in state:
        column = state["indices"]
        row = np.repeat(np.arange(len(state["indptr"]) - 1), np.diff(state["indptr"]))
    else:  # scipy ≥ 1.13, or before
        row, column = state["coords"] if "coords" in state else (state["row"], state["col"])
    return sp.coo_matrix((state["data"], (row, column)), shape=state.get("_shape"))


# What a pickled matrix may name, beside scipy's matrices, for which an inert object stands in.
MATRICES = ("coo_matrix", "coo_array", "csr_matrix", "csr_array")
ALLOWED_IN_PICKLE = {
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,
    ("numpy._core.numeric", "_frombuffer"): np._core.numeric._frombuffer,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _MatrixUnpickler(pickle.Unpickler):
    """An unpickler that finds nothing but ``ALLOWED_IN_PICKLE``."""

    def __init__(self, handle: io.BufferedIOBase, file: str) -> None:
        super().__init__(handle)
        self.file = file
        # A class of its own for each file: a pickle can set attributes of a class that it names.
        self.stand_in = type("matrix", (), {})

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("scipy.sparse.") and name in MATRICES:
            return self.stand_in
        found = ALLOWED_IN_PICKLE.get((module.replace("numpy.core", "numpy._core"), name))
        if found is None:
            raise DataError(
                f"{self.file}: the pickle asks for {module}.{name}, which a matrix does not need; "
                "refused, and nothing of it was run. Use the published file."
            )
        return found

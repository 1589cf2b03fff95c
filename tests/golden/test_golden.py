"""The numbers as they were when the first build was proven: they never change.

`values.json` was written once, by ``python tests/golden/test_golden.py``, at the commit before the
package was rebuilt. `planted.csv` holds the pairs of a planted data set. What the test asks of the
package goes through `tests/golden_adapter.py` alone.

On a CPU all is compared exactly, but for LCM, which autograd trains, and the `reference` step:
their losses to 1e-3 and their metrics to 1 %, as a replay is judged.
"""

import contextlib
import json
import sys
import tempfile
from pathlib import Path

import numba
import pytest
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import golden_adapter  # noqa: E402

VALUES = HERE / "values.json"
DATA = {"planted": str(HERE / "planted.csv"), "movielens": "movielens"}
LOSS, METRIC = 1e-3, 1e-2  # relative tolerances where autograd trains

SHORT = {"epochs": 6, "patience": 6, "learning_rate": 5e-3}
TWO = {"densities": [0.5, 0.2]}
# name → method, settings of the search, and what the training and the model have otherwise.
SEARCHES = {
    "imp": ("imp", {"pruning_rate": 0.2, "rungs": 4}, {"epochs": 10, "patience": 10}, {}),
    "omp": ("omp", TWO, {}, {}),
    "random": ("rp", TWO, {}, {}),
    "random over the start": ("rp_x0", TWO, {}, {}),
    "reinit": ("imp", {"pruning_rate": 0.5, "rungs": 2, "rewind": "reinit"}, {}, {}),
    "continue": ("imp", {"pruning_rate": 0.5, "rungs": 2, "rewind": "continue"}, {}, {}),
    "late": ("imp", {"pruning_rate": 0.5, "rungs": 2, "rewind": "late", "rewind_epoch": 2}, {}, {}),
    "from last": ("imp", {"pruning_rate": 0.5, "rungs": 2, "prune_from": "last"}, {}, {}),
    "paper": ("imp", {"pruning_rate": 0.5, "rungs": 1}, {"protocol": "paper"}, {}),
    "size 13": ("imp", {"pruning_rate": 0.3, "rungs": 1}, {}, {"size": 13}),
    "another seed": ("imp", {"pruning_rate": 0.3, "rungs": 1}, {"l2": 1e-2}, {"seed": 3}),
    "small batches": (
        "imp",
        {"pruning_rate": 0.3, "rungs": 1, "criterion": "row_rank", "scope": "user_item"},
        {"batch_size": 300, "evaluate_every": 2},
        {},
    ),
    "reference": ("imp", {"pruning_rate": 0.3, "rungs": 0}, {"step": "reference"}, {}),
    "lcm": ("lcm", {}, {}, {"size": 16, "to": 4}),
}


def cases():
    """Every case by its name: both backbones on both data sets."""
    found = {}
    for data in DATA:
        for backbone in ("mf", "lightgcn"):
            for name, (method, search, training, more) in SEARCHES.items():
                case = {"data": data, "backbone": backbone, "method": method, "search": search}
                case |= {"size": 32, "seed": 0, "training": {"step": "cpu", **SHORT, **training}}
                if method == "lcm":
                    case["training"]["step"] = "auto"
                found[f"{data}, {backbone}, {name}"] = case | more
    return found


CASES = cases()


def protocol(case):
    return case["training"].get("protocol", "validated")


@contextlib.contextmanager
def threads(number):
    """Compute with so many threads, as far as the machine has them."""
    before = numba.get_num_threads(), torch.get_num_threads()
    numba.set_num_threads(min(number, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(number)
    try:
        yield
    finally:
        numba.set_num_threads(before[0])
        torch.set_num_threads(before[1])


@pytest.fixture(scope="module")
def data():
    return {
        (name, protocol): golden_adapter.load(path, protocol)
        for name, path in DATA.items()
        for protocol in ("validated", "paper")
    }


@pytest.fixture(scope="module")
def values():
    return json.loads(VALUES.read_text())


def test_data_have_their_digests(data, values):
    assert {f"{name}, {how}": one.digest for (name, how), one in data.items()} == values["data"]


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_numbers_are_what_they_were(name, number, data, values, tmp_path):
    case = CASES[name]
    with threads(number):
        found = golden_adapter.runs(case, data[case["data"], protocol(case)], tmp_path)
    expected = values["runs"][name]
    if case["method"] != "lcm" and case["training"]["step"] == "cpu":
        assert found == expected
        return
    for one, other in zip(found, expected, strict=True):
        assert (one["key"], one["mask"]) == (other["key"], other["mask"])
        assert one["losses"] == pytest.approx(other["losses"], rel=LOSS)
        for part in ("test", "valid"):
            assert one[part] == pytest.approx(other[part], rel=METRIC)


def write():
    """Write the values. Done once; what is there is never written over."""
    loaded = {
        (name, how): golden_adapter.load(path, how)
        for name, path in DATA.items()
        for how in ("validated", "paper")
    }
    runs = {}
    for name, case in CASES.items():
        with tempfile.TemporaryDirectory() as folder, threads(1):
            where = loaded[case["data"], protocol(case)]
            runs[name] = golden_adapter.runs(case, where, folder)
    digests = {f"{name}, {how}": one.digest for (name, how), one in loaded.items()}
    with VALUES.open("x") as file:
        json.dump({"data": digests, "runs": runs}, file, indent=0)


if __name__ == "__main__":
    write()

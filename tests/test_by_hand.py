"""The lottery by hand: its losses are the package's, and its solutions run."""

import json
import re

import matplotlib
import numpy as np
import pytest
from toys import ROOT

from lthnb.config import Model, Spec, Training
from lthnb.kernels import new_step
from lthnb.sampling import initial_table

CELLS = json.loads((ROOT / "notebooks/by-hand.ipynb").read_text(encoding="utf-8"))["cells"]
SOURCES = ["".join(cell["source"]) for cell in CELLS]
CODE = [text for text, cell in zip(SOURCES, CELLS, strict=True) if cell["cell_type"] == "code"]
SOLUTIONS = re.findall(r"~~~python\n(.*?)~~~", "\n".join(SOURCES), re.DOTALL)


@pytest.fixture(scope="module")
def there():
    """What the notebook's cells define, after three epochs and one pruning."""
    matplotlib.use("Agg")
    names = {}
    exec(CODE[0], names)
    names |= {"epochs": 3, "rounds": 1}
    for text in CODE[1:]:
        exec(text, names)
    return names


@pytest.mark.parametrize("density", ["dense", "pruned"])
def test_losses_are_those_of_the_package_up_to_rounding(there, density):
    data, size = there["data"], there["embedding_size"]
    start = initial_table(0, data.rows, size)
    mask = np.ones(start.shape, bool) if density == "dense" else there["mask"].numpy()
    how = {n: there[n] for n in ("learning_rate", "l2", "batch_size")}
    step = new_step(Spec(Model("mf", size), Training(**how, step="cpu")), data, start, mask)
    _, losses = there["train"](there["start"], there["torch"].from_numpy(mask))
    assert losses == pytest.approx([step.run_epoch(epoch) for epoch in range(3)], rel=1e-5)


def test_a_ticket_keeps_what_is_largest_and_stays_pruned(there):
    dense, _ = there["train"](there["start"], there["torch"].ones_like(there["mask"]))
    mask = there["prune"](dense, there["torch"].ones_like(there["mask"]))
    assert mask.sum().item() == round(0.6 * mask.numel())
    assert dense.abs()[mask].min() >= dense.abs()[~mask].max()
    ticket, _ = there["train"](there["start"], mask)
    assert (ticket[~mask] == 0).all()


def test_recall_is_the_packages(there):
    table, _ = there["train"](there["start"], there["torch"].ones_like(there["mask"]))
    data, users = there["data"], there["data"].users
    ours = there["lthnb"].evaluate(table[:users], table[users:], data)["recall@20"]
    assert there["recall_at_20"](table, data.known, data.test) == pytest.approx(ours, abs=1e-6)


@pytest.mark.parametrize("solution", SOLUTIONS, ids=["1", "2", "3", "4"])
def test_solutions_run(there, solution, capsys):
    exec(solution, dict(there))
    assert re.search(r"0\.\d{4}\n", capsys.readouterr().out)

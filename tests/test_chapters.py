"""Every notebook as its users run it: from its folder, as in JupyterLab; with papermill on one data
set; and, where it trains, on a table of one's own under the smoke profile."""

import nbformat
import numpy as np
import papermill
import pytest
from nbclient import NotebookClient
from toys import PATIENCE, ROOT

from lthnb.book import build

FOLDER = ROOT / "notebooks"
NAMES = build.book_notebooks()
PARAMETERS = {name: build.declared_parameters(name) for name in NAMES}
CHAPTERS = [name for name, declared in PARAMETERS.items() if "profile" in declared]


@pytest.fixture
def store(tmp_path, monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of one's own: two groups of users that like two groups of items."""
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("own") / "a.csv"
    pairs = [
        (u, i) for u in range(60) for i in range(50) if rng.random() < 0.4 - 0.3 * ((u + i) % 2)
    ]
    path.write_text("user,item\n" + "".join(f"u{u},i{i}\n" for u, i in pairs))
    return path


def trainings(store):
    """The finished runs of a store, with the time at which each was written."""
    return {path: path.stat().st_mtime_ns for path in store.glob("runs/*/row.json")}


def run(name, folder, **given):
    """Run a notebook with papermill, as from its command line."""
    source, copy = (place / f"{name}.ipynb" for place in (FOLDER, folder))
    how = {"kernel_name": "python3", "cwd": FOLDER, "progress_bar": False}
    papermill.execute_notebook(source, copy, given, **how)


@pytest.mark.parametrize("name", NAMES)
def test_run_from_its_folder_it_trains_nothing_but_the_playground_once(name, store):
    found = []
    for _ in range(1 + (name == "playground")):
        nb = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        at = {"metadata": {"path": str(FOLDER)}}
        NotebookClient(nb, timeout=PATIENCE, kernel_name="python3", resources=at).execute()
        found.append(trainings(store))
    assert found[0] == found[-1]
    assert bool(found[0]) == (name == "playground")


@pytest.mark.parametrize("name", [n for n, p in PARAMETERS.items() if "dataset" in p])
@pytest.mark.needs_data("lastfm")
def test_shown_for_one_data_set(name, store, tmp_path):
    given = {"rounds": 1, "seeds": [0], "max_epochs": 2} if name == "playground" else {}
    run(name, tmp_path, dataset="lastfm", **given)
    assert bool(trainings(store)) == (name == "playground")


@pytest.mark.parametrize("name", CHAPTERS)
def test_trained_on_a_table_of_ones_own(name, store, table, tmp_path):
    one = {} if name == "playground" else {"workers": "1"}  # tests share the cores already
    run(name, tmp_path, dataset=str(table), profile="smoke", **one)
    assert trainings(store)

"""Notebook sources: clean and short, with typed and commented parameters, and nothing defined."""

import ast
import json
from pathlib import Path

import papermill
import pytest

from lthnb.book import build
from lthnb.book.clean import clean_notebook

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
TRAINS = {"train", "rounds_of", "train_search", "imp", "omp", "random_pruning", "backward", "step"}
LONGEST, IN_ALL = 25, 1620  # lines of a code cell, and of all notebooks' code
BY_HAND = "by-hand"  # it shows the whole method, and so defines functions and trains in loops
DEFINES = {BY_HAND, "summary"}  # the second a function that puts a number into its text
NO_CHAPTERS = {BY_HAND, "summary", "performance", "playground", "tables", "scorecard", "settings"}
CHAPTERS = [path for path in NOTEBOOKS if path.stem not in NO_CHAPTERS]
KINDS = {"int", "float", "bool", "str", "list[int]", "list[float]", "list[str]"}
COMMON = {  # the parameters that every chapter has, in this order
    "dataset": "list[str]",
    "backbone": "list[str]",
    "embedding_size": "int",
    "seeds": "list[int]",
    "protocol": "str",
    "profile": "str",
    "fresh": "bool",
    "workers": "str",
    "user": "str",
    "item": "str",
    "rating": "str",
    "threshold": "float",
    "time": "str",
    "split": "str",
}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def code_cells(path: Path) -> list[dict]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def nodes(path: Path, first: int = 0) -> list[ast.AST]:
    """All that the code cells from `first` on consist of; magics are no Python, and fail here."""
    trees = [ast.parse("".join(cell["source"])) for cell in code_cells(path)[first:]]
    return [node for tree in trees for node in ast.walk(tree)]


def called(node: ast.AST) -> set[str]:
    """The last names of the functions called under a node: `lottery.rounds_of(…)` → rounds_of."""
    functions = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
    return {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in functions}


def test_clean_and_cells_have_names(path):
    text = path.read_text(encoding="utf-8")
    assert clean_notebook(text) == text, "`make format` cleans it"
    ids = [cell["id"] for cell in json.loads(text)["cells"]]
    assert len(set(ids)) == len(ids)


def test_parameters_come_first_typed_and_commented(path):
    first, second, *_ = code_cells(path)
    assert "parameters" in first["metadata"].get("tags", [])
    assert ("p = parameters(globals())" in "".join(second["source"])) == (path.stem != BY_HAND)
    lines = "".join(first["source"]).splitlines()
    for statement in ast.parse("\n".join(lines)).body:
        assert isinstance(statement, ast.AnnAssign), "write `name: type = value  # …`"
        assert statement.value is not None, f"{statement.target.id}: no default"
        assert ast.unparse(statement.annotation) in KINDS, statement.target.id
        assert "#" in lines[statement.end_lineno - 1], f"{statement.target.id}: no comment"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapters_have_the_same_parameters_first(path):
    declared = build.declared_parameters(path.stem)
    assert list(declared.items())[: len(COMMON)] == list(COMMON.items())


def test_papermill_documents_every_parameter(path):
    """`papermill --help-notebook` reads types by a pattern that knows no `X | None`."""
    known = papermill.inspect_notebook(str(path))
    assert set(known) == set(build.declared_parameters(path.stem))
    for name, entry in known.items():
        assert entry["help"], f"{name} has no help"
        assert entry["inferred_type_name"] != "None", f"{name} has no type for papermill"


def test_code_is_little():
    lines = [len(cell["source"]) for path in NOTEBOOKS for cell in code_cells(path)]
    assert max(lines) <= LONGEST
    assert sum(lines) <= IN_ALL


@pytest.mark.parametrize(
    "path", [p for p in NOTEBOOKS if p.stem not in DEFINES], ids=lambda p: p.stem
)
def test_nothing_is_defined_and_no_loop_trains(path):
    """A later `x: int = …` would be a parameter when the second cell is run again."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.AnnAssign)
    for node in nodes(path, first=1):
        assert not isinstance(node, kinds), f"{ast.unparse(node)}: move it to lthnb/"
        if isinstance(node, (ast.For, ast.While)):
            trains = {name for part in node.body for name in called(part)} & TRAINS
            assert not trains, f"{path.name} calls {trains} in a loop"

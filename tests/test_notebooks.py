"""Notebook sources: clean and short, with typed and commented parameters, and nothing defined."""

import ast
import json
from pathlib import Path

import pytest
from lthnb.parameters import KINDS

from lthnb.book import build

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TRAINS = {"train", "climb", "train_search", "imp", "omp", "random_pruning", "backward", "step"}
LONGEST, IN_ALL = 25, 1500  # lines of a code cell, and of all notebooks' code
NO_CHAPTERS = {"summary", "performance", "playground", "tables", "scorecard", "settings"}
CHAPTERS = [path for path in NOTEBOOKS if path.stem not in NO_CHAPTERS]
COMMON = {  # the parameters that every chapter has, in this order
    "dataset": "list[str]",
    "backbone": "list[str]",
    "embedding_size": "int",
    "seeds": "list[int]",
    "protocol": "str",
    "profile": "str",
    "fresh": "bool",
    "workers": "int",
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


def trees(path: Path) -> list[ast.Module]:
    """Each code cell as a syntax tree; magics are no Python, and fail here."""
    return [
        ast.parse("".join(cell["source"]), f"{path.name}, code cell {number}")
        for number, cell in enumerate(code_cells(path), start=1)
    ]


def where(path: Path, number: int, node: ast.AST) -> str:
    return f"{path.name}, code cell {number}, line {node.lineno}"


def called(node: ast.AST) -> set[str]:
    """The last names of the functions called under a node: `lottery.ladder(…)` → ladder."""
    functions = [n.func for n in ast.walk(node) if isinstance(n, ast.Call)]
    return {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in functions}


def test_clean(path):
    text = path.read_text(encoding="utf-8")
    assert build.clean_notebook(text) == text, "`make format` cleans it"


def test_kernel_is_python3(path):
    nb = json.loads(path.read_text(encoding="utf-8"))
    assert nb["metadata"]["kernelspec"]["name"] == "python3"


def test_cell_ids_differ(path):
    ids = [cell["id"] for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    assert len(set(ids)) == len(ids)


def test_parameters_come_first_typed_and_commented(path):
    first, *others = code_cells(path)
    assert first["metadata"].get("tags") == ["parameters"]
    assert not any("parameters" in cell["metadata"].get("tags", []) for cell in others)
    lines = "".join(first["source"]).splitlines()
    for statement in trees(path)[0].body:
        place = where(path, 1, statement)
        assert isinstance(statement, ast.AnnAssign), f"{place}: write `name: type = value  # …`"
        assert statement.value is not None, f"{place}: no default"
        assert "#" in lines[statement.end_lineno - 1], f"{place}: no comment"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapters_have_the_same_parameters_first(path):
    declared = [(s.target.id, ast.unparse(s.annotation)) for s in trees(path)[0].body]
    assert declared[: len(COMMON)] == list(COMMON.items())


def test_parameters_are_of_the_types_that_are_read(path):
    for statement in trees(path)[0].body:
        assert ast.unparse(statement.annotation) in KINDS, where(path, 1, statement)


def test_papermill_documents_every_parameter(path):
    """`papermill --help-notebook` reads types by a pattern that knows no `X | None`."""
    import papermill

    known = papermill.inspect_notebook(str(path))
    assert set(known) == set(build.declared_parameters(path))
    for name, entry in known.items():
        assert entry["help"], f"{name} has no help"
        assert entry["inferred_type_name"] != "None", f"{name} has no type for papermill"


def test_second_cell_checks_the_parameters(path):
    source = "".join(code_cells(path)[1]["source"])
    assert "p = parameters(globals())" in source


def test_parameters_are_the_only_annotated_names(path):
    """A later `x: int = …` would become a parameter when the second cell is run again."""
    for number, tree in enumerate(trees(path)[1:], start=2):
        for node in ast.walk(tree):
            assert not isinstance(node, ast.AnnAssign), where(path, number, node)


def test_cells_are_short(path):
    for number, cell in enumerate(code_cells(path), start=1):
        lines = len(cell["source"])
        assert lines <= LONGEST, f"{path.name}, code cell {number}: {lines} lines"


def test_all_code_is_little():
    lines = {path.stem: sum(len(c["source"]) for c in code_cells(path)) for path in NOTEBOOKS}
    assert sum(lines.values()) <= IN_ALL, lines


def test_defines_nothing(path):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for number, tree in enumerate(trees(path), start=1):
        for node in ast.walk(tree):
            assert not isinstance(node, kinds), f"{where(path, number, node)}: move it to lthnb/"


def test_no_loop_trains(path):
    for number, tree in enumerate(trees(path), start=1):
        for node in ast.walk(tree):
            if isinstance(node, (ast.For, ast.While)):
                trains = {name for part in node.body for name in called(part)} & TRAINS
                assert not trains, f"{where(path, number, node)} calls {trains} in a loop"

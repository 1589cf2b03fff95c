"""Notebooks through papermill: fresh or executed, byte for byte, side by side, stopped, failing."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toys import PATIENCE, ROOT

from lthnb.book import build
from lthnb.book.clean import clean_notebook
from lthnb.config import ConfigError

pytestmark = pytest.mark.xdist_group("build")  # one worker, or each executes the fixture anew

PARAMETERS = 'source: str = "small"  # which data\nprofile: str = "quick"  # size'


def write_notebook(path: Path, *cells: str, parameters: str = PARAMETERS) -> Path:
    """Write a clean notebook: a parameters cell, then the given code cells."""
    made = [{"cell_type": "code", "metadata": {}, "source": source} for source in cells]
    first = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": parameters}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(clean_notebook(json.dumps({"cells": [first, *made]})), encoding="utf-8")
    return path


def project(folder: Path, **notebooks: tuple[str, ...]) -> Path:
    for name, cells in notebooks.items():
        write_notebook(folder / "notebooks" / f"{name}.ipynb", *cells)
    return folder


def copy_of(root: Path, name: str = "one") -> Path:
    return root / "_executed" / "smoke" / f"{name}.ipynb"


def run(root: Path, *names: str, **settings) -> dict[str, str]:
    return build.run_notebooks(names, "smoke", root=root, **settings)


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> Path:
    """A project of two notebooks, executed at once."""
    shows = (
        "import os, sys\nprint(profile, source)\nprint('noise', file=sys.stderr)\nos.getcwd()",
        "print(os.environ['OMP_NUM_THREADS'], {'x', 'y', 'z'}, object())\n[object()]",
    )
    root = project(tmp_path_factory.mktemp("project"), one=shows, two=shows)
    assert run(root, jobs=2) == {"one": "executed", "two": "executed"}
    return root


def test_copy_has_outputs_and_no_noise(executed):
    text = copy_of(executed).read_text(encoding="utf-8")
    cells = json.loads(text)["cells"]
    assert [c["id"] for c in cells] == ["cell-0", "injected-parameters", "cell-1", "cell-2"]
    assert "".join(cells[1]["source"]).endswith('profile = "smoke"\n')
    outputs = cells[2]["outputs"]
    assert outputs[0]["text"] == ["smoke small\n"]
    assert str(executed / "notebooks") in str(outputs[1]["data"]), "the notebook's own folder"
    for noise in ("noise", "start_time", "duration", " at 0x"):
        assert noise not in text.replace("noise', file", "")
    threads = max(1, os.cpu_count() // 2)
    assert cells[3]["outputs"][0]["text"][0].startswith(f"{threads} ")


def test_rerun_is_the_same_to_the_byte(executed):
    before = copy_of(executed, "two").read_bytes()
    for name in ("one", "two"):
        copy_of(executed, name).unlink()
    assert run(executed, jobs=2) == {"one": "executed", "two": "executed"}
    assert copy_of(executed, "two").read_bytes() == before
    assert run(executed) == {"one": "fresh", "two": "fresh"}


def test_nothing_is_left_over(executed):
    copies = {path.name for path in copy_of(executed).parent.iterdir() if path.suffix != ".lock"}
    assert copies == {"one.ipynb", "two.ipynb"}
    assert {path.name for path in (executed / "notebooks").iterdir()} == copies


def edit_outputs(copy: Path) -> None:
    copy.write_text(copy.read_text(encoding="utf-8").replace("smoke small", "better"))


def test_copy_is_stale_when_source_or_copy_changed(executed):
    edit_outputs(copy_of(executed))
    assert run(executed, "one") == {"one": "executed"}
    source = executed / "notebooks" / "one.ipynb"
    source.write_bytes(source.read_bytes() + b"\n")
    assert run(executed, "one") == {"one": "executed"}


def test_copy_depends_on_the_package(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "lthnb", tmp_path / "lthnb")
    monkeypatch.setattr(build, "__file__", str(tmp_path / "lthnb" / "book" / "build.py"))
    seen = {build._depends_on(tmp_path / "one.ipynb")}
    for name in ("stats.py", "experiments/grid.yaml"):
        with open(tmp_path / "lthnb" / name, "a") as file:
            file.write("# changed\n")
        seen.add(build._depends_on(tmp_path / "one.ipynb"))
    assert len(seen) == 3


def test_copy_depends_on_benchmarks_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("LTHNB_RESULTS", str(tmp_path))
    before = build._depends_on(tmp_path / "one.ipynb")
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "mine.json").write_text("{}")
    assert build._depends_on(tmp_path / "one.ipynb") != before


def test_failing_notebook_names_cell_and_error_and_others_go_on(tmp_path):
    once = "import os, pathlib\nif not pathlib.Path('../mark').exists():\n"
    once += "    pathlib.Path('../mark').touch()\n    os.kill(os.getpid(), 9)"
    bad = ("x = 1", "# the reason\nraise ValueError('no such ticket')")
    root = project(tmp_path, bad=bad, dead=(once,), full=("1",), good=("print('fine')",))
    copy_of(root, "full").mkdir(parents=True)
    with pytest.raises(build.BookError) as error:
        run(root, jobs=2)
    assert re.search(r"full\.ipynb: .* a directory: .*full\.ipynb", str(error.value))
    kept = copy_of(root).with_name("failed") / "bad.ipynb"
    for words in ("bad.ipynb: cell [4] `# the reason`: ValueError: no such ticket", str(kept)):
        assert words in str(error.value)
    assert "dead.ipynb: Kernel died: out of memory" in str(error.value)
    assert "no such ticket" in kept.read_text(encoding="utf-8")
    assert not copy_of(root, "bad").exists()
    assert run(root, "dead", "good") == {"dead": "executed", "good": "fresh"}
    assert not kept.with_name("dead.ipynb").exists()


def test_wrong_names_are_refused_before_anything_runs(tmp_path):
    root = project(tmp_path, one=())
    with pytest.raises(build.BookError, match=r"unknown notebook onne\. Did you mean 'one'\?"):
        run(root, "onne")
    with pytest.raises(ConfigError, match=r"profile: found 'quik'.*Did you mean 'quick'\?"):
        build.run_notebooks(["one"], "quik", root=root)
    (root / "_toc.yml").write_text("  - file: notebooks/one\n")
    with pytest.raises(ConfigError, match=r"profile: found 'quik'"):
        build.build_book("quik", root=root)
    assert {path.name for path in root.iterdir()} == {"notebooks", "_toc.yml"}


def test_second_command_waits_and_finds_all_done(tmp_path):
    root = project(tmp_path, one=("import time; time.sleep(3)",))
    program = "import pathlib\nfrom lthnb.book import build\n"
    program += "print(build.run_notebooks((), 'smoke', root=pathlib.Path.cwd()))"
    words = [sys.executable, "-c", program]
    both = [subprocess.Popen(words, cwd=root, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    said = sorted(process.communicate(timeout=PATIENCE)[0].splitlines()[-1] for process in both)
    assert said == ["{'one': 'executed'}", "{'one': 'fresh'}"]


def test_up_to_date_notebooks_load_little(executed):
    """A book that is up to date is there in a second: neither torch nor papermill is loaded."""
    program = "import pathlib, sys\nfrom lthnb.book import build\n"
    program += "build.run_notebooks((), 'smoke', root=pathlib.Path.cwd())\n"
    program += "print(sorted({'torch', 'papermill', 'lark', 'matplotlib'} & set(sys.modules)))"
    run(executed)
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, cwd=executed, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "_executed").mkdir()
    (tmp_path / "_executed" / "smoke").touch()
    with pytest.raises(FileExistsError, match="_executed/smoke"):
        run(project(tmp_path, one=("print(1)",)))


def test_clean_removes_what_a_run_leaves(executed):
    source = (executed / "notebooks" / "two.ipynb").read_text(encoding="utf-8")
    assert clean_notebook(source) == source
    nb = json.loads(copy_of(executed, "two").read_text(encoding="utf-8"))
    del nb["cells"][1]
    nb["cells"][0]["metadata"]["collapsed"] = True
    assert clean_notebook(json.dumps(nb)) == source


def test_clean_command_checks_and_cleans(tmp_path):
    path = write_notebook(tmp_path / "one.ipynb", "1 + 1")
    clean = path.read_bytes()

    def called(*words: str) -> int:
        words = [sys.executable, "-m", "lthnb.book.clean", *words, str(path)]
        return subprocess.run(words, stdout=subprocess.DEVNULL).returncode

    assert called("--check") == 0
    path.write_bytes(clean.replace(b'"execution_count": null', b'"execution_count": 4'))
    assert [called("--check"), called()] == [1, 0]
    assert path.read_bytes() == clean

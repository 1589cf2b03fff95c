"""Notebooks through the runner: fresh or executed, byte for byte, in parallel, stopped, failing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lthnb import runner

pytestmark = pytest.mark.xdist_group("runner")  # one worker, or each executes the fixture anew

PARAMETERS = 'source: str = "small"  # which data\nprofile: str = "quick"  # size'


def write_notebook(path: Path, *cells: str) -> Path:
    """Write a clean notebook: a parameters cell, then the given code cells."""
    made = []
    for number, source in enumerate((PARAMETERS, *cells)):
        tags = {"tags": ["parameters"]} if number == 0 else {}
        made.append({
            "cell_type": "code", "id": f"c{number}", "metadata": tags, "outputs": [],
            "execution_count": None, "source": source.splitlines(keepends=True),
        })  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    nb = {"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(runner.clean_notebook(json.dumps(nb)), encoding="utf-8")
    return path


def project(folder: Path, **notebooks: tuple[str, ...]) -> Path:
    for name, cells in notebooks.items():
        write_notebook(folder / "notebooks" / f"{name}.ipynb", *cells)
    return folder


@pytest.fixture(scope="module")
def executed(tmp_path_factory) -> Path:
    """A project of two notebooks, executed at once on the smoke profile."""
    shows = (
        "import os, sys\nprint(profile, source)\nprint('noise', file=sys.stderr)\nos.getcwd()",
        "with open(os.environ['LTHNB_READ_LOG'], 'a') as log:\n    log.write('b\\na\\nb\\n')",
        "print(os.environ['OMP_NUM_THREADS'], {'x', 'y', 'z'})",
    )
    root = project(tmp_path_factory.mktemp("project"), one=shows, two=shows)
    outcomes = runner.execute_all(["one", "two"], "smoke", jobs=2, root=root)
    assert [(o.name, o.status, o.message) for o in outcomes] == [
        ("one", "executed", ""),
        ("two", "executed", ""),
    ]
    return root


def copy_of(root: Path, name: str) -> Path:
    return runner.executed_folder("smoke", root) / f"{name}.ipynb"


def fresh(root: Path, name: str = "one", **parameters) -> bool:
    source = root / "notebooks" / f"{name}.ipynb"
    return runner.is_fresh(source, copy_of(root, name), parameters, "smoke")


def test_copy_has_outputs_and_no_noise(executed):
    text = copy_of(executed, "one").read_text(encoding="utf-8")
    nb = json.loads(text)
    ids = [cell["id"] for cell in nb["cells"]]
    assert ids == ["c0", "injected-parameters", "c1", "c2", "c3"]
    outputs = nb["cells"][2]["outputs"]
    assert outputs[0]["text"] == ["smoke small\n"]
    assert str(executed / "notebooks") in str(outputs[1]["data"]), "the notebook's own folder"
    assert "noise" not in str(outputs)
    assert "start_time" not in text
    assert "duration" not in text
    assert nb["metadata"]["lthnb"]["parameters"] == {"profile": "smoke"}
    threads = max(1, os.cpu_count() // 2)
    assert nb["cells"][4]["outputs"][0]["text"][0].startswith(f"{threads} ")


def test_sidecar_lists_the_records_read(executed):
    sidecar = json.loads(copy_of(executed, "one").with_suffix(".json").read_text())
    assert list(sidecar["records"]) == ["a", "b"]


def test_rerun_is_the_same_to_the_byte(executed):
    before = copy_of(executed, "two").read_bytes()
    outcomes = runner.execute_all(["one", "two"], "smoke", jobs=2, force=True, root=executed)
    assert [outcome.status for outcome in outcomes] == ["executed", "executed"]
    assert copy_of(executed, "two").read_bytes() == before


def test_fresh_copies_are_left_alone(executed):
    outcomes = runner.execute_all(["one", "two"], "smoke", root=executed)
    assert [outcome.status for outcome in outcomes] == ["fresh", "fresh"]


def test_a_copy_is_stale_when_what_it_depends_on_changed(executed, monkeypatch):
    assert fresh(executed)
    assert not fresh(executed, source="other")
    source, copy = executed / "notebooks" / "one.ipynb", copy_of(executed, "one")
    for path in (source, copy):
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        assert not fresh(executed), path
        path.write_bytes(before)
        assert fresh(executed)
    monkeypatch.setattr("lthnb.store.record_digest", lambda key: f"another {key}")
    assert not fresh(executed)


def test_a_copy_is_stale_without_its_sidecar(executed, tmp_path):
    copy = tmp_path / "one.ipynb"
    copy.write_bytes(copy_of(executed, "one").read_bytes())
    assert not runner.is_fresh(executed / "notebooks" / "one.ipynb", copy, {}, "smoke")


def test_nothing_is_left_over(executed):
    names = {path.name for path in (executed / "_executed" / "smoke").iterdir()}
    assert names == {"one.ipynb", "one.json", "two.ipynb", "two.json"}
    assert {path.name for path in (executed / "notebooks").iterdir()} == {"one.ipynb", "two.ipynb"}


def test_failing_notebook_names_cell_and_error_and_others_go_on(tmp_path):
    root = project(
        tmp_path,
        bad=("x = 1", "# the reason\nraise ValueError('no such ticket')"),
        dead=("import os\nos._exit(3)",),
        good=("print('fine')",),
    )
    bad, dead, good = runner.execute_all(["bad", "dead", "good"], "smoke", jobs=2, root=root)
    assert [bad.status, dead.status, good.status] == ["failed", "failed", "executed"]
    for words in ("bad.ipynb, cell 3 of 3", "# the reason", "ValueError: no such ticket"):
        assert words in bad.message
    assert "dead.ipynb, cell 2 of 2" in dead.message
    assert "kernel died" in dead.message
    kept = root / "_executed" / "smoke" / "failed" / "bad.ipynb"
    assert str(kept) in bad.message
    assert "no such ticket" in kept.read_text(encoding="utf-8")
    assert not copy_of(root, "bad").exists()
    assert not fresh(root, "bad")


def test_unknown_names_are_refused_before_anything_runs(tmp_path):
    root = project(tmp_path, one=("print(1)",), two=("print(1)",))
    with pytest.raises(runner.RunnerError, match=r"sorce\. Did you mean 'source'\?"):
        runner.execute_all(["one", "two"], "smoke", parameters={"sorce": "x"}, root=root)
    with pytest.raises(runner.RunnerError, match=r"unknown notebook onne\. Did you mean 'one'\?"):
        runner.execute_all(["onne"], "smoke", root=root)
    assert not (root / "_executed").exists()


def test_stopped_from_outside_it_stops_everything(tmp_path):
    """SIGTERM (Ctrl-C does the same) ends children and kernels, and leaves no file behind."""
    pids, scratch = tmp_path / "pids", tmp_path / "scratch"
    pids.mkdir()
    scratch.mkdir()
    sleeps = (
        "import os, pathlib, time\npathlib.Path({!r}, str(os.getpid())).touch()\ntime.sleep(99)"
    )
    cell = sleeps.format(str(pids))
    root = project(tmp_path / "project", one=(cell,), two=(cell,))
    program = (
        "import sys, pathlib\nfrom lthnb import runner\n"
        "runner.execute_all(['one', 'two'], 'smoke', jobs=2, root=pathlib.Path(sys.argv[1]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(root)],
        env={**os.environ, "TMPDIR": str(scratch)},
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 90
        while len(list(pids.iterdir())) < 2:
            assert time.monotonic() < until, "the notebooks did not start"
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=40) != 0
    finally:
        process.kill()
        process.wait()
    until = time.monotonic() + 10
    while alive := [path.name for path in pids.iterdir() if is_running(int(path.name))]:
        assert time.monotonic() < until, f"kernels {alive} go on"
        time.sleep(0.1)
    assert list(scratch.iterdir()) == []
    assert [path for path in (root / "_executed").rglob("*") if path.is_file()] == []


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_parameters_are_read_from_the_cell(tmp_path):
    path = write_notebook(tmp_path / "one.ipynb", "other: int = 3")
    assert runner.declared_parameters(path) == {"source": "small", "profile": "quick"}


def test_clean_removes_what_a_run_leaves(executed):
    source = (executed / "notebooks" / "one.ipynb").read_text(encoding="utf-8")
    assert runner.clean_notebook(source) == source
    nb = json.loads(copy_of(executed, "one").read_text(encoding="utf-8"))
    del nb["cells"][1]
    nb["cells"][0]["metadata"]["collapsed"] = True
    assert runner.clean_notebook(json.dumps(nb)) == source


def test_clean_command(tmp_path, capsys):
    path = write_notebook(tmp_path / "one.ipynb", "1 + 1")
    assert runner.main(["clean", "--check", str(path)]) == 0
    clean = path.read_bytes()
    nb = json.loads(clean)
    nb["cells"][1]["execution_count"] = 4
    path.write_text(json.dumps(nb))
    assert runner.main(["clean", "--check", str(path)]) == 1
    assert "one.ipynb" in capsys.readouterr().out
    assert runner.main(["clean", str(path)]) == 0
    assert path.read_bytes() == clean


def test_essential_lines_of_a_log(tmp_path):
    root = tmp_path / "checkout"
    log = f"reading\n{root}/book/a.md:3: WARNING: no such label\n" * 2 + "done\n"
    assert runner._essential(log, root) == ["book/a.md:3: WARNING: no such label"]
    assert runner._essential("a\nb\n", root) == ["a", "b"]

"""Notebooks through the runner: fresh or executed, byte for byte, in parallel, stopped, failing."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from toys import PATIENCE, ROOT, command

from lthnb import runner
from lthnb.store import files

pytestmark = pytest.mark.xdist_group("runner")  # one worker, or each executes the fixture anew

PARAMETERS = 'source: str = "small"  # which data\nprofile: str = "quick"  # size'


def write_notebook(path: Path, *cells: str, parameters: str = PARAMETERS) -> Path:
    """Write a clean notebook: a parameters cell, then the given code cells."""
    made = []
    for number, source in enumerate((parameters, *cells)):
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
        "print(os.environ['OMP_NUM_THREADS'], {'x', 'y', 'z'}, object())\n[object()]",
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
    return runner.is_fresh(source, copy_of(root, name), {"profile": "smoke", **parameters})


def test_copy_has_outputs_and_no_noise(executed):
    text = copy_of(executed, "one").read_text(encoding="utf-8")
    nb = json.loads(text)
    ids = [cell["id"] for cell in nb["cells"]]
    assert ids == ["c0", "injected-parameters", "c1", "c2"]
    outputs = nb["cells"][2]["outputs"]
    assert outputs[0]["text"] == ["smoke small\n"]
    assert str(executed / "notebooks") in str(outputs[1]["data"]), "the notebook's own folder"
    assert "noise" not in str(outputs)
    assert "start_time" not in text
    assert "duration" not in text
    assert nb["metadata"]["lthnb"]["parameters"] == {"profile": "smoke"}
    threads = max(1, os.cpu_count() // 2)
    assert nb["cells"][3]["outputs"][0]["text"][0].startswith(f"{threads} ")
    assert nb["cells"][3]["outputs"][1]["data"]["text/plain"] == ["[<object>]"]


def test_rerun_is_the_same_to_the_byte(executed):
    before = copy_of(executed, "two").read_bytes()
    outcomes = runner.execute_all(["one", "two"], "smoke", jobs=2, force=True, root=executed)
    assert [outcome.status for outcome in outcomes] == ["executed", "executed"]
    assert copy_of(executed, "two").read_bytes() == before


def test_fresh_copies_are_left_alone(executed):
    outcomes = runner.execute_all(["one", "two"], "smoke", root=executed)
    assert [outcome.status for outcome in outcomes] == ["fresh", "fresh"]


def test_a_copy_is_stale_when_source_parameters_or_itself_changed(executed):
    assert fresh(executed)
    assert not fresh(executed, source="other")
    source, copy = executed / "notebooks" / "one.ipynb", copy_of(executed, "one")
    for path in (source, copy):
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        assert not fresh(executed), path
        path.write_bytes(before)
        assert fresh(executed)


def test_a_copy_depends_on_recorded_runs_and_findings(executed, monkeypatch, tmp_path):
    for name in ("SHA256SUMS", "findings.csv"):
        monkeypatch.delenv("LTHNB_RESULTS", raising=False)
        before = (files.results_folder() / name).read_bytes()
        folder = tmp_path / name.lower()
        shutil.copytree(files.results_folder(), folder, ignore=lambda *_: ["tables", "splits"])
        monkeypatch.setenv("LTHNB_RESULTS", str(folder))
        assert fresh(executed), "the same tables elsewhere"
        (folder / name).write_bytes(before + b"\n")
        assert not fresh(executed), name


def test_a_copy_depends_on_the_code_and_the_grid(tmp_path):
    """Asked of a copy of the package, which may be changed."""
    shutil.copytree(ROOT / "lthnb", tmp_path / "lthnb")
    write_notebook(tmp_path / "notebooks" / "one.ipynb")
    program = (
        "import pathlib\nfrom lthnb import runner\n"
        "print(runner._dependencies(pathlib.Path('notebooks/one.ipynb'), {})['package'])"
    )

    def asked() -> str:
        paths = {**os.environ, "PYTHONPATH": str(tmp_path)}
        words = [sys.executable, "-c", program]
        return subprocess.check_output(words, cwd=tmp_path, env=paths, text=True)

    seen = {asked()}
    for name in ("stats.py", "experiments/grid.yaml"):
        with open(tmp_path / "lthnb" / name, "a") as file:
            file.write("# changed\n")
        seen.add(asked())
    assert len(seen) == 3


NAMED = [  # values of a parameter that name the file `a table.csv` or `b.csv`
    "a table.csv",
    ["b.csv"],
    "[b.csv]",
    "[lastfm, 'a table.csv']",
    '["lastfm", "b.csv"]',
    "folder",
]


@pytest.mark.parametrize("value", NAMED, ids=str)
def test_a_copy_depends_on_the_files_that_parameters_name(value, tmp_path):
    declared = "dataset: list[str] = []  # which\nworkers: int = 0  # how many"
    source = write_notebook(tmp_path / "notebooks" / "one.ipynb", parameters=declared)
    tables = [source.parent / name for name in ("a table.csv", "b.csv", "folder/train.csv")]
    for path in tables:
        path.parent.mkdir(exist_ok=True)
        path.write_text("user,item\n")
    given = {"dataset": value, "workers": 2}
    before = runner._dependencies(source, given)
    assert str(tmp_path) not in json.dumps(before), "the same in another checkout"
    for path in tables:
        path.write_text("user,item\n1,2\n")
    after = runner._dependencies(source, given)
    assert {name for name in before if before[name] != after[name]} == {"files"}


def test_a_copy_is_stale_without_its_sidecar(executed, tmp_path):
    copy = tmp_path / "one.ipynb"
    copy.write_bytes(copy_of(executed, "one").read_bytes())
    assert not runner.is_fresh(executed / "notebooks" / "one.ipynb", copy, {"profile": "smoke"})


def test_nothing_is_left_over(executed):
    names = {p.name for p in (executed / "_executed" / "smoke").iterdir() if p.suffix != ".lock"}
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


WRONG = {"sede": 1, "seeds": "[0, x]", "workers": "many"}
SAID = (
    "one.ipynb: unknown parameter sede. Did you mean 'seeds'? The notebook has seeds, workers; "
    "seeds: found 'x' (str), expected int; write a whole number; "
    "workers: found 'many' (str), expected int; write a whole number"
)


def asking(folder: Path) -> Path:
    """A project whose notebook has two parameters, and checks them as all notebooks do."""
    cells = ("from lthnb.parameters import parameters\np = parameters(globals())",)
    declared = "seeds: list[int] = [0]  # of X⁰\nworkers: int = 0  # processes"
    write_notebook(folder / "notebooks" / "one.ipynb", *cells, parameters=declared)
    return folder


def test_wrong_parameters_are_refused_before_anything_runs(tmp_path):
    root = asking(tmp_path)
    with pytest.raises(runner.RunnerError) as error:
        runner.execute_all(["one"], "smoke", parameters=WRONG, root=root)
    assert str(error.value) == SAID
    with pytest.raises(runner.RunnerError) as error:
        runner.execute(root / "notebooks" / "one.ipynb", root / "out" / "one.ipynb", WRONG)
    assert str(error.value) == SAID
    with pytest.raises(runner.RunnerError, match=r"profile: found 'quik'.*Did you mean 'quick'\?"):
        runner.execute_all(["one"], "quik", root=root)
    with pytest.raises(runner.RunnerError, match=r"profile: found 'quik'"):
        runner.build_book("quik", root=root)
    assert {path.name for path in root.iterdir()} == {"notebooks"}


def test_wrong_parameters_on_the_command_line(tmp_path):
    words = ("-p", "sede", "1", "-p", "workers", "many")
    done = command(tmp_path, "notebooks", "run", "existence", *words)
    assert done.returncode == 1
    assert "lthnb: existence.ipynb: unknown parameter sede. Did you mean 'seeds'?" in done.stderr
    assert "workers: found 'many' (str), expected int; write a whole number" in done.stderr
    done = command(tmp_path, "notebooks", "run", "existence", "-p", "source", "lastfm")
    assert done.returncode == 1
    said = "lthnb: existence.ipynb: unknown parameter source: it is called dataset now\n"
    assert done.stderr == said


def test_wrong_parameters_through_papermill_itself(tmp_path):
    """It takes any; then the notebook refuses them, in its second cell."""
    words = [word for name, value in WRONG.items() for word in ("-p", name, str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "papermill", "notebooks/one.ipynb", "out.ipynb", *words],
        cwd=asking(tmp_path),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert f"ParameterError: {SAID.removeprefix('one.ipynb: ')}" in done.stderr


def test_a_killed_kernel_and_a_killed_child(tmp_path):
    """Neither hangs nor stops the others; the next command goes on, and clears what was left."""
    once = (
        "import os, pathlib\nmark = pathlib.Path('../{0}')\nif not mark.exists():\n"
        "    mark.touch()\n    os.kill(os.{1}(), 9)\nprint('through')"
    )
    root = project(
        tmp_path, child=(once.format("c", "getppid"),), kernel=(once.format("k", "getpid"),)
    )
    child, kernel = runner.execute_all(["child", "kernel"], "smoke", jobs=2, root=root)
    assert [child.status, kernel.status] == ["failed", "failed"]
    assert child.message == (
        "child: its process was killed by signal 9: out of memory, most often. What was trained "
        "is kept: the same command goes on from there"
    )
    for words in (
        "kernel.ipynb, cell 2 of 2:\n    import os, pathlib\n",
        "the kernel died: out of memory, most often, or it was killed. What was trained is kept",
        f"failed copy: {root / '_executed/smoke/failed/kernel.ipynb'}",
    ):
        assert words in kernel.message
    assert (root / "_executed/smoke/failed/kernel.ipynb").exists()
    assert runner._scratch(child.copy.resolve()).exists()
    again = runner.execute_all(["child", "kernel"], "smoke", jobs=2, root=root)
    assert [outcome.status for outcome in again] == ["executed", "executed"]
    left = {path.name for path in (root / "_executed/smoke").rglob("*.*")}
    assert left - {".child.lock", ".kernel.lock"} == {
        *("child.ipynb", "child.json", "kernel.ipynb", "kernel.json"),
    }
    assert not runner._scratch(child.copy.resolve()).exists()


def test_what_a_dead_owner_left_is_cleared_and_a_living_ones_is_not(executed):
    copy = copy_of(executed, "one").resolve()
    scratch, half = runner._scratch(copy), copy.with_name(".tmp-one.ipynb-x")
    other = copy.with_name(".tmp-one-more.ipynb-x")
    for path in (half, other):
        path.touch()
    holding = "import sys, time\nfrom pathlib import Path\nfrom lthnb import runner\n"
    holding += "with runner._alone(Path(sys.argv[1])) as folder:\n"
    holding += "    (folder / 'k').touch()\n    print(flush=True)\n    time.sleep(99)"
    process = subprocess.Popen([sys.executable, "-c", holding, copy], stdout=subprocess.PIPE)
    process.stdout.readline()
    assert not half.exists(), "the holder of the lock has cleared it"
    half.touch()
    runner.execute_all(["one"], "smoke", root=executed)
    assert (scratch / "k").exists()
    assert half.exists()
    process.kill()
    process.wait()
    process.stdout.close()
    runner.execute_all(["one"], "smoke", root=executed)
    assert not scratch.exists()
    assert not half.exists()
    assert other.exists(), "another copy's"
    other.unlink()


def test_who_runs_a_notebook_loads_little(tmp_path):
    """No torch, and no grammar of web addresses: both would be loaded again for each chapter."""
    program = (
        "import sys\nfrom lthnb import runner\n"
        "def execute(*_, **__):\n    import papermill, lthnb.store.runs\n"
        "runner.execute = execute\n"
        "assert runner.main(['execute', 'a', 'b']) == 0\n"
        "assert 'papermill' in sys.modules\n"
        "print(sorted({'torch', 'lark', 'scipy.stats', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("profile", ["recorded", "smoke", "quick", "validated", "paper"])
def test_profiles(profile):
    runner.check_profile(profile)


def test_folders_that_cannot_be_written(tmp_path):
    root = project(tmp_path, one=("print(1)",))
    for name in ("_executed", "_build"):
        (root / name).touch()
    source, copy = root / "notebooks/one.ipynb", root / "_executed/smoke/one.ipynb"
    advice = r"Free space there, or make the folder writable\."
    with pytest.raises(
        runner.RunnerError, match=rf"_executed/smoke could not be written \(.*\)\. {advice}"
    ):
        runner.execute(source, copy, {})
    with pytest.raises(
        runner.RunnerError, match=rf"_build/smoke could not be written \(.*\)\. {advice}"
    ):
        runner.build_book("smoke", root=root)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(copy))
    words = r"_executed/smoke could not be written \(.*No space left on device: '.*one\.ipynb'\)"
    with pytest.raises(runner.RunnerError, match=words), runner._writing(copy.parent):
        raise full
    with pytest.raises(runner.RunnerError, match=words), runner._writing(copy.parent):
        raise files.StoreError("as write_file has it") from full
    with pytest.raises(files.StoreError), runner._writing(copy.parent):
        raise files.StoreError("of something else")


def test_a_temporary_folder_too_deep_for_sockets(tmp_path, monkeypatch):
    root, deep = project(tmp_path, one=("print(1)",)), tmp_path / ("deep" * 20)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with pytest.raises(runner.RunnerError, match="too long a path for a socket; set TMPDIR to"):
        runner.execute(root / "notebooks/one.ipynb", root / "out/one.ipynb", {})
    assert list(deep.iterdir()) == []


def test_stopped_from_outside_it_stops_everything(tmp_path):
    """SIGTERM (Ctrl-C does the same) ends children and kernels, and leaves no file behind."""
    pids, scratch = tmp_path / "pids", tmp_path / "t"  # short, for the sockets in it
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
        until = time.monotonic() + PATIENCE
        while len(list(pids.iterdir())) < 2:
            assert time.monotonic() < until, "the notebooks did not start"
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE) != 0
    finally:
        process.kill()
        process.wait()
    until = time.monotonic() + PATIENCE
    while alive := [path.name for path in pids.iterdir() if is_running(int(path.name))]:
        assert time.monotonic() < until, f"kernels {alive} go on"
        time.sleep(0.1)
    assert list(scratch.iterdir()) == []
    left = [path for path in (root / "_executed").rglob("*") if path.is_file()]
    assert {path.suffix for path in left} <= {".lock"}


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

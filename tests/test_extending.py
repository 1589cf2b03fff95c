"""The page on extending, done as it is written: in a copy of the project, section by section.

A block of code whose caption is a file is a change to it: a diff is applied, other blocks are the
cells of a notebook. Blocks of `sh` are run afterwards, all of them, and must succeed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toys import PATIENCE, environment

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "book/extending.md").read_text(encoding="utf-8")
BLOCK = re.compile(
    r"^```(?:\{code-block\} )?(?P<language>\w+)\n"
    r"(?::caption: (?P<file>\S+)\n\n)?(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SECTIONS = {
    title: [match.groupdict() for match in BLOCK.finditer(text)]
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^\(a-|\Z)", PAGE, re.MULTILINE | re.DOTALL)
}


def apply_diff(text: str, diff: str) -> str:
    """A text with one change made; where it goes must be found once."""
    lines = diff.splitlines()
    assert all(line[:1] in ("", " ", "+", "-") for line in lines), diff
    old = "".join(line[1:] + "\n" for line in lines if line[:1] != "+")
    new = "".join(line[1:] + "\n" for line in lines if line[:1] != "-")
    assert len(re.findall(rf"^{re.escape(old)}", text, re.MULTILINE)) == 1, f"find once:\n{old}"
    return re.sub(rf"^{re.escape(old)}", lambda match: new, text, flags=re.MULTILINE)


def notebook_of(cells: list[tuple[str, str]]) -> str:
    """A notebook as an editor may leave it: (language, text) of each cell, outputs and all."""
    out = []
    for language, text in cells:
        cell = {"metadata": {"editable": True}, "source": text.rstrip("\n")}
        if language == "markdown":
            out.append({"cell_type": "markdown", **cell})
            continue
        if not any(other["cell_type"] == "code" for other in out):
            cell["metadata"]["tags"] = ["parameters"]
        said = [{"output_type": "stream", "name": "stdout", "text": "left over"}]
        out.append({"cell_type": "code", "execution_count": 3, "outputs": said, **cell})
    return json.dumps({"cells": out, "metadata": {}, "nbformat": 4, "nbformat_minor": 4})


class Extended:
    """A copy of the project with one section of the page done, and its commands run."""

    def __init__(self, section: str, folder: Path) -> None:
        self.folder = folder
        for name in ("lthnb", "book", "notebooks", "tests"):
            shutil.copytree(ROOT / name, folder / name)
        for name in ("_toc.yml", "pyproject.toml", "requirements.lock"):
            shutil.copy(ROOT / name, folder)
        blocks, cells = SECTIONS[section], {}
        for block in blocks:
            if block["language"] == "diff":
                path = folder / block["file"]
                changed = apply_diff(path.read_text(encoding="utf-8"), block["text"])
                path.write_text(changed, encoding="utf-8")
            elif block["file"]:
                cells.setdefault(block["file"], []).append((block["language"], block["text"]))
        for file, given in cells.items():
            (folder / file).write_text(notebook_of(given), encoding="utf-8")
        self.said = self.run("\n".join(b["text"] for b in blocks if b["language"] == "sh"))

    def run(self, script: str) -> str:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        packages = os.pathsep.join([str(self.folder), str(self.folder / "tests")])
        where = {"PATH": path, "PYTHONPATH": packages, "LTHNB_RESULTS": str(ROOT / "results")}
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            env=environment(self.folder, **where),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def python(self, code: str) -> str:
        """What a few lines print in the copy, whose package they import."""
        where = "import lthnb; assert lthnb.__file__.startswith(str(__import__('os').getcwd()))"
        return self.run(f"python - <<'END'\n{where}\n{code}\nEND\n")


@pytest.fixture
def extended(request, tmp_path):
    return Extended(request.param, tmp_path / "copy")


def section(name: str):
    return pytest.mark.parametrize("extended", [name], indirect=True, ids=[name])


def test_every_section_has_changes_commands_and_tests():
    assert set(SECTIONS) == {"A criterion", "A backbone", "A data set", "A chapter"}
    for blocks in SECTIONS.values():
        assert any(block["language"] == "diff" for block in blocks)
        scripts = [block["text"] for block in blocks if block["language"] == "sh"]
        assert any("python -m lthnb" in script for script in scripts)
        assert "python -m pytest" in scripts[-1]
        assert all(block["file"] or block["language"] == "sh" for block in blocks)
    assert PAGE.count("```") == 2 * sum(map(len, SECTIONS.values()))


def test_a_change_that_fits_nowhere_or_twice_is_found():
    assert apply_diff("a\nb\nc\n", " a\n-b\n+B\n") == "a\nB\nc\n"
    for text in ("a\nc\n", "a\nb\na\nb\n", "xa\nb\n"):
        with pytest.raises(AssertionError, match="find once"):
            apply_diff(text, " a\n-b\n+B\n")


@section("A criterion")
def test_a_criterion(extended):
    """The search of the page ran; its masks are those of the criterion, and no others."""
    assert "row_share-" in extended.said
    said = extended.python(
        "import numpy as np\n"
        "from toys import quiet, toy_data, toy_spec\n"
        "from lthnb.config import Schedule\n"
        "from lthnb.lottery import rounds_of\n"
        "from lthnb.store.runs import Store\n"
        "given = toy_spec(), toy_data(), quiet(Store('toy', results=None))\n"
        "rounds = list(rounds_of(Schedule('imp', 0.3, 2, criterion='row_share'), *given))\n"
        "w = rounds[0].run.weights()\n"
        "share = np.abs(w) / np.linalg.norm(w, axis=1, keepdims=True)\n"
        "kept = rounds[1].run.ensure_mask().kept\n"
        "left = [one.row['density'] for one in rounds]\n"
        "print(share[kept].min() > share[~kept].max(), left[2] < left[1])\n"
        "plain = list(rounds_of(Schedule('imp', 0.3, 2), *given))\n"
        "print(plain[0].run.key == rounds[0].run.key)\n"
        "print(plain[1].run.record.mask_digest != rounds[1].run.record.mask_digest)"
    )
    assert said.split() == ["True"] * 4


@section("A backbone")
def test_a_backbone(extended):
    """It is searched with the reference step, and refused by the step by hand."""
    assert "image/svg+xml" in (extended.folder / "sgc.ipynb").read_text(encoding="utf-8")
    said = extended.python(
        "import numpy as np\n"
        "import torch\n"
        "from toys import toy_data\n"
        "from lthnb.config import ConfigError, Model, Seeded, Spec, run_text\n"
        "from lthnb.models import BACKBONES, adjacency\n"
        "from lthnb.kernels import new_step, resolve\n"
        "data, model = toy_data(), Model('sgc', 4, 2)\n"
        "x, a = np.random.default_rng(0).normal(size=(data.rows, 4)), adjacency(data.train)\n"
        "made = BACKBONES['sgc'](model, data, torch.float64, 'cpu').outputs(torch.from_numpy(x))\n"
        "print(np.allclose(made, a @ (a @ x)))\n"
        "spec = resolve(Spec(model), 'cpu')\n"
        "print(spec.training.step == 'reference')\n"
        "keys = {run_text(Spec(Model('sgc', 4, n), spec.training), 'd', Seeded(), 'm')"
        " for n in (2, 3)}\n"
        "print(len(keys) == 2)\n"
        "try:\n"
        "    new_step(spec.with_training(step='cpu'), data, x, x > 0)\n"
        "except ConfigError as error:\n"
        "    print(error)\n"
    )
    *right, refused = said.splitlines()
    assert right == ["True"] * 3
    assert refused.startswith("step 'cpu': found backbone 'sgc', expected 'mf' or 'lightgcn'")


@section("A data set")
def test_a_data_set(extended):
    """It is described and trained from; a file that is another is refused."""
    assert "Clubs that people joined" in extended.said
    assert "non_inferior" in extended.said
    assert "60" in extended.said
    for line in extended.said.splitlines():
        if match := re.match(r"([0-9a-f]{64})  mydata/clubs/(\w+\.txt)", line):
            assert f"[{match[2]}, {match[1]}]" in PAGE
    (extended.folder / "mydata/clubs/test.txt").write_text("0 1\n")
    said = extended.python(
        "import os\n"
        "from lthnb.datasets import sources\n"
        "os.environ['LTHNB_DATA'] = 'mydata'\n"
        "try:\n"
        "    sources.load('clubs', progress=False)\n"
        "except sources.DataError as error:\n"
        "    print(error)\n"
    )
    assert "It is not the published file" in said


@section("A chapter")
def test_a_chapter(extended):
    """Its copy has been executed, shows a figure, and the source is left clean."""
    copy = json.loads((extended.folder / "_executed/smoke/last-epoch.ipynb").read_text("utf-8"))
    outputs = json.dumps([cell.get("outputs", []) for cell in copy["cells"]])
    assert "image/png" in outputs
    source = json.loads((extended.folder / "notebooks/last-epoch.ipynb").read_text("utf-8"))
    assert not any(cell.get("outputs") for cell in source["cells"])
    toc = (extended.folder / "_toc.yml").read_text(encoding="utf-8")
    assert toc.count("notebooks/last-epoch") == 1

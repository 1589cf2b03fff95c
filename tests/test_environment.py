"""pyproject.toml is the one list of dependencies; the lock and environment.yml agree with it."""

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from toys import PATIENCE

ROOT = Path(__file__).resolve().parents[1]
CONDA_NAMES = {"torch": "pytorch"}  # conda-forge's name where it is another one


def declared() -> dict[str, Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"]]
    for extra in project["optional-dependencies"].values():
        lines += extra
    found = [Requirement(line) for line in lines]
    assert len({canonicalize_name(r.name) for r in found}) == len(found), "each is listed once"
    return {canonicalize_name(r.name): r for r in found}


def locked() -> dict[str, Requirement]:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {canonicalize_name(r.name): r for r in found}


def conda() -> tuple[dict[str, str], list[str]]:
    """Return name → range of environment.yml, and its lines for pip that are no range."""
    ranges, others = {}, []
    body = (ROOT / "environment.yml").read_text().partition("dependencies:\n")[2]
    for line in body.splitlines():
        entry = re.match(r"\s*- (\S.*)$", line)
        if entry is None or entry[1] in ("pip", "pip:"):
            continue
        if entry[1].startswith("-"):
            others.append(entry[1])
            continue
        name, span = re.fullmatch(r"([\w.-]+?)((?:[<>=!~].*)?)", entry[1]).groups()
        assert name not in ranges, f"{name} is there twice"
        ranges[name] = span
    return ranges, others


def test_conda_has_the_same_names_and_ranges():
    ranges, others = conda()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    expected = {CONDA_NAMES.get(name, name): r.specifier for name, r in declared().items()}
    python = ranges.pop("python")
    assert set(python.split(",")) == set(project["requires-python"].split(","))
    assert {name: set(span.split(",")) for name, span in ranges.items()} == {
        name: set(map(str, span)) for name, span in expected.items()
    }
    assert others == ["-e ."], "the package itself, editable"


def test_lock_holds_one_exact_version_of_everything_declared():
    lock = locked()
    for name, requirement in declared().items():
        assert name in lock, f"{name} is missing from requirements.lock: make lock"
        (pin,) = lock[name].specifier
        assert pin.operator == "==", name
        assert requirement.specifier.contains(pin.version), f"{name} {pin.version}: make lock"


def test_lock_has_only_plain_pins():
    for name, requirement in locked().items():
        assert [pin.operator for pin in requirement.specifier] == ["=="], name
        assert requirement.url is None, name
        assert "+" not in str(requirement.specifier), f"{name}: a build tag ties it to one machine"


def test_ranges_have_the_same_python_everywhere():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert pyproject["project"]["requires-python"] == ">=3.11,<3.14"
    assert "(3, 11) <= sys.version_info[:2] <= (3, 13)" in (ROOT / "Makefile").read_text()


def test_lock_holds_what_its_packages_need():
    """By what is installed here; torch is left out, whose needs depend on the build."""
    lock = locked()
    for name in sorted(set(lock) - {"torch"}):
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another platform
            continue
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                assert canonicalize_name(need.name) in lock, f"{name} needs {need}: make lock"


def test_tests_of_one_group_share_a_worker(tmp_path):
    """Else each worker would build the book; a release of pytest broke this without a word."""
    (tmp_path / "test_grouped.py").write_text(
        "import pytest\n"
        "@pytest.mark.xdist_group('one')\n"
        "@pytest.mark.parametrize('n', range(8))\n"
        "def test_worker(n, worker_id, tmp_path_factory):\n"
        "    (tmp_path_factory.getbasetemp().parent / worker_id).touch()\n"
    )
    options = ["-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"]
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, "--basetemp", "base", "."],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
        check=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert len(list((tmp_path / "base").glob("gw?"))) == 1

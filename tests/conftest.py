"""Markers, and what is skipped where: real data and a browser are not everywhere.

LTHNB_DATA names the folder with the real data. A test marked `needs_data` (or
`needs_data("gowalla")` for one source's folder) is skipped where they are missing, and fails
instead under LTHNB_REQUIRE_DATA=1; LTHNB_REQUIRE_BROWSER=1 does the same for `browser`. A skip by
hand inside such a test fails too: `.ci/run` sets both, so that nothing is left out unseen.
"""

import os
import shutil
from pathlib import Path

# Read when OpenMP is loaded, so before all else: threads that wait for each other give up the core.
# Beside another worker they would spin for most of the time (the golden test took four times as
# long); results are the same.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from hypothesis import settings

from lthnb.store.runs import Store

# No time limit per example: machines are shared, and numba compiles in the first one. Under CI the
# examples are the same every time, so that what fails there fails here.
settings.register_profile("lthnb", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("lthnb")

ROOT = Path(__file__).resolve().parents[1]
REQUIRED = {"needs_data": "LTHNB_REQUIRE_DATA", "browser": "LTHNB_REQUIRE_BROWSER"}


def data_folder() -> Path | None:
    """The folder with the real data, None where LTHNB_DATA names none."""
    named = os.environ.get("LTHNB_DATA")
    return Path(named) if named and Path(named).is_dir() else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The golden test stays with one worker: its data are loaded once, and its two threads do not
    meet two others of its kind."""
    for item in items:
        if item.path.parent.name == "golden":
            item.add_marker(pytest.mark.xdist_group("golden"))


def missing(item: pytest.Item) -> str | None:
    """Say what a test needs and this machine lacks; None when it can run."""
    marker = item.get_closest_marker("needs_data")
    if marker is not None:
        folder = data_folder()
        if folder is None:
            return "needs the real data: set LTHNB_DATA to their folder"
        for source in marker.args:
            if not (folder / source).is_dir():
                return f"needs the data of {source} in {folder}"
    if item.get_closest_marker("browser") is not None:
        for program in ("chromium", "chromedriver"):
            if shutil.which(program) is None:
                return f"needs {program}: apt-get install chromium chromium-driver"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    reason = missing(item)
    if reason is not None:
        pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    for marker, variable in REQUIRED.items():
        required = os.environ.get(variable, "0") not in ("", "0")
        skipped = report.skipped and not hasattr(report, "wasxfail")
        if required and skipped and item.get_closest_marker(marker) is not None:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            report.outcome = "failed"
            report.longrepr = f"{variable} is set, and this test was skipped: {reason}"
    return report


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store, with no recorded runs beside it."""
    return Store(tmp_path / "store", results=None)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def book() -> Path:
    """The folder of the built book, built if it is not up to date.

    It is the one that `make book` builds, so that neither does the other's work
    again. Tests that use it are in one xdist group.
    """
    from lthnb.book import build

    try:
        return build.build_book().parent
    except build.BookError as error:
        pytest.fail(f"the book cannot be built:\n{error}", pytrace=False)


def toc_files() -> list[str]:
    """The files that _toc.yml names, in order, without their endings."""
    lines = (ROOT / "_toc.yml").read_text(encoding="utf-8").splitlines()
    entries = [line.strip(" -") for line in lines]
    return [e.split(":")[1].strip() for e in entries if e.startswith(("root:", "file:"))]

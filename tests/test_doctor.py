"""What `doctor` finds, and what it tells a user to do."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from toys import ROOT, environment

from lthnb import doctor
from lthnb.__main__ import main
from lthnb.config import LthnbError


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.setenv("LTHNB_STORE", str(tmp_path / "store"))
    monkeypatch.delenv("LTHNB_DATA", raising=False)
    return tmp_path


def test_every_check_of_a_sound_machine_is_fine_and_its_exit_code_0(there, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "packages", lambda: "as locked")  # of whoever runs the tests
    monkeypatch.setitem(doctor.CHECKS, "packages", doctor.packages)
    monkeypatch.setattr(doctor, "cpu_count", lambda: 999)
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [[name, "fine"] for name in doctor.CHECKS]


def test_what_is_to_be_done_is_said_and_the_exit_code_is_1(there, monkeypatch, capsys):
    monkeypatch.setattr(doctor, "CHECKS", {"disk": doctor.disk})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: SimpleNamespace(free=1e6))
    assert main(["doctor"]) == 1
    assert "TO DO" in capsys.readouterr().out


def test_more_threads_than_usable_cores_are_told_apart(monkeypatch):
    monkeypatch.setattr(doctor, "cpu_count", lambda: 1)
    monkeypatch.setattr(doctor.torch, "get_num_threads", lambda: 8)
    with pytest.raises(LthnbError, match="OMP_NUM_THREADS=1"):
        doctor.cores()


def test_other_versions_than_the_lock_are_named(there, monkeypatch):
    (there / "requirements.lock").write_text("# made\nnumpy==0.1.0\nno-such-package==1.0\n")
    monkeypatch.setattr(doctor, "project_folder", lambda: there)
    with pytest.raises(LthnbError, match=r"2 of 2 differ .*numpy .* \(lock: 0.1.0\)"):
        doctor.packages()


def test_a_step_that_computes_otherwise_is_found(there, monkeypatch):

    made = iter([1.0, 2.0])
    monkeypatch.setattr(
        doctor, "new_step", lambda *_: SimpleNamespace(run_epoch=lambda _: next(made))
    )
    with pytest.raises(LthnbError, match="believe no number"):
        doctor.kernels()


def test_damaged_recorded_runs_are_named(there, monkeypatch):
    folder = there / "results"
    folder.mkdir()
    (folder / "SHA256SUMS").write_text("")
    monkeypatch.setenv("LTHNB_RESULTS", str(folder))
    with pytest.raises(LthnbError, match="damaged"):
        doctor.recorded()


def test_where_nothing_can_be_written_kernels_go_to_a_temporary_folder(tmp_path):
    """As in a read-only installation whose user has no home."""
    code = (
        "import os; os.access = lambda *_: False\n"
        "import lthnb; print(os.environ['NUMBA_CACHE_DIR'])"
    )
    where = environment(tmp_path, PYTHONPATH=str(ROOT))
    where.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=where, capture_output=True, text=True, check=True
    )
    assert os.path.basename(done.stdout.strip()) == "lthnb-kernels"

"""The doctor: right on this machine, and right about what is not here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from scripts import doctor

REPOSITORY = Path(__file__).parents[2]


def run_doctor(*arguments, **environment):
    command = [sys.executable, "-m", "scripts.doctor", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, env=environment or None)


def test_missing_assets_make_it_fail_and_say_the_command(tmp_path):
    result = run_doctor("--json", IDIOLECT_ASSETS=str(tmp_path / "none"), OMP_NUM_THREADS="1")
    assert result.returncode == 1, result.stderr
    checks = {check["name"]: check for check in json.loads(result.stdout)}
    assert checks["python"]["state"] == checks["torch"]["state"] == checks["numba"]["state"] == "ok"
    for name in ("face_landmarker", "open_head"):
        assert checks[name]["state"] == "wrong"
        assert checks[name]["advice"] == f"python -m scripts.download {name}"
    assert checks["phoneme_model"]["state"] == "ok"
    assert not checks["nvdiffrast"]["required"]


def test_every_requirement_is_examined():
    names = {check.name for check in doctor.check_packages()}
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    asked = {line.split("=")[0].split(">")[0].split("<")[0] for line in lines if line and line[0] != "#"}
    assert {"torch", "hama", "lmdb"} <= asked <= names


@pytest.mark.parametrize(
    ("check", "state", "says"),
    [
        (doctor.check_package("no-such-package"), "wrong", "not installed"),
        (doctor.check_package("no-such-package", required=False, purpose="nothing"), "absent", "(nothing)"),
        (doctor.check_package("numpy", SpecifierSet("<1")), "wrong", "<1 is needed"),
        (doctor.check_package("numpy", SpecifierSet(">=1.26")), "ok", "."),
    ],
)
def test_packages(check, state, says):
    assert check.state == state and says in check.detail
    assert bool(check.advice) == (state != "ok")


def test_a_package_that_does_not_import_is_wrong(tmp_path, monkeypatch):
    (tmp_path / "broken_thing").mkdir()
    (tmp_path / "broken_thing" / "__init__.py").write_text("raise ImportError('libmissing.so: not there')")
    (tmp_path / "broken_thing-2.0.dist-info").mkdir()
    (tmp_path / "broken_thing-2.0.dist-info" / "METADATA").write_text("Name: broken-thing\nVersion: 2.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    check = doctor.check_package("broken-thing")
    assert check.state == "wrong" and "libmissing.so" in check.detail


def test_a_folder_that_cannot_be_written_is_wrong(tmp_path):
    (tmp_path / "file").write_text("in the way")
    (check,) = doctor.check_folder(tmp_path / "file" / "data")
    assert check.state == "wrong" and check.advice


def test_table_closes_with_what_is_wrong():
    good = doctor.Check("packages", "numpy", True, True, "2.0")
    bad = doctor.Check("packages", "torch", False, True, "not installed", "pip install torch")
    assert "everything required is here" in doctor.format_table([good])
    table = doctor.format_table([good, bad])
    assert "to be put right: torch" in table and "-> pip install torch" in table

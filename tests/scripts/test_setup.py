"""setup.sh in a small tree of its own: makes an environment once, installs only when the requirements change."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path):
    """A folder with setup.sh, empty requirements and a download that only says so."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(REPOSITORY / "scripts" / "setup.sh", tmp_path / "scripts")
    (tmp_path / "scripts" / "download.py").write_text("print('assets fetched')\n")
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    return tmp_path


def set_up(tree, python=sys.executable):
    environment = os.environ | {"IDIOLECT_PYTHON": python, "IDIOLECT_VENV": "environment", "PIP_NO_INDEX": "1"}
    command = ["bash", "-c", 'set -euo pipefail; source scripts/setup.sh requirements.txt; echo "ready: $PYTHON"']
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)


def test_environment_is_made_once_and_installed_again_only_after_a_change(tree):
    first = set_up(tree)
    assert first.returncode == 0, first.stderr
    assert "making environment" in first.stdout and "installing requirements.txt" in first.stdout
    assert first.stdout.endswith("assets fetched\nready: environment/bin/python\n")
    assert set_up(tree).stdout == "assets fetched\nready: environment/bin/python\n"

    (tree / "requirements.txt").write_text("no-such-package==1.0\n")
    for _ in range(2):  # a failed installation is not taken for done
        failed = set_up(tree)
        assert failed.returncode != 0 and "no-such-package" in failed.stderr
        assert "installing" in failed.stdout and "ready" not in failed.stdout and "making" not in failed.stdout


def test_without_a_fitting_python_it_says_what_to_do(tree):
    result = set_up(tree, python="/bin/false")
    assert result.returncode != 0
    assert "IDIOLECT_PYTHON" in result.stderr and "ready" not in result.stdout
    assert not (tree / "environment").exists()

"""Report on the memory: two models, with and without one, on held-out frames of a person of noise."""

import json

import numpy as np
import pytest
import torch

from deep_3drecon.face_model import load_face_model
from models import checkpoint
from models.judges import JUDGES
from models.memory_gan import MemoryGan
from scripts import memory_report
from tests.made_person import made_person

ROWS = ("composite", "without", "with", "true identity")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """{"with", "without"}: checkpoints of untrained models."""
    model, folders = load_face_model("open"), {}
    about = {"face_model": model.name, "face_model_hash": model.hash, "size": 64, "n_people": 1, "heads": 1.5}
    for name, slots in (("with", 16), ("without", 0)):
        torch.manual_seed(0)
        folders[name] = tmp_path_factory.mktemp("runs") / name
        made = MemoryGan({"preset": "tiny", "dims": {"slots": slots}}, about)
        checkpoint.save(folders[name] / "best", "memory_gan", made, {})
    return folders


@pytest.mark.skipif(bool(JUDGES["efficient_distance"]().missing()), reason="EfficientNet-Lite0 is not there")
def test_all_rows_are_measured_and_drawn(runs, tmp_path, capsys):
    (tmp_path / "people").mkdir()
    made_person(tmp_path / "people" / "film")
    asked = ["--people", str(tmp_path / "people"), "--with", str(runs["with"]), "--without", str(runs["without"])]
    assert memory_report.main([*asked, "--output", str(tmp_path / "out"), "--frames", "4"]) == 0
    assert "| with - without |" in capsys.readouterr().out and (tmp_path / "out/sheet.png").is_file()
    lines = [json.loads(line) for line in (tmp_path / "out/lines.jsonl").read_text().splitlines()]
    assert sorted(line["row"] for line in lines) == sorted(ROWS)
    assert all(line["frames"] == 4 and np.isfinite(line["face_db"]) for line in lines)


def test_gains_are_paired_over_people_and_runs():
    lines = [
        {"person": p, "row": row, "run": run, **dict.fromkeys(memory_report.COLUMNS, value + 5 * k + run)}
        for k, p in enumerate("ab") for row, value in zip(ROWS, (0, 1, 3, 4), strict=True) for run in (0, 1)
    ]  # fmt: skip
    text = memory_report.table(lines)
    assert "| with - without | 2.000 [2.000, 2.000]" in text and "| composite | 3.000 [0.500, 5.500]" in text

"""The renderer from person folder to report: trained a few steps, killed and resumed, drawn and measured."""

import json

import numpy as np
import pytest
import torch

import train_style
from data_process.pictures import Footage
from deep_3drecon.assets import REPOSITORY
from scripts.evaluation.redrawn import measure, shots_of
from scripts.renderer_report import main
from tests.made_person import made_person


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("people") / "film"
    made_person(path)
    return path


def settings(folder, output, *more):
    return [
        "--config", str(REPOSITORY / "configs/renderer_neural_texture_tiny.yaml"), f"data.lmdb={folder}", f"run.output={output}",
        "data.picture_size=64", "optim.iterations=4", "run.val_every=2", "run.save_every=2", "model.dims.polish_after=2",
        "loss.perceptual=0.0", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "whole"
    assert train_style.main(settings(folder, output)) == 0
    return output


def test_killed_and_resumed_is_the_same_as_never_killed(folder, run, tmp_path):
    output = tmp_path / "cut"
    assert train_style.main(settings(folder, output, "run.stop_at=2")) == 0
    assert train_style.main(["--config", str(output / "config.yaml"), "--resume", "run.stop_at=0"]) == 0
    whole, cut = (torch.load(path / "last.pt", weights_only=True) for path in (run, output))
    assert whole["iteration"] == cut["iteration"] == 4
    for name, value in whole["method"].items():
        assert torch.equal(value, cut["method"][name]), name


def test_released_weights_leave_the_discriminator_behind(run):
    from safetensors.torch import load_file

    names = load_file(run / "best.safetensors")
    assert "texture" in names and not any(name.startswith("discriminator.") for name in names)


def test_report_writes_table_sheets_and_curve(folder, run, tmp_path, capsys):
    assert main(["--person", str(folder), "--renderer", str(run), "--output", str(tmp_path), "--frames", "5"]) == 0
    assert "| neural |" in capsys.readouterr().out
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["frames"] == 5 and set(content["rows"]) == {"mesh", "composite", "neural"}
    assert all(np.isfinite(row["face_db"]) for row in content["rows"].values())
    assert {"sheet.png", "mouths.png", "curve.png"} <= {path.name for path in tmp_path.iterdir()}


def test_a_portrait_draws_the_other_learning_frames_from_one(folder, run, tmp_path):
    arguments = ["--portrait", "--person", str(folder), "--renderer", str(run), "--output", str(tmp_path)]
    assert main([*arguments, "--frames", "3"]) == 0
    films = np.load(tmp_path / "films.npz")
    person = Footage.load(folder, 64, 1.5)
    learnt = [t for t in range(8) if any(np.array_equal(person.pictures[t], frame) for frame in films["real"])]
    assert len(films["real"]) == 3 and len(learnt) >= 3 and films["neural"].shape == films["real"].shape


def test_a_person_of_whom_nothing_is_held_out_is_refused(folder, run, tmp_path, capsys):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes()) if path.is_file() else None
    about = json.loads((folder / "person.json").read_text())
    (tmp_path / "person.json").write_text(json.dumps(about | {"learning": [0, about["n_frames"]]}))
    assert main(["--person", str(tmp_path), "--renderer", str(run), "--output", str(tmp_path / "out")]) == 1
    assert "hold some out" in capsys.readouterr().err


def test_equal_films_have_no_error_and_their_own_flicker():
    rng = np.random.default_rng(0)
    film = rng.integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    film[:, :32] = film[:1, :32] // 2 + rng.integers(0, 2, (4, 32, 64, 3), dtype=np.uint8)
    points = rng.uniform(10, 50, (4, 68, 2))
    found = measure(film, film, points)
    assert found["face_db"] == 100 and found["face_ssim"] == pytest.approx(1)
    assert found["flicker_still"] == found["flicker_face"] == 1


def test_shots_end_at_cuts_and_gaps(folder):
    person = Footage.load(folder, 64, 1.5)
    person.shot[10:] = 1
    assert [part.tolist() for part in shots_of(person, np.array([7, 8, 9, 10, 11, 15]))] == [[7, 8, 9], [10, 11], [15]]

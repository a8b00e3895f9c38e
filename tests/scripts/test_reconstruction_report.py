"""The report of the reconstruction: its measures on cases worked out by hand, and one tiny run."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_process.made_clips import make_track
from data_process.made_turns import TEN, draw_motion
from deep_3drecon import camera
from deep_3drecon.face_model import load_face_model
from scripts.reconstruction_report import against_truth, main, rigidly, turn_between


@pytest.fixture(scope="module")
def truth():
    speaker, motion = draw_motion(2, 40)
    return make_track(motion, speaker.identity, load_face_model("open"))


def test_alignment_undoes_a_turn_and_a_step():
    points = np.random.default_rng(0).normal(size=(20, 3))
    turn = camera.rotation_matrix(torch.tensor([0.3, -0.5, 0.2]).double()).numpy()
    assert np.allclose(rigidly(points @ turn.T + [1, 2, 3], points), points)


def test_angles_between_rotations():
    a, b = (camera.rotation_matrix(torch.tensor([[0.0, yaw, 0.0]]).double()) for yaw in (0.1, 0.3))
    assert turn_between(a, b) == pytest.approx(np.degrees(0.2))


def test_the_truth_is_without_fault_and_a_constant_turn_is_no_motion(truth):
    model = load_face_model("open")
    perfect = against_truth(truth, truth, model)
    assert max(perfect[k] for k in ("rotation", "face", "lips")) < 1e-4
    assert min(perfect[name] for name in TEN) > 0.999
    coeff = truth.coeff.copy()
    angle = truth.layout.split(coeff)["angle"]
    turned = camera.rotation_matrix(torch.tensor(angle).double()) @ camera.rotation_matrix(
        torch.tensor([0.1, 0, 0]).double()
    )
    angle[:] = camera.euler_angles(turned).numpy()
    off = against_truth(replace(truth, coeff=coeff), truth, model)
    assert off["rotation"] == pytest.approx(np.degrees(0.1), rel=1e-3) and off["motion"] < 0.01


def test_a_run_prints_its_tables(capsys, tmp_path):
    assert main(["--people", "1", "--frames", "8", "--size", "128"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("exact", "landmarks", "pixels", *TEN))
    assert main(["--people", "0", "--clips", str(tmp_path / "absent")]) == 1
    assert "absent" in capsys.readouterr().err

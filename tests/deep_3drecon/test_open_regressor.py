"""The face regressor: geometry of its crops, its file, and a person it has never seen."""

import json

import numpy as np
import pytest
import safetensors.torch
import torch

from deep_3drecon import camera
from deep_3drecon.face_model import load_face_model
from deep_3drecon.open_regressor import (
    NAME,
    SIZE,
    FaceNetwork,
    OpenRegressor,
    RegressorError,
    face_crop,
    input_affine,
    into_crop,
    matrix_from_6d,
)


@pytest.fixture(scope="module")
def untrained():
    torch.manual_seed(0)
    return OpenRegressor(FaceNetwork(width=4, hidden=16))


@pytest.fixture
def crops():
    return np.random.default_rng(0).integers(40, 160, (3, SIZE, SIZE)).astype(np.uint8)


@pytest.fixture
def folder(untrained, tmp_path):
    untrained.save(tmp_path, seed=7)
    return tmp_path


def rewrite(folder, change):
    """Change the weights in a folder, a dict by name."""
    path = folder / f"{NAME}.safetensors"
    state = safetensors.torch.load(path.read_bytes())
    change(state)
    path.write_bytes(safetensors.torch.save(state))


def test_saved_and_loaded_it_says_the_same(untrained, folder, crops, tmp_path):
    loaded = OpenRegressor.load(folder)
    assert loaded.facts["seed"] == 7 and loaded.facts["face_model_hash"] == load_face_model("open").hash
    for before, after in zip(
        vars(untrained.predict(crops)).values(), vars(loaded.predict(crops)).values(), strict=True
    ):
        assert np.allclose(before, after, atol=0.02, rtol=0.02)  # half precision
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / f"{NAME}.safetensors").read_bytes() == (folder / f"{NAME}.safetensors").read_bytes()


def test_other_weights_are_named(folder):
    def change(state):
        state["out.extra"] = state.pop("out.bias")
        state["mean"] = state["mean"][:5].clone()

    rewrite(folder, change)
    with pytest.raises(RegressorError, match=r"mean is \(5,\), needed \(144,\), missing out.bias, unknown out.extra"):
        OpenRegressor.load(folder)


def test_another_face_model_is_refused(folder):
    path = folder / f"{NAME}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"face_model_hash": "0123"}))
    with pytest.raises(RegressorError, match="was trained on face model open 0123"):
        OpenRegressor.load(folder)


def test_absent_or_damaged_files_are_told(folder, tmp_path):
    with pytest.raises(RegressorError, match="no face regressor"):
        OpenRegressor.load(tmp_path / "nowhere")
    path = folder / f"{NAME}.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RegressorError, match="damaged"):
        OpenRegressor.load(folder)


def test_crops_of_another_form_are_refused(untrained):
    with pytest.raises(RegressorError, match=r"\(2, 64, 64\)"):
        untrained.predict(np.zeros((2, 64, 64), np.uint8))
    assert len(untrained.predict(np.zeros((0, SIZE, SIZE), np.uint8))) == 0


def test_brightness_and_contrast_change_nothing(untrained, crops):
    plain = untrained.predict(crops)
    changed = untrained.predict(crops.astype(np.float32) * 0.3 + 20)
    assert np.allclose(plain.angle, changed.angle, atol=2e-3) and np.allclose(plain.exp, changed.exp, atol=2e-3)


def test_one_crop_is_as_many(untrained, crops):
    alone = untrained.predict(crops[1:2])
    assert np.allclose(alone.angle, untrained.predict(crops).select([1]).angle, atol=1e-5)


def test_a_point_falls_where_the_affine_says():
    frame = np.zeros((400, 600, 3), np.uint8)
    frame[198:203, 298:303] = 255
    affine = np.array([[0.5, 0, -40.0], [0, 0.5, 10.0]])  # the point lies at (110, 110) of the canonical crop
    crop = face_crop(frame, affine).astype(float)
    row, column = np.mgrid[:SIZE, :SIZE]
    found = np.array([(column * crop).sum(), (row * crop).sum()]) / crop.sum()
    assert np.allclose(found, input_affine(affine) @ [300, 200, 1], atol=0.15)


def test_six_numbers_make_a_rotation():
    turn = matrix_from_6d(torch.randn(5, 6, dtype=torch.double))
    assert torch.allclose(turn @ turn.transpose(1, 2), torch.eye(3).double().expand(5, 3, 3))
    assert torch.allclose(torch.linalg.det(turn), torch.ones(5).double())


def test_a_pose_seen_in_another_crop():
    """The landmarks of the moved head lie where the change of the crop takes them."""
    face, rng = load_face_model("open"), np.random.default_rng(2)
    points = face.landmarks(face.mean).double()
    for scale, turn in ((1.0, 0.0), (1.25, 0.15), (0.8, -0.2)):
        angle, trans = (torch.from_numpy(rng.uniform(-0.5, 0.5, 3)) for _ in range(2))
        linear = scale * np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
        shift = np.array([112, 112]) - linear @ [112, 112] + rng.uniform(-30, 30, 2)
        change = torch.from_numpy(np.concatenate([linear, shift[:, None]], 1))
        wanted = camera.apply_affine(camera.project(camera.pose(points, angle, trans)), change)
        rotation, moved = into_crop(camera.rotation_matrix(angle), trans, change)
        off = (camera.project(points @ rotation.T + moved) - wanted).norm(dim=-1)
        assert off.mean() < 0.6

"""The fit is tested on faces made by the model itself, where the truth is known."""

import numpy as np
import pytest
import torch

from deep_3drecon import camera, fit
from deep_3drecon.align import crop_affine
from deep_3drecon.face_model import load_face_model
from deep_3drecon.fit import FitError, fit_clip, reproject, reprojection_error
from deep_3drecon.fit_groups import across, gram, jacobian_parts, landmark_groups
from deep_3drecon.landmarks import LID_PAIRS_LEFT, LID_PAIRS_RIGHT, interocular, lip_opening
from deep_3drecon.track import FaceTrack, TrackError

T, SIZE = 60, (640, 480)


@pytest.fixture(scope="module")
def head():
    return load_face_model("open")


@pytest.fixture(scope="module")
def made(head):
    """Landmarks (T, 478, 2) of a made person who talks, blinks and nods, and the truth."""
    rng = np.random.default_rng(3)
    t = torch.arange(T) / 25
    exp = torch.zeros(T, 52)
    exp[:, head.index("jawOpen")] = 0.25 * (1 - torch.cos(2 * torch.pi * 2.5 * t)) / 2
    exp[:, head.index("mouthSmileLeft", "mouthSmileRight")] = 0.2
    exp[30:33, head.index("eyeBlinkLeft", "eyeBlinkRight")] = torch.tensor([0.6, 1.0, 0.6])[:, None]
    angle = torch.stack([0.1 * torch.sin(3 * t), 0.25 * torch.sin(2 * t), 0.05 * torch.cos(2 * t)], 1)
    trans = torch.stack([0.05 * torch.sin(2 * t), 0.03 * torch.cos(3 * t), 0 * t], 1)
    id = torch.from_numpy(rng.normal(0, 0.7, 80).astype(np.float32))
    pixels = camera.project(camera.pose(head.landmarks(head.vertices(id.expand(T, -1), exp)), angle, trans))
    back = camera.invert_affine(torch.from_numpy(crop_affine(0.8, (330, 250), SIZE[1])).float())
    points = camera.apply_affine(pixels, back).numpy() + rng.normal(0, 0.3, (T, 478, 2))
    return points, exp.numpy(), angle.numpy()


@pytest.fixture(scope="module")
def track(head, made):
    return fit_clip(made[0], np.zeros((T, 52)), np.ones(T, bool), SIZE, 25, head)


def test_landmarks_are_met(head, track):
    assert reprojection_error(track, head).max() < 0.015


def lid_gap(points):
    """Mean distance of the lids (..., 2), right and left, in the points' own unit."""
    pairs = np.stack([LID_PAIRS_RIGHT, LID_PAIRS_LEFT])
    return np.linalg.norm(points[..., pairs[..., 0], :] - points[..., pairs[..., 1], :], axis=-1).mean(-1)


def test_lips_and_lids_follow(head, track, made):
    fitted = reproject(track, head)
    width = interocular(made[0])
    assert np.corrcoef(lip_opening(fitted) / width, lip_opening(made[0]) / width)[0, 1] > 0.99
    assert lid_gap(fitted)[31].max() < 0.5 * np.median(lid_gap(fitted))


def test_pose_follows(track, made):
    error = track.parts()["angle"] - made[2]
    assert np.abs(error - error.mean(0)).max() < 0.03


def test_expressions_stay_in_their_bounds(track):
    exp = track.parts()["exp"]
    assert exp.min() >= 0 and exp.max() <= 1


def test_frames_may_be_solved_in_any_number_at_a_time(head, made, track, monkeypatch):
    """Identity is summed over pieces of the frames: the sum must not depend on where they are cut."""
    monkeypatch.setattr(fit, "CHUNK", 37)
    other = fit_clip(made[0], np.zeros((T, 52)), np.ones(T, bool), SIZE, 25, head)
    assert np.abs(other.coeff - track.coeff).max() < 2e-6


def test_grouped_landmarks_give_the_plain_products(head):
    """Normal equations from groups of landmarks are those of the whole Jacobian, zeros and all."""
    exp = fit.linear_landmarks(head).exp
    generator = torch.Generator().manual_seed(1)
    by_point, by_pose, values = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((2, 478, 2, 3), (2, 956, 6), (2, 956, 5))
    )
    groups = landmark_groups(exp)
    assert sorted(torch.cat([rows for rows, _, _ in groups]).tolist()) == list(range(478))
    assert len(landmark_groups(torch.ones_like(exp))) == 1, "a dense basis stays whole"
    plain = torch.cat([torch.einsum("tlic,lck->tlik", by_point, exp).flatten(1, 2), by_pose], -1)
    parts = jacobian_parts(groups, by_point, by_pose, exp.shape[-1])
    assert torch.allclose(gram(parts, 58), plain.transpose(1, 2) @ plain, rtol=1e-12, atol=1e-12)
    assert torch.allclose(across(parts, values, 58), plain.transpose(1, 2) @ values, rtol=1e-12, atol=1e-12)


def test_lost_frames_are_bridged(head, made):
    points, valid = made[0].copy(), np.ones(T, bool)
    points[20:25], valid[20:25] = np.nan, False
    bridged = fit_clip(points, np.zeros((T, 52)), valid, SIZE, 25, head)
    assert np.isfinite(bridged.coeff).all() and np.isnan(reprojection_error(bridged, head)[20:25]).all()
    with pytest.raises(FitError, match="no face in any of 60 frames"):
        fit_clip(points, np.zeros((T, 52)), np.zeros(T, bool), SIZE, 25, head)


def test_a_portrait_is_a_clip_of_one_frame(head, made):
    one = fit_clip(made[0][:1], np.zeros((1, 52)), np.ones(1, bool), SIZE, 25, head)
    assert reprojection_error(one, head)[0] < 0.015


def test_track_survives_the_disk(track, tmp_path):
    track.save(tmp_path / "a" / "track.npz")
    again = FaceTrack.load(tmp_path / "a" / "track.npz")
    assert np.array_equal(again.coeff, track.coeff) and again.frame_size == SIZE and again.fps == 25
    assert np.array_equal(again.select(slice(3, 9)).landmarks68, track.landmarks68[3:9])
    (tmp_path / "broken.npz").write_bytes((tmp_path / "a" / "track.npz").read_bytes()[:1000])
    with pytest.raises(TrackError, match="broken.npz"):
        FaceTrack.load(tmp_path / "broken.npz")

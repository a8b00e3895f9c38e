"""Lost frames: a made person turns away and talks on while no landmarks are found."""

import numpy as np
import pytest
import torch

from data_process.lost_frames import (
    fill_lost,
    frames_to_see,
    gaps,
    growth,
    jump,
    line_error,
    scatter,
    smooth_runs,
    usual,
    vector_from_rotation,
)
from data_process.made_clips import make_track
from data_process.made_crop_batches import rotation_angle
from data_process.made_faces import speech_motion
from deep_3drecon import camera
from deep_3drecon.face_model import load_face_model, rotation_from_vector
from deep_3drecon.fit import fit_clip
from deep_3drecon.made_film import Actor
from deep_3drecon.made_skin import made_look
from deep_3drecon.made_stage import usual_stage

T, SIZE, GAP = 44, 160, slice(12, 32)


@pytest.fixture(scope="module")
def film():
    """Pictures of a person never seen in training, the true track, and the track of a fit that lost GAP."""
    face, rng = load_face_model("open"), np.random.default_rng(9)
    identity = rng.normal(0, 0.5, 80).astype(np.float32)
    exp = speech_motion(T, identity, face, rng).astype(np.float32)
    angle = np.zeros((T, 3), np.float32)
    angle[GAP, 1] = 0.9 * np.sin(np.linspace(0, np.pi, GAP.stop - GAP.start)) ** 2
    motion = {"exp": exp, "angle": angle, "trans": np.zeros((T, 3), np.float32)}
    stage = usual_stage(SIZE)
    frames = list(Actor(face, identity, made_look(987654), SIZE, stage).frames(**motion))
    true = make_track(motion, identity, face, stage, SIZE)
    valid = np.ones(T, bool)
    valid[GAP] = False
    return frames, true, fit_clip(true.landmarks, exp, valid, (SIZE, SIZE), 25, face)


def degrees_off(track, true):
    turns = [camera.rotation_matrix(torch.from_numpy(t.parts()["angle"])) for t in (track, true)]
    return rotation_angle(*turns).numpy()


def test_a_turn_of_the_head_is_seen(film):
    frames, true, lost = film
    filled = fill_lost(lost, iter(frames))
    assert degrees_off(filled, true)[GAP].mean() < 0.5 * degrees_off(lost, true)[GAP].mean()
    assert np.array_equal(filled.coeff[filled.valid], lost.coeff[filled.valid]) and np.isfinite(filled.coeff).all()
    assert not filled.valid[GAP].any() and filled.valid.sum() > T - 30
    off = np.linalg.norm(filled.landmarks - true.landmarks, axis=-1).mean(1)[GAP].mean()
    assert off < 0.7 * np.linalg.norm(lost.landmarks - true.landmarks, axis=-1).mean(1)[GAP].mean()


def test_frames_on_which_landmarks_slipped_are_lost_too(film):
    frames, _, lost = film
    slipped = lost.select(slice(None))
    slipped.coeff = lost.coeff.copy()
    slipped.coeff[GAP.stop, lost.layout.id + lost.layout.exp] += 0.5  # the head nods by 29 degrees in one frame
    filled = fill_lost(slipped, frames)
    assert not filled.valid[GAP.stop] and filled.valid[GAP.stop + 1] and filled.valid[GAP.start - 1]
    assert abs(filled.parts()["angle"][GAP.stop, 0] - lost.parts()["angle"][GAP.stop, 0]) < 0.15


def test_a_black_picture_changes_nothing(film):
    frames, _, lost = film
    dark = [np.zeros_like(f) if not v else f for f, v in zip(frames, lost.valid, strict=True)]
    filled = fill_lost(lost, dark)
    line = np.abs(filled.parts()["angle"] - lost.parts()["angle"])
    assert np.isfinite(filled.coeff).all() and np.rad2deg(line).max() < 2


def test_where_nothing_is_lost_no_frame_is_read(film):
    whole = film[1]
    assert fill_lost(whole, iter(())) is whole


def test_frames_that_end_too_early_are_told(film):
    frames, _, lost = film
    with pytest.raises(ValueError, match="the frames end before frame 20 of 44"):
        fill_lost(lost, frames[:20])


def test_gaps_and_what_lies_beside_them():
    valid = np.ones(1000, bool)
    valid[[0, 1, 20, 21, 22]] = False
    assert gaps(valid) == [(0, 2), (20, 23)]
    found = frames_to_see(valid)
    assert set(found) >= {*range(0, 10), *range(12, 31), 999} and len(found) < 70 and np.diff(found).max() < 40


def test_what_is_usual_is_the_median_of_good_frames():
    offset = np.array([[1.0], [2.0], [50.0], [3.0]])
    assert usual(offset, np.array([True, True, False, True])) == 2 and usual(offset, np.zeros(4, bool)) == 0


def test_a_guess_that_jumps_is_not_believed():
    chosen, lost = np.arange(3, 23), np.zeros(20, bool)
    lost[5:15] = True
    change = np.zeros((20, 1))
    change[5:7], change[13:15] = 4.0, 2.0
    found = jump(change, chosen, lost)[:, 0]
    assert not found[~lost].any() and found[5] == 16 and found[14] == 4 and 4 < found[10] < 16
    at_start = np.arange(20) < 10  # of the clip: only the other end tells
    assert np.allclose(jump(np.ones((20, 1)), np.arange(20), at_start)[:10], 1)
    assert not jump(change, chosen, np.zeros(20, bool)).any()


def test_an_unsure_guess_counts_less():
    offset = np.random.default_rng(0).normal(3, 0.1, (2000, 1))
    good = np.arange(2000) % 10 < 8
    assert abs(scatter(offset, good)[0] - 0.01) < 0.001 and not scatter(offset, ~good & good).any()
    factor = growth(np.where(good, 3.0, 6.0), good)[:, 0]
    assert np.allclose(factor[good], 1) and np.allclose(factor[~good], 16)


def test_a_line_is_worse_the_wider_its_gap():
    """A random walk of step 1 lies a b / (a + b) from the line to a frames before and b after, and a from its last value."""
    walk = np.cumsum(np.random.default_rng(0).normal(size=(4000, 1)), 0)
    valid = np.ones(4000, bool)
    valid[1000] = valid[2000:2031] = valid[3990:] = False
    found = line_error(walk, valid, np.array([5, 1000, 2000, 2015, 3993]))[:, 0]
    assert np.allclose(found, [0, 0.5, 31 / 32, 8, 4], rtol=0.25)
    assert np.allclose(line_error(walk[:8], np.arange(8) < 4, np.array([7])), walk[:4].var(0))


def test_changes_stay_in_the_gap():
    chosen, lost = np.arange(30), np.zeros(30, bool)
    lost[10:20] = True
    smooth = smooth_runs(np.ones((30, 2)), chosen, lost, 4.5, 25)
    assert not smooth[~lost].any() and smooth[14:16].min() > 0.8 > smooth[10].max()


def test_rotations_and_their_vectors():
    vector = torch.rand(20, 3, dtype=torch.double) * 3 - 1.5
    assert torch.allclose(vector_from_rotation(rotation_from_vector(vector)), vector, atol=1e-6)
    assert vector_from_rotation(torch.eye(3)).abs().max() == 0

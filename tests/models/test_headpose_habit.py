"""New motion in a person's habits: like the person, not the person's clip; the same for one seed; without drift."""

import numpy as np
import pytest

from models.behaviour import Behaviour
from models.blinks import find_blinks
from models.headpose import generate_motion, lay_over
from models.headpose_signal import speed_spectrum
from models.pose_metrics import beat_alignment, pose_histogram_distance, pose_spectrum_distance
from tests.models.made_heads import AMPLITUDE, head, speech


@pytest.fixture(scope="module")
def behaviour():
    return Behaviour.of_curves(*head(300, 0), speech(300, 0))


def test_motion_is_nearer_to_its_own_person(behaviour):
    other = Behaviour.of_curves(*head(300, 1, rhythm_s=0.6, amplitude=2.5), speech(300, 0))
    real = head(400, 7)[0][:, :3] - behaviour.mean[:3]
    sound = {"energy": speech(400, 7)}
    own, foreign = (generate_motion(sound, b, 400, seed=1)["angle"] for b in (behaviour, other))
    assert pose_spectrum_distance(own, real)["mean"] < 0.6 * pose_spectrum_distance(foreign, real)["mean"]
    assert pose_histogram_distance(own, real)["angle"] < 0.6 * pose_histogram_distance(foreign, real)["angle"]


def test_three_minutes_stay_in_the_range_of_the_clip(behaviour):
    n = 4500
    motion = generate_motion({"energy": speech(n, 3)}, behaviour, n, seed=0)
    pose = np.concatenate([motion["angle"], motion["trans"]], 1)
    assert (pose > behaviour.low[:6] - 1e-6).all() and (pose < behaviour.high[:6] + 1e-6).all()
    thirds = np.array([part.mean(0) for part in np.array_split(pose, 3)])
    assert np.abs(thirds).max(0) == pytest.approx(0, abs=0.5 * AMPLITUDE.max())
    assert 0.7 < pose[:, :3].std(0).mean() / AMPLITUDE[:3].mean() < 1.3
    rate = len(find_blinks(motion["closure"], 25)[0]) / (n / 25)
    assert rate == pytest.approx(behaviour.blinks.rate_hz, rel=0.35)


def test_minutes_do_not_repeat(behaviour):
    n = 4500
    angle = generate_motion({"energy": speech(n, 3)}, behaviour, n, seed=1)["angle"]
    waves = np.fft.rfft(angle - angle.mean(0), 2 * n, axis=0)
    likeness = np.fft.irfft(np.abs(waves) ** 2, axis=0)[:n] / (np.abs(waves) ** 2).mean(0)
    assert np.abs(likeness[250 : n // 2]).max() < 0.35


def test_one_seed_one_head_another_seed_another(behaviour):
    sound = {"energy": speech(250, 3)}
    a, again, other = (generate_motion(sound, behaviour, 250, seed=s) for s in (4, 4, 5))
    for name in a:
        np.testing.assert_array_equal(a[name], again[name])
    assert abs(np.corrcoef(a["angle"][:, 1], other["angle"][:, 1])[0, 1]) < 0.8


def test_it_is_no_replay(behaviour):
    learnt = head(300, 0)[0][:, :3] - behaviour.mean[:3]
    made = generate_motion({"energy": speech(300, 0)}, behaviour, 300, seed=2)["angle"]

    def windows(x):
        return np.lib.stride_tricks.sliding_window_view(x, 50, axis=0)[::5].reshape(-1, 150)

    def nearest(x):
        return np.linalg.norm(windows(x)[:, None] - windows(learnt)[None], axis=-1).min(1).mean()

    assert nearest(made) > 0.6 * nearest(head(300, 9)[0][:, :3] - behaviour.mean[:3])


def test_beats_of_the_head_come_to_those_of_speech(behaviour):
    sound = speech(1500, 3)
    behaviour = Behaviour(**vars(behaviour) | {"beats": 0.5})
    free = Behaviour(**vars(behaviour) | {"beats": 0.0})
    from models.headpose_sound import beats

    times = beats(sound, 1500)
    with_beats, without = (
        np.mean(
            [beat_alignment(generate_motion({"energy": sound}, b, 1500, s)["angle"], times)["score"] for s in (0, 1)]
        )
        for b in (behaviour, free)
    )
    assert with_beats > without + 0.02


def test_pose_scale_and_short_sounds(behaviour):
    sound = {"energy": speech(10, 3)}
    whole, half, still = (generate_motion(sound, behaviour, 10, pose_scale=s) for s in (1.0, 0.5, 0.0))
    np.testing.assert_allclose(2 * half["angle"], whole["angle"], rtol=1e-5)
    assert whole["angle"].shape == (10, 3) and not still["angle"].any() and not still["trans"].any()
    np.testing.assert_array_equal(still["brows"], whole["brows"])


def test_without_sway_the_head_moves_on_its_neck(behaviour):
    sound = {"energy": speech(300, 3)}
    whole, none = (generate_motion(sound, behaviour, 300, sway=s) for s in (1.0, 0.0))
    np.testing.assert_array_equal(whole["angle"], none["angle"])
    assert (none["trans"].std(0) < whole["trans"].std(0)).all()
    assert np.linalg.matrix_rank(np.concatenate([none["angle"], none["trans"]], 1), tol=1e-4) == 3


def test_brows_and_blinks_are_laid_over_an_expression(behaviour):
    names = ["jawOpen", "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight"]
    names += ["eyeBlinkLeft", "eyeBlinkRight"]
    motion = generate_motion({"energy": speech(200, 3)}, behaviour, 200)
    exp = np.full((200, 8), 0.3, np.float32)
    out = lay_over(exp, motion, names)
    np.testing.assert_array_equal(out[:, 0], exp[:, 0])
    np.testing.assert_array_equal(out[:, 1:6], motion["brows"])
    assert out[:, 6].min() == pytest.approx(0.3) and out[:, 6].max() > 0.8
    assert (exp == np.float32(0.3)).all()


def test_quickness_of_the_head_is_that_of_the_clip(behaviour):
    made = generate_motion({"energy": speech(600, 3)}, behaviour, 600, seed=2)["angle"].astype(float)
    jerk = np.diff(made, 3, axis=0).std(0) / np.diff(head(300, 0)[0][:, :3], 3, axis=0).std(0)
    assert (jerk < 1.4).all() and (jerk > 0.6).all()
    band = slice(1, 12)
    miss = np.log10(speed_spectrum(made)[band]) - np.log10(behaviour.spectrum[band, :3])
    assert np.abs(miss).mean() < 0.25

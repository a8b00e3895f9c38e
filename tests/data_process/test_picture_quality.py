"""Measures of the pictures on made pictures and made steps whose defects are known."""

import cv2
import numpy as np
import pytest

from data_process.picture_quality import conversion_period, jumps, landmark_jitter, repeated, shake, time_gaps
from data_process.picture_watch import PictureWatch, Steps, face_detail, similarity_motion


def texture(seed=0, size=160, grain=4):
    """(size, size) float32 grey: smooth noise."""
    noise = np.random.default_rng(seed).normal(0, 1, (size, size)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), grain)
    return 128 + 50 * noise / noise.std()


def moved(image, x, y, growth=0.0, turn=0.0):
    centre = (image.shape[1] - 1) / 2
    a, b = 1 + growth, turn
    move = np.float32([[a, -b, centre - a * centre + b * centre + x], [b, a, centre - b * centre - a * centre + y]])
    return cv2.warpAffine(image, move, image.shape[::-1], flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def steps_of(change, motion=None, frame_motion=None, fps=25):
    n = len(change)
    motion = np.zeros((n, 4)) if motion is None else motion
    frame = np.zeros((n, 2)) if frame_motion is None else frame_motion
    return Steps(np.arange(n) / fps, np.float32(change), np.float32(change), motion, frame, np.ones(n, bool))


def talking(n=100, seed=0):
    """Changes of a face that talks: around 2 grey levels, never the same."""
    return 2 * np.exp(np.random.default_rng(seed).normal(0, 0.25, n))


@pytest.mark.parametrize("truth", [(0.3, -0.2, 0, 0), (3.0, 1.5, 0, 0), (0.5, 0.5, 0.01, 0.02), (0, 0, 0, 0)])
def test_a_known_motion_is_found(truth):
    image = texture()
    found = similarity_motion(image, moved(image, *truth))
    assert found[:2] == pytest.approx(truth[:2], abs=0.06) and found[2:] == pytest.approx(truth[2:], abs=0.002)


def test_a_wall_does_not_move():
    assert not similarity_motion(np.full((64, 64), 90, np.float32), np.full((64, 64), 91, np.float32)).any()


def test_copies_that_stand_in_for_lost_pictures_are_found_and_stills_are_not():
    change = talking()
    for t in (20, 40, 41, 70):  # copies, coded with a little change; what was missed comes at once
        change[t] = 0.15
    for t in (21, 42, 71):
        change[t] = 5.0
    assert repeated(steps_of(change)).tolist() == [20, 40, 41, 70]
    still = np.full(100, 0.02)
    assert len(repeated(steps_of(still))) == 0
    pause = talking()
    pause[30:60] = 0.03  # somebody holds still for a second
    assert len(repeated(steps_of(pause))) == 0
    assert len(repeated(steps_of(talking(500, seed=3)))) == 0


def test_copies_of_a_conversion_have_a_period():
    change = talking(120)
    change[5::6] = 0.05  # 25 fps stored as 30
    steps = steps_of(change, fps=30)
    copies = repeated(steps)
    assert len(copies) > 15 and conversion_period(steps, copies) == 6
    irregular = talking(120)
    for t in (8, 19, 25, 44, 52, 71, 90, 107):
        irregular[t], irregular[t + 1] = 0.1, 5.0
    steps = steps_of(irregular)
    assert len(repeated(steps)) == 8 and conversion_period(steps, repeated(steps)) == 0


def test_a_lost_picture_is_a_jump():
    speed = np.zeros((80, 4))
    speed[:, 0] = 0.01 * (1.5 + np.sin(np.arange(80) / 8))
    change = 200 * speed[:, 0]
    assert len(jumps(steps_of(change, speed), np.array([], int))) == 0
    speed[30], change[30] = 2 * speed[30], 2 * change[30]
    assert jumps(steps_of(change, speed), np.array([], int)).tolist() == [30]


def test_holes_in_time_are_counted():
    steps = steps_of(talking(50))
    assert time_gaps(steps) == 0
    times = steps.times.copy()
    times[20:] += 2 / 25
    assert time_gaps(Steps(times, *(getattr(steps, n) for n in list(Steps.__dataclass_fields__)[1:]))) == 2


def test_shaking_is_of_the_whole_picture_and_no_smooth_motion():
    rng, t = np.random.default_rng(0), np.arange(200)
    smooth = np.stack([0.03 * np.sin(t / 6), 0.02 * np.cos(t / 9)], 1)
    place = rng.normal(0, 0.01, (200, 2))

    def steps(path, frame):
        moves = np.pad(np.diff(path, axis=0, prepend=path[:1]), ((0, 0), (0, 2)))
        return steps_of(talking(200), moves, np.diff(frame, axis=0, prepend=frame[:1]))

    assert shake(steps(smooth, smooth)) < 0.05
    assert shake(steps(smooth + place, 0 * smooth)) < 0.05, "a trembling head before a still wall"
    # white noise of 1 % each in x and y: the fourth difference over 6 spreads by sqrt(70) / 6, the length is Rayleigh
    assert shake(steps(smooth + place, place)) == pytest.approx(np.sqrt(70) / 6 * 1.1774, rel=0.15)


def test_jitter_of_landmarks_is_measured_in_face_widths():
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 100, (1, 478, 2)).repeat(150, 0)
    points += rng.normal(0, 1, (150, 1, 2))
    valid = np.ones(150, bool)
    assert landmark_jitter(points, valid) == pytest.approx(np.sqrt(70) / 6 * 1.1774, rel=0.2)
    assert landmark_jitter(3 * points, valid) == pytest.approx(landmark_jitter(points, valid), rel=1e-6)
    assert landmark_jitter(points[:3], valid[:3]) == 0


def test_detail_follows_the_pixels_a_face_was_drawn_with_not_those_it_is_shown_with():
    """Noise drawn with few pixels and enlarged. It fills its grid to the last frequency, as a face does not: factor 2."""
    details = {}
    for pixels in (24, 48, 96):
        small = np.random.default_rng(0).uniform(0, 255, (pixels, pixels)).astype(np.float32)
        small = cv2.GaussianBlur(small, (0, 0), 0.6)
        for size in (256, 384):
            image = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
            frame = np.repeat(np.pad(image, 20, mode="edge")[..., None], 3, -1)
            details[pixels, size], width = face_detail(frame, np.array([20, 20, size, size]))
            assert width == size
            assert 1.3 < details[pixels, size] / pixels < 2.3
    assert all(details[p, 256] == pytest.approx(details[p, 384], rel=0.1) for p in (24, 48, 96))


def test_the_watcher_sees_a_face_move_before_a_still_wall():
    class Face:
        box = np.array([60.0, 60.0, 80.0, 80.0])

    wall, face, watch = texture(1, 200), texture(2, 80), PictureWatch()
    for t in range(12):
        grey = wall.copy()
        grey[60:140, 60:140] = moved(face, 0.4 * t, 0)
        frame = np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, -1)
        watch.picture(t / 25, frame)
        watch.face(frame, Face())
    steps = watch.steps()
    assert len(steps) == 12 and steps.known[1:].all() and not steps.face_change[0]
    # the square that is followed holds some wall beside the face, so it moves a little less
    assert 0.2 < 80 * np.median(steps.face_motion[2:, 0]) < 0.42
    assert np.abs(80 * steps.frame_motion[2:]).max() < 0.1 and watch.detail()[1] == 80

"""Usable stretches and crops, from landmarks alone."""

import numpy as np
import pytest

from data_process.segments import Rules, crop_square, find_segments
from deep_3drecon.face_model import load_face_model

RULES = Rules(min_s=1.0, max_s=60.0, min_face_px=64)


@pytest.fixture(scope="module")
def face():
    """(478, 2) landmarks of the mean head, about 110 px wide, centred on 0."""
    model = load_face_model("open")
    points = model.landmarks(model.mean)[:, :2].numpy() * [1, -1]
    return (points - points.mean(0)) * 110 / np.ptp(points[:, 0])


def still(face, n, at=(150, 120)):
    return np.tile(face + at, (n, 1, 1)), np.ones(n, bool), np.zeros((n, 32, 32), np.float32)


def spans(segments):
    return [(s.start, s.stop, not s.reason) for s in segments]


def test_one_shot_is_one_segment(face):
    assert spans(find_segments(*still(face, 80), RULES)) == [(0, 80, True)]


def test_segments_after_a_rejected_one_are_kept(face):
    """The published fine cut forgets to move on after a short segment and loses all later ones."""
    points, valid, thumbnails = still(face, 200)
    points[60:70] += 90  # 0.4 s at another place, too short
    points[70:] += 5
    points[130:] += [60, 0]
    assert spans(find_segments(points, valid, thumbnails, RULES)) == [
        (0, 60, True),
        (60, 70, False),
        (70, 130, True),
        (130, 200, True),
    ]


def test_short_losses_are_bridged_and_long_ones_divide(face):
    points, valid, thumbnails = still(face, 120)
    valid[30:35] = False
    valid[70:80] = False
    valid[:4] = valid[-3:] = False
    assert spans(find_segments(points, valid, thumbnails, RULES)) == [(4, 70, True), (80, 117, True)]


def test_a_cut_is_seen_in_the_picture_where_the_face_stays(face):
    points, valid, thumbnails = still(face, 100)
    thumbnails[50:] = 0.06  # another scene of nearly the same brightness
    assert spans(find_segments(points, valid, thumbnails, RULES)) == [(0, 50, True), (50, 100, True)]


def test_steady_motion_is_no_cut(face):
    points, valid, thumbnails = still(face, 100)
    points += np.linspace(0, 500, 100)[:, None, None]  # 5 px a frame
    thumbnails += np.linspace(0, 5, 100)[:, None, None]  # 0.05 a frame
    assert spans(find_segments(points, valid, thumbnails, RULES)) == [(0, 100, True)]


def test_reasons_name_what_came_and_what_was_needed(face):
    points, valid, thumbnails = still(face, 60)
    assert (
        "38 px wide, 64 px needed" in find_segments((points - 150) * 38 / 110 + 150, valid, thumbnails, RULES)[0].reason
    )
    assert "0.80 s, 1 s needed" in find_segments(points[:20], valid[:20], thumbnails[:20], RULES)[0].reason
    valid[1::4] = valid[2::4] = False
    assert "found in 5" in find_segments(points, valid, thumbnails, RULES)[0].reason


def test_long_stretches_are_divided_without_loss(face):
    segments = find_segments(*still(face, 1000), Rules(max_s=15))
    assert [s.start for s in segments[1:]] == [s.stop for s in segments[:-1]]
    assert (segments[0].start, segments[-1].stop) == (0, 1000) and max(map(len, segments)) <= 15 * 25


@pytest.mark.parametrize("at", [(150, 120), (60, 70), (600, 400), (320, 30)])
@pytest.mark.parametrize("sway", [0, 120])
def test_the_square_is_in_the_frame_and_holds_the_whole_face(face, at, sway):
    points, valid, _ = still(face, 50, at)
    points = points + np.linspace(-sway, sway, 50)[:, None, None] * [1, 0]
    points = points.clip(0, [639, 479])
    left, top, side = crop_square(points, valid, (640, 480), 2.2)
    assert left >= 0 and top >= 0 and left + side <= 640 and top + side <= 480 and side % 2 == 0
    assert (points >= [left, top]).all() and (points <= [left + side, top + side]).all()
    assert side >= 1.9 * np.ptp(points[0], axis=0).max() or sway


def test_frames_without_a_face_do_not_move_the_square(face):
    points, valid, _ = still(face, 50)
    expected = crop_square(points, valid, (640, 480), 2.2)
    points[10:14], valid[10:14] = -3000, False
    assert crop_square(points, valid, (640, 480), 2.2) == expected

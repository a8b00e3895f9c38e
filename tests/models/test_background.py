"""Frames of a clip for new poses: the paper's two ways, and ours, which follows the pose and never stands still."""

import numpy as np
import pytest

from models.background import BackgroundError, assign, continued, key_frames, ping_pong


def swing(n, seconds, seed, amplitude=0.1):
    """(n, 6) smooth poses, radians and dm."""
    rng = np.random.default_rng(seed)
    time = np.arange(n)[:, None] / 25
    return amplitude * np.sin(2 * np.pi * time / (seconds * rng.uniform(0.7, 1.4, 6)) + rng.uniform(0, 6, 6))


def test_ping_pong_goes_to_and_fro():
    assert ping_pong(4, 9).tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert ping_pong(1, 3).tolist() == [0, 0, 0]
    assert assign(np.zeros((4, 6)), np.ones((9, 6)), "ping_pong").tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]


def test_key_frames_are_where_the_roll_turns_back():
    roll = 0.1 * np.sin(2 * np.pi * np.arange(200) / 80)  # extrema at 20, 60, 100, 140, 180
    assert key_frames(roll).tolist() == [0, 20, 60, 100, 140, 180, 199]
    noisy = roll + 0.02 * np.sin(2 * np.pi * np.arange(200) / 9)
    assert len(key_frames(noisy)) <= 200 / 10 + 2


def test_keyframes_show_only_poses_near_the_key_frames():
    learn, new = swing(300, 3, 0), swing(150, 2, 1)
    index = assign(learn, new, "keyframes")
    assert index.shape == (150,) and 0 <= index.min() and index.max() < 300
    first = np.abs(learn[:, :3] - new[0, :3]).sum(1)
    assert index[0] == first.argmin()
    keys = key_frames(new[:, 2])
    for a, b in zip(keys, keys[1:], strict=False):  # indices run evenly between key frames, no further than the gap
        assert abs(index[b] - index[a]) <= b - a
        np.testing.assert_allclose(index[a : b + 1], np.linspace(index[a], index[b], b - a + 1), atol=0.51)


def test_following_never_freezes_jumps_or_hastens():
    learn, new = swing(300, 3, 0), swing(400, 2.5, 1)
    step = np.diff(assign(learn, new))
    assert set(np.abs(step)) <= {1, 2}
    assert (step[1:] * step[:-1] < 0).mean() < 0.1  # it turns round now and then, it does not tremble


def test_following_stays_nearer_to_the_pose_than_playing_through():
    learn, new = swing(300, 3, 0), swing(400, 2.5, 1)
    miss = {
        m: np.linalg.norm((learn[assign(learn, new, m)] - new)[:, :3], axis=1).mean() for m in ("follow", "ping_pong")
    }
    assert miss["follow"] < 0.8 * miss["ping_pong"]


def test_following_the_clip_itself_is_the_clip():
    learn = swing(120, 3, 2)
    assert assign(learn, learn).tolist() == list(range(120))


def test_a_portrait_and_short_clips_work():
    assert assign(np.zeros((1, 6)), swing(5, 1, 0)).tolist() == [0] * 5
    assert set(assign(swing(3, 1, 0), swing(50, 1, 1))) == {0, 1, 2}


def test_nonsense_is_refused():
    with pytest.raises(BackgroundError, match="mode"):
        assign(np.zeros((3, 6)), np.zeros((3, 6)), "mirror")
    with pytest.raises(BackgroundError, match="needed"):
        assign(np.zeros((0, 6)), np.zeros((3, 6)))


def test_a_crown_at_the_rim_is_not_mirrored():
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:] = np.arange(40, dtype=np.uint8)[:, None, None]
    inside, touching = np.array([[20.0, 12.0], [40.0, 32.0]]), np.array([[20.0, 1.0], [40.0, 31.0]])
    mirrored, drawn_out = (continued(picture, 5, points)[..., 0] for points in (inside, touching))
    assert mirrored[:6, 30].tolist() == [5, 4, 3, 2, 1, 0] and drawn_out[:6, 30].tolist() == [0] * 6
    np.testing.assert_array_equal(mirrored[5:], drawn_out[5:])
    np.testing.assert_array_equal(mirrored[5:45, 5:65], picture[..., 0])

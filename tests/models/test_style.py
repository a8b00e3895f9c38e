"""Style: the paper's golden numbers, blending, strength, files."""

import numpy as np
import pytest

from data_process import schema
from deep_3drecon.track import FaceTrack, statistics, style_statistics
from models.blinks import BlinkHabit
from models.style import STYLE_PARTS, Style, StyleError
from tests.models.toy import LIDS, toy_clip


def axis_quaternion(angle, axis):
    """(T,) radians about one axis -> (T, 4) quaternion w, x, y, z."""
    q = np.zeros((len(angle), 4))
    q[:, 0], q[:, 1 + axis] = np.cos(angle / 2), np.sin(angle / 2)
    return q


def multiply(a, b):
    """Hamilton product of (T, 4) quaternions."""
    (aw, ax, ay, az), (bw, bx, by, bz) = a.T, b.T
    return np.stack(
        [
            aw * bw - ax * bx - ay * by - az * bz,
            aw * bx + ax * bw + ay * bz - az * by,
            aw * by - ax * bz + ay * bw + az * bx,
            aw * bz + ax * by - ay * bx + az * bw,
        ],
        1,
    )


def test_raw_style_code_of_the_paper():
    """The 135 raw numbers of specs/style_avatar.md, section 5; its quaternions are multiplied x, y, z."""
    t, d = np.arange(200)[:, None], np.arange(64)
    exp = 0.3 * np.sin(0.05 * (d + 1) * t / (1 + d / 8))
    t = t[:, 0]
    angle = [0.1 * np.sin(0.05 * t), 0.08 * np.sin(0.07 * t + 1), 0.05 * np.cos(0.03 * t)]
    qx, qy, qz = (axis_quaternion(a, i) for i, a in enumerate(angle))
    trans = np.stack([0.01 * np.sin(0.1 * t), 0.02 * np.cos(0.06 * t), 0.05 * np.sin(0.02 * t)], 1)
    out = statistics(exp, np.concatenate([-multiply(multiply(qx, qy), qz), trans], 1))
    chosen = [0, 1, 2, 31, 63]
    np.testing.assert_allclose(out["std_exp"][chosen], [0.199482, 0.214005, 0.213238, 0.212383, 0.212167], atol=1e-6)
    np.testing.assert_allclose(
        out["std_exp_change"][chosen], [0.010808, 0.018603, 0.025241, 0.069042, 0.075840], atol=1e-6
    )
    wanted = [0.000055, 0.001803, 0.001882, 0.000563, 0.000713, 0.000865, 0.000726]
    np.testing.assert_allclose(out["std_pose_change"], wanted, atol=1e-6)


def style_of(seed, gain, **fields):
    return Style.from_statistics(toy_clip(seed, gain)["statistics"], **fields)


def test_parts_have_one_order_everywhere():
    assert STYLE_PARTS == schema.STYLE_PARTS
    clip = toy_clip(0)
    style = Style.from_statistics(clip["statistics"])
    np.testing.assert_array_equal(style.vector(), schema.style_vector(clip["statistics"]))
    again = Style.from_vector(style.vector(), schema.style_sizes(clip["statistics"]))
    np.testing.assert_array_equal(again.vector(), style.vector())
    assert len(style.vector(STYLE_PARTS[:3])) == 52 + 52 + 7


def test_saved_style_comes_back(tmp_path):
    style = style_of(0, 1.3, source="clip a")
    style.blinks = BlinkHabit(0.5, 0.2, 0.8)
    style.save(tmp_path / "a" / "style.json")
    again = Style.load(tmp_path / "a" / "style.json")
    np.testing.assert_allclose(again.vector(), style.vector(), rtol=1e-6)
    assert (again.source, again.origin, again.blinks) == (style.source, style.origin, style.blinks)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "idiolect-style-1", "parts": {}}', "\x00"])
def test_damaged_style_files_are_named(tmp_path, text):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(StyleError, match="bad.json"):
        Style.load(path)


def test_blending_is_linear_and_stays_within():
    a, b = style_of(0, 0.7), style_of(1, 1.4)
    middle = Style.interpolate(a, b, 0.25)
    np.testing.assert_allclose(middle.vector(), 0.75 * a.vector() + 0.25 * b.vector(), rtol=1e-5)
    np.testing.assert_allclose(Style.average([a, b, b, b]).vector(), Style.interpolate(a, b, 0.75).vector(), rtol=1e-5)
    with pytest.raises(StyleError, match="face model"):
        Style.interpolate(a, style_of(0, 1.0, face_model="bfm"), 0.5)


def test_strength_moves_along_the_line_from_the_mean():
    mean, style = style_of(0, 1.0), style_of(0, 1.5)
    np.testing.assert_allclose(style.scaled(0, mean).vector(), mean.vector(), rtol=1e-5)
    np.testing.assert_allclose(style.scaled(1, mean).vector(), style.vector(), rtol=1e-5)
    spread = [style.scaled(s, mean).parts["std_exp"].mean() for s in (0, 0.5, 1, 2)]
    assert np.all(np.diff(spread) > 0)
    np.testing.assert_allclose(spread[3] - spread[1], 3 * (spread[1] - spread[0]), rtol=1e-4)
    # A calm speaker pushed far away from the mean cannot spread less than not at all.
    assert style_of(0, 0.3).scaled(9, mean).parts["std_exp"].min() == 0
    alone = style.scaled(2)
    np.testing.assert_allclose(alone.parts["std_exp"], 2 * style.parts["std_exp"])
    np.testing.assert_array_equal(alone.parts["mean_exp"], style.parts["mean_exp"])


def track_of(clip, valid, fps=25.0):
    n = len(clip["exp"])
    coeff = np.zeros((n, 165), np.float32)
    coeff[:, 80:132], coeff[:, 132:135], coeff[:, 162:] = clip["exp"], clip["angle"], clip["trans"]
    crop = np.tile(np.eye(2, 3, dtype=np.float32), (n, 1, 1))
    arrays = (coeff, np.zeros((n, 478, 2), np.float32), crop, valid, np.zeros((n, 52), np.float32))
    return FaceTrack(*arrays, fps, (256, 256), "open", "toy")


def test_style_of_a_track_leaves_out_the_ends_without_a_face():
    clip = toy_clip(3, n_frames=100)
    valid = np.ones(100, bool)
    valid[:10] = valid[95:] = False
    style = Style.from_statistics(track_of(clip, valid), source="clip", blink_columns=LIDS)
    wanted = style_statistics(clip["exp"][10:95], clip["angle"][10:95], clip["trans"][10:95], 25)
    np.testing.assert_allclose(style.parts["std_exp"], wanted["std_exp"], rtol=1e-5)
    with pytest.raises(StyleError, match="no face"):
        Style.from_statistics(track_of(clip, np.zeros(100, bool)))


def test_styles_that_cannot_be_are_refused():
    good = toy_clip(0)["statistics"]
    with pytest.raises(StyleError, match="std_pose"):
        Style({k: v for k, v in good.items() if k != "std_pose"})
    with pytest.raises(StyleError, match="not finite"):
        Style(good | {"std_exp": np.full(52, np.nan)})

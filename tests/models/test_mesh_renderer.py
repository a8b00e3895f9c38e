"""The mesh renderer on a drawn head: what must stay, what must move, what must show."""

import types

import numpy as np
import pytest
import torch

from deep_3drecon import landmarks
from deep_3drecon.face_model import load_face_model
from models import RENDERERS, find, retarget
from models.mesh_renderer import MeshRenderer
from models.portrait import PortraitError
from tests.models.drawn_head import LIPS, SKIN, WHITE, draw

MODEL = load_face_model()


def motion(n=1, angle=(0.0, 0.0, 0.0), **expressions):
    """n equal frames: expression by name, with Left and Right together where the name has sides; angle in degrees."""
    exp = np.zeros((n, 52), np.float32)
    for name, value in expressions.items():
        for full in (name, name + "Left", name + "Right"):
            if full in MODEL.expression_names:
                exp[:, MODEL.index(full)] = value
    return exp, np.tile(np.radians(angle).astype(np.float32), (n, 1)), np.zeros((n, 3), np.float32)


@pytest.fixture(scope="module")
def renderer():
    assert find(RENDERERS, "mesh") is MeshRenderer
    return MeshRenderer()


@pytest.fixture(scope="module")
def portrait():
    return draw()


@pytest.fixture(scope="module")
def material(renderer, portrait):
    return renderer.prepare(*portrait)


@pytest.fixture(scope="module")
def show(renderer, portrait, material):
    """One frame of the portrait turned by `angle` and with these expressions, on top of its own."""

    def frame(angle=(0.0, 0.0, 0.0), **expressions):
        own = portrait[1].parts()
        exp, turn, _ = motion(1, angle, **expressions)
        (out,) = renderer.render(material, own["exp"] + exp, own["angle"] + turn, own["trans"], relative=False)
        return out

    return frame


def near(frame, colour, reach):
    """Pixels within `reach` (0..255 a channel) of a colour."""
    return (np.abs(frame.astype(int) - colour) < reach).all(-1)


def around(portrait, ids):
    """Slices of the picture about some landmarks."""
    points = portrait[1].landmarks[0, ids]
    low, high = np.floor(points.min(0)).astype(int), np.ceil(points.max(0)).astype(int) + 1
    return np.s_[low[1] : high[1], low[0] : high[0]]


def test_own_pose_and_expression_give_the_portrait_back(portrait, show):
    assert np.array_equal(show(), portrait[0])


def test_own_pose_gives_an_open_mouth_back_too(renderer):
    picture, track = draw(torch.from_numpy(motion(1, jawOpen=0.4, mouthSmile=0.5)[0][0]))
    own = track.parts()
    (out,) = renderer.render(renderer.prepare(picture, track), own["exp"], own["angle"], own["trans"], relative=False)
    assert np.array_equal(out, picture)


def test_moved_portrait_is_the_head_drawn_so(renderer):
    """Oracle: the same head drawn by itself in the new pose and expression."""
    before, track = draw(lit=False)
    own = track.parts()
    exp, turn, _ = motion(1, (0, 8, 0), browInnerUp=0.8, mouthSmile=0.5)
    truth, there = draw(torch.from_numpy(exp[0]), own["angle"][0] + turn[0], lit=False)
    (moved,) = renderer.render(renderer.prepare(before, track), exp, own["angle"] + turn, own["trans"], relative=False)
    for ids in (landmarks.LIPS, landmarks.EYE_LEFT, landmarks.EYE_RIGHT):
        part = around((truth, there), ids)
        error, change = (np.abs(x[part].astype(float) - truth[part]).mean() for x in (moved, before))
        assert error < 0.4 * change


def test_nothing_moves_at_the_edge_of_the_region(portrait, material, show):
    left, top, side = material.region
    turned = show(angle=(8, 15, 8), jawOpen=0.5)
    row, column = np.mgrid[: portrait[0].shape[0], : portrait[0].shape[1]]
    deep = np.minimum.reduce([row - top, column - left, top + side - row, left + side - column])
    assert (deep < 0).any() and (deep > 20).any()
    assert np.array_equal(turned[deep < 0], portrait[0][deep < 0])
    rim = (deep >= 0) & (deep < 3)
    assert np.abs(turned[rim].astype(int) - portrait[0][rim]).max() <= 4
    assert (turned != portrait[0]).any(-1).mean() > 0.1


def test_closed_mouth_hides_and_open_mouth_shows_what_is_inside(portrait, show):
    mouth = around(portrait, landmarks.OUTER_LIPS)

    def foreign(frame):  # neither skin nor lips in any light
        hue = frame[mouth].astype(float) / np.maximum(frame[mouth].sum(-1, keepdims=True), 1)
        known = [np.abs(hue - np.array(c) / sum(c)).max(-1) < 0.05 for c in (SKIN, LIPS)]
        return (~(known[0] | known[1])) | (frame[mouth].max(-1) < 70)

    still, turned, opened = foreign(portrait[0]), foreign(show(angle=(0, 6, 0))), show(jawOpen=0.5)
    assert turned.sum() <= still.sum() + 2
    assert foreign(opened).sum() > still.sum() + 15
    assert (opened[mouth].max(-1) < 90).sum() > 5  # the dark behind the teeth


def test_blink_hides_the_white_of_the_eyes(portrait, show):
    eyes = [around(portrait, landmarks.EYE_RIGHT), around(portrait, landmarks.EYE_LEFT)]

    def white(frame):
        return sum((frame[eye].min(-1) > 0.78 * np.array(WHITE).min() * frame[eye].max() / 255).sum() for eye in eyes)

    def grey(frame):
        return sum((np.ptp(frame[eye].astype(int), axis=-1) < 25).sum() for eye in eyes)

    assert white(portrait[0]) > 10
    assert grey(show(eyeBlink=0.9)) < 0.35 * grey(portrait[0])


def test_turning_leaves_no_hole(portrait, show):
    for angle in ((0, 20, 0), (0, -20, 0), (15, 0, 0), (-15, 0, 0)):
        turned = show(angle=angle)
        assert not near(turned, (0, 0, 0), 12).any(), angle
        face = turned[around(portrait, landmarks.FACE_OVAL)]
        assert near(face, SKIN, 90).mean() > 0.5, angle


def test_frames_do_not_depend_on_batch_threads_or_run(renderer, material):
    rng = np.random.default_rng(0)
    exp = rng.uniform(0, 0.4, (11, 52)).astype(np.float32)
    angle, trans = (rng.normal(0, 0.05, (11, 3)).astype(np.float32) for _ in range(2))
    rest = renderer.rest(exp, angle, trans)
    whole = list(renderer.render(material, exp, angle, trans, rest=rest))
    again = list(renderer.render(material, exp, angle, trans, threads=2))
    single = [
        next(renderer.render(material, exp[k : k + 1], angle[k : k + 1], trans[k : k + 1], rest=rest))
        for k in (0, 8, 10)
    ]
    assert len(whole) == 11 and all(np.array_equal(a, b) for a, b in zip(whole, again, strict=True))
    assert all(np.abs(a.astype(int) - whole[k]).max() <= 1 for a, k in zip(single, (0, 8, 10), strict=True))


def test_render_is_lazy(renderer, material):
    exp, angle, trans = motion(100_000, jawOpen=0.1)
    frames = renderer.render(material, exp, angle, trans, relative=False)
    assert isinstance(frames, types.GeneratorType)
    first, second = next(frames), next(frames)
    assert np.array_equal(first, second) and not np.shares_memory(first, second)
    frames.close()


def test_sizes(renderer):
    picture, track = draw(size=320)
    exp, angle, trans = motion()
    (crop,) = renderer.render(renderer.prepare(picture, track, size=128, full=False), exp, angle, trans)
    (full,) = renderer.render(renderer.prepare(picture, track, size=128), exp, angle, trans)
    assert crop.shape == (128, 128, 3) and full.shape == picture.shape


def test_what_does_not_fit_is_refused(renderer, portrait):
    picture, track = portrait
    with pytest.raises(PortraitError, match="use the picture that was fitted"):
        renderer.prepare(picture[:-10], track)
    with pytest.raises(PortraitError, match="one frame with a face"):
        renderer.prepare(picture, track.select([0, 0]))
    with pytest.raises(PortraitError, match="uint8 RGB"):
        renderer.prepare(picture[..., 0], track)


def lively(n=60):
    """A speaker with a resting smile whose lips touch at openings the fit reads as 0.04, who blinks once."""
    exp, angle, trans = motion(n, mouthSmile=0.3, eyeBlink=0.15)
    exp[:, MODEL.index("jawOpen")] = 0.04 + 0.2 * np.abs(np.sin(np.arange(n) / 4))
    exp[30:33, MODEL.index("eyeBlinkLeft", "eyeBlinkRight")] = 0.9
    return exp, angle, trans


def test_rest_of_the_motion_is_the_rest_of_the_portrait(material):
    exp, angle, trans = lively()
    rest = retarget.motion_rest(MODEL, exp, angle, trans)
    moved = retarget.expression(MODEL, material.rest, rest, exp)
    opening = material.rest.openings.of(moved)
    closed = exp[:, MODEL.index("jawOpen")].argmin()
    assert np.abs(moved[closed] - material.rest.exp).max() < 0.06
    assert opening[closed, 0] == pytest.approx(material.rest.opening[0], abs=0.003)
    theirs = retarget.openings(MODEL).of(exp)[:, 0]
    assert np.corrcoef(theirs, opening[:, 0])[0, 1] > 0.99
    assert (opening[31, 1:] < 0.005).all() and (opening[10, 1:] > 0.9 * material.rest.opening[1:]).all()


def test_lips_of_a_smiling_portrait_close(renderer):
    picture, track = draw(torch.from_numpy(motion(1, jawOpen=0.25, mouthSmile=0.6)[0][0]))
    own = renderer.prepare(picture, track).rest
    exp, angle, trans = lively()
    moved = retarget.expression(MODEL, own, retarget.motion_rest(MODEL, exp, angle, trans), exp)
    opening = own.openings.of(moved)[:, 0]
    assert own.opening[0] > 0.05 and opening.min() < 0.01


def test_head_never_turns_far_from_the_portrait():
    motion_rest = retarget.Rest(np.zeros(52), np.zeros(3), angle=np.zeros(3), trans=np.zeros(3))
    wild = np.linspace(-3, 3, 31)[:, None] * np.ones(3)
    for yaw in (0.0, -0.6):
        own = np.array([0.0, yaw, 0.0])
        angle, trans = retarget.pose(own, np.zeros(3), motion_rest, wild, wild, 1.0)
        assert (np.abs(angle - own) <= retarget.ANGLE_LIMIT + 1e-6).all() and (np.abs(trans) <= 0.81).all()
        assert np.abs(angle[:, 1]).max() < np.radians(45)
    small, _ = retarget.pose(np.zeros(3), np.zeros(3), motion_rest, wild * 0.01, wild, 1.0)
    assert np.allclose(small, wild * 0.01, atol=1e-4)

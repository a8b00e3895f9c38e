"""The photometric stage on a made person whose head, motion and pictures are known, and its parts against their formulas."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from deep_3drecon import camera
from deep_3drecon.face_model import load_face_model
from deep_3drecon.photometric import photometric_residual, refine_clip
from deep_3drecon.photometric_frames import PhotometricError, cut_crop, key_frames
from deep_3drecon.photometric_light import band_shade, drawn_shade, fit_albedo
from deep_3drecon.photometric_pixels import pixel_equations, view_points
from deep_3drecon.photometric_surface import followed_skin, sample, surface_points
from deep_3drecon.shading import sh_basis

SPHERE = torch.nn.functional.normalize(torch.tensor(np.random.default_rng(0).normal(size=(400, 3))).float(), dim=-1)


@pytest.fixture(scope="module")
def head():
    return load_face_model("open")


def turned(a, b, offset=True):
    """Mean degrees between the poses of two tracks, frame by frame; without offset, after the best constant turn of the head."""
    first, second = (camera.rotation_matrix(torch.tensor(t.parts()["angle"]).double()) for t in (a, b))
    if not offset:  # which way a head looks at rest, its shape and its pose settle between them
        u, _, vh = torch.linalg.svd((first.transpose(-1, -2) @ second).mean(0))
        first = first @ u @ vh
    trace = (first @ second.transpose(-1, -2)).diagonal(dim1=-2, dim2=-1).sum(-1)
    return float(torch.rad2deg(((trace - 1) / 2).clamp(-1, 1).arccos()).mean())


@pytest.fixture(scope="module")
def refined(made_turn, shaken):
    return refine_clip(shaken, lambda: iter(made_turn.frames))


def test_ramps_are_sampled_exactly():
    x, y = np.meshgrid(np.arange(9, dtype=np.float32), np.arange(7, dtype=np.float32))
    picture = np.stack([2 * x - y, 3 * y], -1)[None]
    points = np.array([[[3.25, 2.5], [4.0, 3.75]]], np.float32)
    values, slopes = sample(picture, points)
    assert np.allclose(values, np.stack([2 * points[..., 0] - points[..., 1], 3 * points[..., 1]], -1))
    assert np.allclose(slopes, [[2, -1], [0, 3]])


def test_a_crop_is_what_its_affine_says():
    frame = np.zeros((300, 400, 3), np.uint8)
    frame[100:200, 150:250] = 255
    half = cut_crop(frame, [[0.5, 0, 12.0], [0, 0.5, -20.0]])
    # columns 150 to 249 of the frame lie at 87 to 136.5 of the crop, rows 100 to 199 at 30 to 79.5
    assert half.shape == (224, 224, 3)
    assert half[32:78, 89:135].min() == 255 and half[:28].max() == 0 and half[:, 139:].max() == 0


def test_equations_are_the_slope_of_the_squared_residual(head):
    """Against finite differences, on smooth pictures."""
    surface = surface_points(head, 300)
    y, x = np.mgrid[:224, :224].astype(np.float32)
    waves = np.stack([np.sin(x / 17) * np.cos(y / 23), np.cos(x / 19 + y / 29)], -1)[None].astype(np.float32)
    id = torch.tensor(np.random.default_rng(1).normal(0, 0.3, 80))
    exp, angle, trans = torch.full((1, 52), 0.1), torch.tensor([[0.1, -0.3, 0.05]]), torch.tensor([[0.05, 0.0, 0.1]])
    state = tuple(part.double() for part in (exp, angle, trans))
    noise = torch.ones(2)
    view = view_points(surface, id, state, waves)
    weight = view.weight[..., None].expand_as(view.values)

    def residual(id, state):
        return view_points(surface, id, state, waves).values - 0.3

    _, right = pixel_equations(surface, id, state, view, view.values - 0.3, weight, noise, with_id=True)
    matrix_scale = (right[0, 0] / _slope(residual, weight, id, state, 0)).item()
    for column in (24, 52, 53, 55, 57, 58, 61):  # jawOpen, angles, trans, two of identity
        expected = _slope(residual, weight, id, state, column) * matrix_scale
        assert right[0, column].item() == pytest.approx(expected.item(), rel=0.06, abs=0.01 * right.abs().max().item())


def _slope(residual, weight, id, state, column, step=1e-2):
    """Minus half the derivative of the weighted squared residual by one unknown."""
    costs = []
    for sign in (1, -1):
        parts = [part.clone() for part in (*state, id[None])]
        place = column
        for part in parts:
            if place < part.shape[1]:
                part[0, place] += sign * step
                break
            place -= part.shape[1]
        costs.append((residual(parts[3][0], tuple(parts[:3])).square() * weight).sum())
    return -(costs[0] - costs[1]) / (4 * step)


def test_light_and_albedo_are_told_apart_up_to_what_nobody_can_tell():
    """Four frames of points that turn: the products come back, and a hand over a tenth of the points changes nothing."""
    rng = np.random.default_rng(2)
    albedo = torch.tensor(rng.uniform(80, 200, (400, 3))).float()
    gamma = torch.zeros(27)
    gamma.view(3, 9)[:, 0], gamma.view(3, 9)[:, 3] = 0.3, torch.tensor([0.10, 0.08, 0.12])
    turns = camera.rotation_matrix(torch.tensor([[0, yaw, 0] for yaw in (-0.6, -0.2, 0.2, 0.6)]))
    bands = sh_basis(SPHERE @ turns.transpose(-1, -2))
    colours = albedo * band_shade(bands, gamma)
    weight = torch.ones(4, 400)
    covered = colours.clone()
    covered[2, :40] = torch.tensor([20.0, 200.0, 20.0])
    for seen in (colours, covered):
        found, light = fit_albedo(seen, bands, weight)
        miss = (found * band_shade(bands, light) - colours).abs().mean(-1)
        assert miss.median() < 3 and miss[2, :40].mean() < 12
    assert drawn_shade(bands, light).min() >= 0.7


def test_points_keep_off_eyes_and_the_mouth(head):
    skin = followed_skin(head)
    for name in ("eyeball_left", "teeth_upper", "mouth_inside", "scalp"):
        assert not skin[head.regions[name]].any()
    blink = head.exp_basis[..., head.index("eyeBlinkLeft")].norm(dim=1)
    assert not skin[int(blink.argmax())] and skin.sum() > 1000


def test_key_frames_are_valid_and_spread_over_poses(shaken):
    gap = replace(shaken, valid=np.arange(len(shaken)) % 3 > 0)
    keys = key_frames(gap, 6)
    yaw = shaken.parts()["angle"][:, 1]
    assert gap.valid[keys].all() and np.ptp(yaw[keys]) > 0.85 * np.ptp(yaw[gap.valid])


def test_pixels_bring_the_motion_nearer_to_the_truth(made_turn, shaken, refined):
    assert turned(refined, made_turn.truth, False) < 0.7 * turned(shaken, made_turn.truth, False)
    frames = list(made_turn.frames)
    assert photometric_residual(refined, frames) < 0.92 * photometric_residual(shaken, frames)
    assert refined.parts()["gamma"].any() and np.array_equal(refined.landmarks, shaken.landmarks)


def test_a_hand_does_not_drag_the_head(made_turn, shaken, refined):
    frames = made_turn.frames.copy()
    for t in range(8, 14):  # over the left half of the lower face
        x, y = made_turn.truth.landmarks[t, 205].astype(int)
        frames[t, y - 12 : y + 22, x - 14 : x + 14] = (190, 140, 120)
    with_hand = refine_clip(shaken, frames)
    part = slice(8, 14)
    assert turned(with_hand.select(part), refined.select(part)) < 0.7


def test_lost_frames_and_short_clips_keep_what_they_have(made_turn, shaken, refined):
    some = slice(0, None, 4)
    part = shaken.select(some)
    lost = replace(part, valid=np.arange(len(part)) != 3)
    frames = made_turn.frames[some].copy()
    frames[3] = 0
    assert np.abs(refine_clip(lost, frames).parts()["angle"][3] - part.parts()["angle"][3]).max() < 0.05
    one = refine_clip(shaken.select([3]), made_turn.frames[3:4])
    assert np.allclose(one.parts()["angle"], shaken.parts()["angle"][3], atol=1e-6) and one.parts()["gamma"].any()


def test_the_same_clip_gives_the_same_bytes(made_turn, shaken):
    frames, part = made_turn.frames[::6], shaken.select(slice(0, None, 6))
    assert refine_clip(part, frames).coeff.tobytes() == refine_clip(part, frames).coeff.tobytes()


def test_frames_of_another_clip_are_refused(made_turn, shaken):
    with pytest.raises(PhotometricError, match="5 frames came, the track has"):
        refine_clip(shaken, made_turn.frames[:5])
    with pytest.raises(PhotometricError, match="give the frames"):
        refine_clip(shaken, made_turn.frames[:, ::2])
    with pytest.raises(PhotometricError, match="fit the clip again"):
        refine_clip(replace(shaken, face_model_hash="0"), made_turn.frames)

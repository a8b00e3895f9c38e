"""Losses against the plain computation on meshes."""

import pytest
import torch

from models import losses
from tests.models.toy import JAW, toy_face

FACE = toy_face()


def random_motion(seed, b=2, t=7):
    return torch.randn(b, t, 52, generator=torch.Generator().manual_seed(seed)) * 0.3


def test_vertex_distance_is_that_of_the_meshes():
    pred, true = random_motion(0), random_motion(1)
    ids = torch.as_tensor(FACE.regions["lips"])
    wanted = 0
    for b in range(2):
        moved = (FACE.vertices(torch.zeros(7, 80), pred[b]) - FACE.vertices(torch.zeros(7, 80), true[b]))[:, ids] * 100
        wanted += moved.square().sum(-1).mean(-1).sqrt().mean() / 2
    factor = losses.distance_factor(FACE.exp_basis[ids])
    assert losses.vertex_distance(pred, true, factor, torch.ones(2, 7).bool()) == pytest.approx(wanted.item(), rel=1e-3)


def test_lip_opening_is_that_of_the_landmarks():
    face, exp = toy_face(), random_motion(2)
    face.id_basis = torch.randn(80, 3, 80, generator=torch.Generator().manual_seed(1)) * 0.02
    identity = torch.randn(2, 80, generator=torch.Generator().manual_seed(2))
    points = face.landmarks(face.vertices(identity[:, None].expand(2, 7, 80), exp), 68)
    pairs = [(points[..., a, :] - points[..., b, :]).norm(dim=-1) for a, b in losses.INNER_LIP_PAIRS]
    wanted = 100 * torch.stack(pairs).mean(0)
    torch.testing.assert_close(losses.lip_opening(losses.lip_gauge(face), identity, exp), wanted, rtol=1e-4, atol=1e-4)


def test_jaw_opens_the_lips_by_what_the_face_says():
    exp = torch.zeros(1, 2, 52)
    exp[0, 1, JAW] = 0.5
    opening = losses.lip_opening(losses.lip_gauge(FACE), torch.zeros(1, 80), exp)[0]
    assert opening.tolist() == pytest.approx([2.0, 12.0], abs=1e-3)


def test_frames_without_a_face_count_for_nothing():
    pred, true = random_motion(3), random_motion(4)
    valid = torch.ones(2, 7, dtype=torch.bool)
    valid[0, 4:] = False
    spoiled = true.clone()
    spoiled[0, 4:] = torch.nan
    geometry, std = losses.face_geometry(FACE), torch.full((52,), 0.3)
    pred.requires_grad_()
    good = losses.expression_losses(pred, true, torch.zeros(2, 80), valid, std, geometry)
    bad = losses.expression_losses(pred, spoiled, torch.zeros(2, 80), valid, std, geometry)
    for name, value in good.items():
        assert torch.isfinite(bad[name]) and bad[name] == value, name
        assert value != losses.expression_losses(pred, true, torch.zeros(2, 80), ~valid, std, geometry)[name]
    none = losses.expression_losses(pred, true, torch.zeros(2, 80), valid & False, std, geometry)
    assert all(value == 0 for value in none.values())


def test_no_error_no_loss_and_a_finite_gradient():
    true = random_motion(5)
    pred = true.clone().requires_grad_()
    geometry, std = losses.face_geometry(FACE), torch.full((52,), 0.3)
    out = losses.expression_losses(pred, true, torch.zeros(2, 80), torch.ones(2, 7).bool(), std, geometry)
    assert all(value < 1e-3 for value in out.values())
    sum(out.values()).backward()
    assert torch.isfinite(pred.grad).all()

"""The flow that a composite is moved by: what it means, what measures it, and that whole crops and squares of it agree."""

import cv2
import numpy as np
import pytest
import torch

from models.neural_texture_flow import flow_losses, measured_flow
from models.neural_texture_networks import Generator, Warper, place_planes, warp
from models.onnx_backend import OnnxNetwork, missing_packages
from models.stance import N_CONDITIONS


def blotches(size, seed=0):
    """(1, 3, size, size) in [0, 1], smooth and everywhere different."""
    noise = np.random.default_rng(seed).uniform(-1, 1, (size, size, 3))
    return torch.from_numpy(cv2.GaussianBlur(noise, (0, 0), 3) * 2 + 0.5).float().clamp(0, 1).permute(2, 0, 1)[None]


def flow_of(x, y, cells=16):
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(1, 2, cells, cells)


def test_a_picture_shows_what_lies_at_the_end_of_the_flow():
    picture = blotches(64)
    assert torch.allclose(warp(picture, flow_of(0.0, 0.0)), picture, atol=1e-5)
    moved = warp(picture, flow_of(3.0, -2.0))
    assert torch.allclose(moved[..., 10:50, 10:50], picture[..., 8:48, 13:53], atol=1e-4)
    half = warp(picture, flow_of(0.5, 0.0))[..., 10:50, 10:50]
    assert torch.allclose(half, (picture[..., 10:50, 10:50] + picture[..., 10:50, 11:51]) / 2, atol=1e-4)


def test_the_measured_flow_takes_the_composite_to_the_real_picture():
    composite = blotches(128)
    real = warp(composite, flow_of(2.0, -3.0, 32))
    flow, weight = measured_flow(composite, real, 32)
    assert weight[..., 8:24, 8:24].mean() > 0.5
    assert flow[0, :, 8:24, 8:24].mean((1, 2)).tolist() == pytest.approx([2.0, -3.0], abs=0.2)
    right, none = (flow_losses(f, composite, real) for f in (flow_of(2.0, -3.0, 32), flow_of(0.0, 0.0, 32)))
    assert right["warp"] < 1e-6 and right["smooth"] == 0
    assert none["warp"] > 0.02 and none["flow"] > right["flow"] + 1
    flat = torch.full_like(real, 0.5)
    assert not measured_flow(flat, flat, 32)[1].any()


def test_flow_begins_as_none_stays_within_reach_and_ends_at_the_rim():
    torch.manual_seed(0)
    warper, full = Warper(8).eval(), torch.rand(1, 8, 64, 64)
    place, conditions = place_planes(64), torch.randn(1, N_CONDITIONS, 1, 1)
    assert not warper(full, place, conditions).any()
    torch.nn.init.normal_(warper.head.weight, std=9.0)
    flow = warper(full, place, conditions)
    assert 5 < flow.abs().max() <= Warper.REACH
    assert flow[..., 0].abs().max() < 0.25 * Warper.REACH
    # twice the conditions, twice the way
    torch.nn.init.normal_(warper.head.weight, std=1e-4)
    still = warper(full, place, 0 * conditions)
    once, twice = (warper(full, place, k * conditions) - still for k in (1, 2))
    assert torch.allclose(twice, 2 * once, atol=1e-6)


def test_squares_lie_where_they_are_cut():
    whole = place_planes(64)
    assert whole[0, 0, 0].tolist() == pytest.approx(np.linspace(-31 / 32, 31 / 32, 32).tolist())
    part = place_planes(64, [(16, 8), (0, 32)], 32)
    assert torch.equal(part[0], whole[0, :, 8:24, 4:20]) and torch.equal(part[1], whole[0, :, :16, 16:])


@pytest.mark.skipif(bool(missing_packages()), reason="onnx, onnxscript and onnxruntime are optional")
def test_a_moved_composite_is_the_same_in_onnx(tmp_path):
    torch.manual_seed(0)
    generator = Generator(4, (8, 16), (0, 1)).eval()
    for layer in (generator.head, generator.warper.head):
        torch.nn.init.normal_(layer.weight, std=0.2)
    examples = blotches(32).repeat(1, 3, 1, 1)[:, :8], torch.randn(1, 6, 16, 16), torch.randn(1, N_CONDITIONS, 1, 1)
    with torch.no_grad():
        expected = generator(*examples)
    assert expected[2].abs().max() > 0.5
    found = OnnxNetwork.of(generator, examples, tmp_path)(*examples)
    for x, y in zip(found, expected, strict=True):
        assert torch.allclose(x, y, atol=1e-3)

"""The generator on its backends: the pictures of torch in float32, by ONNX Runtime to a hundredth of a level, by bf16 to a level."""

import copy

import pytest
import torch

from models.neural_texture_networks import Generator, place_planes
from models.onnx_backend import OnnxNetwork, missing_packages
from models.stance import N_CONDITIONS
from scripts.inference import networks
from scripts.inference.networks import Bf16, generator_on


@pytest.fixture(scope="module")
def generator():
    """A small generator that changes the picture, and its arguments."""
    torch.manual_seed(0)
    net = Generator(10, (8, 16, 16), (0, 1, 1)).eval()
    torch.nn.init.normal_(net.head.weight, std=0.05)
    torch.nn.init.normal_(net.warper.head.weight, std=0.05)
    half = torch.cat([torch.randn(1, 10, 32, 32), place_planes(64)], 1)
    return net, (torch.rand(1, 8, 64, 64), half, torch.randn(1, N_CONDITIONS, 1, 1))


def test_onnx_gives_the_same_pictures(generator, tmp_path, monkeypatch):
    if missing_packages():
        pytest.skip(f"not installed: {missing_packages()}")
    monkeypatch.setenv("IDIOLECT_ASSETS", str(tmp_path))
    net, tensors = generator
    fast = generator_on(copy.deepcopy(net), tensors, "onnx", torch.device("cpu"))
    assert isinstance(fast, OnnxNetwork) and list((tmp_path / "onnx").glob("generator_*.onnx"))
    with torch.inference_mode():
        for one, two in zip(net(*tensors), fast(*tensors), strict=True):
            torch.testing.assert_close(two, one, rtol=0, atol=4e-5)


def test_bf16_is_off_by_less_than_a_level(generator):
    net, tensors = generator
    fast = Bf16(copy.deepcopy(net))
    with torch.inference_mode():
        one, two = net(*tensors)[0], fast(*tensors)[0]
    miss = 255 * (one - two).abs()
    assert two.dtype == torch.float32 and 0 < miss.mean() < 0.5 and miss.max() < 5
    assert 255 * (one - tensors[0][:, :3]).abs().mean() > 5  # the network has something to say


def test_bf16_only_where_the_processor_has_it(generator, monkeypatch):
    net, tensors = generator
    for has in (True, False):
        monkeypatch.setattr(networks, "has_bf16", lambda has=has: has)
        assert isinstance(generator_on(copy.deepcopy(net), tensors, "torch", torch.device("cpu")), Bf16) == has

"""The paper's motion network: the original's names, size and outputs."""

import pytest
import torch

from models.style_avatar_networks import released_name
from models.style_fusion import RELEASED_BACKBONE, StyleFusionNet, paper_preset
from tests.models.golden import fill, golden, inputs, largest_miss


def original_name(name):
    return released_name(name, RELEASED_BACKBONE)


@pytest.fixture(scope="module")
def numbers():
    return golden("style_avatar__motion_net")


def paper_network():
    dims = paper_preset()
    del dims["stems"]
    return StyleFusionNet({"phonemes": (29, 48), "energy": (1, 16)}, 135, {"expression": 64}, **dims)


def test_names_and_size_are_the_originals(numbers):
    network = paper_network()
    assert sum(p.numel() for p in network.parameters()) == numbers["parameters"] == 9_211_904
    ours = [(original_name(name), list(value.shape)) for name, value in network.state_dict().items()]
    assert ours == [(name, shape) for name, shape, _ in numbers["state_dict"]]


@pytest.mark.parametrize("rule", ["A", "B"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.no_grad()
def test_network_equals_the_original(numbers, rule, dtype):
    network = fill(paper_network().to(dtype), numbers, rule, original_name)
    audio, energy, style = inputs(numbers, dtype)
    features = {"phonemes": audio, "energy": energy}
    assert network.encode(features).shape == (2, 256, 10)
    assert largest_miss([network(features, style)["expression"]], numbers, rule) <= 1

"""Networks of the paper's renderer: the originals' names, sizes and outputs."""

import os

import pytest
import torch

from models import style_avatar_networks as networks
from tests.models.golden import fill, golden, inputs, largest_miss

CASES = {
    "texture_unet": (networks.TextureEncoder, networks.RELEASED_ENCODER, 13_223_824),
    "local_enhancer": (networks.LocalEnhancer, networks.RELEASED_ENHANCER, 183_470_019),
    "discriminator": (networks.TwoScales, networks.RELEASED_DISCRIMINATOR, 5_547_906),
}
# 1.5 GB of weights and half a minute; in float32 it is always tested
LARGE = pytest.mark.skipif(not os.environ.get("IDIOLECT_LARGE_TESTS"), reason="IDIOLECT_LARGE_TESTS=1 runs it")
PRECISIONS = [(case, "AB", torch.float32) for case in CASES] + [
    ("texture_unet", "B", torch.float64),
    pytest.param("texture_unet", "A", torch.float64, marks=LARGE),
    ("discriminator", "AB", torch.float64),
    pytest.param("local_enhancer", "AB", torch.float64, marks=LARGE),
]


def empty(make):
    """A network whose weights are not drawn: they are filled anyway, and 183 million draws take seconds."""
    with torch.device("meta"):
        return make()


@pytest.mark.parametrize("case", CASES)
def test_names_and_sizes_are_the_originals(case):
    make, table, count = CASES[case]
    numbers, network = golden(f"style_avatar__{case}"), empty(make)
    assert sum(p.numel() for p in network.parameters()) == numbers["parameters"] == count
    ours = [(networks.released_name(name, table), list(value.shape)) for name, value in network.state_dict().items()]
    assert ours == [(name, shape) for name, shape, _ in numbers["state_dict"]]


@pytest.mark.parametrize(("case", "rules", "dtype"), PRECISIONS)
def test_networks_equal_the_originals(case, rules, dtype):
    make, table, _ = CASES[case]
    numbers = golden(f"style_avatar__{case}")
    network = empty(make).to(dtype).to_empty(device="cpu")
    for rule in rules:
        fill(network, numbers, rule, lambda name: networks.released_name(name, table))
        with torch.no_grad():
            out = network(*inputs(numbers, dtype))
        flat = [x for scale in out for x in scale] if case == "discriminator" else [out]
        assert largest_miss(flat, numbers, rule) <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_texture_look_up_equals_the_original(dtype):
    numbers = golden("style_avatar__texture_sampler")
    uv, texture = inputs(numbers, dtype)
    assert largest_miss([networks.sample_texture(texture, uv.permute(0, 2, 3, 1))], numbers, "A") <= 1

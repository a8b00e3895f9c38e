"""Networks of the headpose papers: sizes, names and outputs of the originals."""

import pytest
import torch

from models.headpose_networks import AudioNet, PoseDecoder, PoseEncoder, released_name
from tests.models.golden import fill, golden, inputs, largest_miss

NETWORKS = {
    "headpose__audio_net": (AudioNet, 29_430_534),
    "headpose_tmm__pose_encoder": (PoseEncoder, 1_760_042),
    "headpose_tmm__pose_decoder": (PoseDecoder, 10_656_518),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_equal_the_originals(name):
    cls, n_parameters = NETWORKS[name]
    network, numbers = cls(), golden(name)
    assert sum(p.numel() for p in network.parameters()) == n_parameters == numbers["parameters"]
    assert [released_name(n) for n in network.state_dict()] == [n for n, *_ in numbers["state_dict"]]
    for dtype in (torch.float32, torch.float64):
        network.to(dtype)
        for rule in "AB":
            with torch.no_grad():
                outputs = fill(network, numbers, rule, released_name)(*inputs(numbers, dtype))
            assert largest_miss(outputs if isinstance(outputs, tuple) else (outputs,), numbers, rule) <= 1

"""A clip and its mirror image get the same answer, left for right."""

import pytest
import torch

from deep_3drecon import clip_views
from deep_3drecon.clip_mirror import Mirror
from deep_3drecon.clip_regressor import ClipNetwork
from deep_3drecon.clip_views import corrected
from deep_3drecon.face_model import load_face_model


@pytest.fixture(scope="module")
def mirror():
    return Mirror(load_face_model("open"))


def clip(n_numbers):
    """One clip of three frames of an average head: its identity is the same in a mirror."""
    views = [torch.rand(1, 3, 2, *size) for size in (clip_views.MOUTH_SIZE, clip_views.FACE_SIZE)]
    numbers = torch.randn(1, 3, n_numbers)
    numbers[..., -80:] = 0
    return *views, numbers


def test_answers_to_a_mirrored_clip_are_mirrored(mirror):
    torch.manual_seed(0)
    names = load_face_model("open").expression_names
    network = ClipNetwork(len(corrected(names)), width=4, hidden=16).eval()
    for layer in (network.out, network.out_points):
        torch.nn.init.normal_(layer.weight)
    both = mirror.beside(*clip(len(network.usual)))
    turned = [torch.cat([x[1:], x[:1]]) for x in both]
    with torch.no_grad():
        here, there = (mirror.mean(network(*seen)) for seen in (both, turned))
        single = network(*(x[:1] for x in both))
    back = mirror.output(there)
    for name in ("exp", "angle", "points"):
        assert torch.allclose(here[name], back[name], atol=1e-4), name
    assert (single["exp"] - here["exp"]).abs().max() > 1e-3
    moved = [names[k] for k in corrected(names)]
    left, right = moved.index("mouthSmileLeft"), moved.index("mouthSmileRight")
    assert torch.allclose(here["exp"][..., left], there["exp"][..., right], atol=1e-4)
    assert torch.allclose(here["angle"][..., 1:], -there["angle"][..., 1:], atol=1e-4)


def test_the_same_said_of_both_is_said_of_the_clip(mirror):
    out = {"exp": torch.rand(2, 5, len(mirror.moved)), "angle": torch.rand(2, 5, 3)}
    back = mirror.output(out)
    doubled = {name: torch.cat([out[name], back[name]]) for name in out}
    for name, value in mirror.mean(doubled).items():
        assert torch.allclose(value, out[name]), name

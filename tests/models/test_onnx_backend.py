"""ONNX Runtime beside torch: the same numbers, any length and batch; and what is said where the packages are missing."""

import copy
import importlib.util

import numpy as np
import pytest
import torch
from torch import nn

from models import onnx_backend
from models.onnx_backend import OnnxError, OnnxNetwork, fingerprint, missing_packages, with_onnx
from models.style import Style
from models.style_avatar import StyleAvatar
from tests.models.toy import settings, toy_clip, toy_face, toy_stats

needs_packages = pytest.mark.skipif(bool(missing_packages()), reason=f"not installed: {missing_packages()}")


class Tiny(nn.Module):
    """One tensor in, one out."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 12, 1), nn.PixelShuffle(2)
        )

    def forward(self, x):
        return self.layers(x)


@needs_packages
def test_a_picture_network_gives_the_same(tmp_path):
    torch.manual_seed(0)
    net = Tiny()
    fast = OnnxNetwork.of(net, (torch.zeros(2, 3, 16, 16),), tmp_path, {"argument0": {0: "batch"}})
    for n in (1, 3):
        x = torch.randn(n, 3, 16, 16)
        torch.testing.assert_close(fast(x), net(x), rtol=1e-5, atol=1e-5)
    assert len(list(tmp_path.iterdir())) == 1 and not list(tmp_path.glob("*.part"))


@needs_packages
def test_motion_of_any_length_is_the_same(tmp_path):
    clips = [toy_clip(k, n_frames=60) for k in range(2)]
    torch.manual_seed(0)
    method = StyleAvatar(settings("tiny"), toy_stats(clips), toy_face()).eval()
    fast = with_onnx(copy.deepcopy(method), tmp_path)
    assert isinstance(fast.net, OnnxNetwork)
    style = Style.from_statistics(clips[0]["statistics"])
    for n_frames in (1, 37, 60):
        one, two = (m.generate(clips[0], style, n_frames, chunk=25) for m in (method, fast))
        for name in one:
            np.testing.assert_allclose(two[name], one[name], atol=2e-5)


def test_a_file_is_named_by_the_weights():
    one, two = Tiny(), Tiny()
    assert fingerprint(one) == fingerprint(one) != fingerprint(two)
    two.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(two)


def test_missing_packages_are_named(monkeypatch, tmp_path):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        onnx_backend.importlib.util, "find_spec", lambda name: None if name == "onnxscript" else find(name)
    )
    with pytest.raises(OnnxError, match="pip install.*--backend torch"):
        with_onnx(nn.Linear(1, 1), tmp_path)


@needs_packages
def test_a_model_that_cannot_be_exported_is_named(tmp_path):
    with pytest.raises(OnnxError, match="Linear"):
        with_onnx(nn.Linear(1, 1), tmp_path)

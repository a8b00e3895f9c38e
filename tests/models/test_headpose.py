"""headpose in the papers' presets: losses by hand, a step of training, motion of a clip."""

import pytest
import torch

from models.headpose import DEPTH_DM, HeadPose
from tests.models.toy import toy_face

STATS = {"face_model": "open", "exp": {"mean": [0.0] * 52}}


def batch(n=3, frames=8, seed=0):
    rng = torch.Generator().manual_seed(seed)

    def noise(*shape):
        return torch.randn(shape, generator=rng)

    return {
        "mfcc": noise(n, frames, 28, 12), "cepstra": noise(n, 4 * frames + 24, 13), "exp": noise(n, frames, 52),
        "angle": 0.1 * noise(n, frames, 3), "trans": 0.1 * noise(n, frames, 3), "valid": torch.ones(n, frames, dtype=torch.bool),
        "own_pose": 0.1 * noise(n, 60, 6), "other_pose": 0.1 * noise(n, 60, 6), "speaker": torch.tensor([0, 1, 0])[:n],
    }  # fmt: skip


def method(preset):
    torch.manual_seed(0)
    return HeadPose({"preset": preset}, STATS, toy_face())


def test_paper_losses_are_the_papers():
    net, data = method("paper").eval(), batch()
    parts, out = net.losses(data), net(data)
    true = torch.cat([data["angle"], data["trans"]], -1)
    true[..., 5] -= DEPTH_DM
    assert parts["pose"].item() == pytest.approx((out["pose"] - true).square().mean().item(), rel=1e-5)
    change = out["pose"][:, 1:] - out["pose"][:, :-1]
    assert parts["pose_change"].item() == pytest.approx(sum(c.square().sum().item() for c in change) / 3, rel=1e-5)
    assert net.generate({"mfcc": data["mfcc"][0]})["trans"].shape == (8, 3)


@pytest.mark.parametrize("preset", ["paper", "tmm"])
def test_a_few_steps_lower_the_loss(preset):
    net, data = method(preset).train(), batch(2, 4)
    optimiser = torch.optim.SGD(net.parameters(), 1e-2)

    def total():
        parts = net.losses(data)
        return sum(parts[name] for name in ("expression", "pose") if name in parts)

    before = total()
    for _ in range(2):
        optimiser.zero_grad()
        total().backward()
        optimiser.step()
    assert total() < before


def test_codes_of_one_speaker_are_drawn_together():
    net, data = method("tmm").eval(), batch()
    data["other_pose"] = data["own_pose"].clone()
    alike = net.losses(data)["contrast"]
    data["speaker"] = torch.tensor([0, 1, 2])
    assert torch.isfinite(alike) and net.losses(data)["contrast"] != alike
    out = net.generate({"cepstra": data["cepstra"][0]}, data["own_pose"][0])
    assert out["angle"].shape == (8, 3)


def test_another_preset_is_refused():
    with pytest.raises(ValueError, match="paper, tmm"):
        method("huge")

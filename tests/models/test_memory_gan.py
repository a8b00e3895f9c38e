"""memory_gan as a renderer: steps of its three phases, the ablation, and frames that do not depend on how many are made at once."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.composite import Composite
from models.memory_gan import EVERY, MemoryGan, Past
from tests.models.toy import toy_face

SIZE = 32
STATS = {"face_model": "open", "size": SIZE, "n_people": 1}


class Looks:
    """Stands for the frozen networks: means of a picture's quarters, repeated."""

    def key(self, pictures):
        return torch.nn.functional.adaptive_avg_pool2d(pictures, 4).flatten(1).repeat(1, 30)[:, :1280]

    def identity(self, frames, points):
        return torch.nn.functional.normalize(self.key(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255.0), dim=1)


class Stage:
    """Stands for the compositor: pictures drawn from a number in each frame's state."""

    def composites(self, batch):
        return drawn(batch["id"].flatten(0, 1)[:, 0])


def drawn(numbers):
    wave = torch.linspace(0, 6, SIZE)
    background = 0.5 + 0.4 * torch.sin(wave + numbers.reshape(-1, 1, 1, 1)).expand(-1, 3, SIZE, SIZE)
    one = torch.zeros(len(background), 1, SIZE, SIZE)
    return Composite(background, background, one, torch.zeros(len(background), SIZE, SIZE, 2), background, one)


def renderer(slots=16):
    torch.manual_seed(0)
    made = MemoryGan({"preset": "tiny", "dims": {"slots": slots}}, STATS, toy_face())
    made.stage, made.eyes = Stage(), Looks()
    return made


def batch():
    rng = np.random.default_rng(0)
    return {
        "id": torch.arange(6.0).reshape(2, 3, 1),
        "pictures": torch.from_numpy(rng.integers(0, 255, (2, 3, 3, SIZE, SIZE), np.uint8)),
        "points": torch.from_numpy(rng.uniform(4, 28, (2, 3, 68, 2)).astype(np.float32)),
    }


@pytest.mark.parametrize("slots", [16, 0])
def test_every_phase_takes_a_step(slots):
    net, data = renderer(slots).train(), batch()
    assert net.phases == ("generator", "discriminator", "memory")[: 3 if slots else 2]
    for _ in range(2):
        for phase in net.phases:
            parts = net.losses(data, phase)
            sum(value for name, value in parts.items() if name != "roughness").backward()
            assert all(torch.isfinite(value) for value in parts.values())
    covered = {id(p) for phase in net.phases for p in net.parameters_of(phase)}
    assert covered == {id(p) for p in net.parameters()}
    if slots:
        assert net.memory.written.sum() >= 1
    assert {"l1", "face_db", "composite_face_db"} <= set(net.eval().evaluate(data))


def test_identities_run_evenly_between_questions():
    net = renderer().eval()
    asked, given = torch.nn.functional.normalize(torch.randn(4, 1280), dim=1).split(2), []
    net.forward = lambda frames, identity: given.append(identity[0]) or (frames[:, -3:], frames[:, :1])
    answers, past = iter(asked), Past()
    net.remembered = lambda composites: next(answers)
    for n in (EVERY, 11):
        list(net.draw(torch.rand(n, 3, SIZE, SIZE), past))
    torch.testing.assert_close(
        torch.stack(given)[[0, EVERY - 1, EVERY, -1]], torch.stack([*asked[0], asked[0][1], asked[1][1]])
    )
    torch.testing.assert_close(given[6], asked[0][0] + (asked[0][1] - asked[0][0]) / 4)


def test_frames_come_in_order_and_twice_the_same():
    net = renderer().eval()
    net.losses(batch(), "memory")
    numbers = torch.arange(60.0)[:, None] / 9
    compositor = SimpleNamespace(make=lambda sources, id, *rest: drawn(id[:, 0]))

    def render(part=slice(None), past=None):
        own = numbers[part]
        return list(net.render(compositor, [None] * len(own), own, *[torch.zeros(len(own), 1)] * 5, past=past))

    frames = render()
    assert len(frames) == 60 and frames[0][0].shape == (SIZE, SIZE, 3) and frames[0][0].dtype == np.uint8
    for (a, *_), (b, *_) in zip(frames, render(), strict=True):
        np.testing.assert_array_equal(a, b)
    steps = [np.abs(a[0].astype(int) - b[0]).mean() for a, b in zip(frames, frames[1:], strict=False)]
    assert steps[EVERY - 1] < 3 * np.median(steps)  # nothing jumps where one block ends
    past = Past()
    pieces = render(slice(0, EVERY), past) + render(slice(EVERY, 60), past)
    for (a, *_), (b, *_) in zip(frames, pieces, strict=True):
        np.testing.assert_array_equal(a, b)

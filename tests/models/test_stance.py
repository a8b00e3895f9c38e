"""Places of head and torso: a torso that was moved is found where it went, and a head tells where its torso goes."""

import cv2
import numpy as np
import pytest
import torch

from models.stance import HEAD, N_STANCE, Stance, Torso, head_places

SIZE = 128


def picture(shift=(0, 0)):
    """A torso of blotches under a grey head; shift: of the torso, pixels."""
    rng = np.random.default_rng(0)
    blotches = cv2.GaussianBlur(rng.uniform(0, 255, (SIZE + 40, SIZE + 40, 3)), (0, 0), 3)
    blotches = np.clip((blotches - 127) * 4 + 127, 0, 255)
    moved = cv2.warpAffine(blotches, np.float64([[1, 0, shift[0] - 20], [0, 1, shift[1] - 20]]), (SIZE, SIZE))
    moved[:80] = 120
    return moved.astype(np.uint8)


@pytest.fixture(scope="module")
def torso():
    head = np.zeros((SIZE, SIZE), np.float32)
    head[20:75, 40:90] = 1
    return Torso.learn(picture(), [head, head])


@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (-2, 2), (0, -3)])
def test_a_torso_is_found_where_it_went(torso, shift):
    assert torso.shift(picture(shift)) * SIZE == pytest.approx(shift, abs=0.5)


def test_a_head_moves_its_places_by_what_it_moves_in_the_crop():
    affine = torch.tensor([[[0.5, 0.0, 3.0], [0.0, 0.5, -2.0]]])
    still = head_places(torch.zeros(1, 3), torch.zeros(1, 3), affine, 100)
    affine[..., 2] += torch.tensor([10.0, 20.0])
    moved = head_places(torch.zeros(1, 3), torch.zeros(1, 3), affine, 100)
    assert torch.allclose((moved - still).view(4, 2), torch.tensor([0.1, 0.2]), atol=1e-6)


def test_conditions_vanish_at_rest_and_an_unknown_torso_follows_the_head(torso):
    stance, heads = Stance(), torch.rand(50, HEAD)
    stance.learn(torso, heads, 2 * heads[:, :2] + 0.1)
    usual = stance.mean.clone()
    assert stance(usual.expand(1, 2, N_STANCE)).abs().max() < 1e-6
    usual[HEAD:] = torch.nan
    places = usual.repeat(1, 2, 1)
    places[0, 0, 0] += 0.1
    change = stance(places)[0, :N_STANCE, 0, 0] * stance.spread
    assert change[HEAD:].tolist() == pytest.approx([0.2, 0.0], abs=0.02)
    assert torch.equal(torch.from_numpy(stance.torso().weight), stance.weight)
    assert Stance().torso() is None

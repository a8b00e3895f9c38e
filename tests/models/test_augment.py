"""Disturbances keep truth and style in step."""

import math

import numpy as np
import pytest
import torch

from deep_3drecon.bake_open_head import EXPRESSIONS
from deep_3drecon.track import style_statistics
from models import augment
from tests.models.toy import toy_clip


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_scaled_motion_has_the_scaled_style():
    """The style handed to the network is the one that would be measured on the scaled motion."""
    clip = toy_clip(0)
    parts = {name: torch.from_numpy(value)[None] for name, value in clip["statistics"].items()}
    groups = augment.expression_groups(EXPRESSIONS)
    exp = torch.from_numpy(clip["exp"])[None]
    scaled, spread, change = augment.scale_expression(
        exp, parts["mean_exp"], parts["std_exp"], parts["std_exp_change"], groups, 1.6
    )
    measured = style_statistics(scaled[0].numpy(), clip["angle"], clip["trans"], 25)
    np.testing.assert_allclose(spread[0], measured["std_exp"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(change[0], measured["std_exp_change"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(parts["mean_exp"][0], measured["mean_exp"], rtol=1e-4, atol=1e-6)
    gain = spread[0] / parts["std_exp"][0]
    for group in range(3):
        assert gain[groups == group].std() < 1e-5
    assert len({round(gain[groups == g][0].item(), 3) for g in range(3)}) == 3


def test_gains_fill_their_range_evenly_on_both_sides():
    one = torch.ones(4000, 52)
    _, gain, _ = augment.scale_expression(
        torch.ones(4000, 1, 52), one, one, one, augment.expression_groups(EXPRESSIONS), 1.6
    )
    assert gain.min() > 1 / 1.6 and gain.max() < 1.6 and abs(gain.log().mean()) < 0.01
    assert gain.log().std() == pytest.approx(math.log(1.6) / math.sqrt(3), rel=0.03)


def test_groups_follow_the_names():
    groups = dict(zip(EXPRESSIONS, augment.expression_groups(EXPRESSIONS).tolist(), strict=True))
    assert (groups["jawOpen"], groups["tongueOut"], groups["eyeBlinkLeft"], groups["browInnerUp"]) == (0, 0, 1, 2)


def test_loudness_moves_mel_and_energy_together():
    """Mel is the logarithm of power, energy an amplitude: energy squared over exp(mel) does not change."""
    mel, energy = torch.randn(50, 7, 40), torch.rand(50, 7, 1) + 0.1
    new_mel, new_energy = augment.change_loudness(mel, energy, 6.0)
    torch.testing.assert_close(new_energy**2 / new_mel[..., :1].exp(), energy**2 / mel[..., :1].exp())
    db = 20 * (new_energy / energy).log10()
    assert db.abs().max() <= 6 and db.std() > 2


def test_bands_are_hidden_in_one_stretch():
    out = augment.mask_bands(torch.ones(300, 5, 40), 6)
    hidden = (out == 0).all(1)
    assert torch.equal(hidden, (out == 0).any(1))
    width = hidden.sum(1)
    assert width.min() == 0 and 5 <= width.max() <= 7
    edges = torch.nn.functional.pad(hidden.int(), (1, 1)).diff(dim=1).abs().sum(1)
    assert (edges <= 2).all()
    assert torch.equal(augment.mask_bands(torch.ones(3, 5, 40), 0), torch.ones(3, 5, 40))


def test_colour_is_constant_in_time_and_smooth_over_bands():
    out = augment.colour(torch.zeros(100, 6, 40), 0.3)
    assert torch.equal(out, out[:, :1].expand_as(out))
    assert out.diff(dim=2).abs().max() < 0.5 * out.abs().max() and out.std() > 0.2


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1])
def test_dropped_rows_are_about_their_share(share):
    out = augment.drop_rows(torch.ones(200, 400, 3), share)
    assert (out == 0).all(2).float().mean().item() == pytest.approx(share, rel=0.25, abs=1e-9)


def test_one_stream_always_stays():
    streams = {"phonemes": torch.ones(500, 4, 40), "mel": torch.ones(500, 4, 40)}
    out = augment.drop_streams(streams, 0.6)
    gone = torch.stack([(x == 0).all(2).all(1) for x in out.values()])
    assert not gone.all(0).any() and 0.2 < gone.float().mean() < 0.6


def test_voices_shift_along_the_bands():
    x = torch.arange(40.0).expand(500, 3, 40)
    out = augment.shift_bands(x, 2.0)
    moved = out[:, :, 5:35] - x[:, :, 5:35]
    assert moved.std((1, 2)).max() < 1e-5 and moved.abs().max() <= 2 and moved[:, 0, 0].std() > 1
    assert out.min() >= 0 and out.max() <= 39
    torch.testing.assert_close(augment.shift_bands(x, 0.0), x)

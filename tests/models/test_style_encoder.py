"""The learnt style code: what it may depend on, that it tells speakers apart, and how styles carry it."""

import numpy as np
import pytest
import torch

from models import checkpoint
from models.style import Style
from models.style_avatar import StyleAvatar
from models.style_encoder import ClipEncoder, contrast
from tests.models.toy import settings, toy_batch, toy_clip, toy_face, toy_world


@pytest.fixture(scope="module")
def world():
    return toy_world()


def make(world):
    torch.manual_seed(0)
    return StyleAvatar(
        settings("tiny", dims={"width": 32, "depth": 2, "style_width": 16, "learnt_style": 8}), world.stats, world.face
    )


def with_others(batch, clips, n=60):
    """The batch with other frames of each clip's speaker: here those of the next clip with the same gain."""
    rows = {name: torch.stack([torch.from_numpy(c[name][:n]) for c in clips]) for name in ("exp", "angle", "trans")}
    out = {f"style_{name}": value.float() for name, value in rows.items()}
    return batch | out | {"style_valid": torch.ones(len(clips), n, dtype=torch.bool)}


def test_frames_without_a_face_do_not_count():
    torch.manual_seed(0)
    encoder, motion = ClipEncoder(10, 6), torch.randn(2, 80, 10)
    valid = torch.ones(2, 80, dtype=torch.bool)
    valid[:, 40:] = False
    other = motion.clone()
    other[:, 40:] = 99.0
    torch.testing.assert_close(encoder(motion, valid), encoder(other, valid))
    assert not torch.allclose(encoder(motion, valid), encoder(motion, torch.ones_like(valid)))
    assert encoder(motion, valid).square().mean(-1).tolist() == pytest.approx([1, 1], abs=1e-4)


def test_contrast_is_zero_when_found_and_ignores_other_clips_of_the_speaker():
    codes = torch.eye(4)
    assert contrast(codes, codes, torch.arange(4)).item() < 1e-3
    wrong = contrast(codes, codes[[1, 0, 2, 3]], torch.arange(4)).item()
    assert wrong > 2
    # the first two are of one speaker: to take one for the other is no fault that counts against a third
    same = contrast(codes, codes[[1, 0, 2, 3]], torch.tensor([0, 0, 1, 2])).item()
    assert same < wrong
    assert contrast(codes, codes, torch.zeros(4, dtype=torch.long)).item() == 0  # one speaker alone


def test_it_learns_with_the_network_and_tells_speakers_apart(world):
    model = make(world)
    batch = with_others(toy_batch(world.clips, model.context_frames), world.clips[3:] + world.clips[:3])
    batch["speaker"] = torch.arange(len(world.clips)) % 3
    optimiser, found = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(15):
        parts = model.losses(batch)
        optimiser.zero_grad()
        (parts["expression"] + parts["style_contrast"]).backward()
        optimiser.step()
        found.append(parts["style_contrast"].item())
    assert found[-1] < 0.8 * found[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    model.eval()
    assert "style_contrast" not in model.losses(batch)


def test_a_style_carries_its_code_only_to_the_encoder_that_made_it(world, tmp_path):
    model = make(world).eval()
    clip = toy_clip(3)
    style = Style.from_statistics(clip["statistics"])
    plain = model.generate(clip, style, blinks=False)["exp"]
    style.learnt, style.learnt_by = np.full(8, 2.0, np.float32), model.encoder.fingerprint()
    told = model.generate(clip, style, blinks=False)["exp"]
    assert np.abs(told - plain).max() > 1e-3
    style.save(tmp_path / "style.json")
    again = Style.load(tmp_path / "style.json")
    np.testing.assert_allclose(model.generate(clip, again, blinks=False)["exp"], told, atol=1e-4)
    with torch.no_grad():
        model.encoder.out.bias += 1
    np.testing.assert_allclose(model.generate(clip, again, blinks=False)["exp"], plain, atol=1e-4)


def test_codes_blend_and_are_lost_beside_a_style_without():
    statistics = toy_clip(0)["statistics"]
    a, b = (Style.from_statistics(statistics) for _ in range(2))
    a.learnt, a.learnt_by = np.array([1.0, 0.0], np.float32), "x"
    b.learnt, b.learnt_by = np.array([0.0, 2.0], np.float32), "x"
    assert Style.interpolate(a, b, 0.25).learnt.tolist() == [0.75, 0.5]
    assert a.scaled(1.5).learnt.tolist() == [1, 0] and a.scaled(0.5, b).learnt_by == "x"
    b.learnt_by = "y"
    assert Style.interpolate(a, b, 0.25).learnt is None


def test_checkpoint_brings_the_encoder_along(world, tmp_path):
    model = make(world)
    checkpoint.save(tmp_path / "best", "style_avatar", model)
    loaded = checkpoint.load(tmp_path, face=toy_face())
    assert loaded.encoder.fingerprint() == model.encoder.fingerprint()

"""neural_texture: begins as its composite, keeps to its budget, and takes a step of each phase."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from data_process.pictures import Footage, PictureWindows
from models import RENDERERS, find
from models.composite import Composite
from models.neural_texture import DEPTHS, PRESETS, WIDTHS, NeuralTexture, enlarged
from models.neural_texture_networks import Generator, TextureEncoder, first_texture, sample_texture
from models.stance import N_CONDITIONS
from tests.made_person import made_person

SIZE = 64
STILL = torch.zeros(1, N_CONDITIONS, 1, 1)


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people") / "film"
    made_person(folder)
    return [Footage.load(folder, SIZE, 1.5)]


@pytest.fixture(scope="module")
def windows(people):
    return PictureWindows(people, "train", n_frames=2)


def fresh(windows, **dims):
    torch.manual_seed(0)
    settings = {"preset": "tiny", "dims": {"patch": 48, **dims}, "pose": True, "augment": {}}
    model = NeuralTexture(settings, windows.about())
    model.attach(windows)
    return model


def batch_of(windows, *indices, iteration=0):
    return torch.utils.data.default_collate([windows[i] for i in indices]) | {"iteration": iteration}


def test_it_is_a_renderer_by_name():
    assert find(RENDERERS, "neural_texture") is NeuralTexture


def test_fast_preset_keeps_to_five_gflop_and_two_million_parameters():
    dims = PRESETS["fast"]
    widths = tuple(int(dims["width"] * w) for w in WIDTHS)
    generator = Generator(dims["texture_channels"] + 6, widths, DEPTHS).eval()
    full, half = torch.zeros(1, 8, 64, 64), torch.zeros(1, dims["texture_channels"] + 8, 32, 32)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        picture, new, _ = generator(full, half, STILL)
    assert picture.shape == (1, 3, 64, 64) and new.shape == (1, 1, 64, 64)
    # all of it is convolutions, whose work grows with the area: 16 times as much at 256 px
    assert 2.5e9 < 16 * counter.get_total_flops() < 5e9
    assert sum(p.numel() for p in generator.parameters()) < 2e6


def test_a_fresh_generator_shows_the_background_but_for_a_little_mesh():
    generator, full = Generator(4, (8, 16), (0, 1)).eval(), torch.rand(2, 8, 32, 32)
    full[:, 6] = 0
    picture, _, _ = generator(full, torch.randn(2, 6, 16, 16), STILL)
    assert torch.allclose(picture, full[:, :3], atol=1e-5)
    full[:, 6] = 1
    picture, new, flow = generator(full, torch.randn(2, 6, 16, 16), STILL)
    assert not flow.any()
    share = torch.sigmoid(torch.tensor(-3.0))
    assert torch.allclose(picture, full[:, :3] + share * (full[:, 3:6] - full[:, :3]), atol=1e-5)
    assert torch.allclose(new[..., 10:22, 10:22], torch.tensor(0.5))


def test_nothing_changes_away_from_the_head():
    torch.manual_seed(0)
    generator, full = Generator(4, (8, 16), (0, 1)).eval(), torch.rand(1, 8, 96, 96)
    torch.nn.init.normal_(generator.head.weight)
    full[:, 6] = 0
    full[:, 6, 40:60, 40:60] = 1
    picture, new, _ = generator(full, torch.randn(1, 6, 48, 48), STILL)
    change = (picture - full[:, :3]).abs().amax(1)[0]
    assert max(change[:20].max(), change[:, 80:].max()) < 1e-5 and new[..., :20].max() == 0
    assert change[45:55, 45:55].max() > 0.05


def test_whole_pictures_and_patches_agree_away_from_the_rim():
    torch.manual_seed(0)
    generator = Generator(4, (8, 16), (0, 1)).eval()
    torch.nn.init.normal_(generator.head.weight, std=0.1)
    full, half = torch.rand(1, 8, 96, 96), torch.randn(1, 6, 48, 48)
    full[:, 6] = 1
    whole, _, _ = generator(full, half, STILL)
    part, _, _ = generator(full[..., 16:80, 16:80], half[..., 8:40, 8:40], STILL)
    assert torch.allclose(whole[..., 40:56, 40:56], part[..., 24:40, 24:40], atol=1e-5)


def test_sampling_reads_texel_centres_and_nothing_outside_of_the_mask():
    texture = torch.arange(16.0).view(1, 1, 4, 4)
    uv = torch.tensor([[[[0.125, 0.125], [0.875, 0.125]], [[0.125, 0.875], [0.5, 0.5]]]])
    mask = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])
    assert torch.equal(sample_texture(texture, uv, mask)[0, 0], torch.tensor([[0.0, 3.0], [12.0, 0.0]]))


def test_first_texture_tells_places_apart_and_an_encoder_adds_nothing_at_first():
    texture = first_texture(6, 16)
    flat = texture.flatten(1).T
    assert torch.cdist(flat, flat).fill_diagonal_(9).min() > 0.05
    assert TextureEncoder(6)(torch.rand(1, 4, 32, 32)).abs().max() == 0


def test_losses_of_both_phases_move_their_own_parameters_only(windows):
    model = fresh(windows, polish_after=0)
    batch = batch_of(windows, 0, 5)
    found = model.losses(batch, "generator")
    names = {"l1", "mouth", "perceptual", "temporal", "warp", "flow", "smooth", "adversarial", "feature_matching"}
    assert set(found) == names
    sum(found.values()).backward()
    assert all(p.grad is not None for p in model.parameters_of("generator"))
    model.zero_grad()
    model.losses(batch, "discriminator")["discriminator"].backward()
    assert all(p.grad is not None for p in model.parameters_of("discriminator"))
    assert all(p.grad is None or not p.grad.any() for p in model.parameters_of("generator"))
    both = {id(p) for phase in model.phases for p in model.parameters_of(phase)}
    assert both == {id(p) for p in model.parameters()}


def test_several_people_share_a_network_and_give_one_of_their_own(people):
    windows = PictureWindows([people[0], people[0]], n_frames=2)
    model = fresh(windows)
    torch.nn.init.normal_(model.generator.head.weight, std=0.02)  # a fresh one lets nothing through
    batch = batch_of(windows, 0, len(windows) - 1)
    assert batch["person"].tolist() == [0, 1]
    loss = model.losses(batch, "generator")["l1"]
    loss.backward()
    assert model.common.grad.abs().sum() > 0 and model.encoder.layers[-2].weight.grad.abs().sum() > 0
    with torch.no_grad():
        model.texture[1].normal_()
        torch.nn.init.normal_(model.encoder.layers[-2].weight, std=0.1)
    model.eval()
    for person, own in ((1, 1), (0, None)):
        alone = model.personal(people[0].texture, own)
        assert alone.stats["n_people"] == 1
        assert torch.allclose(alone.textures(None), model.textures(torch.tensor([person])), atol=1e-6)


def test_polish_waits_for_its_iteration(windows):
    model = fresh(windows, polish_after=3)
    early, late = batch_of(windows, 0, iteration=2), batch_of(windows, 0, iteration=3)
    assert model.losses(early, "generator")["adversarial"] == 0
    assert model.losses(early, "discriminator")["discriminator"] == 0
    assert model.losses(late, "generator")["adversarial"] > 0
    assert model.losses(late, "discriminator")["discriminator"] > 0


def test_some_steps_lower_the_loss(windows):
    model = fresh(windows, polish_after=99)
    optimiser = torch.optim.Adam(model.parameters_of("generator"), lr=3e-3)
    values = []
    for _ in range(12):
        torch.manual_seed(0)  # the same patch
        loss = model.losses(batch_of(windows, 1), "generator")["mouth"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < 0.9 * values[0]


def test_evaluation_tells_the_gain_over_the_composite(people):
    val = PictureWindows(people, "val", n_frames=2)
    model = fresh(val).eval()
    found = model.evaluate(batch_of(val, 0))
    assert found["face_db"] == pytest.approx(found["composite_face_db"].item(), abs=0.5)
    assert all(torch.isfinite(value) for value in found.values())


def test_frames_rendered_one_by_one_equal_a_batch(windows, people):
    model, person = fresh(windows).eval(), people[0]
    torch.nn.init.normal_(model.generator.head.weight, std=0.02)
    compositor, state = model.stage.compositors[0], person.state
    source = compositor.source(person.pictures[3], *(state[n][3] for n in ("id", "exp", "angle", "trans", "affine")))
    arrays = [state[n][20:23] for n in ("id", "exp", "angle", "trans", "gamma", "affine")]
    frames = list(model.render(compositor, [(source, None, 0.0)] * 3, *arrays))
    assert [picture.shape for picture, _, _ in frames] == [(SIZE, SIZE, 3)] * 3
    composite = compositor.make([source] * 3, *arrays)
    before = torch.cat([composite.background[:1], composite.background[:2]])
    with torch.no_grad():
        together, _, _ = model(composite, before)
    for k, (picture, _, _) in enumerate(frames):
        assert (together[k] * 255 - torch.from_numpy(picture).permute(2, 0, 1)).abs().max() <= 1.5


def test_enlarged_pictures_keep_the_detail_of_the_finer_composite_and_the_made_mouth():
    def composite(size, background):
        mouth = torch.zeros(1, 1, size, size)
        mouth[..., 3 * size // 4 :] = 1
        return Composite(background, background, mouth, torch.zeros(1, size, size, 2), background, mouth)

    fine = composite(64, torch.rand(1, 3, 64, 64) * 0.8)
    small = composite(32, torch.nn.functional.avg_pool2d(fine.background, 2))
    none = torch.zeros(1, 2, 8, 8)
    out = enlarged(small.background + 0.1, small, fine, none)
    assert torch.allclose(out[..., :28], fine.background[..., :28] + 0.1, atol=1e-5)
    assert torch.allclose(out, enlarged(small.background + 0.1, small, fine), atol=1e-5)
    flat = enlarged(torch.full_like(small.background, 0.5), small, fine, none)
    assert torch.allclose(flat[..., 60:], torch.full_like(flat[..., 60:], 0.5), atol=1e-5)


def test_a_composite_moves_between_devices():
    parts = {name: torch.zeros(1) for name in ("background", "mesh", "mask", "uv", "normals", "mouth")}
    assert Composite(**parts).to("meta").places is None
    parts["places"] = torch.zeros(1)
    assert all(x.device.type == "meta" for x in vars(Composite(**parts).to("meta")).values())


def test_checkpoints_without_a_warp_draw_as_they_did(windows):
    model = fresh(windows)
    torch.nn.init.normal_(model.generator.warper.head.weight)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith(("stance.", "generator.warper."))}
    settings = {"preset": "tiny", "dims": {}, "pose": True, "augment": {}}
    old = NeuralTexture(settings, windows.about())
    old.load_state_dict(state)
    assert not old.generator.warper.head.weight.any() and old.stance.torso() is None
    assert torch.equal(old.generator.head.weight, model.generator.head.weight)


def test_a_head_start_keeps_what_was_measured_on_the_own_film(windows):
    model = fresh(windows)
    other = {name: x + 1 if x.is_floating_point() else x for name, x in model.state_dict().items()}
    usual = model.stance.mean.clone()
    model.load_state_dict(other)
    assert torch.equal(model.stance.mean, usual)
    assert torch.equal(model.generator.head.bias, other["generator.head.bias"])

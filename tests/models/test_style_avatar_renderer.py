"""The paper's renderer: pictures in and out, one training step of each player, the perceptual loss with and without its defect."""

from types import SimpleNamespace

import pytest
import torch

import configs
from data_process.pictures import Footage, PictureWindows
from deep_3drecon.assets import assets_dir
from models import RENDERERS, checkpoint, find
from models.composite import Compositor
from models.judges import load_weights
from models.perceptual import PerceptualLoss, vgg19
from models.style_avatar_renderer import LegacyVgg, ProperVgg, StyleAvatarRenderer, to_network, to_picture
from tests.made_person import made_person

SIZE = 64


@pytest.fixture(scope="module")
def train_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("people") / "somebody"
    made_person(folder)
    return PictureWindows([Footage.load(folder, SIZE, 1.5)], "train", n_frames=3)


@pytest.fixture(scope="module")
def renderer(train_set):
    torch.manual_seed(0)
    model = StyleAvatarRenderer({"preset": "tiny", "dims": {}}, train_set.about())
    model.attach(train_set)
    return model


@pytest.fixture(scope="module")
def batch(train_set):
    return torch.utils.data.default_collate([train_set[0], train_set[5]]) | {"iteration": 0}


def test_pictures_go_to_the_networks_and_back():
    red = torch.zeros(1, 3, 2, 2)
    red[:, 0] = 1
    inside = to_network(red)
    assert inside[0, :, 0, 0].tolist() == pytest.approx([-1, -1, 127 / 128])  # blue first
    torch.testing.assert_close(to_picture(inside), red)


def test_losses_are_those_of_the_settings_file(renderer, batch):
    generator, judge = renderer.losses(batch, "generator"), renderer.losses(batch, "discriminator")
    assert {**generator, **judge}.keys() == configs.load("configs/renderer_style_avatar.yaml").loss.keys()
    assert all(value.dim() == 0 and torch.isfinite(value) for value in (generator | judge).values())


def test_players_learn_in_turn_and_only_their_own(renderer, batch):
    for phase, other in (("generator", "discriminator"), ("discriminator", "encoder")):
        renderer.zero_grad(set_to_none=True)
        for parameter in renderer.parameters():
            parameter.requires_grad_(False)
        for parameter in renderer.parameters_of(phase):
            parameter.requires_grad_(True)
        sum(renderer.losses(batch, phase).values()).backward()
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in renderer.parameters_of(phase))
        assert all(p.grad is None for p in getattr(renderer, other).parameters())
    renderer.requires_grad_(True)


def test_it_learns_one_window(train_set, batch):
    torch.manual_seed(1)
    model = StyleAvatarRenderer({"preset": "tiny", "dims": {}}, train_set.about())
    model.attach(train_set)
    optimiser, found = torch.optim.Adam(model.parameters_of("generator"), 4e-3, (0.5, 0.999)), []
    for _ in range(12):
        parts = model.losses(batch, "generator")
        optimiser.zero_grad()
        (10 * parts["texture"] + 10 * parts["l1"]).backward()
        optimiser.step()
        found.append(parts["l1"].item())
    assert found[-1] < 0.8 * found[0]


def test_frames_are_rendered_in_their_scene_and_survive_a_checkpoint(renderer, train_set, tmp_path):
    person = train_set.people[0]
    compositor = Compositor(person.model, person.texture, SIZE)
    state = {name: torch.from_numpy(value[:2]) for name, value in person.state.items() if name != "points"}
    still = [state[name][0] for name in ("id", "exp", "angle", "trans", "affine")]
    sources = [compositor.source(person.pictures[0], *still)] * 2
    checkpoint.save(tmp_path / "best", "style_avatar_renderer", renderer)
    assert not any(name.startswith("discriminator") for name in checkpoint.load_file(tmp_path / "best.safetensors"))
    loaded = checkpoint.load(tmp_path)
    assert isinstance(loaded, find(RENDERERS, "style_avatar_renderer"))
    textures, _ = loaded.first_frames(person)
    assert textures.shape == (9, 64, 64) and -1 <= textures.min() and textures.max() < 1
    ours = [list(model.eval().render(compositor, sources, **state, textures=textures)) for model in (renderer, loaded)]
    for (picture, new, mask), (same, _, _) in zip(*ours, strict=True):
        assert picture.shape == (SIZE, SIZE, 3) and (picture == same).all() and (new == mask).all()
    # nothing but the face is painted: in the source's own pose the surroundings are the source
    picture, new, _ = ours[0][0]
    assert 0 < new.sum() < new.size and (picture[new == 0] == person.pictures[0][new == 0]).all()
    assert len(list(loaded.render(compositor, sources, **state))) == 2


def test_perceptual_loss_is_right_unless_the_defect_is_asked_for(tmp_path):
    torch.manual_seed(2)
    weights = tmp_path / "vgg19.pth"
    network = vgg19()
    torch.save(network.state_dict(), weights)
    made, real = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    inside = [to_network(x) for x in (made, real)]
    reference = PerceptualLoss("vgg19", weights)
    torch.testing.assert_close(ProperVgg(weights)(*inside), reference(made, real), rtol=1e-3, atol=1e-4)
    by_hand, maps = load_weights(vgg19(), weights), []
    for x in inside:  # the defect: straight into the layers
        found = []
        for number, layer in enumerate(by_hand.features):
            x = layer(x)
            if number in (1, 6, 11, 20, 29):
                found.append(x)
        maps.append(found)
    total = sum(w * (a - b).abs().mean() for w, a, b in zip((1 / 32, 1 / 16, 1 / 8, 1 / 4, 1), *maps, strict=True))
    torch.testing.assert_close(LegacyVgg(weights)(*inside), total)
    assert not torch.allclose(total, reference(made, real), rtol=0.05)


def test_the_defect_needs_the_users_vgg(train_set):
    if (assets_dir() / "judges" / "vgg19-dcbb9e9d.pth").is_file():
        pytest.skip("VGG19 is here")
    model = StyleAvatarRenderer({"preset": "tiny", "dims": {"legacy_vgg": 1}}, train_set.about())
    with pytest.raises(ValueError, match="vgg19"):
        model.attach(SimpleNamespace(people=train_set.people))

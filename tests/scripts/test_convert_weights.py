"""Released files become checkpoints that say what the released networks say; wrong files are called by their name."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from deep_3drecon.coeffs import BFM_LAYOUT
from models import checkpoint
from models.style import Style
from models.style_avatar_networks import (
    RELEASED_ENCODER,
    RELEASED_ENHANCER,
    LocalEnhancer,
    TextureEncoder,
    released_name,
    sample_texture,
)
from models.style_fusion import RELEASED_BACKBONE
from scripts import convert_weights
from tests.models.toy import toy_face

SMALL = {"preset": "tiny", "dims": {}}


@pytest.fixture(scope="module")
def face():
    return replace(
        toy_face(), name="bfm", layout=BFM_LAYOUT, exp_basis=torch.rand(80, 3, 64) / 100,
        expression_names=tuple(f"exp_{k}" for k in range(64)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    """A network of the paper's size and its file as released."""
    torch.manual_seed(0)
    network = convert_weights.backbone().eval()
    path = tmp_path_factory.mktemp("released") / "backbone.pkl"
    torch.save({released_name(name, RELEASED_BACKBONE): value for name, value in network.state_dict().items()}, path)
    return network, path


def small_networks():
    encoder, painter = TextureEncoder(9, 4, (4, 8, 16, 32, 32)), LocalEnhancer(4, 3, 4, 1, 1, 1)
    return {
        "tex_encoder": (encoder, lambda name: released_name(name, RELEASED_ENCODER)),
        "face_unet": (painter, lambda name: released_name(name, RELEASED_ENHANCER)),
    }


def write(network, name_of, path):
    torch.save({f"module.{name_of(name)}": value for name, value in network.state_dict().items()}, path)
    return path


def test_backbone_says_the_same_after_conversion(backbone, face, tmp_path):
    network, path = backbone
    rng = np.random.default_rng(0)
    statistics = []
    for n in (64, 7):
        names = ("m_m", "m_s", "s_m", "s_s", "d_m_m", "d_m_s", "d_s_m", "d_s_s")
        statistics.append({name: rng.uniform(0.5, 1, n) for name in names})
        np.save(tmp_path / f"{n}.npy", statistics[-1], allow_pickle=True)
    read = convert_weights.read_statistics([tmp_path / "64.npy", tmp_path / "7.npy"])
    convert_weights.convert_backbone(path, tmp_path, face, read)
    method = checkpoint.load(tmp_path, face=face)
    exp, pose = statistics
    raw = {"std_exp": rng.random(64), "std_exp_change": rng.random(64), "std_pose_change": rng.random(7)}
    style = Style(raw | {"std_pose": np.zeros(7), "mean_exp": np.zeros(64)}, face_model="bfm")
    code = np.concatenate(
        [
            (raw["std_exp"] - exp["s_m"]) / exp["s_s"],
            (raw["std_exp_change"] - exp["d_s_m"]) / exp["d_s_s"],
            (raw["std_pose_change"] - pose["d_s_m"]) / pose["d_s_s"],
        ]
    )
    features = {"phonemes": rng.random((64, 29), np.float32), "energy": rng.random((64, 1), np.float32)}
    streams = {name: torch.from_numpy(np.pad(x, ((8, 8), (0, 0)), "edge")).T[None] for name, x in features.items()}
    with torch.no_grad():
        wanted = network(streams, torch.from_numpy(code).float()[None])["expression"][0].T
    made = method.raw_motion(features, style)["exp"]
    np.testing.assert_allclose(made, wanted.numpy(), atol=2e-4 * float(wanted.abs().max()))


def test_renderer_paints_the_same_after_conversion(face, tmp_path):
    torch.manual_seed(1)
    known = small_networks()
    files = {name: write(*pair, tmp_path / f"{name}.pkl") for name, pair in known.items()}
    settings = {"preset": "tiny", "dims": {"texture_size": 64}}
    convert_weights.convert_renderer(files["tex_encoder"], files["face_unet"], tmp_path, face, known, settings)
    renderer = checkpoint.load(tmp_path, face=face)
    textures, uv, mask = torch.rand(1, 9, 64, 64), torch.rand(1, 32, 32, 2), torch.ones(1, 1, 32, 32)
    with torch.no_grad():
        found = sample_texture(known["tex_encoder"][0](textures), uv)
        torch.testing.assert_close(renderer(textures, uv, mask)[0], known["face_unet"][0](found))


def test_a_file_given_as_another_is_called_by_its_name(backbone, tmp_path):
    known = small_networks()
    path = write(*known["face_unet"], tmp_path / "some.pkl")
    with pytest.raises(convert_weights.ConversionError, match="given as tex_encoder, but it is face_unet"):
        convert_weights.renamed(path, "tex_encoder", known)
    with pytest.raises(convert_weights.ConversionError, match="given as face_unet, but it is backbone"):
        convert_weights.renamed(backbone[1], "face_unet")


def test_a_damaged_or_foreign_file_is_named(tmp_path):
    known = small_networks()
    network, name_of = known["tex_encoder"]
    state = {name_of(name): value.numpy() for name, value in network.state_dict().items()}
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(state, protocol=2))  # arrays by name do as well
    assert convert_weights.renamed(tmp_path / "plain.pkl", "tex_encoder", known).keys() == network.state_dict().keys()
    state.pop("up5.conv.1.bias")
    (tmp_path / "less.pkl").write_bytes(pickle.dumps(state, protocol=2))
    with pytest.raises(convert_weights.ConversionError, match="lacks 1: up5.conv.1.bias"):
        convert_weights.renamed(tmp_path / "less.pkl", "tex_encoder", known)
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(convert_weights.ConversionError, match="os.system"):
        convert_weights.renamed(tmp_path / "evil.pkl", "tex_encoder", known)


def test_the_command_needs_a_whole_set(capsys):
    with pytest.raises(SystemExit):
        convert_weights.main(["--tex_encoder", "a.pkl", "--output", "x"])
    assert "--tex_encoder and --face_unet" in capsys.readouterr().err

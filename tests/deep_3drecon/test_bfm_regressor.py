"""The released regressor: outputs under a weight-filling rule, names of its checkpoint, and what an absent or wrong file is told."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from deep_3drecon import bfm_regressor
from deep_3drecon.assets import AssetError
from deep_3drecon.bfm_regressor import CoefficientNetwork, WeightsError, load_regressor, regress
from deep_3drecon.coeffs import BFM_LAYOUT

PARITY = Path(__file__).parents[2].parent / "shared" / "parity" / "deep3dface__recon_resnet50.json"
# What the original network returns at these places of its (2, 257) output, filled by rule A (scale 1) and by rule B (scale 1.8)
SAMPLES = [0, 36, 64, 100, 128, 164, 192, 228, 257, 293, 321, 357, 385, 421, 449, 485]
GOLDEN = {
    "A": [-8.9227845, 32.503022, -21.1291192, 33.6952485, 16.606279, -18.8093818, -22.0020852, -30.1497484]
    + [-8.9229889, 32.4869176, -21.1135597, 33.6776867, 16.5997909, -18.7948337, -21.9884895, -30.1356805],
    "B": [43.2910453, -31.1677214, 23.9095811, -0.7977418, -13.5326928, 11.1804028, 3.0094726, 19.879719]
    + [43.7211932, -31.521927, 23.5616408, -0.6620832, -13.9131987, 11.9334436, 2.5893081, 20.5012949],
}
SCALE = {"A": 1.0, "B": 1.8}
FLOAT32_TOLERANCE = {"A": 2e-4, "B": 1e-3}


def fill(shape, k, name, rule):
    """Values of tensor number k of the state dict: rule A is a sine, rule B a sine of squares, which mixes better."""
    q = np.arange(math.prod(shape), dtype=np.int64) % 9973
    wave = np.sin(0.1 * q + k) if rule == "A" else np.sin(2 * np.pi * ((q * q * (k + 1) + 13 * q) % 9973) / 9973 + k)
    if len(shape) > 1:
        return SCALE[rule] / math.sqrt(math.prod(shape[1:])) * wave.reshape(shape)
    return (1 if name.endswith((".weight", "running_var")) else 0) + 0.1 * wave


@pytest.fixture(scope="module", params=["A", "B"])
def filled(request):
    """(rule, state dict in float64, float64 output) of the network filled by a rule, for the golden input."""
    network = CoefficientNetwork().double().eval()
    state = network.state_dict()
    for k, (name, value) in enumerate(state.items()):
        if value.dtype != torch.int64:
            state[name] = torch.from_numpy(fill(value.shape, k, name, request.param))
    network.load_state_dict(state)
    with torch.no_grad():
        return request.param, state, network(golden_input()).flatten()


def golden_input():
    return torch.from_numpy(0.5 + 0.5 * np.sin(0.05 * np.arange(2 * 3 * 224 * 224) + 0.3)).reshape(2, 3, 224, 224)


@pytest.fixture(scope="module")
def released():
    """A made state dict with the released names: {name: tensor}."""
    torch.manual_seed(0)
    state = CoefficientNetwork().state_dict()
    return {k: torch.randn_like(v) * 0.01 if k.startswith("final_layers") else v for k, v in state.items()}


def test_outputs_equal_the_original(filled):
    rule, state, out = filled
    assert out[SAMPLES].tolist() == pytest.approx(GOLDEN[rule], abs=2e-7)
    network = CoefficientNetwork().eval()
    network.load_state_dict(state)
    with torch.no_grad():
        single = network(golden_input().float()).flatten()
    assert single[SAMPLES].tolist() == pytest.approx(GOLDEN[rule], abs=FLOAT32_TOLERANCE[rule])


@pytest.mark.skipif(not PARITY.is_file(), reason="../shared/parity absent")
def test_outputs_and_names_equal_the_whole_parity_file(filled):
    parity = json.loads(PARITY.read_text())
    rule, state, out = filled
    assert [(name, list(value.shape)) for name, value in state.items()] == [(n, s) for n, s, _ in parity["state_dict"]]
    wanted = parity["outputs" if rule == "A" else "rule_b_outputs"][0]
    assert out[wanted["sample_indices"]].tolist() == pytest.approx(wanted["sample_values"], abs=2e-7)
    assert out[:16].tolist() == pytest.approx(wanted["first_16"], abs=2e-7)
    statistics = [out.mean(), out.std(correction=0), out.min(), out.max()]
    assert [float(x) for x in statistics] == pytest.approx([wanted[k] for k in ("mean", "std", "min", "max")], abs=1e-6)


def test_size_and_names_are_the_released_ones():
    network = CoefficientNetwork()
    assert sum(p.numel() for p in network.parameters()) == 24_034_625
    names = list(network.state_dict())
    assert len(names) == 332 and names[0] == "backbone.conv1.weight" and names[-1] == "final_layers.6.bias"
    assert {"backbone.layer1.0.downsample.1.running_var", "backbone.layer3.5.conv3.weight"} <= set(names)
    assert bfm_regressor.HEADS[-2:] == (2, 1) and sum(bfm_regressor.HEADS) == BFM_LAYOUT.size


def test_untrained_it_gives_the_mean_face():
    with torch.no_grad():
        assert not CoefficientNetwork().eval()(torch.rand(1, 3, 224, 224)).any()


@pytest.mark.parametrize("form", ["checkpoint", "parallel", "safetensors"])
def test_weights_load_by_name_in_every_form(tmp_path, released, form):
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "epoch_20.pth")
    if form == "safetensors":
        save_file(released, path)
    elif form == "checkpoint":  # as released: the network beside the state of its training
        torch.save({"net_recon": released, "opt_00": {"state": {}, "param_groups": [{"lr": 1e-4}]}}, path)
    else:
        torch.save({"module." + name: value for name, value in released.items()}, path)
    network = load_regressor(path)
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert all(torch.equal(value, released[name]) for name, value in network.state_dict().items())


def test_batches_and_pictures_do_not_mix(tmp_path, released):
    save_file(released, tmp_path / "w.safetensors")
    network = load_regressor(tmp_path / "w.safetensors")
    crops = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    whole = regress(network, crops)
    assert whole.shape == (3, 257) and whole.dtype == np.float32 and whole.std(0).max() > 1e-5
    np.testing.assert_allclose(regress(network, crops, batch_size=2), whole, atol=1e-5)
    with torch.no_grad():
        picture = torch.from_numpy(crops[1] / np.float32(255)).permute(2, 0, 1)[None]
        np.testing.assert_allclose(network(picture)[0].numpy(), whole[1], atol=1e-5)
    assert regress(network, crops[:0]).shape == (0, 257)
    with pytest.raises(ValueError, match=r"float64 came, \(T, 224, 224, 3\) uint8"):
        regress(network, crops / 255)


def test_what_is_missing_or_too_much_is_named(tmp_path, released):
    def told(state):
        save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(WeightsError) as error:
            load_regressor(tmp_path / "w.safetensors")
        return str(error.value)

    assert "it lacks final_layers.3.bias" in told({k: v for k, v in released.items() if k != "final_layers.3.bias"})
    assert "it also has backbone.fc.weight" in told(released | {"backbone.fc.weight": torch.zeros(1)})
    wrong = told(released | {"final_layers.1.weight": torch.zeros(52, 2048, 1, 1)})
    assert "final_layers.1.weight (52, 2048, 1, 1) where (64, 2048, 1, 1) is needed" in wrong
    renamed = told({k.replace("backbone", "body"): v for k, v in released.items()})
    assert "lacks backbone.bn1.bias" in renamed and "and 314 more; it also has body.bn1.bias" in renamed


def test_an_absent_or_unreadable_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("IDIOLECT_ASSETS", str(tmp_path))
    with pytest.raises(AssetError, match=r"bfm/epoch_20.pth: missing.*github.com/sicxu/Deep3DFaceRecon_pytorch"):
        load_regressor()
    for content in (b"not weights", b""):
        (tmp_path / "epoch_20.pth").write_bytes(content)
        with pytest.raises(WeightsError, match="epoch_20.pth: could not be read as tensors by name"):
            load_regressor(tmp_path / "epoch_20.pth")
    torch.save({"net_recon": [1, 2]}, tmp_path / "epoch_20.pth")
    with pytest.raises(WeightsError, match="holds list, tensors by name"):
        load_regressor(tmp_path / "epoch_20.pth")


class Trap:
    """Unpickling it writes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_code_hidden_in_a_checkpoint_does_not_run(tmp_path):
    torch.save({"net_recon": Trap(tmp_path / "sprung")}, tmp_path / "epoch_20.pth")
    with pytest.raises(WeightsError, match="could not be read"):
        load_regressor(tmp_path / "epoch_20.pth")
    assert not (tmp_path / "sprung").exists()

"""Encoders under the names of their published checkpoints, and against values that an official network returns."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from deepspeech import WeightsError
from deepspeech.encoders import Encoder
from tests.deepspeech import made
from tests.deepspeech.test_encoders import CONFIGS, save

GOLDEN = Path(__file__).parents[2].parent / "shared" / "parity" / "talkingstyle__tiny_speech_encoder_biwi.json"
PARAMETRISED = "encoder.pos_conv_embed.conv.parametrizations.weight.original"
# architecture -> how its published checkpoints name the tensors: prefix, and what else they hold
PUBLISHED = {
    "wav2vec2": ("wav2vec2.", {"lm_head.weight": (32, 16), "lm_head.bias": (32,)}),
    "hubert": ("", {"masked_spec_embed": None}),
    "wavlm": ("", {}),
    "whisper": ("model.", {}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    return {name: save(folder, name, config) for name, config in CONFIGS.items()}


def published(name, weights):
    """The same weights under the published names."""
    prefix, others = PUBLISHED[name]
    old = {k.replace(PARAMETRISED + "0", "encoder.pos_conv_embed.conv.weight_g"): v for k, v in weights.items()}
    old = {k.replace(PARAMETRISED + "1", "encoder.pos_conv_embed.conv.weight_v"): v for k, v in old.items()}
    out = {prefix + k: v for k, v in old.items() if others.get(k, ()) is not None}
    return out | {k: torch.zeros(shape) for k, shape in others.items() if shape is not None}


def copy(folder, target, weights, as_pickle):
    target.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (target / name).write_bytes((folder / name).read_bytes())
    if as_pickle:
        torch.save(weights, target / "pytorch_model.bin")
    else:
        save_file(
            {k: v.contiguous() for k, v in weights.items()}, target / "model.safetensors", metadata={"format": "pt"}
        )
    return target


@pytest.mark.parametrize("as_pickle", [False, True], ids=["safetensors", "bin"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_load_strictly(name, as_pickle, folders, tmp_path):
    weights = published(name, load_file(folders[name] / "model.safetensors"))
    wav = made.syllables(2)[: 640 * 20]
    theirs, ours = Encoder.load(copy(folders[name], tmp_path / "x", weights, as_pickle)), Encoder.load(folders[name])
    np.testing.assert_array_equal(theirs(wav), ours(wav))
    if as_pickle:
        return
    some = next(k for k in weights if "encoder.layers.1" in k and k.endswith("final_layer_norm.bias"))
    fewer = copy(folders[name], tmp_path / "fewer", {k: v for k, v in weights.items() if k != some}, False)
    with pytest.raises(WeightsError, match=f"missing: .*{some.removeprefix(PUBLISHED[name][0])}"):
        Encoder.load(fewer)
    more = copy(folders[name], tmp_path / "more", weights | {some + "x": torch.zeros(3)}, False)
    with pytest.raises(WeightsError, match="superfluous: .*final_layer_norm.biasx"):
        Encoder.load(more)


# ------------------------------------------------------------------------------------------------ golden values


def filled(entries, rule, scale):
    """{name: tensor} of [(name, shape, dtype), ...] by the rule that the golden values were made with."""
    out = {}
    for k, (name, shape, _) in enumerate(entries):
        i = np.arange(int(np.prod(shape)), dtype=np.int64) % 9973
        wave = np.sin(0.1 * i + k)
        if rule == "B":
            wave = np.sin(2 * np.pi * ((i * i * (k + 1) + 13 * i) % 9973) / 9973 + k)
        if len(shape) > 1:
            wave = scale / np.sqrt(np.prod(shape[1:])) * wave
        else:
            wave = 0.1 * wave + (1.0 if name.endswith(".weight") else 0.0)
        out[name] = torch.from_numpy(wave.reshape(shape))
    return out


@pytest.fixture(scope="module")
def golden():
    """The file of golden values, and an encoder of the same shape with whatever weights."""
    if not GOLDEN.is_file():
        pytest.skip("golden values ../shared/parity absent")
    config = transformers.HubertConfig(
        hidden_size=1024, num_hidden_layers=2, num_attention_heads=16, intermediate_size=96, conv_dim=[24] * 7,
        num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=16, do_stable_layer_norm=True,
        feat_extract_norm="layer", conv_bias=True,
    )  # fmt: skip
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=False)
    return json.loads(GOLDEN.read_text()), Encoder(transformers.HubertModel(config), extractor, "hubert", None, "small")


@pytest.mark.parametrize("rule, kind", [("A", "float64"), ("B", "float64"), ("B", "float32")])
def test_golden_values_of_a_small_hubert(rule, kind, golden):
    """An even number of convolution frames of a sine, not normalised, through our own hook on the last layer."""
    values, encoder = golden
    prefix, dtype = "" if rule == "A" else "rule_b_", getattr(torch, kind)
    expected, tolerance = values[prefix + "outputs"][0], values[prefix + "tolerance"][f"{kind}_atol"]
    tensors = filled(values["state_dict"], rule, values[prefix + "fill"]["scale"])
    weights = {k.removeprefix("audio_encoder."): v for k, v in tensors.items() if k.startswith("audio_encoder.")}
    encoder._network.to(dtype).load_state_dict({k: v.to(dtype) for k, v in weights.items()})
    samples = np.sin(0.05 * np.arange(16000) + values["inputs"][0]["seed"])
    n_frames = expected["shape"][1]
    assert n_frames + 1 == (16000 - encoder.field) // encoder.step + 1  # an odd last frame is dropped there
    samples = samples[: (n_frames - 1) * encoder.step + encoder.field]
    encoder._network(torch.from_numpy(samples)[None].to(dtype))
    found = encoder._seen[0].double().numpy()
    assert found.shape == tuple(expected["shape"][1:])
    np.testing.assert_allclose(found.ravel()[expected["sample_indices"]], expected["sample_values"], atol=tolerance)
    np.testing.assert_allclose(found.ravel()[:16], expected["first_16"], atol=tolerance)

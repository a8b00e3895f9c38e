"""Speech encoders against transformers itself, with random weights of tiny sizes; their place in time; their windows."""

import json

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from deepspeech import WeightsError, n_feature_rows
from deepspeech import encoders as module
from deepspeech.encoders import Encoder
from tests.deepspeech import made

SMALL = dict(
    hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, conv_dim=[8] * 7,
    num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
)  # fmt: skip
STABLE = dict(do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True)
CONFIGS = {
    "wav2vec2": transformers.Wav2Vec2Config(**SMALL),
    "hubert": transformers.HubertConfig(**SMALL, **STABLE),
    "wavlm": transformers.WavLMConfig(**SMALL),
    "whisper": transformers.WhisperConfig(
        d_model=16, encoder_layers=3, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, max_source_positions=500, vocab_size=20, pad_token_id=0,
        bos_token_id=0, eos_token_id=0, decoder_start_token_id=0,
    ),
}  # fmt: skip


def save(folder, name, config, **preprocessor):
    torch.manual_seed(0)
    model = getattr(transformers, module.KINDS[config.model_type])(config)
    with torch.no_grad():  # the initial weights are so small that the layers hardly differ
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)
    model.save_pretrained(folder / name)
    if config.model_type == "whisper":
        extractor = transformers.WhisperFeatureExtractor(chunk_length=10)
    else:
        extractor = transformers.Wav2Vec2FeatureExtractor(**preprocessor)
    extractor.save_pretrained(folder / name)
    return folder / name


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders")
    return {name: save(folder, name, config, do_normalize=name != "wavlm") for name, config in CONFIGS.items()}


@pytest.fixture(scope="module")
def wav():
    return made.syllables(8)[: 640 * 90]  # 3.6 s


def transformers_layers(folder, samples):
    """All hidden states (frames, D) of transformers' own model on its own preprocessor's output."""
    model = transformers.AutoModel.from_pretrained(folder).eval()
    model = model.encoder if model.config.model_type == "whisper" else model
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folder)
    values = extractor(samples, sampling_rate=16000, return_tensors="pt")
    with torch.no_grad():
        result = model(next(iter(values.values())), output_hidden_states=True)
    return [state[0].numpy() for state in (*result.hidden_states[:-1], result.last_hidden_state)]


@pytest.mark.parametrize("name", ["wav2vec2", "hubert", "wavlm"])
def test_layers_are_those_of_transformers(name, folders, wav):
    """Its own preprocessor and model, given the sound half a field later: after 200 zeros."""
    extractor = transformers.AutoFeatureExtractor.from_pretrained(folders[name])
    assert extractor.do_normalize == (name != "wavlm")
    values = extractor(wav, sampling_rate=16000, return_tensors="np")["input_values"][0]
    values = np.concatenate([np.zeros(200, np.float32), values])[: 320 * 179 + 400]  # 180 frames
    model = transformers.AutoModel.from_pretrained(folders[name]).eval()
    with torch.no_grad():
        result = model(torch.from_numpy(values)[None], output_hidden_states=True)
    states = [state[0].numpy() for state in (*result.hidden_states[:3], result.last_hidden_state)]
    for layer in (0, 1, 2, 3):
        rows = Encoder.load(folders[name], layer)(wav)
        assert rows.shape == (n_feature_rows(len(wav)), 16) == (180, 16) and rows.dtype == np.float32
        np.testing.assert_allclose(rows, states[layer], atol=1e-4)
    assert all(np.abs(a - b).max() > 0.1 for a, b in zip(states, states[1:], strict=False))  # they can be told apart


def test_normalisation_is_the_preprocessors(wav):
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    expected = extractor(wav, sampling_rate=16000, return_tensors="np")["input_values"][0]
    np.testing.assert_allclose(module._normalise(wav), expected, atol=1e-5)


def test_whisper_is_that_of_transformers(folders, wav):
    expected = transformers_layers(folders["whisper"], wav)
    for layer in (0, 2, 3):
        rows = Encoder.load(folders["whisper"], layer)(wav)
        assert rows.shape == (n_feature_rows(len(wav)), 16)
        np.testing.assert_allclose(rows, expected[layer][: len(rows)], atol=2e-5)


@pytest.mark.parametrize("name", ["wav2vec2", "whisper"])
def test_a_click_changes_the_row_of_its_time_most(name, folders):
    """Layer 0 of wav2vec 2.0 mixes rows over its positional convolution, so the frames before it are watched."""
    quiet = np.random.default_rng(0).normal(0, 0.05, 640 * 60).astype(np.float32)
    encoder = Encoder.load(folders[name], 0)
    encoder.normalised = False
    if name == "wav2vec2":
        network = encoder._network.feature_extractor
        network.conv_layers[0].layer_norm = torch.nn.Identity()  # group normalisation spreads a click everywhere
        encoder._frames = lambda samples: network(torch.from_numpy(samples)[None])[0].T.detach().numpy()
    for row in (30, 47):
        clicked = quiet.copy()
        clicked[320 * row - 20 : 320 * row + 20] += 0.9
        change = np.abs(encoder(clicked) - encoder(quiet)).sum(1)
        heard = np.flatnonzero(change > 0.2 * change.max())
        assert heard.mean() == pytest.approx(row, abs=0.51)


def test_timing_is_stated(folders):
    about = Encoder.load(folders["hubert"], 2).about
    assert (about["kind"], about["layer"], about["layers"], about["dims"]) == ("hubert", 2, 3, 16)
    assert (about["native_hz"], about["centre_s"], about["source"]) == (50.0, 0.0125, "hubert")
    whisper = Encoder.load(folders["whisper"])
    assert (whisper.native_hz, whisper.centre_s, whisper.layer) == (50.0, 0.0, 3)


def test_windows_are_absolute(folders, monkeypatch):
    """What comes long after a block does not change it, and a block equals its own window alone."""
    monkeypatch.setattr(module, "BLOCK_ROWS", 100)
    monkeypatch.setattr(module, "CONTEXT_ROWS", 50)
    rng = np.random.default_rng(0)
    wav = rng.normal(0, 0.1, 320 * 400).astype(np.float32)
    encoder = Encoder.load(folders["wavlm"], 2)  # not normalised by the whole sound
    rows = encoder(wav)
    other = wav.copy()
    other[320 * 250 + 200 :] = rng.normal(0, 0.1, len(wav) - 320 * 250 - 200)
    np.testing.assert_array_equal(encoder(other)[:200], rows[:200])
    assert np.abs(encoder(other)[200:260] - rows[200:260]).max() > 1e-3
    model = transformers.AutoModel.from_pretrained(folders["wavlm"]).eval()
    with torch.no_grad():
        window = torch.from_numpy(wav[320 * 50 - 200 : 320 * 249 + 200])[None]
        states = model(window, output_hidden_states=True).hidden_states[2][0].numpy()
    np.testing.assert_allclose(rows[100:200], states[50:150], atol=2e-5)


def test_whispers_windows(folders):
    wav = np.random.default_rng(0).normal(0, 0.1, 320 * 800).astype(np.float32)
    encoder = Encoder.load(folders["whisper"])
    assert encoder.block_rows == 300
    rows = encoder(wav)
    assert rows.shape == (800, 16)
    alone = transformers_layers(folders["whisper"], wav[320 * 200 : 320 * 700])[3]
    np.testing.assert_allclose(rows[300:600], alone[100:400], atol=2e-5)


def test_another_step_is_interpolated_by_time(tmp_path, wav):
    """Frames every 160 samples: every other one lies on a row; every 480: rows lie between them."""
    for strides, step in (((5, 2, 2, 2, 2, 2, 1), 160), ((5, 3, 2, 2, 2, 2, 2), 480)):
        config = transformers.Wav2Vec2Config(**{**SMALL, "conv_stride": strides})
        encoder = Encoder.load(save(tmp_path, str(step), config, do_normalize=False), 1)
        assert encoder.step == step and encoder.about["native_hz"] == pytest.approx(16000 / step)
        rows = encoder(wav)
        assert len(rows) == n_feature_rows(len(wav)) == 180
        half = encoder.field // 2
        last = -(-320 * 179 // step)
        frames = encoder._frames(np.pad(wav, (half, 1000))[: step * last + encoder.field])
        assert len(frames) == last + 1
        times = (np.arange(len(frames)) * step + half) / 16000 - encoder.about["centre_s"]
        expected = [np.interp(np.arange(180) / 50, times, column) for column in frames.T]
        np.testing.assert_allclose(rows, np.stack(expected, 1), atol=1e-4)


@pytest.mark.parametrize("name", ["hubert", "whisper"])
def test_rows_come_at_the_rate_asked_for(name, folders, wav, monkeypatch):
    """25 Hz takes every other frame; at 100 Hz rows lie between frames; blocks leave no seam."""
    monkeypatch.setattr(module, "BLOCK_ROWS", 50)
    rows = Encoder.load(folders[name], 2)(wav)
    slow, fast = (Encoder.load(folders[name], 2, rate_hz=hz)(wav) for hz in (25, 100))
    assert (len(slow), len(fast)) == (90, 360)
    np.testing.assert_array_equal(slow, rows[::2])
    np.testing.assert_allclose(fast[::2], rows, atol=1e-6)
    inside = [k for k in range(179) if name == "whisper" or (k + 1) % 50]  # frames of one window
    np.testing.assert_allclose(fast[1::2][inside], (rows[:-1] + rows[1:])[inside] / 2, atol=1e-5)
    assert np.isfinite(fast).all()
    for wrong in (0, 30, 75):
        with pytest.raises(WeightsError, match=f"{wrong} rows a second"):
            Encoder.load(folders[name], rate_hz=wrong)


def test_identity_is_that_of_the_weights(folders, tmp_path):
    one = Encoder.load(folders["hubert"], 1)
    assert one.identity == Encoder.load(folders["hubert"]).identity  # of the model, not of the layer
    weights = load_file(folders["hubert"] / "model.safetensors")
    changed = copy(
        folders["hubert"], tmp_path / "b", {k: v + (k.endswith("layers.0.layer_norm.bias")) for k, v in weights.items()}
    )
    assert Encoder.load(changed, 1).identity != one.identity


def copy(folder, target, weights):
    target.mkdir()
    for name in ("config.json", "preprocessor_config.json"):
        (target / name).write_bytes((folder / name).read_bytes())
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_missing_and_strange_weights_are_named(folders, tmp_path):
    weights = load_file(folders["wav2vec2"] / "model.safetensors")
    name = "encoder.layers.1.final_layer_norm.weight"
    fewer = copy(folders["wav2vec2"], tmp_path / "fewer", {k: v for k, v in weights.items() if k != name})
    with pytest.raises(WeightsError, match=f"missing: {name}"):
        Encoder.load(fewer)
    more = copy(folders["wav2vec2"], tmp_path / "more", {**weights, "encoder.extra.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match="superfluous: encoder.extra.weight"):
        Encoder.load(more)
    head = copy(folders["wav2vec2"], tmp_path / "head", {**weights, "lm_head.weight": torch.zeros(2, 16)})
    assert Encoder.load(head).identity == Encoder.load(folders["wav2vec2"]).identity


def test_errors_say_what_to_do(folders, tmp_path):
    with pytest.raises(WeightsError, match="hf download"):
        Encoder.load(tmp_path / "absent")
    with pytest.raises(WeightsError, match="facebook/hubert-base-ls960"):
        Encoder.load("nobody/such-a-model")
    with pytest.raises(WeightsError, match="layer 4; 0 to 3"):
        Encoder.load(folders["hubert"], 4)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="preprocessor_config.json"):
        Encoder.load(tmp_path / "empty")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(WeightsError, match="type bert; these can be used: wav2vec2"):
        Encoder.load(tmp_path / "bert")

"""The network of the TalkingStyle paper: equal to the released one, and fast decoding equal to the slow."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from models.talking_style_codes import MeshStyleError
from models.talking_style_paper import PRESETS, LegacySpeech, PaperError, PaperNet, coordinates_of, legacy_losses
from models.talking_style_released import OLD_NAMES, ReleasedPaper, normalised

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"


def fill(shape, k, name, rule, scale):
    """Rules A and B of the references."""
    q = np.arange(math.prod(shape), dtype=np.int64) % 9973
    wave = np.sin(0.1 * q + k) if rule == "A" else np.sin(2 * np.pi * ((q * q * (k + 1) + 13 * q) % 9973) / 9973 + k)
    if len(shape) > 1:
        return (scale / math.sqrt(math.prod(shape[1:])) * wave).reshape(shape)
    return (1.0 if name.endswith(".weight") else 0.0) + 0.1 * wave


def made(entry, dtype):
    """An input of a reference."""
    if entry["kind"] == "one_hot":
        x = torch.zeros(entry["shape"], dtype=dtype)
        x[..., entry["index"]] = 1
        return x
    wave = np.sin(0.05 * np.arange(math.prod(entry["shape"])) + entry["seed"])
    return torch.from_numpy(entry.get("gain", 1) * wave + entry.get("offset", 0)).reshape(entry["shape"]).to(dtype)


def reference(name):
    path = PARITY / f"{name}.json"
    if not path.is_file():
        pytest.skip("numeric references ../shared/parity absent")
    return json.loads(path.read_text())


def load_filled(net, content, rule, dtype):
    names = [(name, tuple(shape)) for name, shape, _ in content["state_dict"]]
    state = net.to(dtype).state_dict()
    assert sorted((n, tuple(v.shape)) for n, v in state.items()) == sorted(names)
    scale = content["fill" if rule == "A" else "rule_b_fill"]["scale"]
    for k, (name, shape) in enumerate(names):
        if name not in content["fill"]["left_as_built"]:
            state[name] = torch.from_numpy(fill(shape, k, name, rule, scale))
    net.load_state_dict(state)
    return net.eval()


def differ(outputs, content, rule):
    """Largest difference from the listed samples, by output."""
    wanted = content["outputs" if rule == "A" else "rule_b_outputs"]
    return {
        w["name"]: float(
            (outputs[w["name"]].flatten()[w["sample_indices"]].double() - torch.tensor(w["sample_values"])).abs().max()
        )
        for w in wanted
    }


@pytest.mark.parametrize("preset", ["vocaset", "biwi"])
def test_decoder_equals_the_released_one(preset):
    content = reference(f"talkingstyle__decoder_{preset}")
    net = PaperNet(**PRESETS[preset])
    assert sum(p.numel() for p in net.parameters()) == content["parameters"]
    for rule, tolerance in (("A", "tolerance"), ("B", "rule_b_tolerance")):
        load_filled(net, content, rule, torch.float32)
        speech, template, speaker, true = (made(x, torch.float32) for x in content["inputs"])
        with torch.no_grad():
            vertices = net.predict(speech, template, speaker)
            losses = torch.stack(legacy_losses(vertices, true, [0, 1, 2, 7, 30]))
            outputs = {
                "vertices": vertices, "losses_total_all_mouth": losses, "style_vector": net.style_encoder(speaker),
            }  # fmt: skip
        assert max(differ(outputs, content, rule).values()) < content[tolerance]["float32_atol"]


@pytest.mark.parametrize("preset", ["vocaset", "biwi"])
def test_whole_network_with_a_small_speech_encoder_equals_the_released_one(preset):
    content = reference(f"talkingstyle__tiny_speech_encoder_{preset}")
    from transformers import HubertConfig, HubertModel

    config = HubertConfig(
        hidden_size=1024, num_hidden_layers=2, num_attention_heads=16, intermediate_size=96, conv_dim=[24] * 7,
        conv_bias=True, feat_extract_norm="layer", do_stable_layer_norm=True, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=16, attn_implementation="eager",
    )  # fmt: skip
    encoder = LegacySpeech(HubertModel(config), 30 if preset == "vocaset" else None)
    net = PaperNet(**{**PRESETS[preset], "n_vertices": 100}, audio_encoder=encoder)
    for rule, tolerance, bits in (("A", "tolerance", 64), ("B", "rule_b_tolerance", 32)):
        dtype = torch.float64 if bits == 64 else torch.float32
        load_filled(net, content, rule, dtype)
        sound, template, speaker = (made(x, dtype) for x in content["inputs"])
        with torch.no_grad():
            speech = net.audio_encoder(sound)
            outputs = {"speech_features": speech, "vertices": net.predict(speech, template, speaker)}
        assert max(differ(outputs, content, rule).values()) < content[tolerance][f"float{bits}_atol"]


def tiny_hubert():
    from transformers import HubertConfig, HubertModel

    torch.manual_seed(1)
    return HubertModel(
        HubertConfig(
            hidden_size=64, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16, conv_dim=[8] * 7, conv_bias=True,
            feat_extract_norm="layer", do_stable_layer_norm=True, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
            attn_implementation="eager",
        )
    )  # fmt: skip


def test_a_released_file_speaks(tmp_path):
    """A .pth with the names of old transformers, sizes read off its weights; only tensors are unpickled."""
    kind = ("open", 30.0, 1, 30)
    net = PaperNet(12, 3, 16, 30, 1, 64, LegacySpeech(tiny_hubert(), 30.0)).eval()
    torch.nn.init.normal_(net.vertice_decoder.weight)
    old = {new: name for name, new in OLD_NAMES.items()}
    state = {}
    for name, x in net.state_dict().items():
        end = next((e for e in old if name.endswith(e)), None)
        state[name if end is None else name.removesuffix(end) + old[end]] = x
    assert any(name.endswith("weight_g") for name in state)
    torch.save(state, tmp_path / "best_model.pth")
    method = ReleasedPaper.load(tmp_path / "best_model.pth", ["a", "b", "c"], kind)
    wav, template = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32), np.zeros((12, 3))
    out = np.concatenate(list(method.stream({"sound": wav}, "b", template, 30.0, chunk=10)))
    with torch.no_grad():
        speech = net.audio_encoder(torch.from_numpy(normalised(wav))[None])
        true = net.predict(speech, torch.zeros(1, 36), torch.eye(3)[1:2])
    assert out.shape == (29, 12, 3) and np.abs(out.reshape(29, -1) - true[0].numpy()).max() < 1e-4
    with pytest.raises(MeshStyleError, match="12 vertices; known are 5023, 23370"):
        ReleasedPaper.load(tmp_path / "best_model.pth")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(MeshStyleError, match="a checkpoint of TalkingStyle is needed"):
        ReleasedPaper.load(tmp_path / "other.pth")
    torch.save({"a": PaperError}, tmp_path / "evil.pth")
    with pytest.raises(MeshStyleError, match="save a state_dict alone"):
        ReleasedPaper.load(tmp_path / "evil.pth")


def small(rows_per_frame=1, dtype=torch.float64, **changes):
    torch.manual_seed(0)
    dims = {"n_vertices": 40, "n_speakers": 3, "width": 16, "period": 30, "rows_per_frame": rows_per_frame} | changes
    net = PaperNet(**dims, speech_dims=9).to(dtype).eval()
    torch.nn.init.normal_(net.vertice_decoder.weight, std=0.2)
    return net


@pytest.mark.parametrize("rows", [1, 2])
def test_fast_equals_naive_in_value_and_gradient(rows):
    net = small(rows)
    speech, template = torch.randn(2, 34 * rows, 9).double(), torch.randn(2, 120).double()
    speaker = torch.eye(3).double()[[0, 2]]
    results, gradients = [], []
    for how in ("fast", "naive"):
        net.zero_grad()
        out = net.predict(speech, template, speaker, how)
        out.square().mean().backward()
        results.append(out.detach())
        gradients.append({n: p.grad for n, p in net.named_parameters() if p.grad is not None})
    assert (results[0] - results[1]).abs().max() < 1e-12
    for name, grad in gradients[1].items():
        assert name in gradients[0] or not grad.any(), (
            name
        )  # the naive loop visits maps that one key leaves without effect
        if name in gradients[0]:
            assert torch.allclose(grad, gradients[0][name], atol=1e-10), name
    with torch.no_grad():
        assert torch.equal(
            torch.cat(list(net.stream(speech, template, speaker, 16)), 1), net.predict(speech, template, speaker)
        )


def test_history_bias_by_hand():
    bias = small().history_bias(41)
    row = bias[0, 40]
    assert row[:11].tolist() == [-0.25] * 11 and not row[11:].any() and bias[3, 40, 0] == -1 / 256
    assert torch.isinf(bias[0, 3, 4:]).all()


def test_clips_past_600_frames_run_and_start_alike():
    net = small()
    speech, template, speaker = torch.randn(1, 601, 9).double(), torch.zeros(1, 120).double(), torch.eye(3).double()[:1]
    with torch.no_grad():
        whole = net.predict(speech, template, speaker)
        first = net.predict(speech[:, :100], template, speaker, "naive")
    assert whole.shape == (1, 601, 120) and (whole[:, :100] - first).abs().max() < 1e-12
    with pytest.raises(PaperError, match="601 speech rows for 700 frames"):
        net.predict(speech, template, speaker, n_frames=700)


def test_style_attention_of_the_release_is_dead():
    """Fact 2: what the release learns of query and key has no effect; our own method has nothing of the kind."""
    net = small()
    out = net.predict(torch.randn(1, 5, 9).double(), torch.zeros(1, 120).double(), torch.eye(3).double()[:1])
    out.square().sum().backward()
    branch = net.style_encoder.attention
    assert not branch.Wq.weight.grad.any() and not branch.Wk.weight.grad.any() and branch.Wv.weight.grad.any()


def test_mouth_loss_indexes_coordinates():
    """Fact 3: vertex ids on the axis of 3 V coordinates name other vertices; `coordinates_of` names the chosen ones."""
    pred = torch.zeros(1, 2, 30, requires_grad=True)
    legacy_losses(pred, torch.ones(1, 2, 30), coordinates_of([7, 3, 7]))[2].backward()
    assert sorted({int(i) // 3 for i in pred.grad[0, 0].nonzero()[:, 0]}) == [3, 7]

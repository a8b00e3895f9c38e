"""Our mesh method: gradients reach everything, pieces equal the whole, any rate, manners that come from samples."""

import numpy as np
import pytest
import torch

from models import talking_style_losses as mesh_losses
from models import talking_style_metrics as mesh_metrics
from models.talking_style import TalkingStyle
from models.talking_style_codes import MeshStyle, MeshStyleError
from models.windows import at_positions

K, V = 4, 30
LIPS = [3, 4, 5, 11]


def make_stats():
    return {
        "features": {"phonemes": {"mean": [0.0] * 3, "std": [1.0] * 3}, "energy": {"mean": [0.0], "std": [1.0]}},
        "motion": {"mean": [0.1] * K, "std": [0.5] * K}, "basis_size": K, "n_vertices": V, "unit_mm": 100.0,
        "subjects": ["anna", "ben"], "regions": {"lips": LIPS, "face": list(range(20))}, "aperture": [[3, 11]],
        "fps": [25.0], "names": list("abcd"), "topology": "open", "about": {},
    }  # fmt: skip


def make_method(seed=0, **dims):
    torch.manual_seed(seed)
    settings = {
        "preset": "tiny",
        "dims": {"width": 16, "depth": 3, "style_width": 12} | dims,
        "augment": {"style_gain": 1.5},
    }
    method = TalkingStyle(settings, make_stats())
    method.basis.copy_(torch.randn(K, V, 3) * 0.02)
    return method


def make_batch(n=6, frames=20, seed=1):
    """Motion is the loudness of its own moment times a gain of the speaker's; samples have that gain too."""
    rng = np.random.default_rng(seed)
    rows = 2 * frames + 30
    batch = {"phonemes": rng.normal(size=(n, rows, 3)), "energy": rng.normal(size=(n, rows, 1))}
    batch["positions"] = np.tile(15 + 2.0 * np.arange(frames), (n, 1))
    gain = np.exp(rng.uniform(-1, 1, n))[:, None, None]
    sign = np.array([1.0, -1.0, 0.5, 0.8])
    batch["motion"] = gain * batch["energy"][:, 15 : 15 + 2 * frames : 2] * sign
    for prefix in ("style", "style2"):
        batch[f"{prefix}_phonemes"], batch[f"{prefix}_energy"] = (
            rng.normal(size=(n, 40, 3)),
            rng.normal(size=(n, 40, 1)),
        )
        batch[f"{prefix}_motion"] = gain * batch[f"{prefix}_energy"] * sign
    batch = {name: torch.from_numpy(x).float() for name, x in batch.items()}
    ones = {"valid": torch.ones(n, frames), "style_valid": torch.ones(n, 40), "style2_valid": torch.ones(n, 40)}
    batch |= {name: x.bool() for name, x in ones.items()}
    return batch | {"speaker": torch.arange(n) % 2, "rest_gap": torch.full((n, 1, 3), 0.01)}


def make_features(n_rows, seed=2):
    rng = np.random.default_rng(seed)
    return {
        "phonemes": rng.normal(size=(n_rows, 3)).astype(np.float32),
        "energy": rng.normal(size=(n_rows, 1)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def method():
    """A network that has learnt a little."""
    method = make_method()
    optimiser = torch.optim.Adam(method.parameters(), 1e-2)
    for step in range(60):
        torch.manual_seed(step)
        optimiser.zero_grad()
        sum(method.losses(make_batch(seed=step)).values()).backward()
        optimiser.step()
    return method.eval()


def test_every_parameter_gets_a_gradient():
    """Fact 2 of the paper's code, done right: nothing in the style's way is dead."""
    method = make_method().train()
    optimiser = torch.optim.SGD(method.parameters(), 1e-2)
    for _ in range(2):  # maps that start at zero hide what lies before them in the first step
        optimiser.zero_grad()
        sum(method.losses(make_batch(16)).values()).backward()
        optimiser.step()
    dead = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()]
    assert dead == []


def test_lip_losses_touch_the_lips_alone():
    moved = torch.zeros(1, 5, V, 3, requires_grad=True)
    true, valid = torch.randn(1, 5, V, 3), torch.ones(1, 5, dtype=torch.bool)
    for loss in (mesh_losses.vertex_distance, mesh_losses.velocity_distance):
        (grad,) = torch.autograd.grad(loss(moved + 0.1 * true, true, torch.tensor(LIPS), valid), moved)
        touched = grad.abs().sum((0, 1, 3)).nonzero()[:, 0].tolist()
        assert touched == LIPS


def test_losses_by_hand():
    true, valid = torch.zeros(1, 4, V, 3), torch.tensor([[True, True, True, False]])
    pred = true.clone()
    pred[..., 3, 0] = 2.0
    ids = torch.tensor(LIPS)
    assert mesh_losses.vertex_distance(pred, true, ids, valid).item() == pytest.approx(1.0, abs=1e-3)
    assert mesh_losses.velocity_distance(pred, true, ids, valid).item() == pytest.approx(0, abs=1e-3)
    gap = mesh_losses.opening(pred, torch.tensor([[[1.0, 0, 0]]]), torch.tensor([[3, 11]]))
    assert gap[0].tolist() == pytest.approx([3.0] * 4, abs=1e-3)
    openings = torch.tensor([[1.0, 2.0, 9.0, 0.0]])
    off = mesh_losses.closed_lips(openings + 0.5, openings, valid)
    assert off.item() == pytest.approx(0.5)  # frames 0 and 1; the open one and the one that is not valid do not count
    codes = torch.eye(4)[:3]
    assert mesh_losses.contrast(codes, codes) < 1e-3 < mesh_losses.contrast(codes, codes.roll(1, 0))


def test_a_batch_equals_its_entries(method):
    batch = make_batch()
    whole = method._prepared(batch)
    vector = method.encode(whole["style_motion"], whole["style_sound"], whole["style_valid"], whole["present"])
    out = method(whole["sound"], vector)
    for k in range(3):
        part = method._prepared({name: x[k : k + 1] for name, x in batch.items()})
        one = method.encode(part["style_motion"], part["style_sound"], part["style_valid"], part["present"])
        assert torch.allclose(method(part["sound"], one)[0], out[k], atol=1e-5)


def test_padding_of_a_sample_does_not_count(method):
    part = method._prepared(make_batch(1))
    short = part["style_motion"].clone()
    valid = torch.arange(40)[None] < 25
    short[:, 25:] = 1e3
    other = part["style_motion"].clone()
    other[:, 25:] = 0
    a, b = (method.encode(x, part["style_sound"], valid, part["present"]) for x in (short, other))
    assert torch.allclose(a, b, atol=1e-5)


def test_pieces_equal_the_whole_and_memory_is_that_of_a_piece(method):
    features, style = make_features(6000), method.identity("anna")
    whole = np.concatenate(list(method.coefficients(features, style, 25.0, chunk=10_000)))
    sizes, parts = [], []
    for part in method.coefficients(features, style, 25.0, chunk=170):
        sizes.append(len(part))
        parts.append(part)
    assert whole.shape == (3000, K) and max(sizes) == 170
    assert np.abs(np.concatenate(parts) - whole).max() < 1e-5


@pytest.mark.parametrize(("fps", "step", "of"), [(60.0, 2, 30.0), (50.0, 2, 25.0), (48.0, 2, 24.0)])
def test_frames_of_any_rate_lie_at_their_time(method, fps, step, of):
    features, style = make_features(301), method.identity(None)
    fast, slow = (np.concatenate(list(method.coefficients(features, style, r, chunk=37))) for r in (fps, of))
    n = min(len(fast[::step]), len(slow))
    assert abs(len(slow) / of - 301 / 50) <= 1 / of and np.abs(fast[::step][:n] - slow[:n]).max() < 1e-4


def test_positions_are_straight_lines():
    rows = torch.arange(10.0)[None, :, None]
    out = at_positions(rows, torch.tensor([[-1.0, 0.0, 3.25, 8.5, 20.0]]))
    assert out[0, :, 0].tolist() == [0, 0, 3.25, 8.5, 9]


def test_style_changes_the_motion_and_only_the_style_does(method):
    features, rng = make_features(300), np.random.default_rng(0)
    sample = rng.normal(size=(100, K)).astype(np.float32)
    calm, lively = method.style_of(0.3 * sample, 25.0), method.style_of(2.0 * sample, 25.0)
    out = [np.concatenate(list(method.coefficients(features, s, 25.0))) for s in (calm, lively, calm)]
    assert np.array_equal(out[0], out[2]) and out[1].std(0).mean() > 1.5 * out[0].std(0).mean()
    spread = []
    for t in (0, 0.25, 0.5, 0.75, 1):
        style = MeshStyle.blend([calm, lively], [1 - t, t])
        spread.append(np.concatenate(list(method.coefficients(features, style, 25.0))).std())
    assert np.all(np.diff(spread) > 0)


def test_a_sample_may_come_at_any_rate(method):
    time = np.arange(0, 8, 1 / 100)
    curve = np.stack([np.sin(2 * np.pi * 1.3 * time + k) for k in range(K)], 1).astype(np.float32)
    vectors = [method.style_of(curve[:: 100 // f], float(f)).vector for f in (25, 50, 100)]
    assert np.abs(vectors[0] - vectors[1]).max() < 0.1 and np.abs(vectors[1] - vectors[2]).max() < 0.1
    with pytest.raises(MeshStyleError, match=r"a sample \(9, 4\)"):
        method.style_of(curve[:9], 25.0)


def test_a_fit_comes_nearer_than_the_sample(method):
    features = make_features(200)
    other = method.identity("ben")
    other.vector = other.vector + np.random.default_rng(3).normal(0, 0.5, len(other.vector)).astype(np.float32)
    true = np.concatenate(list(method.coefficients(features, other, 25.0)))
    error = {}
    for name, style in (("sample", method.style_of(true, 25.0, features)), ("fit", method.fit(true, 25.0, features))):
        error[name] = np.abs(np.concatenate(list(method.coefficients(features, style, 25.0))) - true).mean()
    assert error["fit"] < 0.7 * error["sample"]
    assert all(p.requires_grad and p.grad is None for p in method.parameters())


def test_styles_are_saved_and_others_refused(method, tmp_path):
    style = method.identity("anna")
    style.save(tmp_path / "a.style.json")
    back = MeshStyle.load(tmp_path / "a.style.json")
    assert np.allclose(back.vector, style.vector, atol=1e-6) and back.origin == "identity"
    back.basis = "another"
    with pytest.raises(MeshStyleError, match="another network"):
        next(method.coefficients(make_features(50), back, 25.0))
    with pytest.raises(MeshStyleError, match="no training subject 'carl', there is anna, ben"):
        method.identity("carl")
    with pytest.raises(MeshStyleError, match="no mesh style"):
        MeshStyle.load(tmp_path / "none.json")


def test_coefficients_of_vertices(method):
    rng = np.random.default_rng(0)
    wanted, template = rng.normal(size=(7, K)).astype(np.float32), rng.normal(size=(V, 3)).astype(np.float32)
    vertices = template + np.tensordot(wanted, method.basis.numpy(), 1)
    assert np.abs(method.coefficients_of(vertices, template) - wanted).max() < 1e-2


def test_without_an_encoder_everybody_is_the_pivot():
    method = make_method(encoder=0, table=0).eval()
    assert np.array_equal(method.style_of(np.ones((50, K)), 25.0).vector, method.identity(None).vector)
    losses = method.train().losses(make_batch())
    assert losses["contrast"].item() == 0


def made_pair(seed=0, n=12):
    rng = np.random.default_rng(seed)
    template = rng.normal(size=(V, 3)).astype(np.float32)
    true = template + rng.normal(0, 0.1, (n, V, 3)).astype(np.float32)
    return true + rng.normal(0, 0.05, true.shape).astype(np.float32), true, template


def test_lve_equals_torchmetrics_and_fdd_has_a_sign():
    from torchmetrics.multimodal import LipVertexError

    pred, true, template = made_pair()
    row = mesh_metrics.clip_metrics(pred, true, template, np.array(LIPS), np.arange(15, 25), 1000.0, 25.0)
    oracle = LipVertexError(mouth_map=LIPS)(torch.from_numpy(pred), torch.from_numpy(true)).item()
    paper = mesh_metrics.pooled([row], "codetalker", 1000.0)
    assert paper["lve"] == pytest.approx(oracle, rel=1e-5) and paper["lve_root_mm"] == pytest.approx(
        1000 * oracle**0.5, rel=1e-5
    )
    square = [((x[:, 15:25] - template[15:25]) ** 2).sum(-1).std(0) for x in (true, pred)]
    assert row["fdd_signed_unit2"] == pytest.approx((square[0] - square[1]).mean(), rel=1e-4)
    still = mesh_metrics.clip_metrics(
        np.repeat(template[None], 12, 0), true, template, np.array(LIPS), np.arange(15, 25), 1000.0, 25.0
    )
    assert still["fdd_signed_mm"] == still["fdd_absolute_mm"] > 0 > -row["fdd_absolute_mm"]


def test_protocols_pool_differently():
    rows = [
        {"frames": 1, "lve_mm": 4.0, "lve_sum": 0.004, "lve_squared_sum": 16e-6, "fdd_signed_unit2": 2.0, "fdd_absolute_mm": 1.0},
        {"frames": 3, "lve_mm": 2.0, "lve_sum": 0.006, "lve_squared_sum": 12e-6, "fdd_signed_unit2": -2.0, "fdd_absolute_mm": 1.0},
    ]  # fmt: skip
    found = {p: mesh_metrics.pooled(rows, p, 1000.0) for p in mesh_metrics.PROTOCOLS}
    assert found["ours"]["lve"] == 3.0 and found["imitator"]["lve"] == pytest.approx(2.5)
    assert found["codetalker"]["lve"] == pytest.approx(7e-6) and found["unitalker"]["lve"] == pytest.approx(10e-6)
    assert found["codetalker"]["fdd"] == 0 and found["ours"]["fdd"] == 1
    with pytest.raises(mesh_metrics.ProtocolError, match="there is ours, codetalker"):
        mesh_metrics.pooled(rows, "best", 1000.0)


def test_diversity_and_style_of_a_motion():
    _, true, _ = made_pair()
    shifted = true + np.array([0, 0.5, 0], np.float32)
    assert mesh_metrics.diversity([true, shifted]) == pytest.approx(0.5, rel=1e-4)
    code = mesh_metrics.motion_style(np.array([[0.0], [1.0], [0.0], [1.0]]), 50.0)
    assert code[:2].tolist() == [0.5, 0.5] and code[2] == pytest.approx(2 * np.std([1, -1, 1]))

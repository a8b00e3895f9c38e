"""A small world to learn: a face of 80 vertices, and speech whose lips are a known filter of the sound times a
speaker's gain.
"""

from types import SimpleNamespace

import numpy as np
import torch

from deep_3drecon.bake_open_head import EXPRESSIONS
from deep_3drecon.coeffs import OPEN_LAYOUT
from deep_3drecon.face_model import FaceModel
from deep_3drecon.track import style_statistics
from models.style import STYLE_PARTS

JAW, BROW = EXPRESSIONS.index("jawOpen"), EXPRESSIONS.index("browInnerUp")
LIDS = [EXPRESSIONS.index("eyeBlinkLeft"), EXPRESSIONS.index("eyeBlinkRight")]
FEATURES = {"phonemes": 40, "mel": 40, "energy": 1}
N_SOURCES = 4


def toy_face():
    """Open-head layout on 80 random vertices; jawOpen lowers the lower inner lip by 20 mm."""
    rng = np.random.default_rng(5)
    mean = rng.normal(0, 0.3, (80, 3)).astype(np.float32)
    exp_basis = rng.normal(0, 0.01, (80, 3, 52)).astype(np.float32)
    upper, lower = [60, 61, 62], [70, 71, 72]
    mean[upper] = mean[lower] = [[-0.1, -0.4, 0.3], [0, -0.4, 0.3], [0.1, -0.4, 0.3]]
    mean[upper, 1] += 0.02
    exp_basis[upper] = exp_basis[lower] = 0
    exp_basis[lower, 1, JAW] = -0.2
    ids, weights = np.tile(np.arange(3), (478, 1)), torch.eye(3)[[0] * 478]
    for landmark, vertex in zip((82, 13, 312, 87, 14, 317), upper + lower, strict=True):
        ids[landmark, 0] = vertex
    return FaceModel(
        name="open",
        hash="toy",
        layout=OPEN_LAYOUT,
        expression_names=EXPRESSIONS,
        mean=torch.from_numpy(mean),
        id_basis=torch.zeros(80, 3, 80),
        exp_basis=torch.from_numpy(exp_basis),
        triangles=np.zeros((1, 3), np.int32),
        uv=np.zeros((80, 2), np.float32),
        weld=np.arange(80),
        mirror=np.arange(80),
        regions={"face": np.arange(80), "lips": np.arange(60, 80)},
        landmark_ids=ids,
        landmark_weights=weights,
    )


def smooth_noise(rng, n, width):
    """(n,) noise of unit spread, smoothed over about `width` steps."""
    kernel = np.hanning(2 * width + 1)
    return np.convolve(rng.normal(size=n + 2 * width), kernel / np.sqrt((kernel**2).sum()), "valid")


def toy_clip(seed, gain=1.0, n_frames=75):
    """One clip: features at 50 Hz, motion at 25 fps, raw style. Speakers differ by `gain` on every expression."""
    rng, world = np.random.default_rng([1, seed]), np.random.default_rng(2)
    source = np.stack([smooth_noise(rng, 2 * n_frames + 20, 3) for _ in range(N_SOURCES)], 1)
    mixing = {name: world.normal(size=(N_SOURCES, n)) for name, n in FEATURES.items()}
    rows = source[10:-10]
    logits = rows @ mixing["phonemes"]
    features = {
        "phonemes": np.exp(logits) / np.exp(logits).sum(1, keepdims=True),
        "mel": rows @ mixing["mel"] + 0.1 * rng.normal(size=(2 * n_frames, 40)),
        "energy": np.abs(rows @ mixing["energy"]),
    }
    taps = world.normal(size=(9, N_SOURCES, 52)) / 6  # 0.18 s around each frame
    windows = np.stack([source[6 + k : 6 + k + 2 * n_frames : 2] for k in range(9)], 1)
    exp = 0.4 + 0.12 * gain * np.einsum("tks,kse->te", windows, taps)
    pose = 0.05 * np.stack([smooth_noise(rng, n_frames, 8) for _ in range(6)], 1)
    clip = {name: x.astype(np.float32) for name, x in features.items()}
    clip |= {
        "exp": exp.astype(np.float32),
        "angle": pose[:, :3].astype(np.float32),
        "trans": pose[:, 3:].astype(np.float32),
    }
    clip["statistics"] = style_statistics(clip["exp"], clip["angle"], clip["trans"], 25)
    clip["style"] = np.concatenate([clip["statistics"][name] for name in STYLE_PARTS])
    return clip


def toy_stats(clips):
    """What data_process.stats would say of these clips."""

    def moments(rows):
        rows = np.concatenate(rows)
        return {"mean": rows.mean(0).tolist(), "std": rows.std(0).tolist()}

    return {
        "face_model": "open",
        "face_model_hash": "toy",
        "fps": 25,
        "n_clips": len(clips),
        "n_frames": sum(len(c["exp"]) for c in clips),
        "features": {name: moments([c[name] for c in clips]) for name in FEATURES},
        "exp": moments([c["exp"] for c in clips]),
        "pose": moments(
            [np.concatenate([c["angle"], c["trans"]], 1) - np.r_[c["angle"].mean(0), c["trans"].mean(0)] for c in clips]
        ),
        "style": {"parts": {n: len(clips[0]["statistics"][n]) for n in STYLE_PARTS}}
        | moments([c["style"][None] for c in clips]),
    }


def toy_batch(clips, context):
    """Whole clips as one batch; edges repeated over the context."""
    rows = {
        name: np.stack([np.pad(c[name], ((2 * context, 2 * context), (0, 0)), "edge") for c in clips])
        for name in FEATURES
    }
    rest = {name: np.stack([c[name] for c in clips]) for name in ("exp", "angle", "trans", "style")}
    batch = {name: torch.from_numpy(x) for name, x in (rows | rest).items()}
    n, t = batch["exp"].shape[:2]
    return batch | {"id": torch.zeros(n, 80), "valid": torch.ones(n, t, dtype=torch.bool)}


def settings(preset="tiny", **more):
    """Settings of a small network."""
    dims = (
        {"width": 16, "style_width": 16, "head_width": 16}
        if preset == "paper"
        else {"width": 32, "depth": 2, "style_width": 16}
    )
    return {"preset": preset, "dims": dims, "pose": True, "augment": {}} | more


def toy_world(gains=(0.7, 1.0, 1.4), n=24):
    """Clips of speakers with these gains, their statistics and the face."""
    clips = [toy_clip(i, gains[i % len(gains)]) for i in range(n)]
    return SimpleNamespace(clips=clips, stats=toy_stats(clips), face=toy_face())

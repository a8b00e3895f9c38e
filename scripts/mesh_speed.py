"""How fast the mesh line is on this machine: decoding of the published network slow and fast, ours, and pictures.

    python -m scripts.mesh_speed                    # VOCASET's sizes, 5 and 20 s
    python -m scripts.mesh_speed --no_naive         # without the slow loop, which takes 20 s for 20 s of speech

Speech encoders are left out: features come ready. One thread.
"""

import argparse
import resource
import sys
import time

import numpy as np
import torch

from deep_3drecon.topology import load_topology
from deep_3drecon.topology_film import MeshFilm
from deep_3drecon.topology_shown import show
from models.talking_style import TalkingStyle
from models.talking_style_paper import PRESETS, PaperNet


def timed(function, repeats=3):
    """(result, least seconds)."""
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        best = min(best, time.perf_counter() - start)
    return result, best


def published(seconds, naive=True):
    """One line: fast and naive decoding of the VOCASET preset."""
    shape = PRESETS["vocaset"]
    torch.manual_seed(0)
    net = PaperNet(**shape).eval()
    torch.nn.init.normal_(net.vertice_decoder.weight, std=0.01)
    n_frames = 30 * seconds
    speech, template = torch.randn(1, n_frames, 1024), torch.randn(1, 3 * shape["n_vertices"]) * 0.1
    speaker = torch.eye(shape["n_speakers"])[:1]
    with torch.no_grad():
        fast, t_fast = timed(lambda: net.predict(speech, template, speaker))
        line = f"published, VOCASET, {seconds} s ({n_frames} frames): fast {t_fast:.3f} s"
        if naive:
            slow, t_slow = timed(lambda: net.predict(speech, template, speaker, "naive"), 1)
            line += f", naive {t_slow:.2f} s, {t_slow / t_fast:.0f} times, largest difference {(fast - slow).abs().max():.1e}"
    return line


def ours(seconds):
    """One line: our network with VOCASET's mesh, vertices piece by piece."""
    rng, n = np.random.default_rng(0), 5023
    stats = {
        "features": {name: {"mean": [0.0] * d, "std": [1.0] * d} for name, d in (("phonemes", 40), ("mel", 40), ("energy", 1))},
        "motion": {"mean": [0.0] * 64, "std": [1.0] * 64}, "basis_size": 64, "n_vertices": n, "unit_mm": 1000.0,
        "subjects": ["a"], "regions": {}, "aperture": None,
    }  # fmt: skip
    method = TalkingStyle({"preset": "ours"}, stats)
    method.basis.copy_(torch.randn(64, n, 3) * 1e-3)
    features = {
        name: rng.normal(size=(50 * seconds, len(f["mean"]))).astype(np.float32)
        for name, f in stats["features"].items()
    }
    style, template = method.identity(None), rng.normal(size=(n, 3)).astype(np.float32)

    def run():
        return sum(len(piece) for piece in method.stream(features, style, template, 30.0, chunk=300))

    run()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_frames, best = timed(run, 1 if seconds > 60 else 3)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return f"ours, VOCASET, {seconds} s ({n_frames} frames): {best:.3f} s; peak memory {before / 1024:.0f} MB, {grown:+.0f} MB"


def pictures(size):
    """One line: our head drawn."""
    topology = load_topology("open")
    from deep_3drecon.face_model import load_face_model

    template = load_face_model("open").mean.numpy()
    film = MeshFilm(show(topology), template, size)
    film.frame(template)
    _, best = timed(lambda: [film.frame(template) for _ in range(10)])
    return f"pictures of {topology.n_vertices} vertices, {size} x {size}: {100 * best:.1f} ms a frame"


def main(argv=None):
    """Print the lines."""
    p = argparse.ArgumentParser(prog="python -m scripts.mesh_speed", description="Speed of the mesh line.")
    p.add_argument("--no_naive", action="store_true", help="leave out the slow loop")
    args = p.parse_args(argv)
    torch.set_num_threads(1)
    for line in (
        lambda: published(5, not args.no_naive), lambda: published(20, not args.no_naive), lambda: ours(20), lambda: ours(180),
        lambda: ours(600), lambda: pictures(512), lambda: pictures(800),
    ):  # fmt: skip
        print(line(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

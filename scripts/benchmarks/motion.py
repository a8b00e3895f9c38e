"""Stages of the method style_avatar: sound features to motion."""

import torch

import deepspeech
from deep_3drecon.track import FPS
from models import checkpoint, windows
from models.style import Style
from models.style_avatar import StyleAvatar
from models.style_fusion import PAPER_STRIDE, PAPER_WINDOW
from scripts.benchmarks import material
from scripts.benchmarks.case import Case, Missing

REPEATED = 6  # the demo speech this many times over: 57 s


def long_features():
    """Features of the demo speech, repeated: {name: (A, C)}, and the number of motion frames."""
    rows = deepspeech.features(deepspeech.load_audio(material.SPEECH))
    rows = {name: torch.from_numpy(value).repeat(REPEATED, 1).numpy() for name, value in rows.items()}
    return rows, len(rows["mel"]) // windows.ROWS_PER_FRAME


def generate_tiny(folder):
    rows, n_frames = long_features()
    method, style = checkpoint.load(material.CHECKPOINT), Style.load(material.STYLE)
    method.generate(rows, style, n_frames=2)
    return Case(
        lambda: method.generate(rows, style),
        lambda: method.generate(rows, style, chunk=PAPER_WINDOW),
        n=n_frames,
        seconds=n_frames / FPS,
    )


def generate_cuda(folder):
    if not torch.cuda.is_available():
        raise Missing("no CUDA device that torch can use")
    rows, n_frames = long_features()
    style = Style.load(material.STYLE)
    on_gpu, on_cpu = (checkpoint.load(material.CHECKPOINT, device) for device in ("cuda", "cpu"))
    return Case(
        lambda: on_gpu.generate(rows, style),
        lambda: on_cpu.generate(rows, style),
        n=n_frames,
        seconds=n_frames / FPS,
    )


def generate_paper(folder):
    """The paper's preset untrained, its overlapping windows 64 at a time and one at a time."""
    rows, n_frames = long_features()
    stats = checkpoint.read(material.CHECKPOINT)["stats"]
    torch.manual_seed(0)
    method = StyleAvatar({"preset": "paper", "pose": False}, stats).eval()
    parts = {name: torch.as_tensor(value)[None] for name, value in Style.load(material.STYLE).parts.items()}
    rows = {name: torch.from_numpy(value) for name, value in rows.items()}

    @torch.no_grad()
    def network(piece):
        n = len(next(iter(piece.values())))
        return method(method.normalised(piece), {name: v.expand(n, -1) for name, v in parts.items()})

    def run(batch, n):
        return windows.in_windows(
            network, rows, n, method.context_frames, window=PAPER_WINDOW, stride=PAPER_STRIDE, batch=batch
        )

    run(1, PAPER_WINDOW)
    short = n_frames // REPEATED
    return Case(lambda: run(64, n_frames), lambda: run(1, short), n_frames, short, seconds=n_frames / FPS)

"""The whole chain: a sound file in, an mp4 with sound out, as `inference.py` does it once program and portrait or person are loaded; and
a stream: sound that arrives while it is spoken, frames out.
"""

import time

import numpy as np
import torch

import deepspeech
from deep_3drecon.track import FPS
from models import RENDERERS, checkpoint, find, mark
from models.neural_texture import NeuralTexture
from models.onnx_backend import missing_packages
from models.style import Style
from scripts.benchmarks import material
from scripts.benchmarks.case import Case, Missing
from scripts.inference.draw import PortraitDrawer
from scripts.inference.encode import AHEAD, encode
from scripts.inference.person import PersonDrawer
from scripts.inference.stream import Head, TalkStream, calibrate, talk

PIECE_S = 0.04  # of sound, as a microphone gives it


class Chain:
    """Sound file -> video, with a drawer that is made anew for each run: drawer(n_ahead). times: as in `Case`."""

    def __init__(self, folder, drawer):
        self.path, self.drawer, self.times = folder / "chain.mp4", drawer, {}
        self.method, self.style = checkpoint.load(material.CHECKPOINT), Style.load(material.STYLE)
        wav = deepspeech.load_audio(material.SPEECH)
        deepspeech.features(wav[:640])
        self.n_frames = deepspeech.n_motion_frames(len(wav))

    def run(self, n_ahead):
        """n_ahead: frames that may wait between two stages; 0: all in turn."""
        clock, spent = [time.perf_counter()], time.process_time()
        wav = deepspeech.load_audio(material.SPEECH)
        rows = deepspeech.features(wav, threads=2 if n_ahead else 1)
        motion = self.method.generate(rows, self.style, self.n_frames)
        drawer = self.drawer(n_ahead)
        if hasattr(drawer, "plan"):
            drawer.plan(motion)
        encode(
            [self.path], drawer.draw(motion), self.n_frames, wav, mark.stamp,
            lambda: clock.append(time.perf_counter()), n_ahead,
        )  # fmt: skip
        if n_ahead:
            gaps = np.diff(clock)
            found = {
                "first_p50_ms": gaps[0],
                "gap_p50_ms": np.median(gaps[1:]),
                "gap_p95_ms": np.percentile(gaps[1:], 95),
            }
            found["cpu_p50_ms"] = (time.process_time() - spent) / self.n_frames
            for name, value in found.items():
                self.times.setdefault(name, []).append(value)

    def case(self, reference=None):
        """reference: another Chain to measure against; None: this one, all in turn."""
        against = (lambda: self.run(0)) if reference is None else (lambda: reference.run(AHEAD))
        return Case(lambda: self.run(AHEAD), against, n=self.n_frames, seconds=self.n_frames / FPS, times=self.times)


def portrait_case(folder, full):
    image, track = material.portrait(folder)
    renderer = find(RENDERERS, "mesh")()

    def drawer(n_ahead):
        return PortraitDrawer(renderer, {"": renderer.prepare(image, track, size=256, full=full)})

    return Chain(folder, drawer).case()


def crop(folder):
    return portrait_case(folder, full=False)


def full(folder):
    return portrait_case(folder, full=True)


def neural_chain(folder, size, backend="torch"):
    """The face crop of a person, by an untrained network of preset fast: the same work as a trained one."""
    person = material.person(folder)
    torch.manual_seed(0)
    about = {
        "face_model": person.model.name,
        "face_model_hash": person.model.hash,
        "size": size,
        "n_people": 1,
        "heads": 1.5,
    }
    renderer = NeuralTexture({"preset": "fast", "dims": {}}, about).eval()
    return Chain(folder, PersonDrawer(person, renderer, {"": False}, backend).again)


def neural_256(folder):
    return neural_chain(folder, 256).case()


def neural_512(folder):
    return neural_chain(folder, 512).case()


def neural_256_onnx(folder):
    if missing := missing_packages():
        raise Missing(f"not installed: {', '.join(missing)}")
    return neural_chain(folder, 256, "onnx").case(neural_chain(folder, 256))


def stream_256(folder):
    """Frames of sound that arrives in pieces, against those of the whole sound.

    delay: from a frame's own time to its picture, were the sound spoken now: a piece is there when it has been said, and waits until
    the pieces before it are done.
    """
    person = material.person(folder)
    chain = neural_chain(folder, 256)
    method, style, wav = chain.method, chain.style, deepspeech.load_audio(material.SPEECH)
    head = Head(person.track)
    calibration = calibrate(method, style, chain.drawer(), wav)
    n, times = round(PIECE_S * deepspeech.SAMPLE_RATE), {}

    def run():
        stream = TalkStream(method, style, chain.drawer(), calibration, head=head)
        now, delays = 0.0, []
        for start in range(0, len(wav) + n, n):
            said = start < len(wav)
            now = max(now, min(start + n, len(wav)) / deepspeech.SAMPLE_RATE)
            began = time.perf_counter()
            for _ in stream.push(wav[start : start + n]) if said else stream.close():
                delays.append(now + time.perf_counter() - began - len(delays) / FPS)
            now += time.perf_counter() - began
        for name, share in (("delay_p50_ms", 50), ("delay_p95_ms", 95)):
            times.setdefault(name, []).append(np.percentile(delays, share))

    def whole():
        for _ in talk(wav, method, style, chain.drawer(), calibration, head=head):
            pass

    return Case(run, whole, n=chain.n_frames, seconds=chain.n_frames / FPS, times=times)

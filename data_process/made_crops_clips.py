"""Short clips of made people as the landmark fit sees them, with their truth: what `deep_3drecon.clip_regressor` learns from.

Every third frame of a film in which a person speaks, exercises the mouth and turns the head; in half of them a worse camera than
that of the films. Everything follows from number and seed; seed 0 is kept for the people that reports judge by.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from data_process.face_tracks import landmarker
from data_process.landmarks import NoFaceError
from data_process.made_clips import make_track
from data_process.made_faces import PAIRED, SINGLE, add_bumps, harden
from data_process.made_speakers import ID_MODES
from data_process.made_turns import draw_motion
from data_process.upper_face import smooth_noise
from deep_3drecon.clip_views import cut
from deep_3drecon.face_model import load_face_model
from deep_3drecon.fit import FitError, fit_clip
from deep_3drecon.landmark_bias import bias, noise
from deep_3drecon.made_film import Actor
from deep_3drecon.made_skin import made_look
from deep_3drecon.made_stage import draw_stage
from deep_3drecon.track import FPS, FaceTrack

N_FRAMES, EVERY = 100, 3
MOUTHS = [name for name in (*SINGLE, *PAIRED) if name.startswith(("mouth", "jaw", "cheekPuff", "noseSneer"))]


@dataclass
class CropClip:
    """crops (K, 224, 224, 3) and mouths (K, 240, 288, 3) uint8: what `clip_views.cut` makes of the frames by the crops of the fit;
    fit: FaceTrack of K frames; truth: FaceTrack of the same."""

    crops: np.ndarray
    mouths: np.ndarray
    fit: FaceTrack
    truth: FaceTrack

    def save(self, stem):
        """Four files beside each other, the crops last."""
        stem = Path(stem)
        self.fit.save(stem.with_suffix(".fit.npz"))
        self.truth.save(stem.with_suffix(".truth.npz"))
        for pictures, suffix in ((self.mouths, ".mouth.npy"), (self.crops, ".npy")):
            with open(stem.with_suffix(".part"), "wb") as file:
                np.save(file, pictures)
            stem.with_suffix(".part").replace(stem.with_suffix(suffix))

    @classmethod
    def load(cls, stem):
        """Crops stay on the disk until they are looked at."""
        stem = Path(stem)
        tracks = (FaceTrack.load(stem.with_suffix(f".{name}.npz")) for name in ("fit", "truth"))
        return cls(*(np.load(stem.with_suffix(suffix), mmap_mode="r") for suffix in (".npy", ".mouth.npy")), *tracks)


def make_crop_clip(number, seed=1, size=256, pace=8.0):
    """`CropClip` of person `number`, or None where the landmarker finds no face in most frames. Seed 0 is not to be learnt from.

    size: pixels along a side of the film, even. pace: of single channels of the mouth; at 8 each frame shows another mouth, from which more
    is learnt than from slow ones.
    """
    if seed == 0:
        raise ValueError("seed 0 makes the people whom reports judge by: train on another")
    rng, face = np.random.default_rng((seed, 30, number)), load_face_model("open")
    speaker, motion = draw_motion(number, N_FRAMES, seed, rng.uniform(0, 1.5), rng.uniform(0.4, 1.15), pace)
    if rng.random() < 0.5:
        exercise_more(motion["exp"], face, rng, pace)
    identity = speaker.identity * np.float32(rng.uniform(0.8, 1.3))
    start = int(rng.integers(EVERY))
    motion = {name: value[start : N_FRAMES - EVERY + 1 + start : EVERY] for name, value in motion.items()}
    bumpy, more = add_bumps(face, rng) if rng.random() < 0.3 else (face, np.zeros(ID_MODES, np.float32))
    stage = draw_stage(rng, size)
    if rng.random() < 0.5:
        stage = replace(stage, light=harden(stage.light, rng))
    actor = Actor(bumpy, identity, draw_look(rng), size, stage)
    truth = make_track(motion, identity, bumpy, stage, size)
    frames = np.stack(list(actor.frames(**motion)))
    if rng.random() < 0.5:
        frames = worse_camera(frames, rng)
    try:
        found = landmarker().track(frames)
        fitted = fit_clip(found.points[..., :2], found.scores, found.valid, found.frame_size, FPS / EVERY, face,
                          bias=bias, noise=noise())  # fmt: skip
    except (NoFaceError, FitError):
        return None
    if found.valid.mean() < 0.8:
        return None
    truth.parts()["id"][:] += more
    cuts = zip(*(cut(*pair) for pair in zip(frames, fitted.crop, strict=True)), strict=True)
    return CropClip(*(np.stack(pictures) for pictures in cuts), fitted, truth)


def exercise_more(exp, face, rng, pace=1.0):
    """Movements of a few more mouth channels, each side for itself to some degree, added to exp (T, 52) in place."""
    for stem in rng.choice(MOUTHS, rng.integers(1, 6), replace=False):
        curve = (
            rng.uniform(0.1, 0.5) * smooth_noise(len(exp), 1, pace * rng.uniform(0.3, 1.2), rng)[:, 0].clip(0, 2) / 1.5
        )
        for side in ("Left", "Right") if stem + "Left" in face.expression_names and stem in PAIRED else ("",):
            exp[:, face.index(stem + side)] += curve * rng.uniform(0.5, 1.0)
    exp.clip(0, 1, out=exp)


def draw_look(rng):
    """Skin, hair and beard of `made_look`; often lips in another colour, from that of the skin to paint."""
    look = made_look(int(rng.integers(2**31)))
    if rng.random() < 0.5:
        other = rng.choice([[170, 60, 70], [120, 40, 50], [200, 120, 120], [90, 55, 50]]) + rng.normal(0, 15, 3)
        share = rng.uniform(0, 0.7)
        lips = (1 - share) * np.array(look.lips) + share * other
        look = replace(look, lips=tuple(float(c) for c in lips.clip(10, 250)))
    return look


def worse_camera(frames, rng):
    """Frames (T, S, S, 3) uint8 as a poorer camera and its codec leave them: fewer pixels, blur, tone, noise, JPEG."""
    size = frames.shape[1]
    small = int(size * rng.uniform(0.45, 1.0)) if rng.random() < 0.5 else size
    sigma = rng.uniform(0.4, 1.6) if rng.random() < 0.4 else 0.0
    tone, gain = np.exp(rng.normal(0, 0.25)), np.exp(rng.normal(0, 0.15, 3) * [1, 0.3, 1] + rng.normal(0, 0.1))
    grain, quality = abs(rng.normal(0, 4)), int(rng.uniform(20, 90)) if rng.random() < 0.6 else 0
    curve = (255 * (np.arange(256) / 255)[:, None] ** tone * gain).clip(0, 255).astype(np.uint8)  # (256, 3)
    out = np.empty_like(frames)
    for t, frame in enumerate(frames):
        if sigma:
            frame = cv2.GaussianBlur(frame, (0, 0), sigma)
        if small < size:
            frame = cv2.resize(frame, (small, small), interpolation=cv2.INTER_AREA)
        frame = np.stack([curve[frame[..., c], c] for c in range(3)], -1)
        noisy = frame + grain * rng.standard_normal(frame.shape, np.float32)
        frame = noisy.clip(0, 255).astype(np.uint8)
        if quality:
            frame = cv2.imdecode(cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        out[t] = cv2.resize(frame, (size, size), interpolation=cv2.INTER_CUBIC)
    return out

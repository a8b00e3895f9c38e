"""Talking while the sound arrives: pieces of sound in, frames out, equal to those of the whole sound.

    calibration = calibrate(method, style, drawer, load_audio("any_speech.wav"))
    stream = TalkStream(method, style, drawer, calibration)
    for piece in microphone:                # (n,) float32, 16 kHz
        for views in stream.push(piece):    # a tuple of pictures for every frame that became certain
            show(views[0])
    rest = stream.close()

`talk(wav, ...)` is the same at once. What inference.py measures on the whole sound, how far mouth and head move and what the
face looks like at rest, a stream takes from a calibration on other speech; with equal calibrations the frames are equal,
whatever the pieces.
"""

from dataclasses import dataclass

import numpy as np

import deepspeech
from deep_3drecon.track import FPS
from models.amplitude import Amplitude
from models.background import ping_pong
from models.motion_stream import CHUNK, MotionStream
from scripts.inference.motion import POSE_PARTS, reference_pose


@dataclass
class Calibration:
    """Measured on speech once: amplitude of the motion, and what the drawer counts motion from."""

    amplitude: Amplitude
    rest: object


def calibrate(method, style, drawer, wav, grid=deepspeech.LIVE):
    """`Calibration` of a style and a drawer on some seconds of speech, 16 kHz."""
    rows = deepspeech.features(wav, grid=grid)
    raw = method.raw_motion(rows, style, chunk=CHUNK)
    amplitude = method.amplitude(raw, style)
    motion = method.generate(rows, style, blinks=False, chunk=CHUNK, amplitude=amplitude)
    return Calibration(amplitude, drawer.rest(motion))


class Head:
    """The head's motion of a stream: what the method hears (track None), that of a FaceTrack back and forth, or none (scale 0)."""

    def __init__(self, track=None, scale=1.0):
        self.scale = np.float32(scale)
        self.pose = None if track is None else reference_pose(track, max(1, round(len(track) * FPS / track.fps)))

    @property
    def heard(self):
        """Does the sound move the head?"""
        return self.pose is None and self.scale != 0

    def over(self, motion, start):
        """The motion of frames from `start` on with this head."""
        if self.pose is not None:
            n = len(motion["exp"])
            order = ping_pong(len(self.pose["angle"]), n, start)
            motion = motion | {name: self.pose[name][order] for name in POSE_PARTS}
        return motion | {name: motion[name] * self.scale for name in POSE_PARTS}


class TalkStream:
    """One sound that arrives in pieces. head: `Head`; grid: deepspeech.LIVE, or FILES for the posteriors of whole files."""

    def __init__(self, method, style, drawer, calibration, seed=0, blinks=True, head=None, grid=deepspeech.LIVE):
        self.drawer, self.head, self.calibration = drawer, head or Head(), calibration
        self.sound = deepspeech.FeatureStream(grid)
        self.motion = MotionStream(method, style, calibration.amplitude, seed, blinks, head=self.head.heard)
        self.waiting, self.n_drawn = None, 0

    @property
    def latency_s(self):
        """Seconds of sound after a frame's own that must have been heard before it is drawn, at most."""
        return self.sound.latency_s + (self.motion.latency_frames + self.drawer.group - 1) / FPS

    def push(self, samples):
        """Take (n,) float32 samples at 16 kHz -> iterator of the frames that became certain; read it to its end."""
        yield from self._draw(self.motion.push(self.sound.push(samples)), last=False)

    def close(self):
        """End of the sound -> iterator of the frames that are left."""
        parts = [self.motion.push(self.sound.close()), self.motion.close()]
        yield from self._draw({name: np.concatenate([p[name] for p in parts]) for name in parts[0]}, last=True)

    def _draw(self, motion, last):
        if self.waiting is not None:
            motion = {name: np.concatenate([self.waiting[name], x]) for name, x in motion.items()}
        n = len(motion["exp"])
        n -= 0 if last else n % self.drawer.group
        self.waiting = {name: x[n:] for name, x in motion.items()}
        if n:
            part = self.head.over({name: x[:n] for name, x in motion.items()}, self.n_drawn)
            self.n_drawn += n
            yield from self.drawer.draw(part, self.calibration.rest)


def talk(wav, method, style, drawer, calibration, seed=0, blinks=True, head=None, grid=deepspeech.LIVE):
    """The frames of a `TalkStream` from the whole sound (N,) at once."""
    head = head or Head()
    n_frames = deepspeech.n_motion_frames(len(wav))
    rows = deepspeech.features(wav, grid=grid)
    motion = method.generate(
        rows, style, n_frames, seed=seed, blinks=blinks, chunk=CHUNK, amplitude=calibration.amplitude
    )
    yield from drawer.draw(head.over(motion, 0), calibration.rest)

"""Made-up heads for tests: habits that are known."""

import numpy as np

from deep_3drecon.track import FPS
from models.behaviour import CHANNELS
from models.headpose_signal import smooth

AMPLITUDE = np.array([0.06, 0.04, 0.02, 0.04, 0.03, 0.06, 0.05, 0.05, 0.08, 0.05, 0.05])
REST = np.array([0.1, -0.05, 0.0, 0.02, 0.01, 0.3, 0.2, 0.2, 0.3, 0.2, 0.2])


def speech(n_frames, seed):
    """Loudness (2 n_frames, 1) at 50 Hz: phrases of syllables with pauses in between."""
    rng = np.random.default_rng(seed)
    time = np.arange(2 * n_frames) / 50
    level, at = np.full(len(time), 1e-4), 0.3
    while at < time[-1]:
        end = at + rng.uniform(1.0, 3.0)
        while at < end:
            level += 0.1 * rng.uniform(0.5, 1) * np.exp(-0.5 * ((time - at) / 0.05) ** 2)
            at += rng.uniform(0.15, 0.3)
        at += rng.uniform(0.4, 1.0)
    return level[:, None]


def head(n_frames, seed, rhythm_s=0.3, amplitude=1.0):
    """Curves (n_frames, C) of a head that moves at random with a rhythm, and lids (n_frames,) that blink every three seconds."""
    rng = np.random.default_rng((seed, 5))
    white = rng.normal(size=(2, n_frames + 200, len(CHANNELS)))
    noise = smooth(white[0], rhythm_s)[100:-100]
    noise = noise / noise.std(0) + 0.1 * (quick := smooth(white[1], 0.06)[100:-100]) / quick.std(0)
    noise[:, 4] = 0.8 * noise[:, 0] + 0.6 * noise[:, 4]  # nodding moves the head down
    curves = REST + amplitude * AMPLITUDE * noise / noise.std(0)
    time = np.arange(n_frames) / FPS
    lids = sum(np.exp(-0.5 * ((time - t) / 0.06) ** 2) for t in np.arange(1.0, n_frames / FPS, 3.0))
    return curves, lids

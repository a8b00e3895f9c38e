"""What of a sound a head answers to: is there speech, how loud is it about to be, where does it get loud. At 25 fps.

Head and voice belong together in few ways that can be heard: people hold the head otherwise while they are silent, move faster
shortly before they get loud, and come to rest or turn back on a beat of speech somewhat more often than chance would have it.
"""

import numpy as np

from deep_3drecon.track import FPS
from models.headpose_signal import smooth
from models.pose_metrics import audio_beats

LEAD_S = 0.2  # the head moves before the voice is loud
SCALES_S = (0.12, 0.4)  # over which speech activity is smoothed
LAGS_S = (-0.48, -0.2, 0.0, 0.2, 0.48)
LOUDEST = 0.98  # quantile of loudness that counts as full voice
SPEECH_NEPER, STEEPNESS = 3.2, 2.0  # so far below full voice (28 dB) speech is as likely as not


def loudness(energy, n_frames):
    """Logarithm of the RMS, (n_frames,); energy (A,) or (A, 1) at 50 Hz, its last row goes on where it is short."""
    rms = np.asarray(energy, np.float64).ravel()
    level = np.log(np.maximum(rms, 1e-3 * np.quantile(rms, LOUDEST) + 1e-9))
    level = level[: len(level) // 2 * 2].reshape(-1, 2).mean(1)
    return np.pad(level, (0, max(0, n_frames - len(level))), mode="edge")[:n_frames]


def activity(energy, n_frames):
    """Is there speech, 0 to 1, (n_frames,)."""
    level = loudness(energy, n_frames)
    return 1 / (1 + np.exp(-STEEPNESS * (level - np.quantile(level, LOUDEST) + SPEECH_NEPER)))


def context(energy, n_frames):
    """(n_frames, 10): speech activity at two scales, earlier and later; what a head's place is explained by."""
    speech = activity(energy, n_frames)
    margin = round(FPS * max(LAGS_S)) + 1
    columns = []
    for scale in SCALES_S:
        curve = np.pad(smooth(speech, scale), margin, mode="edge")
        columns += [np.roll(curve, round(FPS * lag))[margin:-margin] for lag in LAGS_S]
    return np.stack(columns, 1)


def coming_loudness(energy, n_frames):
    """(n_frames,), mean 0 and deviation 1: how loud the voice is about to be, over half a second."""
    level = loudness(energy, n_frames)
    window = np.hanning(15)[1:-1]
    level = np.convolve(np.pad(level, 6, mode="edge"), window / window.sum(), "valid")
    level = (level - level.mean()) / max(level.std(), 0.3)
    lead = round(FPS * LEAD_S)
    return np.concatenate([level[lead:], np.repeat(level[-1], min(lead, len(level)))])[:n_frames]


def beats(energy, n_frames):
    """Times (N,) in s, before the end, at which speech gets loud."""
    times = audio_beats(energy)
    return times[times < n_frames / FPS]

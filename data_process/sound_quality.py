"""Measures of sound against picture: offset, drift, a wrong frame rate, stretches without speech.

Frames are of 1/25 s; a positive offset means that the sound comes later than the mouth.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import maximum_filter1d

from deep_3drecon.track import FPS
from deepspeech import features
from deepspeech.lip_sync import LipSync, lip_input, lip_shape, sound_input
from deepspeech.timing import ROWS_PER_FRAME, SAMPLES_PER_FRAME

MEASURED_FRAMES = 60 * FPS  # longer videos are measured in their middle
BLOCK_FRAMES = 20 * FPS  # of the search for drift
LAGS = np.arange(-12, 33)  # frames that a drift may pass through
LARGEST_JUMP = 3  # frames by which the lag may change from one frame to the next
DRIFT_FROM = 2  # frames by which sound and picture must differ in length before a drift is looked for
DRIFT_FRAMES = 2 * FPS  # shortest clip in which it is
JUMP_COST = 0.7  # in summed fit of sound and lips (0.2 to 0.4 a frame): what one change of the lag must gain
RATES = (12, 12.5, 15, 20, 24000 / 1001, 24, 25, 30000 / 1001, 30, 48, 50, 60000 / 1001, 60)  # that cameras have
STRETCH = (0.7, 1.45)  # how wrong a frame rate may be
QUIET, FLOOR = 0.1, 1e-3  # silence: below a tenth of the loudest sound, or below -60 dB of full scale, and no phone
PHONE, PHONE_ROWS = 0.1, 12  # a row with less than this of any phone, so many rows round it, holds no speech
SHORTEST_SILENCE = round(1.5 * FPS)  # frames; the longest without speech in 42 real clips is 1.2 s
TALKING = 0.006  # lips that change faster than this, in eye distances a frame, are talking


@dataclass(frozen=True)
class SoundFit:
    """How the sound of a video lies against its lips.

    offset_frames, confidence, score: of the sync probe. longer_frames: the sound outlasts the picture by this.
    drift_frames: how much later the sound comes at the end than at the start if its lag may change on the way;
    drift_gain, drift_score: how much better and how well it fits then (mean over frames, as score); looked for only where
    the lengths differ. length_fps: the rate of cameras at which picture and sound are of one length, the claimed one if no
    other is; rate_offset, rate_confidence, rate_score: of the probe at that rate.
    silences: ((first frame, end, whether the lips talk on), ...). silence_share: of the frames.
    """

    offset_frames: float = 0.0
    confidence: float = 0.0
    score: float = 0.0
    longer_frames: float = 0.0
    drift_frames: float = 0.0
    drift_gain: float = 0.0
    drift_score: float = 0.0
    length_fps: float = 0.0
    rate_offset: float = 0.0
    rate_confidence: float = 0.0
    rate_score: float = 0.0
    silences: tuple = ()
    silence_share: float = 0.0


@functools.cache
def probe():
    """The sync probe of this process."""
    return LipSync.load()


def measure_sound(sound, points68, valid, fps):
    """sound (N,) 16 kHz, landmarks (T, 68, 2) at 25 Hz, valid (T,), the claimed fps of the file -> SoundFit."""
    n = len(points68)
    longer = len(sound) / SAMPLES_PER_FRAME - n
    if len(sound) < SAMPLES_PER_FRAME or not valid.any():
        return SoundFit(longer_frames=longer, length_fps=fps)
    heard, lips = features(sound), lip_shape(points68)
    silences = silent_stretches(heard, lips, valid)
    # the whole of a short video, the middle of a long one
    start = max(0, (n - MEASURED_FRAMES) // 2)
    if start:
        rows = slice(ROWS_PER_FRAME * start, ROWS_PER_FRAME * (start + MEASURED_FRAMES))
        heard = {name: value[rows] for name, value in heard.items()}
    lips, seen = lips[start : start + MEASURED_FRAMES], valid[start : start + MEASURED_FRAMES]
    if not seen.any() or len(heard["mel"]) == 0:
        return SoundFit(longer_frames=longer, length_fps=fps, silences=silences)
    found = probe().measure(heard, lips, seen)
    may_drift = abs(longer) >= DRIFT_FROM and n >= DRIFT_FRAMES
    drift = _drift(heard, lips, seen, np.sign(longer)) if may_drift else (0.0, 0.0, 0.0)
    rate = _true_rate(heard, lips, seen, longer, fps) if start == 0 else None
    fitted = rate[1] if rate else found
    return SoundFit(
        found.offset_frames, found.confidence, found.score, longer, *drift,
        rate[0] if rate else fps, fitted.offset_frames, fitted.confidence, fitted.score,
        silences, sum(b - a for a, b, _ in silences) / n,
    )  # fmt: skip


def _true_rate(heard, lips, valid, longer, fps):
    """(fps, SyncResult) of the camera rate at which the picture is as long as the sound; None if no other one is."""
    n = len(lips)
    stretches = [(abs(n + longer - n * fps / rate), rate) for rate in RATES if abs(fps / rate - 1) > 0.004]
    stretches = [(off, rate) for off, rate in stretches if STRETCH[0] < fps / rate < STRETCH[1]]
    off, rate = min(stretches, default=(np.inf, 0))
    if off > 1.5 + 0.005 * n or off > abs(longer) - 1:
        return None
    return rate, probe().measure(heard, *stretched(lips, valid, fps / rate))


def stretched(lips, valid, factor):
    """Lips (T, 2), valid (T,) that last `factor` times as long."""
    at = (np.arange(round(len(lips) * factor)) / factor).clip(0, len(lips) - 1)
    curves = [np.interp(at, np.arange(len(lips)), column) for column in lips.T]
    return np.stack(curves, 1).astype(np.float32), valid[np.round(at).astype(int)]


def _drift(heard, lips, valid, direction):
    """(frames by which the lag changes, gain in mean fit, mean fit) of the block where a changing lag gains most.

    direction: +1 for a lag that may only grow, -1 for one that may only fall.
    """
    best = (0.0, 0.0, 0.0)
    for start in range(0, len(lips), BLOCK_FRAMES):
        stop = min(start + BLOCK_FRAMES, len(lips))
        rows = slice(ROWS_PER_FRAME * start, ROWS_PER_FRAME * stop + (10**9 if stop == len(lips) else 0))
        part = {name: value[rows] for name, value in heard.items()}
        if valid[start:stop].sum() < FPS or len(part["mel"]) < FPS:
            continue
        fit = lag_fits(part, lips[start:stop], valid[start:stop])
        path, total = best_path(fit, direction)
        gain = (total - fit.sum(0).max()) / len(fit)
        if gain > best[1]:
            best = (float(LAGS[path[-1]] - LAGS[path[0]]), float(gain), total / len(fit))
    return best


def lag_fits(heard, lips, valid):
    """Fit of every frame with the sound at every lag of LAGS: (T, len(LAGS)), 0 where there is no sound or no face."""
    network = probe().network
    with torch.no_grad():
        vectors = [network.sound(torch.from_numpy(sound_input(heard))[None])]
        vectors.append(network.lips(torch.from_numpy(lip_input(lips, valid))[None]))
    vectors = [v[0].numpy() / np.sqrt(1 + (v[0].numpy() ** 2).sum(0)) for v in vectors]
    sound, mouth = (v - v.mean(1, keepdims=True) for v in vectors)
    rows = ROWS_PER_FRAME * (np.arange(len(lips))[:, None] + LAGS)
    inside = (rows >= 0) & (rows < sound.shape[1]) & valid[:, None]
    return np.take_along_axis(mouth.T @ sound, rows.clip(0, sound.shape[1] - 1), 1) * inside


def best_path(fit, direction=1, cost=JUMP_COST):
    """The lags of greatest summed fit, each change of lag costing `cost`: fit (T, L) -> column ids (T,), the sum.

    direction: +1 for ids that may only grow, -1 for falling ones. The sum is that of the fits less the costs (Viterbi's
    recursion).
    """
    n_lags = fit.shape[1]
    total, back = fit[0].astype(float), []
    shifts = [int(direction) * k for k in range(LARGEST_JUMP + 1)]
    for row in fit[1:]:
        ways = np.full((len(shifts), n_lags), -np.inf)
        ways[0] = total
        for way, shift in zip(ways[1:], shifts[1:], strict=True):
            if shift > 0:
                way[shift:] = total[:-shift] - cost
            else:
                way[:shift] = total[-shift:] - cost
        choice = ways.argmax(0)
        back.append(choice)
        total = ways[choice, np.arange(n_lags)] + row
    column = int(total.argmax())
    path = [column]
    for choice in reversed(back):
        column -= shifts[choice[column]]
        path.append(column)
    return np.array(path[::-1]), float(total.max())


def silent_stretches(heard, lips, valid):
    """((first frame, end, whether the lips talk on), ...) of 1.5 s and more in which nobody is heard.

    heard: `features` of the sound, lips (T, 2) and valid (T,) at 25 Hz. Quiet alone is not enough, nor that no phone is
    recognised: laughter, music and noise are no silence, and a soft voice is speech.
    """
    n, level = len(lips), heard["energy"][:, 0]
    phone = 1 - heard["phonemes"][:, -1] > PHONE
    rows = maximum_filter1d(phone, 2 * PHONE_ROWS + 1, mode="constant")
    rows |= level > max(QUIET * float(np.quantile(level, 0.99)), FLOOR)
    talks = np.ones(n, bool)  # where the sound has ended nothing is said about silence
    talks[: len(rows) // ROWS_PER_FRAME] = rows[: ROWS_PER_FRAME * n].reshape(-1, ROWS_PER_FRAME).any(1)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], talks, [True]]).astype(int)))
    out = []
    for start, stop in edges.reshape(-1, 2).tolist():
        if stop - start >= SHORTEST_SILENCE:
            speed = np.abs(np.diff(lips[start:stop, 0]))[valid[start + 1 : stop] & valid[start : stop - 1]]
            out.append((start, stop, bool(len(speed)) and float(speed.mean()) > TALKING))
    return tuple(out)

"""Blinks: measured from a track, and made anew for generated motion.

Speech does not determine when a person blinks, so a network trained to regress the lids learns their mean and the eyes
of its faces never close. Generated clips get blinks of their own, at the rate and of the kind of the style clip.
"""

from dataclasses import dataclass

import numpy as np
from scipy.signal import find_peaks

# Of people in conversation: about one blink in 4 s, 0.3 s long, the lids closing twice as fast as they open
# (Bentivoglio et al., "Analysis of blink rate patterns in normal subjects", 1997; VanderWerf et al., "Eyelid
# movements", 2003).
RATE_HZ, DURATION_S, DEPTH = 0.25, 0.30, 0.9
CLOSING_SHARE = 1 / 3
INTERVAL_SIGMA = 0.7  # of the logarithm of the time between two blinks: many short gaps, a few long ones
SHORTEST_GAP_S = 0.4
# A clip is averaged with this much of an average person: 3 s without a blink do not make somebody who never blinks.
PRIOR_S = 20.0
MIN_DEPTH = 0.25


@dataclass
class BlinkHabit:
    """rate_hz: blinks a second. duration_s: lids leave rest until they are back. depth: 1 = lids shut."""

    rate_hz: float = RATE_HZ
    duration_s: float = DURATION_S
    depth: float = DEPTH

    @staticmethod
    def blend(habits, weights):
        """Weighted sum, kept inside what people do."""
        rate, duration, depth = (
            sum(w * getattr(h, name) for h, w in zip(habits, weights, strict=True))
            for name in ("rate_hz", "duration_s", "depth")
        )
        return BlinkHabit(
            float(np.clip(rate, 0, 1.5)), float(np.clip(duration, 0.12, 0.8)), float(np.clip(depth, 0, 1))
        )


def find_blinks(closure, fps):
    """Blinks in lid closure (T,), 0 open and 1 shut -> (frame of each peak, duration s, depth above rest)."""
    closure = np.asarray(closure, np.float64)
    if len(closure) < 3:
        return np.zeros(0, int), np.zeros(0), np.zeros(0)
    padded = np.pad(
        closure, 1, constant_values=np.median(closure)
    )  # a blink cut off by the end of the clip is still a peak
    peaks, found = find_peaks(
        padded, prominence=MIN_DEPTH, width=(1, 0.5 * fps), rel_height=0.5, distance=max(1, int(0.2 * fps))
    )
    # Width at half height of a raised-cosine flank is half the whole: the lids' way takes twice as long.
    return peaks - 1, 2 * found["widths"] / fps, found["prominences"]


def measure_blinks(closure, fps):
    """BlinkHabit of a track of lid closure (T,), drawn towards the average person where the clip is short."""
    peaks, duration, depth = find_blinks(closure, fps)
    rate = (len(peaks) + RATE_HZ * PRIOR_S) / (len(closure) / fps + PRIOR_S)
    weight = len(peaks) / (len(peaks) + 2)
    mean_duration = weight * np.mean(duration) + (1 - weight) * DURATION_S if len(peaks) else DURATION_S
    # Fitted closures rarely reach 1 on a shut eye; a person whose lids seem to stop early still shuts them.
    mean_depth = max(weight * np.mean(depth) + (1 - weight) * DEPTH, 0.7) if len(peaks) else DEPTH
    return BlinkHabit.blend([BlinkHabit(float(rate), float(mean_duration), float(mean_depth))], [1.0])


def generate_blinks(n_frames, fps, habit, seed, pace=None):
    """Lid closure (T,) in [0, 1] of a made-up sequence of blinks; the same seed gives the same blinks.

    Longer clips begin with the blinks of shorter ones. pace (T,), mean 1: how much likelier than usual a blink is to begin in a frame.
    """
    rng = np.random.default_rng(seed)
    closure = np.zeros(n_frames, np.float32)
    if habit.rate_hz <= 0 or habit.depth <= 0:
        return closure
    frame_time = np.arange(n_frames) / fps
    mean_gap = max(1 / habit.rate_hz - habit.duration_s, SHORTEST_GAP_S)
    # The mean of a log-normal is exp(mu + sigma^2 / 2).
    mu = np.log(mean_gap) - INTERVAL_SIGMA**2 / 2
    start, end = rng.uniform() * mean_gap, -np.inf
    passed = None if pace is None else np.cumsum(pace) / fps
    while start < n_frames / fps:
        begin = start if pace is None else max(np.interp(start, passed, frame_time), end + SHORTEST_GAP_S)
        duration = habit.duration_s * rng.uniform(0.85, 1.15)
        depth = min(1.0, habit.depth * rng.uniform(0.9, 1.1))
        closure = np.maximum(closure, depth * blink_shape((frame_time - begin) / duration))
        end = begin + duration
        start += duration + max(SHORTEST_GAP_S, rng.lognormal(mu, INTERVAL_SIGMA))
    return closure.astype(np.float32)


def blink_shape(x):
    """One blink over 0 <= x <= 1: shuts within CLOSING_SHARE, opens more slowly; 0 outside."""
    phase = np.where(x < CLOSING_SHARE, x / CLOSING_SHARE, (1 - x) / (1 - CLOSING_SHARE))
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(phase, 0, 1))


def add_blinks(lids, closure):
    """Lids (T, 2) as the method moved them, closed further by `closure` (T,): shut stays shut, half open closes the
    rest.
    """
    return lids + (1 - lids) * closure[:, None]

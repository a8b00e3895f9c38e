"""Curves of motion at 25 fps: their spectrum and distribution, and how to give a curve those of another.

x: (T, C) float64, any units. Speeds are changes from frame to frame. Spectra are densities of the speed, not of the place: a head's
place lies within a degree of where it was for most of its power, and its spectrum falls so steeply that leakage hides the quick part.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import welch
from scipy.stats import norm

from deep_3drecon.track import FPS

WINDOW = 100  # frames, 4 s, of a spectrum
SPECTRUM_HZ = np.fft.rfftfreq(WINDOW, 1 / FPS)
SMOOTHING = 0.12  # of a spectrum, in logarithms of frequency
LEVELS = np.linspace(-2, 2, 17)  # of a distribution: deviations of a normal one
SHORT_LEVELS = np.linspace(-1.3, 1.3, 9)  # that a short curve knows
TINY = 1e-16


def smooth(x, sigma_s):
    """Gaussian of `sigma_s` seconds along time."""
    return gaussian_filter1d(np.asarray(x, np.float64), sigma_s * FPS, axis=0, mode="nearest")


def below(x, hz):
    """What of x is slower than `hz`, where the gain is 0.6."""
    return smooth(x, 1 / (2 * np.pi * hz))


def mirrored(x, n):
    """x continued by n frames at both ends, turned about its end points; n shrinks to what there is."""
    n = min(n, len(x) - 1)
    return np.concatenate([2 * x[0] - x[n:0:-1], x, 2 * x[-1] - x[-2 : -n - 2 : -1]])


def speed_spectrum(x, smoothing=SMOOTHING):
    """Density of the speed of at least 50 frames at SPECTRUM_HZ, (F, C): Welch, smoothed in logarithms, sums to the speed's variance."""
    speed = np.diff(mirrored(x, WINDOW // 2), axis=0)
    density = welch(speed, FPS, nperseg=WINDOW, axis=0)[1][1:]
    at = np.log(np.maximum(SPECTRUM_HZ, SPECTRUM_HZ[1]))
    weight = np.exp(-0.5 * ((at[:, None] - at[1:]) / smoothing) ** 2)
    out = np.exp(weight / weight.sum(1, keepdims=True) @ np.log(np.maximum(density, TINY)))
    return out * np.diff(x, axis=0).var(0) / np.maximum(out[1:].sum(0) * SPECTRUM_HZ[1], TINY)


def shaped(x, spectrum, limit=4.0, slowest_hz=0.12, slow_share=0.5):
    """x filtered, without delay, until its speed has the given spectrum (F, C); no frequency changes by more than `limit`.

    What is slower than `slowest_hz`, and hardly seen in a window of 4 s, changes by that to the power of `slow_share`.
    """
    gain = np.sqrt(spectrum / np.maximum(speed_spectrum(x, 0.05), TINY)).clip(1 / limit, limit)
    longer = mirrored(x, WINDOW)
    before = (len(longer) - len(x)) // 2
    waves, hz = np.fft.rfft(longer - x.mean(0), axis=0), np.fft.rfftfreq(len(longer), 1 / FPS)
    at = np.stack([np.interp(hz, SPECTRUM_HZ, g) for g in np.log(gain).T], 1)
    at[hz < slowest_hz] *= slow_share
    return np.fft.irfft(waves * np.exp(at), len(longer), axis=0)[before : before + len(x)] + x.mean(0)


def quantiles(x):
    """Values (L, C) below which lie the shares of x that a normal distribution has below LEVELS."""
    return np.quantile(x, norm.cdf(LEVELS), axis=0)


def mapped(x, wanted, share=1.0, tail=0.7):
    """x moved, by `share` of the way, to a distribution given by its `quantiles` (L, C). The order of values stays.

    Beyond the outermost quantiles steps are `tail` times those inside.
    """
    levels = LEVELS if len(x) > 200 else SHORT_LEVELS
    own = np.quantile(x, norm.cdf(levels), axis=0)
    out = np.empty_like(x)
    for c in range(x.shape[1]):
        new = np.interp(levels, LEVELS, wanted[:, c])
        slope = tail * new.std() / max(own[:, c].std(), 1e-12)
        over = np.maximum(x[:, c] - own[-1, c], 0) + np.minimum(x[:, c] - own[0, c], 0)
        out[:, c] = np.interp(x[:, c], own[:, c] + 1e-12 * np.arange(len(levels)), new) + slope * over
    return x + share * (out - x)


def integrated(speed, like, hz=0.15):
    """The curve of a speed (T - 1, C) that wanders as `like` (T, C) below `hz`."""
    x = np.concatenate([like[:1], like[:1] + np.cumsum(speed, 0)])
    return x + below(like - x, hz)


def limited(x, low, high, soft=0.25):
    """x held between low and high (C,): untouched in the middle, pressed together over the outer `soft` of the range at each side."""
    edge = soft * (high - low)
    over, under = np.maximum(x - (high - edge), 0), np.maximum(low + edge - x, 0)
    safe = np.maximum(edge, 1e-12)
    return x - (over - edge * np.tanh(over / safe)) + (under - edge * np.tanh(under / safe))

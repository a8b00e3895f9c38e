"""Made sounds for the tests: pulses at known times, syllables that the phoneme network reads, files to carry them."""

from fractions import Fraction

import av
import numpy as np
from scipy.signal import lfilter

SECONDS = 3.0
PULSES = ((0.5, 400), (1.1, 900), (1.7, 1500), (2.3, 700))  # seconds, Hz; all far below the Nyquist rate of 8 kHz sound
VOWELS = (  # formants and their bandwidths in Hz: a, i, u, e
    ((730, 90), (1090, 110), (2440, 170), (3400, 250)),
    ((270, 60), (2290, 120), (3010, 170), (3600, 250)),
    ((300, 60), (870, 110), (2240, 170), (3300, 250)),
    ((530, 70), (1840, 110), (2480, 170), (3500, 250)),
)


def pulses(rate, seconds=SECONDS):
    """Four short tone pulses, sampled exactly at `rate` -> (N,) float64."""
    t = np.arange(round(seconds * rate)) / rate
    return sum(0.5 * np.exp(-(((t - at) / 0.01) ** 2)) * np.sin(2 * np.pi * hz * (t - at)) for at, hz in PULSES)


def delay(wav, expected):
    """(samples by which wav lies behind expected, correlation there)."""
    size = 1 << int(np.ceil(np.log2(len(wav) + len(expected))))
    products = np.fft.irfft(np.fft.rfft(wav, size) * np.conj(np.fft.rfft(expected, size)), size)
    lag = int(products.argmax())
    r = products[lag] / np.sqrt(np.square(wav, dtype=np.float64).sum() * np.square(expected).sum())
    return (lag - size if lag > size // 2 else lag), r


def syllables(n, seed=0, rate=16000):
    """n syllables of a hiss and a vowel with pauses of 0.12 to 0.21 s -> (N,) float32; read as s ɑ, s i, t oʊ, s eɪ."""
    rng = np.random.default_rng(seed)
    parts = [np.zeros(rate // 2)]
    for i in range(n):
        pause = np.zeros(int(rate * (0.12 + 0.03 * (i % 4))))
        parts += [_hiss(0.12, rng, rate), _vowel(0.18, 110 + 20 * (i % 3), VOWELS[i % 4], rate), pause]
    return np.concatenate([*parts, np.zeros(rate // 2)]).astype(np.float32)


def vowel_onsets(n):
    """Times in seconds at which the vowels of `syllables(n)` begin -> (n,)."""
    i = np.arange(n)
    return 0.62 + 0.42 * i + np.array([0.0, 0.0, 0.03, 0.09])[i % 4] + 0.18 * (i // 4)


def _hiss(seconds, rng, rate):
    noise = lfilter([1, -0.95], [1], rng.standard_normal(int(seconds * rate)))
    return 0.06 * noise * _fade(len(noise), 0.010 * rate)


def _vowel(seconds, pitch_hz, formants, rate):
    n = int(seconds * rate)
    phase = np.cumsum(pitch_hz * (1 - 0.1 * np.arange(n) / n) / rate)
    sound = np.diff(np.floor(phase), prepend=0.0)
    for hz, bandwidth in formants:
        radius = np.exp(-np.pi * bandwidth / rate)
        poles = [1, -2 * radius * np.cos(2 * np.pi * hz / rate), radius**2]
        sound = lfilter([sum(poles)], poles, sound)
    return 0.5 * sound / np.abs(sound).max() * _fade(n, 0.015 * rate)


def _fade(n, ramp):
    ends = np.minimum(np.arange(n), np.arange(n)[::-1])
    return np.minimum(1.0, ends / ramp)


def write_file(path, wav, rate, audio="aac", picture=None, sound_at=0.0, picture_at=0.0, gap=None, cover=False):
    """Write mono float sound with FFmpeg, beside a picture if a codec for one is named.

    sound_at, picture_at: seconds of their first time stamps. gap: (sample number, samples) by which later time stamps jump.
    cover: the picture is one attached image.
    """
    with av.open(str(path), "w") as container:
        if picture:
            stream = container.add_stream(picture, rate=25)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuvj420p" if cover else "yuv420p"
            if cover:
                stream.disposition = av.stream.Disposition.attached_pic
        sound = container.add_stream(audio, rate=rate)
        sound.layout = "mono"
        if picture:
            for i in range(1 if cover else int(25 * len(wav) / rate)):
                frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), i, np.uint8), format="rgb24")
                frame.pts, frame.time_base = i + round(25 * picture_at), Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        planar = sound.format.name == "fltp"
        for i in range(0, len(wav) - 1023, 1024):
            block = wav[None, i : i + 1024]
            block = block.astype(np.float32) if planar else np.round(block * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="fltp" if planar else "s16", layout="mono")
            jump = gap[1] if gap and i >= gap[0] else 0
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = i + round(sound_at * rate) + jump
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))

"""Log-mel bands and loudness of 16 kHz sound at 50 Hz, row k centred at k/50 s.

Blocks are always computed at full size, silence included: the last bit of a row then does not depend on the length of
the sound, and the overhead in memory is constant.
"""

from functools import cache

import numpy as np

from .audio_io import check_sound
from .timing import BLOCK_ROWS, SAMPLE_RATE, SAMPLES_PER_ROW, n_feature_rows, sound_between

MEL_WINDOW = 400  # 25 ms
MEL_FFT = 512
MEL_RANGE_HZ = (60.0, 7600.0)  # below lies hum, above it what many codecs cut off
N_MELS = 40
# Added to the power before the logarithm, where 1 is the power of a full-scale sine: about the power of white noise of
# -72 dB in one bin. It keeps digital silence near the noise floor of real recordings.
MEL_FLOOR = 1e-9
ENERGY_WINDOW = 512  # 32 ms


def mel(wav: np.ndarray, n_mels: int = N_MELS, block_rows: int = BLOCK_ROWS) -> np.ndarray:
    """Log-mel spectrum: (N,) float32 at 16 kHz -> (A, n_mels) float32, 50 Hz.

    Row k: samples 320 k - 200 .. 320 k + 199 under a periodic Hann window, 512-point power spectrum scaled so that a
    full-scale sine has peak power 1, Slaney mel triangles of height 1 from 60 to 7600 Hz, ln(power + 1e-9). Silence
    gives -20.7. block_rows: rows computed at a time; the last bit depends on it.
    """
    return _in_blocks(wav, block_rows, lambda *where: mel_block(*where, n_mels=n_mels))


def energy(wav: np.ndarray, block_rows: int = BLOCK_ROWS) -> np.ndarray:
    """RMS of the 512 samples (32 ms) centred on each row: (N,) float32 at 16 kHz -> (A, 1) float32, 50 Hz, linear.

    The style_avatar paper's code does not centre: its row k lies 16 ms later (see `paper_energy`).
    """
    return _in_blocks(wav, block_rows, energy_block)


def paper_energy(wav: np.ndarray) -> np.ndarray:
    """RMS as in the style_avatar paper's code: (N,) -> (1 + (N - 512) // 320, 1); row k hears 320 k .. 320 k + 511."""
    wav = check_sound(wav)
    if len(wav) < ENERGY_WINDOW:
        return np.zeros((0, 1), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(wav, ENERGY_WINDOW)[::SAMPLES_PER_ROW]
    return _rms(frames)


def mel_block(samples, offset: int, index: int, block_rows: int = BLOCK_ROWS, n_mels: int = N_MELS) -> np.ndarray:
    """Block `index` of `mel` -> (block_rows, n_mels); `samples` begin at sample number `offset` of the sound."""
    window, filters = _mel_tables(n_mels)
    spectrum = np.fft.rfft(_frames(samples, offset, index, block_rows, MEL_WINDOW) * window, n=MEL_FFT)
    power = spectrum.real**2 + spectrum.imag**2
    return np.log(power @ filters + np.float32(MEL_FLOOR))


def energy_block(samples: np.ndarray, offset: int, index: int, block_rows: int = BLOCK_ROWS) -> np.ndarray:
    """Block `index` of `energy` -> (block_rows, 1); `samples` begin at sample number `offset` of the sound."""
    return _rms(_frames(samples, offset, index, block_rows, ENERGY_WINDOW))


def _in_blocks(wav, block_rows, block) -> np.ndarray:
    wav = check_sound(wav)
    n_rows = n_feature_rows(len(wav))
    rows = np.concatenate([block(wav, 0, index, block_rows) for index in range(-(-n_rows // block_rows))])
    return rows[:n_rows]


def _frames(samples, offset, index, block_rows, width) -> np.ndarray:
    """(block_rows, width) samples around each row of block `index`; zeros outside the sound."""
    start = index * block_rows * SAMPLES_PER_ROW - width // 2
    segment = sound_between(samples, offset, start, start + (block_rows - 1) * SAMPLES_PER_ROW + width)
    return np.lib.stride_tricks.sliding_window_view(segment, width)[::SAMPLES_PER_ROW]


def _rms(frames) -> np.ndarray:
    return np.sqrt(np.square(frames).mean(axis=1, dtype=np.float32, keepdims=True))


@cache
def _mel_tables(n_mels):
    """Window (400,), scaled, and mel triangles (257, n_mels), both float32."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(MEL_WINDOW) / MEL_WINDOW)
    edges = _mel_to_hz(np.linspace(*_hz_to_mel(np.array(MEL_RANGE_HZ)), n_mels + 2))
    bins = np.arange(MEL_FFT // 2 + 1)[:, None] * SAMPLE_RATE / MEL_FFT
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(np.minimum(rising, falling), 0.0)
    if not filters.any(axis=0).all():
        raise ValueError(
            f"n_mels={n_mels}: bands narrower than the {SAMPLE_RATE / MEL_FFT:.2f} Hz bins are empty; use fewer"
        )
    return (window * 2 / window.sum()).astype(np.float32), filters.astype(np.float32)


# Slaney's mel scale: linear to 1000 Hz (15 mel), then logarithmic with 27 steps for a factor of 6.4.
def _hz_to_mel(hz):
    return np.where(hz < 1000, hz * 3 / 200, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def _mel_to_hz(mels):
    return np.where(mels < 15, mels * 200 / 3, 1000 * np.exp((mels - 15) * np.log(6.4) / 27))

"""The mel spectrogram of Wav2Lip (ACM MM 2020), which its sync judge, SadTalker and Style2Talker hear: 80 bands, 80 Hz.

Pre-emphasis 0.97; 800-point magnitude spectrum every 200 samples under a periodic Hann window; Slaney triangles of area 1
from 55 to 7600 Hz; 20 log10 with floor -100 dB, less 20 dB; -100 .. 0 dB on -4 .. 4. Before the first sample and after the
last one the sound is mirrored, as librosa did when Wav2Lip was made; since its version 0.9, which SadTalker asks for, it
takes zeros there (`ends`), which changes the first two and the last rows.
"""

from functools import cache

import numpy as np

from .audio_io import check_sound
from .spectral import _hz_to_mel, _mel_to_hz
from .timing import MOTION_FPS, SAMPLE_RATE, n_motion_frames

WAV2LIP_HZ = 80
STEP = SAMPLE_RATE // WAV2LIP_HZ
WINDOW = 800  # 50 ms
N_BANDS = 80
RANGE_HZ = (55.0, 7600.0)
PRE_EMPHASIS = 0.97
FLOOR_DB, REFERENCE_DB, LIMIT = -100.0, 20.0, 4.0
WINDOW_COLUMNS = 16  # 200 ms
# Frames by which the window of a frame begins before it in SadTalker and Style2Talker: its middle is the frame's own.
LEAD_FRAMES = 2
_BLOCK_COLUMNS = 2048  # columns computed at a time


def wav2lip_mel(wav: np.ndarray, ends: str = "reflect") -> np.ndarray:
    """16 kHz sound (N,) float32 in [-1, 1] -> (1 + N // 200, 80) float32 in [-4, 4], 80 Hz, row k centred at k/80 s.

    ends: "reflect", for which at least 401 samples are needed (shorter sounds are followed by zeros), or "constant", zeros.
    """
    wav = check_sound(wav)
    n_rows, margin = 1 + len(wav) // STEP, WINDOW // 2
    sound = np.pad(wav, (0, max(0, margin + 1 - len(wav))))
    emphasised = sound - np.float32(PRE_EMPHASIS) * np.concatenate([np.zeros(1, np.float32), sound[:-1]])
    padded = np.pad(emphasised, margin, mode=ends)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP]
    window, bands = _tables()
    rows = np.empty((n_rows, N_BANDS), np.float32)
    for first in range(0, n_rows, _BLOCK_COLUMNS):
        part = slice(first, min(first + _BLOCK_COLUMNS, n_rows))
        levels = np.abs(np.fft.rfft(frames[part] * window)) @ bands
        decibels = 20 * np.log10(np.maximum(levels, 10 ** (FLOOR_DB / 20))) - REFERENCE_DB
        rows[part] = np.clip(2 * LIMIT * (decibels - FLOOR_DB) / -FLOOR_DB - LIMIT, -LIMIT, LIMIT)
    return rows


def wav2lip_windows(wav: np.ndarray, lead_frames: int = LEAD_FRAMES, ends: str = "reflect") -> np.ndarray:
    """16 kHz sound (N,) float32 -> (T, 80, 16) float32: for each 25 fps frame t the 16 columns from int(3.2 (t - lead)) on.

    T = n_motion_frames(N); the sound is filled up with zeros to whole frames first. Beyond its ends the first or last
    column repeats. lead_frames: 2 in SadTalker and Style2Talker (a window from 80 ms before the start of the frame to 120
    ms after it), 0 in Wav2Lip itself. int() cuts towards 0, so the first frames begin up to 0.8 columns late, as there.
    """
    wav = check_sound(wav)
    n_frames = n_motion_frames(len(wav))
    rows = wav2lip_mel(np.pad(wav, (0, n_frames * SAMPLE_RATE // MOTION_FPS - len(wav))), ends)
    first = np.trunc(WAV2LIP_HZ * (np.arange(n_frames) - lead_frames) / MOTION_FPS).astype(int)
    columns = (first[:, None] + np.arange(WINDOW_COLUMNS)).clip(0, len(rows) - 1)
    return np.ascontiguousarray(rows[columns].transpose(0, 2, 1))


@cache
def _tables():
    """Window (800,) and triangles of area 1 (401, 80)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    edges = _mel_to_hz(np.linspace(*_hz_to_mel(np.array(RANGE_HZ)), N_BANDS + 2))
    bins = np.arange(WINDOW // 2 + 1)[:, None] * SAMPLE_RATE / WINDOW
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    bands = np.maximum(np.minimum(rising, falling), 0.0) * (2 / (edges[2:] - edges[:-2]))
    return window, bands

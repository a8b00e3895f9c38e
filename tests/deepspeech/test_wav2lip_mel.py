"""The mel spectrogram of Wav2Lip against transformers' spectrogram and the formula, and its windows in time."""

import numpy as np
import pytest
from scipy.signal import lfilter

from deepspeech import wav2lip_mel, wav2lip_windows
from tests.deepspeech import made


@pytest.fixture(scope="module")
def wav():
    sound = made.syllables(6)
    return (sound + np.random.default_rng(0).normal(0, 1e-3, len(sound))).astype(np.float32)


@pytest.mark.parametrize("ends", ["reflect", "constant"])
def test_equals_the_recipe_on_another_spectrogram(wav, ends):
    from transformers.audio_utils import mel_filter_bank, spectrogram

    emphasised = lfilter([1, -0.97], [1], wav.astype(np.float64))
    filters = mel_filter_bank(401, 80, 55, 7600, 16000, norm="slaney", mel_scale="slaney")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(800) / 800)
    levels = spectrogram(emphasised, hann, 800, 200, power=1.0, center=True, pad_mode=ends, mel_filters=filters)
    decibels = 20 * np.log10(np.maximum(1e-5, levels.T)) - 20
    expected = np.clip(8 * (decibels + 100) / 100 - 4, -4, 4)
    rows = wav2lip_mel(wav, ends)
    assert rows.shape == expected.shape == (1 + len(wav) // 200, 80)
    np.testing.assert_allclose(rows, expected, atol=1e-3)


def test_a_band_by_hand():
    """A sine of amplitude a has magnitude a * 200 in its bin: 1000 Hz is bin 50 and 15 on Slaney's scale."""
    sound = (0.1 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)).astype(np.float32)
    gain = abs(1 - 0.97 * np.exp(-2j * np.pi / 16))
    low, high = 55 * 3 / 200, 15 + 27 * np.log(7.6) / np.log(6.4)
    step = (high - low) / 81
    band = int((15 - low) / step) - 1
    edges = low + step * (band + np.arange(3))
    hz = [m * 200 / 3 if m < 15 else 1000 * np.exp((m - 15) * np.log(6.4) / 27) for m in edges]
    heights = [np.interp(20 * k, hz, [0, 1, 0], left=0, right=0) * 2 / (hz[2] - hz[0]) for k in (49, 50, 51)]
    level = 0.1 * gain * 200 * (0.5 * heights[0] + heights[1] + 0.5 * heights[2])  # Hann: half in each neighbour
    expected = 8 * (20 * np.log10(level) - 20 + 100) / 100 - 4
    assert wav2lip_mel(sound)[40, band] == pytest.approx(expected, abs=1e-3)


def test_range_and_short_sounds():
    assert (wav2lip_mel(np.zeros(4000, np.float32)) == -4).all()
    assert wav2lip_mel(np.full(100, 0.1, np.float32)).shape == (1, 80)
    assert wav2lip_mel(np.random.default_rng(0).normal(0, 3, 4000).clip(-9, 9).astype(np.float32)).max() <= 4


def test_windows_are_columns_by_time(wav):
    windows = wav2lip_windows(wav)
    n_frames = -(-len(wav) // 640)
    rows = wav2lip_mel(np.pad(wav, (0, 640 * n_frames - len(wav))))
    assert windows.shape == (n_frames, 80, 16)
    for t in (0, 1, 2, 3, 17, n_frames - 1):
        first = int(80.0 * ((t - 2) / 25))
        columns = [min(max(k, 0), len(rows) - 1) for k in range(first, first + 16)]
        np.testing.assert_array_equal(windows[t], rows[columns].T)
    np.testing.assert_array_equal(wav2lip_windows(wav, 0)[10], rows[32:48].T)


@pytest.mark.parametrize("frame", [5, 11, 30])
def test_a_click_in_a_frame_is_in_the_middle_of_its_window(frame):
    sound = np.zeros(640 * 40, np.float32)
    sound[640 * frame + 320] = 1.0
    window = wav2lip_windows(sound)[frame]
    heard = np.flatnonzero(window.max(0) > -4)
    assert heard.mean() == pytest.approx(8, abs=0.9)  # a column lasts 12.5 ms and is heard in four of them


def test_long_sounds_are_computed_in_pieces(wav):
    long = np.tile(wav, 1 + 200 * 2300 // len(wav))
    np.testing.assert_allclose(wav2lip_mel(long)[2040:2060], wav2lip_mel(long[200 * 2030 :])[10:30], atol=1e-4)

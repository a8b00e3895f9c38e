"""Log-mel and energy against a third party's, and their place on the time axis."""

import numpy as np
import pytest

from deepspeech import AudioError, energy, mel, n_feature_rows, n_motion_frames, paper_energy
from deepspeech import spectral as module
from tests.deepspeech import made


@pytest.mark.parametrize("n_mels", [40, 80])
def test_mel_equals_that_of_transformers(n_mels):
    from transformers.audio_utils import mel_filter_bank, spectrogram

    wav = made.syllables(6) + np.random.default_rng(0).normal(0, 1e-3, len(made.syllables(6))).astype(np.float32)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    filters = mel_filter_bank(257, n_mels, 60, 7600, 16000, norm=None, mel_scale="slaney")
    settings = dict(fft_length=512, power=2.0, center=True, pad_mode="constant", mel_filters=filters, mel_floor=0)
    power = spectrogram(wav, window * 2 / window.sum(), 400, 320, **settings)
    ours = mel(wav, n_mels)
    np.testing.assert_allclose(ours[: power.shape[1]], np.log(power.T[: len(ours)] + 1e-9), atol=1e-3)


def test_mel_by_the_formula_and_the_level_of_a_full_scale_sine():
    wav = np.sin(2 * np.pi * 2000 * np.arange(16000) / 16000)  # 2000 Hz is bin 64
    n = np.arange(400)
    frame = wav[25 * 320 - 200 : 25 * 320 + 200] * (0.5 - 0.5 * np.cos(2 * np.pi * n / 400)) / 100
    power = np.abs(np.exp(-2j * np.pi * np.outer(np.arange(257), n) / 512) @ frame) ** 2
    assert power.argmax() == 64 and power[64] == pytest.approx(1.0, abs=1e-3)
    expected = np.log(power @ module._mel_tables(40)[1] + 1e-9)
    np.testing.assert_allclose(mel(wav.astype(np.float32))[25], expected, atol=0.01)


def test_silence():
    np.testing.assert_allclose(mel(np.zeros(4000, np.float32)), np.log(1e-9), rtol=1e-6)
    assert not energy(np.zeros(4000, np.float32)).any()


def test_too_many_bands_are_refused():
    with pytest.raises(ValueError, match="n_mels=300"):
        mel(np.zeros(4000, np.float32), 300)


@pytest.mark.parametrize("row", [0, 1, 150, 299, 300, 301, 449])
def test_a_click_is_loudest_in_the_row_of_its_time(row):
    """Row k hears the samples around 320 k, also at the borders of blocks."""
    wav = np.zeros(320 * 450, np.float32)
    wav[320 * row] = 1.0
    assert energy(wav).ravel().nonzero()[0].tolist() == [row]  # ±256 samples reach no other row
    loud = mel(wav).sum(axis=1)
    assert loud.argmax() == row
    for k in (row - 1, row + 1):  # 320 samples away and thus outside of their windows
        if 0 <= k < 450:
            assert loud[k] == pytest.approx(40 * np.log(1e-9), rel=1e-5)


def test_energy_is_the_rms_and_the_papers_lies_16_ms_later():
    wav = made.syllables(8)
    ours = energy(wav).ravel()
    for k in (3, 77, len(wav) // 320 - 2):
        frame = wav[320 * k - 256 : 320 * k + 256].astype(np.float64)
        assert ours[k] == pytest.approx(np.sqrt((frame**2).mean()), rel=1e-5)
    paper = paper_energy(wav)
    assert paper.shape == (1 + (len(wav) - 512) // 320, 1)
    shifted = energy(np.concatenate([np.zeros(320 - 256, np.float32), wav])).ravel()
    np.testing.assert_allclose(paper.ravel(), shifted[1 : len(paper) + 1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("n", [1, 319, 320, 639, 640, 641, 3200, 47647, 96000, 96001, 160000])
def test_picture_covers_the_sound_by_less_than_a_frame(n):
    frames = n_motion_frames(n)
    assert 0 <= frames / 25 - n / 16000 < 1 / 25
    wav = np.zeros(n, np.float32)
    assert n_feature_rows(n) == 2 * frames == len(mel(wav)) == len(energy(wav))


def test_what_is_no_16_khz_sound_is_refused():
    for wav in (np.zeros((100, 2), np.float32), np.zeros(100, np.int16), np.zeros(0, np.float32), np.full(9, np.nan)):
        with pytest.raises(AudioError):
            mel(wav)
        with pytest.raises(AudioError):
            energy(wav)

"""Spectrum and distribution of curves: measured ones are right, and curves can be given another's."""

import numpy as np
import pytest

from deep_3drecon.track import FPS
from models import headpose_signal as signal


def noise(n, seed, sigma_s=0.2, channels=2):
    return signal.smooth(np.random.default_rng(seed).normal(size=(n, channels)), sigma_s)


def test_speed_spectrum_sums_to_the_power_and_peaks_at_the_rhythm():
    time = np.arange(400) / FPS
    x = np.stack([np.sin(2 * np.pi * 1.5 * time), np.sin(2 * np.pi * 3.0 * time)], 1)
    spectrum = signal.speed_spectrum(x)
    assert signal.SPECTRUM_HZ[spectrum.argmax(0)] == pytest.approx([1.5, 3.0])
    total = spectrum[1:].sum(0) * signal.SPECTRUM_HZ[1]
    np.testing.assert_allclose(total, np.diff(x, axis=0).var(0), rtol=1e-9)


def test_a_curve_takes_on_a_spectrum():
    slow, quick = noise(600, 0, 0.5), noise(600, 1, 0.15)
    wanted = signal.speed_spectrum(quick)
    band = slice(1, 17)  # to 4 Hz: above, the slow curve has nothing that could be raised

    def far(x):
        return np.abs(np.log10(signal.speed_spectrum(x)[band]) - np.log10(wanted[band])).mean()

    x = slow
    for _ in range(4):
        x = signal.shaped(x, wanted)
    assert far(x) < 0.25 * far(slow)
    np.testing.assert_allclose(x.mean(0), slow.mean(0), atol=0.1 * x.std())


def test_a_curve_takes_on_a_distribution_and_keeps_its_order():
    x, other = noise(600, 2), np.abs(noise(900, 3)) * 3
    out = signal.mapped(x, signal.quantiles(other))
    np.testing.assert_allclose(signal.quantiles(out), signal.quantiles(other), atol=0.05 * other.std())
    for c in range(2):
        assert (np.diff(out[np.argsort(x[:, c]), c]) >= 0).all()
    np.testing.assert_allclose(signal.mapped(x, signal.quantiles(other), share=0.0), x)


def test_integration_undoes_a_difference_and_does_not_drift():
    x = noise(5000, 4)
    np.testing.assert_allclose(signal.integrated(np.diff(x, axis=0), x), x, atol=1e-9)
    biased = np.diff(x, axis=0) + 0.01  # 50 units over the clip
    assert np.abs(signal.integrated(biased, x) - x).max() < 1


def test_limits_hold_and_leave_the_middle_alone():
    x = np.linspace(-3, 3, 301)[:, None]
    out = signal.limited(x, np.array([-1.0]), np.array([1.0]))
    assert np.abs(out).max() < 1 and (np.diff(out[:, 0]) >= 0).all()
    middle = np.abs(x) < 0.5
    np.testing.assert_array_equal(out[middle], x[middle])

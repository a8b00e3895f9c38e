"""Blinks: made ones look like blinks, and measuring finds what was made."""

import numpy as np
import pytest

from models.blinks import BlinkHabit, add_blinks, find_blinks, generate_blinks, measure_blinks

LONG_S = 3000
LONG = 25 * LONG_S


def test_same_seed_same_blinks_and_longer_clips_go_on():
    short, long = (generate_blinks(n, 25, BlinkHabit(), seed=3) for n in (300, 900))
    np.testing.assert_array_equal(short, long[:300])
    assert not np.array_equal(long, generate_blinks(900, 25, BlinkHabit(), seed=4))
    assert 0 <= long.min() and 0.7 < long.max() <= 1


@pytest.mark.parametrize("rate", [0.15, 0.3, 0.6])
def test_rate_depth_and_duration_are_those_asked_for(rate):
    habit = BlinkHabit(rate, 0.35, 0.8)
    closure = generate_blinks(LONG, 25, habit, seed=1)
    peaks, duration, depth = find_blinks(closure, 25)
    assert len(peaks) / LONG_S == pytest.approx(rate, rel=0.15)
    assert np.median(duration) == pytest.approx(0.35, abs=0.05)
    assert np.median(depth) == pytest.approx(0.8, abs=0.08)
    gaps = np.diff(peaks) / 25
    assert gaps.min() > 0.4 and gaps.std() > 0.3 * gaps.mean()


def test_lids_close_faster_than_they_open():
    closure = generate_blinks(LONG, 100, BlinkHabit(0.2, 0.3, 1.0), seed=0)
    peaks, _, _ = find_blinks(closure, 100)
    closing = np.array([closure[p - 8 : p].sum() for p in peaks[1:-1]])
    opening = np.array([closure[p + 1 : p + 9].sum() for p in peaks[1:-1]])
    assert np.median(opening) > 1.2 * np.median(closing)


def test_measured_habit_leans_on_the_average_when_the_clip_is_short():
    made = generate_blinks(LONG, 25, BlinkHabit(0.6, 0.35, 0.9), seed=1)
    assert measure_blinks(made, 25).rate_hz == pytest.approx(0.6, rel=0.15)
    assert measure_blinks(np.zeros(75), 25).rate_hz == pytest.approx(0.25 * 20 / 23)
    assert measure_blinks(np.zeros(LONG), 25).rate_hz < 0.02
    # Talking makes lids tremble; that is no blink.
    assert len(find_blinks(0.1 + 0.05 * np.sin(np.arange(500) / 3), 25)[0]) == 0


def test_nobody_blinks_at_rate_zero_and_lids_never_overshoot():
    assert generate_blinks(500, 25, BlinkHabit(rate_hz=0.0), seed=0).max() == 0
    lids = np.full((50, 2), 0.4, np.float32)
    out = add_blinks(lids, np.linspace(0, 1, 50, dtype=np.float32))
    assert out[0, 0] == pytest.approx(0.4) and out[-1].tolist() == [1, 1] and np.all(np.diff(out[:, 0]) > 0)

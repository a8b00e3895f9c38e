import numpy as np
import pytest

from models import metrics


def test_correlation_by_hand():
    assert metrics.correlation([1, 2, 3, 4], [2, 4, 6, 8]) == pytest.approx(1)
    assert metrics.correlation([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)
    assert np.isnan(metrics.correlation([1, 1, 1], [1, 2, 3]))


@pytest.mark.parametrize("lag", [-3, 0, 5])
def test_lag_is_found_and_signed(lag):
    curve = np.random.default_rng(0).normal(size=120)
    true, pred = curve[20:100], curve[20 - lag : 100 - lag]  # positive: pred shows later what true shows now
    assert metrics.best_lag(pred, true) == lag
    assert metrics.lag_correlations(pred, true)[lag] == pytest.approx(1)


def test_invalid_frames_do_not_count():
    true = np.random.default_rng(1).normal(size=60)
    pred, valid = true.copy(), np.ones(60, bool)
    pred[10:15], valid[10:15] = 100, False
    assert metrics.lag_correlations(pred, true, valid)[0] == pytest.approx(1)


def test_lip_vertex_error_by_hand():
    true = np.zeros((2, 3, 3))
    pred = true.copy()
    pred[0, 1] = [3, 4, 0]
    pred[1, 2] = [0, 0, 1]
    assert metrics.lip_vertex_error(pred, true) == pytest.approx(3)
    assert metrics.lip_vertex_error(pred, true, squared=True) == pytest.approx(13)


def test_bootstrap_interval_holds_the_mean():
    values = np.random.default_rng(2).normal(5, 1, 200)
    low, high = metrics.bootstrap_interval(values)
    assert low < values.mean() < high and high - low == pytest.approx(2 * 1.96 / np.sqrt(200), rel=0.2)


def test_halves_are_found_by_what_is_stable_in_a_person():
    rng = np.random.default_rng(3)
    person = rng.normal(size=(12, 4))
    noise = rng.normal(0, 5, (2, 12, 20))  # numbers that say nothing about who speaks, and are larger
    first, second = (np.concatenate([person + rng.normal(0, 0.05, person.shape), n], 1) for n in noise)
    weight = metrics.reliability(first, second)
    assert weight[:4].min() > 20 * weight[4:].max()
    share, by_speaker = metrics.split_half_retrieval(first, second, [f"p{k}" for k in range(12)])
    assert share == np.mean(list(by_speaker.values())) >= 0.9
    shuffled = metrics.split_half_retrieval(first, second[rng.permutation(12)], [f"p{k}" for k in range(12)])[0]
    assert shuffled < 0.5

import numpy as np
import pytest
import torch

from models import metrics


def test_correlation_by_hand():
    assert metrics.correlation([1, 2, 3, 4], [2, 4, 6, 8]) == pytest.approx(1)
    assert metrics.correlation([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)
    assert np.isnan(metrics.correlation([1, 1, 1], [1, 2, 3]))


@pytest.mark.parametrize("lag", [-3, 0, 5])
def test_lag_is_found_and_signed(lag):
    curve = np.random.default_rng(0).normal(size=120)
    true, pred = curve[20:100], curve[20 - lag : 100 - lag]  # positive: pred shows later what true shows now
    assert metrics.peak_lag(metrics.lag_correlations(pred, true)) == lag
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


@pytest.fixture
def vertices():
    """(pred, true), (40, 12, 3) mm."""
    rng = np.random.default_rng(4)
    true = rng.normal(0, 5, (40, 12, 3))
    return true + rng.normal(0, 1, true.shape), true


def test_lip_vertex_error_agrees_with_torchmetrics(vertices):
    oracle = pytest.importorskip("torchmetrics.functional.multimodal").lip_vertex_error
    pred, true = (torch.tensor(x) for x in vertices)
    expected = float(oracle(pred, true, list(range(12))))
    assert metrics.lip_vertex_error(*vertices, squared=True) == pytest.approx(expected)


def test_vertex_and_velocity_error_by_hand():
    true = np.zeros((3, 2, 3))
    pred = true.copy()
    pred[1, 0] = [3, 0, 4]  # 5 mm for one frame of one vertex: there and back, 5 mm in 1/25 s each
    assert metrics.mean_vertex_error(pred, true) == pytest.approx(5 / 6)
    found = metrics.velocity_error(pred, true, fps=25)
    assert found == {"velocity": pytest.approx(5 * 25 / 2), "frames": 2, "skipped_frames": 0}
    known = metrics.velocity_error(pred, true, fps=25, valid=[True, True, False])
    assert known == {"velocity": pytest.approx(5 * 25 / 2), "frames": 1, "skipped_frames": 1}


def test_errors_do_not_change_when_both_are_turned_or_moved(vertices):
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    moved = [x @ turn.T + [1, 2, 3] for x in vertices]
    for metric in (
        metrics.lip_vertex_error,
        metrics.mean_vertex_error,
        lambda a, b: metrics.velocity_error(a, b)["velocity"],
    ):
        assert metric(*moved) == pytest.approx(metric(*vertices))
        assert metric(vertices[1], vertices[1]) == 0


def test_concordance_by_hand_and_bounds():
    # means 2 and 3, both variances 2/3, covariance 2/3: (4/3) / (4/3 + 1)
    assert metrics.concordance([1, 2, 3], [2, 3, 4]) == pytest.approx(4 / 7)
    rng = np.random.default_rng(6)
    true = rng.normal(size=80)
    pred = 0.5 * true + rng.normal(size=80)
    assert metrics.concordance(true, true) == pytest.approx(1)
    assert abs(metrics.concordance(pred, true)) <= abs(metrics.correlation(pred, true))
    assert metrics.concordance(np.ones(80), true) == 0 and np.isnan(metrics.concordance(np.ones(5), np.ones(5)))


def test_curve_agreement_by_hand():
    found = metrics.curve_agreement([1, 3, 5, 99], [2, 3, 4, 0], [True, True, True, False])
    assert found == {
        "correlation": pytest.approx(1),
        "concordance": pytest.approx(2 * (4 / 3) / (8 / 3 + 2 / 3)),
        "spread_ratio": pytest.approx(2),
        "distance": pytest.approx(2 / 3),
        "bias": pytest.approx(0),
    }


@pytest.mark.parametrize("late_s", [-0.05, 0.013, 0.092])
def test_lag_between_frames_is_found(late_s):
    time, rng = np.arange(300) / 25, np.random.default_rng(7)
    waves = rng.uniform(0.5, 4, 12), rng.uniform(0, 6, 12)
    curve = lambda t: np.sin(2 * np.pi * np.outer(t, waves[0]) + waves[1]).sum(1)  # noqa: E731
    found = metrics.sub_frame_lag(metrics.lag_correlations(curve(time - late_s), curve(time)))
    assert found == pytest.approx(25 * late_s, abs=0.1)


def test_what_is_not_defined_is_nan():
    flat, moving = np.ones(20), np.arange(20.0)
    empty = np.zeros((0, 3, 3))
    assert np.isnan(metrics.peak_lag(metrics.lag_correlations(flat, moving))) and np.isnan(
        metrics.sub_frame_lag({0: np.nan})
    )
    assert np.isnan(metrics.opening_ratio(moving, flat)) and metrics.opening_ratio(flat, moving) == 0
    assert np.isnan(metrics.derivative_ratio(moving, flat)["ratio"])
    for metric in (metrics.lip_vertex_error, metrics.mean_vertex_error, metrics.opening_distance):
        assert np.isnan(metric(empty, empty))
    assert np.isnan(metrics.velocity_error(empty[:1], empty[:1])["velocity"])
    assert all(np.isnan(v) for v in metrics.upper_face_dynamics(empty, empty, empty[:1]).values())


def test_nan_in_a_valid_frame_is_not_skipped(vertices):
    pred, true = (x.copy() for x in vertices)
    pred[3] = np.nan
    assert np.isnan(metrics.lip_vertex_error(pred, true)) and np.isnan(metrics.opening_distance(pred, true))
    valid = np.arange(40) != 3
    assert metrics.lip_vertex_error(pred, true, valid=valid) == metrics.lip_vertex_error(
        vertices[0][valid], true[valid]
    )


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"\[3, 4\] frames"):
        metrics.opening_distance([1, 2, 3], [1, 2, 3, 4])


def test_jitter_by_hand():
    time = np.arange(50.0)
    cubic = time**3  # third difference 6 everywhere
    assert metrics.derivative_ratio(2 * cubic, cubic)["ratio"] == pytest.approx(2)
    assert metrics.derivative_ratio(2 * cubic, cubic, relative=True)["ratio"] == pytest.approx(1)
    broken = cubic.copy()
    broken[20] = 1e9
    found = metrics.derivative_ratio(broken, cubic, valid=time != 20)
    assert found == {"ratio": pytest.approx(1), "frames": 43, "skipped_frames": 4}


def test_upper_face_dynamics_by_hand():
    rest = np.zeros((2, 3))
    true, pred = np.zeros((2, 2, 3)), np.zeros((2, 2, 3))
    true[:, 0, 0] = [0, 4]  # spread of the displacement 2, of its square 8
    pred[:, 0, 0] = [0, 2]  # 1 and 2
    pred[:, 1, 1] = [0, 1]  # 0.5 and 0.5, where the truth is still
    found = metrics.upper_face_dynamics(pred, true, rest)
    assert found["signed_mm"] == pytest.approx((1 - 0.5) / 2) and found["absolute_mm"] == pytest.approx((1 + 0.5) / 2)
    assert found["signed_legacy_m2"] == pytest.approx(1e-6 * (6 - 0.5) / 2)
    assert found["absolute_legacy_m2"] == pytest.approx(1e-6 * (6 + 0.5) / 2)


def test_landmark_distance_by_hand():
    true = np.zeros((2, 68, 2))
    true[:, 42:48, 0] = 50  # eye centres 50 px apart
    pred = true.copy()
    pred[:, 48:68] += [3, 4]  # the mouth 5 px off as a whole
    pred[1] = np.nan  # no face found
    found = metrics.landmark_distance(pred, true, [True, False])
    assert found["mouth_px"] == found["lips_px"] == pytest.approx(5) and found["mouth"] == pytest.approx(0.1)
    assert found["whole_px"] == pytest.approx(5 * 20 / 68) and found["shape_px"] == pytest.approx(0)
    assert found["frames"] == found["skipped_frames"] == 1
    outer = true[:1].copy()
    outer[:, 48:60, 0] += 10  # the outer contour alone
    only = metrics.landmark_distance(outer, true[:1])
    assert only["lips_px"] == 0 and only["mouth_px"] == pytest.approx(6)
    assert np.isnan(metrics.landmark_distance(pred, true)["whole"])


def test_landmarks_over_the_eye_distance_do_not_depend_on_the_size_of_the_picture():
    rng = np.random.default_rng(8)
    true = rng.uniform(0, 200, (5, 68, 2))
    pred = true + rng.normal(0, 2, true.shape)
    small, large = metrics.landmark_distance(pred, true), metrics.landmark_distance(4 * pred, 4 * true)
    for name in ("whole", "mouth", "lips", "shape"):
        assert large[name] == pytest.approx(small[name]) and large[f"{name}_px"] == pytest.approx(
            4 * small[f"{name}_px"]
        )

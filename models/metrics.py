"""How far generated motion is from true motion. Functions of arrays, each with its unit; frames not `valid` are left out.

Where a number is not defined (nothing moves, too few frames) it is NaN, never 0. A NaN in a valid frame is not skipped: it makes
the metric NaN. Functions that lose frames beyond `valid`, because they need neighbours, return the counts beside their numbers.
Of speech, style and pose: `speech_metrics`, `style_metrics`, `pose_metrics`; of sets of motions: `distribution_metrics`.
"""

import numpy as np

from models.distribution_metrics import frechet_distance  # noqa: F401  (part of this module's interface)

MOUTH = slice(48, 68)
INNER_LIPS = slice(60, 68)
EYES = (slice(36, 42), slice(42, 48))
FLAT = 1e-9  # a spread below this, in any unit used here, is rounding and not motion


def chosen(valid, *arrays):
    """Arrays (T, ...) as float64 without the frames that are not valid; T must agree."""
    arrays = [np.asarray(a, np.float64) for a in arrays]
    lengths = {len(a) for a in arrays} | ({len(valid)} if valid is not None else set())
    if len(lengths) > 1:
        raise ValueError(f"curves of {sorted(lengths)} frames came, one length is needed: cut them to the same frames")
    return arrays if valid is None else [a[np.asarray(valid, bool)] for a in arrays]


def frame_counts(valid, n_frames):
    """{"frames", "skipped_frames"}: how many of n_frames a metric saw."""
    seen = n_frames if valid is None else int(np.sum(valid))
    return {"frames": seen, "skipped_frames": n_frames - seen}


def mean_or_nan(values):
    """Mean of anything, NaN of nothing."""
    values = np.asarray(values, np.float64)
    return float(values.mean()) if values.size else float("nan")


def correlation(pred, true, valid=None):
    """Pearson correlation of two curves (T,); NaN where one of them is flat or under three frames long."""
    pred, true = chosen(valid, pred, true)
    if len(pred) < 3 or not min(pred.std(), true.std()) >= FLAT:
        return float("nan")
    return float(np.corrcoef(pred, true)[0, 1])


def concordance(pred, true, valid=None):
    """Concordance correlation of two curves (T,), Lin 1989: 2 cov / (var + var + (mean - mean)^2), 1 only where they are equal.

    0 for a flat curve against one that moves; NaN where both are flat or under three frames long.
    """
    pred, true = chosen(valid, pred, true)
    if len(pred) < 3 or max(pred.std(), true.std()) < FLAT:
        return float("nan")
    covariance = ((pred - pred.mean()) * (true - true.mean())).mean()
    return float(2 * covariance / (pred.var() + true.var() + (pred.mean() - true.mean()) ** 2))


def opening_ratio(pred, true, valid=None):
    """Spread of one curve (T,) over that of another: 1 as lively, under 1 more restrained; NaN where the true one is flat."""
    pred, true = chosen(valid, pred, true)
    return float(pred.std() / true.std()) if len(true) and true.std() >= FLAT else float("nan")


def opening_distance(pred, true, valid=None):
    """MOD: mean absolute difference of two curves (T,) in their own unit, such as lip openings in mm."""
    pred, true = chosen(valid, pred, true)
    return mean_or_nan(np.abs(pred - true))


def curve_agreement(pred, true, valid=None):
    """How well a curve (T,) in mm, such as lip opening or mouth width, follows the true one.

    {"correlation", "concordance", "spread_ratio": no unit, "distance": mm, "bias": mm, mean generated less mean true}.
    """
    pred_seen, true_seen = chosen(valid, pred, true)
    return {
        "correlation": correlation(pred_seen, true_seen),
        "concordance": concordance(pred_seen, true_seen),
        "spread_ratio": opening_ratio(pred_seen, true_seen),
        "distance": opening_distance(pred_seen, true_seen),
        "bias": mean_or_nan(pred_seen - true_seen),
    }


def lag_correlations(pred, true, valid=None, max_lag=8):
    """Correlation of pred (T,) with true (T,) at each shift: {lag in frames: r}; a positive lag means pred comes late."""
    pred, true = chosen(None, pred, true)
    valid = np.ones(len(true), bool) if valid is None else np.asarray(valid, bool)
    out = {}
    for lag in range(-max_lag, max_lag + 1):
        if abs(lag) >= len(true):
            out[lag] = float("nan")
            continue
        ahead, behind = slice(max(lag, 0), len(pred) + min(lag, 0)), slice(max(-lag, 0), len(true) - max(lag, 0))
        both = valid[behind] & valid[ahead]
        out[lag] = correlation(pred[ahead][both], true[behind][both])
    return out


def peak_lag(curve):
    """Lag of the largest of `lag_correlations`, the smaller shift of equal ones; NaN where nothing moves."""
    curve = {lag: r for lag, r in curve.items() if np.isfinite(r)}
    return max(curve, key=lambda lag: (curve[lag], -abs(lag))) if curve else float("nan")


def sub_frame_lag(curve):
    """Lag in frames and parts of a frame: top of the parabola through the largest of `lag_correlations` and its neighbours.

    The whole frame where the peak lies at an end of the curve, NaN where nothing moves.
    """
    peak = peak_lag(curve)
    before, after = curve.get(peak - 1, np.nan), curve.get(peak + 1, np.nan)
    if not np.isfinite([before, after]).all():
        return float(peak)
    bend = before - 2 * curve[peak] + after
    return float(peak + 0.5 * (before - after) / bend) if bend < 0 else float(peak)


def lip_vertex_error(pred, true, squared=False, valid=None):
    """LVE: mean over frames of the largest lip-vertex distance (MeshTalk 2021; squared in FaceFormer's and CodeTalker's code).

    pred, true: (T, L, 3) lip vertices, head pose removed, in mm. Returns mm, or mm^2 when squared (1e-6 of the papers' m^2).
    """
    pred, true = chosen(valid, pred, true)
    worst = np.linalg.norm(pred - true, axis=-1).max(-1)
    return mean_or_nan(worst**2 if squared else worst)


def mean_vertex_error(pred, true, valid=None):
    """MVE: mean distance over frames and vertices (T, V, 3), mm (FaceDiffuser 2023); of the lips alone, the mean lip error."""
    pred, true = chosen(valid, pred, true)
    return mean_or_nan(np.linalg.norm(pred - true, axis=-1))


def differences(x, order, valid=None):
    """Differences of order n along time (T, ...) -> (K, ...), those that touch a frame that is not valid left out."""
    x = np.asarray(x, np.float64)
    if len(x) <= order:
        return x[:0]
    known = np.ones(len(x), bool) if valid is None else np.asarray(valid, bool)
    whole = np.lib.stride_tricks.sliding_window_view(known, order + 1).all(-1)
    return np.diff(x, order, axis=0)[whole]


def velocity_error(pred, true, fps=25, valid=None):
    """Mean over frames and vertices of the length of the difference of velocities, mm/s, of (T, V, 3) in mm.

    {"velocity": mm/s, "frames", "skipped_frames"}: pairs of neighbouring frames seen and left out. Give lip vertices for the lips.
    """
    chosen(valid, pred, true)
    moved = [fps * differences(x, 1, valid) for x in (pred, true)]
    n = len(moved[0])
    error = mean_or_nan(np.linalg.norm(moved[0] - moved[1], axis=-1))
    return {"velocity": error, "frames": n, "skipped_frames": max(len(true) - 1, 0) - n}


def derivative_ratio(pred, true, order=3, valid=None, relative=False):
    """Jitter: RMS of the third difference (jerk) of generated motion (T, ...) over that of the real one; 1 as smooth, above 1 shakier.

    relative: each RMS is divided by the motion's own spread over time first, so that a livelier motion is not taken for a shakier one.
    {"ratio": no unit, "frames", "skipped_frames": of the real motion}. The two may be of different length, and `valid` belongs to
    both; NaN where the real one does not move.
    """
    rough = []
    for x in (pred, true):
        x = np.asarray(x, np.float64)
        known = np.ones(len(x), bool) if valid is None else np.asarray(valid, bool)[: len(x)]
        changes = differences(x, order, known)
        spread = np.sqrt(mean_or_nan(x[known].var(0))) if relative and known.any() else 1.0
        rough.append(np.sqrt(mean_or_nan(changes**2)) / spread if spread >= FLAT else np.nan)
    n = len(changes)
    ratio = float(rough[0] / rough[1]) if rough[1] >= FLAT else float("nan")
    return {"ratio": ratio, "frames": n, "skipped_frames": max(len(true) - order, 0) - n}


def upper_face_dynamics(pred, true, rest, valid=None):
    """FDD (CodeTalker 2023): by how much the spread of each upper-face vertex's displacement over time is too small.

    pred, true: (T, U, 3) vertices above the nose, mm; rest: (U, 3) the person without expression. True less generated, so above 0:
    too little motion. Signed means let errors cancel, absolute ones do not. Legacy: spread of the squared displacement, as the code
    has it, in m^2; mm: spread of the displacement, as the papers write it. Population deviation.
    {"signed_mm", "absolute_mm", "signed_legacy_m2", "absolute_legacy_m2"}
    """
    pred, true = chosen(valid, pred, true)
    if len(true) < 2:
        return dict.fromkeys(("signed_mm", "absolute_mm", "signed_legacy_m2", "absolute_legacy_m2"), float("nan"))
    moved = [np.linalg.norm(x - np.asarray(rest, np.float64), axis=-1) for x in (pred, true)]
    plain = moved[1].std(0) - moved[0].std(0)
    legacy = 1e-6 * ((moved[1] ** 2).std(0) - (moved[0] ** 2).std(0))
    return {
        "signed_mm": float(plain.mean()),
        "absolute_mm": float(np.abs(plain).mean()),
        "signed_legacy_m2": float(legacy.mean()),
        "absolute_legacy_m2": float(np.abs(legacy).mean()),
    }


def landmark_distance(pred, true, valid=None):
    """LMD: mean distance of landmarks (T, 68, 2) in pixels, and the same over the true frame's distance of the eye centres.

    whole: all points (F-LMD); mouth: 48 to 67 (M-LMD); lips: the inner contour 60 to 67; shape: 48 to 67, each frame's mouth moved to
    its centre first, so that its place does not count. {"whole_px", ..., "whole", ... (no unit), "frames", "skipped_frames"}.
    Frames in which a detector found no face belong out of `valid`.
    """
    n_frames = len(true)
    pred, true = chosen(valid, pred, true)
    distance = np.linalg.norm(pred - true, axis=-1)
    centred = [x[:, MOUTH] - x[:, MOUTH].mean(1, keepdims=True) for x in (pred, true)]
    parts = {"whole": distance, "mouth": distance[:, MOUTH], "lips": distance[:, INNER_LIPS]}
    parts["shape"] = np.linalg.norm(centred[0] - centred[1], axis=-1)
    eyes = np.linalg.norm(true[:, EYES[0]].mean(1) - true[:, EYES[1]].mean(1), axis=-1)[:, None]
    out = {f"{name}_px": mean_or_nan(d) for name, d in parts.items()}
    out |= {name: mean_or_nan(d / eyes) for name, d in parts.items()}
    return out | frame_counts(valid, n_frames)


def bootstrap_interval(values, confidence=0.95, n=2000, seed=0):
    """Interval of the mean of per-clip values (N,) by resampling clips: (low, high)."""
    values = np.asarray([v for v in values if np.isfinite(v)], np.float64)
    if not len(values):
        return float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(n, len(values)))].mean(1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)

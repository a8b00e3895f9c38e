"""Measures of the pictures of a video, from the steps that a `PictureWatch` took down: copies, jumps, shaking.

Thresholds were found on filmed made-up people and on 42 real clips (HDTF, VoxCeleb2, GRID, MEAD, broadcast); the numbers
beside them are from those.
"""

import numpy as np

FIRST = 3  # steps at the start that are not judged: no face is known yet
AROUND = 8  # steps on either side that a step is compared with
LOW = 0.5  # a copy: a step below this part of both steps beside it,
PRODUCT = 0.06  # whose square is below this part of their product,
CEILING = 1.5  # to which the step before counts up to this many usual steps
CODING, PART = 0.2, 0.15  # what compression makes of a copy: grey levels, and part of the usual step
MADE_UP = 1.5  # after a copy in place of a lost picture the next step is this much larger than the one before it
SMALLEST_CHANGE = 0.1  # grey levels: where the usual step is smaller the picture is a still, and nothing is a copy
LONGEST_COPY = 4  # steps: longer stillness is somebody holding still, or a frozen picture
LEAST_MOTION = 0.0015  # widths of the face: smaller steps say nothing of regularity
JUMP, JUMP_CHANGE = 1.5, 1.25  # a step this much larger than those beside it, in motion and in change
REGULAR = 0.6  # share of the distances between copies that must agree for a pattern of frame-rate conversion
HIGH_FREQUENCIES = np.array([-1.0, 3.0, -3.0, 1.0]) / 6  # fourth difference of a position, from its steps


def repeated(steps):
    """Ids of stored pictures that show the one before once more, (n,) int; stills have none.

    A copy is a step much smaller than those on both sides of it, the more so the more the step after it makes up for what
    was missed. Compression makes copies differ a little, most of all where little moves.
    """
    change, usual, found, t = steps.face_change, _usual(steps.face_change), [], FIRST
    while t < len(steps) - 1:
        stop = _copies_from(change, usual[t], t) if usual[t] > SMALLEST_CHANGE else t
        found += range(t, stop)
        t = max(stop, t + 1)
    return np.array(found, int)


def _copies_from(change, usual, start):
    """End of the run of copies that begins at picture `start`; start itself if none does."""
    for stop in range(start + 1, min(start + LONGEST_COPY + 1, len(change))):
        within, before, after = change[start:stop], change[start - 1], change[stop]
        if within.max() < LOW * min(before, after):
            size = float(within.mean())
            is_small = size**2 < PRODUCT * after * min(before, after, CEILING * usual)
            return stop if is_small and size < CODING + PART * usual else start
    return start


def conversion_period(steps, copies):
    """Every how many stored pictures one is a copy, if that is so throughout (6 in 25 fps stored as 30), else 0."""
    if len(copies) < 4:
        return 0
    gaps = np.diff(copies)
    counts = np.bincount(gaps)
    period = int(counts[2:].argmax()) + 2 if len(counts) > 2 else 0
    if period == 0 or counts[period] < REGULAR * len(gaps) or len(copies) < 0.5 * len(steps) / period:
        return 0
    # a copy that was put in is followed by a usual step; one that stands in for a lost picture by a large one
    before, after = steps.face_change[copies - 1], steps.face_change[np.minimum(copies + 1, len(steps) - 1)]
    return period if np.median(after / np.maximum(before, SMALLEST_CHANGE)) < MADE_UP else 0


def jumps(steps, copies):
    """Ids of pictures before which others seem to be missing: the face moves on farther than in the steps beside it."""
    motion, change = 100 * steps.face_motion * [1, 1, 0.3, 0.3], steps.face_change
    taken = set(np.concatenate([copies, copies + 1]).tolist())
    found = []
    for t in range(FIRST + 1, len(steps) - 1):
        mean = (motion[t - 1] + motion[t + 1]) / 2
        length = float(np.linalg.norm(mean))
        if length > 100 * LEAST_MOTION and motion[t] @ mean > JUMP * length**2 and t not in taken:
            if change[t] > JUMP_CHANGE * max(change[t - 1], change[t + 1]):
                found.append(t)
    return np.array(found, int)


def time_gaps(steps):
    """Number of pictures that the time stamps say are missing: holes in otherwise steady time."""
    if len(steps) < 3:
        return 0
    step = np.diff(steps.times)
    usual = max(float(np.median(step)), 1e-6)
    return int(np.round(step[step > 1.6 * usual] / usual - 1).sum())


def shake(steps):
    """How far the whole picture is off its smooth path, percent of the width of the face (median over time).

    That is what a crop does that was found anew for every picture; a head that moves leaves the rest of the picture
    where it is. Still cameras 0.02-0.17, faces cropped one by one in VoxCeleb2 0.29-0.41.
    """
    return min(_off_path(steps.face_motion[FIRST:, :2]), _off_path(steps.frame_motion[FIRST:]))


def landmark_jitter(points, valid):
    """How far the landmarks are off their smooth path, percent of the width of the face: points (T, 478, 2+), valid (T,)."""
    if valid.sum() < 6:
        return 0.0
    width = max(float(np.median(np.ptp(points[valid][..., 0], axis=-1))), 1.0)
    moved = np.diff(points[..., :2].mean(1), axis=0) / width
    return _off_path(moved[valid[1:] & valid[:-1]])


def _off_path(moved):
    """Steps (N, 2) of a position -> 100 x the median distance of the position from the cubic through its neighbours."""
    if len(moved) < 4:
        return 0.0
    off = np.stack([np.convolve(column, HIGH_FREQUENCIES, "valid") for column in moved.T], 1)
    return 100 * float(np.median(np.linalg.norm(off, axis=1)))


def _usual(change):
    """(N,) median of the AROUND values on either side."""
    padded = np.pad(change.astype(float), AROUND, constant_values=np.nan)
    padded[AROUND] = np.nan  # row 0 is blank
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * AROUND + 1).copy()
    windows[:, AROUND] = np.nan
    return np.nan_to_num(np.nanmedian(windows, axis=1)) if len(change) > 2 else np.zeros(len(change))

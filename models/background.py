"""What lies around the head in a new pose, taken from somebody's own video.

`assign` chooses a frame of the learning clip for every new frame:

keyframes  the headpose paper's way (Yi et al., 2020): frames at the extrema of the roll are looked up by pose, in between the source
           index runs evenly. The paper then shows the pose of the assigned frame, a time-warped replay, and freezes where an
           index repeats.
ping_pong  the paper's second way: forward and back through the clip, whatever the pose.
follow     ours: a walk through the clip at its own pace, forward or back and never still, that stays near the new poses.

The assigned frame is the source of a `composite.Compositor`, which bends it so that hair, neck and collar go with the new pose, while
shoulders and scene stay as they were filmed. Poses are those of one crop for the whole clip; `headpose_track.through_crop` takes
them to that of the assigned frame. One picture instead of a clip works the same: every index is 0.
"""

import cv2
import numpy as np

TRANS_RAD_PER_DM = 0.3  # how much of an angle a dm counts when poses are compared
EXTREMA_SMOOTHING = 7  # frames of the Hann window over the roll
SMALLEST_GAP = 3  # frames between key frames
# Cost, in squared degrees of pose, of turning round in the clip and of passing over a frame; steps are -2, -1, 1, 2.
TURN_COST, SKIP_COST = 150.0, 20.0
MODES = ("follow", "keyframes", "ping_pong")
HAIR = 0.12  # of a head's height: how far hair reaches beyond the scalp


class BackgroundError(ValueError):
    """Poses or frames from which no background can be made."""


def assign(learn_pose, new_pose, mode="follow"):
    """A frame of the learning clip for every new pose: (N, 3 or 6) and (T, 3 or 6), radians and dm -> (T,) int64 below N.

    mode: one of MODES. follow needs poses through one crop (`headpose_track.still_pose`), and N of at least 3 to move.
    """
    learn_pose, new_pose = (np.asarray(x, np.float64) for x in (learn_pose, new_pose))
    if len(learn_pose) == 0 or len(new_pose) == 0 or learn_pose.shape[1] != new_pose.shape[1]:
        raise BackgroundError(f"poses {learn_pose.shape} and {new_pose.shape} came: (N, 6) and (T, 6) are needed")
    if mode not in MODES:
        raise BackgroundError(f"mode {mode!r} came, there is {', '.join(MODES)}: use one of these")
    if mode == "ping_pong" or len(learn_pose) < 3:
        return ping_pong(len(learn_pose), len(new_pose))
    return {"follow": _follow, "keyframes": _keyframes}[mode](learn_pose, new_pose)


def ping_pong(n_source, n_frames, start=0):
    """Indices 0, 1, .., N - 1, N - 2, .., 0, 1, ..: (T,) int64."""
    order = (start + np.arange(n_frames)) % max(2 * n_source - 2, 1)
    return np.where(order < n_source, order, 2 * n_source - 2 - order)


def key_frames(roll):
    """Frames (K,) at which the smoothed roll (T,) turns back: extrema of extrema until at most a tenth of all frames is left.

    Of two closer than SMALLEST_GAP the one with the larger roll stays; the first and the last frame always belong.
    """
    n = len(roll)
    window = np.hanning(EXTREMA_SMOOTHING + 2)[1:-1]
    smooth = np.convolve(np.pad(roll, EXTREMA_SMOOTHING // 2, mode="edge"), window / window.sum(), "valid")
    keys = _extrema(smooth, np.arange(n), 1)
    while len(keys) > n / 10:
        fewer = _extrema(smooth, keys, 2)
        if len(fewer) in (0, len(keys)):
            break
        keys = fewer
    kept = []
    for k in keys:
        if kept and k - kept[-1] < SMALLEST_GAP:
            kept[-1] = max(kept[-1], int(k), key=lambda i: abs(smooth[i]))
        else:
            kept.append(int(k))
    return np.unique([0, *kept, n - 1])


def _extrema(values, at, order):
    """Of the frames `at`, those whose value is above, or below, that of `order` neighbours on both sides."""
    v = values[at]
    found = np.zeros(len(v), bool)
    for sign in (1, -1):
        high = np.ones(len(v), bool)
        for k in range(1, order + 1):
            beside = np.full((2, len(v)), np.inf)
            beside[0, k:], beside[1, :-k] = sign * v[:-k], sign * v[k:]
            high &= (sign * v > beside).all(0)
        found |= high
    return at[found]


def _keyframes(learn, new):
    """The paper's: nearest source frame of each key frame, within the key frames' gap of the one before; indices in between."""
    keys = key_frames(new[:, 2])
    far = np.abs(new[keys][:, None, :3] - learn[None, :, :3]).sum(-1)  # (K, N), L1 of the angles
    chosen = [int(far[0].argmin())]
    for k in range(1, len(keys)):
        period = int(keys[k] - keys[k - 1])
        low, high = max(0, chosen[-1] - period), min(len(learn), chosen[-1] + period)
        chosen.append(low + int(far[k, low:high].argmin()))
    return np.round(np.interp(np.arange(len(new)), keys, chosen)).astype(np.int64)


def _follow(learn, new):
    """The cheapest walk: squared pose distance plus costs of turning round and of passing over frames, by dynamic programming."""
    weight = np.degrees(np.array([1, 1, 1] + [TRANS_RAD_PER_DM] * (learn.shape[1] - 3)))
    a, b = (learn * weight).astype(np.float32), (new * weight).astype(np.float32)
    n, steps = len(a), np.array([1, 2, -1, -2])
    price = np.abs(steps) == 2
    cost = np.repeat(((a - b[0]) ** 2).sum(1)[None], 4, 0)  # (step that led here, frame)
    came = np.zeros((len(b), 4, n), np.int8)
    for t in range(1, len(b)):
        here = ((a - b[t]) ** 2).sum(1)
        ahead = np.full((4, n), np.inf, np.float32)
        for s, step in enumerate(steps):
            turn = TURN_COST * (np.sign(steps) != np.sign(step)) + SKIP_COST * price[s]
            total = cost + turn[:, None].astype(np.float32)
            best = total.argmin(0)
            reached = total[best, np.arange(n)]
            to = slice(step, None) if step > 0 else slice(None, step)
            start = slice(None, -step) if step > 0 else slice(-step, None)
            ahead[s, to], came[t, s, to] = reached[start], best[start]
        cost = ahead + here
    s, i = np.unravel_index(cost.argmin(), cost.shape)
    walk = np.empty(len(b), np.int64)
    for t in range(len(b) - 1, -1, -1):
        walk[t] = i
        if t:
            s, i = came[t, s, i], i - steps[s]
    return walk


def continued(picture, pad, points):
    """A picture (H, W, 3) with `pad` pixels more on every side, which show where a head has moved away from the rim.

    They mirror the picture; but on a side that the head, points (N, 2), touches with its hair, the last row goes on: a mirror would
    show a second crown.
    """
    out, drawn_out = (
        cv2.copyMakeBorder(picture, *[pad] * 4, kind) for kind in (cv2.BORDER_REFLECT_101, cv2.BORDER_REPLICATE)
    )
    low, high = points.min(0), points.max(0)
    reach, width = HAIR * (high[1] - low[1]), picture.shape[1]
    for touched, side in (
        (low[1] < reach, np.s_[:pad]),
        (low[0] < reach, np.s_[:, :pad]),
        (high[0] > width - reach, np.s_[:, pad + width :]),
    ):
        if touched:
            out[side] = drawn_out[side]
    return out

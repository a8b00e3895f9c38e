"""Frames in which the landmarker finds no face: what the regressor sees there instead of a straight line between neighbours.

The regressor looks at the lost frames and at good ones of the same clip. What usually lies between fit and guess on good frames is
taken off. What is left is weighed against the line: by how far this person moves in so many frames, and by how well the
guesses follow the fit on good frames, worse where the regressor says that it sees worse or where they jump as the gap begins.
"""

import numpy as np
import torch

from deep_3drecon import camera
from deep_3drecon.align import align5, crop_affine, whittaker
from deep_3drecon.face_model import load_face_model, rotation_from_vector
from deep_3drecon.fit import EXPRESSION_CUTOFF_HZ, POSE_CUTOFF_HZ, fill_gaps, reproject
from deep_3drecon.landmarks import points5, points68
from deep_3drecon.open_regressor import OpenRegressor, cut, face_crop, into_crop

N_BESIDE = 8  # good frames looked at on either side of a gap
N_USUAL = 32  # good frames of the whole clip that tell what usually lies between fit and guess
FEWEST_FOR_LINE = 8
N_EDGE = 2  # frames at either end of a gap
MIN_PRESENCE = 0.5
SLIP_DEG = 9.0
MAX_ERROR_DEG = 25.0  # by the guess's own expectation; beyond it the guess is not used
PARTS = ("angle", "trans", "exp")
# least error of a guess, standard deviation: radians, dm, and an expression coefficient
LEAST_ERROR = {"angle": 0.035, "trans": 0.04, "exp": 0.03}
CUTOFF_HZ = {"angle": POSE_CUTOFF_HZ, "trans": POSE_CUTOFF_HZ, "exp": EXPRESSION_CUTOFF_HZ}
WIDE_SIZE, WIDE_SCALE = 280, 0.75  # picture of a frame that is kept for a second look, in px of the canonical crop
CHUNK = 64


def fill_lost(track, frames, regressor=None):
    """FaceTrack whose frames that are not valid come from the regressor where it sees a face.

    They stay marked as not valid, and so are then frames beside a gap on which the landmarks had already slipped.
    frames: all T frames in order, an iterable of (H, W, 3) uint8 RGB; it is not touched where nothing is lost. regressor: an
    `OpenRegressor`, the released one by default. Only tracks of the open head are changed.
    """
    if track.valid.all() or track.face_model != "open":
        return track
    model, chosen = load_face_model("open"), frames_to_see(track.valid)
    seen = see(track, chosen, frames, regressor or OpenRegressor.load(), model)
    trusted = (seen["presence"] > MIN_PRESENCE) & (seen["rotation_error"] < MAX_ERROR_DEG)
    valid = without_slips(track, chosen, seen, trusted)
    line = {name: fill_gaps(track.parts()[name], valid) for name in PARTS}
    offsets, turns = from_line(line, chosen, seen)
    lost = ~valid[chosen]
    for name in PARTS:
        worse = growth(seen["lip_error" if name == "exp" else "rotation_error"], ~lost & trusted)
        change = usual(offsets[name], ~lost & trusted) - offsets[name]
        if name == "exp":  # lips jump all the time: good frames tell how well they are guessed
            error = (LEAST_ERROR[name] ** 2 + scatter(offsets[name], ~lost & trusted)) * worse
        else:  # a head does not: where the guess does as the gap begins, it is the picture that is another one
            error = LEAST_ERROR[name] ** 2 * worse + jump(change, chosen, lost & trusted)
        moves = np.maximum(line_error(line[name], valid, chosen), change**2 - 4 * error)
        change = np.where((lost & trusted)[:, None], change * moves / (moves + error), 0)
        change = smooth_runs(change, chosen, lost, CUTOFF_HZ[name], track.fps)
        if name == "angle":
            moved = camera.euler_angles(rotation_from_vector(torch.from_numpy(change)) @ turns).numpy()
        else:
            moved = line[name][chosen] + change
        line[name][chosen[lost]] = moved[lost]
    line["exp"] = line["exp"].clip(0, 1)
    filled = track.select(slice(None))
    filled.valid = valid
    # the last bits of a convolution depend on the machine's threads: five digits are the same bytes each time
    made = track.layout.join(**track.parts() | {name: value.round(5) + 0.0 for name, value in line.items()})
    filled.coeff = np.where(valid[:, None], track.coeff, made).astype(np.float32)
    filled.landmarks = track.landmarks.copy()
    filled.landmarks[~valid] = reproject(filled.select(~valid), model)
    return filled


def from_line(parts, chosen, seen):
    """How far a track lies from the guesses: {"angle": rotation vectors (n, 3), "trans", "exp"}, and its rotations (n, 3, 3)."""
    turns = camera.rotation_matrix(torch.from_numpy(np.asarray(parts["angle"], np.float64)[chosen]))
    offsets = {name: parts[name][chosen] - seen[name] for name in ("trans", "exp")}
    offsets["angle"] = vector_from_rotation(turns @ torch.from_numpy(seen["rotation"]).transpose(1, 2)).numpy()
    return offsets, turns


def without_slips(track, chosen, seen, trusted):
    """`valid` (T,) without the frames beside a gap on which the landmarks had already slipped.

    There the head of the fit turns away from that of the guess by more than SLIP_DEG, or four times what is usual beside gaps.
    """
    offset = from_line(track.parts(), chosen, seen)[0]["angle"]
    good = track.valid[chosen] & trusted
    valid = track.valid.copy()
    if not good.any():
        return valid
    away = np.rad2deg(np.linalg.norm(offset - np.median(offset[good], 0), axis=1))
    slipped = np.zeros(len(track) + 2, bool)  # one frame more at either end
    slipped[chosen[good] + 1] = away[good] > max(SLIP_DEG, 4 * np.median(away[good]))
    for start, stop in gaps(track.valid):
        while slipped[start]:
            start -= 1
        while slipped[stop + 1]:
            stop += 1
        valid[start:stop] = False
    return valid if valid.any() else track.valid.copy()


def frames_to_see(valid):
    """Numbers of the lost frames and of up to N_BESIDE good ones on either side of each gap."""
    near, good = ~valid, np.flatnonzero(valid)
    near[good[np.linspace(0, len(good) - 1, min(N_USUAL, len(good))).astype(int)]] = True
    for start, stop in gaps(valid):
        near[good[good < start][-N_BESIDE:]] = True
        near[good[good >= stop][:N_BESIDE]] = True
    return np.flatnonzero(near)


def gaps(valid):
    """[(start, stop), ...] of the runs of frames that are not valid."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], valid.astype(int), [1]])))
    return list(zip(edges[::2], edges[1::2], strict=True))


def see(track, chosen, frames, regressor, model):
    """What the regressor sees in the chosen frames, in the crops of the track: {"rotation" (n, 3, 3), "trans", "exp",
    "presence", "rotation_error", "lip_error"}, float64."""
    rows, waiting, numbers = [], [], iter(chosen)
    number = next(numbers)
    for t, frame in enumerate(frames):
        if t != number:
            continue
        to_crop = aligned(track.landmarks[t], track.frame_size[1])
        waiting.append((t, wide_affine(to_crop), cut(frame, wide_affine(to_crop), WIDE_SIZE)))
        number = next(numbers, None)
        if len(waiting) == CHUNK or number is None:
            rows.append(_look_twice(track, waiting, regressor, model))
            waiting = []
        if number is None:
            break
    if number is not None:
        raise ValueError(f"the frames end before frame {number} of {len(track)}: give those that the track was made of")
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _look_twice(track, waiting, regressor, model):
    """The first look says where the face is, the second looks at the middle of it."""
    numbers, to_wide, pictures = zip(*waiting, strict=True)
    from_wide = [camera.invert_affine(torch.from_numpy(affine)).numpy() for affine in to_wide]
    to_crop = [aligned(track.landmarks[t], track.frame_size[1]) for t in numbers]
    for look in range(2):
        crops = [face_crop(p, compose(c, f)) for p, c, f in zip(pictures, to_crop, from_wide, strict=True)]
        seen = regressor.predict(np.stack(crops))
        if look == 0:
            to_crop = [aligned(points, track.frame_size[1]) for points in face_points(seen, to_crop, model)]
    change = [compose(track.crop[t].astype(np.float64), inverse(c)) for t, c in zip(numbers, to_crop, strict=True)]
    rotation, trans = into_crop(
        camera.rotation_matrix(torch.from_numpy(seen.angle).double()),
        torch.from_numpy(seen.trans).double(),
        torch.from_numpy(np.stack(change)),
    )
    return {
        "rotation": rotation.numpy(),
        "trans": trans.numpy(),
        "exp": seen.exp.astype(np.float64),
        "presence": seen.presence,
        "rotation_error": seen.rotation_error,
        "lip_error": seen.lip_error,
    }


def face_points(seen, to_crop, model):
    """Landmarks (n, 478, 2) in the source of guesses in crops."""
    id, exp, angle, trans = (torch.from_numpy(getattr(seen, name)) for name in ("id", "exp", "angle", "trans"))
    points = camera.project(camera.pose(model.landmarks(model.vertices(id, exp)), angle, trans)).double()
    return camera.apply_affine(points, torch.from_numpy(np.stack([inverse(c) for c in to_crop]))).numpy()


def aligned(points, height):
    """Affine (2, 3) from the source to the canonical crop of one face, by its landmarks (478, 2)."""
    return crop_affine(*align5(points5(points68(points.astype(np.float64))), height), height)


def wide_affine(to_crop):
    """From the source to the picture that is kept, which shows far more than the canonical crop."""
    out = to_crop * WIDE_SCALE
    out[:, 2] += (WIDE_SIZE - 1) / 2 - WIDE_SCALE * camera.CENTRE_PX
    return out


def compose(second, first):
    """Affines (2, 3): first, then second."""
    out = second[:, :2] @ first
    out[:, 2] += second[:, 2]
    return out


def inverse(affine):
    """(2, 3) array, the way back."""
    return camera.invert_affine(torch.from_numpy(affine)).numpy()


def usual(offset, good):
    """What usually lies between fit and guess, the median (k,) of the good frames; 0 where there are none: then nothing is known."""
    return np.median(offset[good], 0) if good.any() else np.zeros(offset.shape[1])


def jump(change, chosen, lost):
    """Mean square (n, k) of the change at the ends of each gap, linear across it, 0 elsewhere.

    lost (n,) bool: frames of gaps whose guess is trusted.
    """
    out, rows = np.zeros_like(change), np.flatnonzero(lost)
    if not len(rows):
        return out
    for run in np.split(rows, np.flatnonzero(np.diff(chosen[rows]) > 1) + 1):
        ends = [
            part for part in (run[:N_EDGE], run[-N_EDGE:]) if chosen[part[0]] != 0 and chosen[part[-1]] != chosen[-1]
        ]
        if ends:
            times, values = [chosen[part].mean() for part in ends], [(change[part] ** 2).mean(0) for part in ends]
            for k in range(change.shape[1]):
                out[run, k] = np.interp(chosen[run], times, [value[k] for value in values])
    return out


def scatter(offset, good):
    """Mean square (k,) of the offsets (n, k) of good frames about the usual one."""
    return np.mean((offset[good] - usual(offset, good)) ** 2, 0) if good.any() else np.zeros(offset.shape[1])


def growth(expected, good):
    """Factor (n, 1) of a guess's mean square error: the fourth power of what the regressor expects of itself, over its usual
    value on good frames; at least 1. By itself it expects too little where it sees badly."""
    return np.maximum(expected / np.median(expected[good] if good.any() else expected), 1)[:, None] ** 4


def line_error(values, valid, frames):
    """Mean square (n, k) by which the line is off at some frames, (n,) numbers; 0 where they are valid.

    By how far values (T, k) of good frames lie from the line between others that are as far away as those around the gap; their
    variance where the clip has too few of them.
    """
    good = np.flatnonzero(valid)
    before, after = np.searchsorted(good, frames, "right") - 1, np.searchsorted(good, frames)
    out = np.zeros((len(frames), values.shape[1]))
    spans = [
        (int(t - good[i]) if i >= 0 else None, int(good[j] - t) if j < len(good) else None)
        for t, i, j in zip(frames, before, after, strict=True)
    ]
    found = {span: _off_line(values, valid, *span) for span in set(spans) if span != (0, 0)}
    for row, span in enumerate(spans):
        out[row] = found.get(span, 0)
    return out


def _off_line(values, valid, left, right):
    """Mean square (k,) of values (T, k) about the line from `left` frames before to `right` after; None: a clip's end, no line."""
    shift_left, shift_right = left or 0, right or 0
    t = np.arange(shift_left, len(values) - shift_right)
    share = 0.0 if right is None else 1.0 if left is None else left / (left + right)
    t = t[valid[t] & valid[t - shift_left] & valid[t + shift_right]]
    if len(t) < FEWEST_FOR_LINE:
        return values[valid].var(0)
    line = (1 - share) * values[t - shift_left] + share * values[t + shift_right]
    return ((values[t] - line) ** 2).mean(0)


def smooth_runs(change, chosen, lost, cutoff_hz, fps):
    """Changes (n, k) of the lost frames, smooth in time and joined to the good frames beside them, where there is no change."""
    out = np.zeros_like(change)
    runs = np.split(np.arange(len(chosen)), np.flatnonzero(np.diff(chosen) > 1) + 1)
    for run in runs:
        here = np.where(lost[run][:, None], change[run], 0)
        out[run] = np.where(lost[run][:, None], whittaker(here, cutoff_hz, fps), 0)
    return out


def vector_from_rotation(rotation):
    """Axis times angle (..., 3) of rotations (..., 3, 3) by less than a half turn."""
    skew = torch.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        -1,
    )
    cos = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    sin = skew.norm(dim=-1) / 2
    return skew / 2 * (torch.atan2(sin, cos) / sin.clamp(min=1e-9))[..., None]

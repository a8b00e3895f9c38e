"""Frames in which the landmarker finds no face: what the regressor sees there instead of a straight line between neighbours.

The regressor looks at the lost frames and at some good ones on either side. How far its guess lies from the fit on the good ones
is taken off, so that the curve joins on; close to a good frame the straight line is trusted, farther away the guess.
"""

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from deep_3drecon import camera
from deep_3drecon.align import align5, crop_affine, whittaker
from deep_3drecon.face_model import load_face_model, rotation_from_vector
from deep_3drecon.fit import EXPRESSION_CUTOFF_HZ, POSE_CUTOFF_HZ, reproject
from deep_3drecon.landmarks import points5, points68
from deep_3drecon.open_regressor import OpenRegressor, cut, face_crop, into_crop

N_BESIDE = 6  # good frames looked at on either side of a gap
MIN_PRESENCE = 0.5
MAX_ERROR_DEG = 20.0  # by the guess's own expectation; beyond it the guess is not used
# frames from the nearest good one at which line and guess are trusted alike
REACH = {"angle": 2.0, "trans": 2.0, "exp": 1.5}
CUTOFF_HZ = {"angle": POSE_CUTOFF_HZ, "trans": POSE_CUTOFF_HZ, "exp": EXPRESSION_CUTOFF_HZ}
WIDE_SIZE, WIDE_SCALE = 280, 0.75  # picture of a frame that is kept for a second look, in px of the canonical crop
CHUNK = 64


def fill_lost(track, frames, regressor=None):
    """FaceTrack whose frames that are not valid come from the regressor where it sees a face; valid stays as it is.

    frames: all T frames in order, an iterable of (H, W, 3) uint8 RGB; it is not touched where nothing is lost. regressor: an
    `OpenRegressor`, the released one by default. Only tracks of the open head are changed.
    """
    if track.valid.all() or track.face_model != "open":
        return track
    model = load_face_model("open")
    chosen = frames_to_see(track.valid)
    seen = see(track, chosen, frames, regressor or OpenRegressor.load(), model)
    parts, lost = {name: value.copy() for name, value in track.parts().items()}, ~track.valid[chosen]
    trusted = (seen["presence"] > MIN_PRESENCE) & (seen["rotation_error"] < MAX_ERROR_DEG)
    turns = camera.rotation_matrix(torch.from_numpy(parts["angle"][chosen]).double())
    offsets = {name: parts[name][chosen] - seen[name] for name in ("trans", "exp")}
    offsets["angle"] = vector_from_rotation(turns @ torch.from_numpy(seen["rotation"]).transpose(1, 2)).numpy()
    away = distance_transform_edt(~track.valid)[chosen]  # frames to the nearest good one
    for name, offset in offsets.items():
        share = trusted * away**2 / (away**2 + REACH[name] ** 2)
        change = share[:, None] * (usual_offset(offset, chosen, lost, trusted) - offset)
        change = smooth_runs(change, chosen, lost, CUTOFF_HZ[name], track.fps)
        if name == "angle":
            moved = camera.euler_angles(rotation_from_vector(torch.from_numpy(change)) @ turns).numpy()
        else:
            moved = parts[name][chosen] + change
        parts[name][chosen[lost]] = moved[lost]
    parts["exp"] = parts["exp"].clip(0, 1)
    filled = track.select(slice(None))
    filled.coeff = np.where(track.valid[:, None], track.coeff, track.layout.join(**parts)).astype(np.float32)
    points = reproject(filled.select(~track.valid), model)
    filled.landmarks = track.landmarks.copy()
    filled.landmarks[~track.valid] = points
    return filled


def frames_to_see(valid):
    """Numbers of the lost frames and of up to N_BESIDE good ones on either side of each gap."""
    near = ~valid
    good = np.flatnonzero(valid)
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
    "presence", "rotation_error"}, float64."""
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


def usual_offset(offset, chosen, lost, trusted):
    """What is usually between fit and guess: mean of the good frames on either side of a gap, linear across it.

    offset (n, k) of the chosen frames -> (n, k); of all good frames where a gap has none beside it, 0 where there are none.
    """
    good = ~lost & trusted
    out = np.zeros_like(offset)
    if not good.any():
        return offset.copy()  # nothing says how the two compare: nothing is changed
    edges = np.flatnonzero(np.diff(np.concatenate([[0], lost.astype(int), [0]])))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        ends, times = [], []
        for beside, time in ((slice(max(start - N_BESIDE, 0), start), start), (slice(stop, stop + N_BESIDE), stop - 1)):
            numbers = np.arange(len(offset))[beside]
            near = numbers[
                good[numbers] & (np.abs(chosen[numbers] - chosen[min(time, len(chosen) - 1)]) <= 3 * N_BESIDE)
            ]
            if len(near):
                ends.append(offset[near].mean(0)), times.append(chosen[time])
        ends, times = (ends, times) if ends else ([offset[good].mean(0)], [chosen[start]])
        for k in range(offset.shape[1]):
            out[start:stop, k] = np.interp(chosen[start:stop], times, [end[k] for end in ends])
    return out


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

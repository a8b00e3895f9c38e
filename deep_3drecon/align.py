"""The papers' alignment: five landmarks to a scale and a place, as an exact affine into the canonical crop.

Deep3DFaceReconstruction rounds the resized picture and the corner of the crop to whole pixels and then forgets by how much;
here the affine stays in float, and picture, landmarks and paste-back all use the same one.
"""

import math

import cv2
import numpy as np

from deep_3drecon.camera import CENTRE_PX, CROP_SIZE
from deep_3drecon.landmarks import points5, points68

RESCALE = 102.0  # crop pixels to one unit of the template
# viewer's left eye, right eye, nose tip, left and right mouth corner (dm), by the five-point rule from the 68-point template
TEMPLATE = np.array(
    [
        [-0.31148657, 0.29036078, 0.13377953],
        [0.30979887, 0.28972036, 0.13179526],
        [0.00325350, -0.04617932, 0.55244243],
        [-0.25216928, -0.38133916, 0.22405732],
        [0.24846619, -0.38128236, 0.22235769],
    ]
)
STEADY_PX = 30.0  # a face that moves less than this in the canonical crop keeps one crop for the whole clip


def align5(points, height, template=TEMPLATE):
    """Scaled orthography from the template to five points: points (..., 5, 2) pixels y down -> scale (...), t (..., 2) y up.

    Least squares of the two rows of the projection and the shift; `scale` is crop pixels to one source pixel. `t` is where
    the template's origin falls, measured from the bottom row.
    """
    points = np.asarray(points, np.float64)
    up = np.stack([points[..., 0], height - 1 - points[..., 1]], -1)
    system = np.concatenate([template, np.ones((5, 1))], 1)
    solution = np.linalg.pinv(system) @ up  # (..., 4, 2): the two rows above the shift
    size = np.linalg.norm(solution[..., :3, :], axis=-2).mean(-1)
    return RESCALE / size, solution[..., 3, :]


def crop_affine(scale, t, height):
    """Affine (..., 2, 3) from source pixels (y down) to the canonical crop (y down) for `align5`'s scale (...) and t (..., 2)."""
    scale, t = np.asarray(scale, np.float64), np.asarray(t, np.float64)
    affine = np.zeros((*scale.shape, 2, 3))
    affine[..., 0, 0] = affine[..., 1, 1] = scale
    affine[..., 0, 2] = CENTRE_PX - scale * t[..., 0]
    affine[..., 1, 2] = CROP_SIZE - 1 - CENTRE_PX - scale * (height - 1 - t[..., 1])
    return affine


def published_crop(scale, t, frame_size):
    """What the published code makes of one alignment: (width, height) of the resized frame and (left, top) of the crop, whole pixels.

    Only for comparison with files made by it: its crop lies up to a pixel beside `crop_affine`'s, and (1 - scale) px lower.
    """
    width, height = frame_size
    resized = int(width * scale), int(height * scale)
    left = int(resized[0] / 2 - CROP_SIZE / 2 + (t[0] - width / 2) * scale)
    top = int(resized[1] / 2 - CROP_SIZE / 2 + (height / 2 - t[1]) * scale)
    return resized, (left, top)


def video_crops(points, height):
    """style_avatar's crops of a video: five points (T, 5, 2) -> (T, 2, 3) float32, the clip's mean size, each frame's own place.

    One size for all frames keeps the jitter of the landmarks out of the zoom.
    """
    scale, t = align5(points, height)
    size = (RESCALE / scale).mean()
    return crop_affine(np.full(len(t), RESCALE / size), t, height).astype(np.float32)


def outside_share(affine, frame_size):
    """Share of the crop's area that lies beyond the frame: affine (..., 2, 3) without rotation, frame_size (W, H) -> (...)."""
    scale = affine[..., [0, 1], [0, 1]]
    low = (-0.5 - affine[..., 2]) / scale  # outer edges of the crop in pixels of the frame
    high = low + CROP_SIZE / scale
    inside = np.minimum(high, np.subtract(frame_size, 0.5)) - np.maximum(low, -0.5)
    return 1 - (inside.clip(0) * scale / CROP_SIZE).prod(-1)


def crop_picture(frame, affine, size=CROP_SIZE):
    """The canonical crop of a frame (H, W, 3) uint8 at `size` px, through affine (2, 3); beyond the frame its edge goes on."""
    factor = size / CROP_SIZE
    scaled = np.asarray(affine, np.float64) * factor
    scaled[:, 2] += 0.5 * factor - 0.5  # the corner of the crop stays, as in camera.scale_crop
    return _warp(frame, scaled, (size, size), cv2.BORDER_REPLICATE)


def paste_crop(crop, affine, frame, mask=None):
    """The frame (H, W, 3) uint8 with a crop (S, S, 3) laid back to where `crop_picture` took it from.

    mask (S, S) float 0..1, optional: how much of the crop counts where. Pixels that the crop does not reach stay as they are.
    """
    size, (height, width) = crop.shape[0], frame.shape[:2]
    factor = size / CROP_SIZE
    forth = np.vstack([np.asarray(affine, np.float64) * factor, [0, 0, 1]])
    forth[:2, 2] += 0.5 * factor - 0.5
    back = np.linalg.inv(forth)
    corners = np.array([[x, y, 1] for x in (-1, size) for y in (-1, size)]) @ back[:2].T
    left, top = np.clip(np.floor(corners.min(0)).astype(int), 0, (width, height))
    right, bottom = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, (width, height))
    out = frame.copy()
    if right <= left or bottom <= top:
        return out
    back[:2, 2] -= (left, top)
    extent = (int(right - left), int(bottom - top))
    weight = np.ones((size, size), np.float32) if mask is None else np.asarray(mask, np.float32)
    weight = _warp(weight, back[:2], extent, cv2.BORDER_CONSTANT)[..., None]
    place = out[top:bottom, left:right]
    laid = _warp(crop, back[:2], extent, cv2.BORDER_REPLICATE)
    place[:] = np.round(place + weight * (laid.astype(np.float32) - place)).clip(0, 255).astype(np.uint8)
    return out


def _warp(picture, affine, extent, border):
    """The picture through an affine (2, 3) into (width, height) pixels; a smaller picture is the mean of a finer one."""
    finer = max(1, math.ceil(1 / np.linalg.norm(affine[:, :2], axis=0).min() - 1e-6))
    matrix = affine * finer
    matrix[:, 2] += 0.5 * finer - 0.5
    # a cubic overshoots at the edge of a mask
    how = cv2.INTER_LINEAR if picture.ndim == 2 else cv2.INTER_CUBIC
    drawn = cv2.warpAffine(picture, matrix, (extent[0] * finer, extent[1] * finer), flags=how, borderMode=border)
    return cv2.resize(drawn, extent, interpolation=cv2.INTER_AREA) if finer > 1 else drawn


def steady_crops(landmarks, frame_size, fps):
    """One crop a frame that does not shake: landmarks (T, 478, 2) source pixels -> (T, 2, 3) float32.

    Scale is the clip's median. The place is the median too where the face stays within STEADY_PX of it; else it follows the
    face below about 0.5 Hz, so that head motion stays in the pose and only wandering goes into the crop.
    """
    scale, t = align5(points5(points68(np.asarray(landmarks, np.float64))), frame_size[1])
    scale = np.median(scale)
    middle = np.median(t, 0)
    if np.abs((t - middle) * scale).max() > STEADY_PX:
        middle = whittaker(t, cutoff_hz=0.5, fps=fps)
    t = np.broadcast_to(middle, t.shape)
    return crop_affine(np.full(len(t), scale), t, frame_size[1]).astype(np.float32)


def whittaker(values, cutoff_hz, fps):
    """Smooth (T, ...) along time by penalised second differences; gain is one half at `cutoff_hz`. No delay, no edge jump."""
    from scipy.linalg import solveh_banded

    values = np.asarray(values, np.float64)
    n = len(values)
    if n < 3:
        return values.copy()
    strength = 1 / (2 * np.sin(np.pi * min(cutoff_hz / fps, 0.5))) ** 4
    band = np.zeros((3, n))
    for offset, stencil in ((0, (1, 4, 1)), (1, (-2, -2)), (2, (1,))):
        for k, value in enumerate(stencil):
            start = k if offset < 2 else 0
            band[2 - offset, offset + start : offset + start + n - 2] += strength * value
    band[2] += 1
    return solveh_banded(band, values.reshape(n, -1)).reshape(values.shape)

"""A rendered crop laid back into its frame.

    affines = smoothed(affines, fps)                    # crops that a moving head is followed by
    frame = paste(frame, crop, affine, feather(256))

affine (2, 3) takes pixels of the frame to pixels of the crop, a similarity: scale, roll and place. Pixels of the frame at which the mask
is 0 stay what they were, bit by bit. Colours are RGB uint8.
"""

import cv2
import numba
import numpy as np

from deep_3drecon.align import whittaker
from deep_3drecon.made_noise import smoothstep

CUTOFF_HZ = 1.0  # of the crop's motion; faster motion belongs to the head in the crop
FEATHER = 0.1  # of the crop's side
MOST_LEVELS = 12.0  # 0..255: by which colours are matched at most; more is no cast but another picture
RING = 0.02, 0.6  # values of the mask at which crop and frame are compared

_jit = numba.njit(nogil=True, cache=True)


class PasteError(ValueError):
    """A crop, mask or affine that does not fit the frame."""


def similarity(affine):
    """Scale, roll (radians) and shift (x, y) of affines (..., 2, 3) -> (..., 4): the similarity nearest to their linear part."""
    a, b = affine[..., 0, 0] + affine[..., 1, 1], affine[..., 1, 0] - affine[..., 0, 1]
    return np.stack([np.hypot(a, b) / 2, np.arctan2(b, a), affine[..., 0, 2], affine[..., 1, 2]], -1)


def from_similarity(values):
    """Inverse of `similarity`: (..., 4) -> (..., 2, 3) float64."""
    scale, roll, x, y = np.moveaxis(np.asarray(values, np.float64), -1, 0)
    c, s = scale * np.cos(roll), scale * np.sin(roll)
    return np.stack([np.stack([c, -s, x], -1), np.stack([s, c, y], -1)], -2)


def smoothed(affines, size, fps, cutoff_hz=CUTOFF_HZ):
    """Affines (T, 2, 3), frame -> crop of `size` pixels, low-passed: scale, roll and the place of the crop's centre in the frame.

    Keeps a steady motion as it is; a standing crop stays where it is.
    """
    values = similarity(np.asarray(affines, np.float64))
    middle = np.full(2, (size - 1) / 2)
    linear = from_similarity(values)[:, :, :2]
    centre = np.linalg.solve(linear, (middle - values[:, 2:])[..., None])[..., 0]
    steady = whittaker(np.column_stack([np.log(values[:, 0]), np.unwrap(values[:, 1]), centre]), cutoff_hz, fps)
    out = from_similarity(np.column_stack([np.exp(steady[:, 0]), steady[:, 1], np.zeros((len(values), 2))]))
    out[:, :, 2] = middle - (out[:, :, :2] @ steady[:, 2:, None])[..., 0]
    return out


def feather(size, width=FEATHER):
    """Mask (S, S) float32 of the whole crop: 1 inside, falling to 0 over `width` of its side towards the rim."""
    edge = np.minimum(np.arange(size), np.arange(size)[::-1]) / (width * size)
    side = smoothstep(0.0, 1.0, edge)
    return np.outer(side, side).astype(np.float32)


def paste(frame, crop, affine, mask, poisson=False, match=True, out=None):
    """The frame (H, W, 3) with the crop (S, S, 3) laid in where the mask (S, S) 0..1 says.

    match: a cast of the crop against the frame, seen where the mask fades, is taken off. poisson: gradients of the crop instead of
    its colours (cv2.seamlessClone; slow). out: frame to write into, which must hold the frame already; by default a copy.
    """
    affine, size = np.asarray(affine, np.float64), len(crop)
    if frame.dtype != np.uint8 or crop.dtype != np.uint8 or crop.shape != (size, size, 3) or mask.shape != (size, size):
        raise PasteError(
            f"frame {frame.dtype} {frame.shape}, crop {crop.dtype} {crop.shape}, mask {mask.shape} came: uint8 (H, W, 3), uint8 (S, S, 3) "
            "and (S, S) are needed"
        )
    out = frame.copy() if out is None else out
    box = _box(affine, size, frame.shape)
    if box is None:
        return out
    mask = np.ascontiguousarray(mask, np.float32)
    if poisson:
        return _poisson(frame, out, crop, affine, mask, box)
    cast = np.zeros(3, np.float32)
    if match:
        sums = np.zeros(4)
        _compare(frame, crop, mask, affine, box, np.array(RING, np.float32), sums)
        if sums[3] > 0:
            cast = (sums[:3] / sums[3]).clip(-MOST_LEVELS, MOST_LEVELS).astype(np.float32)
    _paste(frame, out, crop, mask, affine, box, cast)
    return out


def _box(affine, size, shape):
    """Rows and columns (top, bottom, left, right) of the frame that the crop can reach, or None."""
    if abs(np.linalg.det(affine[:, :2])) < 1e-9:
        raise PasteError(f"affine {affine.tolist()}: has no inverse")
    rim = np.array([[-1, -1], [size, -1], [-1, size], [size, size]], float)
    corners = np.linalg.solve(affine[:, :2], (rim - affine[:, 2]).T).T
    left, top = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, shape[1::-1])
    return np.array([top, bottom, left, right]) if top < bottom and left < right else None


@_jit
def _weight(mask, x, y):
    """Bilinear value of the mask; 0 outside of it."""
    size = mask.shape[0]
    if x < 0 or y < 0 or x > size - 1 or y > size - 1:
        return np.float32(0.0)
    i, j = min(int(y), size - 2), min(int(x), size - 2)
    fy, fx = np.float32(y - i), np.float32(x - j)
    low = mask[i, j] + fx * (mask[i, j + 1] - mask[i, j])
    high = mask[i + 1, j] + fx * (mask[i + 1, j + 1] - mask[i + 1, j])
    return low + fy * (high - low)


@_jit
def _colour(crop, x, y, k):
    size = crop.shape[0]
    i, j = min(int(y), size - 2), min(int(x), size - 2)
    fy, fx = np.float32(y - i), np.float32(x - j)
    low = crop[i, j, k] + fx * (np.float32(crop[i, j + 1, k]) - crop[i, j, k])
    high = crop[i + 1, j, k] + fx * (np.float32(crop[i + 1, j + 1, k]) - crop[i + 1, j, k])
    return low + fy * (high - low)


@_jit
def _compare(frame, crop, mask, affine, box, ring, sums):
    """Sum over the ring of frame minus crop (3), and its number of pixels; every second row and column."""
    for row in range(box[0], box[1], 2):
        for column in range(box[2], box[3], 2):
            x = affine[0, 0] * column + affine[0, 1] * row + affine[0, 2]
            y = affine[1, 0] * column + affine[1, 1] * row + affine[1, 2]
            weight = _weight(mask, x, y)
            if ring[0] < weight < ring[1]:
                for k in range(3):
                    sums[k] += frame[row, column, k] - _colour(crop, x, y, k)
                sums[3] += 1


@_jit
def _paste(frame, out, crop, mask, affine, box, cast):
    for row in range(box[0], box[1]):
        for column in range(box[2], box[3]):
            x = affine[0, 0] * column + affine[0, 1] * row + affine[0, 2]
            y = affine[1, 0] * column + affine[1, 1] * row + affine[1, 2]
            weight = _weight(mask, x, y)
            if weight <= 0:
                continue
            for k in range(3):
                here = np.float32(frame[row, column, k])
                value = here + weight * (_colour(crop, x, y, k) + cast[k] - here)
                out[row, column, k] = np.uint8(min(max(value, np.float32(0.0)), np.float32(255.0)) + np.float32(0.5))


def _poisson(frame, out, crop, affine, mask, box):
    """`paste` by cv2.seamlessClone, inside of the mask alone."""
    top, bottom, left, right = box
    shift = affine.copy()
    shift[:, 2] += affine[:, :2] @ [left, top]
    size = (int(right - left), int(bottom - top))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(crop, shift, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    weight = cv2.warpAffine(mask, shift, size, flags=flags)
    inside = (weight > 0.5).astype(np.uint8)
    # the clone must not touch the rim of what it is cloned into
    inside[[0, -1]] = inside[:, [0, -1]] = 0
    if not inside.any():
        return out
    part = np.ascontiguousarray(frame[top:bottom, left:right])
    x, y, w, h = cv2.boundingRect(inside)
    cloned = cv2.seamlessClone(moved, part, inside * 255, (x + w // 2, y + h // 2), cv2.NORMAL_CLONE)
    out[top:bottom, left:right] = np.where(inside[..., None] > 0, cloned, part)
    return out

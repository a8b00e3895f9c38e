"""The papers' alignment: five landmarks to a scale and a place, as an exact affine into the canonical crop.

Deep3DFaceReconstruction rounds the resized picture and the corner of the crop to whole pixels and then forgets by how much;
here the affine stays in float, and picture, landmarks and paste-back all use the same one.
"""

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

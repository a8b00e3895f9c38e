"""Which landmark is which: the 478 points of the landmarker, the 68 points of iBUG and the 5 of the alignment.

The 478 points are those of MediaPipe's face mesh with irises. "Left" is the subject's left, except in the order of the five
points, which the papers give as the viewer sees them.
"""

import numpy as np

N_LANDMARKS = 478

# nearest landmark to each of the 68 points over near-frontal faces, made mirror-symmetric
LANDMARKS_68 = np.array(
    [127, 234, 177, 215, 138, 136, 149, 148, 152, 377, 378, 365, 367, 435, 401, 454, 356]  # jaw
    + [70, 63, 105, 66, 107, 336, 296, 334, 293, 300]  # brows
    + [168, 6, 195, 4, 75, 99, 2, 328, 305]  # nose
    + [33, 160, 158, 155, 153, 144, 382, 385, 387, 263, 373, 380]  # eyes
    + [61, 74, 37, 0, 267, 304, 291, 321, 314, 17, 84, 91]  # outer lips
    + [78, 82, 13, 312, 308, 317, 14, 87]  # inner lips
)

# of the 68 points: upper and lower inner lip at three places across the mouth
INNER_LIP_PAIRS = ((61, 67), (62, 66), (63, 65))

IRIS_RIGHT, IRIS_LEFT = 468, 473
INNER_LIP_UPPER = np.array([191, 80, 81, 82, 13, 312, 311, 310, 415])
INNER_LIP_LOWER = np.array([95, 88, 178, 87, 14, 317, 402, 318, 324])
MOUTH_CORNERS = np.array([78, 308])
OUTER_LIPS = np.array([61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291, 375, 321, 405, 314, 17, 84, 181, 91, 146])
LIPS = np.unique(np.concatenate([OUTER_LIPS, INNER_LIP_UPPER, INNER_LIP_LOWER, MOUTH_CORNERS]))
EYE_RIGHT = np.array([33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246])
EYE_LEFT = np.array([263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466])
LID_PAIRS_RIGHT = np.array([[160, 144], [159, 145], [158, 153]])
LID_PAIRS_LEFT = np.array([[387, 373], [386, 374], [385, 380]])
FACE_OVAL = np.array(
    [10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152]
    + [148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109]
)  # fmt: skip


def points68(points):
    """(..., 478, C) -> (..., 68, C)."""
    return points[..., LANDMARKS_68, :]


def points5(points):
    """(..., 68, C) -> (..., 5, C): viewer's left eye, right eye, nose tip, left and right mouth corner.

    Eyes are the mean of their two corners, the rule of the papers' alignment template.
    """
    left, right = (points[..., 36, :] + points[..., 39, :]) / 2, (points[..., 42, :] + points[..., 45, :]) / 2
    return np.stack([left, right, points[..., 30, :], points[..., 48, :], points[..., 54, :]], -2)


def interocular(points):
    """Distance of the iris centres: (..., 478, >=2) -> (...)."""
    return np.linalg.norm(points[..., IRIS_LEFT, :2] - points[..., IRIS_RIGHT, :2], axis=-1)


def lip_opening(points):
    """Mean distance of the three middle pairs of inner-lip points, in the points' own unit: (..., 478, C) -> (...)."""
    upper, lower = points[..., INNER_LIP_UPPER[3:6], :], points[..., INNER_LIP_LOWER[3:6], :]
    return np.linalg.norm(upper - lower, axis=-1).mean(-1)

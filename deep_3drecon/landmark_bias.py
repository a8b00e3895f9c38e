"""How the landmarker errs when a head turns: the same way in everybody, so it can be taken off.

On the far side of a turned head the landmarker puts points on the outline rather than on the places of the skin they have seen
from the front, and elsewhere too it is off by a pixel or two of the canonical crop. `landmark_bias.npz`, made by
`python -m scripts.make_landmark_bias` from films of made people with known heads, holds that error as a polynomial of pitch and
yaw; roll turns the picture and the error with it. It holds as well how far each landmark is off beyond that.
"""

import functools
from pathlib import Path

import numpy as np
import torch

TABLE = Path(__file__).with_name("landmark_bias.npz")
MOST = 0.5, 0.85  # rad of pitch and yaw: beyond, the error stays what it is there


def features(angle):
    """Terms of the polynomial: angle (T, 3) radians -> (T, 8) float64 array."""
    pitch, yaw = (np.clip(np.asarray(angle, np.float64)[:, k], -most, most) for k, most in enumerate(MOST))
    return np.stack([np.ones(len(yaw)), yaw, pitch, yaw**2, pitch**2, yaw * pitch, yaw**3, yaw**2 * pitch], 1)


def roll_matrix(angle):
    """(T, 2, 2) array that turns displacements in pixels (x right, y down) with the head's roll."""
    sin, cos = np.sin(np.asarray(angle)[:, 2]), np.cos(np.asarray(angle)[:, 2])
    return np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)


def bias(angle):
    """Found minus true landmarks in pixels of the canonical crop: angle (T, 3) tensor -> (T, 478, 2) tensor."""
    turned = np.einsum("tij,tlj->tli", roll_matrix(angle), np.tensordot(features(angle), _arrays()["error"], 1))
    return torch.as_tensor(turned).to(angle)


def noise():
    """(478,) float64 tensor: how far each landmark is off, in pixels of the canonical crop, when the bias is taken off."""
    return torch.from_numpy(_arrays()["noise"])


def learn(angle, error, ridge=1e-3):
    """The table (8, 478, 2) float32 from angle (T, 3) and error (T, 478, 2) of found against true landmarks, least squares."""
    upright = np.einsum("tji,tlj->tli", roll_matrix(angle), error)
    terms = features(angle)
    matrix = terms.T @ terms + ridge * len(terms) * np.eye(terms.shape[1])
    return np.linalg.solve(matrix, terms.T @ upright.reshape(len(upright), -1)).reshape(-1, *error.shape[1:])


@functools.cache
def _arrays():
    with np.load(TABLE, allow_pickle=False) as npz:
        return {name: npz[name].astype(np.float64) for name in npz.files}

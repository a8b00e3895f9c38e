"""Shapes compared without their place and turn."""

import numpy as np


def rigidly(points, onto):
    """points (..., V, 3) turned and moved to lie on `onto` (..., V, 3) as well as they can (Kabsch)."""
    middle, goal = points.mean(-2, keepdims=True), onto.mean(-2, keepdims=True)
    u, _, vh = np.linalg.svd(np.swapaxes(points - middle, -1, -2) @ (onto - goal))
    u[..., 2] *= np.sign(np.linalg.det(u @ vh))[..., None]  # no mirror
    return (points - middle) @ u @ vh + goal

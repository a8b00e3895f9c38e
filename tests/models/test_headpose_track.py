"""Pose through one still crop: the same pixels as through crops that wander, are scaled and turned."""

import numpy as np
import torch

from deep_3drecon import camera
from models.headpose_track import through_crop

CORNERS = torch.tensor([[0.8, 0.5, 0.3], [-0.8, 0.5, 0.3], [0, -1, 0.4]], dtype=torch.float64)


def pixels(angle, trans, crop):
    """Source pixels (T, 3, 2) of three points of a head."""
    posed = camera.pose(CORNERS.expand(len(angle), 3, 3), angle, trans)
    return camera.apply_affine(camera.project(posed), camera.invert_affine(crop))


def test_a_head_lies_where_it_lay():
    rng = np.random.default_rng(0)
    n = 20
    angle, trans = (torch.from_numpy(rng.normal(0, s, (n, 3))) for s in (0.15, 0.1))
    turn, size = torch.from_numpy(rng.normal(0, 0.1, n)), torch.from_numpy(np.exp(rng.normal(0, 0.1, n)))
    own = torch.zeros(n, 2, 3, dtype=torch.float64)
    own[:, 0, 0] = own[:, 1, 1] = size * turn.cos()
    own[:, 1, 0] = size * turn.sin()
    own[:, 0, 1] = -own[:, 1, 0]
    own[:, :, 2] = torch.from_numpy(rng.normal(0, 5, (n, 2)))
    other = torch.tensor([[0.9, 0.1, 3.0], [-0.1, 0.9, -4.0]], dtype=torch.float64)
    moved = through_crop(angle, trans, own, other)
    miss = (pixels(*moved, other.expand(n, 2, 3)) - pixels(angle, trans, own)).norm(dim=-1)
    assert miss.max() < 6 and miss.mean() < 1.5  # perspective alone; turned the wrong way it would be 27 px
    back = through_crop(*moved, other.expand(n, 2, 3), own)
    torch.testing.assert_close(back[0], angle, atol=1e-9, rtol=0)
    torch.testing.assert_close(back[1], trans, atol=1e-9, rtol=0)

"""Losses of talking meshes: functions of tensors without a weight. Vertices are (B, T, V, 3) in mm, valid (B, T) bool.

Regions are vertex ids on the axis of vertices, so no loss can touch another place than the one it names.
"""

import numpy as np
import torch

from models.losses import EPSILON, change, change_valid, masked_mean

MAX_VERTICES = 400  # of a region whose vertices a loss looks at, evenly taken
CLOSED_MM = 1.5  # an opening by no more than this over the smallest of the clip counts as closed lips


def vertex_distance(pred, true, ids, valid):
    """Mean over frames of the region's RMS distance, mm."""
    squared = (pred[:, :, ids] - true[:, :, ids]).square().sum(-1).mean(-1)
    return masked_mean(squared.add(EPSILON).sqrt(), valid)


def velocity_distance(pred, true, ids, valid):
    """Mean RMS distance of the change from frame to frame, mm a frame."""
    pred, true = (x[:, :, ids].flatten(2) for x in (pred, true))
    squared = (change(pred) - change(true)).square().mean(-1) * 3
    return masked_mean(squared.add(EPSILON).sqrt(), change_valid(valid))


def opening(moved, rest_gap, pairs):
    """Distance across the lips, mm: displacements moved (B, T, V, 3), rest_gap (B, P, 3) at rest, pairs (P, 2) -> (B, T)."""
    gap = rest_gap[:, None] + moved[:, :, pairs[:, 0]] - moved[:, :, pairs[:, 1]]
    return gap.square().sum(-1).add(EPSILON).sqrt().mean(-1)


def closed_lips(pred, true, valid):
    """Mean error in mm of the opening (B, T) in frames whose true lips are closed; 0 where they never are."""
    lowest = torch.where(valid, true, torch.inf).amin(1, keepdim=True)
    closed = valid & (true <= lowest + CLOSED_MM)
    return masked_mean((pred - true).abs(), closed)


def contrast(first, second, temperature=0.1):
    """NT-Xent of unit codes (B, D): the two samples of one person against those of all others; no unit.

    Two entries of a batch may be one person with different gains: after augmentation they are different manners.
    """
    codes = torch.cat([first, second])
    n = len(first)
    scores = codes @ codes.T / temperature
    scores = scores.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=codes.device), -torch.inf)
    partner = torch.arange(2 * n, device=codes.device).roll(n)
    return torch.nn.functional.cross_entropy(scores, partner)


def thinned(ids):
    """At most MAX_VERTICES of some ids, evenly taken."""
    return torch.as_tensor(np.asarray(ids)[:: -(-len(ids) // MAX_VERTICES)])

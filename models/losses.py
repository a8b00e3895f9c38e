"""Losses of motion: functions of tensors, each with a unit and without a weight.

Sequences are (B, T, n), `valid` is (B, T) bool. Frames that are not valid count for nothing; where no frame is valid
the loss is 0.
"""

import torch
from torch import distributed

from deep_3drecon.camera import MM_PER_DM
from deep_3drecon.landmarks import INNER_LIP_PAIRS

EPSILON = 1e-8  # keeps the gradient of a distance finite where prediction and truth agree


def masked_mean(values, valid):
    """Mean over the valid frames of values (B, T) or (B, T, n)."""
    weight = valid.to(values.dtype)
    per_frame = values if values.dim() == 2 else values.mean(-1)
    # torch.where and not a product: a frame that is not valid may hold anything, and 0 * nan is nan.
    return torch.where(valid, per_frame, 0).sum() / weight.sum().clamp_min(1)


def over_processes(statistic):
    """Mean of a statistic, as it is measured on one process's share of a batch, over the processes of a distributed run."""
    if not distributed.is_initialized():
        return statistic
    total = statistic.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def squared_error(pred, true, valid):
    """Mean squared difference (B, T, n): of z-scored coefficients, in squared standard deviations."""
    return masked_mean((pred - true) ** 2, valid)


def change(x):
    """Difference of neighbouring frames, per 1/25 s: (B, T, n) -> (B, T - 1, n)."""
    return x[:, 1:] - x[:, :-1]


def change_valid(valid):
    """Where both frames of a `change` are valid: (B, T) -> (B, T - 1)."""
    return valid[:, 1:] & valid[:, :-1]


def distance_factor(exp_basis, weight=None):
    """Matrix F (E, E) with |x F|^2 = weighted mean squared distance, mm^2, that expression x moves the vertices by.

    exp_basis: (V, 3, E) in dm, weight: (V,). Vertices are linear in the expression, so all of them fit into one small
    matrix: the Cholesky factor of sum_v w_v B_v^T B_v. Nothing has to be left out for speed.
    """
    basis = exp_basis.double() * MM_PER_DM
    weight = torch.ones(len(basis), dtype=torch.float64) if weight is None else weight.double()
    gram = torch.einsum("v,vce,vcf->ef", weight / weight.sum(), basis, basis)
    # A coefficient that moves no chosen vertex makes the matrix singular; 1e-6 mm^2 is far below anything visible.
    return torch.linalg.cholesky(gram + 1e-6 * torch.eye(len(gram), dtype=torch.float64)).float()


def vertex_distance(pred, true, factor, valid):
    """Mean over frames of the RMS vertex distance in mm of two expressions (B, T, E); factor of `distance_factor`."""
    return masked_mean((((pred - true) @ factor) ** 2).sum(-1).add(EPSILON).sqrt(), valid)


def lip_gauge(face):
    """Vectors across the inner lips of a FaceModel, linear in its coefficients; for `lip_opening`.

    Returns {"mean": (3, 3), "id": (3, 3, I), "exp": (3, 3, E)} in mm: first axis the pairs of INNER_LIP_PAIRS, second
    x, y, z.
    """
    upper, lower = (list(ids) for ids in zip(*INNER_LIP_PAIRS, strict=True))

    def vectors(vertices):
        points = face.landmarks(vertices, 68)
        return MM_PER_DM * (points[..., upper, :] - points[..., lower, :])

    # Landmarks are weighted means of vertices, so those of a basis vector are the landmarks' own basis.
    bases = {"id": face.id_basis, "exp": face.exp_basis}
    return {"mean": vectors(face.mean)} | {name: vectors(b.movedim(-1, 0)).movedim(0, -1) for name, b in bases.items()}


def lip_opening(gauge, identity, exp):
    """Inner-lip opening in mm, mean of three pairs: gauge of `lip_gauge`, identity (B, I), exp (B, T, E) -> (B, T)."""
    rest = gauge["mean"] + torch.einsum("bi,pci->bpc", identity, gauge["id"])
    across = rest[:, None] + torch.einsum("bte,pce->btpc", exp, gauge["exp"])
    return across.square().sum(-1).add(EPSILON).sqrt().mean(-1)


def absolute_error(pred, true, valid):
    """Mean absolute difference of (B, T) in their own unit."""
    return masked_mean((pred - true).abs(), valid)


def centred(x, valid):
    """x (B, T, n) less its mean over the valid frames."""
    known = valid[..., None]
    return x - torch.where(known, x, 0).sum(1, keepdim=True) / known.sum(1, keepdim=True).clamp_min(1)


def face_geometry(face):
    """What `expression_losses` needs of a FaceModel: distance factors "face" and "lips" (E, E) and the lip gauge."""
    regions = {name: distance_factor(face.exp_basis[torch.as_tensor(face.regions[name])]) for name in ("face", "lips")}
    return regions | lip_gauge(face)


def expression_losses(pred, true, identity, valid, std, geometry):
    """All losses of expressions pred and true (B, T, E) of identity (B, I); std (E,), geometry of `face_geometry`.

    expression, expression_change  squared error of coefficients and of their change from frame to frame, in standard
                                   deviations
    face, lips, lips_change        vertex distance in mm of the face, of the lips, of the lips' change
    lip_opening                    difference of the inner-lip opening in mm
    """
    moved, both = (change(pred), change(true)), change_valid(valid)
    return {
        "expression": squared_error(pred / std, true / std, valid),
        "expression_change": squared_error(moved[0] / std, moved[1] / std, both),
        "face": vertex_distance(pred, true, geometry["face"], valid),
        "lips": vertex_distance(pred, true, geometry["lips"], valid),
        "lips_change": vertex_distance(*moved, geometry["lips"], both),
        "lip_opening": absolute_error(
            lip_opening(geometry, identity, pred), lip_opening(geometry, identity, true), valid
        ),
    }

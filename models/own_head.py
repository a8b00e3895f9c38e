"""The head of one portrait: the fitted face model bent until its landmarks lie exactly where they are in the picture."""

from dataclasses import replace

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu

from deep_3drecon import camera, landmarks, unwrap
from deep_3drecon.made_noise import smoothstep

# height on the mean head below which the neck stands still and above which it follows the head; lower than the neck is cut, so that
# collar and shoulders give a little too
NECK_LOW_DM, NECK_HIGH_DM = -1.6, -0.65


def fit(model, id, exp, angle, trans, target):
    """A face model whose mean is this person and that has no identity left.

    id, exp, angle, trans: fitted coefficients of the portrait. target (478, 2): its landmarks in canonical pixels.
    """
    offset = personal_offset(model, model.vertices(id, exp), angle, trans, target)
    mean = model.vertices(id, torch.zeros_like(exp)) + offset
    return replace(model, mean=mean, id_basis=model.id_basis[..., :0])


def follow(model):
    """How much of the head's motion each vertex takes: 1 on head and jaw, falling to 0 down the neck; (V,) float32."""
    mean = model.mean.numpy()
    jaw = 0.35 * smoothstep(-0.3, 0.1, mean[:, 2])  # the chin hangs lower than the nape
    return smoothstep(NECK_LOW_DM, NECK_HIGH_DM, mean[:, 1] + jaw).astype(np.float32)


def personal_offset(model, fitted, angle, trans, target, stiffness=1.0):
    """Smooth displacement (V, 3) of the head that takes its landmarks exactly to where they are in the picture.

    fitted (V, 3) unposed vertices in the fitted expression, target (478, 2) canonical pixels. A thin plate on the mesh: the squared
    Laplacian of the displacement is weighed against the misses of the landmarks; depth does not change. Eyeballs move
    rigidly with their lids, teeth and tongue with the lips.
    """
    points = camera.pose(model.landmarks(fitted), angle, trans)
    miss = target - camera.project(points)
    depth = (camera.CAMERA_Z_DM - points[:, 2:]) / camera.FOCAL_PX
    shift = torch.cat([miss * torch.tensor([1.0, -1.0]) * depth, torch.zeros_like(depth)], -1).numpy()

    weight = np.ones(468)
    cosine = unwrap.facing(model, camera.pose(fitted, angle, trans))
    weight *= np.clip((cosine[model.landmark_ids[:468]].min(1) - 0.1) / 0.3, 0.02, 1)
    weight[landmarks.FACE_OVAL] *= 0.1  # slide along the cheek
    weight[np.concatenate([landmarks.LIPS, landmarks.EYE_LEFT, landmarks.EYE_RIGHT])] *= 4
    n = model.n_vertices
    ids = model.weld[model.landmark_ids[:468]]
    take = sparse.coo_matrix(
        (model.landmark_weights[:468].numpy().ravel(), (np.repeat(np.arange(468), 3), ids.ravel())), (468, n)
    ).tocsr()
    plate = unwrap.laplacian(model.triangles, model.weld)
    system = take.T @ sparse.diags(weight) @ take + stiffness * plate.T @ plate + 2e-4 * sparse.eye(n)
    offset = splu(system.tocsc()).solve(take.T @ (weight[:, None] * shift[:468]))[model.weld]
    for name, around in (("eyeball_left", landmarks.EYE_LEFT), ("eyeball_right", landmarks.EYE_RIGHT)):
        offset[model.regions[name]] = (take @ offset)[around].mean(0)
    upper, lower = (
        (take @ offset)[landmarks.INNER_LIP_UPPER].mean(0),
        (take @ offset)[landmarks.INNER_LIP_LOWER].mean(0),
    )
    offset[model.regions["teeth_upper"]] = upper
    offset[np.r_[model.regions["teeth_lower"], model.regions["tongue"]]] = lower
    return torch.from_numpy(offset.astype(np.float32)) @ camera.rotation_matrix(angle)

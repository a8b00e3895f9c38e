"""From 478 landmarks to a face track: identity once per clip, expression and pose per frame.

Gauss-Newton on the perspective projection of the landmarks, batched over frames, with ridge priors: identity about the mean
head, expression about the landmarker's scores and inside [0, 1]. Identity comes from a subset of frames in which identity,
expression and pose are solved together (the frames are eliminated by their Schur complement). Then every frame is solved
with identity fixed, the pose is smoothed, and the expression is solved again under the smoothed pose, so that steadying the
head does not blur lips and lids.
"""

from dataclasses import dataclass

import numpy as np
import torch

from deep_3drecon import camera, landmarks
from deep_3drecon.align import steady_crops, whittaker
from deep_3drecon.fit_groups import N_POSE, across, gram, jacobian_parts, landmark_groups
from deep_3drecon.track import FaceTrack

N_IDENTITY_FRAMES = 48
IDENTITY_STEPS, FRAME_STEPS = 8, 5
CHUNK = 32  # frames solved at a time: the parts of their Jacobian stay in the processor's cache
NOISE_PX = 1.0  # of one landmark in the canonical crop
USUAL_NOISE_PX = 0.5  # of the best of them, on faces that were never measured
N_INDEPENDENT = 60.0  # what 478 correlated points of one frame are worth; scales the data against the priors
IDENTITY_EVIDENCE = 6.0  # what a whole clip is worth in frames when identity is weighed against the mean head
POSE_CUTOFF_HZ = 4.5
EXPRESSION_CUTOFF_HZ = 10.0
# trust in the score and in the shape: standard deviation of an expression about its score
EXPRESSION_SPREAD = 0.3
WEAK_SPREAD = 0.08
WEAK = ("cheekPuff", "jawForward", "jawLeft", "jawRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
        "mouthShrugLower", "mouthShrugUpper", "mouthDimpleLeft", "mouthDimpleRight")  # fmt: skip


class FitError(ValueError):
    """Landmarks from which no face can be fitted."""


@dataclass
class Linear:
    """The face model at its 478 landmarks, eyeball turns linearised: mean (L, 3), id (L, 3, n_id), exp (L, 3, n_exp), float64."""

    mean: torch.Tensor
    id: torch.Tensor
    exp: torch.Tensor
    weight: torch.Tensor  # (L,)
    groups: list  # `fit_groups.landmark_groups` of exp

    def points(self, id, exp):
        """(..., n_id), (..., n_exp) -> (..., L, 3)."""
        flat = self.mean.flatten() + id @ self.id.flatten(0, 1).T + exp @ self.exp.flatten(0, 1).T
        return flat.unflatten(-1, (-1, 3))


def linear_landmarks(model, noise=None):
    """`Linear` of a face model; noise (L,) px of each landmark, if they are not all as good."""
    ids, weights = torch.as_tensor(model.landmark_ids), model.landmark_weights.double()
    mean = (model.mean.double()[ids] * weights[..., None]).sum(1)
    id_basis, exp_basis = (
        (b.double()[ids] * weights[..., None, None]).sum(1) for b in (model.id_basis, model.exp_basis)
    )
    for region, turn in model.gaze.items():
        rows = torch.tensor([k for k in range(468, 478) if model.landmark_ids[k, 0] in model.regions[region]])
        offset = mean[rows] - model.mean.double()[torch.as_tensor(model.regions[region])].mean(0)
        exp_basis[rows] += torch.cross(
            turn.double().T[None].expand(len(rows), -1, -1), offset[..., None].expand(-1, -1, turn.shape[0]), dim=1
        )
    weight = torch.ones(len(mean), dtype=torch.float64)
    weight[landmarks.FACE_OVAL] = 0.4  # slides along the cheek when the head turns
    weight[landmarks.LIPS] = 3.0
    weight[np.concatenate([landmarks.EYE_LEFT, landmarks.EYE_RIGHT])] = 2.0
    weight[landmarks.INNER_LIP_UPPER[2:7]] = weight[landmarks.INNER_LIP_LOWER[2:7]] = 6.0
    if noise is not None:
        weight = weight / (noise.square() + USUAL_NOISE_PX**2)
    return Linear(mean, id_basis, exp_basis, weight / weight.sum() * N_INDEPENDENT, landmark_groups(exp_basis))


def _residual(linear, id, exp, angle, trans, observed, mask):
    """Weighted reprojection residual (T, 2L) and its Jacobians by point (T, L, 2, 3), by pose (T, 2L, 6)."""
    points = linear.points(id, exp)
    rotation = camera.rotation_matrix(angle)
    posed = points @ rotation.transpose(-1, -2) + trans[:, None]
    scale = camera.FOCAL_PX / (camera.CAMERA_Z_DM - posed[..., 2])
    w = (linear.weight.sqrt() * mask)[..., None] / NOISE_PX
    residual = (camera.project(posed) - observed) * w
    zero = torch.zeros_like(scale)
    depth = scale / (camera.CAMERA_Z_DM - posed[..., 2])
    by_place = torch.stack(
        [
            torch.stack([scale, zero, posed[..., 0] * depth], -1),
            torch.stack([zero, -scale, -posed[..., 1] * depth], -1),
        ],
        -2,
    )
    by_place = by_place * w[..., None]
    step = 1e-6
    turns = torch.stack(
        [(camera.rotation_matrix(angle + step * e) - rotation) / step for e in torch.eye(3).double()], 1
    )
    turned = (points @ turns.flatten(1, 2).transpose(1, 2)).unflatten(-1, (3, 3))  # (T, L, angle, place)
    by_angle = sum(by_place[..., k : k + 1] * turned[:, :, None, :, k] for k in range(3))
    by_pose = torch.cat([by_angle, by_place], -1).flatten(1, 2)
    by_point = (by_place.flatten(1, 2) @ rotation).unflatten(1, (-1, 2))
    return residual.flatten(1), by_point, by_pose


def frame_system(linear, id, state, observed, mask, prior, pose_fixed=False):
    """Normal equations of the frames' own unknowns (expression, pose): Jacobian in parts, matrix, right side, residual, J_point."""
    exp, angle, trans = state
    residual, by_point, by_pose = _residual(linear, id, exp, angle, trans, observed, mask)
    n_exp = exp.shape[1]
    n_own = n_exp if pose_fixed else n_exp + N_POSE
    jacobian = jacobian_parts(linear.groups, by_point, None if pose_fixed else by_pose, n_exp)
    matrix = gram(jacobian, n_own)
    right = -pull(by_point, residual) @ linear.exp.flatten(0, 1)
    if not pose_fixed:
        right = torch.cat([right, -(by_pose.transpose(1, 2) @ residual[..., None])[..., 0]], 1)
    precision = prior["precision"]
    right[:, :n_exp] += precision * (prior["mean"] - exp)
    diagonal = torch.full((matrix.shape[-1],), 1e-6, dtype=torch.float64)
    diagonal[:n_exp] += precision
    # an expression at its bound that wants to go further stays there
    stuck = ((exp <= 0) & (right[:, :n_exp] < 0)) | ((exp >= 1) & (right[:, :n_exp] > 0))
    matrix = matrix + torch.diag(diagonal)
    matrix[:, range(n_exp), range(n_exp)] += stuck * 1e9
    return jacobian, matrix, right, residual, by_point


def pull(by_point, residual):
    """by_point' residual: what the residual asks of each coordinate of the points, (T, 3L)."""
    two = residual.unflatten(1, (-1, 2))[..., None]
    return (by_point[:, :, 0] * two[:, :, 0] + by_point[:, :, 1] * two[:, :, 1]).flatten(1)


def update(state, step, n_exp):
    exp, angle, trans = state
    exp = (exp + step[:, :n_exp]).clamp(0, 1)
    if step.shape[1] == n_exp:
        return exp, angle, trans
    return exp, angle + step[:, n_exp : n_exp + 3], trans + step[:, n_exp + 3 :]


def fit_identity(linear, state, observed, mask, prior):
    """Identity (n_id,) and the frames' state, solved together over K frames."""
    id = torch.zeros(linear.id.shape[-1], dtype=torch.float64)
    n_exp = linear.exp.shape[-1]
    share = IDENTITY_EVIDENCE / len(observed)
    chunks = [slice(start, start + CHUNK) for start in range(0, len(observed), CHUNK)]
    for _ in range(IDENTITY_STEPS):
        schur, rest, by_points, eliminated = 0, 0, 0, []
        for part in chunks:
            here, local = tuple(x[part] for x in state), prior | {"mean": prior["mean"][part]}
            jacobian, matrix, right, residual, by_point = frame_system(
                linear, id.expand(len(here[0]), -1), here, observed[part], mask[part], local
            )
            by_id = torch.einsum("tlic,lck->tlik", by_point, linear.id).flatten(1, 2)
            cross = across(jacobian, by_id, n_exp + N_POSE)
            solved = torch.linalg.solve(matrix, torch.cat([cross, right[..., None]], -1))
            cross_rows = cross.flatten(0, 1).T
            by_points = by_points + torch.einsum("tlic,tlid->lcd", by_point, by_point)
            schur = schur - cross_rows @ solved[..., :-1].flatten(0, 1)
            rest = (
                rest
                - pull(by_point, residual).sum(0) @ linear.id.flatten(0, 1)
                - cross_rows @ solved[..., -1].flatten()
            )
            eliminated.append(solved)
        eliminated = torch.cat(eliminated)
        # the frames' sum of by_id' by_id, by way of the points: a thirtieth of the work
        schur = schur + linear.id.flatten(0, 1).T @ (by_points @ linear.id).flatten(0, 1)
        step = torch.linalg.solve(schur * share + torch.eye(len(id)).double(), rest * share - id)
        id = id + step
        state = update(state, eliminated[..., -1] - (eliminated[..., :-1] @ step), n_exp)
    return id, state


def solve_frames(linear, id, state, observed, mask, prior, steps, pose_fixed=False):
    """Expression (and pose) of every frame under a given identity."""
    done = []
    for start in range(0, len(observed), CHUNK):
        part = slice(start, start + CHUNK)
        here = tuple(x[part] for x in state)
        local = prior | {"mean": prior["mean"][part]}
        for _ in range(steps):
            _, matrix, right, _, _ = frame_system(
                linear, id.expand(len(here[0]), -1), here, observed[part], mask[part], local, pose_fixed
            )
            here = update(here, torch.linalg.solve(matrix, right), linear.exp.shape[-1])
        done.append(here)
    return tuple(torch.cat(x) for x in zip(*done, strict=True))


def solve_place(linear, id, state, observed, mask, steps=4):
    """Translation (T, 3) of every frame under a given identity, expression and angle."""
    exp, angle, trans = state
    for _ in range(steps):
        residual, _, by_pose = _residual(linear, id.expand(len(exp), -1), exp, angle, trans, observed, mask)
        by_place = by_pose[..., 3:]
        matrix = by_place.transpose(1, 2) @ by_place + 1e-6 * torch.eye(3).double()
        trans = trans - torch.linalg.solve(matrix, (by_place.transpose(1, 2) @ residual[..., None]))[..., 0]
    return trans


def initial_pose(linear, exp, observed):
    """Pose by scaled orthography: exp (T, n_exp), observed (T, L, 2) -> angle (T, 3), trans (T, 3)."""
    points = linear.points(torch.zeros(linear.id.shape[-1]).double(), exp)
    centre, middle = points.mean(1, keepdim=True), observed.mean(1, keepdim=True)
    system = points - centre
    # by the normal equations: what `lstsq` gives depends, in its last bits, on where its workspace lies in memory
    across = system.transpose(1, 2)
    rows = torch.linalg.solve(across @ system, across @ (observed - middle)).transpose(1, 2)  # (T, 2, 3)
    rows = rows * torch.tensor([1.0, -1.0]).double()[:, None]
    scale = rows.norm(dim=-1).mean(-1)
    u, _, vh = torch.linalg.svd(rows / scale[:, None, None], full_matrices=False)
    two = u @ vh
    rotation = torch.cat([two, torch.cross(two[:, 0], two[:, 1], dim=-1)[:, None]], 1)
    depth = camera.FOCAL_PX / scale
    place = torch.stack(
        [
            (middle[:, 0, 0] - camera.CENTRE_PX) / scale,
            (camera.CROP_SIZE - 1 - camera.CENTRE_PX - middle[:, 0, 1]) / scale,
            camera.CAMERA_Z_DM - depth,
        ],
        -1,
    )
    return camera.euler_angles(rotation), place - (rotation @ centre[:, 0, :, None])[..., 0]


def expression_prior(model, scores):
    """Mean (T, n_exp) and precision (n_exp,) of the expression from the scores (T, n_exp)."""
    spread = torch.full((len(model.expression_names),), EXPRESSION_SPREAD, dtype=torch.float64)
    weak = [model.expression_names.index(name) for name in WEAK]
    spread[weak] = WEAK_SPREAD
    mean = torch.as_tensor(scores, dtype=torch.float64).clone()
    mean[:, weak] = 0
    return {"mean": mean, "precision": spread**-2}


def fill_gaps(values, valid):
    """(T, ...) with invalid frames interpolated in time from valid ones."""
    values = np.asarray(values, np.float64)
    good = np.flatnonzero(valid)
    if len(good) == len(values):
        return values
    flat = values.reshape(len(values), -1)
    times = np.arange(len(values))
    return np.stack([np.interp(times, good, column[good]) for column in flat.T], 1).reshape(values.shape)


def fit_clip(points, scores, valid, frame_size, fps, model, identity=None, bias=None, noise=None):
    """Landmarks of a clip to a FaceTrack.

    points (T, 478, >=2) source pixels; scores (T, 52) in the order of `model.expression_names`; valid (T,) bool; frame_size
    (width, height); identity (n_id,): use this one and do not fit it; bias: angle (T, 3) -> (T, 478, 2), by how much the points
    are off in a pose, as `landmark_bias.bias` knows of our landmarker; exact points have none;
    noise (L,) px: how far each landmark is off when the bias is gone, by which it is weighed. A clip of one frame is a portrait.
    """
    valid = np.asarray(valid, bool)
    if not valid.any():
        raise FitError(f"no face in any of {len(valid)} frames: a clip with a visible face is needed")
    points = fill_gaps(np.asarray(points)[..., :2], valid)
    scores = fill_gaps(scores, valid)
    crops = steady_crops(points, frame_size, fps)
    found = camera.apply_affine(torch.from_numpy(points), torch.from_numpy(crops).double())
    observed = found
    mask = torch.ones(observed.shape[:2], dtype=torch.float64)
    linear, prior = linear_landmarks(model, noise), expression_prior(model, scores)
    exp = prior["mean"].clamp(0, 1)
    state = (exp, *initial_pose(linear, exp, observed))
    for _ in range(2 if bias else 0):  # the first pose is off by what the bias makes of it
        observed = found - bias(state[1])
        state = (exp, *initial_pose(linear, exp, observed))
    if identity is None:
        chosen = np.flatnonzero(valid)[
            np.linspace(0, valid.sum() - 1, min(N_IDENTITY_FRAMES, valid.sum())).round().astype(int)
        ]
        chosen = torch.as_tensor(np.unique(chosen))
        id, some = fit_identity(
            linear,
            tuple(x[chosen] for x in state),
            observed[chosen],
            mask[chosen],
            prior | {"mean": prior["mean"][chosen]},
        )
    else:
        id = torch.as_tensor(identity, dtype=torch.float64)
    exp, angle, trans = solve_frames(linear, id, state, observed, mask, prior, FRAME_STEPS)
    if bias:
        observed = found - bias(angle)
        exp, angle, trans = solve_frames(linear, id, (exp, angle, trans), observed, mask, prior, 2)
    if len(exp) > 2:
        pose = whittaker(torch.cat([angle, trans], 1).numpy(), POSE_CUTOFF_HZ, fps)
        angle, trans = torch.from_numpy(pose).split(3, 1)
        exp, angle, trans = solve_frames(linear, id, (exp, angle, trans), observed, mask, prior, 3, pose_fixed=True)
        exp = torch.from_numpy(whittaker(exp.numpy(), EXPRESSION_CUTOFF_HZ, fps)).clamp(0, 1)
    coeff = model.layout.join(id=id.expand(len(exp), -1).clone(), exp=exp, angle=angle, trans=trans)
    # LAPACK's last bits depend on where its input lies in memory; to a millionth, the same clip gives the same bytes
    coeff = coeff.mul(1e6).round().div(1e6) + 0.0
    return FaceTrack(
        coeff=coeff.float().numpy(),
        landmarks=points.astype(np.float32),
        crop=crops,
        valid=valid,
        scores=scores.astype(np.float32),
        fps=float(fps),
        frame_size=tuple(int(v) for v in frame_size),
        face_model=model.name,
        face_model_hash=model.hash,
    )


def reproject(track, model, n=478):
    """Landmarks of the fitted face (T, n, 2) in source pixels, n = 478 or 68."""
    parts = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in track.parts().items()}
    back = camera.invert_affine(torch.from_numpy(track.crop).double()).float()
    out = []
    for start in range(0, len(track), CHUNK):
        part = slice(start, start + CHUNK)
        points = model.landmarks(model.vertices(parts["id"][part], parts["exp"][part]), n)
        pixels = camera.project(camera.pose(points, parts["angle"][part], parts["trans"][part]))
        out.append(camera.apply_affine(pixels, back[part]))
    return torch.cat(out).numpy()


def reprojection_error(track, model):
    """68-landmark error of each frame (T,) as a share of the distance of the iris centres; NaN where no face was found."""
    error = np.linalg.norm(reproject(track, model, 68) - track.landmarks68, axis=-1).mean(-1)
    return np.where(track.valid, error / landmarks.interocular(track.landmarks), np.nan)

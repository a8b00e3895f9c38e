"""Pixels after landmarks: shape, pose and expression of a clip refined until every place of the skin keeps its colour.

Landmarks are good to two pixels and err in the same way in every frame of one pose. Here points on the skin (`photometric_surface`)
are followed through the frames: the logarithm of the picture at a point is the point's own colour plus the light on it (nine
bands of spherical harmonics, of each frame and of each of two channels), and Gauss-Newton moves identity, pose and expression
until that holds, from coarse to fine. The landmark term of `fit` stays in the sum, so what pixels do not tell (lids, eyes, the
mouth's inside) stays where landmarks put it. Points that hands, hair or glints cover fall out by a robust weight.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch

from deep_3drecon import camera, fit, landmarks
from deep_3drecon.align import whittaker
from deep_3drecon.face_model import load_face_model
from deep_3drecon.photometric_surface import cut_crop, feature_picture, look, sample, surface_points
from deep_3drecon.shading import sh_basis

N_KEY_FRAMES = 32
KEY_SIGMAS = (3.0, 3.0, 3.0, 2.0, 2.0, 1.3, 1.3)  # px of the canonical crop, one Gauss-Newton step each
FRAME_SIGMAS = (2.0, 1.3, 1.3)
CHUNK = 16
N_INDEPENDENT = 800.0  # what the pixels of one frame are worth, beside fit.N_INDEPENDENT of its landmarks
LANDMARK_SHARE = 0.3  # of the weight that landmarks have where they are alone
LIP_SHARE = 1.0  # the same for lips, lids and irises
EXPRESSION_SPREAD = 0.15  # standard deviation about what landmarks said
LEAST_NOISE = 0.006  # of a logarithm
OUTLIER = 2.5  # times the noise, where a point counts for a quarter
LIGHT_RIDGE = 1.0
POSE_CUTOFF_HZ = 7.0


class PhotometricError(ValueError):
    """A track and frames that do not belong together."""


@dataclass
class Reference:
    """What the points look like: colour (N, C) logarithms without light, noise (C,), and trust (N,) 0..1."""

    colour: torch.Tensor
    noise: torch.Tensor
    trust: torch.Tensor


@dataclass
class View:
    """The points in T frames: values (T, N, C), slopes (T, N, C, 2), bands (T, N, 9), weight (T, N), 0 where hidden."""

    values: torch.Tensor
    slopes: torch.Tensor
    bands: torch.Tensor
    weight: torch.Tensor


def view_points(surface, id, state, pictures):
    """`View` of feature pictures (T, H, W, C) under id (n_id,) and state (exp, angle, trans)."""
    exp, angle, trans = (x.float() for x in state)
    id = id.float()
    vertices = surface.model.vertices(id.expand(len(exp), -1), exp)
    normals, facing = look(surface, vertices, angle, trans)
    places = camera.project(camera.pose(surface.points(id, exp), angle, trans))
    values, slopes = (torch.from_numpy(x) for x in sample(pictures, places.numpy()))
    return View(values, slopes, sh_basis(normals), torch.from_numpy(facing).square())


def fit_light(bands, residual, weight):
    """Logarithm of the light (T, 9, C): weighted least squares of residual (T, N, C) on bands (T, N, 9), weight (T, N, C)."""
    scaled = bands[:, :, None] * weight[..., None]  # (T, N, C, 9)
    matrix = torch.einsum("tnci,tnj->tcij", scaled, bands) + LIGHT_RIDGE * torch.eye(9)
    right = torch.einsum("tnci,tnc->tci", scaled, residual)
    return torch.linalg.solve(matrix, right[..., None])[..., 0].transpose(1, 2)


def robust(residual, noise):
    """Weight 0..1 of residuals (T, N, C): one channel far off puts the point in doubt."""
    doubt = (residual / (OUTLIER * noise)).square()
    return (1 / (1 + doubt).square()).amin(-1, keepdim=True).expand_as(residual)


def find_reference(view, rounds=4):
    """`Reference` from K frames, and what remains of them (K, N, C) with its weights."""
    weight = view.weight[..., None].expand_as(view.values).clone()
    light = torch.zeros(len(view.values), 9, view.values.shape[-1])
    for _ in range(rounds):
        bare = view.values - view.bands @ light
        colour = (bare * weight).sum(0) / weight.sum(0).clamp_min(1e-6)
        residual = view.values - colour
        light = fit_light(view.bands, residual, weight)
        residual = residual - view.bands @ light
        noise = _noise(residual, view.weight)
        weight = view.weight[..., None] * robust(residual, noise)
    trust = (view.weight > 0).float().sum(0)
    trust = (trust / (trust + 3)) * (weight[..., 0].sum(0) / view.weight.sum(0).clamp_min(1e-6))
    return Reference(colour, noise, trust), residual, weight


def _noise(residual, weight):
    seen = weight > 0
    return (1.4826 * residual[seen].abs().median(0).values).clamp_min(LEAST_NOISE)


def compare(view, reference):
    """Residual (T, N, C) of frames against a reference, light fitted, and weights."""
    residual = view.values - reference.colour
    base = (view.weight * reference.trust)[..., None]
    weight = base * robust(residual - residual.median(1, keepdim=True).values, 3 * reference.noise)
    for _ in range(3):
        rest = residual - view.bands @ fit_light(view.bands, residual, weight)
        weight = base * robust(rest, reference.noise)
    return rest, weight


def pixel_equations(surface, id, state, view, residual, weight, noise, with_id=False):
    """Normal matrix (T, P, P) and right side (T, P) of expression, angle, trans [and identity, last] from pixels, float64."""
    exp, angle, trans = (x.float() for x in state)
    points = surface.points(id.float(), exp)
    rotation = camera.rotation_matrix(angle)
    posed = points @ rotation.transpose(-1, -2) + trans[:, None]
    depth = camera.CAMERA_Z_DM - posed[..., 2]
    scale = (camera.FOCAL_PX / depth)[..., None]
    right, down = view.slopes[..., 0] * scale, view.slopes[..., 1] * scale
    along = (right * posed[..., :1] - down * posed[..., 1:2]) / depth[..., None]
    by_place = torch.stack([right, -down, along], -1)  # (T, N, C, 3)
    by_point = by_place @ rotation[:, None]
    step = 1e-3
    turns = torch.stack(
        [
            (camera.rotation_matrix(angle + step * e) - camera.rotation_matrix(angle - step * e)) / (2 * step)
            for e in torch.eye(3)
        ],
        1,
    )
    turned = torch.einsum("tkij,tnj->tnik", turns, points)
    columns = [
        _through(by_point, surface.exp),
        by_place @ turned,
        by_place,
    ]
    if with_id:
        columns.append(_through(by_point, surface.id))
    scaled = (weight / noise.square() * (N_INDEPENDENT / weight.shape[1])).sqrt()
    jacobian = (torch.cat(columns, -1) * scaled[..., None]).flatten(1, 2)
    error = (residual * scaled).flatten(1)
    matrix = jacobian.transpose(1, 2) @ jacobian
    return matrix.double(), -(jacobian.transpose(1, 2) @ error[..., None])[..., 0].double()


def _through(by_point, basis):
    """(T, N, C, 3) slopes and basis (N, 3, k) -> (T, N, C, k)."""
    t, n, c, _ = by_point.shape
    rows = by_point.permute(1, 0, 2, 3).reshape(n, t * c, 3)
    return torch.bmm(rows, basis).view(n, t, c, -1).permute(1, 0, 2, 3)


def key_frames(track, n=N_KEY_FRAMES):
    """Up to n valid frames (ids) that differ most in pose and mouth: the farthest from those chosen, one after the other."""
    parts = track.parts()
    mouth = parts["exp"]
    where = np.concatenate([parts["angle"] / 0.1, mouth / 0.3], 1)
    found = np.flatnonzero(track.valid)
    where = where[found]
    chosen = [int(np.argmin(np.linalg.norm(where - np.median(where, 0), axis=1)))]
    distance = np.linalg.norm(where - where[chosen[0]], axis=1)
    while len(chosen) < min(n, len(found)):
        chosen.append(int(np.argmax(distance)))
        distance = np.minimum(distance, np.linalg.norm(where - where[chosen[-1]], axis=1))
    return np.sort(found[chosen])


def refine_clip(track, frames, model=None, bias=None):
    """A FaceTrack and the frames it was made from -> the refined FaceTrack, `gamma` of its coefficients zero still.

    frames: a function without arguments that gives an iterator of the T frames (H, W, 3) uint8 RGB, since they are read twice,
    or a sequence of them. bias: as in `fit.fit_clip`, that of the landmarks in the track. Frames that are not valid, and clips
    with fewer than three valid frames, keep what they have.
    """
    model = model or load_face_model(track.face_model)
    _check(track, model)
    if track.valid.sum() < 3:
        return track
    problem = _Problem(track, model, bias)
    keys = key_frames(track)
    crops = np.stack([crop for _, crop in _crops(track, frames, set(keys.tolist()))])
    id, state, references = _fit_identity(problem, keys, crops)
    exp, angle, trans = _fit_frames(problem, id, frames, references)
    coeff = model.layout.join(id=id.expand(len(track), -1).clone(), exp=exp, angle=angle, trans=trans)
    return replace(track, coeff=coeff.mul(1e6).round().div(1e6).float().numpy() + np.float32(0))


def _check(track, model):
    if track.face_model_hash != model.hash:
        raise PhotometricError(
            f"the track was made with head {track.face_model_hash}, this one is {model.hash}: fit the clip again"
        )


class _Problem:
    """A clip's landmarks, priors and surface."""

    def __init__(self, track, model, bias):
        self.track, self.surface, self.linear = track, surface_points(model), fit.linear_landmarks(model)
        self.parts = {k: torch.from_numpy(np.ascontiguousarray(v)).double() for k, v in track.parts().items()}
        self.found = camera.apply_affine(
            torch.from_numpy(track.landmarks).double(), torch.from_numpy(track.crop).double()
        )
        if bias is not None:
            self.found = self.found - bias(self.parts["angle"])
        governed = np.unique(np.concatenate([landmarks.LIPS, landmarks.EYE_LEFT, landmarks.EYE_RIGHT, range(468, 478)]))
        mask = torch.full(self.found.shape[:2], LANDMARK_SHARE**0.5, dtype=torch.float64)
        mask[:, governed] = LIP_SHARE**0.5
        self.mask = mask
        self.n_exp = self.parts["exp"].shape[1]
        spread = torch.full((self.n_exp,), EXPRESSION_SPREAD, dtype=torch.float64)
        spread[[k for k, name in enumerate(model.expression_names) if name in fit.WEAK]] = fit.WEAK_SPREAD
        self.precision = spread**-2

    def start(self, frames):
        """State (exp, angle, trans) of some frames as the track has it."""
        return tuple(self.parts[name][frames] for name in ("exp", "angle", "trans"))

    def landmark_system(self, id, state, frames):
        """As `fit._frame_system`, for some frames."""
        prior = {"mean": self.parts["exp"][frames], "precision": self.precision}
        ids = id.expand(len(state[0]), -1)
        return fit.frame_system(self.linear, ids, state, self.found[frames], self.mask[frames], prior)


def _crops(track, frames, wanted=None):
    """(t, crop (224, 224, 3) uint8) of the wanted frames, or all."""
    count = 0
    for t, frame in enumerate(frames() if callable(frames) else frames):
        count += 1
        if t < len(track) and (wanted is None or t in wanted):
            if frame.shape[1::-1] != tuple(track.frame_size):
                raise PhotometricError(
                    f"frame {t} is {frame.shape[1]}x{frame.shape[0]}, the track's are {track.frame_size}: give the frames "
                    "that the track was made from"
                )
            yield t, cut_crop(frame, track.crop[t])
    if count < len(track):
        raise PhotometricError(
            f"{count} frames came, the track has {len(track)}: give the frames that it was made from"
        )


def _fit_identity(problem, keys, crops):
    """Identity, the state of the key frames and {sigma: Reference}."""
    surface, n_exp = problem.surface, problem.n_exp
    id, state, frames = problem.parts["id"][keys[0]], problem.start(keys), torch.as_tensor(keys)
    own = n_exp + 6
    share = fit.IDENTITY_EVIDENCE / len(keys)
    for sigma in KEY_SIGMAS:
        view = view_points(surface, id, state, np.stack([feature_picture(crop, sigma) for crop in crops]))
        reference, residual, weight = find_reference(view)
        pixels, by_pixels = pixel_equations(surface, id, state, view, residual, weight, reference.noise, with_id=True)
        jacobian, matrix, right, miss, by_point = problem.landmark_system(id, state, frames)
        by_id = torch.einsum("tlic,lck->tlik", by_point, problem.linear.id).flatten(1, 2)
        cross = jacobian.transpose(1, 2) @ by_id + pixels[:, :own, own:]
        solved = torch.linalg.solve(
            matrix + pixels[:, :own, :own], torch.cat([cross, (right + by_pixels[:, :own])[..., None]], -1)
        )
        both = (by_id.transpose(1, 2) @ by_id + pixels[:, own:, own:]).sum(0)
        both = both - (cross.transpose(1, 2) @ solved[..., :-1]).sum(0)
        rest = by_pixels[:, own:].sum(0) - torch.einsum("tpk,tp->k", by_id, miss)
        rest = rest - (cross.transpose(1, 2) @ solved[..., -1:])[..., 0].sum(0)
        step = torch.linalg.solve(both * share + torch.eye(len(id)).double(), rest * share - id)
        id = id + step
        state = fit.update(state, solved[..., -1] - solved[..., :-1] @ step, n_exp)
    references = {}
    for sigma in set(FRAME_SIGMAS):
        view = view_points(surface, id, state, np.stack([feature_picture(crop, sigma) for crop in crops]))
        references[sigma] = find_reference(view)[0]
    return id, state, references


def _fit_frames(problem, id, frames, references):
    """Expression, angle, trans (T, ...) of all frames under an identity; the pose steadied."""
    track, done, systems = problem.track, [], []
    chunk = []
    for t, crop in _crops(track, frames):
        chunk.append(crop)
        if len(chunk) == CHUNK or t == len(track) - 1:
            part = slice(t + 1 - len(chunk), t + 1)
            state, matrix = _fit_chunk(problem, id, part, np.stack(chunk), references)
            done.append(state)
            systems.append(matrix)
            chunk = []
    exp, angle, trans = (torch.cat(x) for x in zip(*done, strict=True))
    lost = torch.from_numpy(~track.valid)
    for value, name in ((exp, "exp"), (angle, "angle"), (trans, "trans")):
        value[lost] = problem.parts[name][lost]
    return _steadied(exp, angle, trans, torch.cat(systems), track.fps)


def _fit_chunk(problem, id, part, crops, references):
    """State of some frames, and their last normal matrix."""
    state, linear = problem.start(part), problem.linear
    for sigma in FRAME_SIGMAS:
        view = view_points(problem.surface, id, state, np.stack([feature_picture(crop, sigma) for crop in crops]))
        residual, weight = compare(view, references[sigma])
        pixels, by_pixels = pixel_equations(problem.surface, id, state, view, residual, weight, references[sigma].noise)
        _, matrix, right, _, _ = problem.landmark_system(id, state, part)
        matrix = matrix + pixels
        state = fit.update(state, torch.linalg.solve(matrix, right + by_pixels), linear.exp.shape[-1])
    return state, matrix


def _steadied(exp, angle, trans, matrix, fps):
    """Pose low-passed and expression moved along with it, by the frames' normal matrices (T, E + 6, E + 6)."""
    if len(exp) < 3:
        return exp, angle, trans
    n_exp, pose = exp.shape[1], torch.cat([angle, trans], 1)
    steady = torch.from_numpy(whittaker(pose.numpy(), POSE_CUTOFF_HZ, fps))
    moved = torch.einsum("tij,tj->ti", matrix[:, :n_exp, n_exp:], steady - pose)
    exp = (exp - torch.linalg.solve(matrix[:, :n_exp, :n_exp], moved)).clamp(0, 1)
    exp = torch.from_numpy(whittaker(exp.numpy(), fit.EXPRESSION_CUTOFF_HZ, fps)).clamp(0, 1)
    return exp, *steady.split(3, 1)

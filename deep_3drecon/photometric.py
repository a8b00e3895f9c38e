"""Pixels after landmarks: shape, pose and expression of a clip refined until every place of the skin keeps its colour.

Landmarks are good to two pixels and err in the same way in every frame of one pose. Here points on the skin (`photometric_surface`)
are followed through the frames: the logarithm of the picture at a point is the point's own colour plus the light on it (nine
bands of spherical harmonics, of each frame and of each of two channels), and Gauss-Newton moves identity, pose and expression
until that holds, from coarse to fine. The landmark term of `fit` stays in the sum, so what pixels do not tell (lids, eyes, the
mouth's inside) stays where landmarks put it. Points that hands, hair or glints cover fall out by a robust weight.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from deep_3drecon import camera, fit, landmarks
from deep_3drecon.align import whittaker
from deep_3drecon.face_model import load_face_model
from deep_3drecon.fit_groups import across
from deep_3drecon.photometric_frames import PhotometricError, crops, key_frames
from deep_3drecon.photometric_light import band_shade, fit_albedo, light_equations, solve_light, trusted
from deep_3drecon.photometric_pixels import compare, find_reference, pixel_equations, view_points
from deep_3drecon.photometric_surface import feature_picture, look, sample, surface_points
from deep_3drecon.shading import sh_basis

KEY_SIGMAS = (3.0, 3.0, 2.0, 2.0, 1.3, 1.3)  # px of the canonical crop, one Gauss-Newton step each
FRAME_SIGMAS = (2.0, 1.3, 1.3)
CHUNK = 16
LANDMARK_SHARE = 0.3  # of the weight that landmarks have where they are alone
LIP_SHARE = 3.0  # the same for lips, lids and irises, which landmarks govern
EXPRESSION_SPREAD = 0.15  # standard deviation about what landmarks said
POSE_CUTOFF_HZ = 5.5
LIGHT_CUTOFF_HZ = 1.0
COLOUR_SIGMA = 1.0  # px of the canonical crop
LEAST_KEYS = 3


def refine_clip(track, frames, model=None, bias=None, noise=None, known=None):
    """A FaceTrack and the frames it was made from -> the refined FaceTrack, its `gamma` the light of every frame.

    frames: see `photometric_frames`; they are read twice. bias, noise: as in `fit.fit_clip`, those of the landmarks in the track.
    known: how well the track is known already, if better than landmarks tell.
    Frames that are not valid keep what they have; clips with fewer than three valid frames only get their light.
    """
    model = model or load_face_model(track.face_model)
    _check(track, model)
    problem, keys = _Problem(track, model, bias, noise, known), key_frames(track)
    cut = np.stack([crop for _, crop in crops(track, frames, keys)])
    if len(keys) < LEAST_KEYS:
        gamma = _light(problem.surface, problem.parts["id"][keys[0]], problem.start(keys), cut)[1]
        return with_parts(track, model, gamma=gamma[:1].expand(len(track), -1))
    id, state, references = _fit_identity(problem, keys, cut)
    albedo, _ = _light(problem.surface, id, state, cut)
    exp, angle, trans, equations = _fit_frames(problem, id, frames, references, albedo)
    gamma = torch.from_numpy(whittaker(solve_light(*equations).numpy(), LIGHT_CUTOFF_HZ, track.fps))
    return with_parts(track, model, id=id.expand(len(track), -1), exp=exp, angle=angle, trans=trans, gamma=gamma)


def photometric_residual(track, frames, model=None):
    """How far the clip is from its face: mean absolute difference, 0..255, of the skin's pixels from albedo times light.

    Albedo of each point and light of each frame are the best for the track as it is, whatever its `gamma`; over the key frames.
    Returns the mean of the nine tenths of the points that fit best, so that what covers a face does not count.
    """
    model = model or load_face_model(track.face_model)
    _check(track, model)
    keys, surface = key_frames(track), surface_points(model)
    cut = np.stack([crop for _, crop in crops(track, frames, keys)])
    parts = {name: torch.from_numpy(np.ascontiguousarray(value[keys])) for name, value in track.parts().items()}
    state = tuple(parts[name] for name in ("exp", "angle", "trans"))
    albedo, gamma = _light(surface, parts["id"][0], state, cut)
    colours, bands, weight = _colours(surface, parts["id"][0], state, cut)
    miss = (colours - albedo * band_shade(bands, gamma)).abs().mean(-1)[weight > 0]
    return float(miss[miss <= miss.quantile(0.9)].mean())


def with_parts(track, model, **parts):
    """The track with some parts of its coefficients replaced."""
    kept = {k: torch.from_numpy(np.array(v, np.float64)) for k, v in track.parts().items()}
    coeff = model.layout.join(**(kept | {name: value.double() for name, value in parts.items()}))
    # to a millionth, as in `fit`: the same clip gives the same bytes
    return replace(track, coeff=(coeff.mul(1e6).round().div(1e6) + 0.0).float().numpy())


def _colours(surface, id, state, cut):
    """Colours (K, N, 3) 0..255 of the points in crops (K, 224, 224, 3), bands (K, N, 9) and weight (K, N)."""
    exp, angle, trans = (x.float() for x in state)
    normals, facing = look(surface, surface.model.vertices(id.float().expand(len(exp), -1), exp), angle, trans)
    places = camera.project(camera.pose(surface.points(id.float(), exp), angle, trans))
    soft = np.stack([cv2.GaussianBlur(crop, (0, 0), COLOUR_SIGMA) for crop in cut]).astype(np.float32)
    colours, _ = sample(soft, places.numpy())
    return torch.from_numpy(colours), sh_basis(normals), torch.from_numpy(facing).square()


def _light(surface, id, state, cut):
    """Albedo (N, 3) of the points and gamma (K, 27) of the frames."""
    return fit_albedo(*_colours(surface, id, state, cut))


def _check(track, model):
    if track.face_model_hash != model.hash:
        raise PhotometricError(
            f"the track was made with head {track.face_model_hash}, this one is {model.hash}: fit the clip again"
        )


@dataclass(frozen=True)
class Known:
    """What is known of a track before its pixels are looked at.

    moved: expressions that are known, exp: by how much they may be off; id: the same for the identity; lips, others: weight of
    the landmarks; landmarks (T, 478, 2) px of the canonical crop, without bias, if known better than the track has them.
    """

    moved: tuple
    exp: float = 0.02
    id: float = 0.1
    lips: float = 1.0
    others: float = 1.0
    landmarks: torch.Tensor | None = None


class _Problem:
    """A clip's landmarks, priors and surface."""

    def __init__(self, track, model, bias, noise, known=None):
        self.track, self.surface, self.linear = track, surface_points(model), fit.linear_landmarks(model, noise)
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
        self.id, self.id_precision = torch.zeros(self.parts["id"].shape[1], dtype=torch.float64), 1.0
        if known is not None:
            self.id, self.id_precision = self.parts["id"][0], known.id**-2
            self.precision[list(known.moved)] = known.exp**-2
            lips = np.isin(np.arange(mask.shape[1]), landmarks.LIPS)
            self.mask[:, lips] = known.lips**0.5
            self.mask[:, ~lips] *= known.others**0.5
            self.found = self.found if known.landmarks is None else known.landmarks

    def start(self, frames):
        """State (exp, angle, trans) of some frames as the track has it."""
        return tuple(self.parts[name][frames] for name in ("exp", "angle", "trans"))

    def landmark_system(self, id, state, frames):
        """As `fit.frame_system`, for some frames."""
        prior = {"mean": self.parts["exp"][frames], "precision": self.precision}
        ids = id.expand(len(state[0]), -1)
        return fit.frame_system(self.linear, ids, state, self.found[frames], self.mask[frames], prior)


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
        cross = across(jacobian, by_id, own) + pixels[:, :own, own:]
        solved = torch.linalg.solve(
            matrix + pixels[:, :own, :own], torch.cat([cross, (right + by_pixels[:, :own])[..., None]], -1)
        )
        both = (by_id.transpose(1, 2) @ by_id + pixels[:, own:, own:]).sum(0)
        both = both - (cross.transpose(1, 2) @ solved[..., :-1]).sum(0)
        rest = by_pixels[:, own:].sum(0) - torch.einsum("tpk,tp->k", by_id, miss)
        rest = rest - (cross.transpose(1, 2) @ solved[..., -1:])[..., 0].sum(0)
        held = problem.id_precision * torch.eye(len(id)).double()
        step = torch.linalg.solve(both * share + held, rest * share - problem.id_precision * (id - problem.id))
        id = id + step
        state = fit.update(state, solved[..., -1] - solved[..., :-1] @ step, n_exp)
    references = {}
    for sigma in set(FRAME_SIGMAS):
        view = view_points(surface, id, state, np.stack([feature_picture(crop, sigma) for crop in crops]))
        references[sigma] = find_reference(view)[0]
    return id, state, references


def _fit_frames(problem, id, frames, references, albedo):
    """Expression, angle, trans (T, ...) of all frames under an identity, the pose steadied; and equations of their light."""
    track, done, systems, chunk = problem.track, [], [], []
    for t, crop in crops(track, frames):
        chunk.append(crop)
        if len(chunk) == CHUNK or t == len(track) - 1:
            part = slice(t + 1 - len(chunk), t + 1)
            cut = np.stack(chunk)
            state, matrix = _fit_chunk(problem, id, part, cut, references)
            colours, bands, weight = _colours(problem.surface, id, state, cut)
            sure = trusted(colours, bands, weight, albedo)
            done.append(state)
            systems.append((matrix, *light_equations(colours, bands, sure, albedo)))
            chunk = []
    exp, angle, trans = (torch.cat(x) for x in zip(*done, strict=True))
    lost = torch.from_numpy(~track.valid)
    for value, name in ((exp, "exp"), (angle, "angle"), (trans, "trans")):
        value[lost] = problem.parts[name][lost]
    matrix, *equations = (torch.cat(x) for x in zip(*systems, strict=True))
    return *_steadied(exp, angle, trans, matrix, track.fps), equations


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

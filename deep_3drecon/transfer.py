"""From one face model to another: which place is which, which expression is which, and a whole track.

    python -m deep_3drecon.transfer --track in.npz --to bfm --output out.npz

Places: the 68 landmarks lay one neutral head on the other (a similarity, then a smooth warp), and each point takes the nearest place
of the other's surface that looks the same way. Expressions: least squares on the displacements at those places, towards the
shapes of the same ARKit name where both models have them, inside [0, 1] where the numbers of the target are ARKit's.
"""

import argparse
import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import RBFInterpolator

from deep_3drecon import camera
from deep_3drecon.bake_open_head import EXPRESSIONS
from deep_3drecon.face_model import FaceModelError, load_face_model
from deep_3drecon.surface import closest_points
from deep_3drecon.track import FaceTrack, TrackError

CONTOUR = 17  # the first of the 68 landmarks slide along the jaw and do not guide the warp
MAX_GAP_DM = 0.12  # a place farther off than this after the warp is no counterpart
LIP_WEIGHT = 4.0  # a lip vertex counts this many times in the least squares
HINGE = 0.02  # pull of the names, as a share of the mean squared size of the target's shapes
RIDGE = 2e-3  # the same, of numbers towards zero: what hardly shows on the surface stays small
EYE_SHARE = 0.05  # of the least squares, for eyeballs where both models have them
MAX_POINTS = 6000  # of a finer face, evenly picked
IDENTITY_NOISE_DM = 0.01  # against a standard deviation of one in every identity number
TURN = 0.3  # radians at which a joint's shape is measured
SWEEPS = 200  # of coordinate descent for bounded expressions


@dataclass
class Similarity:
    """x -> scale R x + shift, from the space of one model to that of another: rotation (3, 3), shift (3,) dm."""

    scale: float
    rotation: np.ndarray
    shift: np.ndarray

    def __call__(self, points):
        return self.scale * points @ self.rotation.T + self.shift

    def turn(self, shapes):
        """Displacements (N, 3, k) under it."""
        return self.scale * np.einsum("ij,njk->nik", self.rotation, shapes)


@dataclass
class Mapping:
    """Expressions of `source` as expressions of `target`: exp_target = matrix @ exp_source.

    matrix (n_target, n_source), column k for one unit of the source's expression k; bounded: the target's numbers are ARKit's, 0..1;
    gram (n_target, n_target), cross (n_target, n_source): the normal equations, for whole faces under bounds;
    errors {"face", "lips": (n_source,) mean distance in mm that remains at one unit, "face_size", "lips_size": mean movement in mm};
    places: vertex ids (N,) of the target and ids, weights (N, 3) on the source; similarity: source to target.
    """

    source: str
    target: str
    source_names: tuple
    target_names: tuple
    matrix: np.ndarray
    gram: np.ndarray
    cross: np.ndarray
    bounded: bool
    errors: dict
    places: tuple
    similarity: Similarity

    def expressions(self, exp):
        """(T, n_source) -> (T, n_target). Bounded targets are solved face by face, so that sums of shapes stay inside the bounds."""
        exp = np.asarray(exp, np.float64)
        if not self.bounded:
            return exp @ self.matrix.T
        return bounded_solve(self.gram, exp @ self.cross.T, np.clip(exp @ self.matrix.T, 0, 1))

    def table(self):
        """Lines of text, one an expression: its largest counterparts and the error in mm beside the movement."""
        lines = [f"{'expression':22s} {'face mm':>8s} {'of':>6s} {'lips mm':>8s} {'of':>6s}  {self.target}"]
        for k, name in enumerate(self.source_names):
            top = np.argsort(-np.abs(self.matrix[:, k]))[:3]
            parts = " ".join(f"{self.matrix[j, k]:+.2f} {self.target_names[j]}" for j in top if self.matrix[j, k])
            e = {part: self.errors[part][k] for part in self.errors}
            lines.append(
                f"{name:22s} {e['face']:8.2f} {e['face_size']:6.2f} {e['lips']:8.2f} {e['lips_size']:6.2f}  {parts}"
            )
        return "\n".join(lines)


def similarity_of(a, b, weights=None):
    """Similarity that takes points a (N, 3) nearest to b (N, 3), least squares, optionally weighted (N,)."""
    w = np.ones(len(a)) if weights is None else weights
    w = (w / w.sum())[:, None]
    centre_a, centre_b = (w * a).sum(0), (w * b).sum(0)
    u, s, vh = np.linalg.svd((w * (b - centre_b)).T @ (a - centre_a))
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vh))])
    rotation = u @ np.diag(sign) @ vh
    scale = (s * sign).sum() / (w * (a - centre_a) ** 2).sum()
    return Similarity(float(scale), rotation, centre_b - scale * rotation @ centre_a)


def correspond(source, target, points, normals=None):
    """Places on the source for points (N, 3) given on the target's mean head -> ids (N, 3), weights (N, 3), distance (N,) dm, Similarity.

    normals (N, 3): on the target; a place on the source has to look about the same way.
    """
    for model in (source, target):
        if model.ids68 is None and model.landmark_ids is None:
            raise FaceModelError(f"{model.name}: without 68 landmarks it cannot be laid on another head")
    mine, other = (model.landmarks(model.mean, 68).double().numpy() for model in (source, target))
    similar = similarity_of(mine[CONTOUR:], other[CONTOUR:])
    mean = similar(source.mean.double().numpy())
    moved = similar(mine)
    warp = RBFInterpolator(moved[CONTOUR:], (other - moved)[CONTOUR:], smoothing=1e-4)
    mean = mean + warp(mean)
    ids, weights, distance = closest_points(points, mean, _outside(source), normals)
    return ids, weights, distance, similar


def _outside(model):
    """Triangles of skin and eyeballs; teeth and tongue are nobody's counterpart."""
    inside = np.concatenate([model.regions.get(name, []) for name in ("teeth_upper", "teeth_lower", "tongue")])
    return model.triangles[~np.isin(model.triangles, inside).any(1)]


def lend_landmarks(model, lender):
    """The model with the lender's 478 landmarks at the corresponding places of its own surface; its own 68 points stay its own."""
    points = lender.landmarks(lender.mean).double().numpy()
    ids, weights, _, _ = correspond(model, lender, points)
    return replace(model, landmark_ids=ids.astype(np.int64), landmark_weights=torch.from_numpy(weights).float())


def unit_shapes(model, ids):
    """Displacements (..., 3, n_exp) of vertices `ids` (...) of the mean head by one unit of each expression, turns made linear."""
    shapes = model.exp_basis[torch.as_tensor(ids)].double().numpy()
    turning = {k for joint in model.joints for k in joint.columns}
    turning |= {k for turn in model.gaze.values() for k in torch.nonzero(turn.abs().sum(1)).flatten().tolist()}
    neutral_id, exp = torch.zeros(model.layout.id), torch.zeros(model.layout.exp)
    rest = model.vertices(neutral_id, exp)
    for k in turning:
        step = exp.clone()
        step[k] = TURN
        shapes[..., k] = ((model.vertices(neutral_id, step) - rest) / TURN).double().numpy()[ids]
    return shapes


def name_matrix(source_names, target_names):
    """Which expression is which by ARKit name (n_target, n_source); a shape for both sides is the sum of the two sides."""
    out = np.zeros((len(target_names), len(source_names)))
    place = {name: j for j, name in enumerate(target_names)}
    for k, name in enumerate(source_names):
        if name in place:
            out[place[name], k] = 1
        elif name + "Left" in place and name + "Right" in place:
            out[[place[name + "Left"], place[name + "Right"]], k] = 1
        elif name.removesuffix("Left").removesuffix("Right") in place:
            out[place[name.removesuffix("Left").removesuffix("Right")], k] = 0.5
    return out


def is_arkit(model):
    """Whether a model's expression numbers are ARKit's, from 0 to 1, and not signed deviations."""
    return not set(model.expression_names).isdisjoint(EXPRESSIONS)


def _compared(source, target):
    """Vertex ids (N,) of the target at which expressions are compared, and their weights (N,), which sum to one."""
    face, lips = target.regions["face"], target.regions["lips"]
    share = np.zeros(target.n_vertices)
    share[face[:: len(face) // MAX_POINTS + 1]] = len(face) // MAX_POINTS + 1
    share[lips] = LIP_WEIGHT
    for name in ("eyeball_left", "eyeball_right"):
        if len(source.regions[name]) and len(target.regions[name]):
            share[target.regions[name]] = EYE_SHARE / 2 * len(face) / len(target.regions[name])
    ids = np.flatnonzero(share)
    return ids, share[ids] / share.sum()


def map_expressions(source, target):
    """`Mapping` of expressions from one face model to another. Its columns stay in [0, 1] where both models are ARKit's."""
    vertices, count = _compared(source, target)
    normals = target.normals(target.mean).numpy()[vertices]
    ids, weights, distance, similar = correspond(source, target, target.mean.double().numpy()[vertices], normals)
    good = distance < MAX_GAP_DM
    vertices, count, ids, weights = vertices[good], count[good], ids[good], weights[good]
    wanted = similar.turn(np.einsum("nwck,nw->nck", unit_shapes(source, ids), weights))
    shapes = unit_shapes(target, vertices)
    weighted = (shapes * count[:, None, None]).reshape(-1, shapes.shape[-1])
    gram, cross = weighted.T @ shapes.reshape(weighted.shape), weighted.T @ wanted.reshape(len(weighted), -1)
    names = name_matrix(source.expression_names, target.expression_names)
    size = np.trace(gram) / len(gram)
    gram = gram + np.eye(len(gram)) * RIDGE * size
    if names.any():
        # named shapes are pulled to their names: where the surface does not tell two shapes apart, the name does
        gram, cross = gram + np.eye(len(gram)) * HINGE * size, cross + HINGE * size * names
    matrix = np.linalg.solve(gram, cross)
    if is_arkit(source) and is_arkit(target):
        matrix = bounded_solve(gram, cross.T, np.clip(matrix, 0, 1).T).T
    left = np.linalg.norm(shapes @ matrix - wanted, axis=1) * target.unit_mm
    moves = np.linalg.norm(wanted, axis=1) * target.unit_mm
    errors = {}
    for name in ("face", "lips"):
        here = np.isin(vertices, target.regions[name])
        errors |= {name: left[here].mean(0), name + "_size": moves[here].mean(0)}
    return Mapping(
        source=source.name,
        target=target.name,
        source_names=source.expression_names,
        target_names=target.expression_names,
        matrix=matrix,
        gram=gram,
        cross=cross,
        bounded=is_arkit(target),
        errors=errors,
        places=(vertices, ids, weights),
        similarity=similar,
    )


def bounded_solve(gram, right, start):
    """Rows x (T, n) in [0, 1] that minimise x gram x / 2 - right x, by coordinate descent over all rows at once; start (T, n)."""
    x = start.copy()
    slope = x @ gram - right
    diagonal = np.maximum(np.diagonal(gram), 1e-12)
    for _ in range(SWEEPS):
        largest = 0.0
        for j in range(x.shape[1]):
            value = np.clip(x[:, j] - slope[:, j] / diagonal[j], 0, 1)
            step = value - x[:, j]
            x[:, j] = value
            slope += step[:, None] * gram[j]
            largest = max(largest, np.abs(step).max(initial=0))
        if largest < 1e-5:
            break
    return x


def map_identity(id, source, target, mapping, rounds=8):
    """Identity of the target (n_target,) for one of the source (n_source,), and the Similarity from the one neutral head to the other.

    Least squares on the corresponding places, with the prior of the target's model; alignment and identity in turns.
    """
    vertices, ids, weights = mapping.places
    shape = source.mean.double().numpy() + source.id_basis.double().numpy() @ np.asarray(id, np.float64)
    points = (shape[ids] * weights[..., None]).sum(1)
    rows = torch.as_tensor(vertices)
    basis = target.id_basis[rows].double().flatten(0, 1).numpy()
    mean = target.mean[rows].double().numpy()
    # correspondence errors of neighbours go together: the surface is worth some hundred points
    evidence = min(1.0, 300 / len(points)) / IDENTITY_NOISE_DM**2
    system = basis.T @ basis * evidence + np.eye(basis.shape[1])
    factor = np.linalg.inv(system) @ basis.T * evidence
    found = np.zeros(basis.shape[1])
    for _ in range(rounds):
        similar = similarity_of(points, mean + (basis @ found).reshape(-1, 3))
        found = factor @ (similar(points) - mean).ravel()
    return found, similarity_of(points, mean + (basis @ found).reshape(-1, 3))


def transfer_pose(angle, trans, similar):
    """Pose of the target whose picture is that of the source: angle (T, 3), trans (T, 3) -> the same.

    A head that is larger by a factor stands farther from the camera by the same factor, which the picture cannot show.
    """
    rotation = camera.rotation_matrix(torch.as_tensor(np.asarray(angle, np.float64))).numpy() @ similar.rotation.T
    eye = np.array([0, 0, camera.CAMERA_Z_DM])
    moved = similar.scale * (np.asarray(trans, np.float64) - eye) + eye - rotation @ similar.shift
    return camera.euler_angles(torch.from_numpy(rotation)).numpy(), moved


def transfer_track(track, target, source=None, mapping=None):
    """The FaceTrack with the coefficients of another face model; landmarks, crop and light stay as they are.

    target, source: FaceModel; source None: the one the track names. One identity is found for the mean of the clip's.
    """
    source = load_face_model(track.face_model) if source is None else source
    if source.hash != track.face_model_hash:
        raise TrackError(
            f"the track was made with {track.face_model} {track.face_model_hash}, this model is {source.hash}: use the files that it "
            "was made with"
        )
    mapping = map_expressions(source, target) if mapping is None else mapping
    parts = source.layout.split(track.coeff)
    id, similar = map_identity(parts["id"].mean(0), source, target, mapping)
    angle, trans = transfer_pose(parts["angle"], parts["trans"], similar)
    coeff = target.layout.join(
        id=np.tile(id, (len(track), 1)),
        exp=mapping.expressions(parts["exp"]),
        angle=angle,
        gamma=parts["gamma"].astype(np.float64),
        trans=trans,
    )
    return replace(track, coeff=coeff.astype(np.float32), face_model=target.name, face_model_hash=target.hash)


@functools.cache
def installed_mapping(source, target):
    """`map_expressions` of two installed face models by name: found once a process."""
    return map_expressions(load_face_model(source), load_face_model(target))


def main():
    parser = argparse.ArgumentParser(prog="python -m deep_3drecon.transfer", description=__doc__.split("\n")[0])
    parser.add_argument("--track", type=Path, required=True, help="npz that python -m deep_3drecon.reconstruct wrote")
    parser.add_argument("--to", required=True, help="name of a face model: open, bfm, ict, flame")
    parser.add_argument("--output", type=Path, required=True, help="npz to write")
    args = parser.parse_args()
    try:
        track = FaceTrack.load(args.track)
        source, target = load_face_model(track.face_model), load_face_model(args.to)
        mapping = map_expressions(source, target)
        transfer_track(track, target, source, mapping).save(args.output)
    except (FaceModelError, TrackError) as error:
        parser.exit(1, f"{error}\n")
    print(mapping.table())


if __name__ == "__main__":
    main()

"""FaceModel: a mesh from named coefficients.

    face = load_face_model("bfm")
    vertices = face.vertices(id, exp)        # (..., V, 3) dm

One interface for every source; `open` is the CC0 head that needs nothing from the user. Units are decimetres, axes those of
`camera`. A model holds one vertex for every (place, uv) pair, so seams of the atlas double vertices; `weld` joins them again.
"""

import functools
import hashlib
import importlib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch

from deep_3drecon.camera import MM_PER_DM
from deep_3drecon.coeffs import Layout
from deep_3drecon.landmarks import LANDMARKS_68, N_LANDMARKS
from deep_3drecon.shading import vertex_normals

# A new face model is one file with `default_path() -> Path` and `read(path) -> FaceModel`, and one line here. A file whose
# sizes never change also names its LAYOUT, so that a track can be read where the model itself is missing.
FACE_MODELS = {
    "open": "deep_3drecon.open_head",
    "bfm": "deep_3drecon.bfm",
    "ict": "deep_3drecon.ict",
    "flame": "deep_3drecon.flame",
}


class FaceModelError(ValueError):
    """A face model that is unknown or whose file does not hold what is needed."""


@dataclass
class Joint:
    """A rotation that expressions drive: three of them are a rotation vector in radians.

    columns: the three. weights (V,): share of each vertex that turns. centre (V,): weights over the vertices that give the point
    it turns about. corrective (V, 3, 9), optional: displacement for each entry of the rotation matrix minus one, row by row.
    """

    columns: tuple
    weights: torch.Tensor
    centre: torch.Tensor
    corrective: torch.Tensor | None = None


@dataclass
class FaceModel:
    """A linear face, with eyeballs and joints that turn.

    mean (V, 3), id_basis (V, 3, n_id), exp_basis (V, 3, n_exp) float32 tensors in dm; triangles (F, 3) int32 array,
    counter-clockwise from outside; uv (V, 2) array, v up; weld (V,) first vertex at the same place; mirror (V,) vertex on the other side;
    regions {name: vertex ids}, empty where the model has no such part (see `anatomy.REGIONS`);
    landmark_ids, landmark_weights (478, 3): each landmark as a point of the surface; ids68, weights68 (68, 3): the model's own 68
    points, where it has them, else they are picked from the 478;
    gaze {name of eyeball region: (n_exp, 3)} turn of the eyeball in radians for one unit of each expression; joints: see `Joint`;
    texture_mean (V, 3), texture_basis (V, 3, n_tex): RGB 0..255, for models that know colours;
    front_triangles (F', 3): the part that the model's authors compare with pictures.
    """

    name: str
    hash: str
    layout: Layout
    expression_names: tuple
    mean: torch.Tensor
    id_basis: torch.Tensor
    exp_basis: torch.Tensor
    triangles: np.ndarray
    uv: np.ndarray
    weld: np.ndarray
    mirror: np.ndarray
    regions: dict
    landmark_ids: np.ndarray | None = None
    landmark_weights: torch.Tensor | None = None
    gaze: dict = field(default_factory=dict)
    unit_mm: float = MM_PER_DM
    ids68: np.ndarray | None = None
    weights68: torch.Tensor | None = None
    joints: tuple = ()
    texture_mean: torch.Tensor | None = None
    texture_basis: torch.Tensor | None = None
    front_triangles: np.ndarray | None = None

    @property
    def n_vertices(self):
        return len(self.mean)

    def vertices(self, id, exp):
        """Unposed vertices: id (..., n_id), exp (..., n_exp) tensors -> (..., V, 3) dm; eyeballs turn rigidly, joints bend."""
        shape = self.mean + torch.einsum("...k,vck->...vc", id, self.id_basis)
        posed = shape + torch.einsum("...k,vck->...vc", exp, self.exp_basis)
        for region, turn in self.gaze.items():
            ids = torch.as_tensor(self.regions[region])
            eye = posed[..., ids, :]
            centre = eye.mean(-2, keepdim=True)
            posed[..., ids, :] = centre + (eye - centre) @ rotation_from_vector(exp @ turn).transpose(-1, -2)
        return self._bend(posed, exp) if self.joints else posed

    def gaze_basis(self):
        """What the turn of the eyeballs adds to `exp_basis`, to first order, as a morph target shows it: (n_exp, V, 3) dm."""
        out = self.mean.new_zeros(self.exp_basis.shape[-1], *self.mean.shape)
        for region, turn in self.gaze.items():
            ids = torch.as_tensor(self.regions[region])
            offset = self.mean[ids] - self.mean[ids].mean(0)
            out[:, ids] = torch.linalg.cross(turn[:, None], offset[None])
        return out

    def _bend(self, posed, exp):
        """Linear blend skinning about the joints, which all hang from the head: (..., V, 3), (..., n_exp) -> (..., V, 3)."""
        one = torch.eye(3, dtype=posed.dtype, device=posed.device)
        turns = [rotation_from_vector(exp[..., list(joint.columns)]) - one for joint in self.joints]
        centres = [torch.einsum("v,...vc->...c", joint.centre, posed) for joint in self.joints]
        for joint, turn in zip(self.joints, turns, strict=True):
            if joint.corrective is not None:
                posed = posed + torch.einsum("...k,vck->...vc", turn.flatten(-2), joint.corrective)
        bent = posed
        for joint, turn, centre in zip(self.joints, turns, centres, strict=True):
            bent = bent + joint.weights[:, None] * ((posed - centre[..., None, :]) @ turn.transpose(-1, -2))
        return bent

    def landmarks(self, vertices, n=N_LANDMARKS):
        """Points on the surface: (..., V, 3) -> (..., 478 or 68, 3)."""
        if n == 68 and self.ids68 is not None:
            ids, weights = self.ids68, self.weights68
        elif self.landmark_ids is None:
            raise FaceModelError(
                f"{self.name}: {n} landmarks are asked for, this model has {0 if self.ids68 is None else 68}: "
                "transfer.lend_landmarks gives it those of the open head"
            )
        else:
            rows = slice(None) if n == N_LANDMARKS else LANDMARKS_68
            ids, weights = self.landmark_ids[rows], self.landmark_weights[rows]
        return (vertices[..., torch.as_tensor(ids), :] * weights[:, :, None]).sum(-2)

    def texture(self, tex):
        """Colours of the vertices: tex (..., n_tex) -> (..., V, 3) RGB 0..255, not clipped."""
        if self.texture_mean is None:
            raise FaceModelError(f"{self.name}: this face model knows no colours, bfm does")
        return self.texture_mean + torch.einsum("...k,vck->...vc", tex, self.texture_basis)

    def normals(self, vertices):
        """Unit normals (..., V, 3), equal on both sides of a seam."""
        return vertex_normals(vertices, self.triangles, self.weld)

    def index(self, *names):
        """Positions of expressions by name: one int, or a list."""
        found = [self.expression_names.index(name) for name in names]
        return found[0] if len(found) == 1 else found

    def to(self, device):
        """The same model with its tensors on a device; index tables stay where they are."""

        def move(owner):
            values = {f.name: getattr(owner, f.name) for f in fields(owner)}
            return replace(owner, **{k: v.to(device) for k, v in values.items() if isinstance(v, torch.Tensor)})

        gaze = {name: turn.to(device) for name, turn in self.gaze.items()}
        return replace(move(self), gaze=gaze, joints=tuple(move(joint) for joint in self.joints))


def rotation_from_vector(vector):
    """Rodrigues: axis times angle (..., 3) -> (..., 3, 3)."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    return torch.linalg.matrix_exp(cross)


def content_hash(*arrays):
    """16 hexadecimal digits over what a model is made of: arrays or tensors, floats as float32 and integers as int32."""
    digest = hashlib.sha256()
    for array in arrays:
        array = np.asarray(array)
        kind = np.float32 if array.dtype.kind == "f" else np.int32
        digest.update(repr(array.shape).encode() + np.ascontiguousarray(array, kind).tobytes())
    return digest.hexdigest()[:16]


def load_face_model(name="open", path=None):
    """The face model called `name`, from its place among the assets or from `path`.

    open needs `python -m scripts.download` once; bfm, ict and flame read files of the user's, and an absent one is named together
    with where to get it. Models are kept: the same file is read once.
    """
    module = _module(name)
    path = module.default_path() if path is None else Path(path)
    return _load(name, str(path))


def face_layout(name):
    """Sizes of the face vector of a model, which need not be present where its sizes are fixed (open, bfm)."""
    module = _module(name)
    return module.LAYOUT if hasattr(module, "LAYOUT") else load_face_model(name).layout


def _module(name):
    if name not in FACE_MODELS:
        raise FaceModelError(f"face model {name!r} came, available: {', '.join(FACE_MODELS)}")
    return importlib.import_module(FACE_MODELS[name])


@functools.lru_cache(maxsize=4)
def _load(name, path):
    model = _module(name).read(Path(path))
    if model.landmark_ids is None and model.ids68 is not None:
        from deep_3drecon.transfer import lend_landmarks  # it reads face models itself

        model = lend_landmarks(model, load_face_model("open"))
    return model

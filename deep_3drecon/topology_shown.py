"""How a mesh is shown: which of its faces, in which colours, and for our own head what its 5,070 vertices are too few for.

    shown = show(load_topology("open"))
    shown.vertices(mesh)            # (V, 3), or anything else linear in it, such as targets (K, V, 3) -> (N, 3), (K, N, 3)

Our head ends in a ragged collar, its eyes are white balls of 80 vertices, and nothing shades its mouth. It is shown cut along a
plane through the neck and fading above it, with iris and pupil on finer eyes, and darker the deeper in the mouth. Vertices that
this needs are means of vertices of the mesh, so that they move with it. Other meshes are shown as they are.
"""

from dataclasses import dataclass

import numpy as np

from deep_3drecon.face_model import load_face_model

SKIN = (0.80, 0.79, 0.78)
PARTS = {
    "mouth_inside": (0.42, 0.17, 0.16), "tongue": (0.58, 0.27, 0.26), "lips": (0.74, 0.6, 0.58),
    **dict.fromkeys(("teeth_upper", "teeth_lower"), (0.86, 0.83, 0.77)),
    **dict.fromkeys(("eyeball_left", "eyeball_right"), (0.90, 0.89, 0.87)),
}  # fmt: skip
# Everything below is of the open head: dm, y up, z towards the viewer.
CUT_FRONT, CUT_SLOPE, FADE_DM = (
    (-1.22, -0.42),
    0.3,
    0.28,
)  # the plane: y at some z, rise a dm to the back; fading above it
IN_MOUTH = ("mouth_inside", "tongue", "teeth_upper", "teeth_lower")
DEEP_Z, LIPS_Z, DEEP_LIGHT, LOWER_TEETH_LIGHT = -0.05, 0.27, 0.12, 0.9
LIP_BLUR = 2  # rounds of averaging with neighbours, for an outline of the lips that is finer than the mesh
EYES, EYE_CUTS, FINE_DEG = ("eyeball_left", "eyeball_right"), 3, 27.0
# colours at angles off the eye's axis: pupil, iris, its dark rim; the white goes on from the last
PUPIL, IRIS, RIM = (0.03, 0.03, 0.03), (0.34, 0.38, 0.40), (0.16, 0.19, 0.21)
IRIS_DEG = (
    (0.0, PUPIL),
    (9.0, PUPIL),
    (11.0, IRIS),
    (19.0, IRIS),
    (21.5, RIM),
    (23.0, RIM),
    (25.5, PARTS["eyeball_left"]),
)


@dataclass(frozen=True)
class Shown:
    """faces (F, 3) of N shown vertices; ids, weights (N, 3): what they are means of; colours (N, 3) in [0, 1], linear light.

    mesh_faces (G, 3): all faces of the mesh, which say how the surface lies. opacity (N,): 0 is seen through. gloss (N,): 1 is wet.
    """

    faces: np.ndarray
    ids: np.ndarray
    weights: np.ndarray
    colours: np.ndarray
    mesh_faces: np.ndarray
    opacity: np.ndarray
    gloss: np.ndarray

    def vertices(self, mesh):
        """Values (..., V, C) of the mesh -> (..., N, C) float32 of what is shown."""
        values = np.asarray(mesh, np.float32)
        return sum(values[..., self.ids[:, k], :] * self.weights[:, k, None] for k in range(3))


def show(topology):
    """How a `Topology` is shown."""
    face = load_face_model("open") if topology.name == "open" else None
    # other faces for our head are somebody's own look
    return (
        _show_open(face)
        if face and topology.faces is face.triangles
        else plain(topology.need_faces(), topology.n_vertices)
    )


def plain(faces, n_vertices):
    """A mesh as it is, in one grey."""
    faces = np.ascontiguousarray(faces, np.int32)
    ids = np.repeat(np.arange(n_vertices)[:, None], 3, 1)
    weights = np.tile(np.float32([1, 0, 0]), (n_vertices, 1))
    colours = np.tile(np.float32(SKIN), (n_vertices, 1))
    return Shown(faces, ids, weights, colours, faces, np.ones(n_vertices, np.float32), np.zeros(n_vertices, np.float32))


def _show_open(face):
    faces = face.weld[face.triangles]  # nothing is drawn from a texture, so its seams may close
    mean, mesh = face.mean.numpy(), _Pieces(face.n_vertices, faces)
    eyes = [_Eye(mean, face.regions[name]) for name in EYES]
    for eye in eyes:
        for _ in range(EYE_CUTS):
            mesh.quarter(eye.degrees(mesh.points(mean), mesh.sources()) < FINE_DEG)
    mesh.cut(_above_cut(mesh.points(mean)))
    points, sources = mesh.points(mean), mesh.sources()
    colours, gloss = _part_colours(face, faces)[sources], np.zeros(len(points))
    for eye in eyes:
        angle = eye.degrees(points, sources)
        own = np.isfinite(angle)
        knots, values = (np.array(x) for x in zip(*IRIS_DEG, strict=True))
        colours[own] = np.stack([np.interp(angle[own], knots, value) for value in values.T], 1)
        gloss[own] = 1
    opacity = (_above_cut(points) / FADE_DM).clip(0, 1)
    return mesh.shown(colours, faces, opacity**2 * (3 - 2 * opacity), gloss)


def _part_colours(face, faces):
    """Grey skin, with lips, teeth, tongue, mouth and eyes told apart and the mouth darker the deeper, (V, 3)."""
    out = np.tile(np.array(SKIN), (face.n_vertices, 1))
    for part, colour in PARTS.items():
        out[face.regions[part]] = colour
    inside = np.concatenate([face.regions[part] for part in IN_MOUTH])
    share = ((face.mean.numpy()[inside, 2] - DEEP_Z) / (LIPS_Z - DEEP_Z)).clip(0, 1)
    out[inside] *= (DEEP_LIGHT + (1 - DEEP_LIGHT) * share**2)[:, None]
    out[face.regions["teeth_lower"]] *= LOWER_TEETH_LIGHT
    start, end = np.concatenate([faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))]).T
    count = np.bincount(start, minlength=len(out)).clip(1)[:, None]
    for _ in range(LIP_BLUR):
        around = np.stack([np.bincount(start, column[end], len(out)) for column in out.T], 1) / count
        out = (out + around) / 2
    return out


def _above_cut(points):
    """Height (N,) in dm of points (N, 3) above the plane through the neck."""
    y, z = CUT_FRONT
    return points[:, 1] - (y + CUT_SLOPE * (z - points[:, 2]))


class _Eye:
    """An eyeball at rest, which looks along +z."""

    def __init__(self, mean, ids):
        self.ids, self.centre = ids, mean[ids].mean(0)

    def degrees(self, points, sources):
        """Angle (N,) off the axis; infinite for points that are not of this eye by the vertex that they come from."""
        out = points - self.centre
        angle = np.degrees(np.arctan2(np.linalg.norm(out[:, :2], axis=1), out[:, 2]))
        return np.where(np.isin(sources, self.ids), angle, np.inf)


class _Pieces:
    """Faces that are cut while every vertex stays a mean of up to three vertices of one face of the mesh."""

    def __init__(self, n_vertices, faces):
        self.faces, self.made, self.known = np.asarray(faces, np.int64), [{k: 1.0} for k in range(n_vertices)], {}

    def sources(self):
        """The mesh's vertex (N,) that each vertex is most of."""
        ids, weights = self._table()
        return ids[np.arange(len(ids)), weights.argmax(1)]

    def points(self, mesh):
        """Places (N, 3) of all vertices."""
        ids, weights = self._table()
        return (mesh[ids] * weights[..., None]).sum(1)

    def quarter(self, chosen):
        """Cut each face with a chosen vertex into four; chosen (N,) bool."""
        which, out = chosen[self.faces].any(1), []
        for a, b, c in self.faces[which]:
            ab, bc, ca = self._between(a, b, 0.5), self._between(b, c, 0.5), self._between(c, a, 0.5)
            out += [[a, ab, ca], [ab, b, bc], [ca, bc, c], [ab, bc, ca]]
        self._replace(which, out)

    def cut(self, height):
        """Take off what lies below 0 of a height (N,)."""
        above = height >= 0
        count, out = above[self.faces].sum(1), []
        for face in self.faces[(count == 1) | (count == 2)]:
            alone = np.flatnonzero(above[face] == (above[face].sum() == 1))[0]
            a, b, c = np.roll(face, -alone)
            ab, ac = (self._between(a, x, height[a] / (height[a] - height[x])) for x in (b, c))
            out += [[a, ab, ac]] if above[a] else [[ab, b, c], [ab, c, ac]]
        self._replace(count < 3, out)

    def shown(self, colours, mesh_faces, opacity, gloss):
        """`Shown` of the vertices that a face still has."""
        used, faces = np.unique(self.faces, return_inverse=True)
        ids, weights = (x[used] for x in self._table())
        numbers = [np.asarray(x, np.float32)[used] for x in (colours, opacity, gloss)]
        faces, mesh_faces = (np.ascontiguousarray(x.reshape(-1, 3), np.int32) for x in (faces, mesh_faces))
        return Shown(faces, ids, weights.astype(np.float32), numbers[0], mesh_faces, *numbers[1:])

    def _between(self, a, b, share):
        """Number of the vertex at `share` of the way from vertex a to b, the same for both faces at that edge."""
        if a > b:
            a, b, share = b, a, 1 - share
        if (a, b) not in self.known:
            ids = self.made[a].keys() | self.made[b].keys()
            self.made.append({k: (1 - share) * self.made[a].get(k, 0) + share * self.made[b].get(k, 0) for k in ids})
            self.known[a, b] = len(self.made) - 1
        return self.known[a, b]

    def _replace(self, which, faces):
        self.faces = np.concatenate([self.faces[~which], np.array(faces, np.int64).reshape(-1, 3)])
        self.known = {}

    def _table(self):
        """ids, weights (N, 3)."""
        ids, weights = np.zeros((len(self.made), 3), np.int64), np.zeros((len(self.made), 3))
        for k, parts in enumerate(self.made):
            ids[k, : len(parts)], weights[k, : len(parts)] = list(parts), list(parts.values())
        return ids, weights

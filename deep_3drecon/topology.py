"""Which mesh is it: faces, lips, upper face, unit and camera of the meshes that talking heads are published on.

    topology = load_topology("vocaset")
    topology.faces, topology.lips, topology.unit_mm

vocaset  FLAME, 5,023 vertices, metres; also what 3D-MEAD becomes
biwi     B3D(AC)2, 23,370 vertices; one unit is the root of a head's surface, 187.3 mm on average (173.6 to 201.2)
open     our CC0 head, 5,070 vertices, decimetres; complete without any file of the user's

Faces and regions of the first two are licensed, so they come from files of the user's in data/assets/flame and data/assets/biwi.
Without them a topology still has its size and unit; what is missing says which file to put where. Every id is checked against
the vertex count and counted once. A further topology is one function and one line in TOPOLOGIES.
"""

import functools
from dataclasses import dataclass, field

import numpy as np

from deep_3drecon.assets import assets_dir
from deep_3drecon.face_model import load_face_model
from deep_3drecon.flame import FILES as FLAME_FILES
from deep_3drecon.flame import read_arrays
from deep_3drecon.landmarks import INNER_LIP_PAIRS, LANDMARKS_68
from deep_3drecon.topology_files import read_ids, read_masks, read_mesh

BIWI_UNIT_MM = 187.3
UPPER_FROM_DM = 0.1  # of the open head: above the middle of the nose
NEAR_LIPS_MM = 24.0  # from the middle of the mouth, where no table names the lips of a FLAME mesh


class TopologyError(ValueError):
    """A mesh that is unknown, of another size, or whose regions cannot be had."""


@dataclass(frozen=True)
class Topology:
    """One mesh.

    n_vertices; unit_mm: millimetres in one unit; fps: of the set as it is used; faces (F, 3) or None.
    regions {name: (n,) ids}: lips and upper, as far as known; sources {name: where from, or what is missing}.
    aperture (n, 2): pairs of inner-lip vertices across the opening; corners (2,): of the mouth, or None.
    names: what the coefficients of its own basis are called (open head), else empty. How it looks: `topology_shown`.
    """

    name: str
    n_vertices: int
    unit_mm: float
    fps: float
    faces: np.ndarray | None = None
    regions: dict = field(default_factory=dict)
    sources: dict = field(default_factory=dict)
    aperture: np.ndarray | None = None
    corners: np.ndarray | None = None
    names: tuple = ()

    def __post_init__(self):
        for name, ids in self.regions.items():
            check_ids(ids, self.n_vertices, f"{self.name}: region {name}")
        for name in ("faces", "aperture", "corners"):
            if getattr(self, name) is not None:
                check_ids(getattr(self, name), self.n_vertices, f"{self.name}: {name}")

    def region(self, name):
        """Ids of a region, or an error that says which file it needs."""
        if name not in self.regions:
            reason = self.sources.get(name, f"there is {', '.join(self.regions) or 'none'}")
            raise TopologyError(f"{self.name}: no region {name!r}: {reason}")
        return self.regions[name]

    @property
    def lips(self):
        """Ids of the lips."""
        return self.region("lips")

    @property
    def upper(self):
        """Ids of the upper face."""
        return self.region("upper")

    def need_faces(self):
        """Faces (F, 3), or an error that says where to get them."""
        if self.faces is None:
            raise TopologyError(f"{self.name}: no faces, so it cannot be drawn: {self.sources.get('faces', '')}")
        return self.faces

    def check(self, vertices, what="vertices"):
        """Array (..., V, 3) or (..., 3 V) -> (..., V, 3), or an error that says what came."""
        vertices = np.asarray(vertices)
        if vertices.shape[-1] == 3 * self.n_vertices:
            vertices = vertices.reshape(*vertices.shape[:-1], self.n_vertices, 3)
        if vertices.shape[-2:] != (self.n_vertices, 3):
            raise TopologyError(
                f"{what}: {vertices.shape} came, {self.name} has {self.n_vertices} vertices, so (..., "
                f"{self.n_vertices}, 3) or (..., {3 * self.n_vertices}) is needed"
            )
        return vertices


def check_ids(ids, n_vertices, what):
    """Raise where ids are empty or name vertices that do not exist."""
    ids = np.asarray(ids)
    if ids.size == 0 or ids.min() < 0 or ids.max() >= n_vertices:
        bad = "no ids" if ids.size == 0 else f"ids {ids.min()} to {ids.max()}"
        raise TopologyError(f"{what}: {bad} came, there are {n_vertices} vertices: take the list made for this mesh")


def _open():
    face = load_face_model("open")
    weights, ids = face.landmark_weights, face.landmark_ids
    nearest = ids[np.arange(len(ids)), weights.argmax(1).numpy()][LANDMARKS_68]
    skin = face.regions["face"]
    upper = np.intersect1d(skin, np.flatnonzero(face.mean[:, 1].numpy() > UPPER_FROM_DM))
    return Topology(
        name="open",
        n_vertices=face.n_vertices,
        unit_mm=face.unit_mm,
        fps=25.0,
        faces=face.triangles,
        regions={"lips": face.regions["lips"], "upper": upper, "face": skin},
        sources=dict.fromkeys(("lips", "upper", "face", "faces"), "our own head"),
        aperture=nearest[np.array(INNER_LIP_PAIRS)],
        corners=nearest[[48, 54]],
        names=tuple(face.expression_names),
    )


def _flame():
    folder = assets_dir() / "flame"
    regions, sources = {}, {}
    faces, sources["faces"] = _first_faces(
        [folder / "FLAME_sample.ply", folder / "FLAME_sample.obj", *(folder / name for name in FLAME_FILES)], 5023
    )
    masks = folder / "FLAME_masks.pkl"
    if masks.is_file():
        table = read_masks(masks)
        regions = {
            "lips": table["lips"],
            "upper": np.union1d(table["forehead"], table["eye_region"]),
            "face": table["face"],
        }
        sources |= dict.fromkeys(("lips", "upper", "face"), "FLAME_masks.pkl")
    else:
        where = f"put FLAME_masks.pkl (https://flame.is.tue.mpg.de) into {folder}"
        sources |= dict.fromkeys(("lips", "upper", "face"), where)
    # as the authors of CodeTalker measure the opening
    return Topology("vocaset", 5023, 1000.0, 30.0, faces, regions, sources, aperture=np.array([[3546, 3504]]))


def _biwi():
    folder = assets_dir() / "biwi"
    regions, sources = {}, {}
    faces, sources["faces"] = _first_faces([folder / "BIWI.ply"], 23370)
    for name, file in (("lips", "lve.txt"), ("upper", "fdd.txt")):
        if (folder / file).is_file():
            regions[name], sources[name] = read_ids(folder / file), file
        else:
            sources[name] = f"put CodeTalker's BIWI/regions/{file} into {folder}"
    return Topology("biwi", 23370, BIWI_UNIT_MM, 25.0, faces, regions, sources)


def _first_faces(paths, n_vertices):
    """(faces of the first file that is there and of the right size, its name), or (None, what to do)."""
    for path in paths:
        if not path.is_file():
            continue
        if path.suffix in (".ply", ".obj"):
            vertices, faces = read_mesh(path)
        else:
            arrays = read_arrays(path)
            vertices, faces = arrays["v_template"], arrays["f"].astype(np.int32)
        if len(vertices) != n_vertices:
            raise TopologyError(f"{path}: {len(vertices)} vertices came, {n_vertices} are needed: take the right mesh")
        return faces, path.name
    return None, f"put {paths[0].name} into {paths[0].parent}, or give --faces MESH"


TOPOLOGIES = {"open": _open, "vocaset": _flame, "biwi": _biwi}


@functools.lru_cache(maxsize=8)
def _load(name, folder):
    return TOPOLOGIES[name]()


def load_topology(name):
    """The topology called `name`; "mead" and "flame" are the mesh of VOCASET."""
    name = {"mead": "vocaset", "flame": "vocaset"}.get(name, name)
    if name not in TOPOLOGIES:
        raise TopologyError(f"topology {name!r} came, there is {', '.join(TOPOLOGIES)}: use one of these names")
    return _load(name, str(assets_dir()))  # the folder of assets may change, in tests and by its variable


def topology_of(vertices):
    """The topology with as many vertices as a template (V, 3)."""
    for name in TOPOLOGIES:
        if name == "open" or load_topology(name).n_vertices == len(vertices):
            topology = load_topology(name)
            if topology.n_vertices == len(vertices):
                return topology
    raise TopologyError(
        f"a mesh of {len(vertices)} vertices came; known are 5070 (our head), 5023 (FLAME, VOCASET), 23370 (BIWI)"
    )


def near_aperture(topology, template, radius_mm=NEAR_LIPS_MM):
    """Ids within a radius of the middle of the mouth, a stand-in where no table names the lips; needs `aperture`."""
    if topology.aperture is None:
        raise TopologyError(f"{topology.name}: lips are not known: {topology.sources.get('lips', '')}")
    template = topology.check(template, "template")
    middle = template[topology.aperture].reshape(-1, 3).mean(0)
    ids = np.flatnonzero(np.linalg.norm(template - middle, axis=1) * topology.unit_mm < radius_mm)
    check_ids(ids, topology.n_vertices, f"{topology.name}: lips near the opening")
    return ids

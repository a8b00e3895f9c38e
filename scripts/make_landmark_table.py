"""Find the 478 landmarks on the open head, without any footage: render it, detect, and carry the points back to the surface.

    python -m scripts.make_landmark_table [--renders 160] [--output deep_3drecon/open_head_landmarks.json]

People, expressions, poses and lights are drawn at random; each detected point goes to the nearest visible place of the kind of
surface it belongs to, and the places found over all renders are averaged on the mean head, made mirror-symmetric and put on its
surface. The table is committed; run this again only when the head changes.
"""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from tqdm import tqdm

from data_process.landmarks import FaceLandmarker, NoFaceError
from deep_3drecon import camera
from deep_3drecon.assets import asset_path
from deep_3drecon.bake_open_head import EXPRESSIONS
from deep_3drecon.open_head import find_regions
from deep_3drecon.rasterizer import interpolate, rasterize
from deep_3drecon.shading import vertex_normals

SIZE = 768
PAINT = {
    "skin": (224, 172, 148),
    "lips": (190, 92, 92),
    "mouth_inside": (70, 24, 24),
    "eyeball_left": (240, 240, 240),
    "eyeball_right": (240, 240, 240),
    "teeth_upper": (235, 230, 220),
    "teeth_lower": (235, 230, 220),
    "tongue": (180, 80, 80),
}
KIND = np.array(["skin"] * 468 + ["eyeball_right"] * 5 + ["eyeball_left"] * 5)


def paint_head(regions, mean):
    """(V, 3) flat colours by region, brows as a thin bar, an iris and a pupil at the front of each eyeball."""
    paint = np.zeros((len(mean), 3), np.float32)
    for name, colour in PAINT.items():
        paint[regions[name]] = colour
    brow = regions["brows"]
    paint[brow[np.abs(mean[brow, 1] - 0.5) < 0.035]] = (92, 62, 50)
    for name in ("eyeball_left", "eyeball_right"):
        ids = regions[name]
        offset = mean[ids] - mean[ids].mean(0)
        front = offset[:, 2] / np.linalg.norm(offset, axis=1)
        paint[ids[front > 0.85]] = (80, 60, 40)
        paint[ids[front > 0.985]] = (10, 10, 10)
    return paint


def allowed_triangles(regions, triangles, n):
    """{kind of landmark: (F,) bool, triangles it may lie on}."""
    inner = np.concatenate([regions[k] for k in PAINT if k not in ("skin", "lips")])
    skin = np.ones(n, bool)
    skin[inner] = False
    out = {"skin": skin[triangles].all(1)}
    for name in ("eyeball_left", "eyeball_right"):
        out[name] = np.isin(triangles, regions[name]).all(1)
    return out


def render(rng, head, paint):
    """One random person, expression, pose and light: picture (SIZE, SIZE, 3) uint8 and rast (SIZE, SIZE, 4), top row first."""
    exp = np.zeros(len(EXPRESSIONS), np.float32)
    exp[EXPRESSIONS.index("jawOpen")] = rng.uniform(0.12, 0.4)
    for name in rng.choice(
        ["mouthSmileLeft", "mouthSmileRight", "mouthPucker", "browInnerUp", "mouthFunnel"], 2, replace=False
    ):
        exp[EXPRESSIONS.index(name)] = rng.uniform(0, 0.35)
    person = rng.normal(0, 0.8, head["id_basis"].shape[-1]).astype(np.float32)
    vertices = torch.from_numpy(head["mean"] + head["id_basis"] @ person + head["exp_basis"] @ exp)
    angle = torch.tensor(rng.uniform(-1, 1, 3) * [0.2, 0.3, 0.1], dtype=torch.float32)
    posed = camera.pose(vertices, angle, torch.tensor([0.0, -0.05, 0.0]))
    rast = rasterize(camera.clip_positions(posed)[None], head["triangles"], (SIZE, SIZE))
    light = torch.tensor(rng.normal(0, 1, 3) * [0.5, 0.4, 0.2] + [0, 0.3, 1], dtype=torch.float32)
    shade = 0.35 + 0.65 * (vertex_normals(posed, head["triangles"], head["weld"]) @ (light / light.norm())).clamp(0, 1)
    attributes = torch.cat([torch.from_numpy(paint) * shade[:, None], torch.ones(len(paint), 1)], -1)
    drawn = interpolate(attributes[None], rast, head["triangles"])[0].numpy()[::-1]
    picture = drawn[..., :3] + (1 - drawn[..., 3:]) * rng.uniform(60, 200, 3)
    return cv2.GaussianBlur(np.clip(picture, 0, 255).astype(np.uint8), (0, 0), 1.0), rast[0].numpy()[::-1]


def carry_back(points, rast, triangles, surface, allowed):
    """Detected pixels (478, 2) -> places (478, 3) on `surface` (V, 3), each through the nearest pixel of its kind."""
    out = np.full((len(points), 3), np.nan)
    ids = rast[..., 3].astype(int) - 1
    for kind, faces in allowed.items():
        rows, columns = np.nonzero((ids >= 0) & faces[np.maximum(ids, 0)])
        mine = np.flatnonzero(kind == KIND)
        if not len(rows):
            continue
        distance = (points[mine, 0, None] - columns) ** 2 + (points[mine, 1, None] - rows) ** 2
        nearest = distance.argmin(1)
        row, column = rows[nearest], columns[nearest]
        u, v = rast[row, column, 0], rast[row, column, 1]
        out[mine] = (surface[triangles[ids[row, column]]] * np.stack([u, v, 1 - u - v], 1)[..., None]).sum(1)
    return out


def nearest_on_surface(place, surface, faces):
    """Closest point of the faces (F, 3) to one place (3,): vertex ids (3,) and weights (3,)."""
    corner = surface[faces]
    best = None
    for f in np.argsort(np.linalg.norm(corner.mean(1) - place, axis=1))[:40]:
        a, b, c = corner[f]
        v, w = np.linalg.lstsq(np.stack([b - a, c - a], 1), place - a, rcond=None)[0]
        weights = np.clip([1 - v - w, v, w], 0, None)
        weights /= weights.sum()
        distance = np.linalg.norm(weights @ corner[f] - place)
        if best is None or distance < best[0]:
            best = distance, faces[f], weights
    return best[1:]


def mirror_partners(places):
    """For each of the 478 places (478, 3) the index of its mirror image: the pairing of least total distance."""
    flipped = places * [-1, 1, 1]
    cost = ((flipped[:, None] - places[None]) ** 2).sum(-1)
    cost[:468, 468:] = cost[468:, :468] = 1e3
    return linear_sum_assignment(cost + cost.T)[1]


def make_table(n_renders, seed=0):
    """{vertices: (478, 3) ids of the MakeHuman base mesh, weights: (478, 3), renders, mean_spread_dm}."""
    rng = np.random.default_rng(seed)
    with np.load(asset_path("open_head")) as npz:
        regions, source = find_regions(npz), npz["source_vertex"]
        head = {name: npz[name] for name in ("mean", "triangles", "weld")}
        head |= {name: npz[name].astype(np.float32) for name in ("id_basis", "exp_basis")}
    # lips are parted on the surface that places are averaged on, so that upper and lower stay apart
    surface = head["mean"] + 0.3 * head["exp_basis"][..., EXPRESSIONS.index("jawOpen")]
    paint, allowed = paint_head(regions, head["mean"]), allowed_triangles(regions, head["triangles"], len(surface))
    landmarker, found = FaceLandmarker(), []
    for _ in tqdm(range(n_renders), unit="render"):
        picture, rast = render(rng, head, paint)
        try:
            points = landmarker.image(picture).points[:, :2]
        except NoFaceError:
            continue
        found.append(carry_back(points, rast, head["triangles"], surface, allowed))
    places = np.stack(found)
    centre = np.nanmedian(places, 0)
    spread = np.nanmean(np.linalg.norm(places - centre, axis=-1))
    centre = (centre + centre[mirror_partners(centre)] * [-1, 1, 1]) / 2
    table = [nearest_on_surface(p, surface, head["triangles"][allowed[k]]) for p, k in zip(centre, KIND, strict=True)]
    return {
        "vertices": [source[ids].tolist() for ids, _ in table],
        "weights": [np.round(weights, 5).tolist() for _, weights in table],
        "renders": len(found),
        "mean_spread_dm": round(float(spread), 5),
    }


def main():
    parser = argparse.ArgumentParser(prog="python -m scripts.make_landmark_table", description=__doc__.split("\n")[0])
    parser.add_argument("--renders", type=int, default=160)
    parser.add_argument("--output", type=Path, default=Path("deep_3drecon/open_head_landmarks.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    table = make_table(args.renders)
    args.output.write_text(json.dumps(table) + "\n")
    print(f"{args.output}: {table['renders']} renders, mean spread {table['mean_spread_dm'] * 100:.2f} mm")


if __name__ == "__main__":
    main()

"""A portrait laid out on the head: which places of the surface a picture shows, and a complete texture atlas of it.

Place of a point in a picture: homogeneous (x d, y d, d), with x, y in pixels of the picture and d the depth before the camera
in dm. Mixed linearly over a triangle and divided at the end it stays exact under perspective, so a surface drawn in the
view in which it was photographed gives every pixel its own place.

Atlas arrays are (S, S, ...) with row 0 at v = 0, as `rasterizer.texture` wants them.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu

from deep_3drecon import camera, rasterizer

DEPTH_SIZE = 512  # pixels of the depth picture over the box of the head
DEPTH_TOLERANCE_DM = 0.012
SURE_FACING = 0.45  # cosine to the camera above which a vertex lends its colour to unseen neighbours


@dataclass
class Atlas:
    """Texture of one head.

    colour (S, S, 3) float32 0..255, filled everywhere; smooth (S, S, 3), the fill alone, also where the picture shows the surface;
    seen (S, S) float32 0..1, how much of it the picture shows; rast (S, S, 4), the triangles in uv space, to paint more with.
    """

    colour: np.ndarray
    smooth: np.ndarray
    seen: np.ndarray
    rast: np.ndarray


def places(posed, to_picture):
    """Posed points (..., V, 3) and the affine (2, 3) from canonical pixels to pixels of a picture -> (..., V, 3) places."""
    flat = camera.apply_affine(camera.project(posed), to_picture)
    depth = camera.CAMERA_Z_DM - posed[..., 2:]
    return torch.cat([flat * depth, depth], -1)


def box_clip(place, box, sink=0.0):
    """Clip space for drawing into a square of a picture, first row on top: places (..., V, 3), box (left, top, side) -> (..., V, 4).

    left and top are the outer edges of the square in pixels, -0.5 being the edge of the picture.
    sink (V,): dm by which points count as deeper when the nearest is chosen; where they are drawn does not change.
    """
    left, top, side = box
    x, y, depth = place.unbind(-1)
    near, far = camera.NEAR_DM, camera.FAR_DM
    z = depth * (far + near - 2 * far * near / (depth + sink)) / (far - near)
    return torch.stack([2 * (x - left * depth) / side - depth, 2 * (y - top * depth) / side - depth, z, depth], -1)


def bounding_box(place, margin):
    """(left, top, side): the square around places (V, 3), each side grown by `margin` of the larger extent."""
    flat = (place[:, :2] / place[:, 2:]).numpy()
    low, high = flat.min(0), flat.max(0)
    side = float((high - low).max() * (1 + 2 * margin))
    left, top = ((low + high - side) / 2).tolist()
    return left, top, side


def facing(model, posed):
    """Cosine between each vertex's normal and its ray to the camera: posed (V, 3) -> (V,) array."""
    ray = torch.tensor([0.0, 0.0, camera.CAMERA_Z_DM]) - posed
    return (model.normals(posed) * ray / ray.norm(dim=-1, keepdim=True)).sum(-1).numpy()


def depth_picture(place, triangles, box, size=DEPTH_SIZE):
    """Depth in dm of the nearest surface over a box: (size, size) float32, infinite where there is none."""
    drawn, mask = rasterizer.raster_attributes(
        box_clip(place, box)[None].numpy(), triangles, place[None, :, 2:].numpy(), (size, size)
    )
    return np.where(mask[0], drawn[0, ..., 0], np.inf).astype(np.float32)


def seen(flat, depth, cosine, depths, box, extent):
    """Whether points lie on the nearest surface, towards the camera and inside the picture.

    flat (..., 2) pixels, depth (...) dm, cosine (...) of `facing`, depths from `depth_picture`, extent (width, height) of the picture.
    """
    left, top, side = box
    scale = len(depths) / side
    # the farthest of nine neighbours: at an outline the surface behind may count as seen, never the other way
    lenient = cv2.dilate(np.where(np.isfinite(depths), depths, -1), np.ones((3, 3), np.uint8))
    column = ((flat[..., 0] - left) * scale).astype(int)
    row = ((flat[..., 1] - top) * scale).astype(int)
    inside = (np.minimum(column, row) >= 0) & (np.maximum(column, row) < len(depths))
    nearest = lenient[np.clip(row, 0, len(depths) - 1), np.clip(column, 0, len(depths) - 1)]
    inside &= (flat > -0.5).all(-1) & (flat[..., 0] < extent[0] - 0.5) & (flat[..., 1] < extent[1] - 0.5)
    return inside & (cosine > 0.02) & (depth < nearest + DEPTH_TOLERANCE_DM)


def sample(picture, flat):
    """Bilinear colours of picture (H, W, 3) at pixels (..., 2) -> (..., 3) float32."""
    points = np.ascontiguousarray(flat.reshape(-1, 1, 2).astype(np.float32))
    # remap takes at most 32767 rows at a time
    parts = [
        cv2.remap(
            picture,
            points[k : k + 32000, :, 0],
            points[k : k + 32000, :, 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for k in range(0, len(points), 32000)
    ]
    return np.concatenate(parts).reshape(*flat.shape[:-1], -1).astype(np.float32)


def laplacian(triangles, weld):
    """Graph Laplacian (V, V), rows divided by their degree, over welded vertices; rows of doubled vertices are empty."""
    corner = weld[triangles]
    edges = np.concatenate([corner[:, [0, 1]], corner[:, [1, 2]], corner[:, [2, 0]]])
    n = len(weld)
    ends = np.concatenate([edges, edges[:, ::-1]]).T
    joined = sparse.coo_matrix((np.ones(ends.shape[1]), tuple(ends)), (n, n)).tocsr()
    joined.data[:] = 1
    degree = np.asarray(joined.sum(1)).ravel()
    scale = sparse.diags(1 / np.maximum(degree, 1))
    return (sparse.diags((degree > 0).astype(float)) - scale @ joined).tocsr()


def fill_vertices(colours, known, triangles, weld, fallback):
    """Smooth colours over the surface: known vertices keep theirs, others take the mean of their neighbours.

    colours (V, 3), known (V,) bool, fallback (3,) for pieces of the mesh without a known vertex -> (V, 3) float32.
    """
    n = len(weld)
    count = np.bincount(weld, known, n)
    total = np.stack([np.bincount(weld, known * colours[:, k], n) for k in range(3)], 1)
    sure = count > 0
    keep = sparse.diags(np.where(sure, 1.0, 0.0))
    # the small weight to the fallback settles pieces that have no known vertex and no other
    system = keep + sparse.diags((~sure).astype(float)) @ laplacian(triangles, weld) + 1e-6 * sparse.eye(n)
    right = np.where(sure[:, None], total / np.maximum(count, 1)[:, None], 0) + 1e-6 * np.asarray(fallback)
    return splu(system.tocsc()).solve(right)[weld].astype(np.float32)


def unwrap(picture, place, cosine, model, distrust=(), size=1024):
    """Atlas of a head from one picture (H, W, 3) uint8.

    place (V, 3) from `places` and cosine (V,) from `facing` in the pose and expression of the picture. What the picture shows
    comes from it; what it hides comes from the other side of the face where that is seen, and else from a smooth fill over the
    surface. distrust: vertices whose own colour is not to spread (lids, whose edge is lashes).
    """
    extent = picture.shape[1::-1]
    box = bounding_box(place, 0.02)
    depths = depth_picture(place, model.triangles, box)
    flat = (place[:, :2] / place[:, 2:]).numpy()
    shown = seen(flat, place[:, 2].numpy(), cosine, depths, box, extent)
    # vertices lie far apart: each takes the mean of its surroundings
    colours = sample(cv2.blur(picture, (2 * int(box[2] / 250) + 1,) * 2), flat)
    known = shown & (cosine > SURE_FACING)
    known[list(distrust)] = False
    for name in ("eyeball_left", "eyeball_right"):
        ids = model.regions[name]
        bright = colours[ids].sum(-1)
        known[ids] &= bright >= np.percentile(bright[shown[ids]], 60) if shown[ids].any() else False
    fallback = colours[known].mean(0) if known.any() else np.full(3, 128.0)
    filled = fill_vertices(colours, known, model.triangles, model.weld, fallback)

    attributes = np.concatenate([place.numpy(), cosine[:, None], filled], 1)[None].astype(np.float32)
    rast, at = texels(model, attributes, size)
    drawn = rast[..., 3] > 0
    texel = at[..., :2] / np.maximum(at[..., 2:3], 1e-6)
    visible = drawn & seen(texel, at[..., 2], at[..., 3], depths, box, extent)
    visible = (
        cv2.dilate(visible.astype(np.float32), np.ones((3, 3), np.uint8)) * drawn
    )  # bilinear look-up mixes in a neighbour
    colour = np.where(visible[..., None] > 0, sample(picture, texel), at[..., 4:])
    colour = _from_other_side(
        colour, visible * np.clip((at[..., 3] - 0.1) / 0.2, 0, 1), visible, at[..., 4:], drawn, size
    )
    nearest = nearest_drawn(drawn)
    colour, smooth, visible = (
        a.reshape(size * size, -1)[nearest].reshape(size, size, -1) for a in (colour, at[..., 4:], visible)
    )
    return Atlas(colour, smooth, visible[..., 0], rast)


def texels(model, attributes, size):
    """Triangles drawn in uv space: rast (S, S, 4) and attributes (S, S, C)."""
    clip = np.concatenate([model.uv * 2 - 1, np.zeros((len(model.uv), 1)), np.ones((len(model.uv), 1))], 1)
    rast = rasterizer.rasterize(clip[None].astype(np.float32), model.triangles, (size, size))
    return rast[0], rasterizer.interpolate(attributes, rast, model.triangles)[0]


def _from_other_side(colour, trust, visible, filled, drawn, size):
    """Unseen texels of the head's island take the mirrored texel, its brightness matched to the smooth fill.

    The island is its own mirror image about u = 0.5; the islands below v = 0.3 are not and keep their fill.
    """
    weight = cv2.GaussianBlur(trust[:, ::-1] * (1 - visible), (0, 0), size / 256)[..., None]
    weight = np.where(drawn[..., None], weight, 0)
    weight[: int(0.3 * size)] = 0
    mirrored = colour[:, ::-1]
    soft = size / 64
    share = cv2.GaussianBlur(trust[:, ::-1].copy(), (0, 0), soft)[..., None] + 1e-3
    mean = cv2.GaussianBlur(mirrored * trust[:, ::-1, None], (0, 0), soft) / share
    matched = mirrored * np.clip((filled + 8) / (mean + 8), 0.5, 2)
    return np.where(visible[..., None] > 0, colour, colour + weight * (matched - colour)).astype(np.float32)


def nearest_drawn(drawn):
    """Flat index of the nearest drawn texel for every texel: colours reach past the rims of the islands."""
    _, labels = cv2.distanceTransformWithLabels(
        (~drawn).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    index = np.zeros(labels.max() + 1, np.int64)
    index[labels[drawn]] = np.flatnonzero(drawn)
    return index[labels.ravel()]

"""Points of a face whose colour can be followed through a clip: where they lie, which of them are seen, what they look like.

A point keeps its place on the skin. Eyes, the inside of the mouth and the lids are left out: what is seen there changes.
"""

from dataclasses import dataclass

import cv2
import numba
import numpy as np
import torch

from deep_3drecon import camera, rasterizer
from deep_3drecon.face_model import FaceModel

N_POINTS = 1400
DEPTH_SIZE = 112  # px of the depth picture over the canonical crop
DEPTH_TOLERANCE_DM = 0.03
LEAST_FACING = 0.25  # cosine to the camera under which a point is not looked at
DARKEST = 12.0  # added to colours before their logarithm: noise of dark pixels is not to count
N_CHANNELS = 2  # of a feature picture: logarithms of brightness and of red over green


@dataclass
class Surface:
    """N points on the skin of a face model, as even as its triangles allow.

    mean (N, 3), id (N, 3, n_id), exp (N, 3, n_exp) float32; corners (N, 3) vertex ids and weights (N, 3); lips (N,) bool;
    triangles: those that can hide a point.
    """

    model: FaceModel
    corners: np.ndarray
    weights: torch.Tensor
    mean: torch.Tensor
    id: torch.Tensor
    exp: torch.Tensor
    lips: np.ndarray
    triangles: np.ndarray

    def points(self, id, exp):
        """(n_id,), (T, n_exp) -> (T, N, 3) dm."""
        flat = (self.mean.flatten() + self.id.flatten(0, 1) @ id) + exp @ self.exp.flatten(0, 1).T
        return flat.unflatten(-1, (-1, 3))

    def take(self, values):
        """Values at vertices (..., V, C) -> at the points (..., N, C)."""
        return (values[..., self.corners, :] * self.weights[..., None]).sum(-2)


def followed_skin(model):
    """(V,) bool: vertices of the face whose look depends on pose and light alone."""
    skin = np.zeros(model.n_vertices, bool)
    skin[model.regions["face"]] = True
    skin[model.regions["lips"]] = True
    skin[model.regions["mouth_inside"]] = False
    lids = model.regions["eyelids"]
    if len(lids):
        blink = [k for k, name in enumerate(model.expression_names) if name.startswith("eyeBlink")]
        moved = model.exp_basis[..., blink].norm(dim=1).amax(1).numpy() if blink else np.zeros(model.n_vertices)
        skin[moved > 0.15 * max(moved.max(), 1e-9)] = False
    return skin


def surface_points(model, n=N_POINTS, seed=0):
    """`Surface` of a face model."""
    skin = followed_skin(model)
    lips = np.zeros(model.n_vertices, bool)
    lips[model.regions["lips"]] = True
    drawn = model.triangles[skin[model.triangles].all(1)]
    corner = model.mean.numpy()[drawn].astype(np.float64)
    area = np.linalg.norm(np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]), axis=1)
    area *= 1 + 2 * lips[drawn].all(1)  # lips are small and move much
    rng = np.random.default_rng(seed)
    # evenly along the running area, so that no triangle gets many points by chance
    chosen = np.searchsorted(np.cumsum(area), (np.arange(n) + rng.random(n)) / n * area.sum()).clip(max=len(drawn) - 1)
    a, b = rng.random((2, n))
    a, b = np.where(a + b > 1, 1 - a, a), np.where(a + b > 1, 1 - b, b)
    weights = torch.from_numpy(np.stack([1 - a - b, a, b], 1).astype(np.float32))
    ids = drawn[chosen]
    around = np.isin(model.triangles, np.flatnonzero(skin)).any(1)

    def mixed(values):
        return (values[torch.as_tensor(ids, dtype=torch.int64)] * weights.view(-1, 3, *[1] * (values.dim() - 1))).sum(1)

    return Surface(
        model=model,
        corners=ids.astype(np.int64),
        weights=weights,
        mean=mixed(model.mean),
        id=mixed(model.id_basis),
        exp=mixed(model.exp_basis),
        lips=lips[ids].all(1),
        triangles=model.triangles[around],
    )


def look(surface, vertices, angle, trans):
    """What of the surface a camera sees: unposed vertices (T, V, 3), angle (T, 3), trans (T, 3), float32 tensors.

    Returns normals (T, N, 3) tensor of the posed points and facing (T, N) array: the cosine to the camera, 0 where hidden.
    """
    posed = camera.pose(vertices, angle, trans)
    normals = torch.nn.functional.normalize(surface.take(surface.model.normals(posed)), dim=-1)
    places = surface.take(posed)
    ray = torch.nn.functional.normalize(torch.tensor([0.0, 0.0, camera.CAMERA_Z_DM]) - places, dim=-1)
    facing = (normals * ray).sum(-1).numpy()
    depth, drawn = rasterizer.raster_attributes(
        camera.clip_positions(posed).numpy(),
        surface.triangles,
        np.ascontiguousarray(camera.CAMERA_Z_DM - posed[..., 2:].numpy()),
        (DEPTH_SIZE, DEPTH_SIZE),
        cull="back",
    )
    depth = np.where(drawn, depth[..., 0], np.inf).astype(np.float32)[:, ::-1]
    flat = camera.project(places).numpy()
    cell = ((flat + 0.5) * (DEPTH_SIZE / camera.CROP_SIZE)).astype(np.int64).clip(0, DEPTH_SIZE - 1)
    own = camera.CAMERA_Z_DM - places[..., 2].numpy()
    frame = np.arange(len(own))[:, None]
    nearest = np.stack([cv2.dilate(np.where(np.isfinite(d), d, -1), np.ones((3, 3), np.uint8)) for d in depth])
    shown = own < nearest[frame, cell[..., 1], cell[..., 0]] + DEPTH_TOLERANCE_DM
    shown &= ((flat > 1) & (flat < camera.CROP_SIZE - 2)).all(-1)
    return normals, np.where(shown & (facing > LEAST_FACING), facing, 0).astype(np.float32)


def feature_picture(crop, sigma):
    """Crop (H, W, 3) uint8 -> (H, W, N_CHANNELS) float32, blurred by sigma px.

    Logarithms, so that light is a sum with the colour of the skin; red over green knows lips and hardly any light.
    """
    soft = cv2.GaussianBlur(crop, (0, 0), sigma).astype(np.float32) if sigma > 0 else crop.astype(np.float32)
    red, green = soft[..., 0] + DARKEST, soft[..., 1] + DARKEST
    bright = 0.3 * red + 0.6 * green + 0.1 * (soft[..., 2] + DARKEST)
    return np.stack([np.log(bright), np.log(red / green)], -1)


def sample(pictures, points):
    """Values (T, N, C) and slopes (T, N, C, 2), a pixel to the right and down, of pictures (T, H, W, C) at points (T, N, 2)."""
    shape = (*points.shape[:2], pictures.shape[3])
    values, slopes = np.empty(shape, np.float32), np.empty((*shape, 2), np.float32)
    _sample(np.ascontiguousarray(pictures), np.ascontiguousarray(points, np.float32), values, slopes)
    return values, slopes


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _sample(pictures, points, values, slopes):
    n_frames, height, width, n_channels = pictures.shape
    for t in range(n_frames):
        for n in range(points.shape[1]):
            x = min(max(points[t, n, 0], np.float32(1.0)), np.float32(width - 2.001))
            y = min(max(points[t, n, 1], np.float32(1.0)), np.float32(height - 2.001))
            j, i = int(x), int(y)
            fx, fy = x - np.float32(j), y - np.float32(i)
            for c in range(n_channels):
                total = np.float32(0)
                right = np.float32(0)
                down = np.float32(0)
                for di in range(2):
                    wy = fy if di else 1 - fy
                    for dj in range(2):
                        w = wy * (fx if dj else 1 - fx)
                        r, k = i + di, j + dj
                        total += w * pictures[t, r, k, c]
                        # central differences, mixed like the values: smoother than those of the bilinear patch
                        right += w * (pictures[t, r, min(k + 1, width - 1), c] - pictures[t, r, k - 1, c])
                        down += w * (pictures[t, min(r + 1, height - 1), k, c] - pictures[t, r - 1, k, c])
                values[t, n, c] = total
                slopes[t, n, c, 0] = right * np.float32(0.5)
                slopes[t, n, c, 1] = down * np.float32(0.5)

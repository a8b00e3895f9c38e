"""Light on a face: vertex normals and nine-band spherical harmonics (specs/face_3dmm.md 3.3)."""

import math

import numba
import numpy as np
import torch

# Each band's normalisation times the response of a matte surface to it: pi c0, 2 pi/sqrt(3) c1, 2 pi/sqrt(8) c2.
K0 = math.pi / math.sqrt(4 * math.pi)
K1 = 2 * math.pi / math.sqrt(3) * math.sqrt(3) / math.sqrt(4 * math.pi)
K2 = 2 * math.pi / math.sqrt(8) * 3 * math.sqrt(5) / math.sqrt(12 * math.pi)
AMBIENT = 0.8  # added to band 0 of every channel, so that gamma = 0 is an evenly lit face
_TINY = 1e-20  # squared length under which a face or a vertex has no direction


def sh_basis(normals):
    """Nine shading bands of unit normals, turned with the head. normals: (..., 3) tensor -> (..., 9)."""
    x, y, z = normals.unbind(-1)
    bands = (
        torch.full_like(x, K0),
        -K1 * y,
        K1 * z,
        -K1 * x,
        K2 * x * y,
        -K2 * y * z,
        K2 / (2 * math.sqrt(3)) * (3 * z * z - 1),
        -K2 * x * z,
        K2 / 2 * (x * x - y * y),
    )
    return torch.stack(bands, -1)


def sh_shade(albedo, normals, gamma):
    """Colour of matte points under light `gamma`, in the unit of the albedo and not clipped.

    albedo, normals: (*L, *N, 3), RGB and unit normals of N points (vertices or pixels). gamma: (*L, 27), red's nine
    bands first; for instance normals (B, V, 3) or (B, H, W, 3) with gamma (B, 27). Returns (*L, *N, 3).
    """
    if gamma.shape[-1] != 27 or gamma.dim() > normals.dim():
        raise ValueError(
            f"gamma {tuple(gamma.shape)}, normals {tuple(normals.shape)}: (*L, 27) and (*L, ..., 3) are needed"
        )
    light = gamma.unflatten(-1, (3, 9)) + gamma.new_tensor([AMBIENT] + [0.0] * 8)
    bands = sh_basis(normals)
    points = bands.flatten(gamma.dim() - 1, -2) if bands.dim() > gamma.dim() else bands.unsqueeze(-2)
    return albedo * (points @ light.transpose(-1, -2)).reshape(normals.shape)


def vertex_normals(vertices, triangles, weld=None):
    """Unit vertex normals: the unit normals (v1 - v2) x (v2 - v3) of the faces around each vertex, summed, normalised.

    Every face counts the same, however large. A face without area and a vertex without faces give 0.
    vertices: (..., V, 3) float32 tensor or array. triangles: (F, 3) vertex ids, counter-clockwise seen from outside.
    weld: (V,) ids, optional: the first vertex at the same place. Vertices doubled along texture seams then share their
    faces and get one normal. Returns (..., V, 3), of the kind that came in. A tensor with a gradient, or one on
    another device than the CPU, takes a slower torch path with the same result.
    """
    n_vertices = vertices.shape[-2]
    faces = np.asarray(triangles)
    joined = np.arange(n_vertices) if weld is None else np.asarray(weld)
    if joined.shape != (n_vertices,) or not np.array_equal(joined[joined], joined):
        raise ValueError(f"weld {joined.shape}: the first vertex at the place of each of {n_vertices} is needed")
    if faces.size and (faces.min() < 0 or faces.max() >= n_vertices):
        raise ValueError(f"triangles name vertices {faces.min()}..{faces.max()}, there are {n_vertices}")
    is_tensor = torch.is_tensor(vertices)
    if is_tensor and (vertices.device.type != "cpu" or (vertices.requires_grad and torch.is_grad_enabled())):
        return _normals_torch(vertices, torch.as_tensor(faces), torch.as_tensor(joined))
    points = np.require(vertices.detach().numpy() if is_tensor else vertices, np.float32, ["C", "W"])
    faces, joined = np.require(faces, np.int32, ["C", "W"]), np.require(joined, np.int64, ["C", "W"])
    out = np.empty_like(points)
    _normals_frames(points.reshape(-1, n_vertices, 3), faces, joined, out.reshape(-1, n_vertices, 3))
    return torch.from_numpy(out) if is_tensor else out


def _normals_torch(vertices, triangles, weld):
    triangles, weld = triangles.to(vertices.device, torch.int64), weld.to(vertices.device, torch.int64)
    a, b, c = (vertices.index_select(-2, triangles[:, k]) for k in range(3))
    face = torch.linalg.cross(a - b, b - c)
    face = face * face.square().sum(-1, keepdim=True).clamp_min(_TINY).rsqrt()
    total = torch.zeros_like(vertices)
    for k in range(3):
        total = total.index_add(-2, weld[triangles[:, k]], face)
    total = total.index_select(-2, weld)
    return total * total.square().sum(-1, keepdim=True).clamp_min(_TINY).rsqrt()


@numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def _normals_frames(vertices, triangles, weld, out):
    """vertices (B, V, 3) -> out (B, V, 3); sums gather at the welded vertices and are read out by all."""
    for n in range(vertices.shape[0]):
        points, total = vertices[n], out[n]
        total[:] = 0.0
        for f in range(triangles.shape[0]):
            a, b, c = triangles[f, 0], triangles[f, 1], triangles[f, 2]
            ux, uy, uz = points[a, 0] - points[b, 0], points[a, 1] - points[b, 1], points[a, 2] - points[b, 2]
            vx, vy, vz = points[b, 0] - points[c, 0], points[b, 1] - points[c, 1], points[b, 2] - points[c, 2]
            x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
            scale = np.float32(1.0) / np.sqrt(max(x * x + y * y + z * z, np.float32(_TINY)))
            x, y, z = x * scale, y * scale, z * scale
            for corner in (weld[a], weld[b], weld[c]):
                total[corner, 0] += x
                total[corner, 1] += y
                total[corner, 2] += z
        for i in range(points.shape[0]):
            if weld[i] == i:
                x, y, z = total[i, 0], total[i, 1], total[i, 2]
                scale = np.float32(1.0) / np.sqrt(max(x * x + y * y + z * z, np.float32(_TINY)))
                total[i, 0], total[i, 1], total[i, 2] = x * scale, y * scale, z * scale
        for i in range(points.shape[0]):
            total[i] = total[weld[i]]

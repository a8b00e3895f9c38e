"""What the pixels of some frames say: points against their own colour, the light taken off, as equations for Gauss-Newton.

Letters: T or K frames, N points of a `photometric_surface.Surface`, C channels of `feature_picture`.
"""

from dataclasses import dataclass

import torch

from deep_3drecon import camera
from deep_3drecon.photometric_surface import look, sample
from deep_3drecon.shading import sh_basis

N_INDEPENDENT = 500.0  # what the pixels of one frame are worth, beside fit.N_INDEPENDENT of its landmarks
LEAST_NOISE = 0.006  # of a logarithm
OUTLIER = 2.5  # times the noise, where a point counts for a quarter
LIGHT_RIDGE = 1.0


@dataclass
class Reference:
    """What the points look like: colour (N, C) logarithms without light, noise (C,), and trust (N,) 0..1."""

    colour: torch.Tensor
    noise: torch.Tensor
    trust: torch.Tensor


@dataclass
class View:
    """The points in T frames: values (T, N, C), slopes (T, N, C, 2), bands (T, N, 9), weight (T, N), 0 where hidden."""

    values: torch.Tensor
    slopes: torch.Tensor
    bands: torch.Tensor
    weight: torch.Tensor


def view_points(surface, id, state, pictures):
    """`View` of feature pictures (T, H, W, C) under id (n_id,) and state (exp, angle, trans)."""
    exp, angle, trans = (x.float() for x in state)
    id = id.float()
    vertices = surface.model.vertices(id.expand(len(exp), -1), exp)
    normals, facing = look(surface, vertices, angle, trans)
    places = camera.project(camera.pose(surface.points(id, exp), angle, trans))
    values, slopes = (torch.from_numpy(x) for x in sample(pictures, places.numpy()))
    return View(values, slopes, sh_basis(normals), torch.from_numpy(facing).square())


def fit_light(bands, residual, weight):
    """Logarithm of the light (T, 9, C): weighted least squares of residual (T, N, C) on bands (T, N, 9), weight (T, N, C)."""
    scaled = bands[:, :, None] * weight[..., None]  # (T, N, C, 9)
    matrix = torch.einsum("tnci,tnj->tcij", scaled, bands) + LIGHT_RIDGE * torch.eye(9)
    right = torch.einsum("tnci,tnc->tci", scaled, residual)
    return torch.linalg.solve(matrix, right[..., None])[..., 0].transpose(1, 2)


def robust(residual, noise):
    """Weight 0..1 of residuals (T, N, C): one channel far off puts the point in doubt."""
    doubt = (residual / (OUTLIER * noise)).square()
    return (1 / (1 + doubt).square()).amin(-1, keepdim=True).expand_as(residual)


def find_reference(view, rounds=4):
    """`Reference` from K frames, and what remains of them (K, N, C) with its weights."""
    weight = view.weight[..., None].expand_as(view.values).clone()
    light = torch.zeros(len(view.values), 9, view.values.shape[-1])
    for _ in range(rounds):
        bare = view.values - view.bands @ light
        colour = (bare * weight).sum(0) / weight.sum(0).clamp_min(1e-6)
        residual = view.values - colour
        light = fit_light(view.bands, residual, weight)
        residual = residual - view.bands @ light
        noise = _noise(residual, view.weight)
        weight = view.weight[..., None] * robust(residual, noise)
    trust = (view.weight > 0).float().sum(0)
    trust = (trust / (trust + 3)) * (weight[..., 0].sum(0) / view.weight.sum(0).clamp_min(1e-6))
    return Reference(colour, noise, trust), residual, weight


def _noise(residual, weight):
    seen = weight > 0
    return (1.4826 * residual[seen].abs().median(0).values).clamp_min(LEAST_NOISE)


def compare(view, reference):
    """Residual (T, N, C) of frames against a reference, light fitted, and weights."""
    residual = view.values - reference.colour
    base = (view.weight * reference.trust)[..., None]
    weight = base * robust(residual - residual.median(1, keepdim=True).values, 3 * reference.noise)
    for _ in range(3):
        rest = residual - view.bands @ fit_light(view.bands, residual, weight)
        weight = base * robust(rest, reference.noise)
    return rest, weight


def pixel_equations(surface, id, state, view, residual, weight, noise, with_id=False):
    """Normal matrix (T, P, P) and right side (T, P) of expression, angle, trans [and identity, last] from pixels, float64."""
    exp, angle, trans = (x.float() for x in state)
    points = surface.points(id.float(), exp)
    rotation = camera.rotation_matrix(angle)
    posed = points @ rotation.transpose(-1, -2) + trans[:, None]
    depth = camera.CAMERA_Z_DM - posed[..., 2]
    scale = (camera.FOCAL_PX / depth)[..., None]
    right, down = view.slopes[..., 0] * scale, view.slopes[..., 1] * scale
    along = (right * posed[..., :1] - down * posed[..., 1:2]) / depth[..., None]
    by_place = torch.stack([right, -down, along], -1)  # (T, N, C, 3)
    by_point = by_place @ rotation[:, None]
    step = 1e-3
    turns = torch.stack(
        [
            (camera.rotation_matrix(angle + step * e) - camera.rotation_matrix(angle - step * e)) / (2 * step)
            for e in torch.eye(3)
        ],
        1,
    )
    turned = torch.einsum("tkij,tnj->tnik", turns, points)
    columns = [
        _through(by_point, surface.exp),
        by_place @ turned,
        by_place,
    ]
    if with_id:
        columns.append(_through(by_point, surface.id))
    scaled = (weight / noise.square() * (N_INDEPENDENT / weight.shape[1])).sqrt()
    jacobian = (torch.cat(columns, -1) * scaled[..., None]).flatten(1, 2)
    error = (residual * scaled).flatten(1)
    matrix = jacobian.transpose(1, 2) @ jacobian
    return matrix.double(), -(jacobian.transpose(1, 2) @ error[..., None])[..., 0].double()


def _through(by_point, basis):
    """(T, N, C, 3) slopes and basis (N, 3, k) -> (T, N, C, k)."""
    t, n, c, _ = by_point.shape
    rows = by_point.permute(1, 0, 2, 3).reshape(n, t * c, 3)
    return torch.bmm(rows, basis).view(n, t, c, -1).permute(1, 0, 2, 3)

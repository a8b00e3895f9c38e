"""Light and albedo of a face from the colours of its points in several frames: colour = albedo times nine bands of light.

Gamma is that of `shading.sh_shade`: (27,) for a frame, with AMBIENT added there. Brightness may sit in the light or in the
albedo: here the light on all that is seen is 1 in the mean, so the albedo has the brightness of the pictures.
"""

import torch

from deep_3drecon.shading import AMBIENT

ROUNDS = 6
SHADES = 0.7, 1.4
OUTLIER_LEVELS = 12.0  # 0..255: residual at which a point counts for a quarter
COMMON = 0.02  # how strongly each frame's light is held to that of the clip, against the data
EVEN = 0.003  # how strongly the clip's light is held to even light


def band_shade(bands, gamma):
    """Shade (..., N, 3) of bands (..., N, 9) under gamma (..., 27)."""
    light = gamma.unflatten(-1, (3, 9)) + gamma.new_tensor([AMBIENT] + [0.0] * 8)
    return bands @ light.transpose(-1, -2)


def drawn_shade(bands, gamma):
    """`band_shade` where it can be trusted: beyond SHADES nine bands say nothing (nostrils, rims of the lips)."""
    return band_shade(bands, gamma).clamp(*SHADES)


def fit_albedo(colours, bands, weight):
    """colours (K, N, 3) 0..255, bands (K, N, 9), weight (K, N) -> albedo (N, 3), gamma (K, 27)."""
    seen = weight > 0
    tone = colours[seen].median(0).values
    albedo = tone.expand(colours.shape[1], 3).clone()
    sure = weight[..., None].expand_as(colours)
    for _ in range(ROUNDS):
        gamma = fit_gamma(colours, bands, sure, albedo)
        shade = band_shade(bands, gamma).clamp_min(0.1)
        mean = (shade * weight[..., None]).sum((0, 1)) / weight.sum()
        albedo = (colours * shade * sure).sum(0) / (shade.square() * sure).sum(0).clamp_min(1e-6) * mean
        unseen = sure.sum((0, 2)) < 1e-3
        albedo[unseen] = tone
        sure = trusted(colours, bands, weight, albedo)
    return albedo, fit_gamma(colours, bands, sure, albedo)


def trusted(colours, bands, weight, albedo):
    """Weight (K, N, 3) of points whose colour (K, N, 3) the albedo (N, 3) explains under some light; weight (K, N) as given."""
    sure = weight[..., None].expand_as(colours)
    for _ in range(2):
        shade = band_shade(bands, fit_gamma(colours, bands, sure, albedo))
        miss = ((colours - albedo * shade) / OUTLIER_LEVELS).square().amax(-1, keepdim=True)
        sure = (weight[..., None] / (1 + miss).square()).expand_as(colours)
    return sure


def fit_gamma(colours, bands, weight, albedo):
    """Light (K, 27) of frames by colours (K, N, 3), weight (K, N, 3), albedo (N, 3): the clip's, and each frame's about it."""
    return solve_light(*light_equations(colours, bands, weight, albedo))


def light_equations(colours, bands, weight, albedo):
    """Normal matrix (K, 3, 9, 9) and right side (K, 3, 9) of each frame's gamma."""
    scaled = bands[:, :, None] * albedo[..., None]  # (K, N, 3, 9)
    rows = scaled * weight[..., None]
    matrix = torch.einsum("knci,kncj->kcij", rows, scaled)
    return matrix, torch.einsum("knci,knc->kci", rows, colours - AMBIENT * scaled[..., 0])


def solve_light(matrix, right):
    """Gamma (K, 27) of the frames of a clip; matrix, right as from `light_equations`."""
    one = torch.eye(9)
    size = matrix.diagonal(dim1=-2, dim2=-1)[..., 0]  # (K, 3): of the band that all points have
    held = EVEN * size.sum(0)[:, None, None] * one + 1e-6 * one
    clip = torch.linalg.solve(matrix.sum(0) + held, right.sum(0)[..., None])
    own = COMMON * size[..., None, None] * one + 1e-6 * one
    rest = right[..., None] - matrix @ clip
    return (clip + torch.linalg.solve(matrix + own, rest))[..., 0].flatten(1)

"""Brows, lashes, eyes, teeth and the inside of the mouth, painted into the texels of `made_skin`.

Each painter changes `colour` (N, 3), linear light, in place. Places are those of the mean head in dm.
"""

import cv2
import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial import cKDTree

from deep_3drecon.landmarks import EYE_LEFT, EYE_RIGHT
from deep_3drecon.made_noise import noise, smoothstep

# lower and upper edge of each brow, from the temple to the nose
BROWS = (([46, 53, 52, 65, 55], [70, 63, 105, 66, 107]), ([276, 283, 282, 295, 285], [300, 293, 334, 296, 336]))
IRIS_SINE = 0.35  # radius of the iris over that of the eyeball
SHIFT = 4  # fractional bits of cv2's coordinates


def paint_brows(colour, texels, model, look, hair):
    """Some hundred hairs to a brow over a soft shade, drawn in the atlas along the landmarks of its edges."""
    rng = np.random.default_rng([look.seed, 3])
    places = (model.uv[model.landmark_ids] * model.landmark_weights.numpy()[:, :, None]).sum(1)
    pixels = np.stack([places[:, 0], 1 - places[:, 1]], 1) * texels.size - 0.5
    scale = 2  # hairs are finer than texels
    canvas = np.zeros((texels.size * scale,) * 2, np.uint8)
    for lower, upper in BROWS:
        edges = [CubicSpline(np.arange(5), (pixels[ids] + 0.5) * scale - 0.5) for ids in (lower, upper)]
        _draw_brow(canvas, edges, rng, look.brow_density)
    hairs = texels.pick(cv2.resize(canvas, (texels.size,) * 2, interpolation=cv2.INTER_AREA)) / np.float32(255)
    sigma = texels.size / 220
    shade = texels.pick(cv2.GaussianBlur(canvas, (0, 0), sigma * scale)[::scale, ::scale]) / np.float32(255)
    amount = np.clip(0.80 * hairs + 0.62 * shade, 0, 0.95)[:, None] * texels.is_part("skin")[:, None]
    colour *= 1 - amount
    colour += amount * hair * 0.8


def _draw_brow(canvas, edges, rng, density):
    """Hairs from root to tip; `edges` are curves of the lower and upper edge over t = 0 (temple) .. 4 (nose)."""
    length = np.linalg.norm(edges[0](4) - edges[0](0))
    for _ in range(int(800 * density)):
        t, s = 4 * rng.beta(1.1, 1.0), rng.uniform(0.1, 0.9)
        inward = t / 4
        s = 0.5 + (s - 0.5) * (0.55 + 0.45 * min(1, 2.2 * inward)) * (1 - 0.25 * smoothstep(0.9, 1.0, inward))
        low, high = edges[0](t), edges[1](t)
        root = low + s * (high - low)
        outwards = -(edges[0](t, 1) + edges[1](t, 1))
        outwards /= np.linalg.norm(outwards)
        up = (high - low) / max(np.linalg.norm(high - low), 1e-6)
        # hairs stand up by the nose, lie flat towards the temple, and lean to the middle line of the brow
        rise = 0.8 * inward**3 + 0.9 * (0.5 - s) + rng.normal(0, 0.12)
        lean = outwards + rise * up
        lean /= np.linalg.norm(lean)
        reach = length * rng.uniform(0.07, 0.15)
        bend = root + lean * reach * 0.55
        tip = root + (lean + 0.5 * outwards - 0.25 * up * (1 - inward)) / 1.4 * reach
        curve = [root + (bend - root) * 2 * k * (1 - k) + (tip - root) * k * k for k in np.linspace(0, 1, 6)]
        points = np.round(np.array(curve) * (1 << SHIFT)).astype(np.int32)
        strength = int(rng.uniform(110, 235))
        cv2.polylines(canvas, [points[:, None]], False, strength, 2 if rng.random() < 0.35 else 1, cv2.LINE_AA, SHIFT)


def paint_eyes(colour, texels, model, look, iris):
    """Eyeballs, the inside of the lids, and lashes as a dark line along the lids."""
    eyes = texels.is_part("eyes")
    place = texels.place[eyes]
    painted = np.zeros((len(place), 3), np.float32)
    for number, name in enumerate(("eyeball_right", "eyeball_left")):
        ball = model.mean.numpy()[model.regions[name]]
        here = (place[:, 0] > 0) == bool(number)
        painted[here] = _eyeball(place[here] - ball.mean(0), look.seed * 101 + 80 + number, iris)
    colour[eyes] = painted
    _paint_lids(colour, texels, model, look)


def _eyeball(offset, seed, iris):
    """Colour by direction from the eye's centre: offset (N, 3) -> (N, 3); straight ahead is +z."""
    d = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    rim = np.hypot(d[:, 0], d[:, 1]) + (d[:, 2] < 0)  # 0 in the pupil, IRIS_SINE at the limbus
    r = rim / IRIS_SINE
    around = d[:, :2] / np.maximum(rim, 1e-6)[:, None]
    side = smoothstep(0.35, 0.85, np.abs(d[:, 0]))
    veins = np.abs(noise(d, 9, seed, 3))
    sclera = np.array([0.54, 0.50, 0.47], np.float32) * (1 - 0.05 * noise(d, 4, seed + 1)[:, None])
    pink = 0.10 + 0.35 * side + 0.5 * side * smoothstep(0.05, 0.0, veins)
    sclera = sclera * (1 - pink[:, None] * np.array([0.08, 0.42, 0.40], np.float32))
    fibres = noise(np.stack([around[:, 0], around[:, 1], 0.12 * r], 1), 14, seed + 2, 2)
    collar = smoothstep(0.75, 0.35, r + 0.08 * fibres)
    lit = 0.75 + 0.8 * fibres + 0.35 * smoothstep(0.3, 0.8, r)
    disc = 0.7 * iris * lit[:, None] * (1 + collar[:, None] * np.array([0.35, 0.12, -0.15], np.float32))
    disc *= (1 - 0.72 * smoothstep(0.72, 1.0, r))[:, None]  # limbal ring
    disc *= smoothstep(0.36, 0.46, r)[:, None]  # pupil
    edge = smoothstep(0.93, 1.09, r)[:, None]
    return np.maximum(disc, 0.004) * (1 - edge) + sclera * edge


def _paint_lids(colour, texels, model, look):
    """Moist red inside the lids, a fold above, and the dark line of the lashes."""
    sockets = texels.is_part("sockets")
    colour[sockets] = np.array([0.40, 0.16, 0.13], np.float32) * (0.55 if look.tone > 3 else 0.9)
    near = texels.is_part("skin") & (texels.place[:, 2] > 0) & (np.abs(texels.place[:, 1] - 0.28) < 0.15)
    for ids in (EYE_RIGHT, EYE_LEFT):
        ring = model.landmarks(model.mean).numpy()[ids]
        upper, lower = _ring_halves(ring)
        for curve, width, strength in ((upper, 0.016, 0.9), (lower, 0.010, 0.42)):
            dense = CubicSpline(np.linspace(0, 1, len(curve)), curve)(np.linspace(0, 1, 200))
            distance, nearest = cKDTree(dense).query(texels.place[near], distance_upper_bound=0.08)
            along = nearest / 199
            grow = width * (0.35 + 0.65 * smoothstep(0.0, 0.7, along))  # thicker towards the temple
            dark = strength * smoothstep(1.0, 0.3, distance / grow)
            colour[near] *= (1 - dark)[:, None]
            colour[near] += dark[:, None] * np.array([0.012, 0.009, 0.008], np.float32)


def _ring_halves(ring):
    """The 16 landmarks around an eye, from the outer corner below to the inner one and back above -> (upper, lower),
    each from the inner corner to the outer one."""
    lower, upper = ring[:9], np.concatenate([ring[8:], ring[:1]])
    return upper, lower[::-1]


def paint_mouth(colour, texels, look, skin):
    """Cavity, gums' colour of the inner cheeks, tongue, and the dark line where the lips meet."""
    inside, tongue = texels.is_part("mouth_inside"), texels.is_part("tongue")
    place = texels.place[inside]
    depth = smoothstep(0.30, -0.1, place[:, 2])
    wet = np.array([0.36, 0.10, 0.09], np.float32) * (0.75 + 0.25 * skin)
    shade = (1 - 0.82 * depth) * (1 + 0.15 * noise(place, 12, look.seed * 101 + 90, 2))
    colour[inside] = wet * shade[:, None]
    place = texels.place[tongue]
    groove = np.exp(-((place[:, 0] / 0.02) ** 2))
    bumps = noise(place, 40, look.seed * 101 + 91, 2)
    lit = (0.95 + 0.18 * bumps - 0.25 * groove) * (0.35 + 0.65 * smoothstep(-0.4, 0.1, place[:, 2]))
    colour[tongue] = np.array([0.46, 0.17, 0.16], np.float32) * lit[:, None]


def paint_teeth(colour, texels, look):
    """Single teeth with gaps and gums along each arch; enamel is warm, darker towards the back."""
    widths = np.array([0.085, 0.068, 0.078, 0.072, 0.068, 0.10, 0.10])  # dm, from the middle: incisors .. molars
    for name, narrow, gum_y, sign in (("teeth_upper", 1.0, -0.285, 1), ("teeth_lower", 0.72, -0.425, -1)):
        here = texels.is_part(name)
        place = texels.place[here]
        along = _arch_length(place)
        borders = np.concatenate([[0], np.cumsum(widths * narrow)])
        tooth = np.clip(np.searchsorted(borders, along) - 1, 0, len(widths) - 1)
        left, right = borders[tooth], borders[tooth + 1]
        across = np.clip((along - left) / (right - left), 0, 1) * 2 - 1
        gap = smoothstep(0.80, 1.0, np.abs(across))
        over = sign * (place[:, 1] - gum_y) + 0.022 * across**2  # above 0: gum, which dips between the teeth
        gum = smoothstep(-0.006, 0.006, over)
        back = smoothstep(0.05, 0.5, along)
        enamel = np.array([0.66, 0.60, 0.49], np.float32) * (1 - 0.5 * back - 0.45 * gap)[:, None]
        enamel *= (1 - 0.15 * smoothstep(-0.05, 0.0, over))[:, None]
        gums = np.array([0.45, 0.16, 0.15], np.float32) * (1 - 0.5 * back)[:, None]
        colour[here] = enamel * (1 - gum[:, None]) + gums * gum[:, None]


def _arch_length(place):
    """Distance (dm) along the dental arch from its middle, for points on its teeth: (N, 3) -> (N,)."""
    # outer edge of the arch in x, z as measured on the mean head
    x = np.array([0.0, 0.09, 0.166, 0.2, 0.222, 0.254, 0.29, 0.306, 0.322, 0.328])
    z = np.array([0.235, 0.222, 0.188, 0.15, 0.11, 0.04, -0.04, -0.10, -0.166, -0.236])
    length = np.concatenate([[0], np.cumsum(np.hypot(np.diff(x), np.diff(z)))])
    angle, of_edge = np.arctan2(np.abs(place[:, 0]), place[:, 2] + 0.25), np.arctan2(x, z + 0.25)
    return np.interp(angle, of_edge, length)

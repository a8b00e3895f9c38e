"""Skin made from a seed: an atlas for the open head that shows no real person.

    look = made_look(7)
    atlas = made_skin(load_face_model(), 7)        # (1024, 1024, 3) uint8 RGB

An atlas is a picture in the model's uv: its first row is v = 1 (the top), its first column u = 0. Colour is painted in space, at
the place that each texel has on the mean head (dm), so it runs on across the seams of the atlas. Colours inside are linear light.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from deep_3drecon.made_features import paint_brows, paint_eyes, paint_mouth, paint_teeth
from deep_3drecon.made_hair import hair_cover
from deep_3drecon.made_noise import noise, smoothstep, spots
from deep_3drecon.rasterizer import raster_attributes

# from the fairest to the darkest, sRGB; a tone is a place on this scale and freckles are steps along it
TONES = np.array(
    [[243, 210, 192], [231, 187, 162], [213, 162, 131], [181, 128, 96], [136, 91, 66], [97, 64, 48], [70, 45, 35]]
)
HAIRS = {"black": (22, 18, 17), "dark brown": (44, 29, 21), "brown": (76, 50, 33), "auburn": (98, 50, 28),
         "fair": (146, 110, 68), "grey": (122, 118, 114)}  # fmt: skip
IRISES = {"brown": (84, 50, 27), "dark brown": (52, 31, 20), "hazel": (110, 86, 45), "green": (96, 112, 78),
          "blue": (96, 126, 152), "grey": (118, 128, 132)}  # fmt: skip
BLOOD = np.array([0.08, 0.52, 0.42], np.float32)  # what blood near the surface takes from red, green and blue
PARTS = ("skin", "mouth_inside", "sockets", "eyes", "teeth_upper", "teeth_lower", "tongue")


@dataclass(frozen=True)
class Look:
    """What a seed decides. Colours are sRGB triples; tone is a place on TONES; the rest are strengths in [0, 1]."""

    seed: int
    tone: float
    lips: tuple
    iris: tuple
    hair: tuple
    hair_mm: float
    brow_density: float
    freckles: float
    beard: float


def made_look(seed):
    """The look of a seed; hair and irises go with the tone."""
    rng = np.random.default_rng([seed, 1])
    tone = rng.uniform(0.8, 5.2)
    fair = smoothstep(2.8, 0.8, tone)
    share = np.array([0.35 + 1.5 * (1 - fair), 0.4, 0.35 * fair + 0.05, 0.2 * fair, 0.4 * fair, 0.08])
    hair = list(HAIRS.values())[rng.choice(len(HAIRS), p=share / share.sum())]
    share = np.array([0.5, 0.2 + 1.5 * (1 - fair), 0.25 * fair, 0.2 * fair, 0.4 * fair, 0.15 * fair])
    iris = list(IRISES.values())[rng.choice(len(IRISES), p=share / share.sum())]
    skin = to_srgb(skin_colour(np.array([tone], np.float32)))[0]
    lips = skin * [0.90, 0.56, 0.59] * (1 + 0.045 * tone * np.array([0, 0.5, 1])) + rng.normal(0, 0.015, 3)
    return Look(
        seed=seed,
        tone=float(tone),
        lips=tuple(float(c) for c in np.clip(lips * 255, 0, 255)),
        iris=tuple(float(c) for c in np.clip(np.array(iris) * rng.uniform(0.85, 1.15), 0, 255)),
        hair=tuple(float(c) for c in np.array(hair) * rng.uniform(0.85, 1.15)),
        hair_mm=float(rng.choice([3.0, 6.0, 10.0])),
        brow_density=float(rng.uniform(0.55, 1.0)),
        freckles=float(fair * max(0, rng.uniform(-0.6, 1))),
        beard=float(max(0, rng.uniform(-0.7, 0.9))),
    )


def made_skin(model, seed, size=1024):
    """Atlas of one made person: (size, size, 3) uint8 RGB, first row v = 1. The same seed gives the same atlas.

    seed: an int, or a `Look`. All islands are painted (skin, sockets, mouth, teeth, tongue, eyeballs), and what lies between
    them repeats the nearest texel, so that no gap shows when the atlas is filtered.
    """
    look = seed if isinstance(seed, Look) else made_look(int(seed))
    texels = Texels(model, size)
    colour = np.zeros((len(texels.place), 3), np.float32)
    outer = texels.part == PARTS.index("skin")
    colour[outer] = _paint_skin(texels, outer, look)
    paint_brows(colour, texels, model, look, linear(look.hair))
    paint_eyes(colour, texels, model, look, linear(look.iris))
    paint_mouth(colour, texels, look, skin_colour(np.array([look.tone])))
    paint_teeth(colour, texels, look)
    return _spread(to_srgb(colour), texels)


class Texels:
    """The painted texels of the atlas, N of them, with what the painters need to know of each.

    row, column (N,); place (N, 3) on the mean head, dm; part (N,) index into PARTS; weight {region: (N,) in [0, 1]}.
    """

    def __init__(self, model, size):
        self.size = size
        mean = model.mean.numpy()
        regions = ("lips", "ears")
        attributes = np.concatenate([mean, _part_of(model)[:, None], *(_flag(model, r)[:, None] for r in regions)], 1)
        clip = np.concatenate([model.uv * 2 - 1, np.zeros((len(mean), 1)), np.ones((len(mean), 1))], 1).astype(
            np.float32
        )
        image, mask = raster_attributes(clip[None], model.triangles, attributes[None].astype(np.float32), (size, size))
        self.mask = np.ascontiguousarray(mask[0, ::-1])
        self.row, self.column = np.nonzero(self.mask)
        values = image[0, ::-1][self.mask]
        self.place = np.ascontiguousarray(values[:, :3])
        self.part = np.round(values[:, 3]).astype(int)
        soft = [_soften(image[0, ::-1, :, 4 + k], self.mask, size / 260) for k in range(len(regions))]
        self.weight = {name: self.pick(picture) for name, picture in zip(regions, soft, strict=True)}

    def is_part(self, name):
        """(N,) bool."""
        return self.part == PARTS.index(name)

    def pick(self, picture):
        """(size, size) picture -> its values at the texels (N,)."""
        return picture[self.row, self.column]


def _soften(picture, mask, sigma):
    """Blur inside a mask, without what lies outside."""
    share = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma)
    return cv2.GaussianBlur(np.where(mask, picture, 0), (0, 0), sigma) / np.maximum(share, 1e-3)


def linear(srgb):
    """sRGB in 0..255 -> linear light in 0..1, float32."""
    c = np.asarray(srgb, np.float32) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).astype(np.float32)


def to_srgb(light):
    """Linear light -> sRGB, both 0..1, clipped."""
    c = np.clip(light, 0, 1)
    return np.where(c <= 0.0031308, c * 12.92, 1.055 * c ** (1 / 2.4) - 0.055).astype(np.float32)


def skin_colour(tone):
    """Linear colour (N, 3) at places (N,) of the scale TONES, mixed as pigments mix (in logarithms)."""
    steps = np.log(linear(TONES))
    scale = np.arange(len(TONES))
    return np.exp(np.stack([np.interp(tone, scale, steps[:, c]) for c in range(3)], 1)).astype(np.float32)


def _part_of(model):
    """Index into PARTS of each vertex. Lids turned inwards lie in small islands of the atlas below the face's."""
    part = np.zeros(model.n_vertices)
    skin = np.zeros(model.n_vertices, bool)
    skin[model.regions["skin"]] = True
    sockets = skin & (model.uv[:, 0] > 0.18) & (model.uv[:, 0] < 0.53) & (model.uv[:, 1] < 0.25)
    part[sockets] = PARTS.index("sockets")
    for name in ("teeth_upper", "teeth_lower", "tongue"):
        part[model.regions[name]] = PARTS.index(name)
    part[skin & (model.uv[:, 0] < 0.175) & (model.uv[:, 1] < 0.15)] = PARTS.index("mouth_inside")
    for name in ("eyeball_left", "eyeball_right"):
        part[model.regions[name]] = PARTS.index("eyes")
    return part


def _flag(model, region):
    flag = np.zeros(model.n_vertices)
    flag[model.regions[region]] = 1
    return flag


def blob(place, centre, radius, both=True):
    """Soft ball in [0, 1] around a point (dm), and around its mirror image: (N, 3) -> (N,)."""
    centre, radius = np.asarray(centre, np.float32), np.broadcast_to(np.asarray(radius, np.float32), 3)
    x = np.abs(place[:, :1]) if both else place[:, :1]
    offset = (np.concatenate([x, place[:, 1:]], 1) - centre) / radius
    return np.exp(-(offset**2).sum(1))


def _blood(place, ears, look):
    """How much blood shows, about 0..1: cheeks, nose, ears, chin, knuckle of the brow."""
    flush = np.random.default_rng([look.seed, 2]).uniform(0.7, 1.3, 4)
    return (
        flush[0] * 0.42 * blob(place, (0.36, -0.10, 0.18), (0.2, 0.17, 0.3))
        + flush[1] * 0.50 * blob(place, (0.0, -0.10, 0.48), (0.12, 0.11, 0.2))
        + flush[1] * 0.25 * blob(place, (0.13, -0.16, 0.32), (0.07, 0.07, 0.1))
        + flush[2] * 0.22 * blob(place, (0.0, -0.68, 0.3), (0.2, 0.13, 0.3))
        + flush[3] * 0.40 * ears
        + 0.16 * blob(place, (0.29, 0.17, 0.2), (0.16, 0.06, 0.2))
        - 0.12 * blob(place, (0.0, -0.40, 0.3), (0.38, 0.16, 0.3))
    )


def _beard(place):
    """Where a beard grows, [0, 1]: lip, chin, jaw up to the ears, upper neck."""
    x, y, z = np.abs(place[:, 0]), place[:, 1], place[:, 2]
    line = np.interp(x, [0, 0.2, 0.3, 0.45, 0.6, 0.7], [-0.22, -0.25, -0.45, -0.42, -0.2, 0.1])
    cheek = smoothstep(0.06, -0.06, y - line + 0.04 * noise(place, 9, 71))
    neck = smoothstep(-1.05, -0.82, y)
    front = smoothstep(-0.58, -0.42, z)
    return cheek * neck * front * (1 - 0.6 * blob(place, (0.13, -0.55, 0.3), (0.06, 0.05, 0.2)))


def _paint_skin(texels, outer, look):
    """Linear colour of the outer skin with lips, hair and beard painted on."""
    place, ears = texels.place[outer], texels.weight["ears"][outer]
    seed = look.seed * 101
    mottle = noise(place, 2.2, seed + 1, 3)
    patches = noise(place, 9, seed + 2, 3)
    grain = noise(place, 45, seed + 3, 2)
    tone = look.tone + 0.35 * mottle + 0.22 * patches + 0.2 * grain
    lids = blob(place, (0.29, 0.345, 0.2), (0.14, 0.05, 0.2))
    under = blob(place, (0.27, 0.185, 0.2), (0.13, 0.045, 0.2))
    tone += 0.42 * lids + 0.35 * under + 0.15 * blob(place, (0, -0.25, 0.35), (0.2, 0.05, 0.2))
    tone -= 0.25 * blob(place, (0.0, 0.62, 0.3), (0.4, 0.2, 0.4)) + 0.2 * blob(
        place, (0.3, 0.05, 0.25), (0.15, 0.1, 0.3)
    )
    if look.freckles:
        where = blob(place, (0.3, 0.0, 0.25), (0.28, 0.2, 0.4)) + blob(place, (0, 0.05, 0.4), (0.2, 0.2, 0.3)) + 0.15
        dots = np.maximum(spots(place, 22, seed + 4, 0.5), 0.8 * spots(place, 40, seed + 5, 0.35))
        tone += 1.3 * look.freckles * np.minimum(where, 1) * dots * (place[:, 2] > -0.2)
    tone += 2.2 * np.maximum(spots(place, 2.4, seed + 6, 0.10, 0.06), 0) * (place[:, 2] > -0.3)  # a few moles
    colour = skin_colour(tone)
    blood = _blood(place, ears, look) + 0.14 * patches + 0.10 * mottle
    colour *= np.exp(-np.outer(blood, BLOOD))
    colour *= 1 + 0.05 * grain[:, None] - 0.06 * spots(place, 60, seed + 7, 0.7)[:, None]  # pores
    if look.beard:
        shade = _beard(place)
        hairs = spots(place, 55, seed + 8, 0.9)
        amount = look.beard * shade * (0.32 + 0.55 * hairs)
        colour = _mix(colour, linear(look.hair) * 1.1 + 0.12 * colour, amount * 0.8)
    colour = _paint_lips(colour, place, texels.weight["lips"][outer], look)
    cover, strands = hair_cover(place, look.seed)
    cover = cover * (1 - smoothstep(0.2, 0.6, ears))
    root = linear(look.hair) * (0.75 + 0.5 * strands)[:, None]
    return _mix(colour, root, cover * np.clip(0.55 + 0.05 * look.hair_mm, 0, 0.96))


def _paint_lips(colour, place, weight, look):
    seed = look.seed * 101 + 40
    # the mask is as coarse as the mesh; noise and a wide ramp make a border that is soft and not straight
    edge = smoothstep(0.2, 0.85, weight + 0.10 * noise(place, 25, seed, 2))
    creases = noise(place, (70, 9, 9), seed + 1, 2)
    edge *= smoothstep(-0.515, -0.485, place[:, 1])  # the mask hangs down one vertex in the middle
    lips = linear(look.lips) * (1 + 0.16 * creases + 0.12 * noise(place, 14, seed + 2, 2))[:, None]
    upper = smoothstep(-0.395, -0.375, place[:, 1])
    lips = lips * (1 - 0.16 * upper)[:, None]  # the upper lip looks down
    return _mix(colour, lips, 0.72 * edge)


def _mix(a, b, amount):
    amount = np.clip(amount, 0, 1)[:, None]
    return a * (1 - amount) + b * amount


def _spread(colour, texels):
    """(N, 3) in 0..1 -> atlas uint8; each empty texel takes the colour of the nearest painted one."""
    size = texels.size
    atlas = np.zeros((size, size, 3), np.uint8)
    atlas[texels.mask] = np.round(colour * 255)
    empty = (~texels.mask).astype(np.uint8)
    _, label = cv2.distanceTransformWithLabels(empty, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    of_label = np.zeros((label.max() + 1, 3), np.uint8)
    of_label[label[texels.mask]] = atlas[texels.mask]
    return of_label[label]

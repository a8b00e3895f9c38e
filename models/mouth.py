"""The made inside of the mouth: teeth, gums, tongue and the dark behind them, painted into the head's texture."""

import cv2
import numpy as np
import torch

from deep_3drecon import landmarks, rasterizer
from deep_3drecon.made_noise import smoothstep

# sRGB 0..255 under light that shows skin at SKIN
SKIN = np.array([205.0, 165.0, 145.0])
TOOTH = np.array([236.0, 226.0, 210.0])
GUM = np.array([176.0, 100.0, 96.0])
TONGUE = np.array([172.0, 92.0, 90.0])
FLESH = np.array([118.0, 52.0, 50.0])
DARK = np.array([26.0, 11.0, 11.0])
TOOTH_WIDTH_DM = 0.075
TEETH_SHARE = 0.35  # of the places between the lips that must look like teeth
MAX_DROP_DM = 0.12


def brightness(picture, place, cosine, model):
    """Gain (3,) of the portrait's light on the face against the light the colours above are meant for.

    Half of the colour cast of the skin counts as light; the rest is the skin's own.
    """
    flat = (place[:, :2] / place[:, 2:]).numpy().round().astype(int)
    ids = model.regions["face"][cosine[model.regions["face"]] > 0.6]
    height, width = picture.shape[:2]
    column, row = np.clip(flat[ids, 0], 0, width - 1), np.clip(flat[ids, 1], 0, height - 1)
    if not len(ids):
        return np.ones(3)
    mean = np.median(picture[row, column].astype(float), 0)
    level = mean.mean() / SKIN.mean()
    cast = (mean / max(mean.mean(), 1)) / (SKIN / SKIN.mean())
    return np.clip(level * np.sqrt(np.clip(cast, 0.5, 2)), 0.15, 1.2)


def tooth_like(colour, lip, gain):
    """0..1: how much colours (..., 3) look like teeth beside a lip (3,): bright, and less red than the lip.

    In a grey picture nothing tells teeth from lips, and nothing passes.
    """

    def redness(c):
        return (c[..., 0] - c[..., 1]) / np.maximum(c.sum(-1), 1)

    tooth = TOOTH * gain
    contrast = redness(lip) - redness(tooth)
    if contrast < 0.02:
        return np.zeros(colour.shape[:-1])
    pale = smoothstep(0.75, 0.45, (redness(colour) - redness(tooth)) / contrast)
    return pale * smoothstep(0.45, 0.7, colour.mean(-1) / tooth.mean())


def teeth_shown(picture, points, gain):
    """Whether a portrait shows its teeth: picture (H, W, 3) uint8, points (478, 2) landmarks in its pixels, gain of `brightness`."""
    ring = np.concatenate([landmarks.INNER_LIP_UPPER, landmarks.INNER_LIP_LOWER[::-1]])
    low = np.floor(points[landmarks.OUTER_LIPS].min(0)).astype(int) - 2
    high = np.ceil(points[landmarks.OUTER_LIPS].max(0)).astype(int) + 3
    low, high = np.maximum(low, 0), np.minimum(high, picture.shape[1::-1])
    if (high - low).min() < 3:
        return False
    part = picture[low[1] : high[1], low[0] : high[0]].astype(float)
    masks = []
    for ids in (ring, landmarks.OUTER_LIPS):
        mask = np.zeros(part.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.round((points[ids] - low) * 16).astype(np.int32)], 1, shift=4)
        masks.append(mask > 0)
    inner, lips = masks[0], masks[1] & ~cv2.dilate(masks[0].astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    if not lips.any() or inner.sum() < 0.1 * lips.sum():
        return False
    return bool(tooth_like(part[inner], np.median(part[lips], 0), gain).mean() > TEETH_SHARE)


def settle(head, exp, angle, shown):
    """Displacement (V, 3) tensor of the parts inside the mouth from where a fitted head has them, dm.

    The teeth of the mean head hide behind the lips, its tongue fills the mouth. Upper teeth come down until their edge shows as soon as
    lips part. In a portrait that shows its teeth (`shown`, with its expression and pose) they reach the lower lip, since teeth
    between parted lips are almost always the upper ones.
    """
    shift = np.zeros((head.n_vertices, 3), np.float32)
    shift[head.regions["teeth_upper"]] = 0, -0.05, -0.01
    shift[head.regions["teeth_lower"]] = 0, -0.06, -0.045
    shift[head.regions["tongue"]] = 0, -0.11, -0.06
    if shown:
        vertices = head.vertices(torch.zeros(0), exp)
        teeth = (vertices + torch.from_numpy(shift))[head.regions["teeth_upper"]].numpy()
        edge = teeth[np.argmin(teeth[:, 1])]
        lip = head.landmarks(vertices)[landmarks.INNER_LIP_LOWER[3:6]].mean(0).numpy()
        reach = lip[1] - (lip[2] - edge[2]) * np.tan(
            float(angle[0])
        )  # where the ray over the lower lip meets the teeth
        shift[head.regions["teeth_upper"], 1] -= np.clip(edge[1] - reach, 0, MAX_DROP_DM)
    return torch.from_numpy(shift)


def sink(model):
    """By how much (V,) dm the parts inside the mouth count as deeper when drawn, so that none pierces the skin of a lean face."""
    out = np.zeros(model.n_vertices, np.float32)
    cavity = model.regions["mouth_inside"]
    out[cavity] = 0.2 * smoothstep(0.28, 0.15, model.mean.numpy()[cavity, 2])
    for name in ("teeth_upper", "teeth_lower", "tongue"):
        out[model.regions[name]] = 0.2
    return torch.from_numpy(out)


def paint(atlas, model, gain, teeth_shown):
    """The atlas with the mouth painted: colour (S, S, 3), seen (S, S) and mouth inside (S, S) 0..1.

    Of the portrait's own mouth only upper teeth are kept, if it shows them and where they look like teeth; all else is made.
    """
    mean = model.mean.numpy()
    names = ("teeth_upper", "teeth_lower", "tongue", "mouth_inside", "lips")
    part = np.zeros((model.n_vertices, len(names)), np.float32)
    for k, name in enumerate(names):
        part[model.regions[name], k] = 1
    attributes = np.concatenate([mean, part], 1)[None].astype(np.float32)
    at = rasterizer.interpolate(attributes, atlas.rast[None], model.triangles)[0]
    place, (upper, lower, tongue, cavity, lips) = at[..., :3], np.moveaxis(at[..., 3:], -1, 0)
    cavity = cavity * smoothstep(0.31, 0.2, place[..., 2])
    kept, tooth_gain = np.zeros_like(atlas.seen), gain
    if teeth_shown:
        kept, tooth_gain = _own_teeth(atlas, upper > 0.5, (lips > 0.5) & (atlas.seen > 0), gain)
    seen = np.where(upper > 0.5, kept, atlas.seen * (1 - np.maximum.reduce([lower, tongue, cavity])))

    made = FLESH + (DARK - FLESH) * smoothstep(0.27, 0.05, place[..., 2])[..., None]
    made = np.where(
        tongue[..., None] > 0.5, TONGUE + (DARK - TONGUE) * smoothstep(0.2, -0.12, place[..., 2])[..., None], made
    )
    for mask, up in ((upper, 1), (lower, -1)):
        made = np.where(mask[..., None] > 0.5, _teeth(place, up, mean, model) * tooth_gain / gain, made)
    inside = np.maximum.reduce([upper, lower, tongue, cavity])
    hidden = (inside * (1 - seen))[..., None]
    return atlas.colour + hidden * (made * gain - atlas.colour), seen, inside


def _own_teeth(atlas, teeth, lips, gain):
    """How much of the portrait's upper teeth is kept (S, S) 0..1, and the gain (3,) that fits made teeth to them.

    teeth, lips: (S, S) bool texels. What shows between parted lips may be lip or shadow, as the fitted lips are off by a pixel.
    """
    shown = teeth & (atlas.seen > 0)
    if not shown.any() or not lips.any():
        return np.zeros_like(atlas.seen), gain
    like = tooth_like(atlas.colour, np.median(atlas.colour[lips], 0), gain) * shown
    own = (atlas.colour * like[..., None]).sum((0, 1)) / max(like.sum(), 1)
    return like.astype(np.float32), np.clip(own / TOOTH, 0.1, 1.25) if like.sum() > 1 else gain


def _teeth(place, up, mean, model):
    """Colour of teeth at points of the mean head: gum at the root, a paler edge, a fine line between teeth, darker to the back."""
    tip = mean[model.regions["teeth_upper" if up > 0 else "teeth_lower"], 1]
    tip = tip.min() if up > 0 else tip.max()
    height = up * (place[..., 1] - tip)  # dm from the biting edge
    along = np.abs(place[..., 0]) + 0.8 * np.clip(0.2 - place[..., 2], 0, None)  # roughly along the arch
    phase = np.abs((along / TOOTH_WIDTH_DM) % 1 - 0.5) * 2  # 1 between teeth
    line = smoothstep(0.72, 1.0, phase) * 0.16
    colour = TOOTH * (1 - line)[..., None]
    colour = colour * (0.9 + 0.1 * smoothstep(0.1, 0.02, height))[..., None]
    gum = smoothstep(0.085, 0.1, height - 0.018 * (1 - phase))[..., None]
    colour = colour + gum * (GUM - colour)
    back = smoothstep(0.23, 0.0, place[..., 2])[..., None]
    return colour * (1 - 0.88 * back)

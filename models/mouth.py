"""The made inside of the mouth: teeth, gums, tongue and the dark behind them, painted into the head's texture."""

import numpy as np
import torch

from deep_3drecon import rasterizer
from models.retarget import smoothstep

# sRGB 0..255 under light that shows skin at SKIN
SKIN = np.array([205.0, 165.0, 145.0])
TOOTH = np.array([236.0, 226.0, 210.0])
GUM = np.array([176.0, 100.0, 96.0])
TONGUE = np.array([172.0, 92.0, 90.0])
FLESH = np.array([118.0, 52.0, 50.0])
DARK = np.array([26.0, 11.0, 11.0])
TOOTH_WIDTH_DM = 0.075


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


def settle(model, lip_gap):
    """Displacement (V, 3) tensor of the parts inside the mouth from where the mean head has them, dm.

    The teeth of the mean head hide behind the lips, its tongue fills the mouth. Upper teeth come down until their edge
    shows as soon as lips part, and in a portrait with parted lips (lip_gap, dm) down to the lower lip, since teeth seen there are almost
    always the upper ones.
    """
    shift = np.zeros((model.n_vertices, 3), np.float32)
    shift[model.regions["teeth_upper"]] = 0, -0.065 - np.clip(lip_gap - 0.03, 0, 0.05), -0.01
    shift[model.regions["teeth_lower"]] = 0, -0.06, -0.045
    shift[model.regions["tongue"]] = 0, -0.11, -0.06
    return torch.from_numpy(shift)


def sink(model):
    """By how much (V,) dm the parts inside the mouth count as deeper when drawn, so that none pierces the skin of a lean face."""
    out = np.zeros(model.n_vertices, np.float32)
    cavity = model.regions["mouth_inside"]
    out[cavity] = 0.2 * smoothstep(model.mean.numpy()[cavity, 2], 0.28, 0.15)
    for name in ("teeth_upper", "teeth_lower", "tongue"):
        out[model.regions[name]] = 0.2
    return torch.from_numpy(out)


def lower_part(rast, model):
    """1 on texels (S, S) of lower teeth, tongue and cavity, 0 elsewhere."""
    part = np.zeros((1, model.n_vertices, 1), np.float32)
    for name in ("teeth_lower", "tongue"):
        part[0, model.regions[name]] = 1
    cavity = model.regions["mouth_inside"]
    part[0, cavity, 0] = smoothstep(model.mean.numpy()[cavity, 2], 0.3, 0.2)
    return rasterizer.interpolate(part, rast[None], model.triangles)[0, ..., 0]


def paint(atlas, model, gain):
    """Colour (S, S, 3) of the atlas with the mouth painted where the portrait does not show it, and mouth inside (S, S) 0..1."""
    mean = model.mean.numpy()
    part = {
        name: np.zeros(model.n_vertices, np.float32)
        for name in ("teeth_upper", "teeth_lower", "tongue", "mouth_inside")
    }
    for name, value in part.items():
        value[model.regions[name]] = 1
    attributes = np.concatenate([mean, np.stack(list(part.values()), 1)], 1)[None].astype(np.float32)
    at = rasterizer.interpolate(attributes, atlas.rast[None], model.triangles)[0]
    place, (upper, lower, tongue, cavity) = at[..., :3], (at[..., k] for k in range(3, 7))

    made = FLESH + (DARK - FLESH) * smoothstep(place[..., 2], 0.27, 0.05)[..., None]
    made = np.where(
        tongue[..., None] > 0.5, TONGUE + (DARK - TONGUE) * smoothstep(place[..., 2], 0.2, -0.12)[..., None], made
    )
    for mask, up in ((upper, 1), (lower, -1)):
        made = np.where(mask[..., None] > 0.5, _teeth(place, up, mean, model), made)
    inside = np.maximum.reduce([upper, lower, tongue, cavity * smoothstep(place[..., 2], 0.31, 0.2)])
    hidden = (inside * (1 - atlas.seen))[..., None]
    return atlas.colour + hidden * (made * gain - atlas.colour), inside


def _teeth(place, up, mean, model):
    """Colour of teeth at points of the mean head: gum at the root, a paler edge, a fine line between teeth, darker to the back."""
    tip = mean[model.regions["teeth_upper" if up > 0 else "teeth_lower"], 1]
    tip = tip.min() if up > 0 else tip.max()
    height = up * (place[..., 1] - tip)  # dm from the biting edge
    along = np.abs(place[..., 0]) + 0.8 * np.clip(0.2 - place[..., 2], 0, None)  # roughly along the arch
    phase = np.abs((along / TOOTH_WIDTH_DM) % 1 - 0.5) * 2  # 1 between teeth
    line = smoothstep(phase, 0.72, 1.0) * 0.16
    colour = TOOTH * (1 - line)[..., None]
    colour = colour * (0.9 + 0.1 * smoothstep(height, 0.1, 0.02))[..., None]
    gum = smoothstep(height - 0.018 * (1 - phase), 0.085, 0.1)[..., None]
    colour = colour + gum * (GUM - colour)
    back = smoothstep(place[..., 2], 0.23, 0.0)[..., None]
    return colour * (1 - 0.88 * back)

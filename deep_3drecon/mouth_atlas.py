"""What is inside of one person's mouth, learnt from the frames in which it can be seen.

    mouth = learn_mouth(track, frames, model)
    colour, confidence = mouth.layers["upper"].at(places)      # places (..., 2) or (..., 3) dm on the mean head

Teeth have hardly any texels in the head's texture, so they get pictures of their own, as the mean head shows them from the front:
`upper` the upper teeth, `lower` the lower teeth and the tongue. For a renderer: draw teeth and tongue displaced by `SETTLED`, as
they were when they were looked up (the head's own hide behind the lips), interpolate the vertices' places on the mean head to
the pixels, and mix paint + confidence * (colour - paint). Where the mouth was never seen the confidence is 0 and `at` gives
the colour of a made mouth as bright as the seen one. The light is that which the mouth had when it was open.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from deep_3drecon import landmarks, rasterizer, unwrap
from deep_3drecon.atlas_frames import FrameGeometry, blend
from deep_3drecon.made_skin import made_skin
from deep_3drecon.photometric_frames import chosen

# displacement in dm from where the mean head has them to where they show between the lips; that of `models.mouth.settle`
SETTLED = {"teeth_upper": (0, -0.05, -0.01), "teeth_lower": (0, -0.06, -0.045), "tongue": (0, -0.11, -0.06)}
LAYERS = {"upper": ("teeth_upper",), "lower": ("teeth_lower", "tongue")}
WALLS_BEHIND_DM = 0.25  # z on the mean head behind which the skin of the mouth is its wall and no more the rim of a lip
STEP_DM = 0.005  # a pixel of a layer
N_FRAMES = 16
LEAST_OPENING = 0.06  # of the distance of the irises, under which there is nothing to see
LIP_RIM = 0.02  # of the distance of the irises: as far as that from the lips' edge it may be lip that is seen
ENOUGH = 3.0  # frames that make a pixel half sure
NEAR_LEVELS = 30.0
LEAST_SEEN = 0.03  # share of a layer from which its brightness is known
UNSEEN_GAIN = 0.55  # light in a mouth against that on the skin, where nothing of it was seen


@dataclass
class Layer:
    """Front view of a part of the mouth on the mean head: colour (h, w, 3) 0..255, confidence (h, w) 0..1; row 0 is the lowest.

    origin: (x, y) dm of the centre of the first pixel.
    """

    colour: np.ndarray
    confidence: np.ndarray
    origin: tuple

    def at(self, places):
        """Colour (..., 3) and confidence (...) at places on the mean head (..., 2+) dm."""
        where = (np.asarray(places)[..., :2] - self.origin) / STEP_DM
        if not where.size:
            return np.zeros((*where.shape[:-1], 3), np.float32), np.zeros(where.shape[:-1], np.float32)
        both = unwrap.sample(np.concatenate([self.colour, self.confidence[..., None]], -1).astype(np.float32), where)
        return both[..., :3], both[..., 3]


@dataclass
class Mouth:
    """layers {"upper", "lower"}: `Layer`; n_frames: how many frames they were learnt from."""

    layers: dict
    n_frames: int


def inner_parts(model):
    """{name: vertex ids} of teeth, tongue and walls; the walls without the rims of the lips, which are skin and seen as such."""
    parts = {name: model.regions[name] for name in (*SETTLED, "mouth_inside")}
    walls = parts["mouth_inside"]
    return parts | {"mouth_inside": walls[model.mean.numpy()[walls, 2] < WALLS_BEHIND_DM]}


def learn_mouth(track, frames, model, n_frames=N_FRAMES):
    """`Mouth` of the person in a FaceTrack and its frames (see `photometric_frames`); None for other models than
    the open head, whose teeth and tongue it knows."""
    if model.name != "open":
        return None
    shift = torch.zeros(model.n_vertices, 3)
    for name, by in SETTLED.items():
        shift[model.regions[name]] = torch.tensor(by)
    keys = open_frames(track, n_frames)
    views = [(t, frame, FrameGeometry(track, model, t, shift)) for t, frame in chosen(track, frames, keys)]
    hiding = np.isin(model.triangles, np.concatenate([model.regions[name] for name in SETTLED])).all(1)
    level = _skin_level(track, frames, model)
    layers = {name: _layer(track, model, views, parts, hiding, level) for name, parts in LAYERS.items()}
    return Mouth(layers, len(keys))


def open_frames(track, n):
    """Ids of up to n valid frames whose lips stand widest apart, at least a twelfth of a second from each other."""
    opening = landmarks.lip_opening(track.landmarks) / landmarks.interocular(track.landmarks)
    opening = np.where(track.valid, opening, 0)
    apart, out = max(1, round(track.fps / 12)), []
    for t in np.argsort(-opening, kind="stable"):
        if len(out) == n or opening[t] < LEAST_OPENING:
            break
        if all(abs(t - other) >= apart for other in out):
            out.append(int(t))
    return np.sort(np.array(out, int))


def _layer(track, model, views, parts, hiding, level):
    """`Layer` of some parts of the mouth; views: [(t, frame, FrameGeometry)]."""
    ids = np.concatenate([model.regions[name] for name in parts])
    triangles = model.triangles[np.isin(model.triangles, ids).all(1)]
    rast, origin = _front_view(model.mean.numpy(), ids, triangles)
    drawn = rast[..., 3] > 0
    made = _made(model, rast, triangles, level)
    colours = np.zeros((len(views), *drawn.shape, 3), np.float32)
    weights = np.zeros((len(views), *drawn.shape), np.float32)
    for k, (t, frame, geometry) in enumerate(views):
        colours[k], weights[k] = _looked_up(geometry, frame, track.landmarks[t], rast, triangles, drawn, hiding)
    if not views:
        return Layer(made * UNSEEN_GAIN, np.zeros(drawn.shape, np.float32), origin)
    colour, _ = blend(colours, weights, NEAR_LEVELS)
    total = weights.sum(0)
    confidence = (total / (total + ENOUGH) * (1 + ENOUGH / len(views))).clip(0, 1)
    confidence = np.where(total > 0, np.minimum(cv2.GaussianBlur(confidence, (0, 0), 1.0), confidence), 0)
    gain = np.full(3, UNSEEN_GAIN)
    if confidence.sum() > LEAST_SEEN * drawn.sum():
        gain = (confidence[..., None] * colour).sum((0, 1)) / np.maximum((confidence[..., None] * made).sum((0, 1)), 1)
    made = made * gain.clip(0.2, 1.0)
    colour = made + confidence[..., None] * (colour - made)
    return Layer(colour.astype(np.float32), confidence.astype(np.float32), origin)


def _front_view(mean, ids, triangles):
    """Triangles drawn as seen from the front: rast (h, w, 4) with y upwards, and the place (x, y) of the first pixel."""
    low, high = mean[ids, :2].min(0) - 2 * STEP_DM, mean[ids, :2].max(0) + 2 * STEP_DM
    width, height = np.ceil((high - low) / STEP_DM).astype(int)
    span = np.array([width, height]) * STEP_DM
    clip = np.concatenate([(mean[:, :2] - low) / span * 2 - 1, -0.5 * mean[:, 2:], np.ones((len(mean), 1))], 1)
    rast = rasterizer.rasterize(clip[None].astype(np.float32), triangles, (int(height), int(width)))[0]
    return rast, tuple((low + STEP_DM / 2).tolist())


def _made(model, rast, triangles, level):
    """Colours (h, w, 3) of a made mouth, as bright as goes with skin of brightness `level` 0..255."""
    atlas = made_skin(model, 0, 512)[::-1].astype(np.float32)
    column, row = ((model.uv * len(atlas)).astype(int).clip(0, len(atlas) - 1)).T
    face = model.regions["face"]
    uv = rasterizer.interpolate(model.uv[None].astype(np.float32), rast[None], triangles)
    made = rasterizer.texture(atlas[None], np.ascontiguousarray(uv))[0]
    gain = level / max(float(np.median(atlas[row[face], column[face]])), 1)
    made = made * np.clip(gain, 0.15, 1.2)
    # bilinear look-ups at the rim reach beyond the drawn
    return made.reshape(-1, 3)[unwrap.nearest_drawn(rast[..., 3] > 0)].reshape(made.shape)


def _skin_level(track, frames, model):
    """Median brightness 0..255 of nose and cheeks in the first valid frame."""
    for t, frame in chosen(track, frames, [int(np.argmax(track.valid))]):
        level = float(np.median(unwrap.sample(frame, track.landmarks[t][[4, 50, 280, 205, 425]])))
    return level


def _looked_up(geometry, frame, points, rast, triangles, drawn, hiding):
    """Colour (h, w, 3) and weight (h, w) that a frame gives to the pixels of a layer: those seen between its lips.

    Fitted lips are off by a pixel and would hide what shows: the lips that were found say what lies between them.
    """
    attributes = np.concatenate([geometry.place.numpy(), geometry.cosine[:, None]], 1)[None].astype(np.float32)
    at = rasterizer.interpolate(attributes, rast[None], triangles)[0]
    flat, shown = geometry.shown(at, drawn, frame, geometry.model.triangles[hiding])
    ring = np.concatenate([landmarks.INNER_LIP_UPPER, landmarks.INNER_LIP_LOWER[::-1]])
    mask = np.zeros(frame.shape[:2], np.uint8)
    cv2.fillPoly(mask, [np.round(points[ring] * 16).astype(np.int32)], 255, shift=4)
    far = cv2.distanceTransform(mask, cv2.DIST_L2, 3)  # from the lips' edge
    rim = max(1.0, LIP_RIM * float(landmarks.interocular(points)))
    inner = unwrap.sample(np.repeat(far[..., None], 3, 2), flat)[..., 0]
    weight = shown * np.clip(inner / rim - 0.5, 0, 1) * np.clip(at[..., 3] / 0.3, 0.1, 1)
    return unwrap.sample(frame, flat), weight.astype(np.float32)

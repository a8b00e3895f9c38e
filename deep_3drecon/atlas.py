"""The texture of one person from many frames of a clip: light taken off, robust to hands and glints, without holes.

    person = build_atlas(refined_track, frames, model)
    person.colour        # (S, S, 3) float32 0..255 under even light, first row v = 0, as `rasterizer.texture` wants it
    person.confidence    # (S, S) float32 0..1

Every texel looks up its place in each chosen frame, where the frame shows it. What most frames say, weighed by how squarely they
see it, counts. Texels that no frame shows take those of the other side of the face, and else what their surroundings have.
"""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from deep_3drecon import rasterizer, unwrap
from deep_3drecon.atlas_frames import FrameGeometry, blend
from deep_3drecon.mouth_atlas import LAYERS, Layer, Mouth, inner_parts, learn_mouth
from deep_3drecon.photometric_frames import chosen, key_frames

N_FRAMES = 24
SIZE = 512
BAND_ROWS = 64  # rows of the atlas blended at a time; bounds memory
MIRROR_TRUST = 0.3
WALL = np.array([70.0, 30.0, 28.0])  # sRGB of the dark in a mouth


class TextureError(ValueError):
    """A texture file that cannot be read."""


@dataclass
class PersonTexture:
    """Texture of one person. Arrays are (S, S, ...) with row 0 at v = 0.

    colour (S, S, 3) float32 0..255, filled everywhere; confidence (S, S) float32 0..1: 1 seen often and squarely, up to 0.3
    taken from the other side, 0 made up; mouth: `mouth_atlas.Mouth`, None where the model has no mouth.
    """

    colour: np.ndarray
    confidence: np.ndarray
    mouth: object = None

    def picture(self):
        """(S, S, 3) uint8 with v = 1 in the first row, as texture files are stored."""
        return np.ascontiguousarray(self.colour[::-1].clip(0, 255).round().astype(np.uint8))

    def save(self, path):
        """Write one npz, aside first and then renamed; `load` gives the same numbers back."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {"colour": self.colour, "confidence": self.confidence}
        if self.mouth is not None:
            arrays["mouth_frames"] = self.mouth.n_frames
            for name, layer in self.mouth.layers.items():
                arrays |= {f"mouth_{name}_{key}": value for key, value in vars(layer).items()}
        aside = path.with_name(path.name + ".part.npz")
        np.savez_compressed(aside, **arrays)
        os.replace(aside, path)

    @classmethod
    def load(cls, path):
        """Read what `save` wrote. Nothing is unpickled."""
        try:
            with np.load(path, allow_pickle=False) as npz:
                arrays = dict(npz)
            mouth = None
            if "mouth_frames" in arrays:
                layers = {}
                for name in LAYERS:
                    colour, confidence, origin = (
                        arrays[f"mouth_{name}_{k}"] for k in ("colour", "confidence", "origin")
                    )
                    layers[name] = Layer(colour, confidence, tuple(origin.tolist()))
                mouth = Mouth(layers, int(arrays["mouth_frames"]))
            return cls(arrays["colour"], arrays["confidence"], mouth)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise TextureError(
                f"{path}: not a person's texture ({error}): make the person folder again with scripts/personalize.sh"
            ) from error


def build_atlas(track, frames, model, size=SIZE, n_frames=N_FRAMES):
    """`PersonTexture` from a FaceTrack with light (`photometric.refine_clip`) and its frames (as there)."""
    keys = key_frames(track, n_frames)
    pictures = [frame for _, frame in chosen(track, frames, keys)]
    geometry = [FrameGeometry(track, model, t) for t in keys]
    rast, _ = unwrap.texels(model, np.zeros((1, model.n_vertices, 1), np.float32), size)
    drawn = rast[..., 3] > 0
    colours = np.zeros((len(keys), size, size, 3), np.float32)
    weights = np.zeros((len(keys), size, size), np.float32)
    for k, (view, frame) in enumerate(zip(geometry, pictures, strict=True)):
        colours[k], weights[k] = view.texels(frame, rast, drawn)
    colour, confidence = np.empty((size, size, 3), np.float32), np.empty((size, size), np.float32)
    for top in range(0, size, BAND_ROWS):
        rows = slice(top, top + BAND_ROWS)
        colour[rows], confidence[rows] = blend(colours[:, rows], weights[:, rows])
    confidence[~np.isin(rast[..., 3].astype(int) - 1, np.flatnonzero(_outer_triangles(model)))] = 0
    colour, confidence = _from_other_side(colour, confidence, model, rast)
    colour = _filled(colour, confidence, model, rast, drawn)
    mouth = learn_mouth(track, frames, model)
    if mouth is not None:
        colour, confidence = _with_mouth(colour, confidence, mouth, model, rast)
    return PersonTexture(colour.astype(np.float32), confidence.astype(np.float32), mouth)


def _with_mouth(colour, confidence, mouth, model, rast):
    """Teeth, tongue and walls of the mouth in the texture: from the mouth's layers, the walls made."""
    colour, face = colour.copy(), rast[..., 3].astype(int) - 1
    at = rasterizer.interpolate(model.mean.numpy()[None], rast[None], model.triangles)[0]
    for name, ids in inner_parts(model).items():
        member = np.isin(model.triangles, ids).all(1)
        texels = (face >= 0) & member[face.clip(0)]
        layer = next((mouth.layers[k] for k, parts in LAYERS.items() if name in parts), None)
        if layer is None:
            colour[texels], confidence[texels] = WALL * np.clip(colour.mean() / 150, 0.3, 1.2), 0
        else:
            colour[texels], confidence[texels] = layer.at(at[texels])
    return colour, confidence


def _outer_triangles(model):
    """(F,) bool: skin and eyeballs; what lies in the mouth has its own way."""
    inside = np.zeros(model.n_vertices, bool)
    for ids in inner_parts(model).values():
        inside[ids] = True
    return ~inside[model.triangles].all(1)


def _from_other_side(colour, confidence, model, rast):
    """Texels of little confidence take those at the mirrored place."""
    at = rasterizer.interpolate(model.uv[model.mirror][None].astype(np.float32), rast[None], model.triangles)
    both = np.concatenate([colour, confidence[..., None]], -1)[None].astype(np.float32)
    other = rasterizer.texture(both, np.ascontiguousarray(at))[0]
    trust = other[..., 3] * (rast[..., 3] > 0)
    share = trust * (1 - confidence) ** 2
    share = (share / np.maximum(share + confidence, 1e-6))[..., None]
    # the sides of a face differ in tone, smoothly: only detail is taken over where the own tone is known
    taken = other[..., :3]
    return colour + share * (taken - colour), np.maximum(confidence, MIRROR_TRUST * trust)


def _filled(colour, confidence, model, rast, drawn):
    """Texels without confidence take a smooth fill over the surface, and what lies between the islands the nearest texel."""
    size = len(colour)
    column, row = ((model.uv * size).astype(int).clip(0, size - 1)).T
    soft = cv2.GaussianBlur(confidence, (0, 0), size / 256)
    mean = cv2.GaussianBlur(colour * confidence[..., None], (0, 0), size / 256) / np.maximum(soft, 1e-4)[..., None]
    known = confidence[row, column] > 0.1
    picked = mean[row, column]
    fallback = np.median(picked[known], 0) if known.any() else np.full(3, 128.0)
    smooth = unwrap.fill_vertices(picked, known, model.triangles, model.weld, fallback)
    smooth = rasterizer.interpolate(smooth[None], rast[None], model.triangles)[0]
    share = np.clip(confidence / 0.12, 0, 1)
    share = cv2.GaussianBlur(share, (0, 0), size / 340) * share
    colour = smooth + share[..., None] * (colour - smooth)
    return colour.reshape(-1, 3)[unwrap.nearest_drawn(drawn)].reshape(size, size, 3)

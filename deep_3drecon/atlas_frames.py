"""What single frames say of a texture, and what they say together."""

import numpy as np
import torch

from deep_3drecon import camera, rasterizer, unwrap
from deep_3drecon.photometric_light import drawn_shade
from deep_3drecon.shading import sh_basis

NEAR_LEVELS = 18.0  # 0..255: colours that far from the median count for half
LEAST_FACING = 0.3


class FrameGeometry:
    """Where the head of one frame of a track is seen: place (V, 3) in source pixels, cosine (V,) to the camera, normals (V, 3).

    shift (V, 3): displacement of the unposed vertices, dm.
    """

    def __init__(self, track, model, t, shift=None):
        parts = {k: torch.from_numpy(np.array(v[t], np.float32)) for k, v in track.parts().items()}
        vertices = model.vertices(parts["id"], parts["exp"])
        posed = camera.pose(vertices if shift is None else vertices + shift, parts["angle"], parts["trans"])
        back = camera.invert_affine(torch.from_numpy(track.crop[t]).double()).float()
        self.model, self.gamma = model, parts["gamma"]
        self.place = unwrap.places(posed, back)
        self.cosine, self.normals = unwrap.facing(model, posed), model.normals(posed)

    def texels(self, frame, rast, drawn):
        """Colour without light (S, S, 3) and weight (S, S) of what a frame (H, W, 3) uint8 says of each texel."""
        attributes = np.concatenate([self.place.numpy(), self.cosine[:, None], self.normals.numpy()], 1)
        at = rasterizer.interpolate(attributes[None].astype(np.float32), rast[None], self.model.triangles)[0]
        flat, shown = self.shown(at, drawn, frame)
        picture = unwrap.sample(frame, flat)
        normals = torch.nn.functional.normalize(torch.from_numpy(np.ascontiguousarray(at[..., 4:])), dim=-1)
        shade = drawn_shade(sh_basis(normals), self.gamma).numpy()
        weight = shown * np.square((at[..., 3] - LEAST_FACING).clip(0))
        blown = np.clip((252 - picture.max(-1)) / 12, 0, 1)  # what is white by glare has lost its colour
        return picture / shade, (weight * (0.02 + 0.98 * blown)).astype(np.float32)

    def shown(self, at, drawn, frame, triangles=None):
        """Source pixels (S, S, 2) of texels with attributes at (S, S, 4+) and whether the frame shows them (S, S).

        triangles: those that can hide a texel, all by default.
        """
        triangles = self.model.triangles if triangles is None else triangles
        box = unwrap.bounding_box(self.place, 0.02)
        depths = unwrap.depth_picture(self.place, triangles, box)
        flat = at[..., :2] / np.maximum(at[..., 2:3], 1e-6)
        return flat, drawn & unwrap.seen(flat, at[..., 2], at[..., 3], depths, box, frame.shape[1::-1])


def blend(colours, weights, near_levels=NEAR_LEVELS):
    """What most frames say: colours (K, ..., 3), weights (K, ...) -> colour (..., 3), confidence (...) 0..1.

    The weighted median of the brightness, and the mean of the frames whose colour is near the one found there.
    """
    bright = colours.mean(-1)
    order = np.argsort(bright, 0)
    running = np.cumsum(np.take_along_axis(weights, order, 0), 0)
    middle = (running < 0.5 * running[-1:]).sum(0).clip(max=len(colours) - 1)
    pick = np.take_along_axis(order, middle[None], 0)
    median = np.take_along_axis(colours, pick[..., None], 0)
    far = np.abs(colours - median).max(-1) / near_levels
    near = weights / (1 + np.square(far)) ** 2
    total = near.sum(0)
    colour = (colours * near[..., None]).sum(0) / np.maximum(total, 1e-6)[..., None]
    agreed = total / np.maximum(weights.sum(0), 1e-6)
    return colour, (agreed * total / (total + 0.5)).astype(np.float32)

"""Pictures of a posed face model: shaded, as places in its atlas, and laid out flat. Batches, on any device.

A view is the canonical crop of `camera` at some size, first row on top. Atlas pictures have row 0 at v = 0, column 0 at u = 0, so that
(u, v) of a view, taken as (x, y), looks its colour up there; `torch.nn.functional.grid_sample` wants both mapped to [-1, 1].
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from deep_3drecon import camera, rasterizer
from deep_3drecon.photometric_light import drawn_shade
from deep_3drecon.shading import sh_basis, sh_shade

NO_FACE = -1.0  # in pictures of atlas places: outside of [0, 1], so no place of the atlas
GREY = 128.0
SKIN, LIPS, EYE, TOOTH, TONGUE = (198, 160, 140), (178, 98, 96), (236, 236, 232), (238, 234, 222), (190, 96, 96)
# for faces whose light is not known: from above, the front and a little from the side; one row for the three channels
PLAIN_LIGHT = (-0.25, -0.15, 0.27, -0.1, 0.0, 0.0, 0.0, 0.0, 0.0)
DEPTH_TOLERANCE_DM = 0.012
EDGE_STEP_DM = (
    0.15  # a texel near background, or near something nearer than it by this, is not taken: their colour mixes in
)
FULL_FACING = 0.5  # cosine to the camera from which a texel counts fully; below LEAST_FACING not at all
LEAST_FACING = 0.1


@dataclass
class View:
    """How pictures are drawn: pixels a side, triangles drawn (F, 3), frames at a time, rasterizer backend."""

    size: int
    triangles: np.ndarray
    threads: int
    backend: str

    def draw(self, posed, attributes):
        """Vertex attributes (B or 1, V, C) in the view of posed (B, V, 3) -> (B, S, S, C), mask (B, S, S), first row on top."""
        clip = camera.clip_positions(posed).float()
        drawn, mask = rasterizer.raster_attributes(
            clip, self.triangles, attributes, (self.size,) * 2, threads=self.threads, backend=self.backend
        )
        return drawn.flip(1), mask.flip(1)


def triangles_of(model, regions):
    """(F', 3): triangles whose corners all lie in some of the regions; all for None."""
    if regions is None:
        return model.triangles
    unknown = [name for name in regions if name not in model.regions]
    if unknown:
        raise ValueError(f"regions {unknown} came, {model.name} has {', '.join(model.regions)}")
    kept = np.zeros(model.n_vertices, bool)
    for name in regions:
        kept[model.regions[name]] = True
    return np.ascontiguousarray(model.triangles[kept[model.triangles].all(1)])


def plain_colours(model):
    """Colours (V, 3) RGB 0..255 of a model that knows none: one for each part."""
    colours = torch.tensor(SKIN, dtype=torch.float32).repeat(model.n_vertices, 1)
    parts = {"lips": LIPS, "teeth_upper": TOOTH, "teeth_lower": TOOTH, "tongue": TONGUE}
    for name, colour in (parts | {"eyeball_left": EYE, "eyeball_right": EYE}).items():
        colours[torch.as_tensor(model.regions[name])] = torch.tensor(colour, dtype=torch.float32)
    return colours.to(model.mean.device)


def turned_normals(model, shape, angle):
    """Unit normals (B, V, 3) of shape (B, V, 3) turned by angle (B, 3)."""
    return model.normals(shape) @ camera.rotation_matrix(angle).transpose(-1, -2)


def facing(model, shape, posed, angle):
    """Cosine (B, V) between each vertex's normal and its ray to the camera."""
    ray = torch.tensor([0.0, 0.0, camera.CAMERA_Z_DM], device=posed.device) - posed
    return (turned_normals(model, shape, angle) * F.normalize(ray, dim=-1)).sum(-1)


def shaded(view, model, shape, posed, angle, albedo, gamma):
    """Pictures (B, S, S, 3) uint8 of shape (B, V, 3) posed (B, V, 3) by angle (B, 3), lit by gamma (B, 27); black background.

    albedo (B or 1, V, 3), RGB 0..255. Where gamma is all zero no light is known: PLAIN_LIGHT shines.
    """
    plain = torch.tensor(PLAIN_LIGHT, device=gamma.device).repeat(3)
    gamma = torch.where((gamma == 0).all(-1, keepdim=True), plain, gamma)
    drawn, _ = view.draw(posed, sh_shade(albedo.expand(len(posed), -1, -1), turned_normals(model, shape, angle), gamma))
    return to_bytes(drawn)


def textured(view, posed, uv, texture):
    """Pictures (B, S, S, 3) uint8 with the colours of an atlas (A, A, 3) float, whose light is its own; black background."""
    places, mask = view.draw(posed, uv)
    return to_bytes(rasterizer.texture(texture[None], places, mask=mask, threads=view.threads, backend=view.backend))


def textured_and_lit(view, posed, uv, texture, normals, gamma):
    """The same for an atlas under even light, lit by gamma (B, 27); normals (B, V, 3) of `turned_normals`."""
    drawn, mask = view.draw(posed, torch.cat([uv.expand(len(posed), -1, -1), normals], -1))
    places, facing = drawn[..., :2].contiguous(), F.normalize(drawn[..., 2:], dim=-1)
    colour = rasterizer.texture(texture[None], places, mask=mask, threads=view.threads, backend=view.backend)
    return to_bytes(colour * drawn_shade(sh_basis(facing).flatten(1, 2), gamma).view_as(colour))


def atlas_places(view, posed, uv):
    """Where in the atlas each pixel lies: uv (1, V, 2) -> (B, S, S, 2) float32 in [0, 1], NO_FACE where there is none; mask (B, S, S)."""
    places, mask = view.draw(posed, uv)
    return torch.where(mask[..., None], places, NO_FACE), mask


def background(mask):
    """255 outside of the face, as far as it hangs together with the rim: mask (T, H, W) of what is drawn -> the same, uint8.

    Holes inside the face, such as an open mouth, count as face.
    """
    out = np.zeros(mask.shape, np.uint8)
    for empty, result in zip(~np.asarray(mask, bool), out, strict=True):
        _, labels = cv2.connectedComponents(empty.astype(np.uint8), connectivity=4)
        rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        result[np.isin(labels, rim[rim > 0])] = 255
    return out


def draw_flat(view, uv):
    """The triangles drawn in uv space: uv (1, V, 2) -> rast (1, S, S, 4); row 0 at v = 0."""
    flat = torch.cat([uv * 2 - 1, torch.zeros_like(uv[..., :1]), torch.ones_like(uv[..., :1])], -1)
    return rasterizer.rasterize(flat, view.triangles, (view.size,) * 2, backend=view.backend)


def unwrapped(view, atlas, model, batches, images):
    """Yield colours (B, A, A, 3) and weights (B, A, A) of aligned images (T, H, W, 3) uint8; see `unwrap_crops`.

    batches: iterable of parts {name: (B, n)}, shape (B, V, 3), posed shape (B, V, 3).
    """
    start = 0
    for parts, shape, posed in batches:
        crops = torch.from_numpy(np.ascontiguousarray(images[start : start + len(posed)])).to(posed.device).float()
        start += len(posed)
        yield unwrap_crops(view, atlas, posed, facing(model, shape, posed, parts["angle"]), crops)


def frame_textures(unwrapped):
    """A texture of each frame, holes filled: textures (T, A, A, 3) uint8, weights (T, A, A)."""
    made = [(to_bytes(fill(colour, weight)).cpu().numpy(), weight.cpu().numpy()) for colour, weight in unwrapped]
    textures, seen = zip(*made, strict=True)
    return np.concatenate(textures), np.concatenate(seen)


def mean_texture(unwrapped):
    """One texture of all frames, by how squarely they show a texel: (A, A, 3) uint8, largest weight (A, A)."""
    total = share = best = torch.zeros(())
    for colour, weight in unwrapped:
        square = weight.square()[..., None]
        total, share = total.to(colour) + (colour * square).sum(0), share.to(colour) + square.sum(0)
        best = torch.maximum(best.to(weight), weight.amax(0))
    filled = fill((total / share.clamp_min(1e-8))[None], best[None])[0]
    return to_bytes(filled).cpu().numpy(), best.cpu().numpy()


def unwrap_crops(view, atlas, posed, cosine, crops):
    """Colours of crops (B, H, W, 3) float laid out in the atlas -> (B, A, A, 3) and how well each is seen (B, A, A) 0..1.

    atlas (1, A, A, 4) from `draw_flat`; cosine (B, V) from `facing`. A texel is seen if
    it lies in the crop, on the nearest surface and towards the camera; elsewhere the weight is 0 and the colour without meaning.
    """
    attributes = torch.cat([posed, cosine[..., None]], -1).float()
    rast = atlas.expand(len(posed), -1, -1, -1)
    at = rasterizer.interpolate(attributes, rast, view.triangles, threads=view.threads, backend=view.backend)
    pixel = camera.project(at[..., :3])
    place = (pixel + 0.5) / camera.CROP_SIZE
    depth = camera.CAMERA_Z_DM - at[..., 2]
    farthest, nearest = _depth_about(view, posed, place)
    seen = (rast[..., 3] > 0) & (place > 0).all(-1) & (place < 1).all(-1)
    seen &= (depth < farthest + DEPTH_TOLERANCE_DM) & (depth < nearest + EDGE_STEP_DM)
    weight = ((at[..., 3] - LEAST_FACING) / (FULL_FACING - LEAST_FACING)).clamp(0, 1) * seen
    return rasterizer.texture(crops, place.contiguous(), threads=view.threads, backend=view.backend), weight


def _depth_about(view, posed, place):
    """Depth in dm of the surface that shows at places (B, A, A, 2) of the crop: farthest and nearest of nine pixels -> two (B, A, A).

    Farthest, since a pixel may stand for a steep slope. No surface counts as 0.
    """
    depth, _ = view.draw(posed, camera.CAMERA_Z_DM - posed[..., 2:])
    depth = depth.permute(0, 3, 1, 2)
    farthest, nearest = F.max_pool2d(depth, 3, 1, 1)[:, 0], -F.max_pool2d(-depth, 3, 1, 1)[:, 0]
    column, row = (place * view.size).long().clamp(0, view.size - 1).unbind(-1)
    frame = torch.arange(len(posed), device=posed.device)[:, None, None]
    return farthest[frame, row, column], nearest[frame, row, column]


def fill(colour, weight):
    """Atlas pictures without holes: (B, A, A, 3), (B, A, A) -> (B, A, A, 3); unseen texels take the mean of what is seen around them.

    The mean comes from the finest of ever coarser pictures that knows the place (pull and push).
    """
    levels = [(colour.permute(0, 3, 1, 2) * weight[:, None], weight[:, None])]
    while max(levels[-1][1].shape[2:]) > 1:
        levels.append(tuple(F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) for x in levels[-1]))
    total, share = levels[-1]
    filled = total / share.clamp_min(1e-8)
    for total, share in levels[-2::-1]:
        coarse = F.interpolate(filled, size=total.shape[2:], mode="bilinear", align_corners=False)
        sure = (share * 4).clamp(max=1)
        filled = sure * total / share.clamp_min(1e-8) + (1 - sure) * coarse
    return filled.permute(0, 2, 3, 1)


def to_bytes(pictures):
    """Float RGB 0..255 -> uint8."""
    return pictures.clamp(0, 255).round().to(torch.uint8)

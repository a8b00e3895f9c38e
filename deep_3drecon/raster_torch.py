"""The rasterizer in plain torch, for any device: the slow, readable twin of `raster_kernels`, held equal by tests.

It lists every (triangle, pixel of its box) pair, keeps the pairs whose pixel centre is inside, and takes the smallest
depth at each pixel. Conventions and arguments: `rasterizer`.
"""

import torch
import torch.nn.functional as F

SUBPIXEL = 256
REACH = 2.0**21  # pixels


def rasterize(clip_pos, triangles, size, cull):
    """clip_pos (B, V, 4), triangles (F, 3), size (H, W), cull None, "back" or "front" -> rast (B, H, W, 4)."""
    triangles = triangles.to(clip_pos.device, torch.int64)
    return torch.stack([_frame(clip, triangles, size, cull) for clip in clip_pos.detach().float()])


def interpolate(attr, rast, triangles):
    """attr (B or 1, V, C), rast (B, H, W, 4), triangles (F, 3) -> (B, H, W, C)."""
    ids = rast[..., 3].long()
    corners = (
        triangles.to(attr.device, torch.int64)[(ids - 1).clamp_min(0)]
        if len(triangles)
        else ids[..., None].expand(*ids.shape, 3)
    )
    frame = torch.arange(len(rast), device=attr.device)[:, None, None, None] if len(attr) > 1 else 0
    weights = torch.stack([rast[..., 0], rast[..., 1], 1 - rast[..., 0] - rast[..., 1]], -1)
    return (weights[..., None] * attr[frame, corners]).sum(-2) * (ids > 0)[..., None]


def texture(tex, uv):
    """tex (B or 1, H, W, C), uv (B, h, w, 2) -> (B, h, w, C), bilinear, clamped."""
    tex = tex.expand(len(uv), -1, -1, -1).movedim(-1, 1)
    return F.grid_sample(tex, 2 * uv - 1, padding_mode="border", align_corners=False).movedim(1, -1)


def _frame(clip, triangles, size, cull):
    height, width = size
    snapped, depth, good = _to_screen(clip, height, width)
    (ax, ay), (bx, by), (cx, cy) = corners = snapped[triangles].permute(1, 2, 0)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    wanted = {None: area != 0, "back": area > 0, "front": area < 0}[cull] & good[triangles].all(-1)
    limit = torch.tensor([width - 1, height - 1], device=clip.device)[:, None]
    first = torch.div(corners.amin(0) + SUBPIXEL - 1, SUBPIXEL, rounding_mode="floor").clamp_min(0)
    last = torch.minimum(torch.div(corners.amax(0), SUBPIXEL, rounding_mode="floor"), limit)
    columns, rows = (last - first + 1).clamp_min(0) * wanted
    # One entry for each pixel of each box: which triangle, and the pixel's place in the box.
    face = torch.arange(len(triangles), device=clip.device).repeat_interleave(columns * rows)
    begin = (columns * rows).cumsum(0) - columns * rows
    place = torch.arange(len(face), device=clip.device) - begin[face]
    x = first[0, face] + place % columns[face]
    y = first[1, face] + torch.div(place, columns[face], rounding_mode="floor")
    inside, z = _inside(corners[:, :, face], area[face], depth[triangles][face], x, y)
    face, pixel, z = face[inside], (y * width + x)[inside], z[inside]
    nearest = torch.full((height * width,), 2.0, dtype=z.dtype, device=clip.device).scatter_reduce_(0, pixel, z, "amin")
    wins = z == nearest[pixel]
    none = len(triangles)
    shown = torch.full((height * width,), none, device=clip.device).scatter_reduce_(0, pixel[wins], face[wins], "amin")
    rast = clip.new_zeros(height * width, 4)
    drawn = (shown < none).nonzero()[:, 0]
    rast[drawn] = _at_pixels(clip[triangles[shown[drawn]]], shown[drawn], drawn, height, width)
    return rast.view(height, width, 4)


def _to_screen(clip, height, width):
    """Snapped (V, 2) int64 in 1/256 pixel, z/w (V,), and which vertices can be drawn (V,)."""
    w = clip[:, 3]
    pixel = (clip[:, :2] / w[:, None] + 1) * (0.5 * clip.new_tensor([width, height])) - 0.5
    good = (w > 1e-6) & w.isfinite() & (clip[:, 2].abs() <= w) & (pixel.abs() < REACH).all(-1)
    snapped = torch.where(good[:, None], (pixel * SUBPIXEL + 0.5).floor(), 0).long()
    return snapped, (clip[:, 2] / w).double(), good


def _inside(corners, area, depth, x, y):
    """Whether pixel centres (N,) are in triangles with corners (3, 2, N), area (N,), depth (N, 3), and z/w there."""
    turn = area.sign()
    inside = torch.ones_like(area, dtype=torch.bool)
    z = torch.zeros(len(area), dtype=torch.float64, device=area.device)
    for k in range(3):
        (px, py), (qx, qy) = corners[(k + 1) % 3], corners[(k + 2) % 3]
        dx, dy = (qx - px) * turn, (qy - py) * turn
        edge = dx * (SUBPIXEL * y - py) - dy * (SUBPIXEL * x - px)
        inside &= (edge > 0) | ((edge == 0) & ((dy < 0) | ((dy == 0) & (dx > 0))))
        z += edge / area.abs() * depth[:, k]
    return inside, z


def _at_pixels(clip, face, pixel, height, width):
    """(u, v, z/w, id + 1) (N, 4) of triangles with clip positions (N, 3, 4) at flat pixel numbers (N,)."""
    clip = clip.double()
    x = (2 * (pixel % width) + 1) / width - 1
    y = (2 * torch.div(pixel, width, rounding_mode="floor") + 1) / height - 1
    ray = clip[..., :2] - torch.stack([x, y], -1)[:, None] * clip[..., 3:]
    volumes = torch.stack(
        [ray[:, k - 2, 0] * ray[:, k - 1, 1] - ray[:, k - 2, 1] * ray[:, k - 1, 0] for k in range(3)], -1
    )
    uv = (volumes[:, :2] / volumes.sum(-1, keepdim=True)).nan_to_num(0.0).clamp(0, 1)
    uv = uv / uv.sum(-1, keepdim=True).clamp_min(1)
    weights = torch.cat([uv, 1 - uv.sum(-1, keepdim=True)], -1)
    z, w = (weights[..., None] * clip[..., 2:]).sum(1).unbind(-1)
    return torch.cat([uv, torch.stack([z / w, face.double() + 1], -1)], -1).float()

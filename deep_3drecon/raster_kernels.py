"""The numba loops behind `rasterizer`: conventions and meaning of the arguments are written there.

Drawing has two passes. The first finds the nearest triangle of every pixel from snapped integer edge functions, touching only
the pixels in each triangle's box. The second computes weights or attributes once for each visible pixel from the unsnapped
clip-space positions. All arrays are C-contiguous and checked by the caller.
"""

import numba
import numpy as np

SUBPIXEL_BITS = 8
SUBPIXEL = 1 << SUBPIXEL_BITS
REACH = float(1 << 21)  # pixels; products of two snapped differences stay below 2**63
W_MIN = 1e-6
OUTSIDE = -(1 << 31)  # screen x of a vertex whose triangles are left out

# No "nnan" or "ninf": comparisons must stay false for NaN, that is how bad vertices are found.
_jit = numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")


@_jit
def _to_screen(clip, height, width, screen, depth):
    """Snapped screen position (V, 2) int32 in 1/256 pixel, the first pixel's centre at 0, and z/w (V,)."""
    for i in range(clip.shape[0]):
        w = clip[i, 3]
        screen[i, 0] = OUTSIDE
        if w > W_MIN and clip[i, 2] >= -w:
            x = (clip[i, 0] / w + 1.0) * (0.5 * width) - 0.5
            y = (clip[i, 1] / w + 1.0) * (0.5 * height) - 0.5
            if abs(x) < REACH and abs(y) < REACH:
                screen[i, 0] = np.int32(np.floor(x * SUBPIXEL + 0.5))
                screen[i, 1] = np.int32(np.floor(y * SUBPIXEL + 0.5))
                depth[i] = clip[i, 2] / w


@_jit
def _edge(ax, ay, bx, by, x, y):
    """Twice the area of (a, b, pixel centre), less one where the edge does not own its points: drawn where >= 0.

    Of two triangles that share the edge one sees it from a to b and one from b to a, and only one direction owns.
    The value is floored to whole pixels: steps between pixel centres are whole, so its sign is still exact.
    """
    dx, dy = bx - ax, by - ay
    owned = dy < 0 or (dy == 0 and dx > 0)
    value = dx * (SUBPIXEL * y - ay) - dy * (SUBPIXEL * x - ax)
    return (value if owned else value - 1) >> SUBPIXEL_BITS


@_jit
def _visible(clip, tri, cull, z_buffer, ids):
    """Nearest triangle of each pixel: ids (H, W) int32 = id + 1 or 0, by way of z_buffer (H, W) float32."""
    height, width = ids.shape
    screen = np.empty((clip.shape[0], 2), np.int32)
    depth = np.empty(clip.shape[0], np.float32)
    _to_screen(clip, height, width, screen, depth)
    z_buffer[:] = 1.0
    ids[:] = 0
    for f in range(tri.shape[0]):
        a, b, c = tri[f, 0], tri[f, 1], tri[f, 2]
        ax, bx, cx = np.int64(screen[a, 0]), np.int64(screen[b, 0]), np.int64(screen[c, 0])
        if min(ax, bx, cx) == OUTSIDE:
            continue
        ay, by, cy = np.int64(screen[a, 1]), np.int64(screen[b, 1]), np.int64(screen[c, 1])
        left = max((min(ax, bx, cx) + SUBPIXEL - 1) >> SUBPIXEL_BITS, 0)
        right = min(max(ax, bx, cx) >> SUBPIXEL_BITS, width - 1)
        bottom = max((min(ay, by, cy) + SUBPIXEL - 1) >> SUBPIXEL_BITS, 0)
        top = min(max(ay, by, cy) >> SUBPIXEL_BITS, height - 1)
        if left > right or bottom > top:
            continue
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0 or (cull > 0 and area < 0) or (cull < 0 and area > 0):
            continue
        az, bz, cz = np.float64(depth[a]), np.float64(depth[b]), np.float64(depth[c])
        scale = SUBPIXEL / np.float64(area)
        z_dx = ((bz - az) * (cy - ay) - (cz - az) * (by - ay)) * scale
        z_dy = ((cz - az) * (bx - ax) - (bz - az) * (cx - ax)) * scale
        if area < 0:
            bx, by, cx, cy = cx, cy, bx, by
        z_row = np.float32(az + z_dx * (left - ax / SUBPIXEL) + z_dy * (bottom - ay / SUBPIXEL))
        z_dx, z_dy = np.float32(z_dx), np.float32(z_dy)
        row_a = _edge(ax, ay, bx, by, left, bottom)
        row_b = _edge(bx, by, cx, cy, left, bottom)
        row_c = _edge(cx, cy, ax, ay, left, bottom)
        for y in range(bottom, top + 1):
            ea, eb, ec, z = row_a, row_b, row_c, z_row
            for x in range(left, right + 1):
                if (ea | eb | ec) >= 0 and z < z_buffer[y, x]:
                    z_buffer[y, x] = z
                    ids[y, x] = f + 1
                ea += ay - by
                eb += by - cy
                ec += cy - ay
                z += z_dx
            row_a += bx - ax
            row_b += cx - bx
            row_c += ax - cx
            z_row += z_dy


@_jit
def _weights(clip, a, b, c, px, py):
    """Perspective-correct weights of vertices a and b at the point (px, py) of the screen, -1..1.

    The ray through the point meets the triangle where three small volumes, one for each corner, balance; no division by w.
    Snapped coverage may reach 1/512 pixel past the true edge: there the weights are held inside the triangle.
    """
    ax, ay = np.float64(clip[a, 0]) - px * clip[a, 3], np.float64(clip[a, 1]) - py * clip[a, 3]
    bx, by = np.float64(clip[b, 0]) - px * clip[b, 3], np.float64(clip[b, 1]) - py * clip[b, 3]
    cx, cy = np.float64(clip[c, 0]) - px * clip[c, 3], np.float64(clip[c, 1]) - py * clip[c, 3]
    wa = bx * cy - by * cx
    wb = cx * ay - cy * ax
    total = wa + wb + ax * by - ay * bx
    if total == 0.0:
        return np.float32(1.0 / 3.0), np.float32(1.0 / 3.0)
    scale = 1.0 / total
    u = min(max(wa * scale, 0.0), 1.0)
    v = min(max(wb * scale, 0.0), 1.0)
    if u + v > 1.0:
        scale = 1.0 / (u + v)
        u *= scale
        v *= scale
    return np.float32(u), np.float32(v)


@_jit
def rasterize_frames(clip, tri, cull, rast):
    """clip (B, V, 4), tri (F, 3) -> rast (B, H, W, 4)."""
    _, height, width, _ = rast.shape
    z_buffer = np.empty((height, width), np.float32)
    ids = np.empty((height, width), np.int32)
    for n in range(rast.shape[0]):
        _visible(clip[n], tri, cull, z_buffer, ids)
        for y in range(height):
            py = (2 * y + 1) / height - 1.0
            for x in range(width):
                f = ids[y, x] - 1
                if f < 0:
                    rast[n, y, x, :] = 0.0
                    continue
                a, b, c = tri[f, 0], tri[f, 1], tri[f, 2]
                u, v = _weights(clip[n], a, b, c, (2 * x + 1) / width - 1.0, py)
                t = np.float32(1.0) - u - v
                w = u * clip[n, a, 3] + v * clip[n, b, 3] + t * clip[n, c, 3]
                rast[n, y, x, 0] = u
                rast[n, y, x, 1] = v
                rast[n, y, x, 2] = (u * clip[n, a, 2] + v * clip[n, b, 2] + t * clip[n, c, 2]) / w
                rast[n, y, x, 3] = f + 1


@_jit
def attribute_frames(clip, tri, attr, cull, out, mask):
    """clip (B, V, 4), tri (F, 3), attr (B or 1, V, C) -> out (B, H, W, C), mask (B, H, W)."""
    _, height, width, channels = out.shape
    z_buffer = np.empty((height, width), np.float32)
    ids = np.empty((height, width), np.int32)
    for n in range(out.shape[0]):
        _visible(clip[n], tri, cull, z_buffer, ids)
        values = attr[n if attr.shape[0] > 1 else 0]
        for y in range(height):
            py = (2 * y + 1) / height - 1.0
            for x in range(width):
                f = ids[y, x] - 1
                mask[n, y, x] = f >= 0
                if f < 0:
                    out[n, y, x, :] = 0.0
                    continue
                a, b, c = tri[f, 0], tri[f, 1], tri[f, 2]
                u, v = _weights(clip[n], a, b, c, (2 * x + 1) / width - 1.0, py)
                t = np.float32(1.0) - u - v
                for k in range(channels):
                    out[n, y, x, k] = u * values[a, k] + v * values[b, k] + t * values[c, k]


@_jit
def interpolate_frames(attr, rast, tri, out):
    """attr (B or 1, V, C), rast (B, H, W, 4) -> out (B, H, W, C). Returns False if rast names a triangle that tri lacks."""
    n_frames, height, width, channels = out.shape
    for n in range(n_frames):
        values = attr[n if attr.shape[0] > 1 else 0]
        for y in range(height):
            for x in range(width):
                f = np.int64(rast[n, y, x, 3]) - 1
                if f < 0:
                    out[n, y, x, :] = 0.0
                    continue
                if f >= tri.shape[0]:
                    return False
                a, b, c = tri[f, 0], tri[f, 1], tri[f, 2]
                u, v = rast[n, y, x, 0], rast[n, y, x, 1]
                t = np.float32(1.0) - u - v
                for k in range(channels):
                    out[n, y, x, k] = u * values[a, k] + v * values[b, k] + t * values[c, k]
    return True


@_jit
def _texel(position, n):
    """The two rows (or columns) around a texture coordinate, clamped, and the share of the second."""
    place = position * n - np.float32(0.5)
    if not place > 0.0:
        return 0, 0, np.float32(0.0)
    if place >= n - 1:
        return n - 1, n - 1, np.float32(0.0)
    first = np.int64(place)
    return first, first + 1, np.float32(place - first)


@_jit
def texture_frames(tex, uv, mask, out):
    """tex (B or 1, H, W, C), uv (B, h, w, 2), mask (B, h, w) or (0, 0, 0) for everywhere -> out (B, h, w, C)."""
    n_frames, height, width, channels = out.shape
    for n in range(n_frames):
        texels = tex[n if tex.shape[0] > 1 else 0]
        for y in range(height):
            for x in range(width):
                if mask.shape[0] > 0 and not mask[n, y, x]:
                    out[n, y, x, :] = 0.0
                    continue
                left, right, across = _texel(uv[n, y, x, 0], texels.shape[1])
                first, second, down = _texel(uv[n, y, x, 1], texels.shape[0])
                for k in range(channels):
                    upper = texels[first, left, k] + across * (texels[first, right, k] - texels[first, left, k])
                    lower = texels[second, left, k] + across * (texels[second, right, k] - texels[second, left, k])
                    out[n, y, x, k] = upper + down * (lower - upper)

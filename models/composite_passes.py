"""The last two passes of a frame: the drawn head as a layer, and layer over moving surroundings over the still portrait.

Displacement: where in the portrait a pixel takes its colour from, minus where it is; work pixels, (x, y). Zero means untouched, so
a head in the portrait's own pose gives the portrait back bit by bit. Geometry may be drawn coarser than the picture: only
displacements and made colours are enlarged, never the portrait itself.
"""

import cv2
import numba
import numpy as np

from deep_3drecon import shading
from deep_3drecon.mouth_atlas import STEP_DM
from deep_3drecon.photometric_light import SHADES
from deep_3drecon.shading import AMBIENT

_jit = numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")
_inline = numba.njit(nogil=True, inline="always", fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")

EMPTY, PLAIN, MIXED = 0, 1, 2  # what the four cells about a pixel hold: nothing, portrait only, anything else
CHANNELS = 7
K0, K1, K2 = (np.float32(k) for k in (shading.K0, shading.K1, shading.K2))
K2_3 = np.float32(shading.K2 / (2 * 3**0.5))
SHADE_LOW, SHADE_HIGH = (np.float32(s) for s in SHADES)
RIM_LOW, RIM_HIGH = (
    np.float32(0.15),
    np.float32(0.45),
)  # facing of the outline's rim, on which made colour does not count
PER_DM = np.float32(1 / STEP_DM)


def head_layer(at, mask, texture, box, light, made):
    """The drawn head: layer (G, G, 7) float32 and kinds (G, G) uint8.

    Layer: share p of the portrait, p dx, p dy, made colour (3) times its share, coverage; all but the displacement 0..1 or 0..255.
    kinds: EMPTY, PLAIN or MIXED for the square between the cell and its right, lower and diagonal neighbours.
    at (G, G, 6) float32: place in the portrait (x d, y d, d), uv and, above 0, "needs the texture"; changed in place.
    mask (G, G) bool, texture (S, S, 6) of the material, box (left, top, side), light 0..1 that reaches into the mouth,
    made 0..1 how far made colour may replace what the portrait does not show; 0 gives the portrait back.
    """
    layer = np.empty((*mask.shape, CHANNELS), np.float32)
    inside = np.zeros(mask.shape, np.float32)
    kinds = np.zeros(mask.shape, np.uint8)
    _divide(at, mask)
    _head_layer(at, mask, texture, np.asarray(box, np.float32), np.float32(made), layer, inside)
    rows = np.flatnonzero(inside.any(1))
    if len(rows):
        # a place whose surroundings are lips lies in their shadow
        columns = np.flatnonzero(inside[rows].any(0))
        radius = max(1, mask.shape[0] // 64)
        low = max(rows[0] - radius, 0), max(columns[0] - radius, 0)
        part = np.s_[low[0] : rows[-1] + radius + 1, low[1] : columns[-1] + radius + 1]
        around = cv2.blur(inside[part], (2 * radius + 1, 2 * radius + 1), borderType=cv2.BORDER_CONSTANT)
        _shade_inside(layer[part], inside[part], around, np.float32(light))
    _kinds(layer, kinds)
    return layer, kinds


@_jit
def _divide(at, mask):
    """First two channels of `at` from homogeneous to pixels, in place."""
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                scale = np.float32(1.0) / at[y, x, 2]
                at[y, x, 0] *= scale
                at[y, x, 1] *= scale


@_inline
def _step(at, mask, y0, x0, y1, x1):
    """Squared distance in the portrait between two cells, or 0 where one is empty."""
    if y1 < 0 or x1 < 0 or y1 >= mask.shape[0] or x1 >= mask.shape[1] or not mask[y1, x1]:
        return np.float32(0.0)
    dx, dy = at[y1, x1, 0] - at[y0, x0, 0], at[y1, x1, 1] - at[y0, x0, 1]
    return dx * dx + dy * dy


@_jit
def _texel(texture, u, v, out):
    """Bilinear look-up, row 0 of the texture at v = 0."""
    size = texture.shape[0]
    column = min(max(u * size - np.float32(0.5), np.float32(0.0)), np.float32(size - 1.001))
    row = min(max(v * size - np.float32(0.5), np.float32(0.0)), np.float32(size - 1.001))
    i, j = np.int64(row), np.int64(column)
    fi, fj = row - np.float32(i), column - np.float32(j)
    one = np.float32(1.0)
    a, b, c, d = (one - fi) * (one - fj), (one - fi) * fj, fi * (one - fj), fi * fj
    for k in range(6):
        out[k] = (
            a * texture[i, j, k] + b * texture[i, j + 1, k] + c * texture[i + 1, j, k] + d * texture[i + 1, j + 1, k]
        )


@_jit
def _head_layer(at, mask, texture, box, made, layer, inside):
    height, width = mask.shape
    cell = box[2] / np.float32(height)
    one, zero = np.float32(1.0), np.float32(0.0)
    texel = np.empty(6, np.float32)
    for y in range(height):
        for x in range(width):
            if not mask[y, x]:
                layer[y, x, :] = zero
                continue
            dx = at[y, x, 0] - (box[0] + (x + np.float32(0.5)) * cell)
            dy = at[y, x, 1] - (box[1] + (y + np.float32(0.5)) * cell)
            share = one
            if made > zero and at[y, x, 5] > zero:
                _texel(texture, at[y, x, 3], at[y, x, 4], texel)
                share = texel[3]
                if texel[5] > np.float32(0.01):
                    across = max(_step(at, mask, y, x, y, x - 1), _step(at, mask, y, x, y, x + 1))
                    down = max(_step(at, mask, y, x, y - 1, x), _step(at, mask, y, x, y + 1, x))
                    stretch = np.sqrt(min(across, down)) / cell
                    t = min(max(2 * stretch / texel[5] - one, zero), one)
                    share *= t * t * (3 - 2 * t)
                share = one - (one - share) * made
                inside[y, x] = texel[4] * (one - share)
            for k in range(3):
                layer[y, x, 3 + k] = (one - share) * texel[k] if share < one else zero
            layer[y, x, 0] = share
            layer[y, x, 1] = share * dx
            layer[y, x, 2] = share * dy
            layer[y, x, 6] = one


@_jit
def _shade_inside(layer, inside, around, light):
    for y in range(inside.shape[0]):
        for x in range(inside.shape[1]):
            if inside[y, x] > 0:
                depth = min(max((around[y, x] - np.float32(0.2)) / np.float32(0.6), np.float32(0.0)), np.float32(1.0))
                gain = (np.float32(0.8) + np.float32(0.2) * depth) * light
                gain = np.float32(1.0) - inside[y, x] * (np.float32(1.0) - gain)
                for k in range(3, 6):
                    layer[y, x, k] *= gain


def cell_kinds(layer):
    """kinds (G, G) uint8 of a layer (G, G, 7), as `head_layer` gives them."""
    kinds = np.zeros(layer.shape[:2], np.uint8)
    _kinds(layer, kinds)
    return kinds


@_jit
def _kinds(layer, kinds):
    for y in range(kinds.shape[0] - 1):
        for x in range(kinds.shape[1] - 1):
            cover = layer[y, x, 6] + layer[y, x + 1, 6] + layer[y + 1, x, 6] + layer[y + 1, x + 1, 6]
            if cover > 0:
                share = layer[y, x, 0] + layer[y, x + 1, 0] + layer[y + 1, x, 0] + layer[y + 1, x + 1, 0]
                kinds[y, x] = PLAIN if cover == 4 and share == 4 else MIXED


def paint_head(at, mask, colour, layers, gamma, made, corner, planes, uv):
    """Draw the textured head into planes (11, s, s) and uv (s, s, 2); returns its layer (s, s, 7) as `head_layer`.

    at (s, s, 14): place in the source (x d, y d, d), seen there 0..1, normal (3), uv (2), inside of the mouth, mouth, place on the mean
    head (2), mouth layer; mask (s, s); colour (A, A, 3) of the atlas; layers: two of (colour (h, w, 3), origin (2,)); gamma (27,) light;
    made 0..1: how far made colour may replace what the source does not show, 0 gives the source back; corner: row and column of the
    first pixel. Planes from the fourth on: mesh (3) in [0, 1], mask, mouth, normals (3); 0 where there is no head.
    """
    layer = np.zeros((*mask.shape, CHANNELS), np.float32)
    light = np.ascontiguousarray(gamma.reshape(3, 9) + np.array([AMBIENT] + [0.0] * 8), np.float32)
    (upper, upper_at), (lower, lower_at) = layers
    places = np.asarray(corner, np.float32)
    _paint_head(at, mask, colour, upper, upper_at, lower, lower_at, light, np.float32(made), places, planes, uv, layer)
    _soften(at, mask, np.concatenate([layer, planes[3:6].transpose(1, 2, 0)], -1), layer, planes)
    return layer


@_jit
def _soften(at, mask, before, layer, planes):
    """Lips and mouth as means over three by three pixels: teeth, lips and dark lie within a pixel of each other and would alias."""
    for y in range(1, mask.shape[0] - 1):
        for x in range(1, mask.shape[1] - 1):
            if not mask[y, x] or at[y, x, 10] < np.float32(0.5):
                continue
            for k in range(CHANNELS + 3):
                total = np.float32(0.0)
                for i in range(-1, 2):
                    row = before[y + i, x - 1, k] + np.float32(2.0) * before[y + i, x, k] + before[y + i, x + 1, k]
                    total += row * (np.float32(2.0) if i == 0 else np.float32(1.0))
                total *= np.float32(1.0 / 16.0)
                if k < CHANNELS:
                    layer[y, x, k] = total
                else:
                    planes[3 + k - CHANNELS, y, x] = total


@_jit
def lay_picture(picture, top, left, planes):
    """Square of a picture (S, S, 3) uint8 as the first three planes (., s, s), in [0, 1]."""
    for y in range(planes.shape[1]):
        for x in range(planes.shape[2]):
            for k in range(3):
                planes[k, y, x] = np.float32(picture[top + y, left + x, k]) * np.float32(1.0 / 255.0)


@_inline
def _look_up(picture, row, column, out):
    """Bilinear colour at a place in pixels, held inside."""
    row = min(max(row, np.float32(0.0)), np.float32(picture.shape[0] - 1.001))
    column = min(max(column, np.float32(0.0)), np.float32(picture.shape[1] - 1.001))
    i, j = np.int64(row), np.int64(column)
    fi, fj = row - np.float32(i), column - np.float32(j)
    for k in range(3):
        low = picture[i, j, k] + fj * (picture[i, j + 1, k] - picture[i, j, k])
        high = picture[i + 1, j, k] + fj * (picture[i + 1, j + 1, k] - picture[i + 1, j, k])
        out[k] = low + fi * (high - low)


@_jit
def _paint_head(at, mask, colour, upper, upper_at, lower, lower_at, light, made, corner, planes, uv, layer):
    one, zero, half = np.float32(1.0), np.float32(0.0), np.float32(0.5)
    size = np.float32(colour.shape[0])
    value = np.empty(3, np.float32)
    bands = np.empty(9, np.float32)
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if not mask[y, x]:
                for k in range(3, 11):
                    planes[k, y, x] = zero
                uv[y, x, 0] = uv[y, x, 1] = zero
                continue
            inside = at[y, x, 9]
            planes[6, y, x], planes[7, y, x] = one, at[y, x, 10]
            uv[y, x, 0], uv[y, x, 1] = at[y, x, 7], at[y, x, 8]
            if at[y, x, 13] > 1.5:
                _look_up(lower, (at[y, x, 12] - lower_at[1]) * PER_DM, (at[y, x, 11] - lower_at[0]) * PER_DM, value)
            elif at[y, x, 13] > 0.5:
                _look_up(upper, (at[y, x, 12] - upper_at[1]) * PER_DM, (at[y, x, 11] - upper_at[0]) * PER_DM, value)
            else:
                _look_up(colour, at[y, x, 8] * size - half, at[y, x, 7] * size - half, value)
            nx, ny, nz = at[y, x, 4], at[y, x, 5], at[y, x, 6]
            scale = one / np.sqrt(max(nx * nx + ny * ny + nz * nz, np.float32(1e-12)))
            nx, ny, nz = nx * scale, ny * scale, nz * scale
            planes[8, y, x], planes[9, y, x], planes[10, y, x] = nx, ny, nz
            bands[0] = K0
            bands[1], bands[2], bands[3] = -K1 * ny, K1 * nz, -K1 * nx
            bands[4], bands[5], bands[7] = K2 * nx * ny, -K2 * ny * nz, -K2 * nx * nz
            bands[6], bands[8] = K2_3 * (3 * nz * nz - one), half * K2 * (nx * nx - ny * ny)
            for k in range(3):
                shade = zero
                for band in range(9):
                    shade += light[k, band] * bands[band]
                shade = min(max(shade, SHADE_LOW), SHADE_HIGH)
                # the mouth keeps the light it was seen in
                value[k] = min(max(value[k] * (shade + inside * (one - shade)), zero), np.float32(255.0))
                planes[3 + k, y, x] = value[k] * np.float32(1.0 / 255.0)
            share = min(max(at[y, x, 3], zero), one) * (one - min(inside, one))
            share = one - (one - share) * made
            depth = one / at[y, x, 2]
            layer[y, x, 0] = share
            layer[y, x, 1] = share * (at[y, x, 0] * depth - (x + corner[1]))
            layer[y, x, 2] = share * (at[y, x, 1] * depth - (y + corner[0]))
            # along the outline the source shows little of the surface: its surroundings go on there
            t = min(max((nz - RIM_LOW) / (RIM_HIGH - RIM_LOW), zero), one)
            paint = (one - share) * max(min(inside, one), t * t * (3 - 2 * t))
            for k in range(3):
                layer[y, x, 3 + k] = paint * value[k]
            layer[y, x, 6] = share + paint


def surroundings(follow, start, moved, region):
    """Displacement field (N, N, 2) float32 of the surroundings on the grid over the region.

    follow (N, N) share of the head's motion, start and moved (N, N, 2) work pixels of the grid before and after the head's
    motion. The field answers where a place comes from, so it is found by iteration: d(p) = -forward(p + d(p)).
    """
    forward = ((moved - start) * follow[..., None]).astype(np.float32)
    n = len(follow)
    cells = np.float32((n - 1) / region[2])
    home = np.stack(np.meshgrid(np.arange(n), np.arange(n)), -1).astype(np.float32)
    field = -forward
    for _ in range(5):
        field = -cv2.remap(forward, home + field * cells, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    field[[0, -1]] = 0
    field[:, [0, -1]] = 0
    return field


def compose(frame, canvas, pad, field, region, layer, kinds, box, window=None):
    """Draw into frame (H, W, 3) uint8, a copy of the work picture, everything that moves.

    canvas: the work picture with `pad` reflected pixels on each side; field from `surroundings` over region; layer and kinds from
    `head_layer` over box; region and box (left, top, side) in work pixels. window (top, bottom, left, right): nothing is drawn
    outside of it.
    """
    window = (0, frame.shape[0], 0, frame.shape[1]) if window is None else window
    _compose(
        frame, canvas, pad, field, np.asarray(region, np.float32), layer, kinds, np.asarray(box, np.float32), window
    )
    return frame


@_inline
def _split(canvas, x, y):
    """Row, column and the two weights in 1/256 of a place, held inside the canvas."""
    px = min(max(np.int64(x * 256 + np.float32(0.5)), 0), (canvas.shape[1] - 1) * 256 - 1)
    py = min(max(np.int64(y * 256 + np.float32(0.5)), 0), (canvas.shape[0] - 1) * 256 - 1)
    return py >> 8, px >> 8, py & 255, px & 255


@_inline
def _sample(canvas, i, j, fy, fx, k):
    """Bilinear value of channel k in 1/65536."""
    upper = np.int64(canvas[i, j, k]) * (256 - fx) + np.int64(canvas[i, j + 1, k]) * fx
    lower = np.int64(canvas[i + 1, j, k]) * (256 - fx) + np.int64(canvas[i + 1, j + 1, k]) * fx
    return upper * (256 - fy) + lower * fy


@_jit
def _compose(frame, canvas, pad, field, region, layer, kinds, box, window):
    top, bottom = max(window[0], int(np.ceil(region[1]))), min(window[1], int(np.floor(region[1] + region[2])) + 1)
    left, right = max(window[2], int(np.ceil(region[0]))), min(window[3], int(np.floor(region[0] + region[2])) + 1)
    grid, nodes = layer.shape[0], field.shape[0]
    to_node, to_cell = np.float32((nodes - 1) / region[2]), np.float32(grid / box[2])
    half, one, zero = np.float32(0.5), np.float32(1.0), np.float32(0.0)
    node_row = np.empty((nodes, 2), np.float32)
    cell_row = np.empty((grid, CHANNELS), np.float32)
    blend = np.empty(CHANNELS, np.float32)
    for y in range(top, bottom):
        place = min(max((y - region[1]) * to_node, zero), np.float32(nodes - 1.001))
        i = np.int64(place)
        f = place - np.float32(i)
        for j in range(nodes):
            for k in range(2):
                node_row[j, k] = field[i, j, k] + f * (field[i + 1, j, k] - field[i, j, k])
        place = (y - box[1]) * to_cell - half
        ci = np.int64(place) if place >= 0 else np.int64(-1)
        on_head = 0 <= ci < grid - 1
        if on_head:
            f = place - np.float32(ci)
            for j in range(grid):
                for k in range(CHANNELS):
                    cell_row[j, k] = layer[ci, j, k] + f * (layer[ci + 1, j, k] - layer[ci, j, k])
        for x in range(left, right):
            kind, cj, f = EMPTY, 0, zero
            if on_head:
                place = (x - box[0]) * to_cell - half
                cj = np.int64(place) if place >= 0 else np.int64(-1)
                if 0 <= cj < grid - 1:
                    kind = kinds[ci, cj]
                    f = place - np.float32(cj)
            if kind == PLAIN:
                dx = cell_row[cj, 1] + f * (cell_row[cj + 1, 1] - cell_row[cj, 1])
                dy = cell_row[cj, 2] + f * (cell_row[cj + 1, 2] - cell_row[cj, 2])
                r, c, fy, fx = _split(canvas, x + pad + dx, y + pad + dy)
                for k in range(3):
                    frame[y, x, k] = (_sample(canvas, r, c, fy, fx, k) + 32768) >> 16
                continue
            place = min(max((x - region[0]) * to_node, zero), np.float32(nodes - 1.001))
            j = np.int64(place)
            g = place - np.float32(j)
            dx = node_row[j, 0] + g * (node_row[j + 1, 0] - node_row[j, 0])
            dy = node_row[j, 1] + g * (node_row[j + 1, 1] - node_row[j, 1])
            if kind == EMPTY and max(abs(dx), abs(dy)) < np.float32(1.0 / 512):
                continue
            r, c, fy, fx = _split(canvas, x + pad + dx, y + pad + dy)
            if kind == EMPTY:
                for k in range(3):
                    frame[y, x, k] = (_sample(canvas, r, c, fy, fx, k) + 32768) >> 16
                continue
            for k in range(CHANNELS):
                blend[k] = cell_row[cj, k] + f * (cell_row[cj + 1, k] - cell_row[cj, k])
            share = max(blend[0], np.float32(1e-4))
            hr, hc, hy, hx = _split(canvas, x + pad + blend[1] / share, y + pad + blend[2] / share)
            for k in range(3):
                value = blend[3 + k] + blend[0] * np.float32(_sample(canvas, hr, hc, hy, hx, k)) / np.float32(65536)
                value += (one - blend[6]) * np.float32(_sample(canvas, r, c, fy, fx, k)) / np.float32(65536)
                frame[y, x, k] = np.uint8(min(max(value, zero), np.float32(255.0)) + half)

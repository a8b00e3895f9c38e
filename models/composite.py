"""The last two passes of a frame: the drawn head as a layer, and layer over moving surroundings over the still portrait.

Displacement: where in the portrait a pixel takes its colour from, minus where it is; work pixels, (x, y). Zero means untouched, so
a head in the portrait's own pose gives the portrait back bit by bit. Geometry may be drawn coarser than the picture: only
displacements and made colours are enlarged, never the portrait itself.
"""

import cv2
import numba
import numpy as np

_jit = numba.njit(nogil=True, cache=True, fastmath={"contract", "reassoc", "nsz", "arcp"}, error_model="numpy")

STRETCH_LOW, STRETCH_HIGH = 0.22, 0.5  # portrait pixels for one drawn pixel: below the first a place is a smear and made colour replaces it
STILL = 0.02  # pixels; less is no motion


def head_layer(at, mask, texture, box, opening):
    """(G, G, 7) float32 layer = share of portrait p, p dx, p dy, made colour (3) times its share, coverage.

    at (G, G, 5) float32: place in the portrait (x d, y d, d) and uv of what is drawn in each cell, mask (G, G) bool, texture
    (S, S, 5) of the material, box (left, top, side), opening 0..1 light that reaches the inside of the mouth.
    """
    layer = np.empty((*mask.shape, 7), np.float32)
    inside = np.empty(mask.shape, np.float32)
    _places(at, mask, box[0], box[1], box[2] / mask.shape[0])
    _head_layer(at, mask, texture, box[0], box[1], box[2] / mask.shape[0], layer, inside)
    if inside.any():
        # a pixel whose surroundings are lips lies in their shadow
        radius = max(1, mask.shape[0] // 48)
        around = cv2.blur(inside, (2 * radius + 1, 2 * radius + 1))
        _shade_inside(layer, inside, around, np.float32(opening))
    return layer


@_jit
def _places(at, mask, left, top, cell):
    """First two channels of `at` from homogeneous to pixels, in place."""
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                scale = np.float32(1.0) / at[y, x, 2]
                at[y, x, 0] *= scale
                at[y, x, 1] *= scale


@_jit
def _step(at, mask, y0, x0, y1, x1):
    """Distance in the portrait between two cells, or 0 where one is empty."""
    if y1 < 0 or x1 < 0 or y1 >= mask.shape[0] or x1 >= mask.shape[1] or not mask[y1, x1]:
        return np.float32(0.0)
    dx, dy = at[y1, x1, 0] - at[y0, x0, 0], at[y1, x1, 1] - at[y0, x0, 1]
    return np.sqrt(dx * dx + dy * dy)


@_jit
def _head_layer(at, mask, texture, left, top, cell, layer, inside):
    height, width = mask.shape
    size = texture.shape[0]
    for y in range(height):
        for x in range(width):
            inside[y, x] = 0.0
            if not mask[y, x]:
                layer[y, x, :] = 0.0
                continue
            dx = np.float32(at[y, x, 0] - (left + (x + 0.5) * cell))
            dy = np.float32(at[y, x, 1] - (top + (y + 0.5) * cell))
            share, hidden = np.float32(1.0), np.float32(0.0)
            red, green, blue, within = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
            moved = max(abs(dx), abs(dy))
            if moved > STILL:
                column = min(max(at[y, x, 3] * size - np.float32(0.5), np.float32(0.0)), np.float32(size - 1.001))
                row = min(max(at[y, x, 4] * size - np.float32(0.5), np.float32(0.0)), np.float32(size - 1.001))
                i, j = np.int64(row), np.int64(column)
                fi, fj = np.float32(row - i), np.float32(column - j)
                a, b = (1 - fi) * (1 - fj), (1 - fi) * fj
                c, d = fi * (1 - fj), fi * fj
                red = a * texture[i, j, 0] + b * texture[i, j + 1, 0] + c * texture[i + 1, j, 0] + d * texture[i + 1, j + 1, 0]
                green = a * texture[i, j, 1] + b * texture[i, j + 1, 1] + c * texture[i + 1, j, 1] + d * texture[i + 1, j + 1, 1]
                blue = a * texture[i, j, 2] + b * texture[i, j + 1, 2] + c * texture[i + 1, j, 2] + d * texture[i + 1, j + 1, 2]
                share = a * texture[i, j, 3] + b * texture[i, j + 1, 3] + c * texture[i + 1, j, 3] + d * texture[i + 1, j + 1, 3]
                within = a * texture[i, j, 4] + b * texture[i, j + 1, 4] + c * texture[i + 1, j, 4] + d * texture[i + 1, j + 1, 4]
                across = max(_step(at, mask, y, x, y, x - 1), _step(at, mask, y, x, y, x + 1)) / cell
                down = max(_step(at, mask, y, x, y - 1, x), _step(at, mask, y, x, y + 1, x)) / cell
                t = min(max((min(across, down) - STRETCH_LOW) / (STRETCH_HIGH - STRETCH_LOW), 0.0), 1.0)
                share = np.float32(share * t * t * (3 - 2 * t))
                # motion sets in softly, so that the smallest turn does not swap a place's colour at once
                onset = min((moved - STILL) / np.float32(0.5), 1.0)
                share = np.float32(1 - (1 - share) * onset)
                hidden = np.float32(1.0) - share
                inside[y, x] = within * hidden
            layer[y, x, 0] = share
            layer[y, x, 1] = share * dx
            layer[y, x, 2] = share * dy
            layer[y, x, 3] = hidden * red
            layer[y, x, 4] = hidden * green
            layer[y, x, 5] = hidden * blue
            layer[y, x, 6] = 1.0


@_jit
def _shade_inside(layer, inside, around, opening):
    for y in range(inside.shape[0]):
        for x in range(inside.shape[1]):
            if inside[y, x] > 0:
                depth = min(max((around[y, x] - np.float32(0.25)) / np.float32(0.75), 0.0), 1.0)
                light = (np.float32(0.35) + np.float32(0.65) * depth) * opening
                gain = np.float32(1.0) - inside[y, x] * (np.float32(1.0) - light)
                for k in range(3, 6):
                    layer[y, x, k] *= gain


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


def compose(frame, canvas, pad, field, region, layer, box):
    """Draw into frame (H, W, 3) uint8, a copy of the work picture, everything that moves.

    canvas: the work picture with `pad` reflected pixels on each side; field from `surroundings` over region; layer from
    `head_layer` over box; region and box (left, top, side) in work pixels.
    """
    _compose(frame, canvas, pad, field, np.asarray(region, np.float32), layer, np.asarray(box, np.float32))
    return frame


@_jit
def _sample(canvas, x, y, colour):
    """Bilinear colour of canvas at (x, y), clamped, into colour (3,)."""
    x = min(max(x, np.float32(0.0)), np.float32(canvas.shape[1] - 1.001))
    y = min(max(y, np.float32(0.0)), np.float32(canvas.shape[0] - 1.001))
    j, i = np.int64(x), np.int64(y)
    fx, fy = np.float32(x - j), np.float32(y - i)
    for k in range(3):
        upper = canvas[i, j, k] + fx * (np.float32(canvas[i, j + 1, k]) - np.float32(canvas[i, j, k]))
        lower = canvas[i + 1, j, k] + fx * (np.float32(canvas[i + 1, j + 1, k]) - np.float32(canvas[i + 1, j, k]))
        colour[k] = upper + fy * (lower - upper)


@_jit
def _compose(frame, canvas, pad, field, region, layer, box):
    grid, nodes = layer.shape[0], field.shape[0]
    to_node = np.float32((nodes - 1) / region[2])
    to_cell = np.float32(grid / box[2])
    first_row, last_row = max(0, int(np.ceil(region[1]))), min(frame.shape[0], int(np.floor(region[1] + region[2])) + 1)
    first, last = max(0, int(np.ceil(region[0]))), min(frame.shape[1], int(np.floor(region[0] + region[2])) + 1)
    head, behind = np.empty(3, np.float32), np.empty(3, np.float32)
    blend = np.empty(7, np.float32)
    for y in range(first_row, last_row):
        node_y = min(max((y - region[1]) * to_node, np.float32(0.0)), np.float32(nodes - 1.001))
        ni = np.int64(node_y)
        ny = np.float32(node_y - ni)
        cell_y = (y - box[1]) * to_cell - np.float32(0.5)
        ci = np.int64(np.floor(cell_y))
        cy = np.float32(cell_y - ci)
        for x in range(first, last):
            cover = np.float32(0.0)
            cell_x = (x - box[0]) * to_cell - np.float32(0.5)
            cj = np.int64(np.floor(cell_x))
            if 0 <= ci < grid - 1 and 0 <= cj < grid - 1:
                cx = np.float32(cell_x - cj)
                a, b = (1 - cy) * (1 - cx), (1 - cy) * cx
                c, d = cy * (1 - cx), cy * cx
                for k in range(7):
                    blend[k] = a * layer[ci, cj, k] + b * layer[ci, cj + 1, k] + c * layer[ci + 1, cj, k] + d * layer[ci + 1, cj + 1, k]
                cover = blend[6]
            if cover < np.float32(0.999):
                node_x = min(max((x - region[0]) * to_node, np.float32(0.0)), np.float32(nodes - 1.001))
                nj = np.int64(node_x)
                nx = np.float32(node_x - nj)
                a, b = (1 - ny) * (1 - nx), (1 - ny) * nx
                c, d = ny * (1 - nx), ny * nx
                dx = a * field[ni, nj, 0] + b * field[ni, nj + 1, 0] + c * field[ni + 1, nj, 0] + d * field[ni + 1, nj + 1, 0]
                dy = a * field[ni, nj, 1] + b * field[ni, nj + 1, 1] + c * field[ni + 1, nj, 1] + d * field[ni + 1, nj + 1, 1]
                if cover == 0 and dx == 0 and dy == 0:
                    continue
                _sample(canvas, x + pad + dx, y + pad + dy, behind)
            if cover > 0:
                share = blend[0]
                if share > np.float32(1e-4):
                    _sample(canvas, x + pad + blend[1] / share, y + pad + blend[2] / share, head)
                for k in range(3):
                    value = blend[3 + k]
                    if share > np.float32(1e-4):
                        value += share * head[k]
                    if cover < np.float32(0.999):
                        value += (1 - cover) * behind[k]
                    frame[y, x, k] = np.uint8(min(max(value, np.float32(0.0)), np.float32(255.0)) + np.float32(0.5))
            else:
                for k in range(3):
                    frame[y, x, k] = np.uint8(behind[k] + np.float32(0.5))

"""Networks of the neural_texture renderer.

Warper          composite, and where head and torso lie -> a small flow by which the composite is moved before anything is painted: what
                lies a little off comes to its place and stays sharp. It begins as no flow.
Generator       composite and sampled texture -> picture; a U-Net that works at half the picture's size and below, on plain strided
                convolutions, which processors are fast at. It has no norms: a picture does not depend on its batch, nor a part of it on
                the rest, so training may look at patches and inference at whole pictures. It begins as the identity on the composite.
TextureEncoder  atlas of a person -> neural texture, for people who were never trained on.
"""

import math

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from models.stance import N_CONDITIONS

SLOPE = 0.1
REACH = 5  # at half the picture's size: how far about the head the generator may change anything, and over how much that fades


def conv(n_in, n_out, stride=1, kernel=3):
    """Convolution that keeps the size, divided by stride; fan-in init for leaky ReLU."""
    layer = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2)
    nn.init.kaiming_normal_(layer.weight, a=SLOPE)
    nn.init.zeros_(layer.bias)
    return layer


class Residual(nn.Module):
    """x + conv(act(conv(act(x)))); begins as the identity."""

    def __init__(self, width):
        super().__init__()
        self.first, self.second = conv(width, width), conv(width, width)
        nn.init.zeros_(self.second.weight)

    def forward(self, x):
        return x + self.second(F.leaky_relu(self.first(F.leaky_relu(x, SLOPE)), SLOPE))


class Warper(nn.Module):
    """(full (B, 8, S, S), place (B, 2, S/2, S/2), conditions (B, N_CONDITIONS, 1, 1)) -> flow (B, 2, S/4, S/4), pixels of S, x right.

    The warped picture shows at x what the composite shows at x + flow. Flow is linear in the conditions, by shares that the picture and
    the place in the crop (-1..1) decide: so few a person's poses are that anything freer would learn them by heart. It stays
    below `REACH` pixels and vanishes towards the rim of the crop.
    """

    REACH, RIM = 12.0, 0.15  # px; share of the side

    def __init__(self, width=24):
        super().__init__()
        self.enter, self.down = conv(10, width), conv(width, 2 * width, 2)
        self.deep, self.up = Residual(2 * width), conv(2 * width, width, kernel=1)
        self.leave, self.head = conv(width, width), conv(width, 2 * (1 + N_CONDITIONS), kernel=1)
        nn.init.zeros_(self.head.weight)

    def forward(self, full, place, conditions):
        place = F.avg_pool2d(place, 2)
        x = self.enter(torch.cat([F.avg_pool2d(full, 4) - 0.5, place], 1))
        deep = self.deep(self.down(F.leaky_relu(x, SLOPE)))
        x = x + F.interpolate(self.up(F.leaky_relu(deep, SLOPE)), scale_factor=2.0, mode="nearest")
        x = F.leaky_relu(self.leave(F.leaky_relu(x, SLOPE)), SLOPE)
        fields = self.head(x).float()
        still, right, down = fields.split([2, N_CONDITIONS, N_CONDITIONS], 1)
        flow = still + torch.cat([(right * conditions).sum(1, True), (down * conditions).sum(1, True)], 1)
        rim = ((1 - place.abs().amax(1, True)) / (2 * self.RIM)).clamp(0, 1)
        return self.REACH * torch.tanh(flow / self.REACH) * rim


def warp(picture, flow):
    """Picture (B, C, S, S) moved by a flow (B, 2, s, s) in pixels of S, see `Warper`; bilinear. Beyond the rim it goes on."""
    size, n = picture.shape[-1], len(picture)
    axis = torch.arange(size, device=flow.device, dtype=torch.float32)
    still = torch.stack([axis[None, :].expand(size, size), axis[:, None].expand(size, size)], -1)
    flow = F.interpolate(flow.float(), scale_factor=float(size // flow.shape[-1]), mode="bilinear")
    place = (2 * (still + flow.permute(0, 2, 3, 1)) + 1) / size - 1
    return F.grid_sample(picture.float(), place.expand(n, -1, -1, -1), padding_mode="border", align_corners=False)


def place_planes(size, corners=((0, 0),), side=None):
    """Place in the crop of `size` pixels, -1..1, at half its size: (B, 2, side/2, side/2), x and y, of squares at corners (row, column)."""
    axis = (torch.arange(size // 2) + 0.5) * 4 / size - 1
    half = (side or size) // 2
    parts = ((axis[c // 2 : c // 2 + half], axis[r // 2 : r // 2 + half]) for r, c in corners)
    return torch.stack([torch.stack([x[None, :].expand(half, half), y[:, None].expand(half, half)]) for x, y in parts])


class Generator(nn.Module):
    """(full, half, conditions) -> picture (B, 3, S, S) in [0, 1], how much of it is new (B, 1, S, S) in [0, 1], and the flow
    (B, 2, S/4, S/4) by which the background was moved first (`Warper`).

    full (B, 8, S, S): background (3), mesh (3), mask, mouth. half (B, n + 2, S/2, S/2): sampled texture, normals, background of the frame
    before, place in the crop (2). conditions: `stance.Stance`. S is a multiple of 2 ** len(widths). widths: channels at S/2, S/4, ...;
    depths: residual blocks on the way down at each.
    The picture is background + mesh_share (mesh - background) + change * colour: where both vanish it is the moved background. Away from
    the head all change vanishes: hair that lies elsewhere than in the source cannot be repainted, only smeared.
    """

    FULL = 8

    def __init__(self, n_half, widths=(32, 64, 96, 128), depths=(0, 1, 1, 2)):
        super().__init__()
        self.warper = Warper(widths[0])
        self.stem = conv(4 * self.FULL + n_half, widths[0])
        self.down, self.enter = nn.ModuleList(), nn.ModuleList()
        self.up, self.leave = nn.ModuleList(), nn.ModuleList()
        for k, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            self.down.append(conv(widths[k - 1], width, 2) if k else nn.Identity())
            self.enter.append(nn.Sequential(*[Residual(width) for _ in range(depth)]))
        for k in range(len(widths) - 1, 0, -1):
            self.up.append(conv(widths[k], widths[k - 1], kernel=1))
            self.leave.append(nn.Sequential(conv(widths[k - 1], widths[k - 1]), Residual(widths[k - 1])))
        self.head = conv(widths[0], 4 * 5)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            # channels after the shuffle: colour (3), change, mesh_share
            self.head.bias.view(5, 4)[4] = -3.0

    def forward(self, full, half, conditions):
        half, place = half[:, :-2], half[:, -2:]
        flow = self.warper(full, place, conditions)
        background, mesh, mask = warp(full[:, :3], flow), full[:, 3:6], full[:, 6:7]
        full = torch.cat([background, full[:, 3:]], 1)
        x = self.stem(torch.cat([F.pixel_unshuffle(full - 0.5, 2), half], 1))
        skips = []
        for down, enter in zip(self.down, self.enter, strict=True):
            x = enter(down(F.leaky_relu(x, SLOPE)) if skips else x)
            skips.append(x)
        for k, (up, leave) in enumerate(zip(self.up, self.leave, strict=True)):
            wide = F.interpolate(up(F.leaky_relu(x, SLOPE)), scale_factor=2.0, mode="nearest")
            x = leave(F.leaky_relu(wide + skips[-2 - k], SLOPE))
        out = F.pixel_shuffle(self.head(F.leaky_relu(x, SLOPE)), 2)
        change = torch.sigmoid(out[:, 3:4]) * near_head(mask.contiguous())
        base = background + torch.sigmoid(out[:, 4:5]) * mask * (mesh - background)
        picture = base + change * out[:, :3]
        return (picture if self.training else picture.clamp(0, 1)), change, flow


def near_head(mask):
    """Head (B, 1, S, S) 0 or 1 -> 1 on it and about it, falling to 0 within `REACH` pixels of half the size."""
    near = F.max_pool2d(mask, 2)
    for pool in (F.max_pool2d, F.avg_pool2d):  # rows, then columns: the same as squares, several times as fast
        near = pool(pool(near, (REACH, 1), 1, (REACH // 2, 0)), (1, REACH), 1, (0, REACH // 2))
    return F.interpolate(near, scale_factor=2.0, mode="nearest")


class TextureEncoder(nn.Module):
    """Atlas (B, 4, A, A): colour in [0, 1] and confidence -> (B, n, A, A); nothing at first."""

    def __init__(self, n_out, width=32):
        super().__init__()
        self.layers = nn.Sequential(
            conv(4, width // 2, 2), nn.LeakyReLU(SLOPE), conv(width // 2, width, 2), nn.LeakyReLU(SLOPE), Residual(width),
            Residual(width), nn.LeakyReLU(SLOPE), conv(width, 16 * n_out), nn.PixelShuffle(4),
        )  # fmt: skip
        nn.init.zeros_(self.layers[-2].weight)

    def forward(self, atlas):
        return self.layers(atlas - 0.5)


def atlas_tensor(texture, size):
    """What `TextureEncoder` reads of an `atlas.PersonTexture`: (1, 4, size, size)."""
    colour = cv2.resize(texture.colour, (size, size), interpolation=cv2.INTER_AREA) / 255
    sure = cv2.resize(texture.confidence, (size, size), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.concatenate([colour, sure[..., None]], -1)).permute(2, 0, 1)[None].float()


def first_texture(n, size):
    """(n, size, size) numbers that tell places of the atlas apart: sines and cosines of u and v at rising frequencies."""
    axis = (torch.arange(size) + 0.5) / size
    waves = []
    for k in range(math.ceil(n / 4)):
        phase = 2 * math.pi * 2**k * axis
        u, v = phase[None, :].expand(size, size), phase[:, None].expand(size, size)
        waves += [u.sin(), v.sin(), u.cos(), v.cos()]
    return 0.5 * torch.stack(waves[:n])


def sample_texture(texture, uv, mask):
    """Texture (B or 1, n, A, A), row 0 at v = 0, at uv (B, h, w, 2) in [0, 1] -> (B, n, h, w), 0 outside of mask (B, 1, h, w)."""
    with torch.autocast(uv.device.type, enabled=False):  # places in half precision would be texels off
        wide = texture.float().expand(len(uv), -1, -1, -1)
        return F.grid_sample(wide, uv * 2 - 1, padding_mode="border", align_corners=False) * mask

"""Where head and torso of a frame lie, in few numbers: what a predicted warp of the composite depends on.

What a composite misses lies mostly about the head, not in it: collar, neck and shoulders do not follow the head as its surroundings on a
grid do, and a wall does not follow it at all. How far they go is nearly linear in where the head goes and where the torso goes, the
latter being two numbers that film gives and a head does not. Of a motion without film the torso follows the head as it did in the clip.

Places are shares of the crop's side, x right and y down.
"""

import cv2
import numpy as np
import torch
from torch import nn

from deep_3drecon import camera

HEAD = 8  # numbers that say where the head is: places of its origin and of the ends of its axes
TORSO = 2
SIGNS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])  # dm, about the middle of the head
N_STANCE, N_CONDITIONS = HEAD + TORSO, 2 * (HEAD + TORSO)
LEAST_SPREAD = 0.004  # of the side: a number that varies less is measured against this
MOST = 4.0  # spreads from the usual at which a condition stops
WIDTH, TOP = 128, 64  # px of the picture in which the torso is measured, and its first row
TEXTURE = 40.0  # sum of gradients, levels a pixel, from which a place counts in full
SURE_PX, STEPS = 1.0, 5  # miss of a robust fit at which a place counts half; its steps
NECK = 0.5  # of the side: how far above the lower end of the drawn neck the torso may begin
RIDGE = 0.02  # of the fit of torso by head


def head_places(angle, trans, affine, size):
    """Where the head is: angle, trans (B, 3), affine (B, 2, 3) canonical -> crop pixels -> (B, HEAD), shares of `size`."""
    posed = camera.pose(SIGNS.expand(len(angle), -1, -1), angle, trans)
    return ((camera.apply_affine(camera.project(posed), affine) + 0.5) / size).flatten(1)


class Torso:
    """How far the torso lies from where it does in a reference frame. reference (h, WIDTH) uint8 grey, from row TOP on; weight (h, WIDTH)
    float32, 0 where nothing of the torso is expected."""

    def __init__(self, reference, weight):
        self.reference, self.weight = np.ascontiguousarray(reference, np.uint8), np.asarray(weight, np.float32)
        self.flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        x, y = np.meshgrid(*(np.linspace(-1, 1, n) for n in self.reference[::4, ::4].shape[::-1]))
        one, none = np.ones_like(x), np.zeros_like(x)
        rows = [np.stack(r, -1).reshape(-1, 4) for r in ([one, none, x, -y], [none, one, y, x])]
        self._rows = np.concatenate(rows)

    @classmethod
    def learn(cls, picture, heads):
        """picture (S, S, 3) uint8: the reference; heads (N, S, S) 0 or 1: where the head is in some frames."""
        grey, small = lower(picture), (WIDTH, WIDTH)
        free = [1 - cv2.resize(cv2.dilate(np.float32(h), np.ones((5, 5))), small) for h in heads]
        gradient = sum(np.abs(cv2.Sobel(grey.astype(np.float32), cv2.CV_32F, *d)) for d in ((1, 0), (0, 1)))
        texture = np.minimum(cv2.blur(gradient, (5, 5)) / TEXTURE, 1)
        weight = np.square(np.mean(free, 0)) * below_head(np.mean(free, 0))
        weight = weight[TOP:] * texture
        return cls(grey, weight)

    def shift(self, picture):
        """(2,) float32 of a picture (S, S, 3) uint8 of the crop."""
        moved = self.flow.calc(lower(picture), self.reference, None)
        target = -cv2.resize(moved, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA).reshape(-1, 2).T.ravel()
        base = cv2.resize(self.weight, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA).ravel()
        if base.sum() < 1:
            return np.zeros(2, np.float32)
        weight = base
        for _ in range(STEPS):
            root = np.sqrt(np.tile(weight, 2))
            found = np.linalg.lstsq(self._rows * root[:, None], target * root, rcond=None)[0]
            miss = np.square((target - self._rows @ found).reshape(2, -1)).sum(0)
            weight = base / (1 + miss / SURE_PX**2)
        return (found[:2] / WIDTH).astype(np.float32)


def lower(picture):
    """The lower part of a picture (S, S, 3) uint8, grey, at the size in which the torso is measured."""
    return cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (WIDTH, WIDTH), interpolation=cv2.INTER_AREA)[TOP:]


def below_head(free):
    """(h, w) bool: the columns of the head, where `free` (h, w) is 0, and the rows about its chin and below, down the neck."""
    taken = free < 0.5
    rows, columns = (np.flatnonzero(taken.any(axis)) for axis in (1, 0))
    out = np.zeros(free.shape, bool)
    if len(rows):
        out[max(0, rows[-1] - int(NECK * len(free))) :, columns[0] : columns[-1] + 1] = True
    return out


class Stance(nn.Module):
    """What is usual of one person's places, and how the torso goes with the head: buffers, measured before training."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(N_STANCE))
        self.register_buffer("spread", torch.ones(N_STANCE))
        self.register_buffer("by_head", torch.zeros(TORSO, HEAD))
        self.register_buffer("reference", torch.zeros(WIDTH - TOP, WIDTH, dtype=torch.uint8))
        self.register_buffer("weight", torch.zeros(WIDTH - TOP, WIDTH))

    def learn(self, torso, heads, torsos):
        """torso: `Torso`, or None; heads (N, HEAD), torsos (N, TORSO) of the frames that are learnt from."""
        places = torch.cat([heads, torsos], 1)
        self.mean.copy_(places.mean(0))
        self.spread.copy_(places.std(0).clamp_min(LEAST_SPREAD))
        if torso is None:
            return
        scaled = (places - self.mean) / self.spread
        head, body = scaled.split([HEAD, TORSO], 1)
        square = head.T @ head + RIDGE * len(head) * torch.eye(HEAD)
        way = torch.linalg.solve(square, head.T @ body).T
        self.by_head.copy_(way * self.spread[HEAD:, None] / self.spread[None, :HEAD])
        self.reference.copy_(torch.from_numpy(torso.reference))
        self.weight.copy_(torch.from_numpy(torso.weight))

    def torso(self):
        """`Torso` of this person; None where it was not measured."""
        if not bool(self.weight.any()):
            return None
        return Torso(self.reference.cpu().numpy(), self.weight.cpu().numpy())

    def forward(self, places):
        """(B, 2, N_STANCE), of the frame and of its source, NaN where the torso is unknown -> conditions (B, N_CONDITIONS, 1, 1)."""
        frame, source = places.to(self.mean.device).unbind(1)
        usual = self.mean[HEAD:] + (source[:, :HEAD] - self.mean[:HEAD]) @ self.by_head.T
        at = torch.where(source[:, HEAD:].isnan(), usual, source[:, HEAD:])
        led = at + (frame[:, :HEAD] - source[:, :HEAD]) @ self.by_head.T
        to = torch.where(frame[:, HEAD:].isnan(), led, frame[:, HEAD:])
        frame, source = torch.cat([frame[:, :HEAD], to], 1), torch.cat([source[:, :HEAD], at], 1)
        both = torch.cat([(frame - source) / self.spread, (frame - self.mean) / self.spread], 1)
        return both.clamp(-MOST, MOST)[..., None, None]

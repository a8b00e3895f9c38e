"""A small network that sees one face crop and guesses pose, expression and identity of the open head.

    regressor = OpenRegressor.load()
    guess = regressor.predict(face_crop(frame, affine)[None])      # affine: source pixels -> canonical crop

It is a starting point where landmarks are poor or missing (profile, dark, blurred, tiny, compressed), not a replacement for
the fit: it says how far off it expects to be, and whether it sees a face at all. Learnt from made faces only, see
`scripts/train_regressor.py`. Axes, angles and the canonical crop are those of `camera`.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from deep_3drecon import camera
from deep_3drecon.coeffs import OPEN_LAYOUT
from deep_3drecon.regressor_files import RegressorError, read_network, write_network

FORMAT = "idiolect-open-regressor-1"
RELEASED = Path(__file__).parents[1] / "data" / "checkpoints" / "open_regressor"
NAME = "open_regressor"
SIZE = 80  # px of the network's picture
REGION_PX, REGION_CENTRE = 176.0, (112.0, 117.0)  # what of the canonical crop it shows
CHUNK = 64


@dataclass
class Guess:
    """What the network makes of T crops; numpy float32.

    angle (T, 3) radians, trans (T, 3) dm, both in the canonical crop the picture was cut by; exp (T, 52) in [0, 1];
    id (T, 80); presence (T,) in [0, 1], that there is a face; rotation_error (T,) degrees and lip_error (T,) mm that it
    expects of itself.
    """

    angle: np.ndarray
    trans: np.ndarray
    exp: np.ndarray
    id: np.ndarray
    presence: np.ndarray
    rotation_error: np.ndarray
    lip_error: np.ndarray

    def __len__(self):
        return len(self.angle)

    def select(self, frames):
        """The same guesses at some frames only."""
        return Guess(**{f.name: getattr(self, f.name)[frames] for f in fields(self)})


def input_affine(affine):
    """Affine (2, 3) source pixels -> canonical crop, to the one that leads to the network's picture."""
    scale = SIZE / REGION_PX
    out = np.array(affine, np.float64) * scale
    out[:, 2] += (SIZE - 1) / 2 - scale * np.array(REGION_CENTRE)
    return out


def face_crop(picture, affine):
    """The network's picture (SIZE, SIZE) uint8 grey of (H, W, 3) RGB or (H, W) grey uint8; affine: source -> canonical crop."""
    return cut(picture, input_affine(affine), SIZE)


def cut(picture, affine, size):
    """Grey square (size, size) uint8 of a picture as above, to which `affine` (2, 3) leads; edges are drawn on outside."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    # bilinear sampling of a large face would skip pixels: sample finer, then average
    finer = max(1, int(np.ceil(0.7 / np.sqrt(abs(np.linalg.det(affine[:, :2]))))))
    fine = affine * finer
    fine[:, 2] += (finer - 1) / 2
    side = size * finer
    crop = cv2.warpAffine(grey, fine, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA) if finer > 1 else crop


def turn_to(direction):
    """The smallest rotation (..., 3, 3) that takes -z to a direction (..., 3) with z < 0."""
    x, y, z = nn.functional.normalize(direction, dim=-1).unbind(-1)
    k = 1 / (1 - z)
    rows = [1 - k * x * x, -k * x * y, -x, -k * x * y, 1 - k * y * y, -y, x, y, -z]
    return torch.stack(rows, -1).reshape(*x.shape, 3, 3)


def into_crop(rotation, trans, change, middle=(0.0, 0.0, 0.2)):
    """The pose under which a head looks the same in a changed crop.

    rotation (..., 3, 3), trans (..., 3) dm; change (..., 2, 3): similarity from pixels of the canonical crop it was given in to
    those of another; middle (3,) dm: the place on the head that is kept exactly -> (rotation, trans). Elsewhere perspective
    differs a little, as the head is moved nearer or farther.
    """
    middle = torch.as_tensor(middle, dtype=trans.dtype)
    eye = torch.tensor([0, 0, camera.CAMERA_Z_DM], dtype=trans.dtype)
    scale = torch.linalg.det(change[..., :2]).sqrt()
    place = (rotation @ middle) + trans
    pixels = camera.apply_affine(camera.project(place)[..., None, :], change)[..., 0, :]
    z = camera.CAMERA_Z_DM - (camera.CAMERA_Z_DM - place[..., 2]) / scale
    moved = torch.cat([_unproject(pixels, z), z[..., None]], -1)
    cos, sin = change[..., 0, 0] / scale, change[..., 0, 1] / scale  # y points down in pixels and up in space
    zero, one = torch.zeros_like(cos), torch.ones_like(cos)
    roll = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).reshape(*cos.shape, 3, 3)
    turned = turn_to(moved - eye) @ roll @ turn_to(place - eye).transpose(-1, -2) @ rotation
    return turned, moved - turned @ middle


def _unproject(pixels, z):
    scale = ((camera.CAMERA_Z_DM - z) / camera.FOCAL_PX)[..., None]
    return (
        torch.stack([pixels[..., 0] - camera.CENTRE_PX, camera.CROP_SIZE - 1 - camera.CENTRE_PX - pixels[..., 1]], -1)
        * scale
    )


def matrix_from_6d(values):
    """Two columns (..., 6), made orthonormal -> (..., 3, 3) (Zhou et al., CVPR 2019)."""
    first = nn.functional.normalize(values[..., :3], dim=-1)
    second = values[..., 3:] - (first * values[..., 3:]).sum(-1, keepdim=True) * first
    second = nn.functional.normalize(second, dim=-1)
    return torch.stack([first, second, torch.cross(first, second, dim=-1)], -1)


class FaceNetwork(nn.Module):
    """Six 3 x 3 convolutions and two linear layers. `mean` and `spread` of the learnt faces are part of the weights."""

    def __init__(self, width=24, hidden=256):
        super().__init__()
        self.settings = {"width": width, "hidden": hidden}
        sizes = [(1, width, 2), (width, 2 * width, 2), (2 * width, 2 * width, 1), (2 * width, 4 * width, 2)]
        sizes += [(4 * width, 4 * width, 1), (4 * width, 5 * width, 2), (5 * width, 5 * width, 1)]
        layers = []
        for n_in, n_out, stride in sizes:
            layers += [nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()]
        self.features = nn.Sequential(*layers, nn.Conv2d(5 * width, 32, 1), nn.ReLU(), nn.Flatten())
        self.hidden = nn.Sequential(nn.Linear(32 * (SIZE // 16) ** 2, hidden), nn.ReLU())
        self.parts = {"turn": 6, "trans": 3, "exp": OPEN_LAYOUT.exp, "id": OPEN_LAYOUT.id, "sure": 3}
        n_out = sum(self.parts.values())
        self.out = nn.Linear(hidden, n_out)
        self.register_buffer("mean", torch.zeros(n_out))
        self.register_buffer("spread", torch.ones(n_out))
        near = (torch.arange(SIZE) - (SIZE - 1) / 2) / SIZE
        window = torch.exp(-((near[:, None] ** 2 + near**2) / 0.08))
        self.register_buffer("window", window / window.sum(), persistent=False)
        self.half = False  # convolutions in bfloat16: twice as fast where the processor knows it, good enough to learn

    def forward(self, crops):
        """(B, SIZE, SIZE) grey in any unit -> {"turn" (B, 6), "trans", "exp", "id", "sure" (B, 3)}.

        sure: presence before the sigmoid, logarithms of the rotation error in degrees and of the lip error in mm.
        """
        middle = (crops * self.window).sum((1, 2), keepdim=True)
        contrast = ((crops - middle).square() * self.window).sum((1, 2), keepdim=True).sqrt()
        x = ((crops - middle) / (contrast + 1e-3)).clamp(-4, 4)[:, None]
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.half):
            x = self.hidden(self.features(x.contiguous(memory_format=torch.channels_last)))
        values = self.mean + self.spread * self.out(x.float())
        return dict(zip(self.parts, values.split(list(self.parts.values()), -1), strict=True))


class OpenRegressor:
    """The network with what is known of its making (`facts`). Keeps no state between calls."""

    def __init__(self, network, facts=None):
        self.network = network.eval()
        self.facts = facts or {}

    @classmethod
    def load(cls, path=None):
        """The regressor in a folder with open_regressor.safetensors and .json; without a path the released one."""
        return cls(*read_network(path or RELEASED, NAME, FORMAT, FaceNetwork))

    def save(self, path, **facts):
        """Write the two files into a folder (`regressor_files.write_network`); facts go into the JSON."""
        self.facts = write_network(self.network, self.facts | facts, path, NAME, FORMAT)

    def predict(self, crops):
        """(T, SIZE, SIZE) grey array, from `face_crop` -> `Guess`."""
        crops = np.asarray(crops)
        if crops.ndim != 3 or crops.shape[1:] != (SIZE, SIZE):
            raise RegressorError(f"crops of shape {crops.shape}: (T, {SIZE}, {SIZE}) is needed, see face_crop")
        rows = []
        with torch.no_grad():
            for start in range(0, len(crops), CHUNK):
                rows.append(self.network(torch.from_numpy(crops[start : start + CHUNK].astype(np.float32))))
        if not rows:
            rows = [self.network(torch.zeros(1, SIZE, SIZE))]
        out = {name: torch.cat([row[name] for row in rows])[: len(crops)] for name in rows[0]}
        sure = out["sure"]
        values = {
            "angle": camera.euler_angles(matrix_from_6d(out["turn"])),
            "trans": out["trans"],
            "exp": out["exp"].clamp(0, 1),
            "id": out["id"],
            "presence": sure[:, 0].sigmoid(),
            "rotation_error": sure[:, 1].exp(),
            "lip_error": sure[:, 2].exp(),
        }
        return Guess(**{name: value.detach().numpy() for name, value in values.items()})

    def look(self, frames, affines):
        """Frames, an iterable of (H, W, 3) uint8 RGB, each with its affine (2, 3) source -> canonical crop -> `Guess`."""
        crops = [face_crop(frame, affine) for frame, affine in zip(frames, affines, strict=True)]
        return self.predict(np.stack(crops) if crops else np.zeros((0, SIZE, SIZE), np.uint8))

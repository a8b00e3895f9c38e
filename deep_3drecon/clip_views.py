"""What `clip_regressor` sees of a fitted clip: mouth and face turned to the front, and how far found landmarks are from fitted.

A view is a window over the head at rest, a sheet laid through the face of the clip's identity; each frame is looked up where its
pose puts that sheet. So the head stands still in a view, and what moves is the mouth, or what the fit got wrong.
"""

import cv2
import numpy as np
import torch

from deep_3drecon import camera, fit, landmarks
from deep_3drecon.photometric_frames import cut_crop

MOUTH_SIZE, MOUTH_STEP_DM = (144, 160), 0.005  # rows and columns; half as wide as a pixel of the canonical crop
FACE_SIZE, FACE_STEP_DM = (72, 64), 0.026
MOUTH_BELOW_DM, FACE_BELOW_DM = 0.05, -0.28  # how far under the mouth the middle of a window lies
# the mouth is cut from the frame in finer pixels than the canonical crop's: so many times; left, top, width, height in that crop
FINER, MOUTH_WINDOW = 2, (40, 92, 144, 120)
SHEET_RIDGE = 1e-3
DARKEST = 12.0  # added to colours before their logarithm: noise of dark pixels is not to count
N_CHANNELS = 2  # of a view: logarithms of brightness and of red over green
# landmarks whose misses are told; their mirror images are among them
POINTS = np.unique(
    np.concatenate(
        [landmarks.LIPS, landmarks.FACE_OVAL, landmarks.LANDMARKS_68, landmarks.EYE_LEFT, landmarks.EYE_RIGHT]
    )
)


MOVED = ("jaw", "mouth", "cheekPuff", "noseSneer")  # expressions that are corrected begin so


def corrected(names):
    """Places of the expressions that are corrected."""
    return [k for k, name in enumerate(names) if name.startswith(MOVED)]


def cut(frame, crop):
    """What views of a frame (H, W, 3) uint8 are made from: its canonical crop by the affine `crop` (2, 3), and the mouth's window of
    it in finer pixels, (240, 288, 3)."""
    left, top, *size = MOUTH_WINDOW
    fine = np.asarray(crop, np.float64) * FINER
    fine[:, 2] += (FINER - 1) / 2 - FINER * np.array([left, top])
    return cut_crop(frame, crop), cut_crop(frame, fine, [FINER * side for side in size])


class Viewer:
    """Makes the views of clips of a face model."""

    def __init__(self, model, bias=None):
        self.model, self.bias = model, bias
        self.linear = fit.linear_landmarks(model)
        skin = np.zeros(model.n_vertices, bool)
        skin[model.regions["face"]] = skin[model.regions["lips"]] = True
        skin[model.regions["mouth_inside"]] = False
        self.skin = np.flatnonzero(skin)
        self.lips = model.regions["lips"]

    def sheets(self, id, exp):
        """Points (rows, columns, 3) dm of the mouth's and the face's window: id (n_id,), exp (n_exp,) of the clip's usual face."""
        head = self.model.mean + self.model.id_basis @ torch.from_numpy(id)
        usual = (head + self.model.exp_basis @ torch.from_numpy(exp)).numpy()
        middle = head[self.lips].mean(0).numpy()
        out = []
        for size, step, below in (
            (MOUTH_SIZE, MOUTH_STEP_DM, MOUTH_BELOW_DM),
            (FACE_SIZE, FACE_STEP_DM, FACE_BELOW_DM),
        ):
            rows, columns = size
            x = middle[0] + step * (np.arange(columns) - (columns - 1) / 2)
            y = middle[1] - below - step * (np.arange(rows) - (rows - 1) / 2)
            x, y = np.meshgrid(x, y)
            points = usual[self.skin]
            reach = step * np.array([columns, rows]) / 2
            near = np.abs(points[:, :2] - [middle[0], middle[1] - below]) < 1.1 * reach
            points = points[near.all(1)]
            at = [middle[0], middle[1] - below]
            z = _sheet((points[:, :2] - at) / reach, points[:, 2], (np.stack([x, y], -1) - at) / reach)
            out.append(np.stack([x, y, z], -1).astype(np.float32))
        return out

    def sheets_of(self, track):
        """`sheets` of a clip by its usual face."""
        parts = track.parts()
        return self.sheets(*(np.median(parts[name][track.valid], 0) for name in ("id", "exp")))

    def look(self, sheets, track, crops, mouths):
        """Pictures uint8 of the mouth (K, 144, 160, 3) and the face (K, 72, 64, 3) of a track of K frames.

        crops (K, 224, 224, 3), mouths (K, 240, 288, 3): what `cut` makes of them.
        """
        parts = track.parts()
        angle, trans = (torch.from_numpy(np.ascontiguousarray(parts[name])) for name in ("angle", "trans"))
        pictures = []
        for sheet, cuts, to_cut in zip(sheets, (mouths, crops), (_in_window, _in_half), strict=True):
            points = torch.from_numpy(sheet.reshape(1, -1, 3))
            places = camera.project(camera.pose(points, angle, trans)).numpy().reshape(-1, *sheet.shape[:2], 2)
            pictures.append(np.stack([_remap(*to_cut(*pair)) for pair in zip(cuts, places, strict=True)]))
        return pictures

    def misses(self, track, places=None):
        """Found minus fitted landmarks POINTS of a track of K frames, head upright: (K, len(POINTS), 2) px of the canonical crop.

        places (K, 478, 2) source pixels: those of the landmarks if known better than the track has them; they have no bias.
        """
        found = torch.from_numpy(track.landmarks if places is None else places).double()
        found = camera.apply_affine(found, torch.from_numpy(track.crop).double())
        angle = torch.from_numpy(track.parts()["angle"].astype(np.float64))
        if self.bias is not None and places is None:
            found = found - self.bias(angle)
        return ((found - self.fitted(track))[:, POINTS] @ _upright(angle).transpose(1, 2)).numpy()

    def places(self, track, misses):
        """Where landmarks POINTS are by their misses (K, len(POINTS), 2): (K, len(POINTS), 2) px of the canonical crop."""
        angle = torch.from_numpy(track.parts()["angle"].astype(np.float64))
        return (self.fitted(track)[:, POINTS] + torch.as_tensor(misses).double() @ _upright(angle)).numpy()

    def fitted(self, track):
        """Landmarks (K, 478, 2) of the fitted face in pixels of the canonical crop, float64 tensor."""
        parts = {name: torch.from_numpy(value.astype(np.float64)) for name, value in track.parts().items()}
        points = self.linear.points(parts["id"], parts["exp"])
        return camera.project(camera.pose(points, parts["angle"], parts["trans"]))

    def numbers(self, track):
        """(K, N_NUMBERS) float32: expression, scores, angle, misses, identity."""
        parts, misses = track.parts(), self.misses(track)
        columns = [parts["exp"], track.scores, parts["angle"], misses.reshape(len(track), -1), parts["id"]]
        return np.concatenate(columns, 1).astype(np.float32)


def _upright(angle):
    """(K, 2, 2) that turns displacements in pixels back by the head's roll."""
    cos, sin = angle[:, 2].cos(), angle[:, 2].sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def _in_window(mouth, places):
    """A mouth's window and where places of the canonical crop are in it."""
    return mouth, FINER * (places - np.float32(MOUTH_WINDOW[:2])) + (FINER - 1) / 2


def _in_half(crop, places):
    """A crop of half as many pixels, enough for the face's coarse window, and where places of the canonical crop are in it."""
    return cv2.resize(crop, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), (places - 0.5) / 2


def _remap(picture, places):
    picture, places = np.ascontiguousarray(picture), np.asarray(places, np.float32)
    return cv2.remap(picture, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _terms(places, degree=4):
    x, y = places[..., 0], places[..., 1]
    return np.stack([x**i * y**j for i in range(degree + 1) for j in range(degree + 1 - i)], -1)


def _sheet(places, depth, wanted):
    """Depth at wanted (..., 2) of a smooth sheet through depth (N,) at places (N, 2), both about -1 to 1."""
    terms = _terms(places)
    matrix = terms.T @ terms + SHEET_RIDGE * len(terms) * np.eye(terms.shape[1])
    return _terms(wanted) @ np.linalg.solve(matrix, terms.T @ depth)


def logarithms(pictures):
    """Pictures (..., 3) uint8 or float -> (..., 2) float32: brightness and red over green."""
    soft = np.asarray(pictures, np.float32) + np.float32(DARKEST)
    bright = 0.3 * soft[..., 0] + 0.6 * soft[..., 1] + 0.1 * soft[..., 2]
    return np.stack([np.log(bright), np.log(soft[..., 0] / soft[..., 1])], -1)

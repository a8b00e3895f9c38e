"""The three networks of Google's face landmarker (Apache-2.0), each as one call on a picture. See `landmarks` for use.

Pictures are (H, W, 3) uint8 RGB. Points and boxes are pixels of that picture, with pixel centres at integers, x right,
y down; the networks count from the edge of the first pixel instead, which is corrected here.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from data_process.landmark_tables import LEFT_EYE_OUTER, N_LANDMARKS, RIGHT_EYE_OUTER, SCORE_INPUTS

DETECTOR_SIDE, CROP_SIDE = 128, 256
MIN_SCORE = 0.5
CROP_GROWTH = 1.5  # side of the landmark crop over the longer side of the face box


@dataclass
class Detection:
    """A face as the detector sees it.

    score in [0, 1]; box (x, y, width, height); angle of the line from the subject's right eye to the left one, in
    radians, clockwise as seen; points (6, 2): right eye, left eye, nose tip, mouth, right ear, left ear.
    """

    score: float
    box: np.ndarray
    points: np.ndarray

    @property
    def angle(self):
        step = self.points[1] - self.points[0]
        return float(np.arctan2(step[1], step[0]))

    def moved(self, by):
        """The same face, `by` (x, y) pixels further."""
        return Detection(self.score, self.box + (*by, 0, 0), self.points + by)

    def crop(self):
        """Centre, side and angle of the landmark crop."""
        return self.box[:2] + self.box[2:] / 2, float(self.box[2:].max() * CROP_GROWTH), self.angle


class Network:
    """One tflite model: a float32 array in, a dict of named float32 arrays out."""

    def __init__(self, content, num_threads):
        from ai_edge_litert.interpreter import Interpreter  # 0.3 s: paid only where a network is made

        self._interpreter = Interpreter(model_content=content, num_threads=num_threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._outputs = self._interpreter.get_output_details()

    def __call__(self, array):
        self._interpreter.set_tensor(self._input["index"], array.reshape(self._input["shape"]))
        self._interpreter.invoke()
        return {detail["name"]: self._interpreter.get_tensor(detail["index"]) for detail in self._outputs}


class Detector:
    """BlazeFace, short range: finds faces from about a tenth of the picture's longer side upwards."""

    def __init__(self, content, num_threads=1):
        self._network = Network(content, num_threads)
        self._anchors = _anchors() * DETECTOR_SIDE

    def __call__(self, image):
        """List of Detection, best score first."""
        height, width = image.shape[:2]
        side = max(height, width)
        small_size = max(1, round(width * DETECTOR_SIDE / side)), max(1, round(height * DETECTOR_SIDE / side))
        way = cv2.INTER_AREA if side > DETECTOR_SIDE else cv2.INTER_LINEAR
        small = cv2.resize(image, small_size, interpolation=way)
        offset = (DETECTOR_SIDE - np.array(small_size)) // 2
        canvas = np.full((DETECTOR_SIDE, DETECTOR_SIDE, 3), -1, np.float32)
        canvas[offset[1] :, offset[0] :][: small_size[1], : small_size[0]] = small / np.float32(127.5) - 1
        output = self._network(canvas)
        scores = sigmoid(output["classificators"].reshape(-1))
        keep = np.flatnonzero(scores >= MIN_SCORE)
        rows = output["regressors"].reshape(-1, 8, 2)[keep].astype(np.float64)  # box centre, box size, six points
        scale = np.array([width, height]) / small_size
        places = (rows + self._anchors[keep, None] - offset) * scale - 0.5
        sizes = rows[:, 1] * scale
        return merge(
            Detection(float(score), np.concatenate([place[0] - size / 2, size]), place[2:])
            for score, place, size in zip(scores[keep], places, sizes, strict=True)
        )


class MeshNetwork:
    """478 points and a presence in [0, 1] out of a square crop turned upright."""

    def __init__(self, content, num_threads=1):
        self._network = Network(content, num_threads)

    def __call__(self, image, centre, side, angle):
        """points (478, 3) float32 in the picture, the same (478, 2) about the centre of the upright crop, presence.

        z is in pixels too, growing away from the camera, zero near the middle of the face.
        """
        scale = side / CROP_SIDE
        turn = scale * rotation(angle)
        output = self._network(_crop(image, centre, turn, scale))
        points = output["Identity"].reshape(N_LANDMARKS, 3).astype(np.float64)
        upright = points[:, :2] - CROP_SIDE / 2
        placed = np.concatenate([upright @ turn.T + centre, points[:, 2:] * scale], 1).astype(np.float32)
        return placed, upright, float(sigmoid(output["Identity_1"].reshape(())))


class ScoreNetwork:
    """52 expression scores out of the points."""

    def __init__(self, content, num_threads=1):
        self._network = Network(content, num_threads)

    def __call__(self, points):
        """points: (478, 2) of an upright face in any uniform scale -> (52,) in [0, 1], named by SCORE_NAMES.

        Roll changes the scores, scale and place do not.
        """
        (raw,) = self._network(points[SCORE_INPUTS].astype(np.float32)).values()
        return np.append(raw.reshape(-1)[1:], 0).astype(np.float32)  # without _neutral, with tongueOut


def sigmoid(logit):
    return 1 / (1 + np.exp(-np.clip(logit, -80, 80)))


def rotation(angle):
    """(2, 2) that turns column vectors by `angle`, clockwise as seen, since y points down."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def crop_around(points):
    """Centre, side and angle of the landmark crop that fits known points (478, 2 or 3)."""
    step = points[LEFT_EYE_OUTER, :2] - points[RIGHT_EYE_OUTER, :2]
    angle = float(np.arctan2(step[1], step[0]))
    turn = rotation(angle)
    upright = points[:, :2] @ turn
    low, high = upright.min(0), upright.max(0)
    return turn @ ((low + high) / 2), float((high - low).max() * CROP_GROWTH), angle


def merge(found):
    """One Detection for each face: the score-weighted mean of all within 0.3 box of the best one; best first."""
    merged, rest = [], sorted(found, key=lambda d: -d.score)
    while rest:
        best = rest[0]
        centre, reach = best.crop()[0], 0.3 * best.box[2:].max()
        near = [d for d in rest if d is best or np.abs(d.crop()[0] - centre).max() < reach]
        rest = [d for d in rest if all(d is not other for other in near)]
        weights = np.array([d.score for d in near])
        weights /= weights.sum()
        box = np.tensordot(weights, np.stack([d.box for d in near]), 1)
        merged.append(Detection(best.score, box, np.tensordot(weights, np.stack([d.points for d in near]), 1)))
    return merged


def tiles(image, side):
    """Yield (x, y, tile): squares of `side` pixels that overlap by at least half and cover the picture."""
    height, width = image.shape[:2]
    side = int(np.ceil(side))
    for y in np.linspace(0, max(0, height - side), max(1, int(np.ceil(2 * height / side)) - 1)).astype(int):
        for x in np.linspace(0, max(0, width - side), max(1, int(np.ceil(2 * width / side)) - 1)).astype(int):
            yield x, y, image[y : y + side, x : x + side]


def _anchors():
    """(896, 2) centres in [0, 1]: 16x16 cells with 2 anchors each, then 8x8 cells with 6, row by row."""
    grids = []
    for cells, repeats in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        grids.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2) + 0.5, repeats, 0) / cells)
    return np.concatenate(grids)


def _crop(image, centre, turn, scale):
    """(256, 256, 3) float32 in [0, 1]. turn (2, 2) takes crop pixels to picture pixels, `scale` of them for each."""
    # Bilinear sampling of a large face would skip pixels: sample finer, then average.
    finer = max(1, int(np.ceil(scale / 2)))
    size = CROP_SIDE * finer
    affine = np.zeros((2, 3))
    affine[:, :2] = turn / finer
    affine[:, 2] = centre - affine[:, :2] @ np.full(2, (size - 1) / 2)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(image, affine, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    if finer > 1:
        crop = cv2.resize(crop, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_AREA)
    return crop / np.float32(255)

"""Faces in pictures as 478 points and 52 expression scores: detection, tracking, loss and recovery.

Three small networks (Google's face landmarker, Apache-2.0) run on the CPU: a detector on 128x128, the landmark network
on a 256x256 crop turned upright, a score network on 146 of the points. Points are source pixels with pixel centres at
integers, x right, y down; z is in the same pixels, growing away from the camera, zero near the middle of the face.
"""

import zipfile
from dataclasses import dataclass

import cv2
import numpy as np

from data_process.landmark_tables import LEFT_EYE_OUTER, N_LANDMARKS, RIGHT_EYE_OUTER, SCORE_INPUTS, SCORE_NAMES, points68
from deep_3drecon.assets import asset_path

DETECTOR_SIDE, CROP_SIDE = 128, 256
MIN_SCORE, MIN_PRESENCE = 0.5, 0.5
CROP_GROWTH = 1.5  # side of the landmark crop over the longer side of the face box
RETRY_GROWTH = 0.8  # on top: some good detections are refused at 1.5 and accepted in a tighter crop
SAME_FACE_IOU = 0.3
SMALLEST_TILE = 96  # pixels; a face of 20 px fills a fifth of it
RECOUNT_EVERY = 25  # frames between two looks at the whole picture while tracking goes well


class NoFaceError(ValueError):
    """No face where one was needed."""


@dataclass
class Detection:
    """score in [0, 1]; box (x, y, width, height) in pixels; rotation in radians, clockwise as seen, of the eye line;
    points (6, 2): right eye, left eye, nose tip, mouth, right ear, left ear of the subject."""

    score: float
    box: np.ndarray
    rotation: float
    points: np.ndarray


@dataclass
class Landmarks:
    """One face. points (478, 3) pixels; scores (52,) in [0, 1], named by SCORE_NAMES; presence in [0, 1]; n_faces in
    the picture."""

    points: np.ndarray
    scores: np.ndarray
    presence: float
    n_faces: int = 1

    @property
    def points68(self):
        """(68, 2)"""
        return points68(self.points)[:, :2]

    @property
    def box(self):
        """(x, y, width, height) around the points."""
        low, high = self.points[:, :2].min(0), self.points[:, :2].max(0)
        return np.concatenate([low, high - low])


@dataclass
class LandmarkTrack:
    """One face through T frames of one size.

    points (T, 478, 3) float32 pixels, scores (T, 52) float32, valid (T,) bool, n_faces (T,) int, presence (T,) float32,
    frame_size (W, H). Rows that are not valid hold values interpolated in time between the valid ones.
    """

    points: np.ndarray
    scores: np.ndarray
    valid: np.ndarray
    n_faces: np.ndarray
    presence: np.ndarray
    frame_size: tuple

    def __len__(self):
        return len(self.points)


class FaceLandmarker:
    """The three networks behind one object. Not for use by several threads at once: make one for each."""

    score_names = SCORE_NAMES

    def __init__(self, num_threads=1):
        with zipfile.ZipFile(asset_path("face_landmarker")) as archive:
            self._detector = _Network(archive.read("face_detector.tflite"), num_threads)
            self._mesh = _Network(archive.read("face_landmarks_detector.tflite"), num_threads)
            self._scorer = _Network(archive.read("face_blendshapes.tflite"), num_threads)
        self._anchors = _anchors()

    def detect(self, image, deepest=3):
        """Faces in (H, W, 3) uint8 RGB as a list of Detection, largest first; empty when there is none.

        The detector sees 128x128 pixels, so a small face in a large picture escapes it: while nothing is found, the
        picture is searched again in overlapping tiles of half the side, a quarter, ... `deepest` times at most.
        """
        image = _checked(image)
        side = max(image.shape[:2])
        for level in range(deepest + 1):
            found = []
            for x, y, tile in _tiles(image, side / 2**level):
                for detection in self._detect_square(tile):
                    detection.box[:2] += x, y
                    detection.points += x, y
                    found.append(detection)
            merged = sorted(_merge(found), key=lambda d: -d.box[2] * d.box[3])
            if merged or side / 2 ** (level + 1) < SMALLEST_TILE:
                return merged
        return []

    def faces(self, image, deepest=3):
        """All faces of (H, W, 3) uint8 RGB as a list of Landmarks, largest first; empty when there is none."""
        image, found = _checked(image), []
        for detection in self.detect(image, deepest):
            x, y, width, height = detection.box
            centre, side = np.array([x + width / 2, y + height / 2]), max(width, height) * CROP_GROWTH
            face = self._landmarks(image, centre, side, detection.rotation)
            if face.presence < MIN_PRESENCE:
                face = self._landmarks(image, centre, side * RETRY_GROWTH, detection.rotation)
            if face.presence < MIN_PRESENCE:
                continue
            again = self._landmarks(image, *_crop_around(face.points))  # as tracking crops: the two then agree
            face = again if again.presence >= MIN_PRESENCE else face
            if all(_iou(face.box, other.box) < SAME_FACE_IOU for other in found):
                found.append(face)
        for face in found:
            face.n_faces = len(found)
        return sorted(found, key=lambda face: -face.box[2] * face.box[3])

    def image(self, image):
        """Landmarks of the largest face in (H, W, 3) uint8 RGB."""
        faces = self.faces(image)
        if not faces:
            height, width = image.shape[:2]
            raise NoFaceError(f"no face found in a picture of {width}x{height} pixels: use one that shows a face from the "
                              "front, at least 30 pixels wide")
        return faces[0]

    def track(self, frames):
        """Follow one face through an iterable of (H, W, 3) uint8 RGB frames of one size; returns a LandmarkTrack.

        It starts with the largest face and stays with the nearest one to where it was last seen. Every RECOUNT_EVERY
        frames, and whenever the face is lost, the whole picture is searched and the faces are counted.
        """
        rows, last, lost, n_faces, size = [], None, 0, 0, None
        for number, frame in enumerate(frames):
            frame = _checked(frame)
            size = size or frame.shape[1::-1]
            if frame.shape[1::-1] != size:
                raise ValueError(f"frame {number} is {frame.shape[1]}x{frame.shape[0]}, the first was {size[0]}x{size[1]}: "
                                 "track frames of one size")
            face = self._landmarks(frame, *_crop_around(last.points)) if last is not None and lost == 0 else None
            face = None if face is None or face.presence < MIN_PRESENCE else face
            if face is None or number % RECOUNT_EVERY == 0:
                # the deep search costs up to 0.2 s: not on every frame of a stretch without a face
                faces = self.faces(frame, deepest=3 if lost % RECOUNT_EVERY == 0 else 1)
                n_faces = max(len(faces), int(face is not None))
                face = face or _nearest(faces, last, lost)
            lost = 0 if face is not None else lost + 1
            last = face or last
            rows.append((face, n_faces))
        return _as_track(rows, size)

    def _detect_square(self, image):
        """Raw detections of one picture, padded to a square for the network."""
        height, width = image.shape[:2]
        side = max(height, width)
        small_size = max(1, round(width * DETECTOR_SIDE / side)), max(1, round(height * DETECTOR_SIDE / side))
        small = cv2.resize(image, small_size, interpolation=cv2.INTER_AREA if side > DETECTOR_SIDE else cv2.INTER_LINEAR)
        left, top = (DETECTOR_SIDE - small_size[0]) // 2, (DETECTOR_SIDE - small_size[1]) // 2
        canvas = np.full((DETECTOR_SIDE, DETECTOR_SIDE, 3), -1, np.float32)
        canvas[top : top + small_size[1], left : left + small_size[0]] = small / np.float32(127.5) - 1
        output = self._detector(canvas)
        scores = _sigmoid(output["classificators"].reshape(-1))
        keep = scores >= MIN_SCORE
        rows = output["regressors"].reshape(-1, 16)[keep].astype(np.float64).reshape(-1, 8, 2)
        rows[:, [0, 2, 3, 4, 5, 6, 7]] += self._anchors[keep, None] * DETECTOR_SIDE
        scale = np.array([width / small_size[0], height / small_size[1]])
        rows[:, [0, 2, 3, 4, 5, 6, 7]] -= (left, top)
        rows *= scale
        found = []
        for score, row in zip(scores[keep], rows, strict=True):
            points = row[2:] - 0.5  # the network's corners of pixels -> centres
            angle = np.arctan2(points[1, 1] - points[0, 1], points[1, 0] - points[0, 0])
            found.append(Detection(float(score), np.concatenate([row[0] - row[1] / 2 - 0.5, row[1]]), float(angle), points))
        return _merge(found)

    def _landmarks(self, image, centre, side, angle):
        """Points and scores in a square crop of `side` pixels around `centre`, turned by `angle`."""
        scale = side / CROP_SIDE
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        output = self._mesh(_crop(image, centre, turn, scale))
        points = output["Identity"].reshape(N_LANDMARKS, 3).astype(np.float64)
        # The network counts from the crop's edge: pixel i spans i to i + 1.
        upright = points[:, :2] - CROP_SIDE / 2
        placed = np.concatenate([upright @ turn.T + centre, points[:, 2:] * scale], 1).astype(np.float32)
        # The scores change with roll, so they are read from the upright crop.
        raw = self._scorer(upright[SCORE_INPUTS].astype(np.float32))
        scores = np.append(next(iter(raw.values())).reshape(-1)[1:], 0).astype(np.float32)  # drop _neutral, add tongueOut
        return Landmarks(placed, scores, float(_sigmoid(output["Identity_1"].reshape(()))))


class FaceAlignmentLandmarker:
    """The 68 points of the `face_alignment` package behind the same calls, for comparison with published pipelines.

    points are (68, 2) and (T, 68, 2), scores are zero. Its weights are downloaded at first use by the package itself.
    """

    def __init__(self, device="cpu"):
        try:
            import face_alignment
        except ImportError as error:
            raise ImportError("face_alignment is not installed: pip install --no-deps face-alignment==1.5.0 (without "
                              "--no-deps it replaces headless OpenCV), or use FaceLandmarker, which needs no download") from error
        self._network = face_alignment.FaceAlignment(face_alignment.LandmarksType.TWO_D, device=device)

    def faces(self, image):
        """All faces of (H, W, 3) uint8 RGB as a list of Landmarks with 68 points, largest first."""
        found = self._network.get_landmarks_from_image(_checked(image)) or []
        faces = [Landmarks(np.asarray(points, np.float32)[:, :2], np.zeros(len(SCORE_NAMES), np.float32), 1.0, len(found))
                 for points in found]
        return sorted(faces, key=lambda face: -face.box[2] * face.box[3])

    def image(self, image):
        """Landmarks of the largest face."""
        faces = self.faces(image)
        if not faces:
            raise NoFaceError(f"no face found in a picture of {image.shape[1]}x{image.shape[0]} pixels: use another picture")
        return faces[0]

    def track(self, frames):
        """Follow one face through frames of one size; every frame is searched anew."""
        rows, last, lost, size = [], None, 0, None
        for frame in frames:
            size = size or frame.shape[1::-1]
            faces = self.faces(frame)
            face = _nearest(faces, last, lost)
            lost = 0 if face is not None else lost + 1
            last = face or last
            rows.append((face, len(faces)))
        return _as_track(rows, size)


class _Network:
    """One tflite model: float32 in, dict of named float32 arrays out."""

    def __init__(self, content, num_threads):
        from ai_edge_litert.interpreter import Interpreter  # 0.3 s: only where a landmarker is made

        self._interpreter = Interpreter(model_content=content, num_threads=num_threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]
        self._outputs = self._interpreter.get_output_details()

    def __call__(self, array):
        self._interpreter.set_tensor(self._input["index"], array.reshape(self._input["shape"]))
        self._interpreter.invoke()
        return {detail["name"]: self._interpreter.get_tensor(detail["index"]) for detail in self._outputs}


def _checked(image):
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"picture of shape {image.shape}, {image.dtype}: needed (H, W, 3) uint8 RGB, as read_image gives")
    return image


def _sigmoid(logit):
    return 1 / (1 + np.exp(-np.clip(logit, -80, 80)))


def _anchors():
    """(896, 2) centres in [0, 1]: 16x16 cells with 2 anchors each, then 8x8 cells with 6, row by row."""
    grids = []
    for cells, repeats in ((16, 2), (8, 6)):
        y, x = np.mgrid[:cells, :cells]
        grids.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2) + 0.5, repeats, 0) / cells)
    return np.concatenate(grids)


def _tiles(image, side):
    """Yield (x, y, tile): squares of `side` pixels that overlap by at least half, or the whole picture if it fits."""
    height, width = image.shape[:2]
    side = int(np.ceil(side))
    for y in np.linspace(0, max(0, height - side), max(1, int(np.ceil(2 * height / side)) - 1)).astype(int):
        for x in np.linspace(0, max(0, width - side), max(1, int(np.ceil(2 * width / side)) - 1)).astype(int):
            yield x, y, image[y : y + side, x : x + side]


def _merge(found):
    """One Detection for each group: the score-weighted mean of those whose centre lies within 0.3 box of the best one."""
    merged, rest = [], sorted(found, key=lambda d: -d.score)
    while rest:
        best = rest[0]
        centre, reach = best.box[:2] + best.box[2:] / 2, 0.3 * best.box[2:].max()
        near = [d for d in rest if d is best or np.abs(d.box[:2] + d.box[2:] / 2 - centre).max() < reach]
        rest = [d for d in rest if not any(d is other for other in near)]
        weights = np.array([d.score for d in near]) / sum(d.score for d in near)
        points = np.tensordot(weights, np.stack([d.points for d in near]), 1)
        angle = float(np.arctan2(points[1, 1] - points[0, 1], points[1, 0] - points[0, 0]))
        merged.append(Detection(best.score, np.tensordot(weights, np.stack([d.box for d in near]), 1), angle, points))
    return merged


def _crop_around(points):
    """Centre, side and angle of the landmark crop that fits known points."""
    step = points[LEFT_EYE_OUTER, :2] - points[RIGHT_EYE_OUTER, :2]
    angle = float(np.arctan2(step[1], step[0]))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    upright = points[:, :2] @ turn
    low, high = upright.min(0), upright.max(0)
    return turn @ ((low + high) / 2), float((high - low).max() * CROP_GROWTH), angle


def _crop(image, centre, turn, scale):
    """(256, 256, 3) float32 in [0, 1]. centre in pixels, turn (2, 2) takes crop pixels to picture pixels."""
    # Bilinear sampling of a large face skips pixels: sample finer, then average.
    finer = max(1, int(np.ceil(scale / 2)))
    size = CROP_SIDE * finer
    affine = np.zeros((2, 3))
    affine[:, :2] = turn / finer
    affine[:, 2] = centre - affine[:, :2] @ np.full(2, (size - 1) / 2)
    crop = cv2.warpAffine(image, affine, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_REPLICATE)
    if finer > 1:
        crop = cv2.resize(crop, (CROP_SIDE, CROP_SIDE), interpolation=cv2.INTER_AREA)
    return crop / np.float32(255)


def _iou(one, other):
    """Intersection over union of two (x, y, width, height) boxes."""
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[:2] + one[2:], other[:2] + other[2:])
    shared = np.prod(np.clip(high - low, 0, None))
    return shared / (np.prod(one[2:]) + np.prod(other[2:]) - shared)


def _nearest(faces, last, lost):
    """The face nearest to the last one seen, the largest if there was none; None if all are too far to be the same.

    A face may move its own width in one frame, and farther the longer it was out of sight.
    """
    if last is None or not faces:
        return faces[0] if faces else None
    centre, reach = last.box[:2] + last.box[2:] / 2, last.box[2:].max() * (1 + lost / RECOUNT_EVERY)
    distances = [np.linalg.norm(face.box[:2] + face.box[2:] / 2 - centre) for face in faces]
    nearest = int(np.argmin(distances))
    return faces[nearest] if distances[nearest] < reach else None


def _as_track(rows, size):
    """LandmarkTrack of [(face or None, n_faces)], gaps filled by linear interpolation, ends by repetition."""
    if not rows:
        raise NoFaceError("no frame was given to track: is the video empty?")
    valid = np.array([face is not None for face, _ in rows])
    if not valid.any():
        raise NoFaceError(f"no face found in {len(rows)} frames of {size[0]}x{size[1]} pixels: use a video that shows a face")
    seen, times = np.flatnonzero(valid), np.arange(len(rows))
    right = np.searchsorted(seen, times).clip(0, len(seen) - 1)
    left = np.where(seen[right] > times, (right - 1).clip(0), right)
    gap = np.maximum(seen[right] - seen[left], 1)
    weight = ((times - seen[left]) / gap).clip(0, 1).astype(np.float32)[:, None, None]
    points = np.stack([rows[i][0].points for i in seen])
    scores = np.stack([rows[i][0].scores for i in seen])
    return LandmarkTrack(
        points=(1 - weight) * points[left] + weight * points[right],
        scores=(1 - weight[:, 0]) * scores[left] + weight[:, 0] * scores[right],
        valid=valid,
        n_faces=np.array([count for _, count in rows]),
        presence=np.array([face.presence if face is not None else 0 for face, _ in rows], np.float32),
        frame_size=tuple(size),
    )

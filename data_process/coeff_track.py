"""CoeffTrack: what a coefficient file of another system says of one clip, in the numbers of the Basel face model."""

from dataclasses import dataclass, field, replace

import numpy as np

from deep_3drecon import camera
from deep_3drecon.align import crop_affine
from deep_3drecon.coeffs import BFM_LAYOUT, PARTS, VECTORS, join_vector, split_vector
from deep_3drecon.landmarks import LANDMARKS_68, N_LANDMARKS
from deep_3drecon.track import FaceTrack, resample

EYES, MOUTH = slice(36, 48), slice(48, 68)
TOLD_FROM_PX = 4.0  # a face nearer to the middle of the picture does not tell which way y was counted


class CoeffFileError(ValueError):
    """A coefficient file that cannot be read, written or told from another kind."""


@dataclass
class CoeffTrack:
    """One face through T frames as another system measured it.

    coeff       (T, 257) float32, layout `coeffs.BFM_LAYOUT`; parts that the file does not give are zero
    fps         frames a second: no file says it, so it comes from the form or from the caller
    form        name in `coeff_files.FORMS`
    parts       names of the parts that the file gives
    transform   (T, 5) float64 or None: width, height, scale, tx, ty of the five-point alignment, ty counted upwards
    landmarks68 (T, 68, 2) float32 or None, pixels of the source frame, y down; likewise landmarks5 (T, 5, 2)
    valid       (T,) bool, False for frames that were missing among files of one frame each (numbers are interpolated)
    extra       what only one system has: `shift5` (T, 5, 2) and `shift` (T, 2) in pixels of the crop, `source_frame` (T,)
    """

    coeff: np.ndarray
    fps: float
    form: str
    parts: tuple = PARTS
    transform: np.ndarray | None = None
    landmarks68: np.ndarray | None = None
    landmarks5: np.ndarray | None = None
    valid: np.ndarray | None = None
    extra: dict = field(default_factory=dict)

    def __post_init__(self):
        self.coeff, self.fps = np.asarray(self.coeff, np.float32), float(self.fps)
        if self.valid is None:
            self.valid = np.ones(len(self.coeff), bool)

    def __len__(self):
        return len(self.coeff)

    def split(self):
        """{part: (T, n)} of all parts, those that the file does not give being zero."""
        return BFM_LAYOUT.split(self.coeff)

    @property
    def frame_size(self):
        """(width, height) of the source frame; without a transform the canonical crop is all there is."""
        if self.transform is None:
            return camera.CROP_SIZE, camera.CROP_SIZE
        return tuple(int(round(v)) for v in self.transform[0, :2])

    @property
    def is_turned_over(self):
        """Was the crop placed with y counted the wrong way, as Style2Talker's preparation does, whose transform is right?

        The face then lies away from the middle of the crop by twice its distance from the middle of the picture, and the
        coefficients put it there; in crops placed rightly it lies in the middle (within 0.05 dm in 31 files looked at).
        """
        if self.transform is None:
            return False
        _, height, scale, _, up = self.transform.T
        away = (height - 1 - 2 * up) * scale
        y, z = self.split()["trans"][:, 1:].T
        there = -away * (camera.CAMERA_Z_DM - z) / camera.FOCAL_PX
        return bool(np.abs(away).mean() > TOLD_FROM_PX and np.abs(y - there).mean() < np.abs(y).mean())

    @property
    def crop(self):
        """(T, 2, 3) float64, source pixels to the canonical crop, exact; the identity without a transform.

        The systems round the resized picture and the corner of the crop to whole pixels before they measure, so their
        numbers live up to a pixel beside this crop.
        """
        if self.transform is None:
            return np.tile(np.eye(2, 3), (len(self), 1, 1))
        place, height = self.transform[:, 3:], self.frame_size[1]
        if self.is_turned_over:
            place = np.stack([place[:, 0], height - 1 - place[:, 1]], 1)
        return crop_affine(self.transform[:, 2], place, height)

    def vectors(self, kind):
        """(T, n) of a kind in `coeffs.VECTORS`; inverse of `from_vectors`."""
        have = self.split() | self.extra
        if self.transform is not None:
            have["crop"] = self.transform[:, 2:]
        if "source_frame" in have:
            have["source_frame"] = have["source_frame"][:, None]
        wanted = list(VECTORS[kind])
        given = set(self.parts) | set(have) - set(PARTS)
        lacking = [name for name in wanted if name not in given]
        if lacking:
            raise CoeffFileError(
                f"{kind} needs {', '.join(lacking)}, which a track read from {self.form} does not have"
            )
        return join_vector(kind, **{name: np.asarray(have[name], np.float32) for name in wanted})

    def resampled(self, fps):
        """The same clip at another rate, linear in time; frame 0 stays frame 0."""
        old = self.fps
        valid = resample(self.valid.astype(np.float64), old, fps) > 1 - 1e-6
        extra = {name: resample(value, old, fps) for name, value in self.extra.items()}
        if "source_frame" in extra:
            extra["source_frame"] = np.round(extra["source_frame"])
        named = ("transform", "landmarks68", "landmarks5")
        moved = {n: None if getattr(self, n) is None else resample(getattr(self, n), old, fps) for n in named}
        return replace(self, coeff=resample(self.coeff, old, fps), fps=fps, valid=valid, extra=extra, **moved)

    def face_track(self, face_model_hash=""):
        """As a FaceTrack of the Basel model; of its 478 landmarks only those of the 68 are known, the others are NaN.

        face_model_hash: of the user's own Basel model, where there is one; an empty one fits no model.
        """
        landmarks = np.full((len(self), N_LANDMARKS, 2), np.nan, np.float32)
        if self.landmarks68 is not None:
            landmarks[:, LANDMARKS_68] = self.landmarks68
        return FaceTrack(
            coeff=self.coeff,
            landmarks=landmarks,
            crop=self.crop.astype(np.float32),
            valid=self.valid,
            scores=np.zeros((len(self), 52), np.float32),
            fps=self.fps,
            frame_size=self.frame_size,
            face_model="bfm",
            face_model_hash=face_model_hash,
        )


def from_vectors(vectors, kind, form, fps, frame_size=(256, 256)):
    """(T, n) of a kind in `coeffs.VECTORS` -> CoeffTrack.

    frame_size: (width, height) of the frames that the crop of three numbers (scale, tx, ty) belongs to.
    """
    vectors = np.asarray(vectors, np.float32)
    check_finite(vectors, form)
    parts = split_vector(vectors, kind)
    crop = parts.pop("crop", None)
    extra = {name: parts.pop(name) for name in ("shift", "source_frame") if name in parts}
    if crop is not None:
        _check_crop(crop, frame_size, form)
        crop = np.concatenate([np.tile(np.float64(frame_size), (len(crop), 1)), crop], 1)
    if "source_frame" in extra:
        extra["source_frame"] = _whole_numbers(extra["source_frame"][:, 0], form)
    return CoeffTrack(BFM_LAYOUT.join(**parts), fps, form, tuple(parts), crop, extra=extra)


def check_lengths(track, what):
    """The track itself, if all its arrays are of as many frames as its coefficients."""
    arrays = (track.transform, track.landmarks68, track.landmarks5, *track.extra.values())
    n = {len(track)} | {len(value) for value in arrays if value is not None}
    if len(n) > 1:
        raise CoeffFileError(f"{what}: its arrays are of {' and '.join(map(str, sorted(n)))} frames")
    return track


def check_finite(values, what):
    """Refuse numbers (T, ...) that are NaN or infinite, naming the first frame that has one."""
    good = np.isfinite(values).reshape(len(values), -1).all(1)
    if not good.all():
        raise CoeffFileError(f"{what}: NaN or infinity in frame {int(np.argmin(good))}")


def _check_crop(crop, frame_size, form):
    """Refuse three numbers that cannot be scale and place of a face in a frame: they tell the two 73-number vectors apart."""
    scale, place, size = crop[:, 0], crop[:, 1:], np.asarray(frame_size)
    if not (np.isfinite(crop).all() and (scale > 0.02).all() and (scale < 20).all()):
        what = f"scales of {scale.min():.3g} to {scale.max():.3g}"
    elif not ((place > -size).all() and (place < 2 * size).all()):
        what = f"places up to {np.abs(place).max():.4g} px of a frame of {size[0]} x {size[1]}"
    else:
        return
    raise CoeffFileError(
        f"{form}: the last three numbers give {what}, so they are no (scale, tx, ty) of an alignment: name the form that "
        "the file has, or the size of its frames"
    )


def _whole_numbers(values, form):
    if not np.array_equal(values, np.round(values)) or (values < 0).any():
        raise CoeffFileError(
            f"{form}: the last number should be the index of a source frame, {values[0]:.6g} came: name the form the file has"
        )
    return values.astype(np.int64)


def upright(points, height, what):
    """Landmarks (T, 68, 2) with y down, turned over where they come with y up; refused where frames disagree."""
    is_down = points[:, EYES, 1].mean(1) < points[:, MOUTH, 1].mean(1)
    if is_down.mean() < 0.1:
        return np.stack([points[..., 0], height - 1 - points[..., 1]], -1)
    if is_down.mean() > 0.9:
        return points
    raise CoeffFileError(
        f"{what}: the eyes are above the mouth in {is_down.mean():.0%} of the frames only: not upright faces"
    )

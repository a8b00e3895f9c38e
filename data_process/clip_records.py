"""One clip -> its records: the pure function that `build_lmdb` runs in one process, in many, or on many machines."""

import platform
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
import torch

from data_process import schema
from data_process.cutting import load_landmarks
from data_process.face_tracks import landmarker, track_quality, video_frames, whole_track
from data_process.landmarks import NoFaceError
from data_process.schema import StoreError
from data_process.stored_tracks import stored_track
from data_process.video import VideoError, probe, read_frames
from deep_3drecon import camera
from deep_3drecon.fit import FitError
from deep_3drecon.landmarks import points5
from deep_3drecon.photometric_frames import PhotometricError
from deep_3drecon.track import FPS, TrackError
from deepspeech import AudioError, features, load_audio
from deepspeech.timing import SAMPLES_PER_FRAME

JPEG_QUALITY = 92
MIN_FRAMES = 3  # a style cannot be measured on fewer
# What a clip may have against it. Anything else is a fault of the program or of its installation, and stops the build.
CLIP_ERRORS = (
    VideoError, AudioError, NoFaceError, FitError, PhotometricError, StoreError, TrackError, OSError, torch.linalg.LinAlgError,
)  # fmt: skip


@dataclass(frozen=True)
class ClipSettings:
    """What is made of a clip. frames: side in px of the JPEG face crops, 0 for none.

    tracks: None for a fit to landmarks, "photometric" for one that the pixels have refined, which adds the light and takes several
    times as long, "stored" for the coefficients that came with the clip.
    """

    face_model: str = "open"
    frames: int = 0
    tracks: str | None = None

    def facts(self):
        """What `meta` keeps. What is left at None leaves no trace, so that stores begun before it could be chosen go on."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass
class ClipRecords:
    """Everything the store keeps of one clip; `skipped` says why there is nothing."""

    records: dict
    info: dict
    frames: list
    skipped: str = ""


def process_clip(path, settings=ClipSettings()):
    """One clip (path of its mp4) -> ClipRecords: bytes by record name, facts for `meta`, JPEGs. Writes nothing.

    Needs <name>.wav beside it; uses <name>.landmarks.npz if it is there and else finds the landmarks itself. Whatever is wrong
    with the clip's files is told in `skipped`; what would hinder every clip, such as a face model that is missing, is raised.
    """
    try:
        return _process(Path(path), settings)
    except CLIP_ERRORS as error:
        text = str(error)
        return ClipRecords({}, {}, [], text if str(path) in text else f"{path}: {text or type(error).__name__}")


def process_shared_clip(path, settings=ClipSettings()):
    """`process_clip` on another machine than the one that found the clip: there, a missing file is no fault of the clip."""
    if not Path(path).is_file():
        raise StoreError(
            f"{path}: not to be seen from {platform.node()}: every machine needs the clips under the same path: share the folder"
        )
    return process_clip(path, settings)


def _process(path, settings):
    video = path.read_bytes()
    landmarks = _landmarks(path)
    n_frames = len(landmarks)
    if n_frames < MIN_FRAMES:
        raise StoreError(f"{path}: {n_frames} frames, at least {MIN_FRAMES} are needed")
    if settings.tracks == "stored":
        track = stored_track(path, landmarks, settings.face_model)
    else:
        photometric = settings.tracks == "photometric"
        track = whole_track(landmarks, video_frames(path), settings.face_model, photometric)
    if not np.isfinite(track.coeff).all():
        raise StoreError(f"{path}: its landmarks give coefficients that are no numbers: cut the clip again")
    lm68 = track.landmarks68.astype(np.float32)
    sound = load_audio(path.with_suffix(".wav"))
    if len(sound) != n_frames * SAMPLES_PER_FRAME:
        raise StoreError(
            f"{path}: {n_frames} frames but {len(sound)} samples of sound, "
            f"{n_frames * SAMPLES_PER_FRAME} are needed: cut it with python -m data_process.clips"
        )
    arrays = {"lm5": points5(lm68), "lm68": lm68, "coeff": track.coeff, **features(sound)}
    records = {name: schema.pack_array(np.asarray(value, np.float32)) for name, value in arrays.items()}
    records |= {"video": video, "audio": path.with_suffix(".wav").read_bytes(), "track": schema.pack_track(track)}
    info = {"n_frames": n_frames, "frame_size": list(track.frame_size), **_rounded(track_quality(track))}
    return ClipRecords(records, info, list(_jpegs(path, track, settings.frames)) if settings.frames else [])


def _landmarks(path):
    """LandmarkTrack of a clip at 25 fps, read or found."""
    stored, about = path.with_suffix(".landmarks.npz"), probe(path)
    if abs(about.fps - FPS) > 0.01:
        raise StoreError(f"{path}: {about.fps:.4g} fps, {FPS} are needed: cut it with python -m data_process.clips")
    if stored.is_file():
        try:
            landmarks = load_landmarks(stored)
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise StoreError(f"{stored}: cannot be read ({error}): cut the clip again") from error
        if not all(np.isfinite(array).all() for array in (landmarks.points, landmarks.scores)):
            raise StoreError(f"{stored}: holds values that are no numbers: cut the clip again")
        if len(landmarks) != about.n_frames:
            raise StoreError(
                f"{path}: {about.n_frames} frames, {stored.name} is of {len(landmarks)}: cut the clip again"
            )
        return landmarks
    return landmarker().track(read_frames(path))


def _jpegs(path, track, size):
    """Face crops of every frame at size x size px, as JPEG bytes."""
    crops, n_frames = torch.from_numpy(track.crop).double(), 0
    # a crop smaller than its source is sampled finer first: bilinear sampling alone would skip pixels
    finer = max(1, int(np.ceil(camera.CROP_SIZE / size / float(crops[0, 0, 0]))))
    affines = camera.scale_crop(crops, size * finer).numpy()
    for frame, affine in zip(read_frames(path), affines, strict=False):
        image = cv2.warpAffine(frame, affine, (size * finer, size * finer), borderMode=cv2.BORDER_REPLICATE)
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) if finer > 1 else image
        yield simplejpeg.encode_jpeg(image, quality=JPEG_QUALITY, colorspace="RGB", colorsubsampling="420")
        n_frames += 1
    if n_frames != len(track):
        raise StoreError(
            f"{path}: {n_frames} frames can be read, its landmarks are of {len(track)}: cut the clip again"
        )


def _rounded(quality):
    """Figures for JSON, which knows no NaN."""
    return {name: round(value, 4) if np.isfinite(value) else None for name, value in quality.items()}

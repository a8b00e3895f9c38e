"""What comes in: portrait or person, style, reference of the head motion, sound."""

import sys
from pathlib import Path

import numpy as np

import deepspeech
from data_process.face_tracks import landmarker, refine_track, track_landmarks, track_video
from data_process.landmarks import NoFaceError
from data_process.video import VIDEO_SUFFIXES, read_frames, read_image
from deep_3drecon.atlas import build_atlas
from deep_3drecon.face_model import load_face_model
from deep_3drecon.track import FaceTrack
from models.person import Person
from models.style import Style, StyleError

SMALL_FACE_PX = 64  # between the eyes of a 224 px crop lie 64: a smaller face is shown enlarged
QUIET = 1e-4  # RMS below which a whole file counts as silence


def note(text):
    """Something the user should know that is no error."""
    print(f"note: {text}", file=sys.stderr)


def read_source(path):
    """Picture file, or first frame of a video -> (H, W, 3) uint8 RGB."""
    if Path(path).suffix.lower() in VIDEO_SUFFIXES:
        return next(iter(read_frames(path, partial=True)))
    return read_image(path)


def track_portrait(image, name):
    """FaceTrack of one frame for the largest face of a picture; says so where there are more, or where it is small."""
    try:
        found = landmarker().track([image])
    except NoFaceError as error:
        raise NoFaceError(
            f"{name}: no face found: a picture of a face that looks roughly this way is needed"
        ) from error
    if found.n_faces[0] > 1:
        note(f"{name}: {found.n_faces[0]} faces, the largest is taken: crop the picture to choose another")
    width = np.ptp(found.points[0, :, 0])
    if width < SMALL_FACE_PX:
        note(f"{name}: the face is {width:.0f} px wide; from {2 * SMALL_FACE_PX} px on the result is sharp")
    return track_landmarks(found)


def portrait_person(image, path, style):
    """`Person` of one picture: its track with light, its texture, and a style of somebody else's."""
    track = refine_track(track_portrait(image, path.name), [image])
    texture = build_atlas(track, [image], load_face_model(track.face_model))
    return Person(track, texture, style, path, reader=lambda *_, **__: iter([image.copy()]))


def load_track(path):
    """FaceTrack from .npz, or fitted to a video."""
    return FaceTrack.load(path) if Path(path).suffix == ".npz" else track_video(path)


def load_style(text, method, folder, person=None):
    """Style from a video, a track, a style file, a released name, 'mean', or 'own', the person's."""
    released = {p.stem: p for p in sorted((folder / "styles").glob("*.json"))}
    if text == "mean":
        return method.mean_style
    if text == "own" and person is not None:
        return person.style
    if text in released:
        return Style.load(released[text])
    path = Path(text)
    if not path.is_file():
        raise StyleError(f"{text}: no such file and no released style; released are {['mean', *released]}")
    if path.suffix == ".json":
        return Style.load(path)
    return method.measured_style(load_track(path), path.name)


def load_speech(path):
    """16 kHz sound (N,) and its number of frames T; says so where it is silent."""
    wav = deepspeech.load_audio(path)
    if np.sqrt(np.mean(wav**2)) < QUIET:
        note(f"{Path(path).name}: is silent, so the mouth stays still")
    return wav, deepspeech.n_motion_frames(len(wav))

"""What the stages work on, made from committed files alone: data/demo, the released checkpoint, the open head.

What takes time is made once and kept in the folder that all stages of a run share. Everything follows from the seed 0.
"""

import os

import numpy as np

import deepspeech
from data_process.face_tracks import landmarker, refine_track, track_landmarks, video_frames
from data_process.video import VideoWriter, read_frames, read_image
from deep_3drecon.assets import REPOSITORY
from deep_3drecon.atlas import build_atlas
from deep_3drecon.face_model import load_face_model
from deep_3drecon.track import FPS, FaceTrack
from models import RENDERERS, checkpoint, find
from models.person import Person
from models.style import Style

PORTRAIT = REPOSITORY / "data" / "demo" / "portrait.png"
SPEECH = REPOSITORY / "data" / "demo" / "speech.flac"
CHECKPOINT = REPOSITORY / "data" / "checkpoints" / "default"
STYLE = CHECKPOINT / "styles" / "lively.json"
FILM_FRAMES = 100  # 4 s


def kept(path, make):
    """`path`, written by make(path aside) if it is not there."""
    if not path.exists():
        aside = path.with_name("making_" + path.name)
        make(aside)
        os.replace(aside, path)
    return path


def portrait(folder):
    """The made-up portrait (512, 512, 3) uint8 and its FaceTrack of one frame."""
    image = read_image(PORTRAIT)
    path = kept(folder / "portrait.npz", lambda path: track_landmarks(landmarker().track([image])).save(path))
    return image, FaceTrack.load(path)


def motion(folder):
    """The released checkpoint's motion to the demo speech: {"exp" (T, 52), "angle" (T, 3), "trans" (T, 3)}, T = 238."""

    def make(path):
        rows = deepspeech.features(deepspeech.load_audio(SPEECH))
        np.savez(path, **checkpoint.load(CHECKPOINT).generate(rows, Style.load(STYLE)))

    with np.load(kept(folder / "motion.npz", make)) as npz:
        return dict(npz)


def film(folder):
    """mp4 of the portrait talking: FILM_FRAMES of 256 x 256 px with sound."""

    def make(path):
        renderer = find(RENDERERS, "mesh")()
        ready = renderer.prepare(*portrait(folder), size=256, full=False)
        part = {name: value[:FILM_FRAMES] for name, value in motion(folder).items()}
        with VideoWriter(path, fps=FPS, audio=str(SPEECH)) as video:
            for frame in renderer.render(ready, **part):
                video.write(frame)

    return kept(folder / "film.mp4", make)


def film_frames(folder):
    """The film's pictures, (100, 256, 256, 3) uint8."""
    return np.stack(list(read_frames(film(folder))))


def film_landmarks(folder):
    """LandmarkTrack of the film's first FILM_FRAMES as a dict: points, scores, valid, frame_size."""

    def make(path):
        found = landmarker().track(read_frames(film(folder)))
        size = np.array(found.frame_size)
        np.savez(path, points=found.points, scores=found.scores, valid=found.valid, frame_size=size)

    with np.load(kept(folder / "landmarks.npz", make)) as npz:
        return dict(npz)


def person(folder):
    """`Person` of the film, as scripts/personalize.sh makes one."""

    def make(path):
        read = video_frames(film(folder))
        track = refine_track(track_landmarks(landmarker().track(read())), read)
        texture = build_atlas(track, read, load_face_model(track.face_model), size=256, n_frames=8)
        Person(track, texture, Style.load(STYLE), film(folder)).save(path)

    return Person.load(kept(folder / "person", make), read_frames)

"""A person on disk: everything that a renderer and a method need to make this person speak, learnt from one clip.

    data/people/NAME/
        person.json      what the folder was made from, and how: `Person.about`
        clip.mp4         the clip, 25 fps, its sound inside
        track.npz        FaceTrack of the clip, refined by the pixels, with the light of every frame
        atlas.npz        PersonTexture: the face without light, and the inside of the mouth
        style.json       Style of the clip
        behaviour.json   how the head moves (`models.behaviour`), where it was measured
        renderer/        best.safetensors and best.json of the trained renderer, where one was trained

`scripts/personalize.sh` writes it, `inference.py --person` reads it.
"""

import itertools
import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from deep_3drecon.assets import hash_file
from deep_3drecon.atlas import PersonTexture, TextureError
from deep_3drecon.face_model import load_face_model
from deep_3drecon.track import FPS, FaceTrack, TrackError
from models import json_files
from models.style import Style, StyleError

FORMAT = "idiolect-person-1"
BLOCK = 16  # frames of the clip read at a time
CACHE_BYTES = 128 * 2**20  # of decoded frames that are kept


class PersonError(ValueError):
    """A person folder that is missing, incomplete, damaged or made for another face model."""


@dataclass
class Person:
    """One person. What belongs to frames of the clip is counted from its first frame, at 25 fps.

    track      FaceTrack of the clip, with light
    texture    PersonTexture
    style      Style of the clip
    behaviour  `models.behaviour.Behaviour`, or None
    clip       path of the clip
    learning   (first, end): the frames that were learnt from; what lies outside was held out
    about      more for person.json: source, sha256 of the clip, settings, versions
    reader     (path, start=seconds, max_frames=n) -> frames (H, W, 3) uint8 RGB, such as data_process.video.read_frames
    """

    track: FaceTrack
    texture: PersonTexture
    style: Style
    clip: Path
    behaviour: object = None
    learning: tuple | None = None
    about: dict = field(default_factory=dict)
    reader: Callable | None = None
    folder: Path | None = None

    def __post_init__(self):
        self.clip = Path(self.clip)
        self.learning = tuple(self.learning or (0, len(self.track)))
        self._blocks, self._lock = OrderedDict(), threading.Lock()

    def __len__(self):
        return len(self.track)

    @property
    def name(self):
        """Name of the person: that of the folder, else of the clip."""
        return self.folder.name if self.folder else self.clip.stem

    @property
    def model(self):
        """FaceModel of the track."""
        return load_face_model(self.track.face_model)

    @property
    def renderer(self):
        """Folder of the trained renderer, or None."""
        folder = self.folder / "renderer" if self.folder else None
        return folder if folder and (folder / "best.json").is_file() else None

    def frames(self, indices=None):
        """Yield frames (H, W, 3) uint8 RGB of the clip, in the order asked for; None: all of them.

        Any order is allowed, and any number of threads; runs forwards and backwards are read once, in blocks. Frames are
        shared: copy before changing.
        """
        for index in range(len(self)) if indices is None else indices:
            index = int(index)
            if not 0 <= index < len(self):
                raise PersonError(f"frame {index} of {self.name} was asked for, the clip has {len(self)}")
            with self._lock:
                block = self._block(index // BLOCK)
            yield block[index % BLOCK]

    def _block(self, number):
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        if self.reader is None:
            raise PersonError(f"{self.name}: no reader of videos: load it with Person.load(folder, reader=read_frames)")
        count = min(BLOCK, len(self) - number * BLOCK)
        frames = list(itertools.islice(self.reader(self.clip, start=number * BLOCK / FPS, max_frames=count), count))
        if len(frames) < count or frames[0].shape[1::-1] != tuple(self.track.frame_size):
            raise PersonError(
                f"{self.clip}: does not have the frames of the track ({len(self)} of {self.track.frame_size}): "
                "make the folder again with scripts/personalize.sh"
            )
        for frame in frames:
            frame.flags.writeable = False
        self._blocks[number] = frames
        kept = max(2, CACHE_BYTES // max(sum(frame.nbytes for frame in frames), 1))
        while len(self._blocks) > kept:
            self._blocks.popitem(last=False)
        return frames

    def save(self, folder):
        """Write the folder; person.json last, so that where it stands the folder is whole. The clip is copied there."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if self.clip.resolve() != (folder / "clip.mp4").resolve():
            aside = folder / "clip.mp4.part"
            shutil.copyfile(self.clip, aside)
            os.replace(aside, folder / "clip.mp4")
        self.track.save(folder / "track.npz")
        self.texture.save(folder / "atlas.npz")
        self.style.save(folder / "style.json")
        if self.behaviour is not None:
            self.behaviour.save(folder / "behaviour.json")
        self.clip, self.folder = folder / "clip.mp4", folder
        content = self.about | {
            "clip_sha256": hash_file(self.clip),
            "face_model": self.track.face_model,
            "face_model_hash": self.track.face_model_hash,
            "frame_size": list(self.track.frame_size),
            "n_frames": len(self),
            "fps": FPS,
            "learning": list(self.learning),
        }
        json_files.write(folder / "person.json", FORMAT, content)
        self.about = content

    @classmethod
    def load(cls, folder, reader=None):
        """Read what `save` wrote. reader: needed for `frames`. Refuses another face model's numbers."""
        folder = Path(folder)
        about = read_about(folder)
        try:
            track = FaceTrack.load(folder / "track.npz")
            texture, style = PersonTexture.load(folder / "atlas.npz"), Style.load(folder / "style.json")
        except (TrackError, TextureError, StyleError) as error:
            raise PersonError(f"{folder}: damaged person folder: {error}") from error
        if not (folder / "clip.mp4").is_file():
            raise PersonError(f"{folder}: clip.mp4 is missing: make the folder again with scripts/personalize.sh")
        model = load_face_model(track.face_model)
        if model.hash != track.face_model_hash:
            raise PersonError(
                f"{folder}: was made with face model {track.face_model} {track.face_model_hash[:12]}, here it is "
                f"{model.hash[:12]}: make it again with scripts/personalize.sh"
            )
        person = cls(track, texture, style, folder / "clip.mp4", read_behaviour(folder / "behaviour.json"))
        person.learning, person.about, person.reader = tuple(about["learning"]), about, reader
        person.folder = folder
        return person


def read_about(folder):
    """person.json of a folder as a dict."""
    path = Path(folder, "person.json")
    remedy = "make the person with scripts/personalize.sh CLIP"
    about = json_files.read(path, FORMAT, PersonError, "person", remedy)
    if "learning" not in about:
        raise PersonError(f"{path}: damaged, says nothing of the frames that were learnt from: {remedy}")
    return about


def read_behaviour(path):
    """`models.behaviour.Behaviour` of a file; None where there is none."""
    if not path.is_file():
        return None
    from models.behaviour import Behaviour

    return Behaviour.load(path)

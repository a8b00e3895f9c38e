"""A person folder of a film of noise: 80 frames of 64 x 48 px, a track that turns, a texture with a mouth."""

import numpy as np

from data_process.video import VideoWriter, read_frames
from deep_3drecon.atlas import PersonTexture
from deep_3drecon.face_model import load_face_model
from deep_3drecon.mouth_atlas import Layer, Mouth
from deep_3drecon.track import FaceTrack
from models.person import Person
from models.style import Style

N_FRAMES, SIZE = 80, (64, 48)  # 3.2 s: long enough that readers seek


def made_track(n=N_FRAMES, size=SIZE, seed=0):
    """FaceTrack of a head that turns and speaks."""
    model, rng = load_face_model("open"), np.random.default_rng(seed)
    coeff = np.zeros((n, model.layout.size), np.float32)
    parts = model.layout.split(coeff)
    parts["exp"][:] = rng.uniform(0, 0.5, (n, 52))
    parts["angle"][:] = 0.1 * np.sin(np.arange(n)[:, None] / 5 + np.arange(3))
    parts["trans"][:] = 0.05 * np.cos(np.arange(n)[:, None] / 7 + np.arange(3))
    scale = 224 / max(size)
    crop = np.tile(np.float32([[scale, 0, 0], [0, scale, 0]]), (n, 1, 1))
    points = rng.uniform(0, 40, (n, 478, 2)).astype(np.float32)
    return FaceTrack(
        coeff, points, crop, np.ones(n, bool), parts["exp"].copy(), 25.0, size, model.name, model.hash
    )  # fmt: skip


def made_texture(size=16, seed=1):
    rng = np.random.default_rng(seed)
    layers = {name: Layer(*noise(rng, 4), (0.1, -0.2)) for name in ("upper", "lower")}
    return PersonTexture(*noise(rng, size), Mouth(layers, 3))


def noise(rng, size):
    return rng.uniform(0, 255, (size, size, 3)).astype(np.float32), rng.random((size, size)).astype(np.float32)


def made_person(folder):
    """Person saved to `folder`, ready to read frames."""
    clip = folder.parent / f"{folder.name}_film.mp4"
    rng = np.random.default_rng(2)
    with VideoWriter(clip, crf=10, threads=1) as video:
        for t in range(N_FRAMES):
            frame = np.full((SIZE[1], SIZE[0], 3), 3 * t, np.uint8)  # the brightness tells the frame
            frame[:8, :8] = rng.integers(0, 255, (8, 8, 3))
            video.write(frame)
    track = made_track()
    person = Person(track, made_texture(), Style.from_statistics(track, "film"), clip, learning=(0, 32))
    person.about = {"source": "film.mp4", "settings": {"seconds": 2}}
    person.reader = read_frames
    person.save(folder)
    return person


def made_motion(n):
    """{"exp", "angle", "trans"} of n frames about the head's rest."""
    parts = made_track(n, seed=5).parts()
    return {name: 0.5 * np.asarray(parts[name]) for name in ("exp", "angle", "trans")}

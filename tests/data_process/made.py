"""Made footage and made stores for the tests of the data chain: a rendered open head that talks, and records without any video."""

import numpy as np
import torch

from data_process import schema
from data_process.store import StoreWriter
from data_process.video import VideoWriter
from deep_3drecon import camera
from deep_3drecon.coeffs import OPEN_LAYOUT
from deep_3drecon.face_model import load_face_model
from deep_3drecon.rasterizer import interpolate, rasterize
from deep_3drecon.track import FaceTrack
from deepspeech import SAMPLE_RATE

SKIN, LIPS, EYE, IRIS = (205, 165, 140), (170, 80, 80), (240, 240, 240), (30, 25, 20)


def head_frames(n_frames, size=(240, 200), face_px=100, centre=None, background=(60, 90, 110), yaw=0.0):
    """Yield (H, W, 3) uint8 frames of the mean open head opening its jaw twice a second.

    size (W, H); face_px: width of the head; centre (x, y) of the face in pixels, the middle by default.
    """
    model = load_face_model("open")
    colours = _colours(model)
    width, height = size
    x, y = centre or (width / 2, height / 2)
    scale = face_px / 150  # the head is about 150 px wide in the canonical crop
    crop = torch.tensor([[1 / scale, 0, 112 - x / scale], [0, 1 / scale, 112 - y / scale]], dtype=torch.float64)
    light = torch.nn.functional.normalize(torch.tensor([0.3, 0.4, 0.85]), dim=0)
    for t in range(n_frames):
        exp = torch.zeros(52)
        exp[model.index("jawOpen")] = 0.35 * (1 - np.cos(2 * np.pi * 2 * t / 25)) / 2
        angle = torch.tensor([0.05 * np.sin(t / 9), yaw + 0.08 * np.sin(t / 13), 0.0], dtype=torch.float32)
        posed = camera.pose(model.vertices(torch.zeros(80), exp), angle, torch.zeros(3))
        shaded = colours * (0.45 + 0.55 * (model.normals(posed) @ light).clamp(min=0))[:, None]
        clip = _in_frame(posed.double(), crop, size)
        rast = rasterize(clip, model.triangles, (height, width))
        image = interpolate(shaded[None], rast, model.triangles)[0].flip(0).numpy()
        covered = rast[0, ..., 3:].flip(0).numpy() > 0
        yield np.where(covered, image, np.float32(background)).clip(0, 255).astype(np.uint8)


def _in_frame(posed, crop, size):
    pixels = camera.apply_affine(camera.project(posed), camera.invert_affine(crop))
    clip = camera.clip_positions(posed)
    half = torch.tensor(size, dtype=torch.float64) / 2
    ndc = (pixels + 0.5 - half) / half * torch.tensor([1.0, -1.0], dtype=torch.float64)
    return torch.cat([ndc * clip[:, 3:], clip[:, 2:]], -1).float()[None]


def _colours(model):
    colours = np.tile(np.float32(SKIN), (model.n_vertices, 1))
    colours[model.regions["lips"]] = LIPS
    for side in ("eyeball_left", "eyeball_right"):
        ids = model.regions[side]
        eye = model.mean[ids].numpy()
        off_axis = np.linalg.norm((eye - eye.mean(0))[:, :2], axis=1)
        front = eye[:, 2] > eye[:, 2].mean()
        colours[ids] = np.where((front & (off_axis < 0.06))[:, None], IRIS, EYE)
    return torch.from_numpy(colours)


def tone(seconds, rate=SAMPLE_RATE, hz=220.0):
    """(N,) float32 sound whose loudness swings twice a second."""
    t = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * hz * t) * (1 - np.cos(4 * np.pi * t)) / 2).astype(np.float32)


def write_video(path, frames, fps=25, seconds_of_sound=None):
    """Write frames with a tone (none if seconds_of_sound is None)."""
    sound = None if seconds_of_sound is None else tone(seconds_of_sound)
    with VideoWriter(path, fps=fps, audio=sound, sample_rate=None if sound is None else SAMPLE_RATE) as video:
        for frame in frames:
            video.write(frame)
    return path


def track(n_frames, seed=0, invalid=()):
    """A FaceTrack of random smooth numbers."""
    rng = np.random.default_rng(seed)
    time = np.arange(n_frames)[:, None] / 25
    wave = np.sin(time * rng.uniform(2, 9, OPEN_LAYOUT.size) + rng.uniform(0, 6, OPEN_LAYOUT.size))
    parts = OPEN_LAYOUT.split(wave.astype(np.float32) * 0.1)
    parts["id"] = np.repeat(parts["id"][:1], n_frames, 0)
    valid = np.ones(n_frames, bool)
    valid[list(invalid)] = False
    return FaceTrack(
        coeff=OPEN_LAYOUT.join(**parts),
        landmarks=rng.normal(100, 20, (n_frames, 478, 2)).astype(np.float32),
        crop=np.tile(np.float32([[1, 0, 0], [0, 1, 0]]), (n_frames, 1, 1)),
        valid=valid,
        scores=rng.random((n_frames, 52)).astype(np.float32),
        fps=25.0,
        frame_size=(224, 224),
        face_model="open",
        face_model_hash="made",
    )


def records(n_frames, seed=0, invalid=()):
    """Records of one clip without video; feature row k of every column k + column / 100, so that places can be read off."""
    rows = np.arange(2 * n_frames, dtype=np.float32)[:, None]
    made = track(n_frames, seed, invalid)
    arrays = {
        "phonemes": rows + np.arange(40, dtype=np.float32) / 100,
        "mel": 1000 + rows + np.arange(40, dtype=np.float32) / 100,
        "energy": 2000 + rows,
        "coeff": made.coeff,
        "lm68": made.landmarks68,
        "lm5": made.landmarks68[:, :5],
    }
    packed = {name: schema.pack_array(value.astype(np.float32)) for name, value in arrays.items()}
    return packed | {"track": schema.pack_track(made), "video": b"mp4 of %d" % seed, "audio": b"wav of %d" % seed}


def store(path, clips):
    """Write a store. clips: [(name, split, speaker, n_frames, invalid frames), ...] -> path."""
    with StoreWriter(path, {"made": True}) as writer:
        for seed, (name, split, speaker, n_frames, invalid) in enumerate(clips):
            info = {"n_frames": n_frames, "speaker": speaker}
            writer.add(name, "key", split, records(n_frames, seed, invalid), info)
        extra = {
            "face_model": "open",
            "face_model_hash": "made",
            "layout": OPEN_LAYOUT.sizes,
            "speakers": sorted({clip[2] for clip in clips}),
        }
        writer.finish(extra, {})
    return path

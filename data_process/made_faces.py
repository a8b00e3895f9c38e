"""Pictures of many made-up faces with their truth, to train `deep_3drecon.open_regressor` on: people, expressions, poses, lights.

Wider than what films of the made-up corpus show: heads that no identity coefficients can make, expressions beyond speech, heads
turned to the side, hard and dim light.
"""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from data_process.made_emotions import draw_emotion, feel
from data_process.made_speakers import ID_MODES, draw_speaker
from data_process.made_speech import Phone
from data_process.upper_face import upper_face_motion
from data_process.visemes import GLIDES, VISEMES, mouth_motion
from deep_3drecon import camera
from deep_3drecon.face_model import load_face_model
from deep_3drecon.landmarks import points68
from deep_3drecon.made_film import Actor, film_texels
from deep_3drecon.made_portrait import portrait_affine
from deep_3drecon.made_skin import made_look
from deep_3drecon.made_stage import draw_stage

SIZE, FRAMED_PX = 144, 288.0  # px of a picture, and of the canonical crop that it shows
HAIR_DETAIL = 256  # px of the atlas that strands of an `Actor` of SIZE are drawn in
SPEECH_FRAMES = 150
PIVOT_DM = (0.0, -0.5, -0.5)  # about here a head turns, between its middle and its neck
POINT_NOISE_DM = 0.01  # with which bumps are told as identity coefficients
SINGLE = ("jawOpen", "mouthPucker", "mouthFunnel", "mouthRollUpper", "mouthRollLower", "mouthShrugUpper", "mouthShrugLower",
          "jawForward", "jawLeft", "jawRight", "mouthLeft", "mouthRight", "browInnerUp", "cheekPuff")  # fmt: skip
PAIRED = ("mouthSmile", "mouthFrown", "mouthUpperUp", "mouthLowerDown", "mouthStretch", "mouthPress", "mouthDimple",
          "noseSneer", "cheekSquint", "browDown", "browOuterUp", "eyeSquint", "eyeWide", "eyeBlink")  # fmt: skip


@dataclass
class Faces:
    """N pictures of one person: pictures (N, SIZE, SIZE) uint8 grey, regions (N, SIZE, SIZE) uint8 of `made_film.REGIONS`,
    id (N, 80), exp (N, 52), angle (N, 3) radians, trans (N, 3) dm in the canonical crop, affine (N, 2, 3) from it to the
    picture, landmarks (N, 68, 2) in the picture."""

    pictures: np.ndarray
    regions: np.ndarray
    id: np.ndarray
    exp: np.ndarray
    angle: np.ndarray
    trans: np.ndarray
    affine: np.ndarray
    landmarks: np.ndarray

    def __len__(self):
        return len(self.pictures)

    def save(self, path):
        """One npz, written aside first."""
        path = Path(path)
        with open(path.with_suffix(".part"), "wb") as file:
            np.savez(file, **vars(self))
        path.with_suffix(".part").replace(path)

    @classmethod
    def load(cls, path):
        with np.load(path, allow_pickle=False) as npz:
            return cls(**{f.name: npz[f.name] for f in fields(cls)})


def make_faces(number, seed=0, most_yaw=65.0, n_frames=60, n_stages=2):
    """Person `number`: `Faces`, the same for the same number, seed and greatest yaw in degrees."""
    rng = np.random.default_rng((seed, 21, number))
    face = load_face_model("open")
    identity = (rng.uniform(0.4, 0.9) * rng.normal(size=ID_MODES)).astype(np.float32)
    bumpy, more = add_bumps(face, rng)
    look = made_look(int(rng.integers(2**31)))
    film_texels(face, HAIR_DETAIL)  # kept by the model's hash: strands grow on the plain head, whoever comes first
    actor = Actor(bumpy, identity, look, SIZE, dim(draw_stage(rng, SIZE), rng))
    exp = draw_expressions(n_frames, identity, face, rng)
    angle, trans = draw_poses(n_frames, rng, most_yaw)
    with torch.no_grad():
        points = points68(face.landmarks(bumpy.vertices(torch.from_numpy(identity), torch.from_numpy(exp))))
        seen = camera.project(camera.pose(points, torch.from_numpy(angle), torch.from_numpy(trans)))
    pictures, regions, affines = [], [], []
    for part in np.array_split(np.arange(n_frames), n_stages):
        if len(affines):
            actor = actor.on(dim(draw_stage(rng, SIZE), rng))
        mix = rng.dirichlet((6, 12, 4)).astype(np.float32)  # which colours a grey camera sees
        for picture, mask in actor.film(exp[part], angle[part], trans[part]):
            pictures.append((picture @ mix).round().clip(0, 255).astype(np.uint8))
            regions.append(mask)
            affines.append(actor.stage.affine)
    affines = np.stack(affines).astype(np.float32)
    return Faces(
        pictures=np.stack(pictures),
        regions=np.stack(regions),
        id=np.tile(identity + more, (n_frames, 1)),
        exp=exp,
        angle=angle,
        trans=trans,
        affine=affines,
        landmarks=camera.apply_affine(seen, torch.from_numpy(affines)).numpy().astype(np.float32),
    )


def add_bumps(face, rng, n_bumps=8):
    """A head with soft bumps and hollows, mostly the same on both sides, and the identity (80,) that comes nearest to them."""
    points = face.mean.numpy()
    anchors = points[rng.choice(face.regions["face"], n_bumps)]
    shift = np.zeros_like(points)
    for anchor in anchors:
        push, width = rng.normal(0, 0.02, 3), rng.uniform(0.2, 0.6)
        other = rng.uniform(0.7, 1.0)
        for side, share in ((1, 1.0), (-1, other)):
            away = ((points - anchor * [side, 1, 1]) ** 2).sum(1) / width**2
            shift += share * np.exp(-away)[:, None] * (push * [side, 1, 1])
    shift = torch.from_numpy(shift.astype(np.float32))
    basis = face.landmarks(face.id_basis.movedim(-1, 0)).flatten(1).double() / POINT_NOISE_DM
    target = face.landmarks(shift).flatten().double() / POINT_NOISE_DM
    # landmarks of one head are not independent: as in the fit, all of them count as 60
    trust = 60 / len(face.landmark_ids)
    system = trust * basis @ basis.T + torch.eye(len(basis)).double()
    more = torch.linalg.solve(system, trust * basis @ target)
    return replace(face, mean=face.mean + shift), more.float().numpy()


def dim(stage, rng):
    """A stage that frames the head as `Faces` want it, in light that is often harder, dimmer or from below."""
    light = harden(stage.light, rng) if rng.random() < 0.6 else stage.light
    affine = portrait_affine(SIZE, FRAMED_PX, (112.0, 117.0)).numpy()
    return replace(stage, light=light, affine=affine)


def harden(light, rng):
    """A `Light` whose lamp stands anywhere before the head; lamp and room brighter or dimmer."""
    strength, room = np.exp(rng.uniform(-1.6, 0.5)), np.exp(rng.uniform(-1.5, 0.4))
    lamp = (float(rng.uniform(-1, 1)), float(rng.uniform(-0.3, 1)), float(rng.uniform(0.1, 1)))
    return replace(
        light,
        lamp=lamp,
        lamp_colour=tuple(strength * c for c in light.lamp_colour),
        sky=tuple(room * c for c in light.sky),
        ground=tuple(room * c for c in light.ground),
    )


def draw_poses(n, rng, most_yaw=65.0):
    """Angle (n, 3) radians, translation (n, 3) dm, float32: half of them nearly from the front, half anywhere up to `most_yaw`
    degrees of yaw and some 35 of pitch."""
    wide = rng.random(n) < 0.5
    yaw = np.where(wide, rng.uniform(-most_yaw, most_yaw, n), rng.normal(0, 18, n))
    pitch = np.where(wide, rng.uniform(-32, 32, n), rng.normal(0, 9, n))
    pitch = pitch * np.sqrt(1 - 0.6 * (yaw / (most_yaw + 5)).clip(-1, 1) ** 2)
    roll = rng.normal(0, 9, n)
    limit = np.array([36, most_yaw + 3, 32])
    angle = torch.from_numpy(np.deg2rad(np.stack([pitch, yaw, roll], 1).clip(-limit, limit)))
    pivot = torch.tensor(PIVOT_DM).double()
    trans = pivot - camera.rotation_matrix(angle) @ pivot + torch.from_numpy(rng.normal(0, 0.05, (n, 3)))
    return angle.float().numpy(), trans.float().numpy()


def draw_expressions(n, identity, face, rng):
    """(n, 52) float32: half of it from speech with an emotion, half from whatever a face can do."""
    n_speech = n // 2
    speech = speech_motion(SPEECH_FRAMES, identity, face, rng)
    speech = speech[rng.choice(SPEECH_FRAMES, n_speech, replace=n_speech > SPEECH_FRAMES)]
    free = np.stack([free_expression(face, rng) for _ in range(n - n_speech)])
    return np.concatenate([speech, free])[rng.permutation(n)].astype(np.float32)


def speech_motion(n_frames, identity, face, rng):
    """Mouth, eyes and brows (n_frames, 52) of a random speaker who says random phones."""
    speaker = feel(draw_speaker(int(rng.integers(2**31))), *draw_emotion(rng))
    phones, symbols, time = [], [*VISEMES, *GLIDES], 0.0
    while time < n_frames / 25:
        symbol = "" if rng.random() < 0.12 else symbols[rng.integers(len(symbols))]
        length = rng.uniform(0.15, 0.6) if symbol == "" else rng.uniform(0.05, 0.17)
        phones.append(Phone(symbol, time, time + length, int(rng.integers(3))))
        time += length
    mouth = mouth_motion(phones, n_frames, face, identity, speaker.mouth)
    return (mouth + upper_face_motion(phones, n_frames, face, speaker.upper, rng)).clip(0, 1)


def free_expression(face, rng):
    """One expression (52,): a few gestures at once, each side for itself to some degree, a gaze, sometimes closed eyes."""
    exp = np.abs(rng.normal(0, 0.03, len(face.expression_names)))
    exp[face.index("tongueOut")] = 0

    def put(stem, value):
        if stem in face.expression_names:
            exp[face.index(stem)] += value
        else:
            tilt = np.clip(rng.normal(0, 0.25), -1, 1)
            exp[face.index(stem + "Left")] += value * min(1, 1 + tilt)
            exp[face.index(stem + "Right")] += value * min(1, 1 - tilt)

    names = (*SINGLE, *PAIRED)
    for stem in rng.choice(names, rng.integers(1, 6), replace=False):
        put(stem, 0.8 * rng.beta(1.2, 2))
    if rng.random() < 0.5:
        put("jawOpen", 0.7 * rng.beta(1.2, 2.5))
    if rng.random() < 0.3:
        put("mouthClose", rng.uniform(0, 1) * exp[face.index("jawOpen")])
    if rng.random() < 0.25:
        put("eyeBlink", rng.uniform(0.3, 0.8))
    across, up = rng.normal(0, 0.25, 2)
    for side, opposite in (("Left", 1), ("Right", -1)):
        exp[face.index(f"eyeLookOut{side}")] += max(opposite * across, 0)
        exp[face.index(f"eyeLookIn{side}")] += max(-opposite * across, 0)
        exp[face.index(f"eyeLookUp{side}")] += max(up, 0)
        exp[face.index(f"eyeLookDown{side}")] += max(-up, 0)
    return exp.clip(0, 1)
